"""Blocks of a copy that cross beside a call (docs/link.md 4): they wait in the board's ring while it computes."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import pytest

import microrpc
from firmware_sim.board.device import Device
from firmware_sim.line.faults import Direction, Drop, Flip
from firmware_sim.running.loopback import LoopbackChannel
from firmware_sim.running.simulate import SimBoard
from microrpc.client.board import Board
from microrpc.errors import BoardResetError, CallTimeoutError, OutcomeUnknownError, RemoteError
from microrpc.host.blocks import UNLIMITED
from microrpc.host.copies import flat
from microrpc.host.job import CopyJob
from microrpc.host.link import LinkHost
from microrpc.serve.local import FunctionError
from microrpc.wire.link import CALL, LINK_REPLY, LinkParameters, ReplyKind, encode_with_kind
from microrpc.wire.packets import CallFunc, Return, decode_result
from microrpc.wire.session import Timeouts

PROFILE = microrpc.profile("nucleo_f746zg")  # 115,200 baud, a ring of 2,148 bytes, packets of 2,048
BYTE_S = 10 / 115_200
RING_BYTES = 2148


class Bench:
    """A board with a function `work` that takes `work_s`, an array on it, and a copy into that beside a call."""

    def __init__(self, size_bytes: int, work_s: float = 0.1, **options: Any) -> None:
        self.sim = SimBoard(PROFILE, **options)
        self.data = np.random.default_rng(1).integers(0, 256, size_bytes, np.uint8)
        self.runs = 0
        self.fails = False
        self.during: Any = lambda: None

        @self.sim.device.function
        def work() -> int:
            self.runs += 1
            self.sim.device.clock.sleep(work_s)
            self.during()
            if self.fails:
                raise FunctionError("no")
            return self.runs

        self.board: Board = microrpc.open_board(self.sim.open_channel(), Timeouts(call_s=2.0))
        self.work = self.board.function("work")
        self.array = self.board.array(np.zeros_like(self.data))

    def job(self) -> CopyJob:
        return CopyJob(flat(self.array.tensor), memoryview(self.data), True, UNLIMITED, 2.0, self.array.epoch)

    def call(self, job: CopyJob | None, timeout_s: float | None = None) -> Any:
        request = CallFunc(self.work.handle, ())
        ask = self.board.operations._requests.request
        reply = self.board.pump.run(ask, request, timeout_s=timeout_s, epoch=self.work.epoch, beside=job)
        assert isinstance(reply, Return)
        return decode_result(reply.values)

    def seconds(self, job: CopyJob | None) -> float:
        before = self.sim.now()
        self.call(job)
        return self.sim.now() - before

    @property
    def is_copied(self) -> bool:
        return bool((self.array.numpy() == self.data).all())


def test_what_the_ring_takes_crosses_while_the_board_computes() -> None:
    bench = Bench(1024)
    alone = bench.seconds(None)
    job = bench.job()
    beside = bench.seconds(job)
    assert (job.done_bytes, list(job.todo)) == (1024, [])
    assert bench.is_copied
    # 1,024 bytes take 89 ms on the line, and less than the call: what is left is the answer to the block.
    assert beside - alone < 30 * BYTE_S
    before = bench.sim.now()
    bench.array.write(bench.data)
    assert bench.sim.now() - before > 1024 * BYTE_S


@pytest.mark.parametrize("size_bytes", [1, 31, 32, 33, 1500, 2000, 5000])
def test_a_copy_of_any_size_is_done_when_the_call_is(size_bytes: int) -> None:
    bench = Bench(size_bytes)
    job = bench.job()
    assert bench.call(job) == 1
    assert (job.done_bytes, list(job.todo)) == (size_bytes, [])
    assert bench.is_copied
    assert bench.sim.state.bytes_overrun == bench.board.stats.frames_damaged == 0
    assert bench.call(bench.job()) == 2, "and the next one goes on"


@pytest.mark.parametrize("size_bytes", [1500, 5000])
def test_a_long_call_whose_repetitions_fill_the_ring_costs_no_more_than_a_block(size_bytes: int) -> None:
    bench = Bench(size_bytes, work_s=1.5)
    alone = [bench.seconds(None) for _ in range(4)]
    for without in alone:
        assert bench.seconds(bench.job()) < without + (2 * size_bytes + 200) * BYTE_S
    assert bench.runs == 8
    assert bench.is_copied


def test_a_board_without_the_link_gets_nothing_beside_a_call() -> None:
    bench = Bench(100, firmware="stock")
    job = bench.job()
    assert bench.call(job) == 1
    assert (job.done_bytes, list(job.todo)) == (0, [(0, 100)])


def test_a_call_that_fails_is_told_and_what_is_left_is_not_copied() -> None:
    bench = Bench(5000)
    bench.fails = True
    job = bench.job()
    with pytest.raises(RemoteError, match="no"):
        bench.call(job)
    assert 0 < job.done_bytes < RING_BYTES
    bench.fails = False
    assert bench.call(bench.job()) == 2
    assert bench.is_copied


def test_a_block_that_the_board_refuses_is_told() -> None:
    bench = Bench(64)
    job = bench.job()
    job.tensor = job.tensor.__class__(2**40, job.tensor.device, job.tensor.dtype, job.tensor.shape)
    with pytest.raises(RemoteError, match="CopyToRemote"):
        bench.call(job)
    assert bench.runs == 1
    assert bench.call(bench.job()) == 2


def test_a_call_that_is_not_answered_in_time_says_so_and_the_next_goes_on() -> None:
    bench = Bench(1024, work_s=1.0)
    job = bench.job()
    with pytest.raises(CallTimeoutError):
        bench.call(job, timeout_s=0.3)
    assert sum(end - begin for begin, end in job.todo) == 1024, "nobody knows what became of it"
    assert bench.call(job) == 2
    assert bench.is_copied


@pytest.mark.parametrize("work_s", [0.02, 1.0, 20.0])
@pytest.mark.parametrize(
    ("direction", "lost"), [(Direction.TO_BOARD, range(26, 270)), (Direction.TO_HOST, range(26, 100))]
)
def test_a_block_that_is_lost_is_sent_again_soon_however_long_the_call_took(
    work_s: float, direction: Direction, lost: range
) -> None:
    bench = Bench(200, work_s=work_s)
    bench.sim.inject(Drop(at=tuple(lost), direction=direction))
    before, job = bench.sim.now(), bench.job()
    assert bench.call(job, timeout_s=work_s + 1) == 1
    assert bench.sim.now() - before < work_s + 0.6
    assert (bench.runs, list(job.todo)) == (1, [])
    assert bench.is_copied


def test_how_long_a_call_took_says_nothing_of_how_long_copies_take() -> None:
    bench = Bench(200, work_s=1.0)
    for _ in range(3):
        bench.call(bench.job())
    before = bench.sim.now()
    bench.sim.inject(Drop(at=tuple(range(230)), direction=Direction.TO_BOARD))
    bench.array.write(bench.data)
    assert bench.board.stats.retransmissions
    assert bench.sim.now() - before < 0.3


def test_a_copy_that_is_not_answered_leaves_the_answer_of_its_call() -> None:
    bench = Bench(200, work_s=0.02)
    bench.sim.inject(Drop(at=tuple(range(50, 220)), direction=Direction.TO_HOST))
    job = bench.job()
    assert bench.call(job) == 1
    assert (job.done_bytes, list(job.todo)) == (0, [(0, 200)])
    sessions = bench.board.stats.sessions
    assert bench.call(bench.job()) == 2
    assert bench.is_copied
    assert bench.board.stats.sessions > sessions


def test_a_reset_in_the_middle_says_so() -> None:
    bench = Bench(1024)
    bench.during = bench.sim.reset
    with pytest.raises(BoardResetError) as raised:
        bench.call(bench.job())
    assert raised.value.may_have_run


def test_answers_that_come_in_one_piece_are_all_taken() -> None:
    device = Device(packet_size_bytes=256, heap_bytes=4096, seed=1)
    device.function(lambda: 7, name="seven")
    board = microrpc.open_board(LoopbackChannel(device), Timeouts())
    array = board.array(np.zeros(400, np.uint8))
    data = np.arange(400, dtype=np.uint16).astype(np.uint8)
    job = CopyJob(flat(array.tensor), memoryview(data), True, UNLIMITED, 2.0, array.epoch)
    seven = board.function("seven")
    reply = board.pump.run(
        board.operations._requests.request, CallFunc(seven.handle, ()), epoch=seven.epoch, beside=job
    )
    assert isinstance(reply, Return)
    assert decode_result(reply.values) == 7
    assert (array.numpy() == data).all()
    assert board.stats.retransmissions == 0


@pytest.mark.parametrize("size_bytes", [300, 5000])
def test_an_interruption_cancels_the_call_and_the_next_goes_on_in_the_same_session(size_bytes: int) -> None:
    bench = Bench(size_bytes, work_s=0.8)
    channel, interrupt_at = bench.board.pump._channel, bench.sim.now() + 0.3
    read, interruptions = channel.read, [KeyboardInterrupt]

    def read_until(deadline: float) -> bytes:
        data = read(min(deadline, interrupt_at) if interruptions else deadline)
        if interruptions and channel.now() >= interrupt_at:
            raise interruptions.pop()
        return data

    channel.read = read_until  # type: ignore[method-assign]
    sessions = bench.board.stats.sessions
    with pytest.raises(KeyboardInterrupt):
        bench.call(bench.job())
    assert bench.runs == 1
    assert bench.call(bench.job()) == 2
    assert bench.is_copied
    assert bench.board.stats.sessions == sessions


def _frames(size_bytes: int) -> int:
    """How many bytes cross to the board in a call with a copy beside it, from the call on."""
    bench = Bench(size_bytes)
    before = bench.board.stats.bytes_sent
    bench.call(bench.job())
    return bench.board.stats.bytes_sent - before


@pytest.mark.parametrize("fault", [Flip, Drop])
@pytest.mark.parametrize("direction", [Direction.TO_BOARD, Direction.TO_HOST])
def test_a_fault_at_every_byte_leaves_the_call_run_once_and_the_copy_whole(fault: Any, direction: Direction) -> None:
    size_bytes, step = 200, 3
    most = _frames(size_bytes) if direction is Direction.TO_BOARD else 60
    for at in range(0, most, step):
        bench = Bench(size_bytes, work_s=0.02)
        bench.sim.inject(fault(at=(at,), direction=direction))
        assert bench.call(bench.job()) == 1, at
        assert bench.runs == 1, at
        assert bench.is_copied, at


@pytest.mark.parametrize("seed", range(8))
def test_a_noisy_line_loses_nothing_and_runs_nothing_twice(seed: int) -> None:
    bench = Bench(700, work_s=0.03)
    bench.sim.inject(Flip(rate=3e-5), Drop(rate=1e-4))
    done = 0
    for _ in range(12):
        bench.data[:] = np.random.default_rng(seed + done).integers(0, 256, 700)
        with contextlib.suppress(OutcomeUnknownError):
            assert bench.call(bench.job()) == bench.runs
            assert bench.is_copied
            done += 1
    assert done >= 10


# --- the link's state machine -------------------------------------------------------------------------


def link(window_bytes: int, window_requests: int = 8, packet_bytes: int = 256, **options: Any) -> LinkHost:
    return LinkHost(0x1234, LinkParameters(window_requests, packet_bytes, window_bytes), byte_s=1e-4, **options)


def send_all(host: LinkHost, size_bytes: int) -> list[int]:
    """Send a copy of zeros beside what is unanswered; give how many bytes each block has."""
    found, at = [], 0
    while at < size_bytes and (request := host.send_beside(0x1000 + at, memoryview(bytes(size_bytes - at)), 0.0)):
        found.append(request.size_bytes)
        at += request.size_bytes
    return found


def test_blocks_beside_a_call_leave_room_for_its_repetitions() -> None:
    host = link(1000)
    host.send_packet(bytes(40), 0.0, CALL)
    (call,) = host.frames
    sizes = send_all(host, 5000)
    assert sum(len(frame) for frame in host.frames[1:]) <= 1000 - 4 * len(call)
    assert sum(len(frame) for frame in host.frames[1:]) > 1000 - 4 * len(call) - 60, "and no more"
    assert sizes[0] == 256 - 18


def test_no_more_requests_are_sent_than_the_window_has() -> None:
    host = link(1000, window_requests=3)
    host.send_packet(bytes(8), 0.0, CALL)
    assert len(send_all(host, 600)) == 2
    host = link(1000, window_requests=1)
    host.send_packet(bytes(8), 0.0, CALL)
    assert send_all(host, 600) == []


def test_a_ring_that_takes_the_call_alone_gets_no_block() -> None:
    host = link(120)
    host.send_packet(bytes(40), 0.0, CALL)
    assert send_all(host, 500) == []


def test_where_the_line_carries_one_direction_at_a_time_nothing_is_sent_beside() -> None:
    host = link(1000, takes_turns=True)
    host.send_packet(bytes(8), 0.0, CALL)
    assert send_all(host, 500) == []


def test_bytes_that_are_escaped_count_as_they_cross_the_line() -> None:
    host = link(400)
    host.send_packet(bytes(8), 0.0, CALL)
    (call,) = host.frames
    request = host.send_beside(0x1000, memoryview(b"\xff" * 400), 0.0)
    assert request is not None
    assert len(request.frame) <= 400 - 4 * len(call)
    assert request.size_bytes < 180


def test_while_a_call_runs_time_repeats_it_alone() -> None:
    host = link(1000)
    host.send_packet(bytes(40), 0.0, CALL)
    send_all(host, 500)
    (call, *blocks), now = list(host.frames), 0.0
    assert len(blocks) >= 2
    host.frames.clear()
    for _ in range(6):
        now = host.deadline
        host.on_time(now)
    assert host.frames == [call] * 6


def test_a_call_beside_blocks_is_cancelled_in_its_place_and_they_are_answered_after_it() -> None:
    host = link(1000)
    seq = host.send_packet(bytes(40), 0.0, CALL)
    send_all(host, 300)
    blocks = len(host.frames) - 1
    host.frames.clear()
    assert host.cancel(0.1)
    assert len(host.frames) == 1
    assert host.unanswered == 1 + blocks
    host.receive(encode_with_kind(0x1234, LINK_REPLY, seq, ReplyKind.PACKET, b"ended"), 0.2)
    for block in range(1, blocks + 1):
        host.receive(encode_with_kind(0x1234, LINK_REPLY, seq + block, ReplyKind.DONE), 0.3)
    assert [(reply.seq, reply.kind) for reply in host.replies] == [
        (seq, ReplyKind.PACKET),
        *((seq + block, ReplyKind.DONE) for block in range(1, blocks + 1)),
    ]
    assert (host.unanswered, host.deadline) == (0, math.inf)


def test_a_block_that_is_answered_first_tells_that_the_call_was_lost() -> None:
    host = link(1000)
    seq = host.send_packet(bytes(40), 0.0, CALL)
    (call,) = host.frames
    send_all(host, 100)
    host.frames.clear()
    host.receive(encode_with_kind(0x1234, LINK_REPLY, seq + 1, ReplyKind.DONE), 0.1)
    assert host.frames == [call]
