"""What hears the line of a test: for its report the last frames in words, for a capture all bytes."""

from __future__ import annotations

import contextlib
import hashlib
import re
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from microrpc.boards.files import WriteError, replacing
from microrpc.capture.trace import Trace
from microrpc.capture.writer import CaptureWriter
from microrpc.errors import reason_of

KEEP_FRAMES = 30
"""How many frames a report has."""

_FROM_BOARD, _TO_BOARD, _LOST, _OPENED, _COMMENT = range(5)
_NOTE = struct.Struct("<BdI")  # what it is, when it was, and how many bytes follow
_MOST_BYTES_IN_MEMORY = 1 << 20
_LONGEST_NAME = 150
_PLAIN = re.compile(r"([\w-]+/)*[\w-]+\.py(::\w+)+", re.ASCII)


class Listener:
    """A tap of the port `name`, with a `trace` of it.

    captures: all bytes are kept until the next test begins, in memory and beyond 1 MiB in a file without a name. They
    are put into packets where they are saved: most tests pass, and pay for nothing else.
    """

    def __init__(self, name: str, *, captures: bool) -> None:
        self.trace = Trace(keep_frames=KEEP_FRAMES)
        """The last frames, in words."""
        self.name = name
        self._captures = captures
        self._spool: IO[bytes] | None = None
        self._keeping = threading.Lock()
        self._begun_ns = 0
        self._failure: OSError | None = None

    def begin(self) -> None:
        """Forget what was heard so far: a test begins."""
        self.trace.clear()
        self.end()

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        """See `microrpc.connecting.wrap.Tap`."""
        self.trace.note(time_s, data, to_board=to_board)
        self._keep(_TO_BOARD if to_board else _FROM_BOARD, time_s, data)

    def port_lost(self, time_s: float) -> None:
        """See `microrpc.connecting.wrap.Tap`."""
        self._keep(_LOST, time_s)

    def port_opened(self, time_s: float) -> None:
        """See `microrpc.connecting.wrap.Tap`."""
        self._keep(_OPENED, time_s)

    def comment(self, text: str) -> None:
        """See `microrpc.connecting.wrap.Tap`."""
        self._keep(_COMMENT, 0.0, text.encode(errors="replace"))

    def _keep(self, kind: int, time_s: float, data: bytes = b"") -> None:
        if self._captures and self._failure is None:
            with self._keeping:  # what a line does to the bytes is told by its own thread
                if self._spool is None:
                    spool = tempfile.SpooledTemporaryFile(_MOST_BYTES_IN_MEMORY)  # noqa: SIM115 - closed by `end`
                    self._spool = cast("IO[bytes]", spool)
                if not self._begun_ns and kind in (_TO_BOARD, _FROM_BOARD):
                    self._begun_ns = time.time_ns()
                try:
                    self._spool.write(_NOTE.pack(kind, time_s, len(data)) + data)
                except OSError as error:  # such as a full disk: no capture, but the test goes on
                    self._failure = error

    def save(self, path: Path) -> None:
        """Write what was heard since the test began, as pcapng, into a directory that is there. Raises WriteError."""
        if not self._captures:
            return
        if self._failure is not None:
            raise WriteError(f"cannot keep what crosses the line: {reason_of(self._failure)}")
        start_ns = self._begun_ns or None
        with self._keeping, replacing(path) as file, CaptureWriter(file, self.name, start_ns=start_ns) as writer:
            for kind, time_s, data in self._kept():
                if kind == _COMMENT:
                    writer.comment(data.decode())
                elif kind == _LOST:
                    writer.port_lost(time_s)
                elif kind == _OPENED:
                    writer.port_opened(time_s)
                else:
                    writer.note(time_s, data, to_board=kind == _TO_BOARD)

    def end(self) -> None:
        """Drop the bytes that were kept."""
        with self._keeping:
            spool, self._spool, self._begun_ns, self._failure = self._spool, None, 0, None
        if spool is not None:
            with contextlib.suppress(OSError):
                spool.close()

    def _kept(self) -> Iterator[tuple[int, float, bytes]]:
        if self._spool is not None:
            self._spool.seek(0)
            while head := self._spool.read(_NOTE.size):
                kind, time_s, size_bytes = _NOTE.unpack(head)
                yield kind, time_s, self._spool.read(size_bytes)


def capture_name(nodeid: str) -> str:
    """Give the name of a test's capture, the same in each run and no other test's.

    What every file system takes is left as it is; where more stands in the node's id, or it is long, a hash follows.
    """
    name = re.sub(r"[^\w.-]+", "_", nodeid.replace("::", ".").replace("/", "."), flags=re.ASCII)
    if _PLAIN.fullmatch(nodeid) is None or len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME].strip('_.')}-{hashlib.sha256(nodeid.encode(errors='replace')).hexdigest()[:8]}"
    return f"{name}.pcapng"
