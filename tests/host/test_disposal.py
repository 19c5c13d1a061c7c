"""What is dropped is given back little by little: no request waits for all of it, none of it is forgotten."""

from __future__ import annotations

import dataclasses
import gc
import logging
from typing import Any

import pytest
from apis import Api

import microrpc
from firmware_sim.running.simulate import SimBoard
from microrpc.errors import BoardResetError, CallTimeoutError, RemoteError
from microrpc.wire.datatypes import CPU, DataType, OpaqueHandle
from microrpc.wire.packets import PacketCode
from microrpc.wire.session import Timeouts

TIMEOUTS = Timeouts(retry_s=0.5, start_s=5.0, call_s=5.0)
PROFILE = microrpc.profile("loopback")
both_firmwares = pytest.mark.parametrize("firmware", ["robust", "stock"])


def blocks(sim: SimBoard) -> int:
    return len(sim.device.memory._blocks)


def drop(arrays: list[Any]) -> None:
    arrays.clear()
    gc.collect()


@both_firmwares
def test_a_call_keeps_its_deadline_after_200_arrays_were_dropped(api: Api, firmware: str) -> None:
    sim = SimBoard(PROFILE, firmware=firmware)  # type: ignore[arg-type]
    with api.open_board(sim.open_channel(), TIMEOUTS, baud=115200) as board:
        add, arrays = board.function("add"), [board.empty(4, "uint8") for _ in range(200)]
        drop(arrays)
        begin = sim.now()
        assert add(2, 3, timeout_s=1.0) == 5
        assert sim.now() - begin < 0.1
        assert 190 <= blocks(sim) < 200
        calls = 0
        while blocks(sim):
            add(2, 3, timeout_s=1.0)
            calls += 1
        assert 200 / 8 - 1 <= calls < 50
        assert len(board.garbage) == 0


def test_on_a_slow_line_each_request_frees_one_thing() -> None:
    slow = dataclasses.replace(PROFILE, baud=9600)  # on which each takes 0.1 s
    sim = SimBoard(slow, firmware="stock")
    with microrpc.open_board(sim.open_channel(), TIMEOUTS, baud=9600) as board:
        add, arrays = board.function("add"), [board.empty(4, "uint8") for _ in range(5)]
        drop(arrays)
        for left in (4, 3, 2, 1, 0):
            add(2, 3)
            assert blocks(sim) == left


def test_a_portion_has_eight_things_at_most() -> None:
    sim = SimBoard(dataclasses.replace(PROFILE, baud=3_000_000))
    with microrpc.open_board(sim.open_channel(), TIMEOUTS, baud=3_000_000) as board:
        add, arrays = board.function("add"), [board.empty(4, "uint8") for _ in range(20)]
        drop(arrays)
        for left in (12, 4, 0):
            add(2, 3)
            assert blocks(sim) == left


def test_look_ups_free_what_look_ups_left() -> None:
    sim = SimBoard(PROFILE)
    with microrpc.open_board(sim.open_channel(), TIMEOUTS) as board:
        for _ in range(50):
            board.function("add")
            assert len(board.garbage) <= 1


@both_firmwares
def test_a_board_that_hangs_while_garbage_waits_meets_the_deadline_of_the_call(firmware: str) -> None:
    sim = SimBoard(PROFILE, firmware=firmware)  # type: ignore[arg-type]
    with microrpc.open_board(sim.open_channel(), TIMEOUTS, baud=115200) as board:
        add, arrays = board.function("add"), [board.empty(4, "uint8") for _ in range(3)]
        drop(arrays)
        sim.device.wedge()
        begin = sim.now()
        with pytest.raises(CallTimeoutError, match="add was not called: what was to be freed before it") as caught:
            add(2, 3, timeout_s=1.0)
        assert not caught.value.may_have_run
        assert sim.now() - begin == pytest.approx(1.0, abs=0.02)


@both_firmwares
def test_what_is_freed_by_its_name_is_freed_before_what_was_dropped(api: Api, firmware: str) -> None:
    sim = SimBoard(PROFILE, firmware=firmware)  # type: ignore[arg-type]
    with api.open_board(sim.open_channel(), TIMEOUTS, baud=115200) as board:
        kept, arrays = board.empty(4, "uint8"), [board.empty(4, "uint8") for _ in range(100)]
        drop(arrays)
        address = kept.tensor.data
        assert address in sim.device.memory._blocks
        begin = sim.now()
        kept.free()
        assert address not in sim.device.memory._blocks
        assert sim.now() - begin < 0.1


@both_firmwares
def test_memory_that_is_needed_is_freed_first(api: Api, firmware: str) -> None:
    sim = SimBoard(PROFILE, firmware=firmware)  # type: ignore[arg-type]
    with api.open_board(sim.open_channel(), TIMEOUTS, baud=115200) as board:
        size_bytes = PROFILE.heap_bytes // 40
        for ask in (
            lambda: board.empty(size_bytes * 30, "uint8"),
            lambda: board.syscall(PacketCode.DEV_ALLOC_DATA, CPU, size_bytes * 30, 64, DataType.parse("uint8")),
        ):
            arrays = [board.empty(size_bytes, "uint8") for _ in range(35)]
            drop(arrays)
            found = ask()
            assert blocks(sim) == 1
            if isinstance(found, OpaqueHandle):
                board.syscall(PacketCode.DEV_FREE_DATA, CPU, found)
            else:
                found.free()
        with pytest.raises(RemoteError):
            board.empty(PROFILE.heap_bytes * 2, "uint8")


def test_collect_frees_all_of_it() -> None:
    sim = SimBoard(PROFILE)
    with microrpc.open_board(sim.open_channel(), TIMEOUTS, baud=115200) as board:
        arrays = [board.empty(4, "uint8") for _ in range(100)]
        drop(arrays)
        board.collect(portion=True)
        assert blocks(sim) > 90
        board.collect()
        assert blocks(sim) == 0


def test_what_a_reset_has_freed_costs_nothing() -> None:
    sim = SimBoard(PROFILE)
    with microrpc.open_board(sim.open_channel(), TIMEOUTS, baud=115200) as board:
        arrays = [board.empty(4, "uint8") for _ in range(100)]
        sim.reset()
        sim.sleep(2.0)
        with pytest.raises(BoardResetError):
            board.function("add")
        drop(arrays)
        add, frames_before = board.function("add"), board.stats.frames_sent
        assert add(2, 3) == 5
        assert board.stats.frames_sent == frames_before + 1
        assert len(board.garbage) == 0


def test_closing_takes_no_longer_than_a_reply_may_and_tells_what_stays(caplog: pytest.LogCaptureFixture) -> None:
    sim = SimBoard(dataclasses.replace(PROFILE, baud=9600))
    board = microrpc.open_board(sim.open_channel(), TIMEOUTS, baud=9600)
    arrays = [board.empty(4, "uint8") for _ in range(100)]
    begin = sim.now()
    with caplog.at_level(logging.WARNING, logger="microrpc"):
        board.close()
    assert sim.now() - begin == pytest.approx(TIMEOUTS.call_s, abs=0.2)
    assert 0 < blocks(sim) < 100 == len(arrays)
    assert caplog.messages == [
        f"{sim.name}: closed before all could be freed: {blocks(sim)} arrays and handles stay on the board "
        f"until its reset"
    ]


def test_what_was_set_apart_takes_turns_with_the_rest_and_is_freed_where_memory_is_needed() -> None:
    sim = SimBoard(dataclasses.replace(PROFILE, baud=3_000_000))
    with microrpc.open_board(sim.open_channel(), TIMEOUTS, baud=3_000_000) as board:
        size_bytes = PROFILE.heap_bytes // 60
        groups = [[board.empty(size_bytes, "uint8") for _ in range(count)] for count in (20, 17, 3)]
        owners = {array.tensor.data: index for index, group in enumerate(groups) for array in group}
        last = groups.pop()
        for group in groups:
            board.operations.disposal.set_apart(group.clear)
        drop(last)

        def left() -> list[int]:
            return [sum(owners[address] == index for address in sim.device.memory._blocks) for index in range(3)]

        assert left() == [20, 17, 3]
        seen = []
        for _ in range(5):
            board.pump.run(board.operations.collect)
            seen.append(left())
        assert seen == [[20, 17, 0], [12, 17, 0], [12, 9, 0], [4, 9, 0], [4, 1, 0]]
        board.empty(size_bytes * 58, "uint8").free()
        assert sim.device.memory.used_bytes == 0
        assert not board.operations.disposal.has_any
