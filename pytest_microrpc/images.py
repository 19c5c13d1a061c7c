"""Firmware for the boards of tests: built once, however many processes want it, and put on real boards."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from microrpc.boards.booting import BootedPort
from microrpc.boards.schema import BoardProfile
from microrpc.errors import FirmwareError
from microrpc.firmware.build import Firmware, build
from microrpc.firmware.emulator import build_to_run
from microrpc.firmware.flashing import Flashing, choose
from microrpc.firmware.programs import Program
from microrpc.firmware.project import Project
from microrpc.firmware.putting import Source, choose_for, with_built
from pytest_microrpc.locks import Lock, holding

BUILD_WAIT_S = 900.0
"""How long a process waits for another one that builds the same, in seconds; a build may take ten minutes."""

T = TypeVar("T")


def build_once(project: Project, command: str, *, to_run: bool) -> Firmware:
    """Build a project where no other process does, or wait for that, which has then built it.

    to_run: it is for an emulator, which is looked for, too. Raises FirmwareError, PortNotFoundError, PortError.
    """
    lock = Lock(f"build\0{project.file}")
    with holding(lock, command, BUILD_WAIT_S) as has:
        if not has:
            raise FirmwareError(f"{project.file}: is being built for {BUILD_WAIT_S:g} s by {lock.holder}: end that")
        return build_to_run(project) if to_run else build(project)


def check_can_be_put(source: Source, board: BoardProfile, port: str | None) -> None:
    """Raise FirmwareError where a program cannot be put on a board: there is no way, or it is for another board."""
    _choose(source, board, port)


class Putting:
    """What puts `source` on the `board` on a `port`, which must be closed; it is built first. `command`: who does so.

    Raises FirmwareError.
    """

    def __init__(self, source: Source, board: BoardProfile, port: str, command: str) -> None:
        self._board, self._port = board, port
        self._flashing = _choose(source, board, port)
        if isinstance(source, Project):
            self._flashing = with_built(self._flashing, build_once(source, command, to_run=False))

    @property
    def program(self) -> Program:
        """What is put on the board."""
        return self._flashing.program

    @property
    def digest(self) -> str:
        """What tells the program from any other one."""
        file = self.program.file
        files = [file, *sorted(file.parent.glob("*.py"))] if file.suffix == ".py" else [file]
        return hashlib.sha256(b"\0".join(each.read_bytes() for each in files)).hexdigest()

    def run(self, open_on: Callable[[str], T]) -> T:
        """Do it, and give what `open_on` makes of the port on which the board is when it has booted.

        Raises FirmwareError where it cannot be done, and what `open_on` and `BootedPort.look` raise.
        """
        booted = BootedPort(self._board, self._port)
        self._flashing.run()
        opened = booted.look(open_on)
        assert opened is not None, "a board whose port was known is found, or an error is raised"
        return opened


def _choose(source: Source, board: BoardProfile, port: str | None) -> Flashing:
    if isinstance(source, pathlib.Path) and not source.is_file():
        raise FirmwareError(f"{source}: there is no such file")
    return choose_for(source, board, port, chosen=partial(choose, may_ask=False))
