"""Running the commands in this process."""

from __future__ import annotations

import json
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


Change = Callable[[Device], object]


def change_board(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """Let `change` be done to every simulated board."""
    original = firmware_sim.running.simulate.simulate

    def simulate(profile: BoardProfile, **options: Any) -> Device:
        device = original(profile, **options)
        change(device)
        return device

    monkeypatch.setattr(firmware_sim.running.simulate, "simulate", simulate)
