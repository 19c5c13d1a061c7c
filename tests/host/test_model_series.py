"""One run of a model after the other, the next input copied meanwhile (docs/using_models.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import microrpc
from firmware_sim.board.model import Array, LayerDone, SimModel
from firmware_sim.running.simulate import SimBoard
from microrpc.client.board import Board
from microrpc.host.link import LinkHost
from microrpc.wire.datatypes import DataType
from microrpc.wire.model import ModelTable, ModelTensor
from microrpc.wire.session import Timeouts

FLOAT32 = DataType.parse("float32")
PROFILE = microrpc.profile("nucleo_f746zg")  # 115,200 baud, a ring of 2,148 bytes, a heap of 131,072
BYTE_S = 10 / 115_200


def make(count: int, work_s: float = 0.05, **options: Any) -> tuple[Board, SimBoard]:
    """A board with one model, which adds up its `count` floats in `work_s`."""
    sim = SimBoard(PROFILE, **options)

    def run(inputs: Sequence[Array], outputs: Sequence[Array], done: LayerDone) -> None:
        sim.device.clock.sleep(work_s)
        outputs[0][...] = inputs[0].sum()

    x, y = ModelTensor("x", FLOAT32, (count,)), ModelTensor("y", FLOAT32, ())
    sim.device.models[:] = [SimModel(ModelTable("sum", 1, (x,), (y,)), run)]
    return microrpc.open_board(sim.open_channel(), Timeouts()), sim


def data_set(samples: int, count: int) -> tuple[Array, Array]:
    x = np.random.default_rng(4).integers(0, 100, (samples, count)).astype(np.float32)
    return x, x.sum(1)


def seconds_a_sample(count: int, *, samples: int = 20, **options: Any) -> float:
    board, sim = make(count, **options)
    x, y = data_set(samples, count)
    model = board.model()
    assert model.validate(x[:3], y[:3])  # and how long it takes is known
    before = sim.now()
    assert model.validate(x, y)
    return (sim.now() - before) / samples


@pytest.mark.parametrize(("count", "work_s"), [(64, 0.05), (256, 0.05), (256, 0.2), (784, 0.2)])
def test_a_sample_takes_less_by_what_crosses_while_the_board_computes(
    count: int, work_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = seconds_a_sample(count, work_s=work_s)
    monkeypatch.setattr(LinkHost, "send_beside", lambda *args: None)
    after = seconds_a_sample(count, work_s=work_s)
    crosses_s = min(work_s, min(4 * count, 1400) * BYTE_S)
    assert after - beside > 0.8 * crosses_s


@pytest.mark.parametrize("count", [1, 100, 3000])
def test_every_sample_is_copied_once(count: int) -> None:
    board, _ = make(count, work_s=0.01)
    x, y = data_set(10, count)
    model = board.model()
    model(x[0])
    bytes_before = board.stats.bytes_sent
    assert model.validate(x, y)
    sent = board.stats.bytes_sent - bytes_before
    assert 10 * 4 * count < sent < 10 * 4 * count * 1.1 + 10 * 300 + 500


def test_without_room_for_a_second_input_they_go_one_after_the_other() -> None:
    count = 20_000  # 80,000 bytes of a heap of 131,072
    board, _ = make(count)
    x, y = data_set(3, count)
    assert board.model().validate(x, y)
    board.collect()
    assert board.memory().used_bytes == 0


def test_without_the_link_they_go_one_after_the_other() -> None:
    sim = make(64)[1]
    board = microrpc.open_board(sim.open_channel(), Timeouts(), link=False)
    x, y = data_set(5, 64)
    assert board.model().validate(x, y)


def test_models_that_are_validated_in_turns_do_not_mix_their_inputs() -> None:
    board, _ = make(16, work_s=0.001)
    x, y = data_set(6, 16)
    one, other = board.model(), board.model()
    results = []

    def also(done: int, total: int) -> None:
        if done == 3:
            results.append(other.validate(x, y))
            results.append(bool(one(x[0]) == y[0]))

    assert one.validate(x, y, on_progress=also)
    assert all(results)
    assert len(results) == 2
