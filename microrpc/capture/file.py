"""One capture, of one line or of several: what `CaptureWriter` writes to (docs/capture.md)."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import Self, TypeAlias

from microrpc.capture.files import Writable, open_sink
from microrpc.capture.pcapng import interface_block, section_header
from microrpc.errors import CaptureError, reason_of

_log = logging.getLogger("microrpc.capture")

Target: TypeAlias = str | os.PathLike[str] | Writable
"""The path of a file or of a named pipe, "-" for stdout, or a stream that takes bytes and stays open."""


def _why(error: Exception) -> str:
    return reason_of(error) if isinstance(error, OSError) else str(error) or type(error).__name__


class CaptureFile:
    """A capture that is begun, for connections that come one after the other, or at once.

        with CaptureFile("x.pcapng") as file:
            first = microrpc.connect("/dev/ttyACM0", capture=file)
            second = microrpc.connect("/dev/ttyACM1", capture=file)

    Lines are told apart by their names; a second one of a name that is open has a number behind it. What cannot be
    written ends the capture, with one warning to the logger "microrpc.capture"; a reader of a pipe that goes away ends
    it quietly. Thread-safe. A fork of the process that opened it writes nothing. Raises CaptureError where it cannot
    begin.
    """

    def __init__(self, target: Target) -> None:
        self._sink = open_sink(target)
        self._name = os.fspath(target) if isinstance(target, (str, os.PathLike)) else "the capture"
        self._interfaces: dict[str, int] = {}
        self._open: set[int] = set()  # those of lines that are written now
        self._lock = threading.Lock()
        self._pid = os.getpid()  # a fork has a copy, which is not to write
        self.is_over = False
        """Whether nothing is written any more."""
        self.is_live = self._sink.is_live
        """Whether somebody reads along."""
        try:
            self._sink.write(section_header())
        except BaseException as error:
            self._sink.close()
            if isinstance(error, Exception):
                raise CaptureError(f"cannot write to {self._name}: {_why(error)}") from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_ours(self) -> bool:
        """Whether this process opened it."""
        return os.getpid() == self._pid

    def interface(self, name: str) -> int:
        """Give the number of a line, which is introduced where it is new; it is the caller's until `release`.

        Raises CaptureError in a fork of the process that opened the file: both would write over each other.
        """
        if not self.is_ours:
            text = "was opened by another process, of which this is a fork: give it a capture of its own"
            raise CaptureError(f"{self._name} {text}")
        with self._lock:
            told, count = name, 1
            while (number := self._interfaces.get(told)) in self._open:  # two lines of one name would be read as one
                count += 1
                told = f"{name} ({count})"
            if number is None:
                number = self._interfaces[told] = len(self._interfaces)
                self._write(interface_block(told))
            self._open.add(number)
            return number

    def release(self, number: int) -> None:
        """Let the next line of that name go on with it."""
        with self._lock:
            self._open.discard(number)

    def write(self, blocks: bytes) -> None:
        """Write whole blocks."""
        if self.is_ours:  # asked without the lock, which a thread may have had that the fork is without
            with self._lock:
                self._write(blocks)

    def _write(self, blocks: bytes) -> None:
        if self.is_over:
            return
        try:
            self._sink.write(blocks)
        except BrokenPipeError:
            _log.info("%s: whoever read it has gone", self._name)
            self._end()
        except Exception as error:  # a stream of the program's own raises what it likes, and no request is to end of it
            how = "and what is in it is whole" if self._sink.ends_whole else "and its last packet may be cut short"
            _log.warning("%s: the capture ends here, %s: %s", self._name, how, _why(error))
            self._end()

    def _end(self) -> None:
        self.is_over = True
        with contextlib.suppress(OSError):
            self._sink.close()

    def close(self) -> None:
        """Close what was opened for it. Closing twice is fine; what is written after that is dropped."""
        if not self.is_ours:
            self._end()
            return
        with self._lock:
            if not self.is_over and self._sink.is_removed():
                _log.warning("%s: it was removed while it was written, and nothing is left of it", self._name)
            self._end()
