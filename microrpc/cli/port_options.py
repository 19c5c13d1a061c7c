"""The options that every command has which opens a port: its modem lines and its latency."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

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


def with_port_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes `options`, as typer reads it: with an option for each of theirs instead.

    They mean what those of `microrpc.connect` do (docs/boards.md, "Modem lines and latency").
    """

    @functools.wraps(command)
    def run(**values: Any) -> None:
        options = PortOptions(**{name: values.pop(name) for name in _OPTIONS})
        command(options=options, **values)

    added = {name: Annotated[bool | None, option] for name, option in _OPTIONS.items()}
    hints = {name: hint for name, hint in get_type_hints(command, include_extras=True).items() if name != "options"}
    run.__annotations__ = {**hints, **added}
    kept = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "options"
    ]
    new = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, hint in added.items()
    ]
    run.__signature__ = inspect.Signature([*kept, *new])  # type: ignore[attr-defined]  # what inspect looks for
    return run
