"""`microrpc events`: what a board says without being asked."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microrpc.cli.common import (
    BaudOption,
    BoardFileOption,
    BoardOption,
    JsonLinesOption,
    PortArgument,
    TimeoutOption,
    open_board,
    print_json_line,
    reporting,
)
from microrpc.cli.port_options import with_port_options
from microrpc.cli.signals import StoppedError
from microrpc.cli.streams import say
from microrpc.errors import printable
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions

if TYPE_CHECKING:
    from microrpc.wire.events import Event


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
    as_json: JsonLinesOption = False,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Print what a board says unasked, a line for each event.

    Until Ctrl-C. A line has the board's time in seconds, the event's name and its values. Events that were lost are
    told of by a line of their own.
    """
    with (
        reporting(as_json=as_json),
        contextlib.suppress(StoppedError),
        open_board(port, board, board_file, baud=baud, timeout_s=timeout, options=options) as opened,
        opened.events(name) as found,
    ):
        for event in found:
            if as_json:
                print_json_line(_to_json(event))
            else:
                _say(event)


def _say(event: Event) -> None:
    from microrpc.cli.literals import format_value

    if event.missed:
        say(f"{'':>14}  ({event.missed} missed)")
    if not event.is_gap:
        values = "".join(f"  {printable(format_value(value))}" for value in event.values)
        say(f"{event.time_us / 1e6:14.6f}  {printable(event.name)}{values}")


def _to_json(event: Event) -> dict[str, Any]:
    from microrpc.cli.literals import to_json

    return {
        "name": None if event.is_gap else event.name,
        "values": [to_json(value) for value in event.values],
        "time_us": event.time_us,
        "number": event.number,
        "missed": event.missed,
        "reliable": event.reliable,
        "boot": event.boot,
    }
