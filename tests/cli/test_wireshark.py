"""`wireshark`: where the dissector is, and how it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import run

from microrpc.cli import wireshark as command
from microrpc.cli.common import ExitCode
from microrpc.cli.wireshark import DISSECTOR

FOLDERS = """\
Personal configuration:\t{home}/.config/wireshark
Personal Plugins:    \t{home}/.local/lib/wireshark/plugins/4.0
Personal Lua Plugins:\t{home}/elsewhere/plugins
Global Lua Plugins:  \t{home}/global/plugins
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user is at home that has no program of Wireshark's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path


def put_tshark(home: Path, script: str) -> None:
    program = home / "bin" / "tshark"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)


def tell_folders(home: Path) -> None:
    (home / "folders").write_text(FOLDERS.format(home=home), encoding="utf-8")
    put_tshark(home, f"""while read -r line; do echo "$line"; done < {home}/folders""")


def test_the_dissector_is_installed_where_wireshark_looks(home: Path) -> None:
    folder = home / ".local/lib/wireshark/plugins"
    assert run("wireshark").out == (
        f"the dissector: {DISSECTOR}\nnot installed; `microrpc wireshark --install` puts it into {folder}\n"
        "neither wireshark nor tshark is found here\n"
    )
    ran = run("wireshark", "--install")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"installed into {folder}\nneither wireshark nor tshark is found here")
    assert (folder / "microrpc.lua").read_bytes() == DISSECTOR.read_bytes()
    assert f"installed in {folder}\n" in run("wireshark").out


def test_installing_again_changes_nothing_and_another_version_is_replaced(home: Path) -> None:
    folder = home / ".local/lib/wireshark/plugins"
    run("wireshark", "--install")
    assert "has it already" in run("wireshark", "--install").out
    (folder / "microrpc.lua").write_text("old", encoding="utf-8")
    assert f"{folder} has another version; `microrpc wireshark --install` replaces it\n" in run("wireshark").out
    assert "in place of another version" in run("wireshark", "--install").out
    assert (folder / "microrpc.lua").read_bytes() == DISSECTOR.read_bytes()


def test_what_was_installed_can_be_taken_away(home: Path) -> None:
    folder = home / ".local/lib/wireshark/plugins"
    run("wireshark", "--install")
    assert run("wireshark", "--uninstall").out == f"removed from {folder}\n"
    assert not (folder / "microrpc.lua").exists()
    assert run("wireshark", "--uninstall").out == f"{folder} has none\n"
    both = run("wireshark", "--install", "--uninstall")
    assert both.code == 2
    assert "give one" in both.err


def test_the_folder_is_the_one_that_tshark_tells(home: Path) -> None:
    tell_folders(home)
    ran = run("wireshark", "--install")
    assert ran.out == (
        f"installed into {home}/elsewhere/plugins\ntry: microrpc info sim:// --capture x.pcapng && tshark -r x.pcapng\n"
    )
    assert (home / "elsewhere/plugins/microrpc.lua").exists()
    assert run("wireshark").out.endswith("found here: tshark\n")


def test_where_both_programs_are_the_one_with_a_window_is_suggested(home: Path) -> None:
    tell_folders(home)
    (home / "bin" / "wireshark").symlink_to("tshark")
    assert run("wireshark", "--install").out.endswith(
        "\ntry: microrpc info sim:// --capture x.pcapng && wireshark x.pcapng\n"
    )


@pytest.mark.parametrize("script", ["exit 1", "echo no folders", "printf '\\377: \\377\\n'"])
def test_a_tshark_that_tells_no_folder_is_not_needed(home: Path, script: str) -> None:
    put_tshark(home, script)
    assert run("wireshark", "--install").out.startswith(f"installed into {home}/.local/lib/wireshark/plugins\n")


@pytest.mark.parametrize("place", ["global/plugins", ".config/wireshark/plugins"])
def test_a_second_copy_is_told_of(home: Path, place: str) -> None:
    tell_folders(home)
    (home / place).mkdir(parents=True)
    (home / place / "microrpc.lua").write_text("another", encoding="utf-8")
    assert run("wireshark", "--install").err == (
        f"warning: {home / place}/microrpc.lua is loaded too, and two copies are an error of Wireshark's: remove one\n"
    )


def test_the_folder_of_windows_is_where_its_programs_keep_such(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.delenv("APPDATA", raising=False)
    assert command.plugins_folder() == home / "AppData/Roaming/Wireshark/plugins"
    monkeypatch.setenv("APPDATA", str(home / "data"))
    assert command.plugins_folder() == home / "data/Wireshark/plugins"


def test_a_folder_that_cannot_be_made_is_told(home: Path) -> None:
    (home / ".local").write_text("a file", encoding="utf-8")
    ran = run("wireshark", "--install")
    assert ran.code == ExitCode.OUTPUT
    assert "cannot make" in ran.err
