"""`microrpc reset`: reset a board over its port."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from microrpc.cli.capturing import capture
from microrpc.cli.common import (
    BaudOption,
    BoardFileOption,
    BoardOption,
    JsonOption,
    OptionalPortArgument,
    find_board_port,
    find_profile,
    format_time,
    open_board,
    print_json,
    reporting,
)
from microrpc.cli.port_options import with_port_options
from microrpc.cli.streams import note_log, say
from microrpc.errors import counted
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions


@with_port_options
def reset(
    port: OptionalPortArgument = None,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory", help="Only free what earlier programs have left in its memory; not every firmware can."
        ),
    ] = False,
    as_json: JsonOption = False,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Reset a board as its profile says, and wait for it to boot.

    What it says after that is not waited for longer than the profile's power-up time; --trace and --capture show it.
    With --memory it goes on running, and frees all that was allocated over the wire: its profile need not say how to
    reset it.
    """
    with reporting(as_json=as_json):
        from microrpc.boards.resets import check_can_be_reset, open_reset
        from microrpc.connecting.address import SIMULATOR_SCHEME, is_emulated, is_started_here, scheme_of
        from microrpc.connecting.openers.serial import reset_tools
        from microrpc.connecting.watching import watch

        if port is not None and port.startswith(SIMULATOR_SCHEME):
            raise typer.BadParameter(f"{port}: a simulated board begins anew with every command: nothing to reset")
        if port is not None and is_emulated(port):
            raise typer.BadParameter(f"{port}: an emulated board begins anew with every command: nothing to reset")
        if memory:
            _free_memory(port, board, board_file, baud, options, as_json=as_json)
            return
        if port is not None and scheme_of(port) in ("tcp", "unix"):
            raise typer.BadParameter(f"{port} is a server without frames: reset its board where it is plugged in")
        if board is None and board_file is None:
            raise typer.BadParameter(
                "say which board it is with --board or --board-file: its profile says how to reset it"
            )
        chosen = find_profile(board, port, board_file)
        if port is None and is_started_here(chosen):
            raise typer.BadParameter(f"{chosen.name}: an emulated board begins anew with every command")
        check_can_be_reset(chosen)
        port, profile = find_board_port(port, board, board_file)
        with contextlib.closing(watch(port, capture(), None, framed=True, resets=True)) as watched:
            channel, boot_s = open_reset(
                port,
                profile,
                baud=baud,
                options=options.over(profile.port_options),
                on_log=note_log,
                on_text=note_log,
                tools=reset_tools(watched.tap),
            )
            channel.close()
        if as_json:
            print_json({"port": port, "profile": profile.name, "strategy": profile.reset.strategy, "boot_s": boot_s})
        elif boot_s is None:
            waited = f"within {profile.power_up_s:g} s"
            say(f"{profile.name} on {port} was reset, but did not say {waited} that it has booted")
        else:
            say(f"{profile.name} on {port} was reset, and had booted after {format_time(boot_s)}")


def _free_memory(
    port: str | None,
    board: str | None,
    board_file: Path | None,
    baud: int | None,
    options: PortOptions,
    *,
    as_json: bool,
) -> None:
    port, profile = find_board_port(port, board, board_file)
    with open_board(port, board, board_file, baud=baud, options=options) as opened:
        freed_bytes = opened.release_all()
    if as_json:
        print_json({"port": port, "profile": profile.name, "freed_bytes": freed_bytes})
    else:
        say(f"{profile.name} on {port} has freed {counted(freed_bytes, 'byte')}")
