"""TVM's own programs and ours as processes of their own: a stock tracker, stock clients, and boards that are served.

Each is a context manager, and ends with all that it started, however the test ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from microrpc.wire.tvm.tracker import MessageReader, encode_magic, encode_message

CHECKS = Path(__file__).parent / "tvm" / "client_checks.py"
PATIENCE_S = 30.0  # of a program that starts on a busy computer


def free_port() -> int:
    """Give a port of this computer that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def until(is_so: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: not in {patience_s} s"
        time.sleep(0.05)


@contextlib.contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program in a session of its own; in the end it is killed, with whatever it started."""
    process = subprocess.Popen(command, text=True, start_new_session=True, **options)
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a program of `running`, and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=PATIENCE_S)


class Tracker:
    """A connection to a tracker, as tools have it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._reader = MessageReader()
        self._socket.sendall(encode_magic())
        while not self._reader.has_magic:
            self._reader.feed(self._receive())

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _receive(self) -> bytes:
        data = self._socket.recv(4096)
        if not data:
            raise ConnectionError("the tracker closed the connection")
        return data

    def ask(self, message: Any) -> Any:
        """Say something; give the reply."""
        self._socket.sendall(encode_message(message))
        while not (replies := self._reader.feed(self._receive())):
            pass
        return replies[0]


def summary_of(port: int) -> dict[str, Any]:
    """Give the summary of the tracker at a port: {} while there is none."""
    try:
        with Tracker(port) as tracker:
            success, summary = tracker.ask([6])
    except OSError:
        return {}
    assert success == 0
    found: dict[str, Any] = summary
    return found


def servers_of(port: int) -> list[str]:
    """Give the keys of all boards that a tracker lists, sorted."""
    return sorted(server["key"].removeprefix("server:") for server in summary_of(port).get("server_info", []))


def free_of(port: int, key: str) -> int:
    """Give how many boards of a key a tracker has on offer."""
    count: int = summary_of(port).get("queue_info", {}).get(key, {"free": 0})["free"]
    return count


@contextlib.contextmanager
def stock_tracker(port: int = 0, python: str = sys.executable) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run TVM's tracker; give its port and process."""
    port = port or free_port()
    command = [python, "-m", "tvm.exec.rpc_tracker", "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with running([*command, "--port-end", str(port + 1)], **quiet) as process:
        until(lambda: summary_of(port), "the stock tracker answers")
        yield port, process
