"""What was measured of a model, in numbers and as a table (docs/using_models.md)."""

from __future__ import annotations

from typing import Any

import pytest

from microrpc.host.model_report import ModelReport
from microrpc.wire.datatypes import DataType
from microrpc.wire.memory import BoardMemory
from microrpc.wire.model import ModelLayer, ModelProfile, ModelTable, ModelTensor

INT8 = DataType.parse("int8")
TABLE = ModelTable(
    "net", 1, (), (), (ModelLayer("conv", ModelTensor("c", INT8, (1, 8, 8))), ModelLayer("")), 1000, 200, 30
)
MEMORY = BoardMemory(4096, 0, 4096, 4096, 640, 2048, 904)


def report(*profiles: ModelProfile, memory: BoardMemory | None = MEMORY, **times: Any) -> ModelReport:
    options = {"input_s": 0.001, "call_s": 0.006, "output_s": 0.003, **times}
    return ModelReport.of(TABLE, profiles, memory=memory, **options)


def test_times_are_the_means_of_all_runs() -> None:
    found = report(ModelProfile(100, (60, 30)), ModelProfile(200, (100, 80)))
    assert (found.runs, found.total_us, found.runtime_us) == (2, 150.0, 15.0)
    assert [(layer.time_us, layer.share) for layer in found.layers] == [(80.0, 80 / 150), (55.0, 55 / 150)]
    assert [(layer.name, layer.output) for layer in found.layers] == [("conv", "int8[1, 8, 8]"), ("#1", "")]


def test_the_share_of_the_transport_is_what_the_board_does_not_compute_in() -> None:
    found = report(ModelProfile(2500, (2000, 500)))
    assert (found.host_us, found.transport_share) == (10_000.0, 0.75)
    assert report(ModelProfile(20_000, (0, 0))).transport_share == 0, "its clock may be a bad one"
    assert report(ModelProfile(0, (0, 0)), input_s=0, call_s=0, output_s=0).transport_share == 0


def test_a_table_of_a_short_run_has_microseconds() -> None:
    assert str(report(ModelProfile(100, (60, 30)))).splitlines() == [
        "net: mean of 1 run, by the board's clock",
        "LAYER          TIME   SHARE  OUTPUT",
        "conv        60.0 us   60.0%  int8[1, 8, 8]",
        "#1          30.0 us   30.0%",
        "(runtime)   10.0 us   10.0%",
        "all        100.0 us  100.0%",
        "transport: 99% of 10.000 ms on this computer: inputs 1.000 ms, run 6.000 ms, outputs 3.000 ms",
        "memory: weights 1000 bytes, arena 200, workspace 30",
        "heap: 640 of 4096 bytes used at most; stack: 904 of 2048",
    ]


def test_a_table_of_a_long_run_has_milliseconds() -> None:
    lines = str(report(ModelProfile(2500, (2000, 500)), memory=None)).splitlines()
    assert lines[2] == "conv       2.000 ms   80.0%  int8[1, 8, 8]"
    assert lines[-1].startswith("memory:")


def test_a_model_without_layers_and_without_time_has_a_table_too() -> None:
    table = ModelTable("evil\x1b[2J", 1, (), ())
    found = ModelReport.of(table, [ModelProfile(0, ())], input_s=0, call_s=0, output_s=0, memory=None)
    lines = str(found).splitlines()
    assert lines[0] == "evil\\x1b[2J: mean of 1 run, by the board's clock"
    assert lines[2].split() == ["all", "0.0", "us", "100.0%"]


@pytest.mark.parametrize("us", [0, 1, 2**32 - 1])
def test_shares_of_whatever_a_board_tells_are_numbers(us: int) -> None:
    found = report(ModelProfile(us, (2**32 - 1, 0)))
    assert all(layer.share >= 0 for layer in found.layers)
    assert found.runtime_us >= 0
