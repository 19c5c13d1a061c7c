"""What is to be built and run: ports of the device library, and projects of the user's own, each with a `port.toml`.

A port of ours is `ports/NAME/port.toml` in the library's directory, and its paths are relative to that directory; a
project's is `port.toml` in the project's directory. firmware/ports/README.md explains the keys.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from dataclasses import dataclass

from microrpc.boards.tables import Checker, Key, did_you_mean
from microrpc.errors import FirmwareError

FILE_NAME = "port.toml"
"""What describes a project, in its directory (firmware/ports/README.md)."""


@dataclass(frozen=True, slots=True)
class Gcc:
    """How GCC builds it: `prefix` is what is in front of "gcc", `flags` are those that only GCC takes."""

    prefix: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flags:
    """What every firmware is built with: `all` always, `freestanding` without an operating system, `zig` by zig.

    `gcc_freestanding` come last where GCC builds without an operating system.
    """

    all: tuple[str, ...] = ("-Wall", "-Wextra", "-Werror")
    freestanding: tuple[str, ...] = ()
    zig: tuple[str, ...] = ()
    gcc_freestanding: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Emulation:
    """What runs it: QEMU's `program` with `machine`, or where there is no `program` the computer itself.

    `args` are what QEMU needs besides `-kernel` and the serial port.
    """

    program: str = ""
    machine: str = ""
    args: tuple[str, ...] = ()
    package: str = ""
    """The Debian package that has the program."""


@dataclass(frozen=True, slots=True)
class Project:
    """One firmware, as its `file` (port.toml) describes it: firmware/ports/README.md explains the keys.

    `sources` (with `*`), `includes` and `linker_script` are paths relative to `root`, where the compiler runs. `cpu`
    and `flags` are for the compiler; `gcc` and `emulation` are None where GCC cannot build it, or nothing here run it.
    `name` is that of the board.
    """

    name: str
    root: pathlib.Path
    file: pathlib.Path
    sources: tuple[str, ...]
    target: str | None = None
    """What zig builds for, None for this computer."""
    cpu: str | None = None
    flags: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    defines: tuple[str, ...] = ()
    """What the compiler is to define, as "NAME=VALUE": the parts of the library that are in or left out."""
    libraries: tuple[str, ...] = ()
    """What is linked besides, as "m"."""
    linker_script: str | None = None
    gcc: Gcc | None = None
    emulation: Emulation | None = None
    common: Flags = Flags()
    """Those that all ports share, from `ports/flags.toml`."""

    def source_files(self) -> list[str]:
        """Give the sources, with every `*` replaced by what is there. Raises FirmwareError."""
        found: list[str] = []
        for pattern in self.sources:
            if pathlib.PurePath(pattern).is_absolute():  # of ours, beside the project
                found.append(pattern)
                continue
            names = sorted(path.relative_to(self.root).as_posix() for path in self.root.glob(pattern) if path.is_file())
            if not names:
                raise FirmwareError(f"{self.file}: build.sources: there is no {pattern} in {self.root}")
            found += [name for name in names if name not in found]
        return found


def firmware_directory() -> pathlib.Path:
    """`microrpc/_firmware` in an installed wheel, `firmware` beside the package in a source checkout."""
    package = pathlib.Path(__file__).resolve().parent.parent
    installed = package / "_firmware"
    return installed if installed.is_dir() else package.parent / "firmware"


def license_file() -> pathlib.Path:
    """The library's license: in an installed wheel inside of its directory, in a source checkout beside it."""
    installed = firmware_directory() / "LICENSE"
    return installed if installed.is_file() else firmware_directory().parent / "LICENSE"


def port_names() -> list[str]:
    """Name the ports that can be built, in the order of the names."""
    return sorted(path.parent.name for path in (firmware_directory() / "ports").glob(f"*/{FILE_NAME}"))


def has_port(name: str) -> bool:
    """Whether there is a port of ours to the board of that name."""
    return name in port_names()


def load_port(name: str) -> Project:
    """Give the port of ours to that board. Raises FirmwareError."""
    if not has_port(name):
        known = port_names()
        guess = did_you_mean(name, known)
        raise FirmwareError(f"there is no firmware for {name!r}{guess}. There is for: {', '.join(known) or 'none'}")
    root = firmware_directory()
    return read_project(root / "ports" / name / FILE_NAME, root, name)


def load_project(where: str | pathlib.Path) -> Project:
    """Give the project in a directory, or where there is none the port of that name. Raises FirmwareError."""
    path = pathlib.Path(where)
    name = path.resolve().name
    if path.resolve() == (firmware_directory() / "ports" / name).resolve() and has_port(name):
        raise FirmwareError(f"{path}: is a port, and no project: give its name, {name}")
    if (path / FILE_NAME).is_file():
        path = path.resolve()
        return read_project(path / FILE_NAME, path, path.name)
    if (path / "prj.conf").is_file():
        raise FirmwareError(f"{path}: is an application for Zephyr, which west builds: west build -b BOARD {path}")
    if path.is_dir() and not has_port(str(where)):
        raise FirmwareError(f"{path}: has no {FILE_NAME}: `microrpc firmware new` makes a directory that has")
    return load_port(str(where))


# --- port.toml ------------------------------------------------------------------------------------


def check_define(define: str) -> str:
    """Give `define` back, which is like "NAME=VALUE" or "NAME". Raises FirmwareError."""
    if not re.fullmatch(r"[A-Za-z_]\w*(=.*)?", define, flags=re.ASCII):
        raise FirmwareError(f"{define!r} cannot be defined: write NAME=VALUE")
    return define


def _check_library(name: str) -> str:
    if not re.fullmatch(r"\w[\w.+-]*", name, flags=re.ASCII):
        raise FirmwareError(f"{name!r} is no name of a library: it is what stands after -l, as m")
    return name


_TEXTS = Key(list, of=str, wanted="a list of texts", read=tuple)
_TOP_KEYS = {"build": Key(dict, required=True), "emulator": Key(dict)}
_FLAGS_KEYS = dict.fromkeys(("all", "freestanding", "zig", "gcc_freestanding"), _TEXTS)
_BUILD_KEYS = {
    "target": Key(str),
    "cpu": Key(str),
    "linker_script": Key(str),
    "flags": _TEXTS,
    "sources": dataclasses.replace(_TEXTS, required=True),
    "includes": _TEXTS,
    "libraries": dataclasses.replace(_TEXTS, read=lambda names: tuple(map(_check_library, names))),
    "defines": dataclasses.replace(_TEXTS, read=lambda defines: tuple(map(check_define, defines))),
    "gcc": Key(dict),
}
_GCC_KEYS = {"prefix": Key(str), "flags": _TEXTS}
_EMULATOR_KEYS = {"program": Key(str), "machine": Key(str), "args": _TEXTS, "package": Key(str)}

_CHECKER = Checker(FirmwareError)


def read_project(file: pathlib.Path, root: pathlib.Path, name: str) -> Project:
    """Read and check a port.toml. Raises FirmwareError, which names the file, the key and the reason."""
    top = _CHECKER.check(f"{file}: ", _CHECKER.load(file), _TOP_KEYS)
    build = _CHECKER.check(f"{file}: build.", top["build"], _BUILD_KEYS)
    emulation = None
    if "emulator" in top:
        values = _CHECKER.check(f"{file}: emulator.", top["emulator"], _EMULATOR_KEYS)
        if ("program" in values) is not ("machine" in values):
            missing = "machine" if "program" in values else "program"
            raise FirmwareError(f"{file}: emulator.{missing}: is missing")
        emulation = Emulation(**values)
    elif not build.get("target"):
        emulation = Emulation()
    if "gcc" in build:
        build["gcc"] = Gcc(**_CHECKER.check(f"{file}: build.gcc.", build["gcc"], _GCC_KEYS))
    common, shared = Flags(), root / "ports" / "flags.toml"
    if shared.is_file():
        common = Flags(**_CHECKER.check(f"{shared}: ", _CHECKER.load(shared), _FLAGS_KEYS))
    return Project(name, root, file, common=common, emulation=emulation, **build)
