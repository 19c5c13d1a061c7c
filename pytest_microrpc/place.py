"""One real or emulated board: connected to once, and again where a test left it closed or broken."""

from __future__ import annotations

import contextlib
import pathlib

import pytest

from microrpc.boards.catalogue import profile
from microrpc.client.board import Board
from microrpc.connecting.address import DEFAULT_PROFILE, EMULATED_SCHEME, Target, find_target
from microrpc.connecting.blocking import open_session
from microrpc.connecting.connection import reset_first
from microrpc.connecting.openers import open_target
from microrpc.connecting.openers.emulated import open_running
from microrpc.connecting.wrap import tapped
from microrpc.errors import FirmwareError, HandshakeTimeoutError, MicroRpcError, PortError
from microrpc.firmware.emulator import Emulator, start_firmware
from microrpc.firmware.putting import Source, strange_names
from microrpc.ports.channel import monotonic
from pytest_microrpc.images import Putting, build_once
from pytest_microrpc.listening import Listener
from pytest_microrpc.locks import Lock, Run
from pytest_microrpc.setups import Setup
from pytest_microrpc.story import Story
from pytest_microrpc.telling import Telling


class Place:
    """A board that `setup` names, called `name`: on a `port`, or without one in an emulator of its own.

    `run` says which test run it is. `lock` is that of the port, while this process has it. A test takes the board, and
    tidies up.
    """

    def __init__(self, setup: Setup, name: str, port: str | None, run: Run) -> None:
        self.name = name
        self.lock: Lock | None = None
        self.is_new = False
        """Whether the board was connected to when it was last taken."""
        self.port = port
        """Where it is now; None in an emulator."""
        self._setup, self._run = setup, run
        self._listener = Listener(name, captures=setup.captures is not None)
        self._board: Board | None = None
        self._emulator: Emulator | None = None
        self._running: Source | None = None  # what is known to run on it
        self._silence = ""
        self._refused: dict[Source, str] = {}

    def begin(self) -> Telling:
        """Begin what is told of a test."""
        self._listener.begin()
        story = Story(self.name, self._listener.trace, monotonic())
        return Telling(story, self._listener, self._setup.board.name if self._setup.board else "")

    def take(self, *, reset: bool, source: Source | None) -> Board:
        """Give the board, connected and answering; `reset` it first where that is asked for. `source` must run on it.

        A board that did not answer is not waited for again in each test, unless it is to be reset. What could not be
        put on it, or started, is not tried again.
        """
        if source is not None and source in self._refused:
            pytest.fail(self._refused[source], pytrace=False)
        is_new = source is not None and self._running != source
        if self._board is not None and not reset and not is_new and self._answers(self._board):
            self._listener.begin()
            self.is_new = False
            return self._board
        if self._silence and not reset and not is_new:
            pytest.fail(f"the board was silent before, so it is not tried again: {self._silence}", pytrace=False)
        self._leave()
        try:
            self._board = self._open(reset=reset, source=source)
        except HandshakeTimeoutError as error:
            self._silence = str(error)
            raise
        self._silence, self.is_new = "", True
        with contextlib.suppress(MicroRpcError, OSError):
            _ = self._board.identity  # asked here once, for the reports of all tests
        return self._board

    def tidy(self) -> None:
        """Free what the test made on the board and still holds; leave one that does not answer any more.

        It is asked once: what is to be freed, and what is said at the end, would each be waited for.
        """
        board = self._board
        if board is None:
            return
        for handle in list(board.live):
            handle.discard()
        try:
            board.pump.run(board.operations.connection.begin, None)
            board.collect()
            answers = not board.trust.doubt
        except (MicroRpcError, OSError):
            answers = False
        if not answers:  # the next test connects again
            board.pump.close(within_s=0.0)
            self._leave()

    def close(self) -> None:
        """Leave the board, which others may have then, and end its emulator."""
        self._leave()
        self._running = None
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

    def _open(self, *, reset: bool, source: Source | None) -> Board:
        """Connect as `microrpc.connect` does, but listen from the first byte on."""
        if self.port is None:
            assert source is not None
            target = self._emulated_target()
            opened = open_running(self._start(source, anew=reset), target)
            return open_session(opened, target.timeouts, wrap=tapped(self._listener))
        if source is not None and self._running != source and (board := self._put(source)) is not None:
            return board
        return self._connect(self.port, reset=reset)

    def _connect(self, port: str, *, reset: bool = False) -> Board:
        target = find_target(port, board=self._setup.board, baud=None, timeouts=None)
        opened = open_target(target, reset_first(target.port, None, self._listener) if reset else None)
        # Without frames there is nothing to listen to.
        return open_session(opened, target.timeouts, wrap=None if opened.is_stream else tapped(self._listener))

    def _connect_booted(self, port: str) -> Board:
        """Connect to the board where it is now: it may have booted under another name."""
        board = self._connect(port)
        self.port = port
        return board

    # --- an emulated board ------------------------------------------------------------------------

    def _emulated_target(self) -> Target:
        project, board = self._setup.project, self._setup.board
        if project is None:
            named = self._setup.ports[0] if self._setup.ports else None
            return find_target(named, board=board, baud=None, timeouts=None)
        board = board or profile(DEFAULT_PROFILE)
        return Target(EMULATED_SCHEME + project.name, board, board.baud, board.timeouts, board.receive_ring_bytes or 0)

    def _start(self, source: Source, *, anew: bool) -> Emulator:
        """Give the emulator: the one that runs, or `anew` and where that has ended, or runs another program, a new one.

        Raises FirmwareError, PortError.
        """
        if anew or self._emulator is None or not self._emulator.is_running or self._running != source:
            self._end_emulator()
            self._running = None
            try:
                assert not isinstance(source, pathlib.Path), "a built program is no firmware for an emulator"
                self._emulator = start_firmware(build_once(source, self._run.command, to_run=True))
            except (FirmwareError, PortError) as error:
                self._refused[source] = f"the emulator did not start before, so it is not tried again: {error}"
                raise
            self._running = source
        return self._emulator

    # --- a real board -----------------------------------------------------------------------------

    def _put(self, source: Source) -> Board | None:
        """Put a program on the board, and connect to it; None where this test run has put it there before.

        Raises FirmwareError, PortError and HandshakeTimeoutError.
        """
        assert self.port is not None
        assert self._setup.board is not None, "what can be flashed was checked"
        try:
            putting = Putting(source, self._setup.board, self.port, self._run.command)
            noted = {"run": self._run.key, "program": putting.digest}
            if self.lock is not None and self.lock.noted().get("flashed") == noted:
                self._running = source
                return None
            self._running = None
            if self.lock is not None:
                self.lock.note(flashed=None)
            board = putting.run(self._connect_booted)
            try:
                self._check_is_it(board, putting)
            except BaseException:
                board.close()
                raise
        except (FirmwareError, PortError, HandshakeTimeoutError) as error:
            self._refused[source] = f"the board could not be flashed before, so it is not tried again: {error}"
            raise
        if self.lock is not None:
            self.lock.note(flashed=noted)
        self._running = source
        return board

    def _check_is_it(self, board: Board, putting: Putting) -> None:
        """Raise FirmwareError where what answers is another program than the one that was put on the board."""
        identity = board.identity
        names = [identity.board, identity.firmware] if identity is not None else []
        if strange := strange_names(putting.program, names):
            text = f"was flashed, but what answers calls itself {' and '.join(map(repr, strange))}"
            raise FirmwareError(f"{self.name}: {text}, which the program does not: it has its old program still")
