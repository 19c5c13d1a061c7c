"""Where a module may reach (docs/architecture.md): imports go one way, and the core does no I/O and reads no clock.

A room is a package, with all that is in it, or a module that lies beside packages. Every import counts: those that only
type checkers follow, and those inside functions.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# What a room may import, besides itself: rooms, or single modules. From the bottom to the top: a row names only what
# stands above it here. A new room fails a test until it is placed.
MAY_IMPORT = {
    "microrpc.errors": "",
    "microrpc._names": "",
    "microrpc.wire": "microrpc.errors",
    # The two sides of the protocol, and what listens between them. They do not know each other.
    "microrpc.host": "microrpc.wire microrpc.errors",
    "microrpc.serve": "microrpc.wire microrpc.errors",
    "microrpc.capture": "microrpc.wire microrpc.errors",
    "microrpc.ports": "microrpc.host microrpc.wire microrpc.errors",
    "microrpc.boards": "microrpc.ports microrpc.wire microrpc.errors",
    "microrpc.client": "microrpc.ports microrpc.host microrpc.wire microrpc.errors",
    "microrpc.firmware": "microrpc.boards microrpc.wire microrpc.errors",
    "firmware_sim.board": "microrpc.serve microrpc.wire microrpc.errors",
    "firmware_sim.line": "firmware_sim.board microrpc.boards.tables microrpc.serve microrpc.wire microrpc.errors",
    "firmware_sim.running": (
        "firmware_sim.line firmware_sim.board microrpc.boards.schema "
        "microrpc.ports.bell microrpc.ports.channel microrpc.ports.pty microrpc.ports.sockets microrpc.wire "
        "microrpc.errors"
    ),
    "microrpc.connecting": (
        "firmware_sim.running microrpc.firmware microrpc.client microrpc.boards microrpc.ports "
        "microrpc.capture microrpc.host microrpc.wire microrpc.errors"
    ),
    "microrpc.gateway": (
        "microrpc.connecting microrpc.firmware microrpc.client microrpc.boards microrpc.ports microrpc.serve "
        "microrpc.wire microrpc.errors"
    ),
    "microrpc.cli": (
        "microrpc.gateway microrpc.connecting firmware_sim.running firmware_sim.line firmware_sim.board "
        "microrpc.firmware microrpc.client microrpc.boards microrpc.ports "
        "microrpc.capture microrpc.host microrpc.wire microrpc.errors"
    ),
    "pytest_microrpc": (
        "microrpc.connecting firmware_sim.running firmware_sim.line firmware_sim.board "
        "microrpc.firmware microrpc.client microrpc.boards microrpc.ports microrpc.capture microrpc.errors"
    ),
    "benchmarks": (
        "microrpc.gateway microrpc.connecting firmware_sim.running firmware_sim.line firmware_sim.board "
        "microrpc.firmware microrpc.client microrpc.boards microrpc.ports "
        "microrpc.capture microrpc.host microrpc.wire microrpc.errors"
    ),
    "dev": "",  # scripts of the developers
    "firmware": "",  # in C; its layout.py is a script
}

# Names for users, permanent or old, which only hand on what stands elsewhere. The house does not go through them.
FACES = {
    *("microrpc", "microrpc.aio", "microrpc.boards"),
    *("firmware_sim", "firmware_sim.device", "firmware_sim.faults", "firmware_sim.loopback"),
    *("firmware_sim.serve", "firmware_sim.simulate", "firmware_sim.uart"),
    *("microrpc.channel", "microrpc.client", "microrpc.emulator", "microrpc.host", "microrpc.link", "microrpc.share"),
    "microrpc.labgrid",
    "microrpc.tvm",
}

# What is measured beside 0.4.0 runs with that, too, and so by the names that both have.
SPEAK_TO_AN_OLDER_VERSION = {"benchmarks.canned"}

# Programs as users write them: they are no part of the house, and know of it what users know.
EXAMPLES = "examples"

# What other people's programs load, in their own Python: it can import nothing of ours, and is imported by nothing.
PLUGINS = "plugins"

MOST_ROOMS, MOST_FLOORS, MOST_ARROWS = 20, 10, 95
MOST_LINES = 400

CORE = ("microrpc.wire", "microrpc.host", "microrpc.serve")
NOT_IN_THE_CORE = {
    *("time", "datetime", "sched", "os", "io", "pathlib", "shutil", "tempfile", "subprocess", "signal"),
    *("socket", "select", "selectors", "ssl", "serial", "termios", "fcntl", "pty", "tty", "mmap"),
    *("threading", "_thread", "queue", "asyncio", "multiprocessing", "concurrent"),
}
TEST_TOOLS = {"tests", "benchmarks", "pytest", "pytest_microrpc", "hypothesis"}


# --- the reader ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    """One import: the module that it names, as far as `modules` tell, and its line."""

    module: str
    line: int

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports_of(source: str, modules: Iterable[str]) -> Iterator[Import]:
    """Give the imports of a source, wherever they stand. `from a import b` is a.b where that is a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield Import(full if full in modules else node.module, node.lineno)


def find_modules() -> dict[str, Path]:
    """Give all modules of the repository but the tests, by name."""
    folders = (path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {}
    for folder in folders:
        if folder.name not in ("tests", "build", "dist", EXAMPLES):
            for path in folder.rglob("*.py"):
                if PLUGINS in path.parts:
                    continue
                parts = path.relative_to(ROOT).with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return dict(sorted(found.items()))


def room_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[: 2 if parts[0] in ("microrpc", "firmware_sim") else 1])


MODULES = find_modules()
IMPORTS = {name: list(imports_of(path.read_text(encoding="utf-8"), MODULES)) for name, path in MODULES.items()}
"""All imports of each module."""
INSIDE = {name: {one.module for one in found if one.module in MODULES} - {name} for name, found in IMPORTS.items()}
"""The modules of the repository that each imports."""
ROOMS = sorted({room_of(name) for name in MODULES if name not in FACES})


def arrows() -> dict[tuple[str, str], list[str]]:
    """Give each pair of rooms of which the first imports the second, with the modules that do it."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in MODULES.keys() - FACES:
        for other in INSIDE[name] - FACES:
            if room_of(name) != room_of(other):
                found.setdefault((room_of(name), room_of(other)), []).append(f"{name} -> {other}")
    return found


def floors() -> dict[str, int]:
    """Give the floor of each room: above all that it imports. Raises CycleError where rooms import each other."""
    below: dict[str, set[str]] = {room: set() for room in ROOMS}
    for room, other in arrows():
        below[room].add(other)
    found: dict[str, int] = {}
    for room in TopologicalSorter(below).static_order():
        found[room] = 1 + max((found[other] for other in below[room]), default=0)
    return found


def loaded_by(statement: str) -> set[str]:
    """Give the modules that a fresh interpreter loads for a statement."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True, cwd=ROOT)
    return set(ran.stdout.split())


def test_the_reader_finds_imports_wherever_they_stand() -> None:
    source = """
import os, microrpc.wire.values
from microrpc.errors import RequestError
from microrpc.wire import frames, missing
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from microrpc.client.board import Board
else:
    import select
try:
    import time
except ImportError:
    import socket
class A:
    def f(self):
        with x:
            from firmware_sim.running.server import PtyServer
"""
    assert {one.module: one.line for one in imports_of(source, MODULES)} == {
        "os": 2,
        "microrpc.wire.values": 2,
        "microrpc.errors": 3,
        "microrpc.wire.frames": 4,
        "microrpc.wire": 4,
        "typing": 5,
        "microrpc.client.board": 7,
        "select": 9,
        "time": 11,
        "socket": 13,
        "firmware_sim.running.server": 17,
    }


def test_a_relative_import_is_refused() -> None:
    with pytest.raises(AssertionError, match="line 1: imports are absolute here"):
        list(imports_of("from . import frames", MODULES))


# --- directions ---------------------------------------------------------------------------------------


def test_examples_import_nothing_but_names_for_users() -> None:
    for path in sorted((ROOT / EXAMPLES).rglob("*.py")):
        ours = {one.module for one in imports_of(path.read_text(encoding="utf-8"), MODULES) if one.module in MODULES}
        assert ours <= FACES, path


def test_every_room_has_its_row_in_the_table() -> None:
    assert set(ROOMS) - MAY_IMPORT.keys() == set(), "place the new room in MAY_IMPORT, and in docs/architecture.md"
    assert MAY_IMPORT.keys() - set(ROOMS) == set(), "MAY_IMPORT names rooms that are gone"
    assert FACES - MODULES.keys() == set(), "FACES names modules that are gone"


def test_the_table_goes_from_the_bottom_to_the_top() -> None:
    above: set[str] = set()
    for room, others in MAY_IMPORT.items():
        too_high = [other for other in others.split() if room_of(other) not in above]
        assert too_high == [], f"{room} may import only rooms in rows above its own"
        above.add(room)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_its_row_allows(room: str) -> None:
    allowed = {room, *MAY_IMPORT[room].split()}
    assert [
        f"{MODULES[name].relative_to(ROOT)}:{one.line}: {one.module}"
        for name in MODULES.keys() - FACES - SPEAK_TO_AN_OLDER_VERSION
        if room_of(name) == room
        for one in IMPORTS[name]
        if one.module in MODULES and not {room_of(one.module), one.module} & allowed
    ] == []


def test_the_house_does_not_go_through_its_faces() -> None:
    through = {name: INSIDE[name] & FACES for name in MODULES.keys() - FACES - SPEAK_TO_AN_OLDER_VERSION}
    assert {name: faces for name, faces in through.items() if faces} == {}, "import from where the name stands"


@pytest.mark.parametrize("name", sorted(FACES))
def test_a_face_defines_nothing(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    assert [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)] == []


def test_errors_imports_nothing() -> None:
    assert [one.module for one in IMPORTS["microrpc.errors"]] == ["__future__"]


def test_nothing_that_is_shipped_imports_tests_or_their_tools() -> None:
    shipped = [name for name in MODULES if name.partition(".")[0] in ("microrpc", "firmware_sim")]
    assert {name: found for name in shipped if (found := {one.top for one in IMPORTS[name]} & TEST_TOOLS)} == {}


# --- the core -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MODULES if room_of(name) in CORE])
def test_the_core_does_no_io_and_reads_no_clock(name: str) -> None:
    assert {one.top for one in IMPORTS[name]} & NOT_IN_THE_CORE == set()


# --- what an import costs -----------------------------------------------------------------------------


def test_the_frames_load_nothing_but_errors_and_the_crc() -> None:
    loaded = loaded_by("import microrpc.wire.frames")
    ours = {name for name in loaded if name.startswith("microrpc") and not name.startswith("microrpc.wire")}
    assert ours == {"microrpc", "microrpc._names", "microrpc.errors"}
    foreign = {name.partition(".")[0] for name in loaded} - {"microrpc"} - sys.stdlib_module_names
    assert foreign <= {"crcmod", "fastcrc"}


@pytest.mark.parametrize(
    "statement",
    [
        "import microrpc.connecting.blocking",
        "import microrpc.connecting.aio",
        "import microrpc.cli",
        "import microrpc; microrpc.connect",
    ],
)
def test_a_host_without_a_simulator_does_not_pay_for_one(statement: str) -> None:
    assert {name for name in loaded_by(statement) if name.startswith(("firmware_sim", "microrpc.serve"))} == set()


def test_the_commands_load_nothing_that_takes_long_before_one_is_chosen() -> None:
    """Each is loaded at every Tab, too."""
    slow = {"asyncio", "ssl", "numpy", "serial", "textual", "labgrid", "tomllib", "importlib.metadata", "http"}
    assert loaded_by("import microrpc.cli.commands") & slow == set()


# --- the size of the house ----------------------------------------------------------------------------


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(INSIDE).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_no_module_is_long() -> None:
    sources = [*MODULES.values(), *(ROOT / "microrpc").glob(f"capture/{PLUGINS}/**/*.py")]
    sources += [path for path in (ROOT / "firmware").rglob("*.[ch]") if "tests" not in path.parts]
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in sources}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}, "cut it where one idea ends"


def test_the_house_is_small_enough_to_be_remembered() -> None:
    found, heights = arrows(), floors()
    figures = len(ROOMS), max(heights.values()), len(found)
    plan = [f"{heights[room]:2} {room}" for room in sorted(ROOMS, key=heights.__getitem__, reverse=True)]
    plan += [f"{room} -> {other} ({len(by)})" for (room, other), by in sorted(found.items())]
    assert all(figure <= most for figure, most in zip(figures, (MOST_ROOMS, MOST_FLOORS, MOST_ARROWS), strict=True)), (
        f"{figures} rooms, floors and arrows are more than {(MOST_ROOMS, MOST_FLOORS, MOST_ARROWS)}:\n"
        + "\n".join(plan)
    )
