"""The other processes of these measurements: stock programs of TVM, and the gateway."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.environment import MissingError
from benchmarks.processes import ROOT

DEFAULT_PYTHON = ROOT / "build" / "tvm-0.27" / "bin" / "python"
"""Of the environment that `make bench ARGS=tvm` makes."""
_IMPORT_S = 60.0
_ANSWER_S = 120.0
_RUN_S = 600.0


def find(python: Path) -> str:
    """Give the interpreter that has TVM. Raises MissingError, which says what makes one."""
    if not python.exists():
        raise MissingError(f"TVM is not there: {python} is no interpreter; `make bench ARGS=tvm` installs it")
    command = [str(python), "-c", "from microrpc.firmware.tvm.versions import check_versions; check_versions()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_IMPORT_S, check=False)
    if done.returncode:
        raise MissingError(f"TVM is not there: {_last_line(done.stderr)}")
    return str(python)


def run(python: str, *args: str) -> str:
    """Run a program of TVM's environment to its end; give what it printed. Raises WorkerError."""
    try:
        done = subprocess.run([python, *args], cwd=ROOT, capture_output=True, text=True, timeout=_RUN_S, check=False)
    except subprocess.TimeoutExpired:
        raise WorkerError(f"{args[0]} took more than {_RUN_S:g} s") from None
    if done.returncode:
        raise WorkerError(_last_line(done.stderr) or f"{args[0]} ended with {done.returncode}")
    return done.stdout


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


class WorkerError(Exception):
    """Why a process of a measurement did not do its part."""


class Worker:
    """A process that answers each line of JSON with one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def line(self, patience_s: float = _ANSWER_S) -> str:
        """Give the next line that it prints. Raises WorkerError."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], patience_s)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            raise WorkerError(f"{self._process.args!r} {'ended' if ready else f'said nothing in {patience_s:g} s'}")
        return line.rstrip("\n")

    def ask(self, **what: Any) -> Any:
        """Have it do something; give its answer. Raises WorkerError."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return json.loads(self.line())


@contextlib.contextmanager
def worker(python: str, *args: str) -> Iterator[Worker]:
    """Run a program with pipes; in the end it is told to end, and killed where it does not."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([python, *args], cwd=ROOT, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield Worker(process)
        finally:
            process.stdin.close()
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def gateway(port: str) -> Iterator[str]:
    """Run `microrpc tvm serve` in front of a board; give where clients connect, as HOST:PORT."""
    with worker(sys.executable, "-m", "microrpc.cli", "tvm", "serve", port, "--listen", "127.0.0.1:0") as serving:
        yield serving.line()


@contextlib.contextmanager
def stock_server(python: str) -> Iterator[str]:
    """Run TVM's own RPC server; give where clients connect."""
    with worker(python, "-m", "benchmarks.tvm.stock_server") as serving:
        yield f"127.0.0.1:{serving.line()}"


@contextlib.contextmanager
def stock_client(python: str, **servers: str) -> Iterator[Worker]:
    """Run a client of TVM with a session at each server, by name: see `benchmarks.tvm.stock_client`."""
    named = [f"{name}={address}" for name, address in servers.items()]
    with worker(python, "-m", "benchmarks.tvm.stock_client", *named) as client:
        if client.line() != "ready":
            raise WorkerError("the client of TVM did not start")
        yield client
