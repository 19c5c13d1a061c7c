"""`microrpc call`: what a board does."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microrpc.boards.files import WriteError
from microrpc.cli import completing
from microrpc.cli.common import (
    BaudOption,
    BoardFileOption,
    BoardOption,
    JsonOption,
    PortArgument,
    TimeoutOption,
    check_file,
    open_board,
    print_json,
    reporting,
)
from microrpc.cli.port_options import with_port_options
from microrpc.cli.progress import progress_bar
from microrpc.cli.signals import StoppedError
from microrpc.cli.streams import note, say
from microrpc.errors import ProtocolError, RemoteError
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions

if TYPE_CHECKING:
    from microrpc.cli.literals import Literal
    from microrpc.client.board import Board
    from microrpc.client.remote import RemoteFunction
    from microrpc.wire.parameters import Signature


@functools.partial(with_port_options, takes_dashes=True)
def call(
    port: PortArgument,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            show_default=False,
            autocompletion=completing.functions,
            help="The function's name on the board (`microrpc functions`).",
        ),
    ],
    args: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", show_default=False, help="Its arguments, typed as above.")
    ] = None,
    out: Annotated[
        list[str] | None,
        typer.Option("--out", metavar="N=FILE", help="Save array argument N (1, 2, ..., or `result`) as .npy."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="DIR", help="Save every array as DIR/argN.npy and DIR/result.npy.")
    ] = None,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Call a function on the board and print its result.

    Arguments are typed as they are written:

    \b
      3  -2  0xff          an integer
      2.5  1e3  inf  nan   a float
      true  false  none    what they say
      word  str:123        a text; '"in quotes"' as JSON has it
      bytes:0a0bff         bytes, in hex
      @FILE.npy  @FILE     an array: the file, copied to the board
      tensor:float32[4,4]  an array of zeros
      addr:0x20000000:float32[4,4]
                           an array that `microrpc put` left there

    Where the board tells what the function takes, they are checked before
    anything is sent, and an integer is a float, a text or a handle where one
    is wanted.

    Arrays are copied back after the call and shown: functions write their outputs into them. Ctrl-C cancels the call
    on a board that can be told.
    """
    with reporting(as_json=as_json):
        from microrpc.cli.literals import as_declared, format_value, parse_literal, to_json, type_name
        from microrpc.client.remote import RemoteArray

        literals = [parse_literal(arg) for arg in args or ()]
        files = _files_to_write(literals, out or (), save)
        on_stdout = [check_file(path, as_json=as_json) for _, path in files]
        tell = note if any(on_stdout) else say
        with open_board(port, board, board_file, baud=baud, timeout_s=timeout, options=options) as opened:
            signature = _signature_of(opened, name)
            if signature is not None:
                literals = as_declared(signature, name, args or (), literals)
            function = opened.function(name)
            values = [_to_board(opened, literal, index) for index, literal in enumerate(literals, 1)]
            result = _call(opened, function, values)
            is_array = isinstance(result, RemoteArray)
            arrays = {str(index): value for index, value in enumerate(values, 1) if isinstance(value, RemoteArray)}
            if is_array:
                arrays["result"] = result
            contents = {key: _copy_back(array, key) for key, array in arrays.items()}
        described = {key: {"dtype": str(array.dtype), "shape": list(array.shape)} for key, array in arrays.items()}
        _write_files(files, contents)
        if as_json:
            shown = to_json(contents["result"] if is_array else result)
            answer = {"result": shown, "type": type_name(result), **described.pop("result", {})}
            answer["arrays"] = {key: {**described[key], "data": to_json(contents[key])} for key in described}
            print_json(answer)
            return
        if not is_array:
            tell(format_value(result))
        for key in sorted(arrays, key=lambda key: (key != "result", len(key), key)):
            tell(_describe_array(key, arrays[key], contents[key]))


def _signature_of(board: Board, name: str) -> Signature | None:
    """Give a function's signature, None where the board does not tell it."""
    try:
        found = {function.name: function for function in board.functions()}.get(name)
    except (ProtocolError, RemoteError) as error:  # what it tells is wrong, and the function may do all the same
        note(f"arguments are not checked: {error}")
        return None
    return None if found is None else found.parsed


def _call(board: Board, function: RemoteFunction, values: list[Any]) -> Any:
    """Call a function, and show how far it has come where it tells. Interrupted, it says what became of the call."""
    try:
        with progress_bar(function.name, counts_bytes=False) as on_progress:
            return function(*values, on_progress=on_progress)
    except StoppedError:
        fate = "it may go on there: the board could not be told, or did not answer"
        note(f"{function.name}: {fate if board.trust.doubt else 'cancelled, and the board is done with it'}")
        raise


def _describe_array(key: str, array: Any, contents: Any) -> str:
    from microrpc.cli.literals import describe_type, summarize

    where = "" if key == "result" else f"argument {key}: "
    return f"{where}{describe_type(array.dtype, array.shape)} {summarize(contents)}"


def _to_board(board: Board, literal: Literal, index: int) -> Any:
    """Give what is passed for a literal: arrays go to the board first."""
    import numpy as np

    from microrpc.cli.literals import OnBoard

    if isinstance(literal, OnBoard):
        return board.array_at(literal.address, literal.shape, literal.dtype)
    if isinstance(literal, np.ndarray):
        with progress_bar(f"argument {index}") as on_progress:
            return board.array(literal, on_progress=on_progress)
    return literal


def _copy_back(array: Any, key: str) -> Any:
    with progress_bar("result" if key == "result" else f"argument {key} back") as on_progress:
        return array.numpy(on_progress=on_progress)


# --- files --------------------------------------------------------------------------------------


def _files_to_write(
    literals: list[Literal], out: tuple[str, ...] | list[str], save: Path | None
) -> list[tuple[str, Path]]:
    """Give what goes into which files; whatever is wrong with it is said before the board is opened."""
    import numpy as np

    from microrpc.cli.literals import OnBoard

    known = [str(index) for index, value in enumerate(literals, 1) if isinstance(value, np.ndarray | OnBoard)]
    files: list[tuple[str, Path]] = []
    if save is not None:
        if not save.is_dir():
            raise WriteError(f"--save {save}: there is no such directory")
        files = [*((key, save / f"arg{key}.npy") for key in known), ("result", save / "result.npy")]
    for item in out:
        key, equals, path = item.partition("=")
        if not equals or not path:
            raise typer.BadParameter(f"--out {item}: write --out N=FILE, for example --out 1=relu.npy")
        if key not in (*known, "result"):
            arrays = f"arrays are {', '.join(known)} and the result" if known else "only the result can be an array"
            raise typer.BadParameter(f"--out {item}: argument {key} is no array: {arrays}")
        files.append((key, Path(path)))
    return files


def _write_files(files: list[tuple[str, Path]], contents: dict[str, Any]) -> None:
    from microrpc.cli.literals import write_array

    for key, path in files:
        if key in contents:
            write_array(path, contents[key], as_npy=True)
