"""Kernels that TVM compiled, in firmware: built for boards, run on those that run here, and equal to numpy's."""

from __future__ import annotations

import json
import math
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import needs
import numpy as np
import pytest

import microrpc
import microrpc.tvm
from microrpc.errors import FirmwareError, RemoteError
from microrpc.firmware.build import build as build_firmware
from microrpc.firmware.emulator import start_firmware
from microrpc.firmware.project import load_project

pytestmark = [
    pytest.mark.tvm,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),  # TVM's own code warns
]

KERNELS = str(pathlib.Path(__file__).parent / "board_kernels.py")
BOARDS = ("posix", "qemu_mps2_an385", "qemu_riscv32_virt")
TARGETS = ("c", "llvm")
THIRD = 0.123456789012345678


@pytest.fixture(scope="module", autouse=True)
def _tvm() -> None:
    needs.tvm()
    needs.zig()


@contextmanager
def board_with(directory: pathlib.Path, board: str) -> Iterator[microrpc.Board]:
    firmware = build_firmware(load_project(directory))
    with start_firmware(firmware) as emulator, microrpc.connect(emulator.port, board=board) as connected:
        yield connected


def run(
    board: microrpc.Board, name: str, inputs: list[Any], shape: tuple[int, ...], dtype: str
) -> np.ndarray[Any, Any]:
    """Call a kernel with arrays, and numbers as they are; give its output."""
    given = [board.array(x) if isinstance(x, np.ndarray) else x for x in inputs]
    out = board.array(np.zeros(shape, dtype))
    assert board.function(name)(*given, out) is None
    return out.numpy()


def softmax_of(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    powers = np.exp(x - x.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def conv_of(x: np.ndarray[Any, Any], w: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1))), (3, 3), axis=(1, 2))
    return np.einsum("cijab,ocab->oij", windows, w)


def check_four(board: microrpc.Board) -> None:
    random = np.random.default_rng(3)
    a, b = (random.standard_normal(16).astype("float32") for _ in range(2))
    assert (run(board, "add", [a, b], (16,), "float32") == a + b).all()
    m, n = (random.integers(-128, 128, (16, 16)).astype("int8") for _ in range(2))
    assert (run(board, "matmul", [m, n], (16, 16), "int32") == m.astype("int32") @ n.astype("int32")).all()
    x = random.standard_normal((8, 96)).astype("float32") * 5
    assert np.allclose(run(board, "softmax", [x], (8, 96), "float32"), softmax_of(x), rtol=1e-5, atol=1e-9)
    x, w = random.standard_normal((3, 10, 10)).astype("float32"), random.standard_normal((4, 3, 3, 3)).astype("float32")
    assert np.allclose(run(board, "conv", [x, w], (4, 10, 10), "float32"), conv_of(x, w), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", BOARDS)
def test_kernels_give_on_a_board_what_numpy_gives(tmp_path: pathlib.Path, name: str, target: str) -> None:
    needs.emulated(name)
    report = microrpc.tvm.build(f"{KERNELS}:four", board=name, out=tmp_path / "made", target=target)
    assert [kernel.name for kernel in report.kernels] == ["add", "conv", "matmul", "softmax"]
    with board_with(tmp_path / "made", name) as board:
        check_four(board)
        # What is wrong is told before a kernel runs, and what runs afterwards is right.
        given = [board.array(np.zeros(shape, "int8")) for shape in ((16, 16), (16, 16))]
        matmul = board.function("matmul")
        with pytest.raises(RemoteError, match=r"matmul: want 3 arguments, given 2"):
            matmul(*given)
        with pytest.raises(RemoteError, match=r"argument 2: want int32\[16,16\], given int8\[16,16\]"):
            matmul(*given, given[0])
        with pytest.raises(RemoteError, match=r"argument 1: want int8\[16,16\], given no tensor"):
            matmul(given[0], 3, given[0])
        with pytest.raises(RemoteError, match=r"argument 0: want float32\[16\], given float32\[4,4\]"):
            board.function("add")(*(board.array(np.zeros((4, 4), "float32")) for _ in range(3)))
        check_four(board)
        assert board.time_evaluator("matmul", number=2)(*given, board.array(np.zeros((16, 16), "int32"))).mean > 0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", BOARDS[:2])
def test_odd_kernels_are_right_too(tmp_path: pathlib.Path, name: str, target: str) -> None:
    needs.emulated(name)
    microrpc.tvm.build(f"{KERNELS}:odd", board=name, out=tmp_path / "made", target=target)
    with board_with(tmp_path / "made", name) as board:
        x = np.arange(10, dtype="float32").reshape(5, 2)
        assert (run(board, "of_any_length", [x, 0.5, -3], (5, 2), "float32") == x * 0.5 - 3).all()
        of_any_length, given = board.function("of_any_length"), board.array(x)
        with pytest.raises(RemoteError, match=r"argument 3: want float32\[any,2\], given float32\[4,2\]"):
            of_any_length(given, 0.5, 1, board.array(x[:4]))
        halves = np.arange(8).astype("float16")
        assert (run(board, "halves", [halves], (8,), "float16") == halves * np.float16(0.5)).all()
        whole = np.arange(8).astype("int16")
        assert (run(board, "larger", [whole], (8,), "bool") == (whole > 3)).all()
        y = np.array([1, 2, 3, -4], "float64")
        wide, out = board.array(np.zeros(4, "float64")), board.array(np.zeros(4, "float32"))
        board.function("exact")(board.array(y.astype("float32")), board.array(y), wide, out)
        assert (wide.numpy() == y * THIRD).all()
        assert (out.numpy()[:3] == y[:3].astype("float32") * np.float32(THIRD)).all()
        assert out.numpy()[3] == np.inf


@pytest.mark.parametrize("name", BOARDS[:2])
def test_functions_of_float16_are_those_of_float(tmp_path: pathlib.Path, name: str) -> None:
    needs.emulated(name)
    microrpc.tvm.build(f"{KERNELS}:halves", board=name, out=tmp_path / "made")
    x = np.array([0, 0.25, 0.5, 1, 1.5, 2.5, 3.5, 8], "float16")
    wide = x.astype("float64")
    wanted = {
        "log1p": np.log1p(wide),
        "tanh": np.tanh(wide),
        "erf": [math.erf(one) for one in wide],
        "round": np.rint(wide),
        "absolute": wide,
        "power": wide**2.5,
        "not_a_number": np.full(8, np.nan),
    }
    with board_with(tmp_path / "made", name) as board:
        for function, expected in wanted.items():
            given = run(board, function, [x], (8,), "float16")
            assert np.allclose(given, np.asarray(expected), rtol=1e-3, atol=0, equal_nan=True), function


@pytest.mark.parametrize("name", BOARDS[:2])
def test_bits_are_counted(tmp_path: pathlib.Path, name: str) -> None:
    needs.emulated(name)
    microrpc.tvm.build(f"{KERNELS}:bits", board=name, out=tmp_path / "made")
    with board_with(tmp_path / "made", name) as board:
        for dtype in ("int32", "uint32", "int64", "uint64"):
            least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
            bits = np.iinfo(dtype).bits
            x = np.array([0, 1, 2, 255, 256, least, most, most - 1], dtype)
            unsigned = [int(one) & ((1 << bits) - 1) for one in x]
            leading, ones = [bits - one.bit_length() for one in unsigned], [one.bit_count() for one in unsigned]
            assert run(board, f"clz_{dtype}", [x], (8,), "int32").tolist() == leading
            assert run(board, f"popcount_{dtype}", [x], (8,), "int32").tolist() == ones


@pytest.mark.parametrize("target", TARGETS)
def test_vectors_and_parallel_loops_of_a_schedule_run_as_loops(tmp_path: pathlib.Path, target: str) -> None:
    needs.emulated("posix")
    report = microrpc.tvm.build(f"{KERNELS}:vectors", board="posix", out=tmp_path / "made", target=target)
    assert report.functions == ("add(a: float32[16], b: float32[16], out: float32[16]) -> None",)
    with board_with(tmp_path / "made", "posix") as board:
        x = np.arange(16, dtype="float32")
        assert (run(board, "add", [x, x], (16,), "float32") == 2 * x).all()


def test_the_report_says_what_the_board_needs(tmp_path: pathlib.Path) -> None:
    needs.emulated("qemu_mps2_an385")
    reports = {
        target: microrpc.tvm.build(f"{KERNELS}:four", board="qemu_mps2_an385", out=tmp_path / target, target=target)
        for target in TARGETS
    }
    small, large = reports["c"], reports["llvm"]
    assert 300 < small.code_bytes == sum(kernel.code_bytes for kernel in small.kernels) < 1200
    assert 2 * small.code_bytes < large.code_bytes < 12000
    assert small.flash_bytes > small.code_bytes + 8000
    assert large.flash_bytes - small.flash_bytes == pytest.approx(large.code_bytes - small.code_bytes, abs=600)
    # The padded input of conv is on the workspace, with the arguments of a call.
    assert 3 * 12 * 12 * 4 < small.workspace_bytes < 4 * 96 * 12
    assert small.workspace_bytes == large.workspace_bytes
    built = build_firmware(load_project(small.directory))
    assert (built.sizes.flash_bytes, built.sizes.ram_bytes) == (small.flash_bytes, small.ram_bytes)
    assert small.weights_bytes == small.arena_bytes == 0
    assert small.stack_bytes is not None
    assert max(kernel.stack_bytes or 0 for kernel in small.kernels) < small.stack_bytes < 2048
    assert large.stack_bytes is None
    assert "LLVM" in large.stack_reason


def test_the_stack_that_is_told_is_what_a_call_takes(tmp_path: pathlib.Path) -> None:
    """By the board's own mark: a call of the kernel with the largest frame adds no more than the report says."""
    needs.emulated("qemu_mps2_an385")
    report = microrpc.tvm.build(
        f"{KERNELS}:four", board="qemu_mps2_an385", out=tmp_path / "made", defines=["MICRORPC_MEMORY=1"]
    )
    assert report.stack_bytes is not None
    with board_with(tmp_path / "made", "qemu_mps2_an385") as board:
        x = board.array(np.zeros((3, 10, 10), "float32"))
        w, out = board.array(np.zeros((4, 3, 3, 3), "float32")), board.array(np.zeros((4, 10, 10), "float32"))
        board.function("conv")(x, w, out)
        assert 0 < (board.memory().most_stack_bytes or 0) <= report.stack_bytes + 1024


def test_a_project_is_renewed_and_keeps_what_its_author_wrote(tmp_path: pathlib.Path) -> None:
    needs.emulated("posix")
    made = tmp_path / "made"
    microrpc.tvm.build(f"{KERNELS}:four", board="posix", out=made, target="llvm")
    functions = (made / "functions.c").read_text()
    mine = functions.replace(
        "const microrpc_function_t board_functions[]",
        "static void mine(microrpc_call_t *call) { microrpc_return_int(call, 7); }\n"
        "const microrpc_function_t board_functions[]",
    ).replace("    KERNEL_FUNCTIONS", "    KERNEL_FUNCTIONS\n    MICRORPC_FUNCTION(mine),")
    (made / "functions.c").write_text(mine)
    report = microrpc.tvm.build(f"{KERNELS}:MODULE", board="posix", out=made, defines=["MICRORPC_PROGRESS=0"])
    assert [kernel.name for kernel in report.kernels] == ["add"]
    assert not (made / "kernels" / "code.o").exists()
    assert '"MICRORPC_PROGRESS=0"' in (made / "port.toml").read_text()
    with board_with(made, "posix") as board:
        assert board.function("mine")() == 7
        x = np.arange(16, dtype="float32")
        assert (run(board, "add", [x, x], (16,), "float32") == 2 * x).all()
    with pytest.raises(FirmwareError, match=r"made: is a project for posix, and not for qemu_mps2_an385"):
        microrpc.tvm.build(f"{KERNELS}:MODULE", board="qemu_mps2_an385", out=made)
    with pytest.raises(FirmwareError, match=r"is there already, and not empty: nothing was changed"):
        microrpc.tvm.build(f"{KERNELS}:MODULE", board="posix", out=tmp_path)


def test_a_saved_module_is_a_source(tmp_path: pathlib.Path) -> None:
    import tvm
    from tvm import te

    x = te.placeholder((4,), "float32", name="x")
    function = te.create_prim_func([x, te.compute((4,), lambda i: x[i] * 2, name="out")])
    (tmp_path / "saved.json").write_text(
        tvm.ir.save_json(tvm.IRModule({"twice": function.with_attr("global_symbol", "twice")}))
    )
    report = microrpc.tvm.build(str(tmp_path / "saved.json"), board="posix", out=tmp_path / "made")
    assert report.functions == ("twice(x: float32[4], out: float32[4]) -> None",)
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(FirmwareError, match=r"broken\.json: is no module that this TVM has saved"):
        microrpc.tvm.build(str(tmp_path / "broken.json"), board="posix", out=tmp_path / "other")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (f"{KERNELS}:no_module", r"gives no IRModule or PrimFunc but an int"),
        (f"{KERNELS}:failing", r"board_kernels\.py: KeyError: 'no such layer'"),
        (f"{KERNELS}:leaving", r"board_kernels\.py: ends the program, with sys\.exit\(0\)"),
        (f"{KERNELS}:missing", r"has no missing\. There are: .*four.*odd"),
        (f"{KERNELS}:not a name", r"'not a name' is no name of a function"),
        (f"{KERNELS}:nothing", r"has no public function"),
        (f"{KERNELS}:of_an_odd_type", r"odd_type: argument .*: is of int4, and boards have no such tensors"),
        (f"{KERNELS}:of_a_packed_call", r"packed: calls my\.sort by call_packed, which no board has"),
        (f"{KERNELS}:of_an_odd_name", r"'a-b': C takes no such name"),
        (f"{KERNELS}:of_an_odd_extent", r"odd_extent: argument out: has the extent n \* 2, which is neither a number"),
        (KERNELS, r"which function of it\? Write .*:FUNCTION"),
        ("nowhere.py:four", r"nowhere\.py: there is no such file"),
        ("nowhere.json", r"nowhere\.json: cannot be read"),
        ("model.tflite", r"is no source: FILE\.py:FUNCTION"),
    ],
)
def test_what_cannot_be_built_is_told(tmp_path: pathlib.Path, source: str, said: str) -> None:
    with pytest.raises(FirmwareError, match=said):
        microrpc.tvm.build(source, board="posix", out=tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_what_cannot_be_a_board_or_a_target_is_told(tmp_path: pathlib.Path) -> None:
    source = f"{KERNELS}:four"
    with pytest.raises(FirmwareError, match=r"there is no firmware for 'arduino'; did you mean 'arduino_\w+'\?"):
        microrpc.tvm.build(source, board="arduino", out=tmp_path / "made")
    with pytest.raises(FirmwareError, match=r"the target 'cuda' is not known: c or llvm"):
        microrpc.tvm.build(source, board="posix", out=tmp_path / "made", target="cuda")
    with pytest.raises(FirmwareError, match=r"'1X' cannot be defined"):
        microrpc.tvm.build(source, board="posix", out=tmp_path / "made", defines=["1X"])
    with pytest.raises(FirmwareError, match=r"--name mine: is for a source with one Relax function"):
        microrpc.tvm.build(source, board="posix", out=tmp_path / "made", name="mine")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("target", "cpu"),
    [
        ("thumb-freestanding-eabi", "cortex_m0"),
        ("thumb-freestanding-eabihf", "cortex_m4"),
        ("thumb-freestanding-eabihf", "cortex_m7"),
    ],
    ids=lambda value: value.removeprefix("thumb-freestanding-"),
)
@pytest.mark.parametrize("kind", TARGETS)
def test_kernels_link_for_other_cores_of_arm(tmp_path: pathlib.Path, target: str, cpu: str, kind: str) -> None:
    import dataclasses

    from microrpc.firmware.project import load_port
    from microrpc.firmware.tvm.compile import compile_kernels
    from microrpc.firmware.tvm.kernels import ADAPTER_SOURCES, SYMBOL_PREFIX
    from microrpc.firmware.tvm.source import load_source
    from microrpc.firmware.tvm.targets import TargetKind, target_of

    port = dataclasses.replace(load_port("qemu_mps2_an385"), target=target, cpu=cpu)
    compiled = compile_kernels(load_source(f"{KERNELS}:four").module, target_of(port, TargetKind(kind)))
    firmware = pathlib.Path(str(port.root))
    (tmp_path / f"code{compiled.ending}").write_bytes(compiled.data)
    names = [f"{SYMBOL_PREFIX}{name}" for name in ("add", "conv", "matmul", "softmax")]
    (tmp_path / "start.c").write_text(
        '#include "microrpc_tvm.h"\n'
        + "".join(f"MICRORPC_TVM_KERNEL({name})\n" for name in names)
        + "void start(void);\nvoid start(void) {\n"
        + "".join(f"    {name}(NULL, NULL, 0, NULL);\n" for name in names)
        + "}\n"
    )
    flags = [*port.common.all, *port.common.freestanding, *port.common.zig, "-fno-strict-aliasing", "-nostdlib++"]
    includes = [f"-I{firmware / folder}" for folder in ("include", "tvm", "tvm/include", "libc/include")]
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, f"-mcpu={cpu}", *flags, *includes]
    sources = ["start.c", f"code{compiled.ending}", *map(str, sorted((firmware / "src").glob("*.c")))]
    sources += [
        *(str(firmware / "tvm" / name) for name in ADAPTER_SOURCES),
        str(firmware / "ports" / "common" / "libc.c"),
        str(firmware / "libc" / "math.c"),
    ]
    done = subprocess.run(
        [*command, *sources, "-Wl,-e,start", "-o", "linked.elf"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_builds_and_reports(tmp_path: pathlib.Path) -> None:
    needs.emulated("qemu_mps2_an385")
    command = [sys.executable, "-m", "microrpc.cli", "tvm", "build", f"{KERNELS}:four", "--board", "qemu_mps2_an385"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "made"), "--json"], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["code_bytes"] == sum(kernel["code_bytes"] for kernel in said["kernels"])
    assert {"weights_bytes", "arena_bytes", "workspace_bytes", "stack_bytes", "ram_bytes", "flash_bytes"} < said.keys()
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "made"), "--target", "llvm"],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "stack      not known: objects of TVM's LLVM do not tell it\n" in done.stdout
    assert f"Try: microrpc firmware run {tmp_path / 'made'}" in done.stdout
    done = subprocess.run(
        [*command[:-1], "nano", "--out", "x"], capture_output=True, text=True, check=False, timeout=200
    )
    assert (done.returncode, done.stdout) == (5, "")
    assert "error: there is no firmware for 'nano'" in done.stderr
