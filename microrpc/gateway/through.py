"""Between a board and any program: the program opens a pty, the bytes go through, and taps see all of them.

    with Through("/dev/ttyACM0", [trace], link="/tmp/board") as through:
        print(through.path)  # what the program opens in place of the port
        through.run()

No session is opened here, and nothing is sent that the program does not send. What a pty cannot carry does not reach
the board: modem lines, BREAK, and the baud rate that the program sets (docs/capture.md).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from collections.abc import Callable, Sequence
from typing import Self

from microrpc.boards.schema import BoardProfile
from microrpc.connecting.address import find_target
from microrpc.connecting.openers import has_frames, open_target
from microrpc.connecting.watching import CaptureTarget, tell_port, watch
from microrpc.connecting.wrap import Tap, port_lost, port_opened
from microrpc.errors import PortLostError, PortNotFoundError, RequestError
from microrpc.gateway.line import LAST_S, line_of
from microrpc.ports.bell import Bell, wait_any
from microrpc.ports.channel import MOST_KEPT_BYTES, READ_BYTES
from microrpc.ports.lost import LostPort, Reopening
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions
from microrpc.ports.pty import HeldPty

_BACK_S = 60.0  # how long a port may be gone: its board may be flashed meanwhile
_LAST_POLL_S = 0.005


class Through:
    """A port, and a pty in front of it that any program may open, close, and open again.

    port, board, baud, options: as `microrpc.connect` has them. taps: shown all that crosses the line, with the time of
    `now`, and told of ports that go and come. link: where a symbolic link to the pty is to be. capture: as `connect`
    has it; the logger "microrpc.wire" is told, too. reconnect: a port that goes away is waited for. on_news: called
    with what becomes of the line, in words: "port lost", "port opened again", and what is lost on the way to a program
    that does not read.

    Raises what opening the port raises, PortError where there are no ptys, and RequestError for a port without frames.
    """

    def __init__(
        self,
        port: str,
        taps: Sequence[Tap] = (),
        *,
        board: str | BoardProfile | None = None,
        baud: int | None = None,
        options: PortOptions = AS_THE_SYSTEM_DOES,
        link: str | os.PathLike[str] | None = None,
        capture: CaptureTarget | None = None,
        reconnect: bool = False,
        on_news: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.bytes_to_board = self.bytes_from_board = self.bytes_left_out = 0
        """How many bytes crossed the line, and how many of those of the board no program read in time."""
        self._taps = taps
        self._on_news = on_news
        self._is_leaving_out = False
        self._to_board = self._to_program = b""
        target = find_target(port, board=board, baud=baud, timeouts=None, options=options)
        self.port = target.port
        """The port, as it was found."""
        self.baud = target.baud
        """Its speed, in bits a second."""
        if not has_frames(target):
            raise RequestError(f"{port} carries no frames: capture where the board's line is opened")
        lost = LostPort(target.port, wait_s=_BACK_S, afterwards="then start this again") if reconnect else None
        self._is_stopped = False
        with contextlib.ExitStack() as made:  # what there is by then is closed where the rest cannot be had
            self._bell = Bell()
            made.callback(self._bell.close)
            watched = self._watch = watch(target.port, capture, None, framed=True, resets=False)
            made.callback(watched.close)
            opened = open_target(target)
            made.callback(opened.close)
            self._reopen = Reopening(lost, opened.reopen) if lost is not None and opened.reopen is not None else None
            self._pty = HeldPty(link, no_ptys=", which a program would open in place of the port")
            made.callback(self._pty.close)
            self._line = line_of(opened.channel)
            made.callback(lambda: self._line.close())
            tell_port(opened, self.port, target.profile.name)
            self.now = opened.channel.now
            """The clock of what the taps are told, in seconds."""
            self._made = made.pop_all()

    @property
    def path(self) -> str:
        """What a program opens in place of the port."""
        return self._pty.path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self) -> None:
        """Pass bytes on until `stop`. Raises PortLostError, and PortNotFoundError where the port does not come back."""
        self._tell(port_opened)
        while True:
            try:
                self._carry()
                return
            except PortLostError:
                self._tell(port_lost)
                self._on_news("port lost")
                if self._reopen is None:
                    raise
            self._line.close()
            self._to_board = b""
            try:
                channel = self._reopen(_BACK_S)
            except PortNotFoundError:
                if self._is_stopped:
                    return
                raise
            self._line, self.now = line_of(channel), channel.now
            self._tell(port_opened)
            self._on_news("port opened again")

    def stop(self) -> None:
        """Have `run` end, from another thread or a signal, or for the next time.

        What a program wrote before that still goes to the board, as far as it takes it within half a second.
        """
        self._is_stopped = True
        self._bell.ring()
        if self._reopen is not None:
            self._reopen.interrupt()

    def close(self) -> None:
        """Release the port and the pty. Closing twice is fine."""
        self._made.close()

    # --- the loop ---------------------------------------------------------------------------------

    def _carry(self) -> None:
        """Pass bytes on until the bell rings. Raises PortLostError."""
        line, pty = self._line.fileno(), self._pty.fd
        with selectors.DefaultSelector() as selector:
            selector.register(self._bell.fileno(), selectors.EVENT_READ)
            selector.register(line, selectors.EVENT_READ)
            selector.register(pty, selectors.EVENT_READ)
            before = {line: selectors.EVENT_READ, pty: selectors.EVENT_READ}
            while True:
                for key, events in selector.select():
                    if key.fd == line:
                        self._serve_line(events)
                    elif key.fd == pty:
                        self._serve_pty(events)
                    else:
                        self._pass_last()
                        return
                wanted = {
                    line: selectors.EVENT_READ | (selectors.EVENT_WRITE if self._to_board else 0),
                    # What the board has not taken is not added to: the program is held up, as by a slow port.
                    pty: (0 if self._to_board else selectors.EVENT_READ)
                    | (selectors.EVENT_WRITE if self._to_program else 0),
                }
                if wanted != before:
                    for fd, events in wanted.items():
                        if events != before[fd]:
                            _change(selector, fd, before[fd], events)
                    before = wanted

    def _pass_last(self) -> None:
        """Pass on what a program wrote before the end: how it closed its session, most of the time."""
        deadline = time.monotonic() + LAST_S
        while time.monotonic() < deadline:
            if self._to_board:
                time.sleep(_LAST_POLL_S)
                self._serve_line(selectors.EVENT_WRITE)
            elif wait_any([self._pty.fd], 0.0):
                self._serve_pty(selectors.EVENT_READ)
            else:
                return

    def _serve_line(self, events: int) -> None:
        if events & selectors.EVENT_WRITE and self._to_board:
            self._to_board = self._to_board[self._line.write_some(self._to_board) :]
        if not events & selectors.EVENT_READ:
            return
        data = self._line.read(0.0)
        if not data:
            return
        self.bytes_from_board += len(data)
        self._show(data, to_board=False)
        if len(self._to_program) >= MOST_KEPT_BYTES:
            self._leave_out(data)
            return
        self._to_program += data
        self._write_to_program()

    def _serve_pty(self, events: int) -> None:
        if events & selectors.EVENT_WRITE and self._to_program:
            self._write_to_program()
        if not events & selectors.EVENT_READ or self._to_board:
            return
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._pty.fd, READ_BYTES)
            self._tell_baud()
            self.bytes_to_board += len(data)
            self._show(data, to_board=True)
            self._to_board = data[self._line.write_some(data) :]

    def _write_to_program(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._to_program = self._to_program[os.write(self._pty.fd, self._to_program) :]
            self._is_leaving_out = False

    def _leave_out(self, data: bytes) -> None:
        self.bytes_left_out += len(data)
        if not self._is_leaving_out:
            self._is_leaving_out = True
            self._on_news(f"nobody reads {self.path}: what the board says is left out there until somebody does")

    def _tell_baud(self) -> None:
        if self._pty.has_other_baud() and (baud := self._pty.baud) not in (None, self.baud):
            self._on_news(f"the program asks for {baud} baud, and the port has {self.baud}: give --baud {baud}")

    def _tell(self, news: Callable[[Tap, float], None]) -> None:
        for tap in self._all_taps():
            news(tap, self.now())

    def _all_taps(self) -> Sequence[Tap]:
        return self._taps if self._watch.tap is None else [*self._taps, self._watch.tap]

    def _show(self, data: bytes, *, to_board: bool) -> None:
        now = self.now()
        for tap in self._all_taps():
            tap.note(now, data, to_board=to_board)


def _change(selector: selectors.BaseSelector, fd: int, before: int, events: int) -> None:
    if not events:
        selector.unregister(fd)
    elif not before:
        selector.register(fd, events)
    else:
        selector.modify(fd, events)
