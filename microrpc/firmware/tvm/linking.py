"""Firmware of what was uploaded: a board's port and the kernels, without the functions that the port has else."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import threading
from collections.abc import Mapping

from microrpc.errors import FirmwareError
from microrpc.firmware.build import Firmware, build
from microrpc.firmware.elf import Machine, read_machine
from microrpc.firmware.project import Project, firmware_directory
from microrpc.firmware.tvm.kernels import ADAPTER_SOURCES, SYMBOL_PREFIX
from microrpc.firmware.tvm.objects import Part, check_machine, kernel_names
from microrpc.firmware.tvm.project import FLAGS, LIBRARIES

_GENERATED = "_functions.c"  # a name that no part gets
# What a port or project defines of its own is left out with the file that defines it.
_TABLE = re.compile(r"\bboard_functions\s*\[[^\]]*\]\s*=")
_DEMONSTRATION = "demo/"
_WORKSPACE = "MICRORPC_TVM_WORKSPACE_BYTES"

_HEAD = """\
/* The kernels of an upload, as functions of the board. */
#include "functions.h"
#include "microrpc_tvm.h"

"""
_KERNEL = """\
MICRORPC_TVM_KERNEL({symbol})
static const microrpc_tvm_function_t kernel_{name} = {{"{name}", {symbol}, NULL, -1}};
static void call_{name}(microrpc_call_t *call) {{ microrpc_tvm_call(call, &kernel_{name}); }}

"""
_ROW = '    MICRORPC_FUNCTION_AS("{name}", call_{name}, "*arguments: any -> any", "A kernel that TVM compiled."),\n'
_NO_ROW = "    {0}\n"
_TABLES = """\
const microrpc_function_t board_functions[] = {{
{rows}}};
const size_t board_function_count = {count};
const microrpc_function_t board_global_functions[] = {{{{0}}}};
const size_t board_global_function_count = 0;
const char board_firmware_name[] = "microrpc with kernels of TVM";
const char board_firmware_version[] = "1";
"""


class Linker:
    """Links uploads into firmware for one board.

    It builds the firmware without an upload first, which finds out whether that works at all, and has most of every
    later build done. project: the port or the user's project that brings the board's start and UART; its functions
    stay out. workspace_bytes: what kernels have for intermediate buffers, where the project does not say it.
    Raises FirmwareError. Everything here blocks, for seconds.
    """

    def __init__(self, project: Project, *, workspace_bytes: int) -> None:
        self._project = _with_adapter(project, workspace_bytes)
        self._machine = read_machine(self.link((), timeout_s=None).elf)

    @property
    def machine(self) -> Machine:
        """Whose code objects must have."""
        return self._machine

    def link(
        self, parts: tuple[Part, ...], *, timeout_s: float | None, stop: threading.Event | None = None
    ) -> Firmware:
        """Build firmware of `parts`, within `timeout_s` seconds; what was built before comes from the cache.

        stop: is set by another thread to have it ended.

        Raises FirmwareError: an object is for another machine, or the compiler's words.
        """
        if parts:
            check_machine(parts, self._project.name, self._machine)
        files = {_GENERATED: functions_source(kernel_names(parts)).encode()}
        for part in parts:
            files[_file_name(part, files)] = part.data
        return build(self._project, more=files, timeout_s=timeout_s, stop=stop, is_told=not parts)


def functions_source(kernels: list[str]) -> str:
    """Give the C source of a board's tables, with these kernels in its system library."""
    each = "".join(_KERNEL.format(name=name, symbol=SYMBOL_PREFIX + name) for name in kernels)
    rows = "".join(_ROW.format(name=name) for name in kernels) or _NO_ROW
    return _HEAD + each + _TABLES.format(rows=rows, count=len(kernels))


def _with_adapter(project: Project, workspace_bytes: int) -> Project:
    adapter = firmware_directory() / "tvm"
    sources = [source for source in project.source_files() if not _is_left_out(project.root, source)]
    workspace = [] if any(define.startswith(_WORKSPACE) for define in project.defines) else [workspace_bytes]
    return dataclasses.replace(
        project,
        sources=(*sources, *(str(adapter / name) for name in ADAPTER_SOURCES)),
        includes=(*project.includes, str(adapter), str(adapter / "include")),
        defines=(*project.defines, *(f"{_WORKSPACE}={size}" for size in workspace)),
        common=dataclasses.replace(project.common, zig_libc=str(firmware_directory() / "libc")),
        flags=(*project.flags, *FLAGS, "-std=c11", "-w"),  # a generator wrote it: what it warns of helps nobody
        libraries=tuple(dict.fromkeys((*project.libraries, *LIBRARIES))),
    )


def _is_left_out(root: pathlib.Path, source: str) -> bool:
    if source.startswith(_DEMONSTRATION):
        return True
    try:
        return _TABLE.search((root / source).read_text(encoding="utf-8", errors="replace")) is not None
    except OSError as error:
        raise FirmwareError(f"{root / source}: cannot be read: {error.strerror}") from error


def _file_name(part: Part, taken: Mapping[str, bytes]) -> str:
    """Give the name that a part has for the compiler: nearly its own, so that one knows it in what that says."""
    stem = re.sub(r"[^\w.-]", "_", part.name.removesuffix(part.form), flags=re.ASCII).lstrip("_-.")
    name = f"{stem or 'part'}{part.form}"
    return name if name not in taken else f"{len(taken)}.{name}"
