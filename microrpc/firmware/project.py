"""What is to be built and run: ports of the device library, and projects of the user's own, each with a `port.toml`.

A port of ours is `ports/NAME/port.toml` in the library's directory, and its paths are relative to that directory; a
project's is `port.toml` in the project's directory. firmware/ports/README.md explains the keys.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from microrpc.boards.tables import Checker, Key, did_you_mean
from microrpc.errors import FirmwareError

FILE_NAME = "port.toml"
"""What describes a project, in its directory (firmware/ports/README.md)."""
PLACES = ("elf", "bin", "hex", "uf2", "script", "npm")
"""What may stand in braces in the arguments of an emulator: the firmware in these forms, and the packages of npm."""


@dataclass(frozen=True, slots=True)
class Gcc:
    """How GCC builds it: `prefix` is what is in front of "gcc", `flags` are those that only GCC takes."""

    prefix: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flags:
    """What every firmware is built with: `all` always, `freestanding` without an operating system, `zig` by zig.

    `gcc_freestanding` come last where GCC builds without an operating system. `zig_libc` is the folder of what zig
    lacks of a C library there: headers in `include`, and sources.
    """

    all: tuple[str, ...] = ("-Wall", "-Wextra", "-Werror")
    freestanding: tuple[str, ...] = ()
    zig: tuple[str, ...] = ()
    gcc_freestanding: tuple[str, ...] = ()
    zig_libc: str = ""


@dataclass(frozen=True, slots=True)
class Emulation:
    """What runs it: QEMU, another program, or where nothing is named the computer itself.

    `program` with a `machine` is QEMU, and `args` what it needs besides `-kernel` and the serial port. Without one, and
    for the program that is built from the folder `project`, the standard streams are the board's UART. In `args`,
    PLACES stand for files.
    """

    program: str = ""
    machine: str = ""
    args: tuple[str, ...] = ()
    package: str = ""
    """The Debian packages that it needs, with spaces between."""
    project: str = ""
    npm: tuple[str, ...] = ()
    """Packages of npm that it needs, as "NAME@VERSION"."""
    root: pathlib.Path | None = field(default=None, compare=False)
    """Where it runs; paths are relative to it."""
    uf2_family: int | None = None
    """The family of chips that {uf2} names."""

    @property
    def is_this_computer(self) -> bool:
        """Whether the firmware is a program that runs as it is."""
        return not self.program and not self.project


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
    sources: tuple[str, ...] = ()
    script: str | None = None
    """What runs in the place of something that is built: a file for MicroPython, relative to `root`."""
    target: str | None = None
    """What zig builds for, None for this computer."""
    sketch: str = ""
    """The sketch that Arduino's tools build for the board `fqbn`, where it is one."""
    fqbn: str = ""
    """What Arduino calls the board, as "arduino:avr:uno"."""
    board: str = ""
    """The board that it was made for; "" where it does not say."""
    cpu: str | None = None
    flags: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    defines: tuple[str, ...] = ()
    """What the compiler is to define, as "NAME=VALUE": the parts of the library that are in or left out."""
    libraries: tuple[str, ...] = ()
    """What is linked besides, as "m"."""
    linker_script: str | None = None
    gcc: Gcc | None = None
    uf2_family: int | None = None
    """The family of chips that a UF2 file of it names."""
    emulation: Emulation | None = None
    common: Flags = Flags()
    """Those that all ports share, from `ports/flags.toml`."""

    def is_same(self, other: Project) -> bool:
        """Whether it is the firmware that `other` is, whatever the two are called."""
        return dataclasses.replace(self, name=other.name) == other

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


def emulated_names() -> list[str]:
    """Name the ports that can be run here, in the order of the names. Raises FirmwareError."""
    return [name for name in port_names() if load_port(name).emulation is not None]


def has_port(name: str) -> bool:
    """Whether there is a port of ours to the board of that name."""
    return name in port_names()


def load_port(name: str) -> Project:
    """Give the port of ours to that board. Raises FirmwareError."""
    if not has_port(name):
        raise no_firmware_for(name, port_names())
    root = firmware_directory()
    return read_project(root / "ports" / name / FILE_NAME, root, name)


def no_firmware_for(name: str, known: Sequence[str], *, besides: str = "", more: str = "") -> FirmwareError:
    """Give the error for the name of a board that is none of those `known`.

    `besides`: what the name is not either; `more`: how the error ends.
    """
    what = f"there is no firmware for {name!r}{besides}{did_you_mean(name, known) or '.'}"
    return FirmwareError(f"{what} There is for: {', '.join(known) or 'none'}{more}")


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
    if any(path.glob("*.ino")):
        raise FirmwareError(f"{path}: is a sketch, which the Arduino IDE or arduino-cli builds and uploads")
    if path.is_dir() and not has_port(str(where)):
        raise FirmwareError(f"{path}: has no {FILE_NAME}: `microrpc firmware new` makes a directory that has")
    if not path.exists() and not has_port(str(where)):
        raise no_firmware_for(str(where), port_names(), besides=" and no such directory")
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


def _check_npm(package: str) -> str:
    if not re.fullmatch(r"(@[\w.-]+/)?\w[\w.-]*@\d[\w.+-]*", package, flags=re.ASCII):
        raise FirmwareError(f"{package!r} is no package of npm with its version: write NAME@1.2.3")
    return package


def _check_fqbn(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+:[\w.-]+:[\w.-]+(:[\w.,=-]+)?", name, flags=re.ASCII):
        raise FirmwareError(f"{name!r} is no board of Arduino's: write VENDOR:ARCHITECTURE:BOARD, as arduino:avr:uno")
    return name


def _check_argument(argument: str) -> str:
    for place in re.findall(r"\{(\w*)\}", argument):
        if place not in PLACES:
            raise FirmwareError(
                f"there is no {{{place}}}{did_you_mean(place, PLACES)}; there are "
                + ", ".join(f"{{{known}}}" for known in PLACES)
            )
    return argument


_TEXTS = Key(list, of=str, wanted="a list of texts", read=tuple)
_TOP_KEYS = {"build": Key(dict, required=True), "emulator": Key(dict)}
_FLAGS_KEYS = {**dict.fromkeys(("all", "freestanding", "zig", "gcc_freestanding"), _TEXTS), "zig_libc": Key(str)}
_SAME_KEYS = {"same_as": Key(str)}
_BUILD_KEYS = {
    "target": Key(str),
    "board": Key(str),
    "cpu": Key(str),
    "linker_script": Key(str),
    "flags": _TEXTS,
    "sources": _TEXTS,
    "script": Key(str),
    "sketch": Key(str),
    "fqbn": Key(str, read=_check_fqbn),
    "includes": _TEXTS,
    "libraries": dataclasses.replace(_TEXTS, read=lambda names: tuple(map(_check_library, names))),
    "defines": dataclasses.replace(_TEXTS, read=lambda defines: tuple(map(check_define, defines))),
    "uf2_family": Key(int, bounds=(0, 2**32 - 1)),
    "gcc": Key(dict),
}
_GCC_KEYS = {"prefix": Key(str), "flags": _TEXTS}
_EMULATOR_KEYS = {
    **dict.fromkeys(("program", "machine", "package", "project"), Key(str)),
    "args": dataclasses.replace(_TEXTS, read=lambda arguments: tuple(map(_check_argument, arguments))),
    "npm": dataclasses.replace(_TEXTS, read=lambda packages: tuple(map(_check_npm, packages))),
}

_CHECKER = Checker(FirmwareError)


def read_project(file: pathlib.Path, root: pathlib.Path, name: str) -> Project:
    """Read and check a port.toml. Raises FirmwareError, which names the file, the key and the reason."""
    table = _CHECKER.load(file)
    if "same_as" in table:
        return _same_project(file, root, name, table)
    top = _CHECKER.check(f"{file}: ", table, _TOP_KEYS)
    build = _CHECKER.check(f"{file}: build.", top["build"], _BUILD_KEYS)
    emulation = None
    if "emulator" in top:
        emulation = _read_emulation(file, root, top["emulator"], build.get("uf2_family"))
    elif not build.get("target") and not {"sketch", "script"} & build.keys():
        emulation = Emulation()
    _check_what_is_built(file, build)
    if "gcc" in build:
        build["gcc"] = Gcc(**_CHECKER.check(f"{file}: build.gcc.", build["gcc"], _GCC_KEYS))
    common, shared = Flags(), root / "ports" / "flags.toml"
    if shared.is_file():
        common = Flags(**_CHECKER.check(f"{shared}: ", _CHECKER.load(shared), _FLAGS_KEYS))
    return Project(name, root, file, common=common, emulation=emulation, **build)


def _check_what_is_built(file: pathlib.Path, build: dict[str, object]) -> None:
    if ("sketch" in build) is not ("fqbn" in build):
        missing = "fqbn" if "sketch" in build else "sketch"
        raise FirmwareError(f"{file}: build.{missing}: is missing")
    if "script" in build:
        for key in build.keys() - {"script"}:
            raise FirmwareError(f"{file}: build.{key}: is not for a script, which nothing compiles")
    elif "sketch" not in build and "sources" not in build:
        raise FirmwareError(f"{file}: build.sources: is missing")
    for key in ("target", "cpu", "linker_script", "libraries", "gcc"):
        if "sketch" in build and key in build:
            raise FirmwareError(f"{file}: build.{key}: is not for a sketch, which Arduino's tools build")


def _same_project(file: pathlib.Path, root: pathlib.Path, name: str, table: dict[str, object]) -> Project:
    """Give the project that another port is, under the name of this one."""
    other: str = _CHECKER.check(f"{file}: ", table, _SAME_KEYS)["same_as"]
    other_file = root / "ports" / other / FILE_NAME
    if not other_file.is_file():
        raise FirmwareError(f"{file}: same_as: there is no port {other!r}: {other_file} is missing")
    if "same_as" in _CHECKER.load(other_file):
        raise FirmwareError(f"{file}: same_as: {other!r} is itself the same as another one: name that")
    return dataclasses.replace(read_project(other_file, root, other), name=name)


def _read_emulation(
    file: pathlib.Path, root: pathlib.Path, table: dict[str, object], uf2_family: int | None
) -> Emulation:
    values = _CHECKER.check(f"{file}: emulator.", table, _EMULATOR_KEYS)
    if "program" in values and "project" in values:
        raise FirmwareError(f"{file}: emulator.project: cannot be beside emulator.program: one of them runs it")
    if values and "program" not in values and "project" not in values:
        raise FirmwareError(f"{file}: emulator.program: is missing")
    if "machine" in values and "program" not in values:
        raise FirmwareError(f"{file}: emulator.machine: is for QEMU, which emulator.program names: there is none")
    return Emulation(root=root, uf2_family=uf2_family, **values)
