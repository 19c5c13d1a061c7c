"""`microrpc demo`: the whole of it on a simulated or emulated board, and everything that is shown is checked."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microrpc.cli.capturing import capture
from microrpc.cli.common import (
    BoardFileOption,
    BoardOption,
    ExitCode,
    JsonOption,
    find_profile,
    format_time,
    print_json,
    reporting,
)
from microrpc.cli.demo.screen import Screen
from microrpc.cli.figures import stats_pairs
from microrpc.cli.telling import with_telling

if TYPE_CHECKING:
    from firmware_sim.board.device import Device
    from firmware_sim.line.uart import UartLine
    from microrpc.boards.schema import BoardProfile
    from microrpc.connecting.openers import Opened
    from microrpc.ports.channel import Channel

_TERMINAL_BAUD = 921600


@with_telling
def demo(
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: Annotated[
        int | None,
        typer.Option(
            "--baud",
            metavar="N",
            min=0,
            help="Put the board on a UART of N bits a second; 0: on a line without length. "
            f"[default: {_TERMINAL_BAUD} on a terminal, else 0]",
        ),
    ] = None,
    real_time: Annotated[
        bool, typer.Option("--real-time", help="Put the board on the UART that it really has, as its profile says.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Show all of it, not one screen: each check, the frames.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show it all on a simulated board, each step checked.

    Or on an emulated one, whose firmware is built first. Then the same, on a simulated board, on a line that flips
    bits, with a reset: what was lost, what repeated.

    Everything is checked: it exits with 1, and names what differs, unless all is as it should be.
    """
    with reporting(as_json=as_json):
        from microrpc.connecting.address import is_started_here

        profile = find_profile(board, board_file=board_file)
        if is_started_here(profile) and (baud or real_time):
            raise typer.BadParameter(
                f"{profile.name} is emulated, on no UART that could be slow: no --baud, --real-time"
            )
        screen = Screen(is_silent=as_json, is_full=full)
        if real_time:
            if baud is not None:
                raise typer.BadParameter("--baud and --real-time: give one of them")
            baud = profile.baud
        elif is_started_here(profile):
            baud = baud or 0
        elif baud is None:
            baud = _TERMINAL_BAUD if screen.is_live else 0
        figures = _run(profile, baud, screen)
        failed = [check for check in screen.checks if not check.holds]
        if as_json:
            checks = [{"name": check.name, "ok": check.holds, "shown": check.shown} for check in screen.checks]
            print_json({"ok": not failed, "board": profile.name, **figures, "checks": checks})
        elif failed:
            screen.failed(f"{len(failed)} of {len(screen.checks)} checks fail: " + "; ".join(c.name for c in failed))
        else:
            frames = figures["frames_sent"] + figures["frames_received"]
            size_bytes = figures["bytes_sent"] + figures["bytes_received"]
            passed = f"all {len(screen.checks)} checks hold; {frames} frames, {size_bytes} bytes in"
            more = "" if full else "; --full shows them"
            screen.passed(f"{passed} {format_time(figures['seconds'])}{more}")
        if failed:
            raise typer.Exit(ExitCode.DIFFERS)


def _run(profile: BoardProfile, baud: int, screen: Screen) -> dict[str, Any]:
    """Bring a board up, show everything; give the figures that --json has."""
    from microrpc.capture.trace import Trace
    from microrpc.cli.demo.noise import show_noise
    from microrpc.cli.demo.parts import Parts
    from microrpc.cli.demo.talk import show_description, show_events, show_long_calls
    from microrpc.connecting.blocking import open_session
    from microrpc.connecting.wrap import tapped

    start = time.perf_counter()
    logs: list[str] = []
    trace = Trace()
    kind, opened, device = _open(profile, baud)
    with contextlib.closing(opened):
        screen.title("microrpc demo", f"{kind}, {profile.name}, on {opened.channel.name}")
        opening = time.perf_counter()
        with open_session(opened, profile.timeouts, logs.append, wrap=tapped(trace), capture=capture()) as board:
            opened_s = time.perf_counter() - opening
            show = Parts(profile, device, board, trace, logs, screen)
            show.handshake(opened_s)
            with show.part("What the board can do, and calls of it"):
                show_description(board, screen)
                show.functions()
            show.copies(baud)
            show.tensors()
            show.logs_and_errors()
            with show.part("Events, and functions that take long"):
                show_events(board, screen)
                show_long_calls(board, screen)
            show.memory()
            session_id = board.session_id
    stats = board.stats
    show.frames()
    screen.section("Statistics")
    for name, value in stats_pairs(stats):
        screen.row(name, value)
    noise = show_noise(profile, baud or _TERMINAL_BAUD, screen, is_other=device is None)
    taken_s = time.perf_counter() - start
    sent = sum(frame.to_board for frame in trace.frames)
    received = len(trace.frames) - sent
    return {
        "session_id": session_id,
        "frames_sent": sent,
        "frames_received": received,
        "bytes_sent": trace.bytes_to_board,
        "bytes_received": trace.bytes_to_host,
        **show.figures,
        "noise": noise,
        "stats": stats.as_dict(),
        "seconds": taken_s,
    }


def _open(profile: BoardProfile, baud: int) -> tuple[str, Opened[Channel], Device | None]:
    """Give what it is, the open channel to it, and for a simulated board its inside."""
    from microrpc.connecting.address import find_target, is_started_here
    from microrpc.connecting.openers import open_target

    if is_started_here(profile):
        return "an emulated board", open_target(find_target(None, board=profile, baud=None, timeouts=None)), None
    from microrpc.connecting.openers.sim import open_served

    device, line = _simulate(profile, baud)
    return "a simulated board", open_served(line or device, profile, baud=baud or None), device


def _simulate(profile: BoardProfile, baud: int) -> tuple[Device, UartLine | None]:
    from firmware_sim.board.clock import VirtualClock
    from firmware_sim.line.uart import UartLine
    from firmware_sim.running.simulate import simulate
    from microrpc.cli.demo.noise import line_of

    if not baud:
        return simulate(profile), None
    device = simulate(profile, clock=VirtualClock())
    return device, UartLine(device, line_of(profile, baud))
