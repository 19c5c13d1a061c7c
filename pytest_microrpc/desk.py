"""The real or emulated board: connected to once, and again where a test left it closed or broken."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from microrpc.boards.resets import open_reset
from microrpc.capture.trace import Trace
from microrpc.client.board import Board
from microrpc.connecting.address import board_log, find_target
from microrpc.connecting.blocking import connect, open_board
from microrpc.connecting.wrap import RecordingChannel
from microrpc.errors import FirmwareError, FunctionNotFoundError, HandshakeTimeoutError, MicroRpcError, PortError
from microrpc.ports.channel import monotonic
from microrpc.ports.opening import open_serial
from pytest_microrpc.setups import Setup
from pytest_microrpc.story import KEEP_FRAMES, Story

if TYPE_CHECKING:
    from microrpc.firmware.emulator import Emulator


class Desk:
    """The board that `setup` names. A test takes it, and tidies up."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._trace = Trace(keep_frames=KEEP_FRAMES)
        self._board: Board | None = None
        self._emulator: Emulator | None = None
        self._silence = ""
        self._no_emulator = ""

    def begin(self) -> Story:
        """Begin the story of a test."""
        self._trace.clear()
        return Story(self._setup.name, self._trace, monotonic())

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
            self._trace.clear()
            return self._board
        if self._silence and not reset:
            pytest.fail(f"the board was silent before, so it is not tried again: {self._silence}", pytrace=False)
        self._leave()
        try:
            self._board = self._open(reset=reset)
        except HandshakeTimeoutError as error:
            self._silence = str(error)
            raise
        self._silence = ""
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
        if target.stream_address is not None:  # no frames to listen to
            return connect(target.port, board=target.profile, reset=reset)
        if target.is_emulated:
            channel, baud = open_serial(self._start(target.board_name, anew=reset), baud=target.baud), None
        elif reset:
            port_log, baud = board_log(target.port, None), target.baud
            channel, _ = open_reset(target.port, target.profile, baud=baud, on_log=port_log)
        else:
            baud = target.baud
            channel = open_serial(target.port, baud=baud, flow_control=target.profile.flow_control)
        return open_board(
            RecordingChannel(channel, self._trace), target.timeouts, baud=baud, ring_bytes=target.ring_bytes
        )

    def _start(self, name: str, *, anew: bool) -> str:
        """Give the port of the emulator: the one that runs, or `anew` and where that has ended a new one."""
        from microrpc.firmware.emulator import start_emulated

        if anew or self._emulator is None or not self._emulator.is_running:
            self._end_emulator()
            try:
                self._emulator = start_emulated(name)
            except (FirmwareError, PortError) as error:
                self._no_emulator = str(error)
                raise
        return self._emulator.port
