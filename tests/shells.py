"""Typing into a real shell, on a terminal of its own."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_DEADLINE_S = 30.0
_STARTS = {
    "bash": ["bash", "--noprofile", "-i"],
    "zsh": ["zsh", "-i"],
    "fish": ["fish", "-i"],
}


class Shell:
    """A shell with the completion of `microrpc`, as a user has installed it into a home of their own."""

    def __init__(self, name: str, home: Path) -> None:
        self.name = name
        self._pid, self._port = pty.fork()
        if self._pid == 0:
            place = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            environ = {
                **os.environ,
                "HOME": str(home),
                "XDG_CONFIG_HOME": str(home / ".config"),
                "PATH": place,
                "TERM": "vt100",
                "COLUMNS": "200",
            }
            with contextlib.suppress(OSError):
                os.chdir(home)
                os.execvpe(_STARTS[name][0], _STARTS[name], environ)
            os._exit(1)
        self._typed = 0

    def close(self) -> None:
        """End it."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._port)

    def becomes(self, line: str) -> list[str]:
        """Type a line, in which \\t is the Tab key; give the words that it then consists of."""
        self._typed += 1
        mark = f"{self._typed}:"
        # At the end the line becomes the arguments of a command that shows them: Ctrl-A goes to its beginning.
        self._send(f"{line}\x01printf '{mark}'; printf '<%s>' \x05; printf '{mark[::-1]}'\n")
        shown = self._read_until(rf"(?<!'){re.escape(mark)}((?:<[^<>]*>)+){re.escape(mark[::-1])}")
        return re.findall(r"<([^<>]*)>", shown)

    def _send(self, text: str) -> None:
        os.write(self._port, text.encode())

    def _read_until(self, wanted: str) -> str:
        shown, until = "", time.monotonic() + _DEADLINE_S
        while (found := re.search(wanted, shown)) is None:
            left = until - time.monotonic()
            assert left > 0, f"{wanted} did not come; {shown!r}"
            if select.select([self._port], [], [], left)[0]:
                shown += os.read(self._port, 65536).decode(errors="replace")
        return found[1]


@contextlib.contextmanager
def shell(name: str, home: Path) -> Iterator[Shell]:
    """Give a shell that is ended afterwards."""
    running = Shell(name, home)
    try:
        yield running
    finally:
        running.close()
