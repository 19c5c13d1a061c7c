"""`microrpc put` and `microrpc get`: files to and from the memory of a board."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microrpc.cli.common import (
    BaudOption,
    BoardFileOption,
    BoardOption,
    JsonOption,
    PortArgument,
    TimeoutOption,
    check_file,
    is_terminal,
    open_board,
    print_json,
    reporting,
)
from microrpc.cli.figures import describe_copy
from microrpc.cli.port_options import with_port_options
from microrpc.cli.progress import progress_bar
from microrpc.cli.streams import note, say
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions

if TYPE_CHECKING:
    from microrpc.host.stats import CopyStats, Stats

DtypeOption = Annotated[
    str | None,
    typer.Option("--dtype", metavar="TYPE", help="Type of its elements: float32, int8, ... [default: uint8]"),
]
"""--dtype"""
ShapeOption = Annotated[
    str | None, typer.Option("--shape", metavar="N,N", help="Its shape, for example 4,4. [default: flat]")
]
"""--shape"""
VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify", help="Compare with the board's memory: by the board's checksum, else by copying back once more."
    ),
]
"""--verify"""


@with_port_options
def put(
    port: PortArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="A .npy file, or any bytes.")],
    dtype: DtypeOption = None,
    shape: ShapeOption = None,
    verify: VerifyOption = False,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Copy a file into new memory of a board.

    It stays there until the board is reset, or ends: that of sim:// with this command. Prints its address, its size in
    bytes and its type, which is what `get` and the addr: arguments of `call` take. A .npy file brings its data type and
    shape along.
    """
    with reporting(as_json=as_json):
        from microrpc.cli.literals import describe_type, parse_dtype, parse_shape, read_array

        parsed_dtype = parse_dtype(dtype) if dtype is not None else None
        source = read_array(file, parsed_dtype, parse_shape(shape) if shape is not None else None)
        with open_board(port, board, board_file, baud=baud, timeout_s=timeout, options=options) as opened:
            start = time.perf_counter()
            array = opened.empty(source.shape[: source.ndim - _lane_dims(parsed_dtype)], parsed_dtype or source.dtype)
            with progress_bar(f"put {file.name}") as on_progress:
                array.write(source, on_progress=on_progress, verify=verify)
            taken_s = time.perf_counter() - start
            stats = opened.stats
            address = array.detach()
        kind = describe_type(array.dtype, array.shape)
        if as_json:
            described = {"dtype": str(array.dtype), "shape": list(array.shape), "verified": verify}
            figures = {"seconds": taken_s, "stats": stats.as_dict()}
            print_json({"address": address, "size_bytes": array.size_bytes, **described, **figures})
            return
        say(f"0x{address:x} {array.size_bytes} {kind}")
        _note_copy(stats.to_board, stats, verify)
        if lost := _what_becomes_of_it(port):
            note(f"note: {lost}")
        elif is_terminal(sys.stdout):
            note(f"use it: microrpc call {port} NAME addr:0x{address:x}:{kind}")


@with_port_options
def get(
    port: PortArgument,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", show_default=False, help="As `put` printed it.")],
    size: Annotated[int, typer.Argument(metavar="SIZE", show_default=False, min=0, help="How many bytes.")],
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            show_default=False,
            readable=False,
            help="Where to: a .npy file, or any other for raw bytes.",
        ),
    ],
    dtype: DtypeOption = None,
    shape: ShapeOption = None,
    verify: VerifyOption = False,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Copy memory of a board into a file.

    The file is replaced when all is there. Boards do not check addresses: a wrong one gives whatever lies there, or
    makes the board hang.
    """
    with reporting(as_json=as_json):
        from microrpc.cli.literals import (
            check_size,
            describe_type,
            parse_address,
            parse_dtype,
            parse_shape,
            write_array,
        )
        from microrpc.wire.datatypes import DataType

        at = parse_address(address)
        kind = parse_dtype(dtype) if dtype is not None else DataType.parse("uint8")
        form = parse_shape(shape) if shape is not None else (size // kind.itemsize_bytes,)
        check_size(size, kind, form, f"SIZE {size}")
        tell = note if check_file(file, as_json=as_json) else say
        with open_board(port, board, board_file, baud=baud, timeout_s=timeout, options=options) as opened:
            start = time.perf_counter()
            with progress_bar(f"get {file.name}") as on_progress:
                contents = opened.array_at(at, form, kind).numpy(on_progress=on_progress, verify=verify)
            taken_s = time.perf_counter() - start
            stats = opened.stats
        write_array(file, contents)
        if as_json:
            described = {"dtype": str(kind), "shape": list(form), "verified": verify}
            figures = {"seconds": taken_s, "stats": stats.as_dict()}
            print_json({"file": str(file), "address": at, "size_bytes": size, **described, **figures})
            return
        tell(f"{file} {size} {describe_type(kind, form)}")
        _note_copy(stats.from_board, stats, verify)


def _what_becomes_of_it(port: str) -> str:
    """Say why what was put there is gone when this command ends, "" where it stays."""
    from microrpc.connecting.address import SIMULATOR_SCHEME, is_emulated, scheme_of

    if port.startswith(SIMULATOR_SCHEME):
        return f"the board of {port} ends with this command; `microrpc sim` serves one that stays"
    if is_emulated(port):
        return f"the board of {port} ends with this command; `microrpc firmware run` starts one that stays"
    if scheme_of(port) in ("unix", "tcp"):
        return f"whoever serves {port} frees it when this command ends; `put` on the board's own port, and it stays"
    return ""


def _lane_dims(dtype: object) -> int:
    return int(getattr(dtype, "lanes", 1) > 1)


def _note_copy(copies: CopyStats, stats: Stats, is_verified: bool) -> None:
    note(describe_copy(copies, stats) + ("; verified" if is_verified else ""))
