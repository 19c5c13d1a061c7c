"""`microrpc capture`: what crosses between any program and a board, written down."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microrpc.cli.common import (
    BaudOption,
    BoardFileOption,
    BoardOption,
    ExitCode,
    OptionalPortArgument,
    find_board_port,
    format_size,
    is_terminal,
    reporting,
)
from microrpc.cli.port_options import with_port_options
from microrpc.cli.signals import StoppedError, until_signal
from microrpc.cli.streams import note
from microrpc.cli.telling import with_telling
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions

if TYPE_CHECKING:
    from microrpc.capture.file import CaptureFile
    from microrpc.gateway.through import Through


@partial(with_telling, captures=False)
@partial(with_port_options, tells=False)
def capture(
    port: OptionalPortArgument = None,
    write: Annotated[
        str,
        typer.Option("--write", "-w", metavar="FILE", help="The capture: a file, a named pipe, or - for stdout."),
    ] = "capture.pcapng",
    through: Annotated[
        Path | None,
        typer.Option("--through", metavar="PATH", help="Make a link to the pty here, so that its path is known."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Write each frame at once, as is done for a pipe; else within a moment.")
    ] = False,
    reconnect: Annotated[
        bool, typer.Option("--reconnect", help="Wait a minute for a port that goes away to come back.")
    ] = False,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Write down what crosses between any program and a board.

    Until Ctrl-C. The program opens the pty that is named on stderr in place of PORT. It may close it, and another one
    open it. Nothing is sent but what it sends; modem lines, BREAK and its baud rate do not reach the board.
    """
    with reporting():
        from microrpc.capture.file import CaptureFile
        from microrpc.capture.writer import CaptureWriter
        from microrpc.gateway.through import Through

        port, profile = find_board_port(port, board, board_file)
        # Its file first: what is wrong with that is said before the board notices anything.
        with CaptureFile(write) as file:
            writer = CaptureWriter(file, port, live=live or None)
            opened = Through(
                port,
                [writer],
                board=profile,
                baud=baud,
                options=options,
                link=through,
                reconnect=reconnect,
                on_news=lambda text: note(f"{port}: {text}"),
            )
            with contextlib.ExitStack() as stack:
                stack.callback(_tell_end, opened, file, write)
                stack.enter_context(writer)
                stack.enter_context(opened)
                with contextlib.suppress(StoppedError), until_signal(opened.stop):
                    note(f"{port} is at {opened.path} until Ctrl-C; what crosses goes to {_name(write)}")
                    if is_terminal(sys.stderr):
                        note(f"Try: microrpc info {shlex.quote(opened.path)}")
                    opened.run()
            if file.is_over and os.path.isfile(write):  # the reader of a pipe may go when it likes
                raise typer.Exit(ExitCode.OUTPUT)


def _name(write: str) -> str:
    return "stdout" if write == "-" else write


def _tell_end(through: Through, file: CaptureFile, write: str) -> None:
    told = f"{format_size(through.bytes_to_board)} to the board, {format_size(through.bytes_from_board)} from it"
    if through.bytes_left_out:
        told += f"; {format_size(through.bytes_left_out)} of that no program read"
    if os.path.isfile(write):
        shown = f"`microrpc decode {shlex.quote(write)}` shows them"
        told += f"; {write} has not all of it" if file.is_over else f"; {shown}"
    note(told)
