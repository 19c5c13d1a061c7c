"""Lines on which bytes take long: every deadline allows for their time, in both directions, and ends all the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from apis import Api

import microrpc
from firmware_sim.line.adapter import HostAdapter
from firmware_sim.line.faults import Direction, Flip, Reset
from firmware_sim.running.loopback import LineChannel
from firmware_sim.running.simulate import SimBoard
from firmware_sim.uart import FirmwareTime, Rate, Uart
from microrpc.errors import BoardResetError, CallTimeoutError, HandshakeTimeoutError
from microrpc.host.link import LinkHost
from microrpc.wire.frames import encode_frame
from microrpc.wire.link import LinkParameters, RequestKind, encode_with_kind
from microrpc.wire.session import MessageType, Timeouts

TIMEOUTS = Timeouts(retry_s=0.5, start_s=5.0, call_s=5.0)
both_firmwares = pytest.mark.parametrize("firmware", ["robust", "stock"])


def slow_board(firmware: str, baud: int, *, packet_bytes: int = 2048, adapter: HostAdapter | None = None) -> SimBoard:
    profile = dataclasses.replace(microrpc.profile("loopback"), packet_size_bytes=packet_bytes)
    uart = Uart(
        to_board=Rate(baud),
        to_host=Rate(baud),
        receive_ring_bytes=packet_bytes + 100,
        adapter=adapter or HostAdapter(),
        power_up_s=0.1,
    )
    return SimBoard(profile, firmware=firmware, uart=uart)  # type: ignore[arg-type]


@both_firmwares
@pytest.mark.parametrize(("baud", "packet_bytes"), [(9600, 8192), (2400, 2048)])
def test_blocks_whose_bytes_take_longer_than_a_reply_may_are_copied(
    api: Api, firmware: str, baud: int, packet_bytes: int
) -> None:
    # A port that takes little at once, so that each write lasts as long as the line does.
    sim = slow_board(firmware, baud, packet_bytes=packet_bytes, adapter=HostAdapter(buffer_bytes=256))
    sent = np.arange(packet_bytes + 3000, dtype="uint16").astype("uint8")
    with api.open_board(sim.open_channel(), TIMEOUTS, baud=baud) as board:
        assert (board.array(sent).numpy() == sent).all()
        stats = board.stats
    assert (stats.sessions, stats.repeats, stats.retransmissions) == (1, 0, 0)


@both_firmwares
def test_several_blocks_that_wait_for_each_other_on_the_line_are_copied(firmware: str) -> None:
    sim = slow_board(firmware, 1200, packet_bytes=700)
    sim.line.uart = dataclasses.replace(sim.line.uart, receive_ring_bytes=4200)
    sent = np.arange(8000, dtype="uint16").astype("uint8")
    with microrpc.open_board(sim.open_channel(), TIMEOUTS, baud=1200, link=False, ring_bytes=4200) as board:
        assert (board.array(sent).numpy() == sent).all()
        assert (board.stats.sessions, board.stats.repeats) == (1, 0)


def test_each_block_that_is_done_renews_the_deadline_of_a_copy() -> None:
    sim, timeouts = slow_board("robust", 115200, packet_bytes=512), dataclasses.replace(TIMEOUTS, call_s=1.0)
    with microrpc.open_board(sim.open_channel(), timeouts) as board:
        array = board.empty(1900, "uint8")
        sim.line.uart = dataclasses.replace(sim.line.uart, firmware=FirmwareTime(packet_s=0.5))
        begin = sim.now()
        array.write(np.ones(1900, "uint8"))
        assert sim.now() - begin > timeouts.call_s
        assert (board.stats.sessions, board.stats.repeats) == (1, 0)


@both_firmwares
def test_escapes_take_their_time_too(firmware: str) -> None:
    sim = slow_board(firmware, 2400)
    sent = np.full(2500, 0xFF, "uint8")  # as blank flash; each byte is sent twice
    with microrpc.open_board(sim.open_channel(), TIMEOUTS, baud=2400) as board:
        assert (board.array(sent).numpy() == sent).all()
        stats = board.stats
    assert (stats.sessions, stats.repeats, stats.retransmissions) == (1, 0, 0)


@both_firmwares
@pytest.mark.parametrize("link", [False, True])
def test_at_300_baud_a_session_opens_and_a_call_is_answered(api: Api, firmware: str, link: bool) -> None:
    sim = slow_board(firmware, 300)
    timeouts = Timeouts(retry_s=1.0, start_s=5.0, call_s=5.0)
    with api.open_board(sim.open_channel(), timeouts, baud=300, link=link) as board:
        assert sim.now() == pytest.approx(36 * 10 / 300, abs=0.07)  # TERMINATE, INIT and REPLY; some have an escape
        assert board.function("add")(2, 3) == 5
        assert (board.stats.sessions, board.stats.retransmissions) == (1, 0)


@both_firmwares
def test_at_300_baud_a_board_that_boots_as_its_port_is_opened_gets_its_session(firmware: str) -> None:
    sim = slow_board(firmware, 300)
    channel = sim.open_channel()
    sim.reset()
    with microrpc.open_board(channel, TIMEOUTS, baud=300) as board:
        assert board.function("add")(2, 3) == 5


@both_firmwares
def test_at_300_baud_a_reset_is_seen_and_the_next_call_answered(firmware: str) -> None:
    sim = slow_board(firmware, 300)
    with microrpc.open_board(sim.open_channel(), TIMEOUTS, baud=300) as board:
        add = board.function("add")
        sim.inject(Reset(function="add"))
        with pytest.raises(BoardResetError):
            add(2, 3)
        assert board.function("add")(2, 3) == 5


@both_firmwares
def test_a_long_reply_that_nobody_could_foresee_comes_to_its_end(api: Api, firmware: str) -> None:
    sim = slow_board(firmware, 1200)
    sim.function(lambda: b"x" * 1900, name="long_bytes")  # 16 s
    with api.open_board(sim.open_channel(), TIMEOUTS, baud=1200) as board:
        assert board.function("long_bytes")() == b"x" * 1900
        assert (board.stats.sessions, board.stats.retransmissions) == (1, 0)


@pytest.mark.parametrize("link", [False, True])
def test_a_call_that_is_not_answered_ends_after_its_timeout_and_the_time_of_its_bytes(link: bool) -> None:
    sim = slow_board("robust", 2400)
    with microrpc.open_board(sim.open_channel(), TIMEOUTS, baud=2400, link=link) as board:
        echo = board.function("echo_str")
        echo("x")
        board.max_packet_bytes()
        sim.device.wedge()
        begin, sent = sim.now(), board.stats.bytes_sent
        with pytest.raises(CallTimeoutError):
            echo("x" * 1200, timeout_s=1.0)
        frame_bytes = 1200 + 55
        assert sim.now() - begin == pytest.approx(1 + frame_bytes * 10 / 2400, abs=0.15)
        assert board.stats.bytes_sent - sent < 2 * frame_bytes + 10  # no more than one repetition


def test_a_board_that_never_stops_talking_is_not_waited_for_for_ever() -> None:
    sim = slow_board("stock", 9600)
    sim.function(lambda: [sim.device.log("and so on " * 10) for _ in range(2000)], name="talk")
    with microrpc.open_board(sim.open_channel(), TIMEOUTS, baud=9600) as board:
        talk = board.function("talk")
        begin = sim.now()
        with pytest.raises(CallTimeoutError):
            talk()
        assert sim.now() - begin == pytest.approx(5 + 16384 * 10 / 9600, abs=0.2)


def test_a_board_that_says_nothing_is_given_up_after_the_time_of_all_inits() -> None:
    sim = slow_board("robust", 300)
    channel = sim.open_channel()
    sim.device.wedge()
    with pytest.raises(HandshakeTimeoutError):
        microrpc.open_board(channel, TIMEOUTS, baud=300)
    assert 5 < sim.now() < 5 + 10 * 64 * 10 / 300 + 2


@both_firmwares
def test_what_still_crosses_the_line_when_a_copy_is_given_up_is_waited_for(api: Api, firmware: str) -> None:
    sim = slow_board(firmware, 1200)
    with api.open_board(sim.open_channel(), TIMEOUTS, baud=1200) as board:
        array = board.array(np.zeros(6000, "uint8"))

        def stop(done: int, size: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            array.numpy(on_progress=stop)  # over the link, two more blocks of 17 s are on their way
        frames_before = board.stats.frames_sent
        assert board.function("add")(2, 3) == 5
        assert board.stats.frames_sent - frames_before <= 8  # of them one TERMINATE and one INIT


def test_a_line_that_is_faster_than_was_said_does_not_add_up() -> None:
    host = LinkHost(0x2766, LinkParameters(window_requests=4, packet_bytes=64, window_bytes=300), byte_s=1.0)
    now = 0.0
    for seq in range(100):
        while host.try_send(host.prepare_write(64 * len(host.frames), memoryview(b"x" * 40)), now):
            pass
        now += 0.001
        content = encode_with_kind(0x2766, MessageType.LINK_REPLY, seq, RequestKind.WRITE, b"")
        host.receive(content, now)
    in_flight_bytes = host.unanswered * len(encode_frame(b"x" * 66))
    assert host.sent_by - now <= in_flight_bytes
    assert host.deadline - now < 2 * in_flight_bytes


@pytest.mark.parametrize("direction", [Direction.TO_BOARD, Direction.TO_HOST])
@pytest.mark.parametrize("at", [5, 40, 1000])
def test_over_the_link_what_was_damaged_is_repeated_however_long_that_takes(
    api: Api, direction: Direction, at: int
) -> None:
    sim = slow_board("robust", 1200)
    with api.open_board(sim.open_channel(), TIMEOUTS, baud=1200) as board:
        echo = board.function("echo_str")
        sim.inject(Flip(at=(at,), direction=direction))
        assert echo("x" * 1900) == "x" * 1900  # 16 s there, and 16 s back
        begin = sim.now()
        assert echo("y" * 100) == "y" * 100
        assert sim.now() - begin < 16 + 16 + 3  # behind what was repeated once too often
        assert (board.stats.sessions, board.stats.repeats, board.stats.retransmissions) == (1, 0, 1)


@pytest.mark.parametrize("at", [5, 40, 1000, 3000])
def test_over_the_link_a_copy_of_which_any_answer_was_damaged_goes_on_in_its_session(at: int) -> None:
    for direction in (Direction.TO_BOARD, Direction.TO_HOST):
        sim = slow_board("robust", 1200)
        sim.line.uart = dataclasses.replace(sim.line.uart, receive_ring_bytes=8192)
        sent = np.arange(6144, dtype="uint16").astype("uint8")
        with microrpc.open_board(sim.open_channel(), TIMEOUTS, baud=1200, seed=3) as board:
            array = board.empty(6144, "uint8")
            sim.inject(Flip(at=(at,), direction=direction))
            array.write(sent)
            assert (array.numpy() == sent).all()
            assert (board.stats.sessions, board.stats.repeats) == (1, 0)


@both_firmwares
@pytest.mark.parametrize("link", [False, True])
def test_a_reply_as_large_as_packets_are_comes_to_its_end(firmware: str, link: bool) -> None:
    sim = slow_board(firmware, 9600, packet_bytes=65536)
    with microrpc.open_board(sim.open_channel(), TIMEOUTS, baud=9600, link=link) as board:
        for text in ("x" * 65_000, "\xff" * 30_000):
            assert board.function("echo_str")(text) == text
        assert (board.stats.sessions, board.stats.retransmissions) == (1, 0)


@both_firmwares
def test_the_time_that_garbage_takes_on_the_line_is_none_of_the_calls(api: Api, firmware: str) -> None:
    sim = slow_board(firmware, 300)
    with api.open_board(sim.open_channel(), TIMEOUTS, baud=300) as board:
        sleep_ms = board.function("sleep_ms")
        for garbage in [board.empty(1, "uint8") for _ in range(3)]:
            garbage.discard()
        begin = sim.now()
        sleep_ms(4800)
        assert sim.now() - begin > TIMEOUTS.call_s + 4  # one was freed first
        assert (board.stats.sessions, board.stats.repeats) == (1, 0)


@pytest.mark.parametrize("late_s", [0.01, 0.03, 0.06, 0.3])
def test_what_leaves_the_port_late_is_waited_for_as_much_longer(
    api: Api, monkeypatch: pytest.MonkeyPatch, late_s: float
) -> None:
    sim = slow_board("robust", 115200)
    write, lost_bytes = LineChannel.write, []

    def write_late(channel: LineChannel, data: bytes, deadline: float) -> None:
        sim.sleep(late_s)  # the port is busy with something else, or this process does not run
        if lost_bytes == [0]:
            lost_bytes[0] = len(data)
        else:
            write(channel, data, deadline)

    with api.open_board(sim.open_channel(), TIMEOUTS, seed=0, baud=115200) as board:
        add = board.function("add")
        for number in range(20):  # after which it is known that the board takes a few milliseconds
            assert add(2, number) == 2 + number
        monkeypatch.setattr(LineChannel, "write", write_late)
        for number in range(5):
            assert add(20, number) == 20 + number
        assert board.stats.retransmissions == 0
        lost_bytes.append(0)
        began_at = sim.now()
        assert add(40, 2) == 42  # what is lost then is sent again all the same, and no later than it must be
        assert board.stats.retransmissions == 1
        assert sim.now() - began_at < 2 * late_s + 0.1
        assert lost_bytes[0] > 0
        monkeypatch.undo()
