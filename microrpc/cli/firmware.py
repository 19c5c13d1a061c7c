"""`microrpc firmware`: the device library in C: build it, run it, begin a project with it."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microrpc.cli import completing
from microrpc.cli.common import (
    JsonOption,
    check_file,
    examples,
    format_time,
    is_terminal,
    print_json,
    reporting,
    say_columns,
    say_pairs,
)
from microrpc.cli.signals import StoppedError, until_signal
from microrpc.cli.streams import note, say

if TYPE_CHECKING:
    from microrpc.boards.schema import BoardProfile
    from microrpc.firmware.build import Compiler, Firmware
    from microrpc.firmware.project import Project

firmware = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Build firmware for a board, flash it, run it, begin your own.\n\n(docs/firmware.md)",
    epilog=examples(
        "microrpc firmware build qemu_mps2_an385",
        "microrpc firmware new my_project",
        "microrpc firmware run my_project",
    ),
)

BoardArgument = Annotated[
    str,
    typer.Argument(
        metavar="BOARD|DIR",
        autocompletion=completing.firmware,
        show_default=False,
        help="qemu_mps2_an385, posix, ... (`microrpc firmware list`), or the directory of a project.",
    ),
]
"""The board that firmware is for."""
DefineOption = Annotated[
    list[str] | None,
    typer.Option("--define", "-D", metavar="NAME=VALUE", help="Define this for the compiler; may be given again."),
]
"""--define"""
CompilerOption = Annotated[
    str, typer.Option("--compiler", metavar="NAME", help="zig, which is installed with microrpc[firmware], or gcc.")
]
"""--compiler"""


@firmware.command("list", epilog=examples("microrpc firmware list"))
def list_(as_json: JsonOption = False) -> None:
    """List the boards that firmware can be built for."""
    with reporting(as_json=as_json):
        from microrpc.boards.catalogue import profiles
        from microrpc.firmware.project import load_port, port_names

        boards = profiles()
        rows = [
            (
                name,
                _target(load_port(name)),
                _flashed_by(load_port(name), boards.get(name)),
                boards[name].description if name in boards else "",
            )
            for name in port_names()
        ]
        if as_json:
            keys = ("name", "target", "flashed_by", "description")
            print_json({"boards": [dict(zip(keys, row, strict=True)) for row in rows]})
            return
        shown = [(name, target, ", ".join(ways) or "-", description) for name, target, ways, description in rows]
        say_columns(("BOARD", "TARGET", "FLASHED BY", "DESCRIPTION"), shown)


@firmware.command(
    epilog=examples(
        "microrpc firmware build qemu_mps2_an385",
        "microrpc firmware build qemu_mps2_an385 -D MICRORPC_LINK=0 --out board.elf",
        "microrpc firmware build my_project",
        "microrpc firmware build rpi_pico --out firmware.uf2",
    )
)
def build(
    board: BoardArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            readable=False,
            help="Write it here, as .bin, .hex or .uf2 if FILE ends so, else as ELF. [default: only to the cache]",
        ),
    ] = None,
    define: DefineOption = None,
    compiler: CompilerOption = "zig",
    as_json: JsonOption = False,
) -> None:
    """Build firmware for a board or of a project; show how large.

    What was built before from the same sources in the same way is not built again.
    """
    with reporting(as_json=as_json):
        is_stdout = out is not None and check_file(out, as_json=as_json)
        from microrpc.firmware.build import build as build_project
        from microrpc.firmware.project import load_project

        start = time.perf_counter()
        built = build_project(load_project(board), compiler=compiler_named(compiler), defines=define or ())
        taken_s = time.perf_counter() - start
        is_image = out is not None and _write(built, out)
        elf = built.elf if out is None or is_image else out
        sizes = built.sizes
        if as_json:
            print_json(
                {
                    "board": built.project.name,
                    "elf": str(elf),
                    "image": str(out) if is_image else None,
                    "compiler": built.compiler,
                    "is_new": built.is_new,
                    "flash_bytes": sizes.flash_bytes,
                    "ram_bytes": sizes.ram_bytes,
                    "code_bytes": sizes.code_bytes,
                    "data_bytes": sizes.data_bytes,
                    "bss_bytes": sizes.bss_bytes,
                    "seconds": taken_s,
                }
            )
            return
        if not built.compiler:
            say_pairs(
                [("board", built.project.name), ("script", f"{built.elf}: nothing is compiled")],
                say=note if is_stdout else say,
            )
            return
        say_pairs(
            [
                ("board", built.project.name),
                ("compiler", f"{built.compiler}, {_describe(built, taken_s)}"),
                ("flash", f"{sizes.flash_bytes} bytes: {sizes.code_bytes} of code, {sizes.data_bytes} of data"),
                ("RAM", f"{sizes.ram_bytes} bytes: {sizes.data_bytes} of data, {sizes.bss_bytes} of zeros and stack"),
                ("ELF file", str(elf)),
                *([("image", str(out))] if is_image else []),
            ],
            say=note if is_stdout else say,
        )


@firmware.command(epilog=examples("microrpc firmware run qemu_mps2_an385", "microrpc firmware run my_project"))
def run(board: BoardArgument, define: DefineOption = None, compiler: CompilerOption = "zig") -> None:
    """Build the firmware, and run it in its emulator until Ctrl-C.

    The first line on stdout is the port to open; where stdout is no terminal it is nothing else.
    """
    with reporting(), contextlib.suppress(StoppedError), until_signal():
        from microrpc.errors import PortLostError
        from microrpc.firmware.emulator import build_to_run, start_firmware
        from microrpc.firmware.project import load_project

        built = build_to_run(load_project(board), compiler=compiler_named(compiler), defines=define or ())
        with start_firmware(built) as emulator:
            on_terminal = is_terminal(sys.stdout)
            say(f"{built.project.name} is on {emulator.port} until Ctrl-C." if on_terminal else emulator.port)
            if on_terminal:
                say(f"Try: microrpc info {emulator.port}")
            emulator.wait()
            raise PortLostError(emulator.port, emulator.explain_end())


@firmware.command(
    epilog=examples("microrpc firmware new my_project", "microrpc firmware new my_project --board arduino")
)
def new(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", show_default=False, help="Where; it must be empty, or not exist.")
    ],
    board: Annotated[
        str,
        typer.Option(
            "--board",
            metavar="NAME",
            autocompletion=completing.firmware,
            help="A board of `microrpc firmware list`, or arduino, zephyr.",
        ),
    ] = "qemu_mps2_an385",
) -> None:
    """Lay out a project: library, port, and your first function."""
    with reporting():
        from microrpc.firmware.new import new_project

        for line in new_project(directory, board):
            say(line)


def compiler_named(name: str) -> Compiler:
    """Give the compiler that `--compiler` names."""
    from microrpc.firmware.build import Compiler

    if name not in list(Compiler):
        raise typer.BadParameter(f"--compiler {name}: must be {' or '.join(Compiler)}")
    return Compiler(name)


def _flashed_by(port: Project, profile: BoardProfile | None) -> list[str]:
    from microrpc.firmware.scripts import COPIER

    if port.script:
        return [COPIER]
    return [way.tool for way in profile.ways_to_flash] if profile is not None else []


def _target(port: Project) -> str:
    return "MicroPython" if port.script else port.target or port.fqbn or "this computer"


def _describe(built: Firmware, taken_s: float) -> str:
    return f"in {format_time(taken_s)}" if built.is_new else "built before"


def _write(built: Firmware, out: Path) -> bool:
    """Write what was built to a file; tell whether that is another form of it than the ELF file."""
    import shutil

    from microrpc.boards.files import replacing
    from microrpc.firmware.images import ImageFormat, make_image

    ending = out.suffix.lower().removeprefix(".")
    if ending in list(ImageFormat):
        image = make_image(built.elf, ImageFormat(ending), uf2_family=built.project.uf2_family)
        with replacing(out) as file:
            file.write(image)
        return True
    with built.elf.open("rb") as elf, replacing(out, is_executable=True) as file:
        shutil.copyfileobj(elf, file)
    return False
