"""Programs that stand in for flashers: they note what they are given, and then do as they are told."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

SUCCEED = "pass"
FAIL = "print('probe found'); print('no target \\x1b[2J', file=sys.stderr); sys.exit(3)"
HANG = "print('waiting for a probe', flush=True); time.sleep(600)"
LEAVE = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
HANG_WITH_ANOTHER = (
    "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print(other.pid, file=open(note + '.pid', 'w'), flush=True); other.wait()"
)

_PROGRAM = """#!{python} -IS
import json, subprocess, sys, time
note = {note!r}
with open(note, "w") as file:
    json.dump(sys.argv[1:], file)
{deed}
"""


class FakeTools:
    """A directory of such programs, which is to be all of PATH."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)

    def add(self, name: str, deed: str = SUCCEED) -> None:
        """Add a program."""
        path = self.directory / name
        path.write_text(_PROGRAM.format(python=sys.executable, note=str(self._note(name)), deed=deed))
        path.chmod(0o755)

    def words(self, name: str) -> list[str]:
        """Give what a program was given, without its own name."""
        words: list[str] = json.loads(self._note(name).read_text())
        return words

    def was_run(self, name: str) -> bool:
        """Whether a program has begun."""
        return self._note(name).exists()

    def pid_of_another(self, name: str) -> int:
        """Give the id of the process that a program with HANG_WITH_ANOTHER has started, once it has."""
        path = Path(f"{self._note(name)}.pid")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if path.exists() and path.read_text().endswith("\n"):
                return int(path.read_text())
            time.sleep(0.02)
        raise AssertionError(f"{name} started nothing")

    def _note(self, name: str) -> Path:
        return self.directory / f"{name}.note"


def is_running(pid: int) -> bool:
    """Whether a process runs: one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid: int) -> None:
    """Wait for the end of a process, which must come."""
    deadline = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)
