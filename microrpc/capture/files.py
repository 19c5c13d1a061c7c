"""Where a capture is written to: a file, a pipe, or a stream that the program has open.

What is written is there at once, and whole: each block is handed to the system by itself, so that a program that is
killed, or a disk that is full, leaves a file of whole blocks. A pipe or a stream may have taken a part of the last one.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import stat
import time
from typing import Final, Protocol

from microrpc.capture.pcapng import SECTION_MAGIC, is_start_of_pcap, whole_bytes
from microrpc.errors import CaptureError, reason_of

STDOUT: Final = "-"
"""The name of what this program prints to."""
READER_S: Final = 10.0
"""How long it is waited for the reader of a named pipe, in seconds."""
PATIENCE_S: Final = 2.0
"""How long a reader of a pipe may take none of it, in seconds."""
_PIECE_BYTES = getattr(select, "PIPE_BUF", 512)  # what a pipe that is writable has room for at least
_POLL_S = 0.02


class Writable(Protocol):
    """A stream of bytes of the program's own; where it has `flush`, that is called after each write."""

    def write(self, data: memoryview, /) -> int | None:
        """Take bytes; give how many, None for all."""


class Sink(Protocol):
    """What takes blocks."""

    is_live: bool
    """Whether somebody reads along."""
    ends_whole: bool
    """Whether there is no part of a block in it when a write has failed."""

    def write(self, blocks: bytes) -> None:
        """Take whole blocks, and hand them on at once. Raises OSError."""

    def is_removed(self) -> bool:
        """Whether it has no name any more, so that nobody will find it."""

    def close(self) -> None:
        """Let go of it. Closing twice is fine."""


def open_sink(target: str | os.PathLike[str] | Writable) -> Sink:
    """Open what a capture goes to: the path of a file or of a named pipe, "-" for stdout, or a stream.

    A file that is there is replaced if it is empty or a capture; every other is left alone. The reader of a named pipe
    is waited for, at most `READER_S`. Raises CaptureError.
    """
    if not isinstance(target, (str, os.PathLike)):
        if not callable(getattr(target, "write", None)):
            raise CaptureError(f"a capture goes to a path or to a stream of bytes, not to {type(target).__name__}")
        return _Stream(target)
    path = os.fspath(target)
    if path == STDOUT:
        return _stdout()
    try:
        return _open_path(path)
    except OSError as error:
        raise CaptureError(f"cannot write the capture {path}: {reason_of(error)}") from error


def _stdout() -> Sink:
    if os.isatty(1):
        raise CaptureError("a capture is no text for a terminal: send stdout to a file or a program")
    fd = os.dup(1)
    return _File(fd) if stat.S_ISREG(os.fstat(fd).st_mode) else _Pipe(fd)


def _open_path(path: str) -> Sink:
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, "it is a directory")
        if stat.S_ISFIFO(mode):
            return _Pipe(_open_fifo(path))
        if not stat.S_ISREG(mode):
            return _Pipe(os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0)))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    try:
        _lock(fd)
        begin = os.read(fd, len(SECTION_MAGIC))
        if begin and not is_start_of_pcap(begin):
            raise OSError(
                errno.EEXIST, "there is a file already, and it is no capture: give another name, or remove it"
            )
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return _File(fd)


def _open_fifo(path: str) -> int:
    deadline = time.monotonic() + READER_S
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        if time.monotonic() > deadline:
            raise OSError(errno.ENXIO, f"nobody has read this pipe for {READER_S:g} s: start its reader first")
        time.sleep(_POLL_S)


def _lock(fd: int) -> None:
    """Keep a second capture out of a file, where the system can: they would write over each other."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(errno.EBUSY, "another capture is written to it") from None
    except OSError:  # a file system that has no locks
        return


class _Descriptor:
    """What the system has open for a capture."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        """See `Sink`."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class _File(_Descriptor):
    """A regular file: it ends with a whole block whatever happens."""

    is_live = False
    ends_whole = True

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._size = os.lseek(fd, 0, os.SEEK_CUR)

    def write(self, blocks: bytes) -> None:
        """See `Sink`."""
        written = 0
        try:
            while written < len(blocks):
                written += os.write(self._fd, blocks[written:] if written else blocks)
        except BaseException:
            self._size += whole_bytes(blocks, written)
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
                os.lseek(self._fd, self._size, os.SEEK_SET)
            raise
        self._size += written

    def is_removed(self) -> bool:
        """See `Sink`."""
        return self._fd >= 0 and os.fstat(self._fd).st_nlink == 0


class _Pipe(_Descriptor):
    """A pipe, or whatever may keep its writer waiting: it does so for `PATIENCE_S` at most."""

    is_live = True
    ends_whole = False

    def _is_writable(self) -> bool:
        if not hasattr(select, "poll"):  # Windows, which can only try
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(PATIENCE_S * 1000))

    def write(self, blocks: bytes) -> None:
        """See `Sink`. Raises TimeoutError, too."""
        at = 0
        while at < len(blocks):
            if not self._is_writable():
                raise TimeoutError(errno.ETIMEDOUT, f"whoever reads it took nothing for {PATIENCE_S:g} s")
            with contextlib.suppress(BlockingIOError):
                at += os.write(self._fd, blocks[at : at + _PIECE_BYTES])

    def is_removed(self) -> bool:
        """See `Sink`."""
        return False


class _Stream:
    """A stream of the program's own, which stays open; what it cannot take it may wait for as it likes."""

    is_live = False
    ends_whole = False

    def __init__(self, stream: Writable) -> None:
        self._stream = stream

    def write(self, blocks: bytes) -> None:
        """See `Sink`. Raises what the stream does: TypeError if it is of text, ValueError if it was closed."""
        left = memoryview(blocks)
        while left:
            taken = self._stream.write(left)
            if taken is None and not isinstance(self._stream, io.RawIOBase):  # of which it means: nothing, for now
                break
            if not isinstance(taken, int) or not 0 < taken <= len(left):
                raise OSError(errno.EIO, f"the stream's write gave {taken!r} for {len(left)} bytes")
            left = left[taken:]
        flush = getattr(self._stream, "flush", None)
        if flush is not None:
            flush()

    def is_removed(self) -> bool:
        """See `Sink`."""
        return False

    def close(self) -> None:
        """Leave it as it is."""
