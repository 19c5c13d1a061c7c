"""Running the commands in this process."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import firmware_sim.running.simulate
from firmware_sim.board.device import Device
from microrpc.boards.schema import BoardProfile
from microrpc.cli.commands import app


def run(*args: object) -> SimpleNamespace:
    """Run a command; give its exit code, its stdout and its stderr."""
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return SimpleNamespace(code=result.exit_code, out=result.stdout, err=result.stderr)


def run_json(*args: object) -> Any:
    """Run a command with --json that must succeed; give what it prints."""
    result = run(*args, "--json")
    assert (result.code, result.err) == (0, ""), result.out
    return json.loads(result.out)


def run_on_port(answer: bytes | None, *args: object) -> SimpleNamespace:
    """Run a command on a port, for the word PORT, that says `answer` again and again; None: what it is sent."""
    import tty  # which Windows has not

    master, line = os.openpty()
    tty.setraw(line)
    is_over = threading.Event()

    def answer_until_then() -> None:
        os.set_blocking(master, False)
        while not is_over.wait(0.05):
            with contextlib.suppress(BlockingIOError):
                heard = os.read(master, 4096)
                os.write(master, heard if answer is None else answer)

    thread = threading.Thread(target=answer_until_then)
    thread.start()
    try:
        return run(*(os.ttyname(line) if arg == "PORT" else arg for arg in args))
    finally:
        is_over.set()
        thread.join()
        os.close(line)
        os.close(master)


Change = Callable[[Device], object]


def change_board(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """Let `change` be done to every simulated board."""
    original = firmware_sim.running.simulate.simulate

    def simulate(profile: BoardProfile, **options: Any) -> Device:
        device = original(profile, **options)
        change(device)
        return device

    monkeypatch.setattr(firmware_sim.running.simulate, "simulate", simulate)
