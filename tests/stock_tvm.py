"""TVM's own programs and ours as processes of their own: a stock tracker, stock clients, and boards that are served.

Each is a context manager, and ends with all that it started, however the test ends.
"""

from __future__ import annotations

import ast
import contextlib
import os
import select
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
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


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


@contextlib.contextmanager
def served(*arguments: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `microrpc tvm serve` on a free port; give where clients connect, and the process."""
    command = [sys.executable, "-m", "microrpc.cli", "tvm", "serve", *map(str, arguments), "--listen", "127.0.0.1:0"]
    with running(command, stdout=subprocess.PIPE) as process:
        yield first_line(process), process


def first_line(process: subprocess.Popen[str], patience_s: float = PATIENCE_S) -> str:
    """Wait for the next line that a program prints."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], patience_s)
    assert ready, f"{process.args} said nothing in {patience_s} s"
    line = process.stdout.readline()
    assert line, f"{process.args} ended with {process.wait(timeout=PATIENCE_S)}"
    return line.rstrip("\n")


def check_client(python: str, address: str, *arguments: object, patience_s: float = 110.0) -> None:
    """Have a stock client make all its checks of a server; each that fails is told."""
    command = [python, str(CHECKS), address, *map(str, arguments)]
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        said, _ = client.communicate(timeout=patience_s)
    failed = [line for line in said.splitlines() if not line.startswith("ok ")]
    assert client.returncode == 0, "\n".join(failed)
    assert int(said.split(" checks, 0 failed")[0].split()[-1]) >= 60


class Client:
    """A stock client that does what it is told: `session` is its session, from `open`, and `address` where it is."""

    _PROGRAM = """
import sys, gc, traceback
import numpy as np, tvm
from tvm import rpc
address, tracker, key = sys.argv[1:]
def open(**options):
    host, _, port = (tracker or address).rpartition(":")
    if tracker:
        return rpc.connect_tracker(host, int(port)).request(key, **options)
    return rpc.connect(host, int(port), key, **options)
names = {"rpc": rpc, "np": np, "tvm": tvm, "gc": gc, "open": open}
print("'ready'", flush=True)
for line in sys.stdin:
    try:
        code = compile(eval(line), "order", "exec")
        names["result"] = None
        exec(code, names)
        print(ascii(names["result"]), flush=True)
    except Exception as error:
        print(ascii(f"{type(error).__name__}: {error}"), flush=True)
"""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert self.result() == "ready"

    @classmethod
    @contextlib.contextmanager
    def run(cls, address: str, *, tracker: int | None = None, key: str = "", python: str = "") -> Iterator[Client]:
        """Run one, for a server or a tracker."""
        at = f"127.0.0.1:{tracker}" if tracker is not None else ""
        command = [python or sys.executable, "-c", cls._PROGRAM, address, at, key]
        with running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            yield cls(process)

    def send(self, code: str) -> None:
        """Tell it what to do; `result` is what it then answers."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{code!r}\n")
        self.process.stdin.flush()

    def result(self, patience_s: float = PATIENCE_S) -> Any:
        """Give what the order made of the name `result`; of an error its class and text."""
        return ast.literal_eval(first_line(self.process, patience_s))

    def do(self, code: str) -> Any:
        """Both."""
        self.send(code)
        return self.result()
