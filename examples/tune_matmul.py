"""TVM tunes a matrix product on a Cortex-M3 in QEMU: its own tracker, tuner and runner, and `microrpc tvm serve`.

    pip install 'microrpc[tvm,firmware]' && apt-get install --no-install-recommends qemu-system-arm
    python examples/tune_matmul.py --trials 16

docs/tvm_tune.md explains it.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile

from tvm import IRModule, te
from tvm.rpc.tracker import Tracker
from tvm.s_tir import meta_schedule as ms
from tvm.target import Target

BOARD = "qemu_mps2_an385"
TARGET = Target(
    {
        "kind": "llvm",
        "mtriple": "thumbv7m-unknown-linux-gnueabi",
        "mcpu": "cortex-m3",
        "mfloat-abi": "soft",
        "num-cores": 1,
    }
)


def matmul(n: int) -> IRModule:
    """Give C = A B of n x n float32, as TVM's tensor expressions say it."""
    a, b = (te.placeholder((n, n), name=name, dtype="float32") for name in "AB")
    k = te.reduce_axis((0, n), name="k")
    c = te.compute((n, n), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="C")
    return IRModule({"main": te.create_prim_func([a, b, c])})


def compile_candidate(mod: IRModule, target: Target, params: object) -> object:
    """Compile a schedule. TVM's own function first loads the tensor instructions of all GPUs: half a minute."""
    from tvm.driver import build

    return build(mod, target=target)


@contextlib.contextmanager
def served_board(tracker: Tracker):
    """Have a gateway bring the board to the tracker, until the block ends."""
    where = f"127.0.0.1:{tracker.port}"
    command = ["-m", "microrpc.cli", "tvm", "serve", f"qemu://{BOARD.removeprefix('qemu_')}", "--allow-load"]
    gateway = subprocess.Popen(
        [sys.executable, *command, "--listen", "127.0.0.1:0", "--tracker", where], stdout=subprocess.PIPE
    )
    try:
        if not gateway.stdout.readline():  # where it listens: then the board runs
            sys.exit("the gateway does not run")
        yield
    finally:
        gateway.terminate()
        gateway.wait(timeout=20)
        tracker.terminate()


def main() -> None:
    """Tune, and print what was gained."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # then, too, gateway and tracker are ended
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--trials", type=int, default=16, help="how many schedules are tried on the board")
    options.add_argument("--size", type=int, default=32, help="of the matrices: n x n")
    wanted = options.parse_args()

    mod = matmul(wanted.size)
    tracker = Tracker(host="127.0.0.1", port=9190, port_end=9290, silent=True)
    with served_board(tracker), tempfile.TemporaryDirectory() as directory:
        builder = ms.builder.LocalBuilder(max_workers=1, timeout_sec=120, f_build=compile_candidate)
        runner = ms.runner.RPCRunner(
            ms.runner.RPCConfig("127.0.0.1", tracker.port, BOARD, session_timeout_sec=60),
            ms.runner.EvaluatorConfig(number=3, repeat=1, min_repeat_ms=0),
        )
        (built,) = builder.build([ms.builder.BuilderInput(mod, TARGET)])
        as_written = [ms.arg_info.TensorInfo("float32", (wanted.size, wanted.size))] * 3
        if built.error_msg:
            sys.exit(str(built.error_msg))
        (future,) = runner.run([ms.runner.RunnerInput(built.artifact_path, "cpu", as_written)])
        before = future.result()
        if before.error_msg:
            sys.exit(str(before.error_msg))
        database = ms.tune_tir(
            mod, TARGET, directory, wanted.trials, builder=builder, runner=runner, cost_model="random"
        )
        best = min(float(min(record.run_secs)) for record in database.get_all_tuning_records() if record.run_secs)
    first = float(before.run_secs[0])
    print(f"as written {first * 1e3:.2f} ms, tuned {best * 1e3:.2f} ms: {first / best:.1f} times as fast")


if __name__ == "__main__":
    main()
