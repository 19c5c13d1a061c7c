"""A port that no descriptor tells of, as a loop sees it: it can be waited for, and nothing holds up its end."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Iterator

import pytest

from microrpc.gateway.line import LineByThreads, line_of


class Port:
    """A channel whose writes wait until `takes` is set, as pyserial's do at a board that reads nothing."""

    name = "port://"

    def __init__(self) -> None:
        self.takes = threading.Event()
        self.is_writing = threading.Event()
        self.heard: list[bytes] = []
        self.taken = b""
        self.is_closed = False

    def now(self) -> float:
        return time.monotonic()

    def read(self, deadline: float) -> bytes:
        return self.heard.pop() if self.heard else b""

    def write(self, data: bytes, deadline: float) -> None:
        self.is_writing.set()
        if self.takes.wait(deadline - time.monotonic()):
            self.taken += data

    def close(self) -> None:
        self.is_closed = True


class Broken(Port):
    """One whose handler of URLs, which may be anybody's, fails."""

    def read(self, deadline: float) -> bytes:
        raise ValueError("it does not work")


class Deaf(Port):
    """One that cannot write."""

    def write(self, data: bytes, deadline: float) -> None:
        raise ValueError("it does not take it")


@pytest.fixture
def port() -> Iterator[Port]:
    port = Port()
    yield port
    port.takes.set()


def is_readable(line: LineByThreads) -> bool:
    return bool(select.select([line.fileno()], [], [], 10)[0])


def test_whatever_ends_the_thread_that_reads_is_told_to_who_waits_for_it() -> None:
    port = Broken()
    line = line_of(port)
    assert isinstance(line, LineByThreads)
    assert is_readable(line)
    with pytest.raises(ValueError, match="it does not work"):
        line.read(0.0)
    line.close()
    assert port.is_closed


def test_whatever_ends_the_thread_that_writes_is_told_to_who_waits_for_it() -> None:
    line = LineByThreads(Deaf())
    assert line.write_some(b"to the board") == 12
    assert is_readable(line)
    with pytest.raises(ValueError, match="it does not take it"):
        line.read(0.0)
    line.close()


def test_a_write_that_waits_holds_up_neither_what_the_board_says_nor_the_end(port: Port) -> None:
    line = LineByThreads(port)
    assert line.write_some(b"to the board") == 12
    assert port.is_writing.wait(10)
    port.heard.append(b"and from it")
    assert is_readable(line)
    assert line.read(0.0) == b"and from it"
    line.close()
    assert (port.is_closed, port.taken) == (True, b"")


def test_who_writes_is_held_up_while_the_board_takes_nothing(port: Port) -> None:
    line = LineByThreads(port)
    sent = line.write_some(bytes(4096))
    assert port.is_writing.wait(10)
    while taken := line.write_some(bytes(4096)):
        sent += taken
    assert not select.select([], [line.fileno()], [], 0)[1]
    assert sent < 1 << 20
    port.takes.set()
    assert select.select([], [line.fileno()], [], 10)[1]
    line.close()
    assert port.taken == bytes(sent)


def test_what_was_handed_over_goes_to_the_board_before_it_is_closed(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microrpc.gateway.line.LAST_S", 30.0)
    line = LineByThreads(port)
    line.write_some(b"good")
    assert port.is_writing.wait(10)
    line.write_some(b"bye")
    closing = threading.Thread(target=line.close)
    closing.start()
    closing.join(0.2)  # it waits for the board
    assert not port.is_closed
    port.takes.set()
    closing.join(10)
    assert (port.is_closed, port.taken) == (True, b"goodbye")
    line.close()
