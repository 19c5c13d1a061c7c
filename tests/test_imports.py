"""Imports go one way, and the core does no I/O and reads no clock (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "microrpc"
SIMULATOR = ROOT / "firmware_sim"

# A module may import those on its own line and on the lines above. A new module fails a test until it is placed here.
LAYERS = [
    ["errors"],
    ["datatypes", "memory", "stats"],
    ["framing", "session", "values", "codec"],
    ["chunking", "endpoint", "server", "serving", "boards", "profile_schema", "link", "firmware"],
    ["conversation", "pipelining", "linked", "stream", "host", "copying", "verifying", "channel", "handles"],
    ["operations", "trace"],
    ["remote", "client"],
    ["finding", "resets", "reconnecting", "emulator"],
    ["target"],
    ["opening", "aio"],
    ["share_memory", "share_session", "share"],
    ["__init__"],
    ["cli"],
]
RANKS = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

CORE = [
    "errors",
    "framing",
    "session",
    "datatypes",
    "values",
    "codec",
    "chunking",
    "endpoint",
    "server",
    "serving",
    "memory",
    "conversation",
    "stream",
    "host",
    "handles",
    "operations",
    "link",
    "linked",
    "pipelining",
    "copying",
    "verifying",
    "stats",
]
NOT_IN_THE_CORE = {
    *("time", "datetime", "os", "pathlib", "subprocess", "signal"),
    *("socket", "select", "selectors", "serial", "termios", "fcntl"),
    *("threading", "asyncio", "multiprocessing", "concurrent"),
}

# Who may know the simulator, and only inside a function.
KNOW_THE_SIMULATOR = {"opening", "aio"}
# "firmware_sim imports server and below" (docs/architecture.md).
SIMULATOR_LIMIT = RANKS["server"]


@dataclass(frozen=True)
class Import:
    """One import: the module's full name, its line, and whether it stands in a function."""

    module: str
    line: int
    in_function: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    @property
    def part(self) -> str:
        """Which part of microrpc it names, as in LAYERS."""
        return self.module.split(".")[1] if "." in self.module else "__init__"


def imports_of(source: str) -> list[Import]:
    return list(_imports(ast.parse(source), in_function=False))


def _imports(node: ast.AST, *, in_function: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, node.lineno, in_function)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: imports are absolute here"
        assert node.module is not None
        if node.module == "microrpc":
            for alias in node.names:
                is_module = (PACKAGE / f"{alias.name}.py").exists() or (PACKAGE / alias.name).is_dir()
                yield Import(f"microrpc.{alias.name}" if is_module else "microrpc", node.lineno, in_function)
        else:
            yield Import(node.module, node.lineno, in_function)
    elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        for child in node.orelse:
            yield from _imports(child, in_function=in_function)
    else:
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from _imports(child, in_function=inside)


def imports_in(path: Path) -> list[Import]:
    return imports_of(path.read_text(encoding="utf-8"))


def part_of(path: Path) -> str:
    """The part of microrpc that a file belongs to, as in LAYERS."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


FILES = sorted(PACKAGE.rglob("*.py"))
FILE_IDS = [path.relative_to(PACKAGE).as_posix() for path in FILES]


# --- the reader of imports itself -------------------------------------------------------------


def test_the_reader_finds_imports_wherever_they_stand() -> None:
    source = """
import os, microrpc.codec
from microrpc.errors import RequestError
from microrpc import endpoint, MicroRpcError
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from microrpc.client import Board
else:
    import select
try:
    import time
except ImportError:
    import socket
class A:
    def f(self):
        with x:
            from firmware_sim.serve import PtyServer
"""
    found = imports_of(source)
    assert [one.module for one in found] == [
        *("os", "microrpc.codec", "microrpc.errors", "microrpc.endpoint", "microrpc", "typing", "select"),
        *("time", "socket", "firmware_sim.serve"),
    ]
    assert [one.in_function for one in found] == [False] * 9 + [True]
    assert [one.part for one in found[1:5]] == ["codec", "errors", "endpoint", "__init__"]


# --- layers -----------------------------------------------------------------------------------


def test_every_module_has_its_place_in_the_table() -> None:
    placed, there = set(RANKS), {part_of(path) for path in FILES}
    assert there - placed == set(), "place the new module in LAYERS, and in docs/architecture.md"
    assert placed - there == set(), "LAYERS names modules that are gone"
    assert sum(map(len, LAYERS)) == len(RANKS), "a module is placed twice"


@pytest.mark.parametrize("path", FILES, ids=FILE_IDS)
def test_a_module_imports_only_its_own_layer_and_those_below(path: Path) -> None:
    rank = RANKS[part_of(path)]
    too_high = [
        f"line {one.line}: {one.module}"
        for one in imports_in(path)
        if one.top == "microrpc" and RANKS.get(one.part, len(LAYERS)) > rank
    ]
    assert too_high == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    needs = {
        name: {one.part for path in FILES if part_of(path) == name for one in imports_in(path) if one.top == "microrpc"}
        for name in RANKS
    }
    for package in ("cli", "aio", "firmware"):
        needs[package].discard(package)
    while needs:
        free = [name for name, others in needs.items() if not others & needs.keys()]
        assert free, f"a circle of imports among {sorted(needs)}"
        for name in free:
            del needs[name]


def test_errors_imports_nothing() -> None:
    assert [one.module for one in imports_in(PACKAGE / "errors.py")] == ["__future__"]


# --- the core ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORE)
def test_the_core_does_no_io_and_reads_no_clock(name: str) -> None:
    assert {one.top for one in imports_in(PACKAGE / f"{name}.py")} & NOT_IN_THE_CORE == set()


@pytest.mark.parametrize("name", CORE)
def test_the_core_imports_nothing_outside_the_core(name: str) -> None:
    assert {one.part for one in imports_in(PACKAGE / f"{name}.py") if one.top == "microrpc"} <= set(CORE)


# --- the simulator ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=FILE_IDS)
def test_only_the_opening_of_a_sim_url_and_the_command_line_know_the_simulator(path: Path) -> None:
    uses = [one for one in imports_in(path) if one.top == "firmware_sim"]
    if part_of(path) == "cli":
        return
    assert not uses or part_of(path) in KNOW_THE_SIMULATOR
    assert all(one.in_function for one in uses), "import it where it is used: a host without a simulator does not pay"


@pytest.mark.parametrize("path", sorted(SIMULATOR.rglob("*.py")), ids=lambda path: path.stem)
def test_the_simulator_imports_server_and_below(path: Path) -> None:
    too_high = [
        f"line {one.line}: {one.module}"
        for one in imports_in(path)
        if one.top == "microrpc" and RANKS[one.part] > SIMULATOR_LIMIT
    ]
    assert too_high == []


@pytest.mark.parametrize("path", [*FILES, *sorted(SIMULATOR.rglob("*.py"))], ids=lambda path: path.stem)
def test_nothing_that_is_shipped_imports_tests_or_benchmarks(path: Path) -> None:
    not_there = {"tests", "benchmarks", "golden", "pytest", "pytest_microrpc", "hypothesis"}
    assert {one.top for one in imports_in(path)} & not_there == set()
