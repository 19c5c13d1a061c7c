"""What clients of TVM ask of a time evaluator, by every version, and what a board is asked for it."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from tvm_gateway import RefusedError, Serving

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from microrpc.gateway.shared import RefusedError as Refusal
from microrpc.gateway.tvm.evaluator import Measurement
from microrpc.wire.datatypes import ModuleHandle, Value
from microrpc.wire.tvm.layout import OLD

HEAD: tuple[Value, ...] = (None, "noop", 1, 0, 3, 2, 5)
EVALUATOR = "runtime.RPCTimeEvaluator"


@pytest.mark.parametrize(
    ("rest", "more"),
    [
        (("",), (100, 0, 1, 0)),
        ((7, 8, ""), (100, 7, 8, 0)),
        ((6, 7, 8, ""), (6, 7, 8, 0)),
        ((6, 7, 8, 9, ""), (6, 7, 8, 9)),
    ],
)
def test_the_arguments_of_every_version_are_read(rest: tuple[Value, ...], more: tuple[int, ...]) -> None:
    assert Measurement.parse((*HEAD, *rest)) == Measurement("noop", 3, 2, 5, *more)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), r"it takes 8, 10, 11, 12 arguments, by the version of TVM, not 0"),
        ((*HEAD, 1, ""), r"not 9"),
        ((None, 5, 1, 0, 3, 2, 5, ""), r"a module or None, a name, numbers, and a text"),
        ((None, "noop", 1, 0, 3, 2.5, 5, ""), r"a module or None"),
        ((*HEAD, 100, 0, 1, 0, "cache_flush"), r"f_preproc must be empty"),
        ((None, "noop", 2, 0, 3, 2, 5, ""), r"no device \(2, 0\)"),
    ],
)
def test_arguments_that_no_version_has_are_refused(args: tuple[Value, ...], text: str) -> None:
    with pytest.raises(Refusal, match=text):
        Measurement.parse(args)


@pytest.mark.parametrize(
    ("numbers", "deadline_s"),
    [
        ((1, 1, 0, 100, 0, 1, 0), 4.0),
        ((3, 2, 0, 100, 0, 1, 0), 14.0),
        ((3, 2, 500, 100, 250, 1, 0), 14.0 + 2 * (4 * 0.5 + 0.25)),
        ((2**31 - 1, 2**31 - 1, 0, 100, 0, 1, 0), 86400.0),
    ],
)
def test_a_measurement_may_last_as_long_as_all_its_runs(numbers: Any, deadline_s: float) -> None:
    assert Measurement("noop", *numbers).deadline_s(2.0) == deadline_s


@pytest.mark.parametrize("count", [8, 10, 11, 12])
def test_a_board_of_any_version_is_asked_as_it_wants_it(count: Any) -> None:
    device = Device(seed=7, firmware="stock", time_evaluator_arguments=count)
    install(device)
    with Serving({"board": device}) as serving, serving.client() as client:
        timer = client.call(EVALUATOR, None, "noop", 1, 0, 3, 2, 0, 100, 0, 1, 0, "")
        seconds = struct.unpack("<2d", bytes(client.call(timer)))
        assert all(one >= 0 for one in seconds)
        client.free(timer)
        with pytest.raises(RefusedError, match="no handle"):
            client.call(timer)


def test_what_newer_boards_take_reaches_them() -> None:
    device = Device(seed=7)
    install(device)
    asked: list[tuple[Any, ...]] = []
    real = device.functions[EVALUATOR]

    def spy(*args: Any) -> Any:
        asked.append(args)
        return real(*args)

    device.functions[EVALUATOR] = spy
    with Serving({"board": device}) as serving, serving.client() as client:
        timer = client.call(EVALUATOR, None, "noop", 1, 0, 3, 2, 5, 6, 7, 8, 9, "")
        client.call(timer)
    assert [args[1:] for args in asked] == [("noop", 1, 0, 3, 2, 5, 6, 7, 8, 9, "")]


def test_a_module_is_timed_by_its_own_handle_and_a_missing_name_is_an_exception() -> None:
    with Serving() as serving, serving.client(layout=OLD) as client:
        library = client.call("runtime.SystemLib")
        assert isinstance(library, ModuleHandle)
        timer = client.call(EVALUATOR, library, "mul", 1, 0, 3, 2, 0, "")
        assert len(bytes(client.call(timer, 2, 3))) == 16
        for module in (library, None):
            with pytest.raises(RefusedError, match="no function 'nothing' in its system library"):
                client.call(EVALUATOR, module, "nothing", 1, 0, 3, 2, 0, "")
        with pytest.raises(RefusedError, match="no handle"):
            client.call(EVALUATOR, ModuleHandle(99), "mul", 1, 0, 3, 2, 0, "")


def test_what_fails_while_it_is_measured_is_an_exception() -> None:
    with Serving() as serving, serving.client() as client:
        timer = client.call(EVALUATOR, None, "fail", 1, 0, 3, 2, 0, 100, 0, 1, 0, "")
        with pytest.raises(RefusedError):
            client.call(timer)
        with pytest.raises(RefusedError, match="repeat"):
            client.call(EVALUATOR, None, "noop", 1, 0, 3, 0, 0, 100, 0, 1, 0, "")


def test_a_measurement_may_last_longer_than_a_call() -> None:
    device = Device(seed=7)
    install(device)  # a call may take 2 s here, in the board's own time
    with Serving({"board": device}) as serving, serving.client() as client:
        timer = client.call(EVALUATOR, None, "sleep_ms", 1, 0, 3, 1, 0, 100, 0, 1, 0, "")
        (seconds,) = struct.unpack("<d", bytes(client.call(timer, 1500)))
        assert seconds == pytest.approx(1.5, abs=0.01)
