"""The real or emulated board: connected to once, and again where a test left it closed or broken."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from microrpc.client.board import Board
from microrpc.connecting.address import find_target
from microrpc.connecting.blocking import open_session
from microrpc.connecting.connection import reset_first
from microrpc.connecting.openers import open_target
from microrpc.connecting.wrap import tapped
from microrpc.errors import FirmwareError, FunctionNotFoundError, HandshakeTimeoutError, MicroRpcError, PortError
from microrpc.ports.channel import monotonic
from pytest_microrpc.listening import Listener
from pytest_microrpc.setups import Setup
from pytest_microrpc.story import Story
from pytest_microrpc.telling import Telling

if TYPE_CHECKING:
    from microrpc.firmware.emulator import Emulator


class Desk:
    """The board that `setup` names. A test takes it, and tidies up."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._listener = Listener(setup.name, captures=setup.captures is not None)
        self._board: Board | None = None
        self.is_new = False
        """Whether the board that was last taken was connected to for that."""
        self._emulator: Emulator | None = None
        self._silence = ""
        self._no_emulator = ""

    def begin(self) -> Telling:
        """Begin what is told of a test."""
        self._listener.begin()
        story = Story(self._setup.name, self._listener.trace, monotonic())
        return Telling(story, self._listener, self._setup.board.name if self._setup.board else "")

    def take(self, *, reset: bool) -> Board:
        """Give the board, connected and answering; `reset` it first where that is asked for.

        A board that did not answer is not waited for again in each test, unless it is to be reset. An emulator that
        did not start is not tried again.
        """
        if self._no_emulator:
            pytest.fail(
                f"the emulator did not start before, so it is not tried again: {self._no_emulator}", pytrace=False
            )
        if self._board is not None and not reset and self._answers(self._board):
            self._listener.begin()
            self.is_new = False
            return self._board
        if self._silence and not reset:
            pytest.fail(f"the board was silent before, so it is not tried again: {self._silence}", pytrace=False)
        self._leave()
        try:
            self._board = self._open(reset=reset)
        except HandshakeTimeoutError as error:
            self._silence = str(error)
            raise
        self._silence, self.is_new = "", True
        with contextlib.suppress(MicroRpcError, OSError):
            _ = self._board.identity  # asked here once, for the reports of all tests
        return self._board

    def has_function(self, name: str) -> bool:
        """Tell whether the board that was taken has a function."""
        assert self._board is not None
        try:
            self._board.function(name)
        except FunctionNotFoundError:
            return False
        return True

    def tidy(self) -> None:
        """Free what the test made on the board and still holds."""
        if self._board is not None:
            for handle in list(self._board.live):
                handle.discard()
            with contextlib.suppress(MicroRpcError, OSError):  # the next test notices, and connects again
                self._board.collect()

    def close(self) -> None:
        """Leave the board, and end its emulator."""
        self._leave()
        self._end_emulator()
        self._listener.end()

    def _leave(self) -> None:
        board, self._board = self._board, None
        if board is not None:
            board.close()

    def _end_emulator(self) -> None:
        emulator, self._emulator = self._emulator, None
        if emulator is not None:
            emulator.close()

    def _answers(self, board: Board) -> bool:
        """Tell whether it answers a question; what the answer is does not matter."""
        try:
            board.global_function("microrpc.is_anybody_there")
        except (MicroRpcError, OSError):
            return False
        return True

    def _open(self, *, reset: bool) -> Board:
        """Connect as `microrpc.connect` does, but listen from the first byte on."""
        target = find_target(self._setup.port, board=self._setup.board, baud=None, timeouts=None)
        if target.is_emulated:
            from microrpc.connecting.openers.emulated import open_running

            opened = open_running(self._start(target.board_name, anew=reset), target)
        else:
            opened = open_target(target, reset_first(target.port, None, self._listener) if reset else None)
        # Without frames there is nothing to listen to.
        return open_session(opened, target.timeouts, wrap=None if opened.is_stream else tapped(self._listener))

    def _start(self, name: str, *, anew: bool) -> Emulator:
        """Give the emulator: the one that runs, or `anew` and where that has ended a new one."""
        from microrpc.firmware.emulator import start_emulated

        if anew or self._emulator is None or not self._emulator.is_running:
            self._end_emulator()
            try:
                self._emulator = start_emulated(name)
            except (FirmwareError, PortError) as error:
                self._no_emulator = str(error)
                raise
        return self._emulator
