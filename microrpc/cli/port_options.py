"""The options that every command has which opens a port: its modem lines, its latency, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from microrpc.cli.telling import extended, with_telling
from microrpc.ports.options import PortOptions

_OPTIONS: dict[str, Any] = {
    "dtr": typer.Option("--dtr/--no-dtr", help="Its line DTR while it is open. [default: the profile's, else on]"),
    "rts": typer.Option("--rts/--no-rts", help="Its line RTS, likewise."),
    "hang_up": typer.Option(
        "--hang-up/--no-hang-up", help="Drop both when it is closed, now and from now on. [default: the system's]"
    ),
    "low_latency": typer.Option(
        "--low-latency/--no-low-latency", help="Hand on at once what arrives. [default: the system's]"
    ),
}


def with_port_options(
    command: Callable[..., None], *, takes_dashes: bool = False, tells: bool = True
) -> Callable[..., None]:
    """Give a command that takes `options`, as typer reads it: with an option for each of theirs instead.

    They mean what those of `microrpc.connect` do (docs/boards.md, "Modem lines and latency"). tells: it has the
    options of `with_telling`, too, of which is takes_dashes; not what shows a line itself.
    """

    def run(**values: Any) -> None:
        options = PortOptions(**{name: values.pop(name) for name in _OPTIONS})
        command(options=options, **values)

    added = {name: Annotated[bool | None, option] for name, option in _OPTIONS.items()}
    defaults = dict.fromkeys(_OPTIONS)
    extended_command = extended(command, run, added, defaults, without="options")
    return with_telling(extended_command, takes_dashes=takes_dashes) if tells else extended_command
