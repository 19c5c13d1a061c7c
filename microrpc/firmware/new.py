"""Laying out a project of the user's own: the library, a port to a board, and the first function."""

from __future__ import annotations

import contextlib
import json
import math
import pathlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from microrpc.errors import FirmwareError, reason_of
from microrpc.firmware.first_functions import FIRST_FUNCTIONS, with_name
from microrpc.firmware.micropython import MICROPYTHON, lay_out_files
from microrpc.firmware.project import (
    FILE_NAME,
    Emulation,
    Project,
    license_file,
    load_port,
    no_firmware_for,
    port_names,
)
from microrpc.firmware.sketch import ARDUINO, lay_out_sketch
from microrpc.firmware.steps import steps_in_readme, told
from microrpc.firmware.zephyr import ZEPHYR, lay_out_application

DEFINES = ("MICRORPC_DESCRIBE=1", "MICRORPC_EVENTS=1", "MICRORPC_PROGRESS=1")
"""What a new project has of what can be left out, where the board has LEAST_FLASH_BYTES."""
LEAST_FLASH_BYTES = 65536
"""Smaller boards have none of DEFINES."""
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20}  # of a linker script
_OTHERS: Mapping[str, Callable[[pathlib.Path], list[str]]] = {
    ARDUINO: lay_out_sketch,
    MICROPYTHON: lay_out_files,
    ZEPHYR: lay_out_application,
}
"""What is built by other people's tools, or not at all: each lays out a project, and gives what to tell the user."""
FOR_ANY = f"For another board: `new DIR --board {ARDUINO}`, where Arduino's tools know it, {ZEPHYR}, or {MICROPYTHON}"
"""What there is for boards that are not known by name, as the end of an error."""

_README = """\
# {name}

Firmware for {board} that Python calls functions of. Yours are in `functions.c`.

{steps}

{then}

    microrpc functions {port}       # what it can do, where it is built to tell
    microrpc call {port} add 2 3
    microrpc events {port}          # what it says without being asked, likewise

```python
import microrpc
import numpy as np

with microrpc.connect("{port}", board="{board}") as board:
    print(board.function("add")(2, 3))
    x = board.array(np.arange(4, dtype="float32"))
    board.function("scale")(x, 0.5)
    print(x.numpy())
```

* `functions.c`: what the board can do. Start here.
* `include/`, `src/`: the device library, as it came with microrpc {version}.
* `libc/`, on a board: what zig lacks of `math.h` and `string.h`.
* `ports/`: how it starts, and its UART. `ports/common/examples/sensor.c` is a `functions.c` that reports what a sensor
  sees, without being asked.
* `port.toml`: what is built, how, and what runs it.
* `LICENSE`: that of the library, and of the files that came with it.
"""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a project has of its author's, or of a generator's, besides the library and the port to the board."""

    functions: str = FIRST_FUNCTIONS
    """functions.c, where FIRMWARE_NAME stands for the project's name."""
    readme: str = _README
    """README.md, where {name}, {board}, {version}, and what `steps_in_readme` gives are filled in."""
    folders: tuple[str, ...] = ()
    """Folders of the library that it has besides."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """More files, by their paths in the project."""
    sources: tuple[str, ...] = ()
    """What its port.toml has besides the port's, as the following."""
    includes: tuple[str, ...] = ()
    """Folders of headers."""
    flags: tuple[str, ...] = ()
    """Of the compiler."""
    defines: tuple[str, ...] = ()
    """As "NAME=VALUE"."""
    libraries: tuple[str, ...] = ()
    """As "m"."""
    head: tuple[str, ...] = ()
    """Comments at the beginning of its port.toml."""


def new_project(directory: pathlib.Path, board: str, contents: Contents | None = None) -> list[str]:
    """Lay out a project in a directory that is empty or not there; give what to tell the user. Raises FirmwareError.

    contents: what it has of its own, by default the first functions of its author; for projects that
    are built with a port.toml.
    """
    if board not in _OTHERS and board not in port_names():
        raise no_firmware_for(board, list(dict.fromkeys([*port_names(), *_OTHERS])), more=f". {FOR_ANY}")
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise FirmwareError(f"{directory}: is there already, and not empty: nothing was changed")
        with _undone_by_an_error(directory):
            directory.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(license_file(), directory / "LICENSE")
            if board in _OTHERS:
                return _OTHERS[board](directory)
            port = load_port(board)
            return (
                _lay_out_sketch(directory, port) if port.sketch else _lay_out(directory, port, contents or Contents())
            )
    except (OSError, shutil.Error) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise FirmwareError(f"{directory}: cannot be written: {reason}") from error


def write_port_file(directory: pathlib.Path, port: Project, contents: Contents) -> None:
    """Write a project's port.toml. Raises OSError."""
    text = "\n".join(_port_file(port, contents)) + "\n"
    (directory / FILE_NAME).write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _undone_by_an_error(directory: pathlib.Path) -> Iterator[None]:
    """Remove all that was made in `directory`, which is empty or not there, and the directories that were not there."""
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        for path in made[-1:] or list(directory.iterdir()):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise


def _lay_out(directory: pathlib.Path, port: Project, contents: Contents) -> list[str]:
    library = port.root
    libc = [port.common.zig_libc] if port.target else []
    for folder in ("include", "src", "ports/common", *_port_folders(port), *libc, *contents.folders):
        if (library / folder).is_dir():
            shutil.copytree(library / folder, directory / folder, ignore=shutil.ignore_patterns(FILE_NAME))
    if port.emulation is not None:
        _copy_emulator(library, directory, port.emulation)
    shutil.copyfile(library / "ports" / "flags.toml", directory / "ports" / "flags.toml")
    for header in (library / "demo").glob("*.h"):
        shutil.copyfile(header, directory / "include" / header.name)
    (directory / "functions.c").write_text(with_name(contents.functions, directory), encoding="utf-8")
    for path, data in contents.files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)
    write_port_file(directory, port, contents)
    _write_readme(directory, port, contents.readme)
    return [
        f"{directory} has a project for {port.name}; your functions are in {directory / 'functions.c'}.",
        *told(port, directory),
    ]


def _lay_out_sketch(directory: pathlib.Path, port: Project) -> list[str]:
    """Lay out a sketch that microrpc, too, builds for a board."""
    lead = lay_out_sketch(directory, port.fqbn, steps_in_readme(port)["steps"])
    lines = ["# What is built by Arduino's tools, and what runs it. Paths are relative to this directory.", "[build]"]
    lines.append(f"board = {json.dumps(port.name)}")
    lines += [f"sketch = {json.dumps(f'{directory.resolve().name}.ino')}", f"fqbn = {json.dumps(port.fqbn)}"]
    if port.emulation is not None:
        _copy_emulator(port.root, directory, port.emulation)
        lines += _emulator_table(port.emulation)
    (directory / FILE_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [*lead, *told(port, directory)]


def _port_folders(port: Project) -> list[str]:
    """Name the folders of ports that it is made of: its own, or that which it is the same as, and what it shares."""
    paths = (*port.sources, *port.includes, port.linker_script or "")
    shared = {"/".join(pathlib.PurePosixPath(path).parts[:2]) for path in paths if path.startswith("ports/")}
    return sorted(shared - {"ports/common"} | {port.file.parent.relative_to(port.root).as_posix()})


def _copy_emulator(library: pathlib.Path, directory: pathlib.Path, emulation: Emulation) -> None:
    """Copy what of an emulator is ours."""
    if emulation.project:
        shutil.copytree(library / emulation.project, directory / emulation.project)
    for argument in (emulation.program, *emulation.args):
        if (library / argument).is_file():
            (directory / argument).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library / argument, directory / argument)


def _write_readme(directory: pathlib.Path, port: Project, readme: str) -> None:
    name = directory.resolve().name
    text = readme.format(name=name, board=port.name, version=version("microrpc"), **steps_in_readme(port))
    (directory / "README.md").write_text(text, encoding="utf-8")


def _port_file(port: Project, contents: Contents | None = None) -> Iterator[str]:
    """Give the lines of a port.toml that builds the user's functions in the place of the demonstration's."""
    contents = contents or Contents()
    yield from (f"# {line}" for line in contents.head)
    yield "# What is built, and what runs it. Paths are relative to this directory; a * stands for all that is there."
    yield "# ports/flags.toml has the flags that hold in any case."
    yield "[build]"
    yield f"board = {json.dumps(port.name)}"
    for key, value in (("target", port.target), ("cpu", port.cpu), ("linker_script", port.linker_script)):
        if value:
            yield f"{key} = {json.dumps(value)}"
    yield from _list("flags", (*port.flags, *contents.flags))
    of_the_port = (source for source in port.sources if not source.startswith("demo/"))
    yield from _list("sources", ("*.c", *contents.sources, *of_the_port))
    includes = (include for include in port.includes if include != "demo")
    yield from _list("includes", (*includes, *contents.includes))
    if port.libraries or contents.libraries:
        yield from _list("libraries", (*port.libraries, *contents.libraries))
    yield "# What the library is to have besides: docs/firmware.md tells what each costs."
    sizes = [define for define in port.defines if not define.startswith("MICRORPC_")]  # for which the board has RAM
    default = DEFINES if _flash_bytes(port) >= LEAST_FLASH_BYTES else ()
    yield from _list("defines", (*sizes, *default, *contents.defines))
    if port.uf2_family is not None:
        yield f"uf2_family = {port.uf2_family:#010x}"
    if port.gcc is not None:
        yield from ("", "[build.gcc]", f"prefix = {json.dumps(port.gcc.prefix)}")
        yield from _list("flags", port.gcc.flags)
    if port.emulation is not None and not port.emulation.is_this_computer:
        yield from _emulator_table(port.emulation)


def _emulator_table(emulation: Emulation) -> Iterator[str]:
    yield from ("", "[emulator]")
    for key in ("program", "machine", "project", "package"):
        if value := getattr(emulation, key):
            yield f"{key} = {json.dumps(value)}"
    yield from _list("args", emulation.args)
    if emulation.npm:
        yield from _list("npm", emulation.npm)


def _flash_bytes(port: Project) -> float:
    """How much flash the board has, by the region ROM of its linker script; a computer has no end of it."""
    if port.linker_script is None:
        return math.inf
    text = (port.root / port.linker_script).read_text(encoding="utf-8")
    found = re.search(r"^\s*ROM\b.*\bLENGTH\s*=\s*(\d+)([KM]?)", text, flags=re.MULTILINE)
    return int(found[1]) * _UNITS[found[2]] if found is not None else 0


def _list(key: str, values: Iterable[str]) -> Iterator[str]:
    texts = [json.dumps(value) for value in values]
    line = f"{key} = [{', '.join(texts)}]"
    if len(line) <= 100:
        yield line
    else:
        yield from (f"{key} = [", *(f"    {text}," for text in texts), "]")
