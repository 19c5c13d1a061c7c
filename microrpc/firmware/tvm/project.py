"""The firmware project of kernels: what lies in it, laid out anew or renewed."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence

from microrpc.errors import FirmwareError, reason_of
from microrpc.firmware.new import Contents, new_project, write_port_file
from microrpc.firmware.project import FILE_NAME, load_port
from microrpc.firmware.tvm.kernels import ADAPTER_SOURCES

FOLDER = "kernels"
"""Where a project has what was generated."""

_MARK = "built.json"
_HEAD = (
    "Written by microrpc tvm build, which writes this file and the folder kernels/ anew each time, and nothing else.",
)
# TVM's C looks at floats as ints.
FLAGS = ("-fno-strict-aliasing",)
"""What generated C is compiled with besides."""
LIBRARIES = ("m", "c")
"""What kernels call."""

_FUNCTIONS = """\
/* The functions of this board: what TVM compiled, and yours. Each is called from Python by its name.
 *
 * include/microrpc.h says what a function can take and give. */
#include "functions.h"
#include "kernels.h" /* KERNEL_FUNCTIONS: what TVM compiled */

const microrpc_function_t board_functions[] = {
    KERNEL_FUNCTIONS
    /* Yours: MICRORPC_FUNCTION_DOC(add, "a: int, b: int -> int", "The sum of two ints."), */
};
const size_t board_function_count = sizeof board_functions / sizeof board_functions[0];

/* What is in the global registry besides: nothing. */
const microrpc_function_t board_global_functions[] = {MICRORPC_FUNCTION_AS("", NULL, NULL, NULL)};
const size_t board_global_function_count = 0;

/* Who it is, as hosts show it. */
const char board_firmware_name[] = "FIRMWARE_NAME";
const char board_firmware_version[] = "0.1";
"""

_README = """\
# {name}

Firmware for {board} with kernels that TVM compiled.

{steps}

{then}

    microrpc functions {port}       # what it can do

* `kernels/`: what was generated. `microrpc tvm build` writes it and `port.toml` anew, and nothing else.
* `functions.c`: the board's functions: those of `kernels/`, and yours.
* `tvm/`: what lies between TVM's calling convention and the library.
* `include/`, `src/`, `ports/`: the device library, as it came with microrpc {version}, how it starts, and its UART.
* `LICENSE`: that of the library, and of the files that came with it.
"""


def write_project(
    directory: pathlib.Path,
    board: str,
    files: Mapping[str, bytes],
    *,
    defines: Sequence[str],
    has_models: bool,
    flags: Sequence[str] = (),
) -> None:
    """Lay out a project with the generated `files`, or renew one that was made so before.

    Raises FirmwareError: the directory has something else in it, or is for another board.
    """
    sources = [f"{FOLDER}/*{ending}" for ending in sorted({pathlib.PurePath(name).suffix for name in files})]
    adapter = [f"tvm/{name}" for name in (*ADAPTER_SOURCES, *(["microrpc_tvm_model.c"] if has_models else []))]
    mark = json.dumps({"board": board}, indent=1) + "\n"
    contents = Contents(
        functions=_FUNCTIONS,
        readme=_README,
        folders=("tvm",),
        files={**{f"{FOLDER}/{name}": data for name, data in files.items()}, f"{FOLDER}/{_MARK}": mark.encode()},
        sources=(*(source for source in sources if not source.endswith(".h")), *adapter),
        includes=(FOLDER, "tvm", "tvm/include"),
        flags=(*FLAGS, *flags),
        defines=tuple(defines),
        libraries=LIBRARIES,
        head=_HEAD,
    )
    if (directory / FOLDER / _MARK).is_file() and (directory / FILE_NAME).is_file():
        _renew(directory, board, contents)
    else:
        new_project(directory, board, contents)


def _renew(directory: pathlib.Path, board: str, contents: Contents) -> None:
    try:
        was = json.loads((directory / FOLDER / _MARK).read_text(encoding="utf-8"))["board"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FirmwareError(f"{directory / FOLDER / _MARK}: cannot be read: name another directory") from error
    if was != board:
        raise FirmwareError(f"{directory}: is a project for {was}, and not for {board}: name another directory")
    try:
        shutil.rmtree(directory / FOLDER)
        for path, data in contents.files.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(data)
        write_port_file(directory, load_port(board), contents)
    except OSError as error:
        raise FirmwareError(f"{directory}: cannot be written: {reason_of(error)}") from error
