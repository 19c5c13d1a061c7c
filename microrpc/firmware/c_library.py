"""What firmware calls of C's library, as math.h: what a compiler brings for a board, and what is ours."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator

from microrpc.firmware.project import Project
from microrpc.firmware.running import run

_PACKAGES = {"arm-none-eabi-": "libnewlib-arm-none-eabi", "avr-": "avr-libc"}  # of Debian, by the prefix of GCC
_ASK_S = 60.0
_LIBRARIES = ("-lm", "-lc")
_IS_MISSED = re.compile(
    r"(math|string|stdlib|stdio)\.h: No such file|cannot find -l[mc]\b|undefined reference to `[a-z]"
)


def headers_for_zig(project: Project) -> Iterator[str]:
    """Give the folder of the headers that zig lacks for the board of `project`, if it does."""
    if project.target and project.common.zig_libc:
        yield f"{project.common.zig_libc}/include"


def sources_for_zig(project: Project) -> list[str]:
    """Give the sources of the functions that zig lacks, by their paths from the root of `project`."""
    if not project.target or not project.common.zig_libc:
        return []
    folder = project.common.zig_libc
    return sorted(f"{folder}/{path.name}" for path in (project.root / folder).glob("*.c"))


def _gcc_has_it(command: tuple[str, ...], timeout_s: float, stop: threading.Event | None = None) -> bool:
    """Whether this GCC has a C library for the CPU of its flags; without a folder in front it found none."""
    found = run([*command, "-print-file-name=libc.a"], None, timeout_s, stop).stdout.strip()
    return os.path.isabs(found)


def without_what_gcc_lacks(
    project: Project, command: tuple[str, ...], flags: list[str], timeout_s: float, stop: threading.Event | None
) -> list[str]:
    """Give `flags` without the C library and that of math.h where `command`, a GCC, has none. Raises FirmwareError."""
    cpu = project.gcc.flags if project.gcc is not None else ()
    has_it = _gcc_has_it((*command, *cpu), timeout_s, stop)
    return flags if has_it else [flag for flag in flags if flag not in _LIBRARIES]


def hint_for_gcc(project: Project, command: tuple[str, ...], said: str) -> str:
    """Tell what to do where a build failed since GCC has no C library; nothing where it failed otherwise."""
    gcc = project.gcc
    if gcc is None or not project.target or not _IS_MISSED.search(said) or _gcc_has_it((*command, *gcc.flags), _ASK_S):
        return ""
    package = _PACKAGES.get(gcc.prefix)
    install = f"apt-get install --no-install-recommends {package}, or " if package else ""
    return f"\n{gcc.prefix}gcc has no C library here, with math.h and string.h: {install}build with --compiler zig"
