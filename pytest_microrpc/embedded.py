"""The board behind the `dut` of pytest-embedded: one test uses both, on one port. Nothing of it is imported here.

A thread of `dut` reads the port all the time, and would take replies away; so it is held off while the board is
connected. What the board prints and logs meanwhile goes where that thread would have put it, byte by byte, with its
line ends, and a prompt without one: `dut.expect` finds it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final, Protocol

import pytest

from microrpc.capture.printed import Printed
from microrpc.client.board import Board
from microrpc.connecting.blocking import connect
from microrpc.connecting.wrap import tapped
from microrpc.ports.channel import monotonic
from pytest_microrpc.listening import Listener
from pytest_microrpc.locks import Lock, busy_error, real_name, take_free
from pytest_microrpc.setups import Setup
from pytest_microrpc.story import Story
from pytest_microrpc.telling import Telling
from pytest_microrpc.wishes import Wishes, skip_without

_URL: Final = "://"


class DutSerial(Protocol):
    """What is used of `dut.serial`: its `port`, by name, and `baud`, in bits a second."""

    port: str
    """Its name, or its URL."""
    baud: int
    """Of its line, in bits a second."""
    proc: Any
    """The port, of pyserial."""

    def disable_redirect_thread(self) -> contextlib.AbstractContextManager[object]:
        """Hold the reader off."""


class MessageQueue(Protocol):
    """What takes the text of a board to where `dut.expect` looks for it."""

    def put(self, obj: bytes) -> None:
        """Take some of it."""


def serial_of(dut: object) -> DutSerial | None:
    """Give what `dut` has its board on; None where that is no serial port. Fails the test where there are several."""
    if isinstance(dut, tuple | list):
        pytest.fail(
            f"`dut` is {len(dut)} boards, and `board` is one: connect to one of them, with "
            "`dut[0].serial.disable_redirect_thread()` around `microrpc.connect(dut[0].serial.port)`",
            pytrace=False,
        )
    serial: DutSerial | None = getattr(dut, "serial", None)
    return serial if isinstance(getattr(serial, "port", None), str) else None


def tell_of(serial: DutSerial, setup: Setup) -> Telling:
    """Begin what is told of a test on this port."""
    listener = Listener(serial.port, captures=setup.captures is not None)
    story = Story(serial.port, listener.trace, monotonic())
    return Telling(story, listener, setup.board.name if setup.board is not None else "")


class PortLocks:
    """The locks of the ports of a `dut`, or of several: nobody else has them meanwhile.

    pytest-embedded opens a port for each test, and reads it all the time: so they are had before that.
    """

    def __init__(self, command: str, wait_s: float) -> None:
        self._command, self._wait_s = command, wait_s
        self._locks: list[Lock] = []

    def wait_for(self, ports: object) -> None:
        """Have the ports that are named, if any are. Raises PortBusyError."""
        names = [port for port in (ports if isinstance(ports, tuple | list) else [ports]) if isinstance(port, str)]
        self._take(list(dict.fromkeys(names)), self._wait_s)

    def check(self, serial: object) -> None:
        """Have the ports that were found, too. Raises PortBusyError at once: they are open, and read."""
        found = [getattr(one, "port", None) for one in (serial if isinstance(serial, tuple | list) else [serial])]
        held = {real_name(lock.what) for lock in self._locks}
        self._take([port for port in found if isinstance(port, str) and real_name(port) not in held], 0.0)

    def _take(self, ports: list[str], wait_s: float) -> None:
        if ports:
            locks = [Lock(port) for port in ports]
            taken = take_free(locks, len(locks), self._command, wait_s)
            if taken is None:
                raise busy_error(locks, len(locks), self._command, wait_s)
            self._locks += taken

    def free(self) -> None:
        """Let others have them."""
        for lock in self._locks:
            lock.free()
        self._locks.clear()


class _PassingOn:
    """A tap that shows `listener` all, and puts what is for people into `queue`."""

    def __init__(self, listener: Listener, queue: MessageQueue) -> None:
        self.port_lost, self.port_opened, self.comment = listener.port_lost, listener.port_opened, listener.comment
        self._listener, self._queue = listener, queue
        self._printed = Printed()

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        """See `microrpc.connecting.wrap.Tap`."""
        self._listener.note(time_s, data, to_board=to_board)
        if not to_board and (said := self._printed.feed(data)):
            self._queue.put(said)


@contextlib.contextmanager
def open_dut_board(
    serial: DutSerial, queue: MessageQueue, setup: Setup, telling: Telling, wishes: Wishes
) -> Iterator[Board]:
    """Connect to the board, at the baud rate of `dut`, and give the port back in the end.

    Skips the test where the board lacks a function that it wishes.
    """

    with serial.disable_redirect_thread(), _free(serial):
        options: dict[str, Any] = {"board": setup.board, "baud": serial.baud, "reset": wishes.reset}
        with connect(serial.port, wrap=tapped(_PassingOn(telling.listener, queue)), **options) as board:
            board.pump.hears_all = True  # also while the test waits for text, and asks nothing
            board.pump.listen()
            telling.talk(board, is_new=True)
            skip_without(board, wishes, f"the board on {serial.port}", is_required=setup.is_required)
            yield board


@contextlib.contextmanager
def _free(serial: DutSerial) -> Iterator[None]:
    """Close what takes one client only, such as socket://. A port of this computer stays open: its lines stay as they
    are, and what arrives before it is read again is kept.
    """
    is_closed = _URL in serial.port
    if is_closed:
        serial.proc.close()
    try:
        yield
    finally:
        if is_closed:
            serial.proc.open()
