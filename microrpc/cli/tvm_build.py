"""`microrpc tvm build`: kernels and models that TVM compiles, as a firmware project."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microrpc.cli import completing
from microrpc.cli.common import JsonOption, format_time, print_json, reporting, say_columns, say_pairs
from microrpc.cli.firmware import DefineOption
from microrpc.cli.streams import say

if TYPE_CHECKING:
    from microrpc.firmware.tvm.report import BuildReport


def build(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", show_default=False, help="FILE.py:FUNCTION, a saved module (.json), a model (.onnx)."
        ),
    ],
    board: Annotated[
        str,
        typer.Option(
            "--board",
            metavar="NAME",
            autocompletion=completing.firmware,
            show_default=False,
            help="A board of `microrpc firmware list`.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", show_default=False, help="Where the project is to be; made, or renewed."),
    ],
    target: Annotated[
        str, typer.Option("--target", metavar="NAME", help="What TVM makes: c, or llvm, whose code is larger.")
    ] = "c",
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="What the model is called. [default: as its function or file]"),
    ] = None,
    define: DefineOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compile kernels and models with TVM into a firmware project.

    Every public PrimFunc is a function of the board; a Relax function is one, too, and a model. Needs microrpc[tvm].
    """
    with reporting(as_json=as_json):
        from microrpc.firmware.tvm.building import build as build_project

        start = time.perf_counter()
        report = build_project(source, board=board, out=out, target=target, name=name, defines=define or ())
        taken_s = time.perf_counter() - start
        if as_json:
            print_json({**_as_dict(report), "seconds": taken_s})
            return
        _say(report, taken_s)


def _as_dict(report: BuildReport) -> dict[str, Any]:
    import dataclasses

    sums = {key: getattr(report, key) for key in ("code_bytes", "weights_bytes", "arena_bytes")}
    return {**dataclasses.asdict(report), "directory": str(report.directory), "elf": str(report.elf), **sums}


def _say(report: BuildReport, taken_s: float) -> None:
    from microrpc.firmware.project import load_port
    from microrpc.firmware.steps import told

    stack = f"{report.stack_bytes} bytes" if report.stack_bytes is not None else f"not known: {report.stack_reason}"
    say_pairs(
        [
            ("project", str(report.directory)),
            ("board", report.board),
            ("compiler", f"{report.target} of TVM, {report.compiler}, in {format_time(taken_s)}"),
            ("code", f"{report.code_bytes} bytes of flash: the kernels"),
            ("weights", f"{report.weights_bytes} bytes of flash"),
            ("arena", f"{report.arena_bytes} bytes of RAM"),
            ("workspace", f"{report.workspace_bytes} bytes of RAM"),
            ("stack", stack),
            ("flash", f"{report.flash_bytes} bytes, all the firmware"),
            ("RAM", f"{report.ram_bytes} bytes, all the firmware but the heap"),
        ]
    )
    say("")
    stacks = [str(one.stack_bytes) if one.stack_bytes is not None else "" for one in report.kernels]
    rows = [(one.name, str(one.code_bytes), stack) for one, stack in zip(report.kernels, stacks, strict=True)]
    say_columns(("KERNEL", "CODE", "STACK"), rows)
    say("")
    for function in report.functions:
        say(function)
    for line in told(load_port(report.board), report.directory, is_built=True):
        say(line)
