"""`microrpc sim`: a simulated board that any program can open as a serial port."""

from __future__ import annotations

import contextlib
import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microrpc.cli.addresses import parse_address, warn_of_others
from microrpc.cli.capturing import capture
from microrpc.cli.common import BoardFileOption, BoardOption, find_profile, is_terminal, reporting
from microrpc.cli.signals import StoppedError, until_signal
from microrpc.cli.streams import note, say
from microrpc.cli.telling import with_telling
from microrpc.errors import FaultsError, counted

if TYPE_CHECKING:
    from firmware_sim.line.faults import Faults
    from firmware_sim.line.uart import UartLine
    from firmware_sim.running.ports import SimulatedBoard
    from firmware_sim.running.server import PtyServer, TcpServer
    from microrpc.connecting.watching import Watch

_FIRMWARES = ("robust", "stock")
_log = logging.getLogger("microrpc.connection")


@with_telling
def sim(
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    link: Annotated[
        Path | None,
        typer.Option("--link", metavar="PATH", help="Make this symbolic link to it, for a path that stays the same."),
    ] = None,
    tcp: Annotated[
        str | None,
        typer.Option("--tcp", metavar="[HOST:]PORT", help="Serve on a TCP port, not on a pty. [HOST: 127.0.0.1]"),
    ] = None,
    real_time: Annotated[
        bool, typer.Option("--real-time", help="As slow as the board's line, and as forgetful as its receive ring.")
    ] = False,
    firmware: Annotated[
        str, typer.Option("--firmware", metavar="KIND", help="robust, or stock: with the failings of the C runtime.")
    ] = "robust",
    faults: Annotated[
        Path | None,
        typer.Option("--faults", metavar="FILE", help="What goes wrong, a .toml file; implies --real-time."),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="FAULT", help="One thing that goes wrong; may be given again."),
    ] = None,
    fault_seed: Annotated[
        int | None, typer.Option("--fault-seed", metavar="N", help="Where faults with a rate strike. [default: 0]")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Seed of the board's nonces and of random_fill.")
    ] = 0,
) -> None:
    """Serve a simulated board until Ctrl-C, on a pty or a TCP port.

    The first line on stdout is what to open; where stdout is no terminal it is nothing else.
    The board has demonstration functions: add, fadd, echo_str, reverse, relu_f32, matmul_f32, sleep_ms, log, fail, ...
    """
    with reporting(), contextlib.suppress(StoppedError), until_signal():
        if tcp is not None and link is not None:
            raise typer.BadParameter("--tcp and --link: a link is made to a pty; give one of them")
        if firmware not in _FIRMWARES:
            raise typer.BadParameter(f"--firmware {firmware}: must be {' or '.join(_FIRMWARES)}")
        from firmware_sim.board.clock import VirtualClock
        from firmware_sim.board.device import Firmware
        from firmware_sim.line.uart import UartLine
        from firmware_sim.running.simulate import simulate, uart_of

        profile = find_profile(board, board_file=board_file)
        wrong = _read_faults(faults, fault or [], fault_seed)
        kind, line = Firmware(firmware), None
        if real_time or wrong.faults:
            device = simulate(profile, seed=seed, firmware=kind, clock=VirtualClock())
            line = UartLine(device, uart_of(profile), wrong)
        else:
            device = simulate(profile, seed=seed, firmware=kind)
        server = _serve(line or device, link, tcp)
        try:
            speed = f"as slow as its line, {profile.baud} baud" if line is not None else "as fast as it can answer"
            _log.info("%s: a simulated %s, %s", server.path, profile.name, speed)
            with contextlib.closing(_watched(server)):
                _announce(server, profile.name, wrong)
                server.run()
        finally:
            server.close()
            _log.info("%s: closed; it received %d frames", server.path, server.device.stats.frames_received)
            if is_terminal(sys.stdout):
                say(f"\nIt received {counted(server.device.stats.frames_received, 'frame')}.{_losses(line)}")


def _read_faults(path: Path | None, lines: list[str], seed: int | None) -> Faults:
    from firmware_sim.line.fault_files import load_faults, parse_fault
    from firmware_sim.line.faults import Faults

    given = load_faults(path, seed=seed) if path is not None else Faults(seed=seed or 0)
    all_faults = Faults([*given.faults, *map(parse_fault, lines)], given.seed)
    if seed is not None and not all_faults.faults:
        raise FaultsError("--fault-seed: there are no faults to seed; give --fault or --faults")
    return all_faults


def _serve(board: SimulatedBoard, link: Path | None, tcp: str | None) -> PtyServer | TcpServer:
    from firmware_sim.running.server import PtyServer, TcpServer

    if tcp is None:
        return PtyServer(board, link=link)
    host, number = parse_address(tcp, "--tcp", "127.0.0.1:5000")
    warn_of_others(host, number, "this board")
    return TcpServer(board, host=host, number=number)


def _watched(server: PtyServer | TcpServer) -> Watch:
    """Begin to watch the line, where somebody wants to."""
    from microrpc.connecting.watching import watch

    watched = watch(server.path, capture(), None, framed=True, resets=False)
    if watched.tap is not None:
        from microrpc.cli.sim_watching import show_line

        show_line(server.ports[0], watched.tap)
    return watched


def _announce(server: PtyServer | TcpServer, name: str, wrong: Faults) -> None:
    on_terminal = is_terminal(sys.stdout)
    say(f"A simulated {name} is on {server.path} until Ctrl-C." if on_terminal else server.path)
    if on_terminal:
        say(f"Try: microrpc info {shlex.quote(server.path)}")
    if wrong.faults:
        note(
            "\n".join([f"What goes wrong, with --fault-seed {wrong.seed}:", *(f"  {fault}" for fault in wrong.faults)])
        )


def _losses(line: UartLine | None) -> str:
    if line is None:
        return ""
    state = line.state
    damage = "".join(f", {kind} {counted(count, 'time')}" for kind, count in state.damaged.items())
    return (
        f" On the line: {counted(state.bytes_to_board, 'byte')} to the board, {state.bytes_to_host} back; "
        f"{state.bytes_overrun} lost because its ring was full{damage}."
    )
