"""`microrpc sim`: a simulated board that any program can open as a serial port."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from microrpc.cli.common import BoardOption, find_profile, is_terminal, reporting, say

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class _StoppedError(Exception):
    """A signal asked for the end."""


def sim(
    board: BoardOption = None,
    link: Annotated[
        Path | None,
        typer.Option("--link", metavar="PATH", help="Make this symbolic link to it, for a path that stays the same."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Seed of the board's nonces and of random_fill.")
    ] = 0,
) -> None:
    """Serve a simulated board on a pty until Ctrl-C.

    The first line on stdout is the path to open; where stdout is no terminal it is nothing but the path.
    The board has demonstration functions: add, fadd, echo_str, reverse, relu_f32, matmul_f32, sleep_ms, log, fail, ...
    """
    with reporting(), contextlib.suppress(_StoppedError), _until_signal():
        from firmware_sim.serve import PtyServer
        from firmware_sim.simulate import simulate

        profile = find_profile(board)
        server = PtyServer(simulate(profile, seed=seed), link=link)
        try:
            on_terminal = is_terminal(sys.stdout)
            say(f"A simulated {profile.name} is on {server.path} until Ctrl-C." if on_terminal else server.path)
            say(f"Try: microrpc info {server.path}")
            sys.stdout.flush()
            server.run()
        finally:
            server.close()
            if is_terminal(sys.stdout):
                say(f"\nIt received {server.device.stats.frames_received} frames.")


@contextlib.contextmanager
def _until_signal() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP raise _StoppedError, once, so that the clean-up is not interrupted too."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise _StoppedError

    before = {each: signal.signal(each, stop) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
