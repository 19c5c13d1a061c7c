"""What boards told of themselves, kept in the user's cache by its hash (docs/functions.md), so that it is read once.

A file that cannot be written or read, or is damaged, is as good as none: nothing here raises. `MICRORPC_CACHE=off` in
the environment switches it off.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from urllib.parse import quote

from microrpc.boards.files import WriteError, read_whole, replacing
from microrpc.boards.places import cache_directory
from microrpc.errors import ProtocolError
from microrpc.wire.description import MOST_BYTES, Description, parse_description, parse_head

_SWITCH = "MICRORPC_CACHE"
_MOST_FILE_BYTES = 2 * MOST_BYTES
_MOST_FILES = 64  # of each kind: what was used last stays
_LONGEST_NAME = 200


class DescriptionCache:
    """Keeps descriptions by their hash, and notes which one the board on `port` has."""

    def __init__(self, port: str) -> None:
        self._port = port

    def load(self, hash: str) -> bytes | None:
        """Give what was kept, None where nothing was."""
        with _quietly():
            path = cache_directory("descriptions") / hash
            data = read_whole(path, _MOST_FILE_BYTES)
            os.utime(path)
            return data
        return None

    def keep(self, hash: str, data: bytes) -> None:
        """Keep a description. It waits for the disk, once for each firmware."""
        _write("descriptions", hash, data)

    def note(self, hash: str) -> None:
        """Take note that the board on the port has the description with this hash."""
        if self._noted() != hash:
            _write("ports", _file_name(self._port), hash.encode())

    def _noted(self) -> str:
        with _quietly():
            return read_whole(cache_directory("ports") / _file_name(self._port), 8).decode("ascii", "replace")
        return ""

    def last(self) -> Description | None:
        """Give what the board on the port told when it was last asked, None where that is not known."""
        noted = self._noted()
        data = self.load(noted) if noted.isalnum() else None
        with contextlib.suppress(ProtocolError):
            head = parse_head(data or b"")
            if data is not None and head is not None and head.hash == noted and head.fits(data):
                return parse_description(data, head)
        return None


def cache_for(port: str) -> DescriptionCache | None:
    """Give the cache for the board on `port`, None where it is switched off."""
    return None if os.environ.get(_SWITCH) == "off" else DescriptionCache(port)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    # A name may have characters that no path has.
    with contextlib.suppress(OSError, WriteError, ValueError):
        yield


def _file_name(port: str) -> str:
    return quote(port, safe="")[-_LONGEST_NAME:]


def _write(kind: str, name: str, data: bytes) -> None:
    with _quietly():
        directory = cache_directory(kind)
        directory.mkdir(parents=True, exist_ok=True)
        with replacing(directory / name) as file:
            file.write(data)
        by_age = sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in by_age[_MOST_FILES:]:
            path.unlink(missing_ok=True)
