"""Requests over the link (docs/link.md): how it comes about, what damage does to it, what is left to report."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import microrpc
from firmware_sim.board.demo import install
from firmware_sim.board.device import ALL_FEATURES, Device
from firmware_sim.board.robust import RobustPort
from firmware_sim.board.runtime import RuntimeSession
from firmware_sim.line.faults import Delay, Reset
from firmware_sim.running.loopback import LoopbackChannel
from firmware_sim.running.simulate import SimBoard
from microrpc.client.board import Board
from microrpc.connecting.blocking import open_board
from microrpc.errors import (
    BoardResetError,
    CallTimeoutError,
    DamagedReplyError,
    HandshakeTimeoutError,
    ProtocolError,
    RemoteError,
    StaleHandleError,
)
from microrpc.host.carriers.link import LinkCarrier
from microrpc.host.connection import Connection
from microrpc.host.link import LinkHost
from microrpc.host.operation import AT_ONCE
from microrpc.wire.datatypes import OpaqueHandle
from microrpc.wire.features import Feature
from microrpc.wire.frames import FrameDecoder, encode_frame
from microrpc.wire.link import LinkParameters, ReplyKind, RequestKind
from microrpc.wire.packets import PacketCode, Return, Syscall, decode_packet, encode_packet
from microrpc.wire.session import MessageType, Timeouts

TIMEOUTS = Timeouts(retry_s=0.5, start_s=5.0, call_s=2.0)
LINK_LOOK_UP = encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("microrpc.link",)))
FEATURES_LOOK_UP = encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("microrpc.features",)))
NORMAL, REQUEST, REPLY, NAK = (
    MessageType.NORMAL,
    MessageType.LINK_REQUEST,
    MessageType.LINK_REPLY,
    MessageType.LINK_NAK,
)
Change = Callable[[bytes], bytes]


class Wire:
    """A board in memory behind a line whose bytes a test can change, a piece at a time in each direction."""

    def __init__(self, firmware: str = "robust", *, features: Feature = ALL_FEATURES, **options: Any) -> None:
        self.device = Device(firmware=firmware, seed=7, features=features, **options)  # type: ignore[arg-type]
        install(self.device)
        self.device.function(self.count)
        self.executions = 0
        self.to_device: Change = lambda data: data
        self.to_host: Change = lambda data: data
        self.sent_bytes = bytearray()
        self.logs: list[str] = []
        self.channel = self.new_channel()

    def count(self) -> int:
        self.executions += 1
        return self.executions

    def new_channel(self) -> LoopbackChannel:
        return LoopbackChannel(self.device, to_device=self._send, to_host=lambda data: self.to_host(data))

    def _send(self, data: bytes) -> bytes:
        self.sent_bytes += data
        return self.to_device(data)

    def open(self, *, seed: int = 1, link: bool = True, on_reset: Callable[[], None] | None = None) -> Board:
        return open_board(self.new_channel(), TIMEOUTS, self.logs.append, seed=seed, link=link, on_reset=on_reset)

    def sent(self) -> list[tuple[int, bytes]]:
        """What the host sent: message type, and the rest."""
        return [(payload[2], payload[3:]) for payload in payloads(bytes(self.sent_bytes))]

    def after(self, first: bytes) -> Change:
        """Let `first` come alone, and what the board says after it."""

        def delay(data: bytes) -> bytes:
            self.device._output[:0] = data
            return first

        return delay

    def answer_with(self, kind: ReplyKind, body: bytes) -> None:
        """Let the board answer every request of this session with this."""
        port = self.device._port
        assert isinstance(port, RobustPort)
        assert port._link is not None
        port._link.execute = lambda *_: (kind, body)

    def kinds(self) -> list[int]:
        return [kind for kind, _ in self.sent()]

    def look_ups(self) -> int:
        return self.sent().count((NORMAL, LINK_LOOK_UP))


def payloads(data: bytes) -> list[bytes]:
    frames = FrameDecoder().feed(data)
    assert all(isinstance(frame, bytes) for frame in frames)
    return [frame for frame in frames if isinstance(frame, bytes)]


def once(change: Change, when: Callable[[bytes], bool] = lambda data: True) -> Change:
    """Apply `change` to the first piece for which `when` holds."""
    done: list[bool] = []

    def damage(data: bytes) -> bytes:
        if done or not when(data):
            return data
        done.append(True)
        return change(data)

    return damage


def holds(kind: MessageType) -> Callable[[bytes], bool]:
    """Tell whether a piece has a message of this type in it."""
    return lambda data: any(frame[2] == kind for frame in FrameDecoder().feed(data) if isinstance(frame, bytes))


def flip_last(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 0x01])


def flip_start(data: bytes) -> bytes:
    return bytes([data[0] ^ 0x01]) + data[1:]


def lose(data: bytes) -> bytes:
    return b""


def lose_middle(data: bytes) -> bytes:
    return data[:9] + data[10:]


def twice(data: bytes) -> bytes:
    return data + data


DAMAGES = (flip_last, flip_start, lose, lose_middle, twice)


def carrier(board: Board) -> LinkCarrier:
    connection = board.operations.connection
    assert isinstance(connection, Connection)
    assert isinstance(connection.carrier, LinkCarrier)
    return connection.carrier


# --- coming to a link ---------------------------------------------------------------------------------


def test_the_negotiation_is_two_look_ups_before_the_first_request() -> None:
    wire = Wire()
    board = wire.open()
    assert board.link is None
    assert wire.kinds() == [MessageType.TERMINATE_SESSION, MessageType.START_SESSION_INIT]
    wire.sent_bytes.clear()
    count = board.function("count")
    assert board.link == LinkParameters(window_requests=8, packet_bytes=2048, window_bytes=2148)
    assert wire.sent()[:2] == [(NORMAL, LINK_LOOK_UP), (NORMAL, FEATURES_LOOK_UP)]
    assert set(wire.kinds()[2:]) == {REQUEST}
    assert [count() for _ in range(5)] == [1, 2, 3, 4, 5]
    assert wire.kinds().count(NORMAL) == 2


def test_a_stock_board_sees_one_more_look_up_and_nothing_else() -> None:
    said: list[list[tuple[int, bytes]]] = []
    for link in (True, False):
        wire = Wire("stock")
        board = wire.open(link=link)
        assert board.function("add")(2, 3) == 5
        assert np.array_equal(board.array(np.arange(2000)).numpy(), np.arange(2000))
        assert board.link is None
        said.append(wire.sent())
    with_link, without = said
    with_link.remove((NORMAL, LINK_LOOK_UP))
    assert with_link == without


def test_without_link_nobody_asks_and_nothing_is_sent_over_it() -> None:
    wire = Wire()
    board = wire.open(link=False)
    assert board.function("count")() == 1
    assert wire.look_ups() == 0
    assert REQUEST not in wire.kinds()
    assert board.link is None


@pytest.mark.parametrize("handle", [0, 0x0008_0000_0800_0802, 0x0008_0000_0800_2101])
def test_what_the_host_does_not_know_as_a_link_is_none(handle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LinkParameters, "handle", handle)
    wire = Wire()
    board = wire.open()
    assert board.function("count")() == 1
    assert (board.link, wire.look_ups(), REQUEST in wire.kinds()) == (None, 1, False)


def test_a_board_that_answers_the_question_with_an_exception_has_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    serve = RuntimeSession.begin

    def refuse(session: RuntimeSession, request: Syscall) -> object:
        if isinstance(request, Syscall) and request.args == ("microrpc.link",):
            return microrpc.wire.packets.RemoteException("no")
        return serve(session, request)

    monkeypatch.setattr(RuntimeSession, "begin", refuse)
    board = Wire().open()
    assert board.function("count")() == 1
    assert board.link is None


def test_it_is_asked_once_per_boot_and_not_again_in_a_new_session() -> None:
    wire = Wire()
    board = wire.open()
    count = board.function("count")
    first = board.session_id
    wire.to_device = lose
    with pytest.raises(CallTimeoutError):
        count(timeout_s=0.1)
    wire.to_device = lambda data: data
    assert count() == 1
    assert board.session_id != first
    assert board.link is not None
    assert wire.look_ups() == 1
    wire.device.reset()
    with pytest.raises(BoardResetError):
        board.function("count")
    assert board.function("count")() == 2
    assert wire.look_ups() == 2


@pytest.mark.parametrize("change", DAMAGES)
@pytest.mark.parametrize("way", ["to_device", "to_host"])
def test_a_damaged_negotiation_is_begun_again(change: Change, way: str) -> None:
    wire = Wire()
    board = wire.open()
    setattr(wire, way, once(change))
    assert board.function("count")() == 1
    assert board.link is not None
    assert wire.executions == 1


@pytest.mark.parametrize("question", [LINK_LOOK_UP, FEATURES_LOOK_UP])
def test_a_negotiation_that_is_never_answered_ends_with_an_error(question: bytes) -> None:
    wire = Wire()
    board = wire.open()
    wire.to_device = lambda data: b"" if question in data else data
    with pytest.raises(HandshakeTimeoutError, match="6 sessions were opened"):
        board.function("count")
    assert wire.sent().count((NORMAL, question)) == 6
    assert wire.look_ups() == (6 if question == LINK_LOOK_UP else 1)
    wire.to_device = lambda data: data
    assert board.function("count")() == 1


def test_a_board_that_lost_its_link_with_a_reset_is_used_without() -> None:
    wire = Wire()
    board = wire.open()
    board.function("count")
    wire.device._session._told = {}
    wire.device.reset()
    with pytest.raises(BoardResetError):
        board.function("count")
    assert board.function("count")() == 1
    assert board.link is None


# --- damage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", DAMAGES)
@pytest.mark.parametrize("way", ["to_device", "to_host"])
def test_a_call_whose_request_or_reply_is_damaged_runs_once_and_is_answered_in_time(change: Change, way: str) -> None:
    wire = Wire()
    board = wire.open()
    count = board.function("count")
    session_id, start = board.session_id, wire.channel.now()
    for n in range(1, 11):
        setattr(wire, way, once(change))
        assert count() == n
        assert wire.executions == n
    assert board.session_id == session_id
    assert wire.channel.now() - start <= 10 * 1.0


@pytest.mark.parametrize("change", [flip_last, flip_start, lose_middle])
def test_a_damaged_reply_is_asked_for_again_at_once(change: Change) -> None:
    wire = Wire()
    board = wire.open()
    count = board.function("count")
    wire.to_host = once(change)
    start = wire.channel.now()
    assert count() == 1
    assert wire.channel.now() == start or change is lose_middle  # nothing tells that the rest will not come


def test_a_damaged_request_is_sent_again_at_once_because_the_board_complains() -> None:
    wire = Wire()
    board = wire.open()
    count = board.function("count")
    wire.to_device = once(flip_last)
    start = wire.channel.now()
    assert count() == 1
    assert wire.channel.now() == start
    assert carrier(board).retransmissions == 1


def test_logs_come_through_in_between() -> None:
    wire = Wire()

    @wire.device.function
    def talk() -> str:
        wire.device.log("one")
        wire.device.log("two")
        return "done"

    board = wire.open()
    talk_on_board = board.function("talk")
    wire.to_host = once(lambda data: data[:-1])  # the reply, after both lines
    assert talk_on_board() == "done"
    assert wire.logs == ["one", "two"]


def test_a_nak_for_no_reason_does_no_harm() -> None:
    wire = Wire()
    board = wire.open()
    count = board.function("count")
    nak = bytearray(struct.pack("<HBH", board.session_id, NAK, 0))
    nak += struct.pack("<I", zlib.crc32(nak))
    wire.to_host = lambda data: encode_frame(bytes(nak)) * 100 + data
    assert [count() for _ in range(5)] == [1, 2, 3, 4, 5]


def test_a_board_that_answers_all_with_naks_is_given_up_at_the_deadline() -> None:
    wire = Wire()
    board = wire.open()
    count = board.function("count")
    nak = struct.pack("<HBH", board.session_id, NAK, 0)
    nak = encode_frame(nak + struct.pack("<I", zlib.crc32(nak)))
    start = wire.channel.now()

    def storm(data: bytes) -> bytes:
        wire.device.clock.sleep(0.01)
        return nak * 50

    def answer(data: bytes) -> bytes:
        wire.device._output += b"."  # so that there is always something to read
        return b""

    wire.to_device, wire.to_host = answer, storm
    wire.sent_bytes.clear()
    with pytest.raises(CallTimeoutError):
        count(timeout_s=1.0)
    assert wire.channel.now() - start == pytest.approx(1.0, abs=0.01)
    assert len(wire.sent()) <= 102  # one for each time that it read, however many NAKs that were
    wire.to_device = wire.to_host = lambda data: data
    assert count() == 1


# --- what is left to report ---------------------------------------------------------------------------------


def test_a_call_without_any_answer_ends_at_its_deadline_and_the_next_one_is_right() -> None:
    wire = Wire()
    board = wire.open()
    count = board.function("count")
    session_id, start = board.session_id, wire.channel.now()
    wire.to_host = lose
    with pytest.raises(CallTimeoutError) as caught:
        count(timeout_s=1.0)
    assert caught.value.may_have_run
    assert wire.channel.now() - start == pytest.approx(1.0)
    assert wire.executions == 1  # though it was sent again and again
    assert carrier(board).retransmissions >= 2
    wire.to_host = lambda data: data
    assert count() == 2
    assert board.session_id != session_id


def test_a_slow_function_runs_once_although_it_is_asked_for_again() -> None:
    sim = SimBoard(microrpc.profile("loopback"))
    runs: list[float] = []

    @sim.function
    def slow() -> int:
        runs.append(sim.device.clock.now())
        sim.device.clock.sleep(4.0)
        return len(runs)

    board = open_board(sim.open_channel(), sim.profile.timeouts, seed=1, baud=sim.profile.baud)
    slow_on_board = board.function("slow")
    assert [slow_on_board() for _ in range(3)] == [1, 2, 3]
    assert len(runs) == 3
    assert carrier(board).retransmissions > 3


def test_a_deadline_that_passes_while_the_board_is_busy_leaves_nothing_wrong_behind() -> None:
    sim = SimBoard(microrpc.profile("loopback"))
    runs: list[int] = []

    @sim.function
    def slow(n: int) -> int:
        runs.append(n)
        sim.device.clock.sleep(3.0)
        return n

    board = open_board(sim.open_channel(), sim.profile.timeouts, seed=1, baud=sim.profile.baud)
    slow_on_board, add = board.function("slow"), board.function("add")
    for n in range(5):
        with pytest.raises(CallTimeoutError) as caught:
            slow_on_board(n, timeout_s=1.0)
        assert caught.value.may_have_run
        assert add(n, 1) == n + 1
    assert runs == [0, 1, 2, 3, 4]


def test_a_late_answer_does_not_come_to_another_call() -> None:
    sim = SimBoard(microrpc.profile("loopback"))
    board = open_board(sim.open_channel(), sim.profile.timeouts, seed=1, baud=sim.profile.baud)
    add = board.function("add")
    sim.inject(Delay(reply=1, by_s=0.3))
    assert add(1, 2) == 3
    assert [add(n, 10) for n in range(5)] == [10, 11, 12, 13, 14]


@pytest.mark.parametrize("step", ["prepare_write", "try_send", "_transmit"])
def test_a_copy_that_is_interrupted_before_its_first_block_is_out_leaves_nothing_behind(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    board = Wire().open()
    array, add = board.array([7, 8, 9]), board.function("add")
    with monkeypatch.context() as patch:
        patch.setattr(LinkHost, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            array.write([1, 2, 3])
    assert board.trust.doubt == "a request was interrupted", "or its seq would be missed, or its block sent with this:"
    assert add(2, 2) == 4
    assert array.numpy().tolist() == [7, 8, 9]


def interrupt(data: bytes) -> bytes:
    raise KeyboardInterrupt


@pytest.mark.parametrize("knows_cancel", [False, True])
def test_an_interrupted_call_makes_the_next_one_start_anew_unless_the_board_was_told(knows_cancel: bool) -> None:
    wire = Wire(features=ALL_FEATURES if knows_cancel else Feature.EVENTS)
    board = wire.open()
    count = board.function("count")
    session_id = board.session_id
    wire.to_host = once(interrupt)
    with pytest.raises(KeyboardInterrupt):
        count()
    assert count() == 2
    assert (board.session_id == session_id) is knows_cancel


def test_a_reset_in_mid_call_says_that_it_may_have_run() -> None:
    wire = Wire()

    @wire.device.function
    def die() -> None:
        wire.device.reset()

    board = wire.open()
    array = board.array([1, 2, 3])
    with pytest.raises(BoardResetError) as caught:
        board.function("die")()
    assert caught.value.may_have_run
    with pytest.raises((StaleHandleError, BoardResetError)):
        array.numpy()
    assert board.function("count")() == 1


def test_a_board_without_a_session_says_so_where_its_boot_was_not_heard() -> None:
    wire = Wire()
    board = wire.open()
    count, array = board.function("count"), board.array([1, 2, 3])
    wire.device.reset()
    wire.device.take_output()  # its TERMINATE is lost
    start = wire.channel.now()
    with pytest.raises(BoardResetError):
        count()
    assert wire.channel.now() == start
    assert wire.executions == 0
    with pytest.raises((StaleHandleError, BoardResetError)):
        array.numpy()
    assert board.function("count")() == 1


def test_resets_under_calls_are_told_and_never_repeat_one() -> None:
    sim = SimBoard(microrpc.profile("loopback"))
    runs: list[int] = []

    @sim.function
    def count() -> int:
        runs.append(1)
        return len(runs)

    board = open_board(sim.open_channel(), sim.profile.timeouts, seed=1, baud=sim.profile.baud)
    sim.inject(Reset(function="count", call=3))
    count_on_board = board.function("count")
    assert [count_on_board(), count_on_board()] == [1, 2]
    with pytest.raises(BoardResetError):
        count_on_board()
    assert len(runs) == 2  # it was interrupted before it began
    assert board.function("count")() == 3


def test_a_reply_too_long_to_keep_that_is_lost_is_told_and_the_session_goes_on() -> None:
    wire = Wire(packet_size_bytes=256)

    @wire.device.function
    def long() -> bytes:
        wire.count()
        return b"x" * 300

    board = wire.open()
    long_on_board = board.function("long")
    assert long_on_board() == b"x" * 300
    session_id = board.session_id
    wire.to_host = once(lose)
    with pytest.raises(DamagedReplyError, match="was executed once, but its reply was lost, and is too long") as caught:
        long_on_board()
    assert caught.value.may_have_run
    assert wire.executions == 2
    assert long_on_board() == b"x" * 300
    assert board.session_id == session_id


def test_an_exception_of_the_board_is_one_over_the_link_too() -> None:
    wire = Wire()
    board = wire.open()
    fail = board.function("fail")
    wire.to_host = once(lose)
    with pytest.raises(RemoteError, match="this function always fails"):
        fail()
    assert board.function("count")() == 1


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (ReplyKind.DONE, b""),
        (ReplyKind.DATA, b"\x00" * 12),
        (ReplyKind.PACKET, b""),
        (ReplyKind.PACKET, b"\xff" * 8),
        (ReplyKind.PACKET, LINK_LOOK_UP[8:]),
    ],
)
def test_an_answer_that_is_none_is_a_protocol_error_and_doubt(kind: ReplyKind, body: bytes) -> None:
    wire = Wire()
    board = wire.open()
    count = board.function("count")
    session_id = board.session_id
    wire.answer_with(kind, body)
    with pytest.raises(ProtocolError):
        count()
    assert count() == 1
    assert board.session_id != session_id


def test_normal_requests_stay_possible_beside_the_link() -> None:
    wire = Wire()
    board = wire.open()
    count = board.function("count")
    body = encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("nonsense",)))
    wire.device.receive(encode_frame(struct.pack("<HB", board.session_id, NORMAL) + body))
    [answer] = payloads(wire.device.take_output())
    assert decode_packet(answer[11:]) == Return((OpaqueHandle(0),))
    assert [count(), count()] == [1, 2]


def test_a_second_conversation_ends_the_first_ones_session_and_each_is_right() -> None:
    wire = Wire()
    # The other's sessions look like resets, of which each is told.
    first, second = wire.open(seed=1, on_reset=lambda: None), wire.open(seed=2, on_reset=lambda: None)
    count = second.function("count")
    assert [count(), count()] == [1, 2]
    other = first.function("count")
    assert other() == 3
    for n in (4, 6, 8):
        with pytest.raises((CallTimeoutError, BoardResetError)):
            count()
        assert wire.executions == n - 1
        count = second.function("count")
        assert count() == n
        with pytest.raises((CallTimeoutError, BoardResetError)):
            other()
        other = first.function("count")
        assert other() == n + 1


# --- time ----------------------------------------------------------------------------------------------------


def test_a_repetition_may_take_until_the_deadline_to_be_sent_and_a_goodbye_its_own_time() -> None:
    wire = Wire()
    board = wire.open()
    board.function("count")
    output = board.operations.connection.output
    wire.device.clock.sleep(1000.0)
    now = wire.channel.now()
    assert output.take(AT_ONCE, now)[1] > now  # not the deadline of long ago
    output.give_up_at = now + 2.0
    assert output.take(now + 0.1, now)[1] == now + 2.0
    assert output.take(now + 3.0, now)[1] == now + 3.0


def test_what_a_call_sends_may_take_until_its_deadline_and_not_only_until_a_repetition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_s: list[float] = []
    write = LoopbackChannel.write

    def note(channel: LoopbackChannel, data: bytes, deadline: float) -> None:
        write_s.append(deadline - channel.now())
        write(channel, data, deadline)

    monkeypatch.setattr(LoopbackChannel, "write", note)
    count = Wire().open().function("count")
    write_s.clear()
    assert count(timeout_s=1.5) == 1
    assert write_s == [pytest.approx(1.5)]


def test_what_the_port_took_only_now_is_given_its_time_before_it_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    board = wire.open()
    count = board.function("count")
    assert [count(), count()] == [1, 2]
    write = LoopbackChannel.write

    def take_slowly(channel: LoopbackChannel, data: bytes, deadline: float) -> None:
        wire.device.clock.sleep(1.0)
        write(channel, data, deadline)

    def answer_later(data: bytes) -> bytes:
        wire.device._output[:0] = data
        return b""

    monkeypatch.setattr(LoopbackChannel, "write", take_slowly)
    wire.to_host = once(answer_later)
    assert count() == 3
    assert board.stats.retransmissions == 0
    wire.to_device = once(lose)  # and if it is lost then, it is sent again all the same
    assert count() == 4
    assert board.stats.retransmissions == 1


def test_the_largest_packet_is_what_the_board_told_without_its_headers() -> None:
    board = Wire(packet_size_bytes=300).open()
    board.function("count")
    assert board.max_packet_bytes() == 300 - 11


def test_a_new_session_begins_without_what_the_old_link_had_to_say() -> None:
    wire = Wire()
    board = wire.open()
    count = board.function("count")
    wire.to_device = lose
    with pytest.raises(CallTimeoutError):
        count(timeout_s=0.5)
    wire.sent_bytes.clear()
    wire.to_device = lambda data: data
    wire.to_host = once(wire.after(b"noise"))  # which asks the old link for nothing
    assert count() == 1
    assert [kind for kind in wire.kinds() if kind != NORMAL] == [
        MessageType.TERMINATE_SESSION,
        MessageType.START_SESSION_INIT,
        REQUEST,
    ]


def test_kinds_of_requests_are_told_apart_on_the_wire() -> None:
    wire = Wire()
    board = wire.open()
    board.array(np.arange(10)).numpy()
    kinds = {RequestKind(body[2]) for kind, body in wire.sent() if kind == REQUEST}
    assert kinds == {RequestKind.PACKET, RequestKind.WRITE, RequestKind.READ}


def test_the_last_look_up_of_the_link_that_is_made_may_be_the_one_that_is_answered() -> None:
    wire = Wire()
    lost = 0

    def lose_five(data: bytes) -> bytes:
        nonlocal lost
        if LINK_LOOK_UP in data and lost < 5:
            lost += 1
            return b""
        return data

    wire.to_device = lose_five
    board = wire.open()
    assert board.function("count")() == 1
    assert (lost, board.link is not None) == (5, True)


def test_a_request_has_its_whole_time_after_the_look_up_of_the_link() -> None:
    profile = dataclasses.replace(microrpc.profile("loopback"), baud=1200)
    sim = SimBoard(profile)
    board = open_board(sim.open_channel(), Timeouts(retry_s=2.0, start_s=10.0, call_s=0.9), seed=1, baud=1200)
    before = sim.now()
    assert board.global_function("runtime.SystemLib") is not None
    assert sim.now() - before > 0.9  # with the look-up before it
    assert board.link is not None
