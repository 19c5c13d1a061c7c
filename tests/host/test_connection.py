"""The host after doubt: nothing late, damaged or from before a reset is ever taken for an answer."""

from __future__ import annotations

import itertools
import os
import struct
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest
from apis import Api

import microrpc
from firmware_sim.board.clock import VirtualClock
from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.line.settings import Uart
from firmware_sim.line.uart import UartLine
from firmware_sim.running.loopback import LineChannel, LoopbackChannel
from firmware_sim.running.simulate import simulate
from microrpc.client.board import Board
from microrpc.connecting import blocking
from microrpc.connecting.blocking import open_board
from microrpc.errors import (
    BoardResetError,
    CallTimeoutError,
    DamagedReplyError,
    HandshakeTimeoutError,
    OutcomeUnknownError,
    RequestTooLargeError,
    StaleHandleError,
)
from microrpc.host.connection import Connection
from microrpc.wire.frames import FrameDecoder, encode_frame
from microrpc.wire.packets import CallFunc, PacketCode, Syscall, decode_packet
from microrpc.wire.session import MessageType, Timeouts, encode_message

TIMEOUTS = Timeouts(retry_s=0.5, start_s=5.0, call_s=2.0)
FIRMWARES = ("robust", "stock")


@pytest.fixture(autouse=True)
def both_clients_open_the_boards(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "open_board", api.open_board)


class Line:
    """A board in memory behind a line whose bytes a test can damage, by their position in each direction."""

    def __init__(self, firmware: str = "robust", **device_args: int) -> None:
        self.device = Device(firmware=firmware, seed=7, **device_args)  # type: ignore[arg-type]
        install(self.device)
        self.calls = 0

        @self.device.function
        def count() -> int:
            self.calls += 1
            return self.calls

        self.host_bytes = bytearray()
        self.damage_host: Callable[[bytes], bytes] = lambda data: data
        self.damage_board: Callable[[bytes], bytes] = lambda data: data
        self.channel = LoopbackChannel(self.device, to_device=self._to_device, to_host=lambda d: self.damage_board(d))

    def _to_device(self, data: bytes) -> bytes:
        self.host_bytes += data
        return self.damage_host(data)

    def open(self) -> Board:
        return open_board(self.channel, TIMEOUTS, seed=1, link=False)

    def sent(self) -> list[tuple[int, int, bytes]]:
        """What the host sent: session id, message type, body."""
        frames = FrameDecoder().feed(bytes(self.host_bytes))
        assert all(isinstance(frame, bytes) for frame in frames)
        return [(int.from_bytes(f[:2], "little"), f[2], f[3:]) for f in frames if isinstance(f, bytes)]


def once(
    change: Callable[[bytes], bytes], when: Callable[[bytes], bool] = lambda data: True
) -> Callable[[bytes], bytes]:
    """Apply `change` to the first piece for which `when` holds."""
    done: list[bool] = []

    def damage(data: bytes) -> bytes:
        if done or not when(data):
            return data
        done.append(True)
        return change(data)

    return damage


def flip_last(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 0x01])


def lose(data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_what_a_board_says_while_it_is_listened_to_is_told_and_so_is_a_reset(
    firmware: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, lines = Line(firmware), list[str]()
    board = blocking.open_board(line.channel, TIMEOUTS, seed=1, on_log=lines.append)
    connection = board.operations.connection
    assert isinstance(connection, Connection)
    board.pump.run(connection.listen, 1.0)
    line.device.log("of the log")
    line.device._output += b"beside it\n"
    before = line.channel.now()
    board.pump.run(connection.listen, 1.0)
    assert line.channel.now() - before == pytest.approx(1.0)
    assert lines == ["of the log", "beside it"]
    read, resets = line.channel.read, [line.device.reset]

    def reset_while_it_waits(deadline: float) -> bytes:
        if resets and deadline > line.channel.now():
            resets.pop()()
        return read(deadline)

    monkeypatch.setattr(line.channel, "read", reset_while_it_waits)
    board.pump.run(connection.listen, 1.0)
    assert board.stats.resets == 1
    assert board.function("count")() == 1
    assert board.stats.resets == 1


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_a_lost_reply_is_a_timeout_at_its_deadline_and_the_call_may_have_run(firmware: str) -> None:
    line = Line(firmware)
    board = line.open()
    count = board.function("count")
    line.damage_board = once(lose)
    before = line.channel.now()
    with pytest.raises(CallTimeoutError) as caught:
        count(timeout_s=0.25)
    assert line.channel.now() - before == pytest.approx(0.25)
    assert caught.value.may_have_run
    assert count() == 2  # the lost one had run


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_a_lost_request_is_not_sent_again_and_the_next_call_is_right(firmware: str) -> None:
    line = Line(firmware)
    board = line.open()
    count = board.function("count")
    line.damage_host = once(lose)
    with pytest.raises(CallTimeoutError):
        count()
    assert line.calls == 0
    assert count() == 1


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_a_damaged_request_leaves_no_stale_answer_behind(firmware: str) -> None:
    line = Line(firmware)
    board = line.open()
    add = board.function("add")
    line.damage_host = once(flip_last)
    with pytest.raises(CallTimeoutError):
        add(1, 2)
    assert [add(n, n) for n in range(5)] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_a_damaged_reply_ends_a_call_at_once_and_is_asked_again_for_a_look_up(firmware: str) -> None:
    line = Line(firmware)
    board = line.open()
    count = board.function("count")
    line.damage_board = once(flip_last)
    before = line.channel.now()
    with pytest.raises(DamagedReplyError) as caught:
        count()
    assert caught.value.may_have_run
    assert line.channel.now() == before
    line.damage_board = once(flip_last)
    assert board.function("add")(2, 3) == 5


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_a_late_reply_is_not_taken_for_the_answer_to_a_newer_call(firmware: str) -> None:
    line = Line(firmware)
    board = line.open()
    add = board.function("add")
    kept: list[bytes] = []

    def keep(data: bytes) -> bytes:
        kept.append(data)
        return b""

    line.damage_board = once(keep)
    with pytest.raises(CallTimeoutError):
        add(1, 1)
    line.damage_board = once(lambda data: kept[0] + data)
    assert add(20, 22) == 42
    line.damage_board = once(lambda data: kept[0] + data)
    assert add(30, 3) == 33


@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("change", [flip_last, lose, lambda data: data[:9] + data[10:]])
def test_a_copy_repeats_the_block_that_was_in_doubt(firmware: str, change: Callable[[bytes], bytes]) -> None:
    line = Line(firmware)
    board = line.open()
    data = np.random.default_rng(1).integers(0, 256, 4_500, dtype=np.uint8)
    # The last block: a full one that is damaged fills a stock board's buffer, and the next byte kills it.
    line.damage_host = once(flip_last, lambda sent: 300 < len(sent) < 1000)
    line.damage_board = once(change, lambda sent: len(sent) > 1000)
    array = board.array(data)
    assert np.array_equal(array.numpy(), data)


def test_a_stock_board_that_dies_of_a_damaged_full_block_is_reported_as_in_need_of_a_reset() -> None:
    line = Line("stock")
    board = line.open()
    line.damage_host = once(flip_last, lambda sent: len(sent) > 2000)
    with pytest.raises(HandshakeTimeoutError, match="reset it"):
        board.array(np.zeros(5000, dtype=np.uint8))
    assert line.device.is_dead


def test_a_block_that_a_stock_board_puts_elsewhere_because_its_offset_was_damaged_does_not_spoil_the_copy() -> None:
    line = Line("stock")
    board = line.open()
    data = np.arange(1900, dtype=np.uint16).view(np.uint8)
    shape_and_offset = struct.pack("<QQ", len(data), 1985)  # of the second block
    damaged = struct.pack("<QQ", len(data), 1985 ^ 0x400)
    line.damage_host = once(
        lambda frame: frame.replace(shape_and_offset, damaged), lambda frame: shape_and_offset in frame
    )
    assert np.array_equal(board.array(data).numpy(), data)


def test_after_doubt_the_board_proves_itself_before_it_is_believed() -> None:
    line = Line()
    board = line.open()
    count = board.function("count")
    line.damage_board = once(flip_last)
    with pytest.raises(DamagedReplyError):
        count()
    line.host_bytes.clear()
    assert count() == 2
    kinds = [message_type for _, message_type, _ in line.sent()]
    assert kinds == [
        MessageType.TERMINATE_SESSION,
        MessageType.START_SESSION_INIT,
        MessageType.NORMAL,
        MessageType.NORMAL,
    ]
    proof, call = (decode_packet(body[8:]) for _, kind, body in line.sent() if kind == MessageType.NORMAL)
    assert "microrpc.in-step" in str(proof)
    assert isinstance(call, CallFunc)


@pytest.mark.parametrize(
    ("size_bytes", "error", "after_s"), [(8, CallTimeoutError, TIMEOUTS.call_s), (9, DamagedReplyError, 0.0)]
)
def test_nine_bytes_outside_of_any_frame_are_a_lost_reply_and_fewer_are_not(
    size_bytes: int, error: type[OutcomeUnknownError], after_s: float
) -> None:
    line = Line()
    board = line.open()
    count = board.function("count")
    before = line.channel.now()
    line.damage_board = once(lambda data: b"\x01" * size_bytes)
    with pytest.raises(error):
        count()
    assert line.channel.now() - before == pytest.approx(after_s)


def test_an_answer_that_comes_after_damage_is_not_believed() -> None:
    line = Line()
    board = line.open()
    count = board.function("count")
    line.damage_board = once(lambda data: flip_last(data) + data)
    with pytest.raises(DamagedReplyError):
        count()
    assert count() == 2


def test_a_proof_is_the_one_answer_that_is_right_and_each_asks_for_another_name() -> None:
    line = Line()
    board = line.open()
    count = board.function("count")
    line.device.functions["microrpc.in-step.1"] = lambda: None  # so that it is answered as if it were another request
    line.damage_board = once(flip_last)
    with pytest.raises(DamagedReplyError):
        count()
    line.host_bytes.clear()
    assert count() == 2
    packets = [decode_packet(body[8:]) for _, kind, body in line.sent() if kind == MessageType.NORMAL]
    assert packets[:-1] == [
        Syscall(PacketCode.GET_GLOBAL_FUNC, ("microrpc.in-step.1",)),
        Syscall(PacketCode.GET_GLOBAL_FUNC, ("microrpc.in-step.2",)),
    ]


def test_a_look_up_that_is_not_answered_is_sent_three_times_in_all() -> None:
    line = Line()
    board = line.open()
    line.damage_host = lambda sent: lose(sent) if b"count" in sent else sent
    with pytest.raises(CallTimeoutError):
        board.function("count")
    assert sum(b"count" in body for _, _, body in line.sent()) == 3
    assert board.stats.repeats == 2


def test_a_copy_may_fail_at_every_block_as_long_as_it_gets_on() -> None:
    line = Line()
    board = line.open()
    large = itertools.count()
    line.damage_host = lambda sent: flip_last(sent) if len(sent) > 300 and next(large) % 2 == 0 else sent
    data = np.random.default_rng(2).integers(0, 256, 9000, dtype=np.uint8)
    assert np.array_equal(board.array(data).numpy(), data)
    assert board.stats.repeats == 5


def test_a_clean_handshake_needs_no_proof() -> None:
    line = Line()
    line.open()
    assert [kind for _, kind, _ in line.sent()] == [MessageType.TERMINATE_SESSION, MessageType.START_SESSION_INIT]


@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("position", range(24))
def test_a_flip_anywhere_in_the_opening_still_connects_or_says_why(firmware: str, position: int) -> None:
    line = Line(firmware)
    line.damage_host = once(lambda data: data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
    try:
        board = line.open()
    except HandshakeTimeoutError:
        assert line.device.is_dead  # only a board that is deaf until its reset may stay out of reach
        return
    assert board.function("add")(2, 3) == 5


def test_a_stock_board_that_answers_the_handshake_one_message_behind_is_cured() -> None:
    line = Line("stock")
    line.damage_host = once(flip_last)  # the crc of INIT: its content stays in the board's buffer
    board = line.open()
    assert [board.function("add")(n, 1) for n in range(4)] == [1, 2, 3, 4]


def test_inits_are_few_when_nobody_answers() -> None:
    line = Line()
    line.damage_host = lose
    with pytest.raises(HandshakeTimeoutError, match="within 5 s"):
        line.open()
    inits = [kind for _, kind, _ in line.sent() if kind == MessageType.START_SESSION_INIT]
    assert 5 <= len(inits) <= 16
    assert line.channel.now() == pytest.approx(5.0)


def test_the_first_request_after_an_init_is_small() -> None:
    line = Line(packet_size_bytes=256)
    board = line.open()
    line.device.functions["echo"] = lambda data: data
    echo = board.global_function("echo")
    assert echo is not None
    line.device.reset()
    with pytest.raises(BoardResetError):
        board.global_function("echo")
    echo_again = board.global_function("echo")
    assert echo_again is not None
    assert echo_again(b"x" * 180) == b"x" * 180
    sent = line.sent()
    for (_, before, _), (_, kind, body) in itertools.pairwise(sent):
        if before == MessageType.START_SESSION_INIT and kind == MessageType.NORMAL:
            assert len(body) <= 64


def test_a_first_request_that_is_not_small_comes_after_the_look_up_of_the_limit() -> None:
    line = Line()
    board = line.open()
    assert board.global_function("n" * 100) is None
    names = [body[8:] for _, kind, body in line.sent() if kind == MessageType.NORMAL]
    assert b"GetCRTMaxPacketSize" in names[0]
    assert b"n" * 100 in names[-1]
    assert len(names) == 3


# --- resets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_a_reset_between_calls_refuses_old_handles_before_anything_is_sent(firmware: str) -> None:
    line = Line(firmware)
    board = line.open()
    count, array = board.function("count"), board.array([1, 2, 3])
    line.device.reset()
    with pytest.raises(BoardResetError) as caught:
        count()
    assert not caught.value.may_have_run
    assert line.calls == 0
    with pytest.raises(StaleHandleError, match="before a reset"):
        array.numpy()
    assert board.function("count")() == 1


def test_a_reset_in_mid_call_says_that_it_may_have_run() -> None:
    line = Line()

    @line.device.function
    def die() -> None:
        line.device.reset()

    board = line.open()
    array = board.array([1, 2, 3])
    with pytest.raises(BoardResetError) as caught:
        board.function("die")()
    assert caught.value.may_have_run
    with pytest.raises(StaleHandleError):
        array.numpy()
    assert board.function("add")(1, 1) == 2


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_a_reset_while_the_limit_is_asked_for_is_told_as_a_reset(firmware: str) -> None:
    line = Line(firmware)
    board = line.open()

    def reset(data: bytes) -> bytes:
        line.device.reset()
        return b""

    line.damage_host = once(reset, lambda sent: sent[9:17] == bytes.fromhex("1000000000000000"))  # the limit's CallFunc
    with pytest.raises(BoardResetError, match="reset during CallFunc"):
        board.array([1, 2, 3])
    assert board.array([1, 2, 3]).numpy().tolist() == [1, 2, 3]


def test_a_reset_that_nobody_saw_is_told_by_the_nonces() -> None:
    line = Line()
    board = line.open()
    array = board.array([1, 2, 3])
    line.damage_board = lose
    line.device.reset()
    line.channel.read(line.channel.now())  # its TERMINATE is lost
    line.damage_board = lambda data: data
    with pytest.raises(OutcomeUnknownError):
        array.numpy()
    with pytest.raises(StaleHandleError):
        array.numpy()
    assert board.function("add")(1, 1) == 2


def test_a_handle_is_of_the_boot_in_which_it_was_asked_for() -> None:
    line = Line()
    board = line.open()
    boot = encode_frame(encode_message(0, MessageType.TERMINATE_SESSION))
    line.device.functions["f"] = lambda: 1
    line.damage_board = once(lambda reply: reply + boot)  # both come at once, before a handle is made of the reply
    function = board.global_function("f")
    assert function is not None
    with pytest.raises(BoardResetError, match="from before") as caught:  # which is how the program learns of it
        function()
    assert not caught.value.may_have_run
    with pytest.raises(StaleHandleError, match="before a reset"):
        function()


def test_a_board_that_answers_the_second_init_was_not_reset() -> None:
    line = Line()
    board = line.open()
    array = board.array([1, 2, 3])
    changes = iter([flip_last, lose])  # of the copy's answer, and of the first REPLY
    line.damage_board = lambda data: next(changes, bytes)(data)
    assert array.numpy().tolist() == [1, 2, 3]
    assert (board.stats.sessions, board.stats.resets) == (2, 0)


def test_an_interrupted_call_makes_the_next_one_start_anew() -> None:
    line = Line()
    board = line.open()
    add = board.function("add")

    def interrupt(data: bytes) -> bytes:
        raise KeyboardInterrupt

    line.damage_board = once(interrupt)
    with pytest.raises(KeyboardInterrupt):
        add(1, 1)
    assert add(2, 2) == 4


def test_an_interrupt_at_any_line_of_a_new_session_is_never_taken_for_a_reset() -> None:
    line = Line()
    board = line.open()
    add = board.function("add")
    left = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        if f"{os.sep}host{os.sep}" not in frame.f_code.co_filename:
            return None
        left -= event == "line"
        if event == "line" and not left:
            raise KeyboardInterrupt
        return trace

    ended = 0
    for at in itertools.count(1):
        line.damage_board = once(lose)
        with pytest.raises(CallTimeoutError):
            add(1, 1)
        left, before = at, sys.gettrace()
        sys.settrace(trace)
        try:
            add(2, 2)
            break  # there is no line as late as that
        except KeyboardInterrupt:
            ended += 1
        finally:
            sys.settrace(before)
        assert (add(3, 3), board.stats.resets) == (6, 0), at
    assert ended > 100


def test_a_request_too_large_for_the_board_never_leaves_the_host() -> None:
    line = Line("stock", packet_size_bytes=512)
    board = line.open()
    echo = board.function("echo_bytes")
    fits = 512 - 11 - 4 - 8 - 4 - 4 - 8
    assert echo(b"x" * fits) == b"x" * fits
    line.host_bytes.clear()
    with pytest.raises(RequestTooLargeError) as caught:
        echo(b"x" * (fits + 1))
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (502, 501)
    assert not line.host_bytes
    assert echo(b"y") == b"y"


def test_a_lying_board_cannot_make_the_host_wait_or_believe() -> None:
    line = Line()
    board = line.open()
    add = board.function("add")
    line.damage_board = once(lambda data: data + data)  # every answer twice
    assert add(1, 2) == 3
    assert add(3, 4) == 7


def test_a_board_that_boots_while_it_is_connected_to_need_not_wait_for_the_retry() -> None:
    profile = microrpc.profile("loopback")
    line = UartLine(simulate(profile, clock=VirtualClock()), Uart(power_up_s=1.0))
    channel = LineChannel(line, VirtualClock())
    board = open_board(channel, Timeouts(retry_s=4.0, start_s=20.0, call_s=2.0))
    assert 2.0 < channel.now() < 2.1  # its boot message, a quarter of the retry, the handshake
    assert board.function("add")(2, 3) == 5


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_what_was_answered_just_before_a_reset_is_stale_at_once(firmware: str) -> None:
    line = Line(firmware)
    board = line.open()
    boot = encode_frame(encode_message(0, MessageType.TERMINATE_SESSION))
    line.damage_board = once(lambda data: data + boot, bool)
    library = board.global_function("runtime.SystemLib")
    assert library is not None
    assert not library.is_live
    with pytest.raises(BoardResetError, match="from before"):
        library()
    with pytest.raises(StaleHandleError, match="is from before a reset of the board"):
        library()


@pytest.mark.parametrize(("stray_bytes", "is_damage"), [(8, False), (9, True)])
def test_a_few_stray_bytes_are_nothing_and_more_are_a_frame_whose_start_was_damaged(
    stray_bytes: int, is_damage: bool
) -> None:
    line = Line()
    board = line.open()
    count = board.function("count")

    def stray_first(data: bytes) -> bytes:
        line.device._output[:0] = data
        return b"\x01" * stray_bytes

    line.damage_board = once(stray_first, bool)
    if is_damage:
        with pytest.raises(DamagedReplyError, match="9 bytes outside any frame"):
            count()
    else:
        assert count() == 1
    assert count() == 2


def test_stray_bytes_of_an_earlier_session_are_forgotten() -> None:
    line = Line()
    board = line.open()
    count = board.function("count")
    for expected in (2, 4):
        line.damage_board = once(lambda data: b"\1\2\3\4\5", bool)
        with pytest.raises(CallTimeoutError):
            count(timeout_s=0.5)
        assert count() == expected
