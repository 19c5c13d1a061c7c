"""docs/first_board.md: its commands, as they are written, on emulators that are flashed and plugged in as boards."""

from __future__ import annotations

import doctest
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass

import needs
import pytest
from commands import run, run_on_port
from firmware.test_elf import make_program
from first_board import Interpreter, Pico, Uno, plugged_in
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from microrpc.boards.catalogue import profiles
from microrpc.boards.schema import BoardKind
from microrpc.firmware import drives

ROOT = pathlib.Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "first_board.md").read_text(encoding="utf-8")
PORT = "/dev/ttyACM0"


@dataclass(frozen=True)
class Step:
    """A command and what it prints, `...` standing for anything; or Python and what that prints."""

    text: str
    output: str
    is_python: bool = False


def section(title: str) -> str:
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", GUIDE, flags=re.MULTILINE | re.DOTALL)
    return str(text)


def steps(title: str) -> list[Step]:
    """Give what a section has a reader do, in its order."""
    found = []
    for kind, block in re.findall(r"^```(console|python)\n(.*?)^```", section(title), flags=re.MULTILINE | re.DOTALL):
        if kind == "python":
            said = re.findall(r"^# prints (.*\n)", block, flags=re.MULTILINE)
            found.append(Step(block, "".join(said), is_python=True))
        else:
            found += [Step(*pair) for pair in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, flags=re.MULTILINE)]
    return found


def do(step: Step, port: pathlib.Path) -> None:
    """Do a step with the board's port in the place of /dev/ttyACM0; what it prints is what the guide says."""
    text = step.text.replace(PORT, str(port))
    if step.is_python:
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
        code, said, complaint = done.returncode, done.stdout, done.stderr
    else:
        program, *words = shlex.split(text)
        assert program == "microrpc"
        result = run(*words)
        code, said, complaint = result.code, result.out, result.err
    assert code == 0, f"{step.text}\n{said}{complaint}"
    same = doctest.OutputChecker().check_output(step.output, said, doctest.ELLIPSIS)
    assert same, f"{step.text}\nprinted\n{said}\nand not\n{step.output}"


@pytest.mark.boards
def test_a_pico_is_flashed_called_and_given_a_tensor(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.emulated("rp2040")
    monkeypatch.chdir(tmp_path)
    port = tmp_path / "ttyACM0"
    pico = Pico(tmp_path, port, monkeypatch)
    with plugged_in(pico):
        todo = steps("A Raspberry Pi Pico")
        assert [step.is_python for step in todo].count(True) == 1
        for step in todo:
            do(step, port)
    assert pico.flashed == 2


@pytest.mark.boards
def test_an_uno_is_flashed_and_called(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.emulated("simavr_uno")
    monkeypatch.chdir(tmp_path)
    port = tmp_path / "ttyACM0"
    uno = Uno(tmp_path, port, monkeypatch)
    with plugged_in(uno):
        for step in steps("An Arduino Uno"):
            do(step, port)
    assert uno.flashed == 2


@pytest.mark.boards
def test_a_board_with_micropython_is_given_files_and_called(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.emulated("micropython")
    monkeypatch.chdir(tmp_path)
    port = tmp_path / "ttyACM0"
    board = Interpreter(tmp_path, port, monkeypatch)
    with plugged_in(board):
        for step in steps("A board with MicroPython"):
            do(step, port)
    assert board.flashed == 1


def test_the_list_of_firmware_is_printed(tmp_path: pathlib.Path) -> None:
    (step,) = steps("A Nucleo or another board")
    do(step, tmp_path / "none")


def test_every_board_that_the_guide_names_is_one() -> None:
    known = {*profiles(), "arduino", "zephyr", "NAME"}
    named = re.findall(r"(?:--board|firmware flash|firmware run|microrpc boards) (\w+)", GUIDE)
    assert len(named) > 8
    assert set(named) <= known


def test_the_udev_rule_has_the_vendor_of_every_board_that_has_a_usb_id() -> None:
    (vendors,) = re.findall(r'^ATTRS\{idVendor\}=="([0-9a-f|]+)"', GUIDE, flags=re.MULTILINE)
    of_adapters = {"0403", "10c4", "1a86"}
    of_boards = {
        f"{usb.vendor_id:04x}" for board in profiles().values() if board.kind is BoardKind.HARDWARE for usb in board.usb
    }
    assert set(vendors.split("|")) == of_boards | of_adapters
    assert vendors.split("|") == sorted(vendors.split("|"))


def test_what_is_installed_first_is_an_extra_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extra,) = re.findall(r"pip install '\.\[(\w+)\]'", GUIDE)
    assert extra in project["optional-dependencies"]
    assert project["requires-python"] == ">=3.11"
    assert "Python 3.11 or newer" in GUIDE


# --- what to do when nothing answers: each error of the table is had from the program ----------------


def quoted() -> list[str]:
    """Give the errors that the table begins its rows with: they are in quotes."""
    cells = re.findall(r"^\| (.*?) \| ", section("Nothing answers"), flags=re.MULTILINE)
    return [text for cell in cells for text in re.findall(r"`(.*?)`", cell)]


def assert_told(start: str, said: str, port: pathlib.Path | str = PORT) -> None:
    """Assert that the one error of the table that begins so is in what was said, `...` standing for anything."""
    (text,) = [text for text in quoted() if text.startswith(start)]
    pattern = ".*".join(re.escape(part) for part in text.replace(PORT, str(port)).split("..."))
    assert re.search(pattern, " ".join(said.split())), f"{text}\nis not in\n{said}"


def test_every_error_of_the_table_is_provoked_below() -> None:
    below = pathlib.Path(__file__).read_text(encoding="utf-8")
    starts = re.findall(r"""assert_told\(\s*["'](.*?)["'],""", below)
    assert sorted(text for text in quoted() if not any(text.startswith(start) for start in starts)) == []
    assert len(quoted()) >= 4


HEX = ":0400000001020304F2\n:00000001FF\n"


def test_a_port_that_is_not_there_is_told_before_anything_is_flashed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(list_ports, "comports", lambda: [ListPortInfo("/dev/ttyS0")])
    (tmp_path / "x.hex").write_text(HEX)
    avrdude = tmp_path / "avrdude"
    avrdude.write_text("#!/bin/sh\nexit 0\n")
    avrdude.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    said = run("firmware", "flash", "arduino_uno", tmp_path / "x.hex", "--port", "/dev/no-such-port").err
    assert "there is no port /dev/no-such-port: those there are: " in said


def test_a_drive_that_does_not_appear(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(drives, "_MOUNTS", ())
    monkeypatch.setattr(drives, "_BY_LABEL", tmp_path)
    monkeypatch.setattr(drives, "APPEAR_S", 0.2)
    (tmp_path / "x.elf").write_bytes(make_program([(1, 0x10000000, b"abcde")]))
    said = run("firmware", "flash", "rpi_pico", tmp_path / "x.elf", "--tool", "uf2").err
    assert_told("no drive RPI-RP2", said.replace("within 0.2 s", "within 30 s"))


@pytest.mark.boards
def test_a_probe_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    tool = tmp_path / "openocd"
    tool.write_text("#!/bin/sh\necho 'Error: unable to find a matching CMSIS-DAP device' >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(drives, "_MOUNTS", ())
    (tmp_path / "x.elf").write_bytes(make_program([(1, 0x10000000, b"abcde")]))
    assert_told("it could not be flashed: openocd", run("firmware", "flash", "rpi_pico", tmp_path / "x.elf").err)


@pytest.mark.boards
def test_a_programmer_that_nobody_answers(tmp_path: pathlib.Path) -> None:
    needs.program("avrdude")
    (tmp_path / "x.hex").write_text(HEX)
    said = run_on_port(b"", "firmware", "flash", "arduino_uno", tmp_path / "x.hex", "--port", "PORT").err
    assert_told("programmer is not responding", said)
    assert_told("not in sync", said)
