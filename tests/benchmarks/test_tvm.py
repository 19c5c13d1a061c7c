"""The benchmarks of today's TVM: their arithmetic, and what is said where something is missing; that they run."""

from __future__ import annotations

import pathlib
import shutil
import sys
from typing import Any

import needs
import pytest

from benchmarks.peers.environment import MissingError
from benchmarks.rows import Row
from benchmarks.tvm import builds, calls, copies, section, tuning, workers
from benchmarks.tvm.calls import Found, Times
from benchmarks.tvm.workers import WorkerError
from microrpc.errors import FirmwareError
from microrpc.host.model_report import LayerTime, ModelReport


def by_name(rows: Any) -> dict[str, Row]:
    return {row.name: row for row in rows}


# --- the arithmetic ---------------------------------------------------------------------------------


def test_what_the_gateway_adds_is_that_of_neighbouring_turns_and_held_against_the_stock_server() -> None:
    stock = Times([[10.0] * 3, [20.0] * 3, [10.0] * 3])
    direct = Times([[50.0, 51.0, 52.0], [100.0] * 3, [60.0] * 3])
    through = Times([[70.0, 71.0, 99.0], [180.0] * 3, [65.0] * 3])
    rows = by_name(calls.rows(Found({"posix": direct}, {"posix": through}, stock)))
    assert list(rows) == [
        "TVM's own server: add(2, 3)",
        "posix: add(2, 3), direct",
        "posix: add(2, 3), through the gateway",
        "posix: what the gateway adds",
        "posix: what it adds / TVM's own server",
    ]
    assert rows["posix: add(2, 3), direct"][1:4] == ("60.0", "us", "min 50.0, p90 100.0")
    assert rows["posix: what the gateway adds"][1:4] == ("20.0", "us", "p10 5.0, p90 80.0")
    assert rows["posix: what it adds / TVM's own server"][1:4] == ("2.00", "times", "p10 0.50, p90 4.00")


def test_a_copy_through_the_gateway_is_held_against_its_neighbour() -> None:
    times = {
        "direct": [(0.1, 0.4), (0.2, 0.4), (0.1, 0.4)],
        "gateway": [(0.2, 0.2), (0.2, 0.2), (0.15, 0.2)],
        "stock": [(0.01, 0.02)] * 3,
    }
    rows = by_name(copies.rows(times, 2048))
    assert rows["4 MiB to the board, 2 KiB packets, direct"][1:3] == ("41.9", "MB/s")
    assert rows["4 MiB from the board, 2 KiB packets, through the gateway"][1:3] == ("21.0", "MB/s")
    assert rows["4 MiB to TVM's own server"].remark == "10.0 ms a copy; 3 times"
    assert rows["4 MiB to the board, 2 KiB packets, gateway / direct"][1:4] == ("1.50", "times", "p10 1.00, p90 2.00")
    assert rows["4 MiB from the board, 2 KiB packets, gateway / direct"].value == "0.50"


def test_the_flash_of_kernels_is_what_the_build_reports() -> None:
    def report(code_bytes: int, stack_bytes: int | None) -> dict[str, Any]:
        kernels = [{"name": "softmax", "code_bytes": code_bytes, "stack_bytes": stack_bytes}]
        return {"kernels": kernels, "code_bytes": code_bytes, "flash_bytes": 19240, "compiler": "zig 0.17.1"}

    rows = by_name(builds.kernel_rows({"c": report(150, 280), "llvm": report(1200, None)}))
    assert rows["Cortex-M3, c: softmax"][1:] == (
        "150",
        "B of flash",
        "",
        "stack 280 B",
        {"kind": "tvm-flash", "value": 150},
    )
    assert rows["Cortex-M3, llvm: softmax"].remark == ""
    assert rows["Cortex-M3, llvm: four kernels"][1:5] == (
        "1,200",
        "B of flash",
        "",
        "of 19,240 of all the firmware; zig 0.17.1",
    )


def profile(total_us: float, host_us: float) -> ModelReport:
    layers = (LayerTime("dense", total_us, 1.0, ""),)
    return ModelReport("mlp", 1, layers, total_us, 0.0, host_us / 4, host_us / 2, host_us / 4, 26280, 384, 0, None)


def test_the_transports_share_of_a_model_is_what_the_board_did_not_compute() -> None:
    rows = by_name(builds.model_rows("posix: mlp", [profile(10, 100), profile(20, 40), profile(30, 120)]))
    assert rows["posix: mlp, by the board's clock"][1:4] == ("20.0", "us", "p10 10.0, p90 30.0")
    assert rows["posix: mlp, by the board's clock"].remark == "1 layers, weights 26,280 B, arena 384 B"
    assert rows["posix: mlp, by this computer's"].value == "100.0"
    assert rows["posix: mlp, the transport's share"][1:4] == ("75.0", "%", "p10 50.0, p90 90.0")


def test_what_tuning_gained_is_read_from_what_the_example_prints() -> None:
    printed = "[INFO] a candidate\nas written 49.80 ms, tuned 5.60 ms: 8.9 times as fast\n"
    rows = by_name(tuning.rows(tuning.read(printed)))
    assert [(row.value, row.unit) for row in rows.values()] == [("49.80", "ms"), ("5.60", "ms"), ("8.9", "times")]
    with pytest.raises(WorkerError, match="told no result"):
        tuning.read("the gateway does not run\n")


# --- what is missing, or fails ------------------------------------------------------------------------


def test_without_tvm_one_row_says_how_to_get_it(tmp_path: pathlib.Path) -> None:
    (row,) = section.measure(quick=True, python=tmp_path / "python")
    assert row[:2] == ("TVM", "missing")
    assert row.remark.endswith("is no interpreter; `make bench ARGS=tvm` installs it")


def test_an_interpreter_with_other_versions_is_refused_with_its_words(tmp_path: pathlib.Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'FirmwareError: apache-tvm 0.27.0 does not work with it' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(MissingError, match=r"^TVM is not there: FirmwareError: apache-tvm 0\.27\.0 does not work with"):
        workers.find(python)


def test_a_part_that_fails_is_reported_and_the_others_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(error: Exception) -> Any:
        def measure(python: str, *, quick: bool) -> Any:
            yield Row("first", "1", "us", "", "")
            raise error

        return measure

    parts = {
        "one": fails(WorkerError("the client ended")),
        "two": fails(MissingError("qemu is not installed")),
        "three": fails(FirmwareError("the compiler says")),
        "four": lambda python, quick: [Row("last", python, "", "", "")],
    }
    monkeypatch.setattr(section, "PARTS", parts)
    monkeypatch.setattr(workers, "find", lambda python: "found")
    rows = list(section.measure(quick=True, python=pathlib.Path("python")))
    assert [row[:2] for row in rows if row.name != "first"] == [
        ("one", "failed"),
        ("two", "missing"),
        ("three", "failed"),
        ("last", "found"),
    ]
    assert [row.remark for row in rows if row.value in ("failed", "missing")] == [
        "the client ended",
        "qemu is not installed",
        "the compiler says",
    ]


def test_tuning_without_its_emulator_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingError, match="qemu-system-arm is not installed"):
        list(tuning.measure("python", quick=False))


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.exit('no such board')", "no such board"),
        ("import sys; sys.exit(3)", "-c ended with 3"),
        ("import time; time.sleep(60)", r"-c took more than 0\.5 s"),
    ],
)
def test_a_program_that_fails_tells_why(monkeypatch: pytest.MonkeyPatch, program: str, words: str) -> None:
    monkeypatch.setattr(workers, "_RUN_S", 0.5 if "sleep" in program else 30.0)
    with pytest.raises(WorkerError, match=f"^{words}$"):
        workers.run(sys.executable, "-c", program)


def test_a_worker_answers_line_by_line_and_one_that_ends_is_told() -> None:
    program = "import json; order = json.loads(input()); print(json.dumps(order['count'] + 1), flush=True)"
    with workers.worker(sys.executable, "-c", program) as answering:
        assert answering.ask(count=4) == 5
        with pytest.raises(WorkerError, match=r"ended$"):
            answering.line()


def test_a_worker_that_hangs_is_told_and_ended() -> None:
    with workers.worker(sys.executable, "-c", "import time; time.sleep(60)") as hanging:
        with pytest.raises(WorkerError, match=r"said nothing in 0\.1 s$"):
            hanging.line(0.1)
        process = hanging._process
    assert process.returncode is not None


# --- all of it ----------------------------------------------------------------------------------------


@pytest.mark.tvm
@pytest.mark.parametrize(
    ("part", "kind", "count"),
    [
        ("calls through the gateway", "tvm-call", 1 + 2 * 4),
        ("copies through the gateway", "tvm-copy", 2 * 4),
        ("flash of kernels", "tvm-flash", 2 * 5),
        ("runs of models", "tvm-model", 2 * 3),
    ],
)
def test_every_part_is_measured_with_tvm_itself(part: str, kind: str, count: int) -> None:
    needs.tvm()
    needs.zig()
    rows = list(section.PARTS[part](sys.executable, quick=True))
    assert not [row for row in rows if row.value in ("failed", "missing")]
    assert len(by_name(rows)) == len(rows) == count
    assert {row.raw["kind"] for row in rows} == {kind}
    assert all(float(row.value.replace(",", "")) for row in rows)
