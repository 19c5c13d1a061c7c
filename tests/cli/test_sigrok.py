"""`sigrok`, and how what other programs load is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import run
from sigrok_decoder import FOLDER

from microrpc.cli import sigrok as command
from microrpc.cli.installing import install, is_installed

SOURCE = FOLDER / "microrpc"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the decoder is to go."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "libsigrokdecode" / "decoders" / "microrpc"


def test_the_decoder_is_installed_where_sigrok_looks(folder: Path) -> None:
    ran = run("sigrok", "--install")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"installed into {folder}\ntry: sigrok-cli -P microrpc --show\n"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in SOURCE.glob("*.py")
    }


def test_installing_again_changes_nothing_and_another_version_is_replaced(folder: Path) -> None:
    assert run("sigrok").out == (
        f"the decoder: {SOURCE}\nnot installed; `microrpc sigrok --install` puts it into {folder}\n"
    )
    run("sigrok", "--install")
    assert "has it already" in run("sigrok", "--install").out
    assert run("sigrok").out.endswith(f"installed in {folder}\n")
    (folder / "pd.py").write_text("old", encoding="utf-8")
    assert run("sigrok").out.endswith(f"{folder} has another version; `microrpc sigrok --install` replaces it\n")
    assert "in place of another version" in run("sigrok", "--install").out
    assert (folder / "pd.py").read_bytes() == (SOURCE / "pd.py").read_bytes()


def test_what_was_installed_can_be_taken_away(folder: Path) -> None:
    run("sigrok", "--install")
    (folder / "__pycache__").mkdir()  # of sigrok's own Python
    (folder / "__pycache__" / "pd.cpython-311.pyc").write_bytes(b"")
    assert run("sigrok", "--uninstall").out == f"removed from {folder}\n"
    assert not folder.exists()
    assert run("sigrok", "--uninstall").out == f"{folder} has none\n"
    both = run("sigrok", "--install", "--uninstall")
    assert both.code == 2
    assert "give one" in both.err


def test_what_somebody_else_put_there_stays(folder: Path) -> None:
    run("sigrok", "--install")
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    run("sigrok", "--uninstall")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_the_folder_is_that_of_glib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for empty in ("", None):
        monkeypatch.delenv("XDG_DATA_HOME", raising=False)
        if empty is not None:
            monkeypatch.setenv("XDG_DATA_HOME", empty)
        assert command.decoders_folder() == tmp_path / ".local/share/libsigrokdecode/decoders"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "AppData"))
    assert command.decoders_folder() == tmp_path / "AppData/libsigrokdecode/decoders"


def test_a_folder_that_cannot_be_made_is_told(folder: Path) -> None:
    folder.parents[2].write_text("a file", encoding="utf-8")
    ran = run("sigrok", "--install")
    assert ran.code == 6
    assert ran.err.startswith(f"error: cannot make {folder}: ")


def test_a_single_file_is_installed_too(tmp_path: Path) -> None:
    (tmp_path / "one.lua").write_text("x", encoding="utf-8")
    assert is_installed(tmp_path / "one.lua", tmp_path / "to") is None
    assert install(tmp_path / "one.lua", tmp_path / "to") == f"installed into {tmp_path / 'to'}"
    assert (tmp_path / "to" / "one.lua").read_text(encoding="utf-8") == "x"
    assert is_installed(tmp_path / "one.lua", tmp_path / "to") is True
