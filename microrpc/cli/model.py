"""`microrpc model`: what models a board has; a run, its times, a data set (docs/using_models.md)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microrpc.cli.common import (
    BaudOption,
    BoardFileOption,
    BoardOption,
    ExitCode,
    JsonOption,
    OptionalPortArgument,
    TimeoutOption,
    check_file,
    examples,
    find_board_port,
    open_board,
    print_json,
    reporting,
    say_columns,
    say_pairs,
    terminal_columns,
)
from microrpc.cli.port_options import with_port_options
from microrpc.cli.progress import progress_bar
from microrpc.cli.streams import folded, note, say
from microrpc.errors import printable
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions

if TYPE_CHECKING:
    from microrpc.client.model import Model
    from microrpc.host.validation import Validation
    from microrpc.wire.model import ModelTable, ModelTensor

model = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run, time and check the models in a board's firmware.\n\n(docs/using_models.md)",
    epilog=examples(
        "microrpc model info sim://",
        "microrpc model run sim:// --name mlp --input '[[1, 2, 3, 4]]'",
        "microrpc model profile /dev/ttyACM0 --input x.npy",
        "microrpc model validate /dev/ttyACM0 --inputs x.npy --expected y.npy",
    ),
)

NameOption = Annotated[
    str | None, typer.Option("--name", "-n", metavar="NAME", help="The model's name. [default: the only one]")
]
"""--name"""
InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="[NAME=]X",
        help="An input: FILE.npy, numbers as [[1, 2.5]], or tensor:float32[1,4] (zeros). May be given again.",
    ),
]
"""--input"""


@model.command("info", epilog=examples("microrpc model info sim://", "microrpc model info /dev/ttyACM0 --json"))
@with_port_options
def info(
    port: OptionalPortArgument = None,
    name: NameOption = None,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Show a board's models: what they take and give; their layers."""
    with reporting(as_json=as_json):
        port, _ = find_board_port(port, board, board_file)
        with open_board(port, board, board_file, baud=baud, timeout_s=timeout, options=options) as opened:
            tables = opened.models() if name is None else [opened.model(name).table]
        if as_json:
            print_json({"port": port, "models": list(map(_table_to_json, tables))})
            return
        if not tables:
            say("the firmware has no models")
        for index, table in enumerate(tables):
            if index:
                say()
            _say_table(table)


@model.command(
    "run",
    epilog=examples(
        "microrpc model run sim:// --name mlp --input '[[1, 2, 3, 4]]'",
        "microrpc model run /dev/ttyACM0 --input x.npy --output y.npy",
        "microrpc model run /dev/ttyACM0 --input image=x.npy --input size='[8, 8]'",
    ),
)
@with_port_options
def run(
    port: OptionalPortArgument = None,
    inputs: InputOption = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", metavar="[NAME=]FILE", help="Save an output as .npy. May be given again."),
    ] = None,
    name: NameOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="Give quantised outputs as they are on the board.")] = False,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Run a model once, and print what it gives.

    Floats are quantised where an input is quantised; a .npy file of the input's own type is taken as it is.
    """
    with reporting(as_json=as_json):
        from microrpc.cli.datasets import parse_inputs, split_name
        from microrpc.cli.literals import describe_type, summarize, to_json, write_array

        given, named = parse_inputs(inputs or ())
        files = [(output, Path(path)) for output, path in map(split_name, outputs or ())]
        on_stdout = [check_file(path, as_json=as_json) for _, path in files]
        tell = note if any(on_stdout) else say
        port, _ = find_board_port(port, board, board_file)
        with open_board(port, board, board_file, baud=baud, timeout_s=timeout, options=options) as opened:
            found = opened.model(name)
            names = _names(found.outputs)
            targets = [(_output_number(names, output), path) for output, path in files]
            result = found(*given, raw=raw, **named)
        arrays = [result] if len(names) == 1 else list(result)
        for number, path in targets:
            write_array(path, arrays[number], as_npy=True)
        if as_json:
            shown = {
                key: {"dtype": str(array.dtype), "shape": list(array.shape), "data": to_json(array)}
                for key, array in zip(names, arrays, strict=True)
            }
            print_json({"model": found.name, "outputs": shown})
            return
        for key, array in zip(names, arrays, strict=True):
            tell(f"{printable(key)}: {describe_type(array.dtype, array.shape)} {summarize(array)}")


@model.command(
    "profile",
    epilog=examples(
        "microrpc model profile sim:// --name mlp --repeat 10",
        "microrpc model profile /dev/ttyACM0 --input x.npy --json",
    ),
)
@with_port_options
def profile(
    port: OptionalPortArgument = None,
    inputs: InputOption = None,
    repeat: Annotated[
        int, typer.Option("--repeat", "-r", metavar="N", min=1, max=1_000_000, help="How often it is run.")
    ] = 1,
    name: NameOption = None,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Show how long a model and its layers take, and its memory.

    Without --input it runs on zeros.
    """
    with reporting(as_json=as_json):
        from microrpc.cli.datasets import parse_inputs

        given, named = parse_inputs(inputs or ())
        port, _ = find_board_port(port, board, board_file)
        with open_board(port, board, board_file, baud=baud, timeout_s=timeout, options=options) as opened:
            found = opened.model(name)
            if not given and not named:
                given = list(map(_zeros, found.inputs))
            report = found.profile(*given, repeat=repeat, **named)
        if as_json:
            shown = {"host_us": report.host_us, "transport_share": report.transport_share}
            print_json({**dataclasses.asdict(report), **shown})
            return
        for line in str(report).splitlines():
            _say_folded(line)


@model.command(
    "validate",
    epilog=examples(
        "microrpc model validate /dev/ttyACM0 --inputs x.npy --expected y.npy",
        "microrpc model validate /dev/ttyACM0 --data set.npz --atol 0.01 --json",
    ),
)
@with_port_options
def validate(
    port: OptionalPortArgument = None,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", metavar="FILE", help="The samples of the input, a .npy file.")
    ] = None,
    expected: Annotated[
        Path | None, typer.Option("--expected", metavar="FILE", help="What it should give for each, a .npy file.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Both, a .npz file: arrays with the names of inputs and outputs, or `inputs` and `expected`.",
        ),
    ] = None,
    rtol: Annotated[float, typer.Option("--rtol", metavar="X", help="By how much of it a number may differ.")] = 1e-5,
    atol: Annotated[float, typer.Option("--atol", metavar="X", help="By how much besides.")] = 1e-6,
    name: NameOption = None,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Run a model on a data set, against what is expected.

    Ends with 1 where it differs.

    The samples are the first dimension of each array.
    """
    with reporting(as_json=as_json):
        if (data is None) == (inputs is None or expected is None) or (data is not None and (inputs or expected)):
            raise typer.BadParameter("give --inputs and --expected, or --data")
        from microrpc.cli.datasets import read_arrays
        from microrpc.cli.literals import read_array

        sets: tuple[Any, Any] | None = None
        arrays = {}
        if data is not None:
            arrays = read_arrays(data)
        elif inputs is not None and expected is not None:
            sets = read_array(inputs, maps_large=True), read_array(expected, maps_large=True)
        port, _ = find_board_port(port, board, board_file)
        with open_board(port, board, board_file, baud=baud, timeout_s=timeout, options=options) as opened:
            found = opened.model(name)
            given, wanted = sets if sets is not None else _pick_sets(found, arrays, data or Path())
            with progress_bar(f"{found.name} samples", counts_bytes=False) as on_progress:
                result = found.validate(given, wanted, rtol=rtol, atol=atol, on_progress=on_progress)
        if as_json:
            print_json({"model": found.name, **_validation_to_json(result)})
        else:
            _say_folded(f"{printable(found.name)}: {result}")
        if not result:
            raise typer.Exit(ExitCode.DIFFERS)


# --- their parts ------------------------------------------------------------------------------------


def _say_folded(line: str) -> None:
    columns = terminal_columns()
    say(line if columns is None or len(line) <= columns else folded(line, columns, 4))


def _names(tensors: tuple[ModelTensor, ...]) -> list[str]:
    from microrpc.host.model import labels

    return labels(tensors)


def _output_number(names: list[str], output: str) -> int:
    """Give the number of the output that is called so, or of the only one. Raises typer.BadParameter."""
    if not output and len(names) == 1:
        return 0
    if output in names:
        return names.index(output)
    raise typer.BadParameter(f"--output {output or 'FILE'}: the outputs are {', '.join(names)}: write NAME=FILE")


def _pick_sets(found: Model, arrays: dict[str, Any], path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from microrpc.cli.datasets import pick

    inputs = pick(arrays, _names(found.inputs), "inputs", path)
    return inputs, pick(arrays, _names(found.outputs), "expected", path)


def _zeros(tensor: ModelTensor) -> Any:
    import numpy as np

    from microrpc.host.quantising import numpy_shape

    return np.zeros(numpy_shape(tensor), tensor.dtype.numpy.base)


def _say_table(table: ModelTable) -> None:
    tensors = [("takes", tensor) for tensor in table.inputs] + [("gives", tensor) for tensor in table.outputs]
    say_pairs(
        [
            ("model", f"{printable(table.name)} (hash {table.hash:016x})"),
            *((word, _describe(tensor)) for word, tensor in tensors),
            (
                "memory",
                f"weights {table.weights_bytes} bytes, arena {table.arena_bytes}, workspace {table.workspace_bytes}",
            ),
            ("layers", str(len(table.layers))),
        ]
    )
    if table.layers:
        rows = [
            (printable(layer.name), _describe(layer.output, has_name=False) if layer.output is not None else "-")
            for layer in table.layers
        ]
        say_columns(("LAYER", "OUTPUT"), rows)


def _describe(tensor: ModelTensor, *, has_name: bool = True) -> str:
    shape = ", ".join(map(str, tensor.shape))
    name = f"{printable(tensor.name)}: " if has_name and tensor.name else ""
    text = f"{name}{tensor.dtype}[{shape}]"
    return text if tensor.scale is None else f"{text}, scale {tensor.scale:g}, zero point {tensor.zero_point}"


def _table_to_json(table: ModelTable) -> dict[str, Any]:
    return {
        "name": table.name,
        "hash": f"{table.hash:016x}",
        "inputs": list(map(_tensor_to_json, table.inputs)),
        "outputs": list(map(_tensor_to_json, table.outputs)),
        "layers": [
            {"name": layer.name, "output": None if layer.output is None else _tensor_to_json(layer.output)}
            for layer in table.layers
        ],
        "weights_bytes": table.weights_bytes,
        "arena_bytes": table.arena_bytes,
        "workspace_bytes": table.workspace_bytes,
    }


def _tensor_to_json(tensor: ModelTensor) -> dict[str, Any]:
    quantised = {"scale": tensor.scale, "zero_point": tensor.zero_point}
    return {"name": tensor.name, "dtype": str(tensor.dtype), "shape": list(tensor.shape), **quantised}


def _validation_to_json(result: Validation) -> dict[str, Any]:
    from microrpc.cli.literals import to_json

    worst = None
    if result.worst is not None:
        difference = dataclasses.asdict(result.worst.difference)
        numbers = {key: to_json(difference[key]) for key in ("error", "got", "expected")}
        where = {"sample": result.worst.sample, "output": result.worst.output, "index": list(difference["index"])}
        worst = {**where, **numbers}
    counts = {"samples": result.samples, "failed": result.failed, "first_failed": result.first_failed}
    return {**counts, "worst": worst}
