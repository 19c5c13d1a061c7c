"""`microrpc share`: one board for several programs."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microrpc.cli.capturing import capture
from microrpc.cli.common import (
    BaudOption,
    BoardFileOption,
    BoardOption,
    OptionalPortArgument,
    TimeoutOption,
    find_board_port,
    is_terminal,
    reporting,
    timeouts_of,
)
from microrpc.cli.port_options import with_port_options
from microrpc.cli.signals import finish_at_signal
from microrpc.cli.streams import note_log, say
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions

if TYPE_CHECKING:
    from microrpc.boards.schema import BoardProfile


@with_port_options
def share(
    port: OptionalPortArgument = None,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    timeout: TimeoutOption = None,
    socket: Annotated[
        Path | None,
        typer.Option(
            "--socket",
            metavar="PATH",
            help="Where clients find it. [default: one named after PORT in $XDG_RUNTIME_DIR/microrpc]",
        ),
    ] = None,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Share one board among several programs of this user.

    Until Ctrl-C, on a Unix socket. The first line on stdout is what they open instead of PORT; where stdout is no
    terminal it is nothing else. Requests take turns. What a program looked up and allocated is its own, and is freed
    when it goes.
    """
    import asyncio

    from microrpc.gateway.unix import check_system

    with reporting():
        port, profile = find_board_port(port, board, board_file)
        check_system()
        is_known = board is not None or board_file is not None
        asyncio.run(finish_at_signal(_serve(port, profile, is_known, baud, timeout, socket, options)))


async def _serve(
    port: str,
    profile: BoardProfile,
    is_known: bool,
    baud: int | None,
    timeout_s: float | None,
    path: Path | None,
    options: PortOptions,
) -> None:
    from microrpc.connecting.aio import connect
    from microrpc.gateway.unix import Share, default_path

    path = path if path is not None else default_path(port)
    opening = connect(
        port,
        board=profile if is_known else None,  # the generic profile tells nothing of the board that is there
        baud=baud,
        timeouts=timeouts_of(profile, timeout_s),
        on_log=note_log,
        capture=capture(),
        **dataclasses.asdict(options),
    )
    async with opening as board, Share(board, path, baud=baud or profile.baud) as served:
        on_terminal = is_terminal(sys.stdout)
        say(f"{port} is shared on {served.url} until Ctrl-C." if on_terminal else served.url)
        if on_terminal:
            say(f"Try: microrpc info {shlex.quote(served.url)}")
        await served.wait()
