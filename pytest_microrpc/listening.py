"""What hears the line of a test: for its report the last frames in words, for a capture all bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

from microrpc.boards.files import replacing
from microrpc.capture.trace import Trace
from microrpc.capture.writer import CaptureWriter

KEEP_FRAMES = 30
"""How many frames a report has."""

_MOST_BYTES_IN_MEMORY = 1 << 20
_LONGEST_NAME = 150
_PLAIN = re.compile(r"([\w-]+/)*[\w-]+\.py(::\w+)+", re.ASCII)


class Listener:
    """A tap. `name` is the port's; `now` reads the clock of its channels.

    captures: all bytes are kept, in memory and beyond 1 MiB in a file without a name, until the next test begins.
    """

    def __init__(self, name: str, now: Callable[[], float], *, captures: bool) -> None:
        self.trace = Trace(keep_frames=KEEP_FRAMES)
        self.name = name
        self._now = now
        self._captures = captures
        self._spool: IO[bytes] | None = None
        self._writer: CaptureWriter | None = None

    def begin(self) -> None:
        """Forget what was heard so far: a test begins."""
        self.trace.clear()
        self.end()
        if self._captures:
            self._spool = cast("IO[bytes]", tempfile.SpooledTemporaryFile(_MOST_BYTES_IN_MEMORY))
            self._writer = CaptureWriter(self._spool, self.name, now=self._now)

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        """See `microrpc.connecting.wrap.Tap`."""
        self.trace.note(time_s, data, to_board=to_board)
        if self._writer is not None:
            self._writer.note(time_s, data, to_board=to_board)

    def save(self, path: Path) -> None:
        """Write what was heard since the test began, as pcapng, into a directory that is there. Raises WriteError."""
        if self._writer is None or self._spool is None:
            return
        self._writer.flush()
        self._spool.seek(0)
        with replacing(path) as file:
            shutil.copyfileobj(self._spool, file)
        self._spool.seek(0, os.SEEK_END)

    def end(self) -> None:
        """Drop the bytes that were kept."""
        writer, self._writer, spool, self._spool = self._writer, None, self._spool, None
        if writer is not None:
            writer.close()
        if spool is not None:
            with contextlib.suppress(OSError):
                spool.close()


def capture_name(nodeid: str) -> str:
    """Give the name of a test's capture, the same in each run and no other test's.

    What every file system takes is left as it is; where more stands in the node's id, or it is long, a hash follows.
    """
    name = re.sub(r"[^\w.-]+", "_", nodeid.replace("::", ".").replace("/", "."), flags=re.ASCII)
    if _PLAIN.fullmatch(nodeid) is None or len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME].strip('_.')}-{hashlib.sha256(nodeid.encode(errors='replace')).hexdigest()[:8]}"
    return f"{name}.pcapng"
