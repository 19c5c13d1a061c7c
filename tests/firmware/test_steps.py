"""What can be done next with a project: only what works, and with the board's own names."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex

import pytest

from microrpc.firmware.new import new_project
from microrpc.firmware.project import load_port, load_project
from microrpc.firmware.steps import steps_in_readme, told


@pytest.mark.parametrize(
    ("board", "verbs"),
    [
        ("rpi_pico", ["build", "run", "flash rpi_pico"]),  # its image runs in an emulator, too
        ("arduino_uno", ["build", "run", "flash arduino_uno"]),
        ("nucleo_f746zg", ["build", "flash nucleo_f746zg"]),  # there is no emulator of it
        ("qemu_mps2_an385", ["build", "run"]),  # it is in no hand
    ],
)
def test_a_new_project_is_told_what_can_be_done_with_it(tmp_path: pathlib.Path, board: str, verbs: list[str]) -> None:
    directory = tmp_path / "mine"
    lines = new_project(directory, board)
    commands = [f"microrpc firmware {verb} {directory}" for verb in verbs]
    assert lines[-len(verbs) :] == [f"Try: {commands[0]}", *(f"     {command}" for command in commands[1:])]
    readme = (directory / "README.md").read_text(encoding="utf-8")
    found = [line.split("#")[0].strip() for line in readme.splitlines() if line.startswith("    microrpc firmware")]
    assert found == [f"microrpc firmware {verb} ." for verb in verbs]
    assert (load_project(directory).emulation is not None) == ("run" in verbs)


@pytest.mark.parametrize(
    ("board", "port", "then"),
    [
        ("rpi_pico", "/dev/ttyACM0", "or elsewhere with the one that `run` prints:"),
        ("nucleo_f746zg", "/dev/ttyACM0", "with the board's port (`microrpc ports` lists those there are):"),
        ("qemu_mps2_an385", "/dev/pts/7", "and in another terminal, with that port:"),
    ],
)
def test_a_readme_leads_over_to_the_port_that_there_is(board: str, port: str, then: str) -> None:
    words = steps_in_readme(load_port(board))
    assert words["port"] == port
    assert words["then"].endswith(then)


def test_what_is_built_already_is_not_told_to_be_built() -> None:
    lines = told(load_port("rpi_pico"), pathlib.Path("mine"), is_built=True)
    assert lines == ["Try: microrpc firmware run mine", "     microrpc firmware flash rpi_pico mine"]


def test_a_port_that_no_profile_knows_is_built() -> None:
    port = dataclasses.replace(load_port("nucleo_f746zg"), name="of_my_own")
    assert told(port, pathlib.Path("mine")) == ["Try: microrpc firmware build mine"]


@pytest.mark.parametrize("board", ["qemu_mps2_an385", "micropython", "zephyr"])
def test_what_is_told_can_be_pasted_into_a_shell_where_the_directory_has_blanks(
    tmp_path: pathlib.Path, board: str
) -> None:
    directory = tmp_path / "my board's"
    commands = [line for line in new_project(directory, board) if ": " in line or line.startswith("     ")]
    assert commands
    for command in commands:
        assert str(directory) in shlex.split(command)
