"""The files that a client uploads: kept in memory, for its session alone (docs/tvm_serve.md)."""

from __future__ import annotations

from microrpc.gateway.shared import RefusedError
from microrpc.wire.checks import show

MOST_FILE_BYTES = 1 << 26
"""What the files of one session may take together: 64 MiB."""
_MOST_FILES = 256
_MOST_NAME_CHARACTERS = 4096


class Files:
    """What one client uploaded, by name. A name is a key, never a path: nothing is written to a disk.

    Raises RefusedError for what is too much, and for a name that is not there.
    """

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        """Keep a file; one of that name is replaced."""
        kept_bytes = sum(len(one) for known, one in self._files.items() if known != name)
        if kept_bytes + len(data) > MOST_FILE_BYTES:
            raise RefusedError(
                f"upload: {show(name)} has {len(data)} bytes, this session has {kept_bytes} in other files, and "
                f"{MOST_FILE_BYTES} are the most: remove some"
            )
        if name not in self._files and len(self._files) >= _MOST_FILES:
            raise RefusedError(f"upload: this session has {_MOST_FILES} files already: remove some")
        if len(name) > _MOST_NAME_CHARACTERS:
            raise RefusedError(f"upload: a name has at most {_MOST_NAME_CHARACTERS} characters, not {len(name)}")
        self._files[name] = bytes(data)

    def get(self, name: str, wish: str) -> bytes:
        """Give a file; `wish` is what it is wanted for, for the error."""
        data = self._files.get(name)
        if data is None:
            known = ", ".join(map(show, self.names())) or "nothing"
            raise RefusedError(f"{wish}: this session has no file {show(name)}: upload it first. There is: {known}")
        return data

    def remove(self, name: str) -> None:
        """Forget a file; one that is not there is none, as clients remove what a stock server would have made."""
        self._files.pop(name, None)

    def names(self) -> list[str]:
        """Give the names of all."""
        return sorted(self._files)
