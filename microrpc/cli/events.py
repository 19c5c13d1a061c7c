"""`microrpc events`: what a board says without being asked."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microrpc.cli.common import (
    BaudOption,
    BoardFileOption,
    BoardOption,
    PortArgument,
    TimeoutOption,
    open_board,
    reporting,
)
from microrpc.cli.port_options import with_port_options
from microrpc.cli.signals import StoppedError
from microrpc.cli.streams import knows_unicode, say
from microrpc.errors import printable
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions

if TYPE_CHECKING:
    from microrpc.host.events import Event


@with_port_options
def events(
    port: PortArgument,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", show_default=False, help="Of that name alone. [default: all]")
    ] = None,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    timeout: TimeoutOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line instead of text.")] = False,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Print what a board says without being asked, a line for each event, until Ctrl-C.

    A line has the board's time in seconds, the event's name and its values. Events that were lost are told of by a
    line of their own.
    """
    with (
        reporting(as_json=as_json),
        contextlib.suppress(StoppedError),
        open_board(port, board, board_file, baud=baud, timeout_s=timeout, options=options) as opened,
        opened.events(name) as found,
    ):
        for event in found:
            for line in [_as_json(event)] if as_json else _as_text(event):
                say(line)


def _as_text(event: Event) -> list[str]:
    from microrpc.cli.literals import format_value

    lines = []
    if event.missed:
        lines.append(f"{'':>14}  ({event.missed} missed)")
    if not event.is_gap:
        values = "".join(f"  {printable(format_value(value))}" for value in event.values)
        lines.append(f"{event.time_us / 1e6:14.6f}  {printable(event.name)}{values}")
    return lines


def _as_json(event: Event) -> str:
    from microrpc.cli.literals import to_json

    shown: dict[str, Any] = {
        "name": None if event.is_gap else event.name,
        "values": [to_json(value) for value in event.values],
        "time_us": event.time_us,
        "number": event.number,
        "missed": event.missed,
        "reliable": event.reliable,
        "boot": event.boot,
    }
    return json.dumps(shown, ensure_ascii=not knows_unicode(sys.stdout), allow_nan=False)
