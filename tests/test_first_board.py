"""docs/first_board.md: its commands, as they are written, on emulators that are flashed and plugged in as boards."""

from __future__ import annotations

import doctest
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass

import needs
import pytest
from commands import run
from first_board import Interpreter, Pico, Uno, plugged_in

from microrpc.boards.catalogue import profiles
from microrpc.boards.schema import BoardKind

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


TEXTS = re.sub(  # those in the sources, each in one piece
    r'"\s*\n\s*f?"', "", "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "microrpc").rglob("*.py"))
)


def test_the_errors_in_the_table_are_what_the_program_says() -> None:
    rows = re.findall(r"^\| (`.*?) \| ", section("Nothing answers"), flags=re.MULTILINE)
    assert len(rows) >= 8
    ours = [text for row in rows for text in re.findall(r"`(.*?)`", row) if "stk500" not in text]
    for text in ours:
        for part in re.split(r"\.\.\.|/dev/ttyACM0|RPI-RP2|\b\d+\b|: |hold BOOTSEL.*", text):
            words = part.strip(" :,.()")
            assert len(words) < 4 or words in TEXTS, f"{text}: nothing says {words!r}"
