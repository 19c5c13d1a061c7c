"""`microrpc functions` and `microrpc stubs`: what a board tells of its functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microrpc.cli.common import (
    BaudOption,
    BoardFileOption,
    BoardOption,
    JsonOption,
    OptionalPortArgument,
    TimeoutOption,
    check_file,
    find_board_port,
    open_board,
    print_json,
    reporting,
    say_columns,
    say_pairs,
    terminal_columns,
)
from microrpc.cli.port_options import with_port_options
from microrpc.cli.streams import folded, note, say
from microrpc.errors import counted
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions

if TYPE_CHECKING:
    from microrpc.wire.description import FunctionDescription, Identity

_TELLS_NOTHING = (
    "the board tells nothing of its functions: stock firmware cannot be asked for their names, and firmware with "
    "microrpc's library tells them where it is built with MICRORPC_DESCRIBE=1 (docs/functions.md). "
    "`microrpc call PORT NAME` calls one whose name you know"
)


@with_port_options
def functions(
    port: OptionalPortArgument = None,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """List a board's functions: what they take, give, and do."""
    with reporting(as_json=as_json):
        port, _ = find_board_port(port, board, board_file)
        with open_board(port, board, board_file, baud=baud, timeout_s=timeout, options=options) as opened:
            identity, told = opened.identity, opened.functions()
        if as_json:
            print_json({"port": port, "identity": identity_to_json(identity), "functions": list(map(_to_json, told))})
            return
        if identity is None:
            say(_TELLS_NOTHING)
            return
        say_pairs([*identity_pairs(identity), ("functions", str(len(told)))])
        if told:
            say()
            _say_functions(told)
        for function in told:
            if function.signature and function.parsed is None:
                note(f"{function.name}: nobody can read its signature (docs/description.md 3): nothing is checked")


def identity_to_json(identity: Identity | None) -> dict[str, str] | None:
    """Give who a board is, as --json has it."""
    return None if identity is None else dataclasses.asdict(identity)


def identity_pairs(identity: Identity) -> list[tuple[str, str]]:
    """Give who a board is, in names and values."""
    firmware = " ".join(part for part in (identity.firmware, identity.version) if part)
    return [("board", identity.board or "-"), ("firmware", firmware or "-")]


def _to_json(function: FunctionDescription) -> dict[str, Any]:
    described = {"name": function.name, "signature": function.signature, "doc": function.doc}
    return {**described, "is_checked": function.parsed is not None}


def _say_functions(told: Sequence[FunctionDescription]) -> None:
    """Print a table, where the terminal has room for one; else each function in lines of its own, and its doc below."""
    rows = [(function.name, function.signature, function.doc) for function in told]
    heads = ("NAME", "SIGNATURE", "DOC")
    width = terminal_columns()
    if width is None or sum(max(map(len, column)) + 2 for column in zip(heads, *rows, strict=True)) - 2 <= width:
        say_columns(heads, rows)
        return
    for function in told:
        say(folded(str(function), width, 8))
        if function.doc:
            say(folded(function.doc, width, 4, first_indent=4))


@with_port_options
def stubs(
    port: OptionalPortArgument = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", readable=False, help="Write it here. [default: print it]"),
    ] = None,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    timeout: TimeoutOption = None,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Write the types of a board's functions, for editors and mypy.

    What is written is a .pyi (docs/functions.md). It has a class Board and a class AsyncBoard, whose `f` has the
    board's functions.
    """
    with reporting():
        from microrpc.boards.files import replacing
        from microrpc.cli.stubs import make_stubs

        if out is not None:
            check_file(out, as_json=False)
        port, _ = find_board_port(port, board, board_file)
        with open_board(port, board, board_file, baud=baud, timeout_s=timeout, options=options) as opened:
            identity, told = opened.identity, opened.functions()
        if identity is None:
            note(_TELLS_NOTHING)
            raise typer.Exit(1)
        text = make_stubs(identity, told)
        if out is None:
            say(text.removesuffix("\n"))
            return
        with replacing(out) as file:
            file.write(text.encode())
        note(f"{out}: {counted(len(told), 'function')} of {identity}")
