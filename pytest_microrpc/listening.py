"""What hears the line of a test: for its report the last frames in words, for a capture all bytes."""

from __future__ import annotations

import contextlib
import hashlib
import re
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from microrpc.boards.files import replacing
from microrpc.capture.pcapng import interface_block, packet_block, section_header
from microrpc.capture.trace import Trace

KEEP_FRAMES = 30
"""How many frames a report has."""

_NOTE = struct.Struct("<d?I")
_MOST_BYTES_IN_MEMORY = 1 << 20
_LONGEST_NAME = 150
_PLAIN = re.compile(r"([\w-]+/)*[\w-]+\.py(::\w+)+", re.ASCII)


class Listener:
    """A tap of the port `name`.

    captures: all bytes are kept until the next test begins, in memory and beyond 1 MiB in a file without a name. They
    are put into packets where they are saved: most tests pass, and pay for nothing else.
    """

    def __init__(self, name: str, *, captures: bool) -> None:
        self.trace = Trace(keep_frames=KEEP_FRAMES)
        self.name = name
        self._captures = captures
        self._spool: IO[bytes] | None = None
        self._begun_ns = 0

    def begin(self) -> None:
        """Forget what was heard so far: a test begins."""
        self.trace.clear()
        self.end()

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        """See `microrpc.connecting.wrap.Tap`."""
        self.trace.note(time_s, data, to_board=to_board)
        if self._captures:
            if self._spool is None:
                spool = tempfile.SpooledTemporaryFile(_MOST_BYTES_IN_MEMORY)  # noqa: SIM115 - closed by `end`
                self._spool, self._begun_ns = cast("IO[bytes]", spool), time.time_ns()
            self._spool.write(_NOTE.pack(time_s, to_board, len(data)) + data)

    def save(self, path: Path) -> None:
        """Write what was heard since the test began, as pcapng, into a directory that is there. Raises WriteError."""
        if not self._captures:
            return
        offset_ns: int | None = None
        with replacing(path) as file:
            file.write(section_header() + interface_block(self.name))
            for time_s, to_board, data in self._notes():
                if offset_ns is None:
                    offset_ns = self._begun_ns - round(time_s * 1e9)
                file.write(packet_block(round(time_s * 1e9) + offset_ns, data, to_board=to_board))

    def end(self) -> None:
        """Drop the bytes that were kept."""
        spool, self._spool = self._spool, None
        if spool is not None:
            with contextlib.suppress(OSError):
                spool.close()

    def _notes(self) -> Iterator[tuple[float, bool, bytes]]:
        if self._spool is not None:
            self._spool.seek(0)
            while head := self._spool.read(_NOTE.size):
                time_s, to_board, size_bytes = _NOTE.unpack(head)
                yield time_s, to_board, self._spool.read(size_bytes)


def capture_name(nodeid: str) -> str:
    """Give the name of a test's capture, the same in each run and no other test's.

    What every file system takes is left as it is; where more stands in the node's id, or it is long, a hash follows.
    """
    name = re.sub(r"[^\w.-]+", "_", nodeid.replace("::", ".").replace("/", "."), flags=re.ASCII)
    if _PLAIN.fullmatch(nodeid) is None or len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME].strip('_.')}-{hashlib.sha256(nodeid.encode(errors='replace')).hexdigest()[:8]}"
    return f"{name}.pcapng"
