"""What the monitor shows: the packets of a file, of one that grows, or of a line between a board and a program."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from microrpc.capture.pcapng import Packet, read_blocks
from microrpc.capture.reading import read_packets
from microrpc.capture.writer import CaptureWriter
from microrpc.cli.monitor.feed import BlockPipe, Feed, count_unshown

if TYPE_CHECKING:
    from microrpc.gateway.through import Through

STDIN = "-"
"""The name of what is piped in."""
_LOOK_S = 0.1
_MOST_NEWS = 20


def is_file(source: str) -> bool:
    """Whether this names a file (or stdin) and not a port: what is there and is no device, or is called like a file."""
    if source == STDIN:
        return True
    if "://" in source:
        return False
    try:
        mode = os.stat(source).st_mode
    except OSError:
        return Path(source).suffix in (".pcapng", ".pcap", ".jsonl", ".bin", ".raw")
    return not (stat.S_ISCHR(mode) or stat.S_ISSOCK(mode))


class GrowingFile(io.RawIOBase):
    """A file that is read on when more is written to it, until `stop` is set.

    Where it is begun anew, it is read from its beginning.
    """

    def __init__(self, file: BinaryIO, stop: threading.Event) -> None:
        super().__init__()
        self._file = file
        self._stop = stop
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait until there is something."""
        view = memoryview(buffer).cast("B")
        while not self._stop.is_set():
            data = self._file.read(len(view))
            if data:
                self._at += len(data)
                view[: len(data)] = data
                return len(data)
            if self._file.seekable() and os.fstat(self._file.fileno()).st_size < self._at:
                self._at = self._file.seek(0)
            self._stop.wait(_LOOK_S)
        return 0


def _nothing() -> None:
    """Close nothing."""


class Source:
    """Reads packets in a thread of its own, into `feed`, until there are no more or it is closed.

    begin: opens what is read, in that thread, and gives the packets. ended: what is said where there are no more.
    take_left_out: gives how many packets there was no room for, since it was last asked. news: what becomes of the
    line, in words, added in whatever thread learns of it.
    """

    def __init__(
        self,
        begin: Callable[[], Iterable[Packet]],
        ended: str,
        *,
        close: Callable[[], None] = _nothing,
        take_left_out: Callable[[], int] = lambda: 0,
        news: deque[str] | None = None,
    ) -> None:
        self.feed = Feed()
        self.take_left_out = take_left_out
        self.news: deque[str] = deque() if news is None else news
        self._begin = begin
        self._ended = ended
        self._close = close
        threading.Thread(target=self._run, name="microrpc monitor", daemon=True).start()

    def _run(self) -> None:
        try:
            for packet in self._begin():
                if not self.feed.put(packet):
                    return
        except BaseException as error:
            self.feed.finish(error)
        else:
            self.feed.finish(self._ended)

    def end(self) -> int:
        """Read no more, and let go of what is open; give how many packets were read, or left out, and not shown."""
        self._let_go()
        return count_unshown(self.feed) + self.take_left_out()

    def close(self) -> None:
        """Read no more, and let go of what is open. Closing twice is fine."""
        self.feed.close()
        self._let_go()

    def _let_go(self) -> None:
        close, self._close = self._close, _nothing
        close()


def open_file(source: str, *, follows: bool, raw_to_board: bool | None = None, stdin_fd: int = 0) -> Source:
    """Read a file, a named pipe (whose writer is waited for in the thread), or stdin. Raises OSError.

    follows: what is written to it later is read, too. raw_to_board: it has bytes of the line alone, of this direction.
    """
    stop = threading.Event()
    is_pipe = source != STDIN and stat.S_ISFIFO(os.stat(source).st_mode)
    name = "stdin" if source == STDIN else source
    file = None if is_pipe else _open(source, stdin_fd)

    def begin() -> Iterator[Packet]:
        opened = _open(source, stdin_fd) if file is None else file
        with opened:
            stream = io.BufferedReader(GrowingFile(opened, stop)) if follows else io.BufferedReader(opened)
            yield from read_packets(stream, name, raw_to_board=raw_to_board)

    return Source(begin, "that is all" if not follows else "followed no more", close=stop.set)


def _open(source: str, stdin_fd: int) -> io.FileIO:
    return io.FileIO(stdin_fd if source == STDIN else source, "rb")


def open_line(
    make: Callable[[list[CaptureWriter], Callable[[str], None]], Through], on_news: Callable[[str], None] | None = None
) -> tuple[Source, Through]:
    """Stand between a board and any program, and read what crosses.

    make: opens the port, with these taps, and what it is to tell news to. on_news: is told them; without it they stand
    in the `news` of the source. Raises what opening the port raises.
    """
    pipe = BlockPipe()
    taps: list[CaptureWriter] = []
    news: deque[str] = deque(maxlen=_MOST_NEWS)
    through = make(taps, on_news or news.append)
    ends: list[BaseException] = []

    def serve() -> None:
        try:
            through.run()
        except BaseException as error:
            ends.append(error)
        finally:
            writer.close()
            pipe.close()

    def begin() -> Iterator[Packet]:
        yield from read_blocks(pipe)
        if ends:
            raise ends[0]

    serving = threading.Thread(target=serve, name="microrpc through", daemon=True)

    def close() -> None:
        through.stop()
        serving.join()
        through.close()

    try:
        writer = CaptureWriter(pipe, through.port, live=True)
        taps.append(writer)
        source = Source(begin, "the line is closed", close=close, take_left_out=pipe.take_left_out, news=news)
        serving.start()
    except BaseException:  # such as no memory for a thread
        pipe.close()
        through.close()
        raise
    return source, through
