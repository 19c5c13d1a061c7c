"""`microrpc functions`, `stubs`, and what the description does for `info` and `call`; completion of names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import describing
import numpy as np
import pytest
from commands import change_board, run, run_json

from firmware_sim.board.device import Device
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.cli import common

FUNCTIONS = [
    {"name": name, "signature": signature, "doc": doc, "is_checked": name not in ("odd", "plain")}
    for name, signature, doc in describing.FUNCTIONS
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MICRORPC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "microrpc"


@pytest.fixture
def telling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every simulated board tells of itself."""
    change_board(monkeypatch, describing.install)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """None does."""

    def change(device: Device) -> None:
        device.functions.pop("microrpc.describe", None)

    change_board(monkeypatch, change)


@pytest.mark.usefixtures("telling")
def test_the_functions_are_a_table_under_the_identity() -> None:
    result = run("functions", "sim://")
    told = "odd: nobody can read its signature (docs/description.md 3): nothing is checked\n"
    assert (result.code, result.err) == (0, told), "and what the firmware has to mend is said"
    assert result.out.splitlines()[:6] == [
        "board      lab board",
        "firmware   meter 1.2",
        "functions  7",
        "",
        "NAME     SIGNATURE                                                     DOC",
        "scale    x: float32[n], factor: float -> None                          Multiply a tensor in place.",
    ]
    assert len(result.out.splitlines()) == 5 + 7


@pytest.mark.usefixtures("telling")
def test_the_functions_as_json() -> None:
    shown = run_json("functions", "sim://")
    assert shown["functions"] == FUNCTIONS
    assert shown["port"] == "sim://"
    hash = describing.describe().split(b"\t")[2].decode()
    assert shown["identity"] == {"board": "lab board", "firmware": "meter", "version": "1.2", "hash": hash}


@pytest.mark.usefixtures("telling")
@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_terminal_is_filled_and_never_overfilled(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "is_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.setenv("COLUMNS", str(width))
    assert max(map(len, run("info", "sim://").out.splitlines())) <= width
    lines = run("functions", "sim://").out.splitlines()
    assert max(map(len, lines)) <= width
    assert ("SIGNATURE" in lines[4]) == (width == 120)
    if width == 80:
        assert lines[4:6] == ["scale(x: float32[n], factor: float) -> None", "    Multiply a tensor in place."]
    words = " ".join(lines).split()
    assert all(word in words for word in ["Multiply", "a", "tensor", "in", "place."])


@pytest.mark.usefixtures("silent")
def test_a_board_that_tells_nothing_is_no_error() -> None:
    result = run("functions", "sim://")
    assert (result.code, result.err) == (0, "")
    assert "tells nothing of its functions" in result.out
    assert "built with MICRORPC_DESCRIBE=1" in result.out
    assert "`microrpc call PORT NAME`" in result.out
    assert run_json("functions", "sim://") == {"port": "sim://", "identity": None, "functions": []}
    assert "identity        not told" in run("info", "sim://").out
    shown = run_json("info", "sim://")
    assert (shown["identity"], shown["functions"]) == (None, None)
    result = run("stubs", "sim://")
    assert (result.code, result.out) == (1, "")
    assert "tells nothing" in result.err


@pytest.mark.usefixtures("telling")
def test_info_shows_who_the_board_is() -> None:
    out = run("info", "sim://").out
    assert "board           lab board\nfirmware        meter 1.2\nfunctions       7 (`microrpc functions`" in out
    shown = run_json("info", "sim://")
    assert (shown["identity"]["board"], shown["functions"]) == ("lab board", 7)


# --- call ---------------------------------------------------------------------------------------------


def call(*args: object) -> str:
    result = run("call", "sim://", *args)
    assert (result.code, result.err) == (0, "")
    return str(result.out.strip())


def test_arguments_become_what_the_signature_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [
        ("show", "f: float, s: str, t: str, h: handle, *rest: any -> str", ""),
        ("voltage", "channel: int(0..7) -> float", ""),
    ]

    def change(device: Device) -> None:
        describing.install(device, describing.describe(told))
        device.system_library["show"] = lambda *args: repr(args)

    change_board(monkeypatch, change)
    assert call("show", 2, 3, "none", "0x20", 4, "true") == "(2.0, '3', 'none', OpaqueHandle(0x20), 4, 1)"
    assert call("voltage", "0x2") == "2010.0"


@pytest.mark.usefixtures("telling")
@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("voltage", 8), "voltage: argument 1 (channel) is 8, expected int(0..7); nothing was sent."),
        (("voltage",), "argument 1 (channel: int(0..7)) is missing"),
        (("voltage", 1, 2, 3), "it takes 2 arguments, and 3 were given"),
        (("scale", "tensor:int8[3]", 1.0), "argument 1 (x) is an array int8[3], expected float32[n]"),
        (("scale", "addr:0x20000000:float32[3,3]", 1.0), "is an array float32[3, 3], expected float32[n]"),
        (("scael", 1), "did you mean 'scale'? It tells of 7 functions"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_sent(args: tuple[object, ...], reason: str) -> None:
    result = run("call", "sim://", *args)
    assert (result.code, result.out) == (5, "")
    assert reason in result.err


@pytest.mark.usefixtures("telling")
@pytest.mark.parametrize(
    ("args", "is_told"),
    [
        (("scale", "[1,2]", 1.0), True),
        (("scale",), True),
        (("scale", "tensor:int8[3]", 1.0), False),
        (("voltage", 8), False),
    ],
)
def test_how_an_array_is_written_is_told_where_one_is_missing(args: tuple[object, ...], is_told: bool) -> None:
    told = "An array is written @FILE.npy, tensor:float32[4] (zeros), or addr:ADDRESS:float32[4]"
    assert run("call", "sim://", *args).err.rstrip().endswith(told) is is_told


@pytest.mark.usefixtures("telling")
def test_arrays_are_checked_and_copied_as_ever(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(3, dtype="float32"))
    assert call("scale", f"@{tmp_path / 'x.npy'}", 2).endswith("float32[3] 0 2 4  (min 0, max 4, mean 2)")


def test_a_description_that_is_wrong_does_not_stop_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    change_board(monkeypatch, lambda device: describing.install(device, b"what is no description at all, is it?"))
    result = run("call", "sim://", "voltage", 2)
    assert (result.code, result.out) == (0, "2010.0\n")
    assert "arguments are not checked" in result.err
    assert run("functions", "sim://").code == 4


# --- completion ---------------------------------------------------------------------------------------


@pytest.fixture
def port() -> Iterator[str]:
    device = simulate(profile("loopback"))
    describing.install(device)
    with PtyServer(device) as server:
        yield server.path


def complete(shell: str, *words: str, **environment: str) -> str:
    variables = {
        "_MICRORPC_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": " ".join(["microrpc", *words]),
        "COMP_CWORD": str(len(words)),
        "_TYPER_COMPLETE_ARGS": " ".join(["microrpc", *words]),
    }
    program = "import sys; sys.argv = ['microrpc']; from microrpc.cli import main; main()"
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables, **environment})
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_names_are_completed_as_the_board_told_them_last_and_it_is_not_asked(port: str) -> None:
    assert complete("bash", "call", port, "s").split() == []
    assert run("functions", port).code == 0
    assert complete("bash", "call", port, "s").split() == ["scale", "sum"]
    assert complete("bash", "call", "/dev/another", "s").split() == []
    assert complete("bash", "call", port, "s", MICRORPC_CACHE="off").split() == []
    assert "Multiply a tensor in place." in complete("zsh", "call", port, "s")


# --- stubs --------------------------------------------------------------------------------------------

PROGRAM = """
from __future__ import annotations

from typing import TYPE_CHECKING, assert_type, cast

import microrpc
import microrpc.aio

if TYPE_CHECKING:
    import meter


def blocking() -> None:
    with microrpc.connect("sim://") as opened:
        board = cast("meter.Board", opened)
        x = board.array([1.0, 2.0])
        assert_type(board.f.scale(x, 2.0), None)
        board.f.scale(x, factor=2, timeout_s=1.0, on_progress=lambda done, total: print(done / total))
        assert_type(board.f.voltage(1), float)
        assert_type(board.f.voltage(channel=1, delay=2), float)
        assert_type(board.f.sum(1, 2, 3), int)
        board.f["a.b"]()
        board.f.odd(1, "2")
        board.f.kinds(b"", True, None, x, board.function("f"), in_=3)


async def asynchronous() -> None:
    async with microrpc.aio.connect("sim://") as opened:
        board = cast("meter.AsyncBoard", opened)
        x = await board.array([1.0, 2.0])
        await board.f.scale(x, 2.0)
        assert_type(await board.f.voltage(1), float)
        assert_type(await board.f.sum(1, 2, 3), int)
        await board.f["a.b"]()


def wrong(board: meter.Board, other: meter.AsyncBoard) -> None:
    board.f.scael  # "Functions" has no attribute "scael"
    board.f.scale([1.0], 2.0)  # Argument 1 to "scale" of "Functions" has incompatible type
    board.f.voltage("1")  # Argument 1 to "voltage" of "Functions" has incompatible type
    board.f.voltage()  # Missing positional argument "channel"
    board.f.voltage(1, dealy=2)  # Unexpected keyword argument "dealy"
    text: str = board.f.voltage(1)  # Incompatible types in assignment
    other.f.voltage("1")  # Argument 1 to "voltage" of "AsyncFunctions" has incompatible type
    board.f.sum(1, on_progress=2)  # Argument "on_progress" to "sum" of "Functions" has incompatible type
    board.f.int(1)  # "Functions" has no attribute "int"
"""


def test_the_stubs_say_what_mypy_checks_in_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = [
        *describing.FUNCTIONS,
        ("kinds", "b: bytes, t: bool, h: handle, x: any, f: function, in: int = 1 -> bool", 'It says "\\".\x07'),
        ("optional", 'x: float32[n] = None, s: str = "a" -> handle', ""),
        ("int", "-> int", "A method of this name would hide the type."),
        ("import", "-> int", "No name of Python."),
    ]
    change_board(monkeypatch, lambda device: describing.install(device, describing.describe(told)))
    result = run("stubs", "sim://", "-o", tmp_path / "meter.pyi")
    assert (result.code, result.out) == (0, "")
    assert "meter.pyi: 11 functions of meter 1.2 on lab board" in result.err
    text = (tmp_path / "meter.pyi").read_text(encoding="utf-8")
    assert run("stubs", "sim://").out == text
    assert "x: microrpc.RemoteArray | None = None, s: str = 'a', *, timeout_s: float | None = None, " in text
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--no-error-summary",
        "program.py",
        "meter.pyi",
    ]
    root = Path(__file__).parent.parent.parent
    cache_dir = root / "build" / "tests" / "mypy"
    ran = subprocess.run(
        [*command, f"--cache-dir={cache_dir}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(root)},
    )
    expected = {
        number: line.partition("  # ")[2] for number, line in enumerate(PROGRAM.split("\n"), 1) if "  # " in line
    }
    found = {int(line.split(":")[1]): line.split(": ", 2)[2] for line in ran.stdout.splitlines() if ": error: " in line}
    assert found.keys() == expected.keys(), ran.stdout + ran.stderr
    for number, reason in expected.items():
        assert reason in found[number]


def test_stubs_go_to_a_file_whole_or_not_at_all(tmp_path: Path) -> None:
    result = run("stubs", "sim://", "-o", tmp_path / "no" / "such" / "meter.pyi")
    assert result.code == 6
    assert "cannot write" in result.err


def test_the_json_of_a_wrong_description_is_an_error_object(monkeypatch: pytest.MonkeyPatch) -> None:
    change_board(monkeypatch, lambda device: describing.install(device, b"what is no description at all, is it?"))
    result = run("functions", "sim://", "--json")
    assert result.code == 4
    assert json.loads(result.out)["error"]["type"] == "ProtocolError"
