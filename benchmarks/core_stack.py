"""How much stack the device library takes at most, by the path that is gone: what the compiler says of each function.

`python -m benchmarks.core_stack` prints it, and with `--write` puts it into docs/firmware.md. GCC tells the frame of
each function and what it calls (`-fcallgraph-info=su`); the calls by pointers are those of TARGETS. What handlers, the
port and the compiler's own helpers take comes on top.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from benchmarks.core_size import GUIDE
from microrpc.boards.files import replacing
from microrpc.errors import FirmwareError
from microrpc.firmware.build import Compiler, find_compiler
from microrpc.firmware.project import Gcc, Project, firmware_directory, load_port
from microrpc.firmware.running import run

_COMPILE_S = 120.0
HANDLER: Final = "(a handler)"
TABLED: Final = "(a handler of a table)"
PORT: Final = "(the port)"
MODEL: Final = "(a model)"
TARGETS: Final[Mapping[str, str]] = {
    "handler": HANDLER,
    "evaluator->timed": TABLED,
    "evaluator->prepare": TABLED,
    "model->run": MODEL,
    **{
        f"{who}->{what}": PORT
        for who in ("config", "device->config")
        for what in ("write", "flush", "now_us", "idle", "stack", "on_session", "read")
    },
}
"""What is called by a pointer, as the source has it, and what that may be."""
_HELPERS = re.compile(r"__\w+|mem(cpy|move|set|cmp)|strcpy_P")  # of the compiler and of C: leaves of few bytes
_PULL = "microrpc_is_cancelled"
_NOT_WITHIN_A_PULL = "mrpc_serve"  # what comes while a function runs is not served (progress.c)
_TABLED = re.compile(r"MICRORPC_(?:NAMED|FUNCTION(?:_DOC|_AS)?)\((?:\"[^\"]*\", )?(\w+)")
_RETURNED = re.compile(r"microrpc_return_function\(call, (\w+)")
_NODE = re.compile(r'node: \{ title: "([^"]+)" label: "[^"]*\\n(\d+) bytes \(([a-z,]+)\)')
_EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)" label: "([^"]*)"')


@dataclass(frozen=True, slots=True)
class Calls:
    """A program: the stack that each function takes, in bytes, and what it calls."""

    frames: dict[str, int] = field(default_factory=dict)
    callees: dict[str, set[str]] = field(default_factory=dict)
    tabled: frozenset[str] = frozenset()
    """The handlers that stand in tables, of the functions that are known; others take nothing here."""
    returned: frozenset[str] = frozenset()
    """Those that a function returned, which no other one finds."""

    def most(self, root: str, to: str | None = None) -> int:
        """Give the most that `root` and what it calls take together: all, or as far as `to` is called.

        Raises FirmwareError where a function is not known, or calls itself.
        """
        found = self._most(self._name(root), to, False, {}, ())
        if found is None:
            raise FirmwareError(f"{root} does not come to {to}")
        return found

    def _name(self, function: str) -> str:
        """Static ones have their file in front."""
        names = [name for name in self.frames if name.rpartition(":")[2] == function]
        if len(names) != 1:
            raise FirmwareError(f"there are {len(names)} functions {function}")
        return names[0]

    def _most(
        self, name: str, to: str | None, is_pull: bool, known: dict[tuple[str, bool], int | None], path: tuple[str, ...]
    ) -> int | None:
        """Without `to` the deepest path; with it the deepest that ends there, None where there is none."""
        if to is not None and (name == to or (name, to) == (TABLED, HANDLER)):
            return 0
        is_pull = is_pull or name == _PULL
        if (name, is_pull) in known:
            return known[name, is_pull]
        step = f"{name}{' within a pull' if is_pull else ''}"
        if step in path:
            raise FirmwareError(f"{' -> '.join([*path[path.index(step) :], step])}: there is no end of it")
        deepest = 0 if to is None else None
        for callee in self._callees(name):
            if is_pull and callee == _NOT_WITHIN_A_PULL:
                continue
            depth = self._most(callee, to, is_pull, known, (*path, step))
            if depth is not None and (deepest is None or depth > deepest):
                deepest = depth
        frame = self.frames.get(name, 0)
        known[name, is_pull] = None if deepest is None else frame + deepest
        return known[name, is_pull]

    def _callees(self, name: str) -> Iterator[str]:
        if name in (HANDLER, TABLED):
            yield from self.tabled
            yield from self.returned if name == HANDLER else ()
        elif name in (PORT, MODEL):
            return
        elif name in self.frames:
            yield from self.callees.get(name, ())
        elif not _HELPERS.fullmatch(name):
            raise FirmwareError(f"nothing is known of the stack of {name}")


def read_calls(project: Project) -> Calls:
    """Compile each source of `project` by GCC, and read what it says. Raises FirmwareError."""
    tool = find_compiler(project, Compiler.GCC)
    gcc = project.gcc or Gcc()
    flags = [*(flag for flag in project.common.all if not flag.startswith("-Wl")), *project.common.freestanding]
    flags += [*gcc.flags, *project.flags, *(f"-I{include}" for include in project.includes)]
    flags += [f"-D{define}" for define in project.defines]
    calls = Calls()
    tabled, returned = set(), set()
    with tempfile.TemporaryDirectory() as directory:
        for number, source in enumerate(project.source_files()):
            result = pathlib.Path(directory, f"{number}.o")
            command = [*tool.command, *flags, "-c", source, "-fcallgraph-info=su", "-o", str(result)]
            done = run(command, project.root, _COMPILE_S)
            if done.code:
                raise FirmwareError(f"{source} cannot be compiled:\n{done.stderr}")
            _add(calls, result.with_suffix(".ci").read_text(), project.root)
            text = (project.root / source).read_text(encoding="utf-8", errors="replace")
            tabled |= {*_TABLED.findall(text)}
            returned |= {*_RETURNED.findall(text)}

    def known(names: set[str]) -> frozenset[str]:
        return frozenset(name for name in calls.frames if name.rpartition(":")[2] in names)

    return dataclasses.replace(calls, tabled=known(tabled), returned=known(returned))


def _add(calls: Calls, said: str, root: pathlib.Path) -> None:
    for name, size, kind in _NODE.findall(said):
        if kind not in ("static", "dynamic,bounded"):
            raise FirmwareError(f"{name} takes what nobody can know: {kind}")
        calls.frames[name] = int(size)
    for caller, callee, place in _EDGE.findall(said):
        name = callee if callee != "__indirect_call" else _target(place, root)
        calls.callees.setdefault(caller, set()).add(name)


def _target(place: str, root: pathlib.Path) -> str:
    """What is called by the pointer at "FILE:LINE:COLUMN"."""
    file, line, column = place.rsplit(":", 2)
    text = (root / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
    for pointer, target in TARGETS.items():
        if re.search(rf"(?<![\w>.]){re.escape(pointer)}\(", text):
            return target
    raise FirmwareError(f"{place}: nobody has said what is called here: {text[int(column) - 1 :]}")


# --- what the guide tells -----------------------------------------------------------------------

CPUS: Final = {
    "Cortex-M3": Gcc("arm-none-eabi-", ("-mcpu=cortex-m3", "-mthumb")),
    "Cortex-M0": Gcc("arm-none-eabi-", ("-mcpu=cortex-m0", "-mthumb")),
}
PATHS: Final[dict[str, tuple[str, str | None]]] = {
    "`microrpc_start`": ("microrpc_start", None),
    "`microrpc_receive`, with all that it calls of the library": ("microrpc_receive", None),
    "`microrpc_receive`, as far as a function of yours": ("microrpc_receive", HANDLER),
    "`microrpc_receive`, as far as `run` of a model": ("microrpc_receive", MODEL),
    "`microrpc_lost_bytes`": ("microrpc_lost_bytes", None),
    "`microrpc_log`": ("microrpc_log", None),
    "`microrpc_log_at`": ("microrpc_log_at", None),
    "`microrpc_event`": ("microrpc_event", None),
    "`microrpc_event_reliable`": ("microrpc_event_reliable", None),
    "`microrpc_progress`": ("microrpc_progress", None),
    "`microrpc_is_cancelled`": ("microrpc_is_cancelled", None),
    "`microrpc_int`, `microrpc_text` and the like": ("microrpc_int", None),
    "`microrpc_tensor`": ("microrpc_tensor", None),
    "`microrpc_return_tensor`": ("microrpc_return_tensor", None),
}
"""What a firmware author goes, from where and as far as where."""


@functools.cache
def core_calls(cpu: str) -> tuple[Calls, str]:
    """Give the library with all that it can have on this CPU, and the compiler. Raises FirmwareError."""
    root = firmware_directory()
    project = dataclasses.replace(
        load_port("qemu_mps2_an385"), root=root, sources=("src/*.c",), includes=("include", "src"), gcc=CPUS[cpu]
    )
    return read_calls(project), find_compiler(project, Compiler.GCC).version


def rows() -> dict[str, tuple[int, ...]]:
    """Give the rows of the guide's table: the bytes on each CPU."""
    return {row: tuple(core_calls(cpu)[0].most(*path) for cpu in CPUS) for row, path in PATHS.items()}


def written(guide: str) -> str:
    """Give the text of the guide with today's figures. Raises ValueError where it has no row for one."""
    for row, sizes in rows().items():
        pattern = rf"^\| {re.escape(row)} \|( -?[\d,]+ \|){{{len(sizes)}}}"
        line = f"| {row} | {' | '.join(f'{size:,}' for size in sizes)} |"
        guide, count = re.subn(pattern, line, guide, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"{GUIDE.name} has {count} rows | {row} |, and wants 1")
    return guide


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.core_stack", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the figures into docs/firmware.md")
    if parser.parse_args().write:
        text = written(GUIDE.read_text(encoding="utf-8"))
        with replacing(GUIDE) as file:
            file.write(text.encode())
    for row, sizes in rows().items():
        print(f"{row:60}", *(f"{size:6,}" for size in sizes))


if __name__ == "__main__":
    main()
