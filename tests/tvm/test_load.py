"""Code that stock clients of TVM upload: `load_module`, and TVM's runner and tuner, on boards that are served."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import needs
import pytest
from stock_tvm import Client, free_of, running, served, stock_tracker, until

pytestmark = pytest.mark.tvm

BOARD = "qemu_mps2_an385"
PORT = "qemu://mps2_an385"
EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "tune_matmul.py"
TUNING_S = 900.0  # half a minute of it is TVM's own import of tensor instructions

# What the orders below work with: a kernel, compiled for the board or for this computer, as objects or as C.
COMPILE = """
from tvm import te
from tvm.support.tar import tar
M3 = {"kind": "llvm", "mtriple": "thumbv7m-unknown-linux-gnueabi", "mcpu": "cortex-m3", "mfloat-abi": "soft"}
def export(path, target, factor=2.0, n=16):
    a = te.placeholder((n,), name="A", dtype="float32")
    b = te.compute((n,), lambda i: a[i] * tvm.tirx.const(factor, "float32"))
    mod = tvm.IRModule({"main": te.create_prim_func([a, b])})
    tvm.compile(mod, target=tvm.target.Target(target)).export_library(path, fcompile=tar)
def run(module):
    x = tvm.runtime.tensor(np.arange(16, dtype="float32"), session.cpu(0))
    y = tvm.runtime.empty((16,), "float32", session.cpu(0))
    module["main"](x, y)
    return y.numpy().tolist()
"""
TIMED = """
x, y = (tvm.runtime.empty((16,), "float32", session.cpu(0)) for _ in range(2))
result = list(m.time_evaluator("main", session.cpu(0), number=3, repeat=2)(x, y).results)
"""
DOUBLED = [2.0 * i for i in range(16)]


@pytest.fixture(scope="module", autouse=True)
def _needed() -> None:
    needs.tvm()
    needs.emulated(BOARD)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A gateway in front of the Cortex-M3 that runs what is uploaded."""
    with served(PORT, "--allow-load") as (address, _):
        yield address


@contextlib.contextmanager
def client(address: str) -> Iterator[Client]:
    """A stock client with a session, and with what compiles."""
    with Client.run(address, key=BOARD) as one:
        assert one.do(COMPILE) is None
        assert one.do("session = open(session_timeout=60)") is None
        yield one


@pytest.mark.parametrize("target", ["M3", '"c"'])
def test_an_upload_runs_and_is_timed_on_the_board(address: str, tmp_path: Path, target: str) -> None:
    path = tmp_path / "mod.tar"
    with client(address) as one:
        assert one.do(f"export({str(path)!r}, {target}); session.upload({str(path)!r})") is None
        assert one.do("m = session.load_module('mod.tar'); result = run(m)") == DOUBLED
        seconds = one.do(TIMED)
        assert len(seconds) == 2
        assert all(0 < each < 0.1 for each in seconds)
        # What RPCRunner tidies up: a stock server has made the second of them of the first.
        assert one.do("[session.remove(name) for name in ('mod.tar', 'mod.tar.so', '')]") is None


def test_after_a_session_that_loaded_the_board_runs_its_own_firmware_again(address: str, tmp_path: Path) -> None:
    path = tmp_path / "mod.tar"
    with client(address) as one:
        one.do(f"export({str(path)!r}, M3); session.upload({str(path)!r}); m = session.load_module('mod.tar')")
        assert "AttributeError" in one.do("result = session.get_function('adder')")
    with client(address) as one:
        assert one.do("result = session.get_function('add')(2, 3)") == 5
        assert "no file" in one.do("session.load_module('mod.tar')")


def test_handles_from_before_a_load_are_void_and_say_so(address: str, tmp_path: Path) -> None:
    path = tmp_path / "mod.tar"
    with client(address) as one:
        one.do("f = session.get_function('add'); x = tvm.runtime.tensor(np.ones(4, 'float32'), session.cpu(0))")
        one.do(f"export({str(path)!r}, M3); session.upload({str(path)!r}); m = session.load_module('mod.tar')")
        assert "StaleHandleError" in one.do("f(2, 3)")
        assert "RPCError" in one.do("x.numpy()")
        assert one.do("del f, x; gc.collect(); result = run(m)") == DOUBLED


def test_what_cannot_be_loaded_is_told_and_the_session_goes_on(address: str, tmp_path: Path) -> None:
    path, broken = tmp_path / "host.tar", tmp_path / "broken.c"
    broken.write_text("int32_t __tvm_ffi_main(void* s, void* a, int32_t n, void* r) { return no_such_thing; }\n")
    with client(address) as one:
        one.do(f'export({str(path)!r}, "llvm"); session.upload({str(path)!r}); session.upload({str(broken)!r})')
        said = one.do("session.load_module('host.tar')")
        assert "lib0.o: is for x86-64, 64 bits, little-endian, but qemu_mps2_an385 is ARM" in said
        said = one.do("session.load_module('broken.c')")
        assert "the compiler says" in said
        assert "no_such_thing" in said
        assert "has no file" in one.do("session.load_module('nothing.tar')")
        assert one.do("result = session.get_function('add')(2, 3)") == 5


def test_two_clients_that_load_do_not_mix(address: str, tmp_path: Path) -> None:
    with Client.run(address, key=BOARD) as second, client(address) as first:
        second.do(COMPILE)
        for one, factor in ((first, 2.0), (second, 3.0)):
            path = str(tmp_path / f"{factor}" / "mod.tar")
            Path(path).parent.mkdir()
            one.do(f"export({path!r}, M3, {factor}); path = {path!r}")
        second.send("session = open(); session.upload(path); result = run(session.load_module('mod.tar'))")
        assert first.do("session.upload(path); m = session.load_module('mod.tar'); result = run(m)") == DOUBLED
        assert first.do("result = run(m)") == DOUBLED
        first.do("del m, session; gc.collect()")
        assert second.result() == [3.0 * i for i in range(16)]


def test_vectors_of_this_computer_find_their_tensors_aligned(tmp_path: Path) -> None:
    path = str(tmp_path / "mod.tar")
    with served("emulated://posix", "--allow-load", "--key", BOARD) as (address, _), client(address) as one:
        one.do(f'export({path!r}, "llvm"); session.upload({path!r}); m = session.load_module("mod.tar")')
        for _ in range(4):  # whatever lies beside them
            assert one.do("result = run(m); x = tvm.runtime.empty((3,), 'int8', session.cpu(0))") == DOUBLED


def test_nothing_is_loaded_without_being_allowed(tmp_path: Path) -> None:
    path = tmp_path / "mod.tar"
    with served("sim://", "--key", BOARD) as (address, _), client(address) as one:
        one.do(f"export({str(path)!r}, M3); session.upload({str(path)!r})")
        assert "start it with --allow-load" in one.do("session.load_module('mod.tar')")


def test_a_simulated_board_cannot_be_allowed_to() -> None:
    command = [sys.executable, "-m", "microrpc.cli", "tvm", "serve", "sim://", "--allow-load"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "a simulated board runs no compiled code" in done.stderr


# --- TVM's runner and tuner -------------------------------------------------------------------

RUNNER = """
from tvm.s_tir import meta_schedule as ms
def measure(port, path, key):
    export(path, M3)
    runner = ms.runner.RPCRunner(
        ms.runner.RPCConfig("127.0.0.1", port, key, session_timeout_sec=60),
        ms.runner.EvaluatorConfig(number=3, repeat=2, min_repeat_ms=0))
    info = [ms.arg_info.TensorInfo("float32", (16,))] * 2
    (future,) = runner.run([ms.runner.RunnerInput(path, "cpu", info)])
    result = future.result()
    return str(result.error_msg or "") or [float(each) for each in result.run_secs]
"""


def test_a_stock_runner_measures_a_candidate_through_a_tracker(tmp_path: Path) -> None:
    with stock_tracker() as (tracker, _), served(PORT, "--allow-load", "--tracker", f"127.0.0.1:{tracker}"):
        until(lambda: free_of(tracker, BOARD), "the board is offered")
        with Client.run("") as one:
            assert one.do(COMPILE + RUNNER) is None
            for _ in range(2):
                one.send(f"result = measure({tracker}, {str(tmp_path / 'mod.tar')!r}, {BOARD!r})")
                seconds = one.result(patience_s=100.0)
                assert isinstance(seconds, list), seconds
                assert len(seconds) == 2
                assert all(0 < each < 0.1 for each in seconds)
        until(lambda: free_of(tracker, BOARD), "the board is offered again")


@pytest.fixture(scope="module")
def tuned() -> str:
    """What the example prints, with 2 trials: outside of a test's time, for TVM may take minutes."""
    command = [sys.executable, str(EXAMPLE), "--trials", "2", "--size", "16"]
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        said, _ = process.communicate(timeout=TUNING_S)
    assert process.returncode == 0, said
    return str(said)


def test_the_tuner_of_tvm_tunes_on_the_board(tuned: str) -> None:
    words = tuned.splitlines()[-1].split()
    assert words[:2] == ["as", "written"]
    before_ms, after_ms = float(words[2]), float(words[5])
    assert 0 < after_ms < 1000
    assert 0 < before_ms < 1000
