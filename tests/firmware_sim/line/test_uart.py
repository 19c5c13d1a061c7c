"""A serial line as it is: times, losses and flow control, computed by hand and compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.board.clock import RealClock
from firmware_sim.board.device import Device
from firmware_sim.line.adapter import HostAdapter
from firmware_sim.line.faults import (
    BrownOut,
    Burst,
    Delay,
    Direction,
    Double,
    Drop,
    Fault,
    Faults,
    Flip,
    Garbage,
    Insert,
    Reset,
    Stuck,
    Unplug,
    Wedge,
)
from firmware_sim.line.settings import FirmwareTime, LineState, Rate, Uart
from firmware_sim.line.uart import UartLine
from microrpc.errors import RequestError
from microrpc.wire.frames import FrameDecoder, encode_frame
from microrpc.wire.packets import CallFunc, PacketCode, Request, Syscall, encode_packet
from microrpc.wire.session import MessageType, encode_message
from microrpc.wire.uart import FlowControl

BOOT = bytes.fromhex("fefffd030000000000026677")
BYTE_S = 10 / 115200
INIT = encode_frame(encode_message(0x26, MessageType.START_SESSION_INIT, b"\x01"))
LONG_S = 10.0
REPLY_BYTES = 51  # of a call of f


def no_operation() -> int:
    return 0


def make_device(firmware: str = "robust", seed: int = 0) -> Device:
    device = Device(firmware=firmware, seed=seed)  # type: ignore[arg-type]
    device.function(no_operation, name="f", registry="global")
    return device


def handle_of(device: Device) -> int:
    """The handle of `f` (docs/device.md 4)."""
    return 1 << 63 | list(device.functions).index("f")


def session_id_of(device: Device) -> int:
    """The id that the board answers its first INIT with."""
    probe = make_device(str(device.firmware), device._seed)
    probe.take_output()
    probe.receive(INIT)
    return int.from_bytes(probe.take_output()[6:8], "little")


def frame(session_id: int, request: Request) -> bytes:
    return encode_frame(encode_message(session_id, MessageType.NORMAL, encode_packet(request)))


class Talk:
    """A line that has booted, with a session and `f` looked up; what it has yet to say is read away."""

    def __init__(self, uart: Uart | None = None, *, firmware: str = "robust") -> None:
        self.device = make_device(firmware)
        self.session_id = session_id_of(self.device)
        self.line = UartLine(self.device, uart)
        self.now = self.line.uart.power_up_s
        self.wait()
        for data in (INIT, self.look_up()):
            self.line.write(data, self.now)
            self.wait()
        self.sent_bytes = self.line.state.bytes_to_board

    def look_up(self) -> bytes:
        return frame(self.session_id, Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",)))

    def call(self) -> bytes:
        return frame(self.session_id, CallFunc(handle_of(self.device), ()))

    def wait(self, seconds: float = LONG_S) -> bytes:
        self.now += seconds
        return self.line.read(self.now)


def answer_time(line: UartLine, now: float) -> float:
    """When the next bytes reach the host."""
    for _ in range(10_000):
        if line.read(now):
            return now
        event = line.next_event()
        assert event is not None
        assert event > now
        now = event
    raise AssertionError("no answer came")


def read_all(line: UartLine, now: float, until: float) -> list[tuple[float, bytes]]:
    """What reaches the host, and when, by events alone."""
    found = []
    for _ in range(100_000):
        if data := line.read(now):
            found.append((now, data))
        event = line.next_event()
        if event is None or event > until:
            return found
        assert event > now, "an event that is not consumed"
        now = event
    raise AssertionError("it never ends")


# --- rates ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame_format", "bits"), [("8N1", 10), ("7E1", 10), ("8N2", 11), ("8E2", 12), ("5N1.5", 7.5), ("7o1", 10)]
)
def test_a_byte_takes_its_start_data_parity_and_stop_bits(frame_format: str, bits: float) -> None:
    assert Rate(9600, frame_format).byte_s == bits / 9600


@pytest.mark.parametrize("frame_format", ["", "8N", "9N1", "8X1", "8N3", "8N1 ", "N81"])
def test_a_wrong_frame_format_is_refused(frame_format: str) -> None:
    with pytest.raises(ValueError, match="written as 8N1"):
        Rate(9600, frame_format)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Rate(0), "a baud rate is a whole number from 1 to 2147483647, not 0"),
        (lambda: Rate(True), "a baud rate is a whole number from 1 to 2147483647, not True"),
        (lambda: Rate(math.nan), "a baud rate is a whole number from 1 to 2147483647, not nan"),  # type: ignore[arg-type]
        (lambda: Uart(receive_ring_bytes=0), "receive_ring_bytes is a whole number from 1 to 2147483647, not 0"),
        (lambda: Uart(transmit_ring_bytes=-1), "transmit_ring_bytes is a whole number from 0 to 2147483647, not -1"),
        (lambda: Uart(power_up_s=math.inf), "power_up_s is a number of seconds, 0 or more and at most 1e.09, not inf"),
        (lambda: FirmwareTime(byte_s=-1), "byte_s is a number of seconds, 0 or more and at most 1e.09, not -1"),
        (lambda: FirmwareTime(functions={"f": math.nan}), "the time of 'f' is a number of seconds, 0 or more"),
        (lambda: Device(packet_size_bytes=0), "packet_size_bytes is a whole number from 1 to 16777216, not 0"),
        (lambda: Device(heap_bytes=10**14), "heap_bytes is a whole number from 0 to 4294967296, not 100000000000000"),
        (lambda: Device(reply_bytes=-1), "reply_bytes is a whole number of 0 or more, not -1"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], text: str) -> None:
    with pytest.raises(RequestError, match=text):
        make()


def test_a_line_in_virtual_time_wants_a_board_in_virtual_time() -> None:
    with pytest.raises(ValueError, match="needs a VirtualClock"):
        UartLine(Device(clock=RealClock()))


# --- time -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [Rate(), Rate(9600), Rate(1_000_000, "8E2"), Rate(300, "7E1")])
def test_the_boot_message_takes_its_bytes_times_after_the_power_up(rate: Rate) -> None:
    line = UartLine(make_device(), Uart(to_host=rate, power_up_s=0.25))
    assert answer_time(line, 0.0) == pytest.approx(0.25 + 12 * rate.byte_s, rel=1e-12)
    assert line.state.to_host_busy_s == pytest.approx(12 * rate.byte_s)


def test_bytes_can_be_read_as_they_come() -> None:
    line = UartLine(make_device())
    assert line.read(5 * BYTE_S) == BOOT[:5]
    assert line.read(5.99 * BYTE_S) == b""
    assert line.read(6 * BYTE_S) == BOOT[5:6]
    assert line.read(1.0) == BOOT[6:]


@pytest.mark.parametrize("firmware", ["robust", "stock"])
@pytest.mark.parametrize("to_host", [Rate(), Rate(9600, "8N2")])
@pytest.mark.parametrize(
    "times",
    [
        FirmwareTime(),
        FirmwareTime(byte_s=1e-5),
        FirmwareTime(byte_s=BYTE_S),
        FirmwareTime(byte_s=1e-3),
        FirmwareTime(packet_s=0.01, function_s=0.5),
        FirmwareTime(1e-5, 0.01, 0.5, {"f": 0.125, "g": 9.0}),
    ],
)
def test_a_round_trip_takes_the_line_and_each_of_the_firmwares_times(
    times: FirmwareTime, to_host: Rate, firmware: str
) -> None:
    talk = Talk(Uart(to_host=to_host, firmware=times), firmware=firmware)
    call = talk.call()
    assert talk.line.write(call, talk.now) == len(call)
    begin = talk.now
    answer_s = answer_time(talk.line, begin) - begin
    reply_bytes = talk.line.state.bytes_to_host
    heard_s = max(len(call) * BYTE_S + times.byte_s, BYTE_S + len(call) * times.byte_s)
    function_s = times.functions.get("f", times.function_s)
    talk.line.write(call, talk.now + LONG_S)
    talk.wait(2 * LONG_S)
    reply_bytes = talk.line.state.bytes_to_host - reply_bytes
    assert answer_s == pytest.approx(heard_s + times.packet_s + function_s + reply_bytes * to_host.byte_s, abs=1e-9)


@pytest.mark.parametrize(("transmit_ring_bytes", "is_busy"), [(0, True), (1000, False)])
def test_without_a_transmit_ring_the_board_hears_nothing_while_it_answers(
    transmit_ring_bytes: int, is_busy: bool
) -> None:
    talk = Talk(Uart(to_host=Rate(1200), transmit_ring_bytes=transmit_ring_bytes))
    call = talk.call()
    talk.line.write(call + call, talk.now)
    talk.line.read(talk.now + (2 * len(call) + 0.5) * BYTE_S)
    assert talk.line.state.ring_bytes == (len(call) if is_busy else 0)


def test_a_transmit_ring_lets_the_board_go_on_when_the_rest_of_its_answer_fits() -> None:
    """Of the boot message's 12 bytes 5 may wait: the board hears again when 7 are out."""
    line = UartLine(make_device(), Uart(transmit_ring_bytes=5))
    line.write(bytes(50), 0.0)
    line.advance(6.99 * BYTE_S)
    assert line.state.ring_bytes == 6
    line.advance(7.01 * BYTE_S)
    assert line.state.ring_bytes == 0


def test_all_answers_come_whatever_the_transmit_ring() -> None:
    outputs = []
    for transmit_ring_bytes in (0, 10, 1000):
        talk = Talk(Uart(transmit_ring_bytes=transmit_ring_bytes))
        talk.line.write(talk.call() * 5, talk.now)
        outputs.append(talk.wait())
    assert len(FrameDecoder().feed(outputs[0])) == 5
    assert outputs[1:] == outputs[:1] * 2


# --- the receive ring -------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [0, 1, 63, 64, 65, 200])
@pytest.mark.parametrize("ring_bytes", [1, 64])
def test_a_ring_loses_exactly_what_does_not_fit_while_a_function_runs(ring_bytes: int, extra: int) -> None:
    talk = Talk(Uart(receive_ring_bytes=ring_bytes, firmware=FirmwareTime(function_s=1.0)))
    assert talk.line.state.bytes_overrun == 0
    talk.line.write(talk.call(), talk.now)
    talk.line.write(bytes(extra), talk.now)
    talk.line.read(talk.now + 0.9)
    assert talk.line.state.bytes_overrun == max(0, extra - ring_bytes)
    assert talk.line.state.ring_bytes == min(extra, ring_bytes)
    talk.wait()
    assert talk.line.state.bytes_overrun == max(0, extra - ring_bytes)
    assert talk.line.state.ring_bytes == 0


def test_a_slow_firmware_frees_its_ring_a_byte_at_a_time() -> None:
    """At 4 byte times a byte, a ring of 8 has overrun by the time that 20 bytes are there."""
    talk = Talk(Uart(receive_ring_bytes=8, firmware=FirmwareTime(byte_s=4 * BYTE_S)))
    lost = talk.line.state.bytes_overrun
    talk.line.write(bytes(20), talk.now)
    talk.wait()
    # The processor has the first byte at 1 and takes another at 5, 9, 13 and 17: 13 bytes of 20 get through.
    assert talk.line.state.bytes_overrun - lost == 7


def test_a_second_frame_waits_in_the_ring_while_the_first_one_is_served() -> None:
    talk = Talk(Uart(firmware=FirmwareTime(function_s=1.0)))
    call = talk.call()
    talk.line.write(call * 3, talk.now)
    talk.line.read(talk.now + 0.5)
    assert talk.line.state.ring_bytes == 2 * len(call)
    talk.line.read(talk.now + 1.5)
    assert talk.line.state.ring_bytes == len(call)
    assert talk.line.state.ring_high_water_bytes == 2 * len(call)
    assert len(FrameDecoder().feed(talk.wait())) == 1 + 1


def test_bytes_during_the_power_up_are_not_heard() -> None:
    line = UartLine(make_device(), Uart(power_up_s=100 * BYTE_S))
    line.write(bytes(150), 0.0)
    line.advance(LONG_S)
    assert line.state.bytes_unheard == 100
    assert line.state.bytes_to_board == 150


# --- flow control -----------------------------------------------------------------------------


def test_rts_cts_loses_nothing_and_the_host_goes_on_exactly_when_the_board_has_read() -> None:
    uart = Uart(
        receive_ring_bytes=64,
        flow_control=FlowControl.RTS_CTS,
        firmware=FirmwareTime(function_s=1.0),
        adapter=HostAdapter(buffer_bytes=100),
    )
    talk = Talk(uart)
    call = talk.call()
    begin = talk.now
    assert talk.line.write(call, begin) == len(call)
    assert talk.line.write(bytes(500), begin) == 100 - len(call)
    talk.line.read(begin + 0.9)
    carried = len(call) + 48  # the ring is three quarters full
    assert talk.line.state.ring_bytes == 48
    assert talk.line.write(bytes(500), begin + 0.9) == carried
    assert talk.line.write(bytes(500), begin + 0.9) == 0
    reply_bytes = len(talk.line.read(begin + 1.0 + len(call) * BYTE_S + 0.99 * REPLY_BYTES * BYTE_S))
    free = begin + 1.0 + (len(call) + REPLY_BYTES) * BYTE_S  # the board reads on when its answer is out
    assert reply_bytes == REPLY_BYTES - 1
    assert talk.line.write(bytes(500), free + 0.5 * BYTE_S) == 0
    assert talk.line.write(bytes(500), free + 3.5 * BYTE_S) == 3
    talk.wait()
    assert talk.line.state.bytes_overrun == 0


def test_without_flow_control_the_same_ring_loses_bytes() -> None:
    talk = Talk(Uart(receive_ring_bytes=64, firmware=FirmwareTime(function_s=1.0)))
    talk.line.write(talk.call(), talk.now)
    talk.line.write(bytes(100), talk.now)
    talk.wait()
    assert talk.line.state.bytes_overrun == 36


@pytest.mark.parametrize(("to_host", "late_bytes"), [(Rate(), 1), (Rate(28800), 4), (Rate(9600), 12)])
def test_xon_xoff_stops_the_host_one_byte_of_the_way_back_too_late(to_host: Rate, late_bytes: int) -> None:
    uart = Uart(
        to_host=to_host,
        receive_ring_bytes=40,
        flow_control=FlowControl.XON_XOFF,
        firmware=FirmwareTime(function_s=1.0),
        adapter=HostAdapter(buffer_bytes=1000),
    )
    talk = Talk(uart)
    talk.line.write(talk.call(), talk.now)
    talk.line.write(bytes(100), talk.now)
    talk.line.read(talk.now + 0.9)
    assert talk.line.state.ring_bytes + talk.line.state.bytes_overrun == 30 + late_bytes
    assert talk.line.state.bytes_overrun == max(0, late_bytes - 10)
    talk.wait()
    assert talk.line.state.bytes_to_board == talk.sent_bytes + len(talk.call()) + 100


def test_xon_xoff_waits_for_the_byte_that_is_on_its_way() -> None:
    """The boot message is on its way when the ring fills: the host stops one byte later."""
    uart = Uart(receive_ring_bytes=8, flow_control=FlowControl.XON_XOFF)
    line = UartLine(make_device(), uart)
    line.write(bytes(100), 0.0)
    line.advance(11.5 * BYTE_S)
    assert line.state.bytes_to_board == 6 + 2
    assert line.state.bytes_overrun == 0


def test_xon_xoff_eats_its_two_bytes_each_way_and_so_breaks_frames() -> None:
    uart = Uart(flow_control=FlowControl.XON_XOFF)
    talk = Talk(uart)
    talk.device.log("on \x11 off \x13 on \x11")
    assert b"on  off  on " in talk.wait()
    frames = frame(talk.session_id, Syscall(PacketCode.GET_GLOBAL_FUNC, ("\x11",)))
    damaged = talk.device.stats.frames_damaged
    talk.line.write(frames + talk.call(), talk.now)
    assert len(FrameDecoder().feed(talk.wait())) == 1
    assert talk.device.stats.frames_damaged == damaged + 1


def test_an_xoff_in_a_frame_of_the_board_stops_the_host_until_an_xon() -> None:
    talk = Talk(Uart(flow_control=FlowControl.XON_XOFF))
    talk.device.log("\x13")
    talk.wait()
    assert talk.line.write(talk.call(), talk.now) == len(talk.call())
    assert talk.wait() == b""
    assert talk.line.next_event() is None
    talk.device.log("\x11")
    assert len(FrameDecoder().feed(talk.wait())) == 2


# --- the adapter ------------------------------------------------------------------------------


def test_a_short_answer_comes_exactly_when_the_latency_timer_fires() -> None:
    line = UartLine(make_device(), Uart(adapter=HostAdapter(latency_timer_s=0.016)))
    assert answer_time(line, 0.0) == pytest.approx(0.016)
    line = UartLine(make_device(), Uart(power_up_s=0.1, adapter=HostAdapter(latency_timer_s=0.016)))
    assert answer_time(line, 0.0) == pytest.approx(7 * 0.016)


def test_usb_carries_bytes_at_its_polls_only() -> None:
    line = UartLine(make_device(), Uart(adapter=HostAdapter(poll_s=0.001)))
    assert line.read(0.00099) == b""
    assert line.read(0.001) == BOOT[:11]  # 11.52 byte times
    assert line.read(0.00199) == b""
    assert line.read(0.002) == BOOT[11:]
    line.write(b"\0", 0.0101)
    line.advance(0.011 + 0.99 * BYTE_S)
    assert line.state.bytes_to_board == 0
    line.advance(0.011 + BYTE_S)
    assert line.state.bytes_to_board == 1


# --- hands and faults ---------------------------------------------------------------------------


def test_a_reset_strikes_in_mid_function_and_its_answer_never_comes() -> None:
    talk = Talk(Uart(power_up_s=0.2, firmware=FirmwareTime(function_s=3600.0)))
    talk.line.write(talk.call(), talk.now)
    talk.line.reset(talk.now + 1.0)
    [(at, data)] = read_all(talk.line, talk.now + 1.0, math.inf)
    assert at == pytest.approx(talk.now + 1.2 + 12 * BYTE_S)
    assert data == BOOT


def test_what_the_board_said_before_a_reset_in_a_function_still_comes() -> None:
    device = make_device()

    def says_and_resets() -> None:
        device.log("so long")
        device.reset()

    device.functions["f"] = says_and_resets
    line = UartLine(device, Uart(power_up_s=0.2, transmit_ring_bytes=5))
    talk = Talk.__new__(Talk)
    talk.device, talk.line, talk.now, talk.session_id = device, line, 1.0, session_id_of(device)
    for data in (INIT, talk.look_up()):
        line.write(data, talk.now)
        talk.wait()
    line.write(talk.call(), talk.now)
    heard = talk.wait()
    assert b"so long"[:4] in heard  # the last 5 bytes of the frame wait in the transmit ring, and are lost
    assert BOOT[1:] in heard


@pytest.mark.parametrize("at_byte", [0, 1, 20, 34, 35])
def test_a_reset_at_a_byte_strikes_when_that_byte_has_crossed(at_byte: int) -> None:
    talk = Talk(Uart(power_up_s=0.2))
    talk.line.inject(Reset(at_byte=at_byte), talk.now)
    talk.line.write(talk.call(), talk.now)
    arrivals = read_all(talk.line, talk.now, math.inf)
    assert talk.device.stats.resets == (at_byte < len(talk.call()))
    if talk.device.stats.resets:
        assert arrivals[-1][0] == pytest.approx(talk.now + 0.2 + (at_byte + 1 + 12) * BYTE_S)
        assert talk.line.state.bytes_unheard == len(talk.call()) - at_byte - 1


def test_a_reset_at_a_byte_of_an_answer_lets_the_bytes_before_it_through() -> None:
    talk = Talk(Uart(power_up_s=0.2))
    talk.line.inject(Reset(at_byte=9, direction=Direction.TO_HOST), talk.now)
    talk.line.write(talk.call(), talk.now)
    arrivals = read_all(talk.line, talk.now, math.inf)
    assert [len(data) for _, data in arrivals] == [10, 12]
    assert arrivals[0][0] == pytest.approx(talk.now + (len(talk.call()) + 10) * BYTE_S)
    assert arrivals[1][0] == pytest.approx(arrivals[0][0] + 0.2 + 12 * BYTE_S)


def test_a_wedged_board_keeps_what_fits_its_ring_and_says_nothing_until_it_is_reset() -> None:
    talk = Talk(Uart(receive_ring_bytes=20))
    talk.line.inject(Wedge(at_byte=4), talk.now)
    talk.line.write(bytes(50), talk.now)
    assert talk.wait() == b""
    assert talk.line.next_event() is None
    assert (talk.line.state.ring_bytes, talk.line.state.bytes_overrun) == (20, 25)
    talk.line.reset(talk.now)
    assert talk.wait() == BOOT
    assert talk.line.state.bytes_unheard == 20


def test_a_board_that_hangs_in_a_function_does_not_answer_it() -> None:
    talk = Talk(Uart(firmware=FirmwareTime(function_s=1.0)))
    talk.line.write(talk.call(), talk.now)
    talk.line.inject(Wedge(at_byte=0), talk.now + 0.5)
    talk.line.write(b"\0", talk.now + 0.5)
    assert talk.wait() == b""


def test_a_brown_out_resets_as_often_as_it_says_and_each_time_anew_after_the_boot() -> None:
    line = UartLine(make_device(), Uart(power_up_s=0.01), Faults([BrownOut(every_s=0.1, times=3)]))
    arrivals = read_all(line, 0.0, math.inf)
    assert [at for at, _ in arrivals] == pytest.approx([n * 0.1 + 0.01 + 12 * BYTE_S for n in range(4)])
    assert line.state.damaged == {"brown-out": 3}
    line.reset(1.0)
    line.advance(9.0)
    assert line.device.stats.resets == 4


def test_a_brown_out_for_ever_leaves_time_to_go_on() -> None:
    line = UartLine(make_device(), Uart(power_up_s=1.0), Faults([BrownOut(every_s=0.5)]))
    assert line.read(100.25) == b""
    assert line.device.stats.resets == 200


def test_a_reset_button_restarts_the_time_to_a_brown_out() -> None:
    line = UartLine(make_device(), faults=Faults([BrownOut(every_s=1.0, times=1)]))
    line.reset(0.9)
    line.advance(1.8)
    assert line.state.damaged == {}
    line.advance(1.9)
    assert line.state.damaged == {"brown-out": 1}


def test_a_board_without_a_cable_is_off_and_boots_when_it_is_back() -> None:
    talk = Talk(Uart(power_up_s=0.2))
    talk.line.write(talk.call(), talk.now)
    talk.line.unplug(talk.now + 10.5 * BYTE_S)
    assert talk.line.state.bytes_to_board - talk.sent_bytes == 10
    assert talk.line.write(b"\0", talk.now + 1) == 0
    talk.line.reset(talk.now + 1)  # the button of a board without power
    assert read_all(talk.line, talk.now + 1, talk.now + 5) == []
    assert not talk.line.state.is_plugged
    talk.line.plug(talk.now + 5)
    [(at, data)] = read_all(talk.line, talk.now + 5, math.inf)
    assert at == pytest.approx(talk.now + 5.2 + 12 * BYTE_S)
    assert data == BOOT
    assert (talk.line.plugs, talk.device.stats.resets) == (1, 1)


def test_a_board_with_power_of_its_own_lives_on_without_its_cable() -> None:
    talk = Talk(Uart(firmware=FirmwareTime(function_s=1.0)))
    talk.line.write(talk.call(), talk.now)
    talk.line.unplug(talk.now + 0.5, keeps_power=True)
    talk.line.plug(talk.now + 2.0)
    assert talk.wait() == b""
    talk.line.write(talk.call(), talk.now)
    assert len(FrameDecoder().feed(talk.wait())) == 1
    assert talk.device.stats.resets == 0


def test_a_wedged_board_with_power_of_its_own_stays_wedged_when_its_cable_comes_back() -> None:
    talk = Talk()
    talk.device.wedge()
    talk.line.unplug(talk.now, keeps_power=True)
    talk.line.plug(talk.now)
    talk.line.write(talk.call(), talk.now)
    assert talk.wait() == b""
    assert talk.device.is_dead


def test_a_brown_out_does_not_start_a_board_without_power() -> None:
    line = UartLine(make_device(), faults=Faults([BrownOut(every_s=1.0), Unplug(at_s=0.5, for_s=10.0)]))
    line.advance(10.4)
    assert line.device.stats.resets == 0
    line.advance(12.0)
    assert line.device.stats.resets == 2  # as the cable comes back, and a second later


def test_a_delay_comes_before_the_answer_it_names() -> None:
    talk = Talk()
    talk.line.inject(Delay(by_s=7.5, reply=2), talk.now)
    times = []
    for _ in range(3):
        talk.line.write(talk.call(), talk.now)
        times.append(answer_time(talk.line, talk.now) - talk.now)
        talk.now += LONG_S
    assert times == pytest.approx([times[0], times[0] + 7.5, times[0]])


def test_a_stuck_line_loses_exactly_the_bytes_of_its_time() -> None:
    line = UartLine(make_device(), faults=Faults([Stuck(at_s=2.5 * BYTE_S, for_s=4 * BYTE_S)]))
    assert line.read(1.0) == BOOT[:2] + BOOT[6:]
    assert line.state.damaged == {"stuck": 4}


def test_garbage_comes_before_the_boot_message() -> None:
    line = UartLine(make_device(), Uart(power_up_s=1.0), Faults([Garbage(100)]))
    arrivals = read_all(line, 0.0, math.inf)
    assert [at for at, _ in arrivals] == pytest.approx([100 * BYTE_S, 1.0 + 12 * BYTE_S])
    assert (len(arrivals[0][1]), arrivals[1][1]) == (100, BOOT)


# --- nobody can tell how often anybody looks ----------------------------------------------------

BYTE_FAULTS = st.one_of(
    *(
        st.builds(kind, rate=st.sampled_from([0.003, 0.05]), direction=st.sampled_from(Direction))
        for kind in (Flip, Drop, Double, Insert, Burst)
    )
)
MOMENTS = st.floats(0, 3)
BOARD_WAYS = st.sampled_from([Direction.TO_BOARD, Direction.TO_HOST])
OTHER_FAULTS = st.one_of(
    st.builds(Stuck, at_s=MOMENTS, for_s=st.floats(0, 0.01), direction=st.sampled_from(Direction)),
    st.builds(Garbage, st.integers(0, 20)),
    st.builds(Reset, at_byte=st.integers(0, 300), direction=BOARD_WAYS),
    st.builds(Wedge, at_byte=st.integers(0, 300), direction=BOARD_WAYS),
    st.builds(Reset, function=st.just("f"), call=st.integers(1, 3)),
    st.builds(Wedge, function=st.just("f"), call=st.integers(1, 3)),
    st.builds(BrownOut, every_s=st.sampled_from([0.05, 0.3, 2.0]), times=st.sampled_from([None, 1, 3])),
    st.builds(Delay, by_s=st.floats(0, 0.1), reply=st.sampled_from([None, 1, 2])),
    st.builds(Unplug, at_s=MOMENTS, for_s=st.floats(0, 1), keeps_power=st.booleans()),
)
BAUDS = st.builds(Rate, st.sampled_from([9600, 115200, 921600, 12_000_000]), st.sampled_from(["8N1", "7E1", "8N2"]))
SHORT = st.sampled_from([0.0, 1e-6, BYTE_S, 0.0003, 0.002])
UARTS = st.builds(
    Uart,
    to_board=BAUDS,
    to_host=BAUDS,
    receive_ring_bytes=st.sampled_from([1, 8, 64, 2148]),
    transmit_ring_bytes=st.sampled_from([0, 7, 4096]),
    flow_control=st.sampled_from(FlowControl),
    adapter=st.builds(
        HostAdapter,
        poll_s=st.sampled_from([0.0, 0.001]),
        latency_timer_s=st.sampled_from([0.0, 0.016, 0.001]),
        packet_bytes=st.sampled_from([1, 7, 62]),
        buffer_bytes=st.sampled_from([5, 64, 4096]),
    ),
    firmware=st.builds(FirmwareTime, byte_s=SHORT, packet_s=SHORT, function_s=SHORT),
    power_up_s=st.sampled_from([0.0, 0.001, 0.1]),
)


class Tapped:
    """A run of a script; `heard` is what the device took in."""

    def __init__(self, uart: Uart, faults: Faults, firmware: str) -> None:
        self.device = make_device(firmware)
        session_id = session_id_of(self.device)
        call = frame(session_id, CallFunc(handle_of(self.device), ()))
        self.writes = [
            INIT,
            frame(session_id, Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",))),
            call,
            call + call,
            call[:9],
        ]
        self.heard = 0
        self._receive = self.device.receive
        self.device.receive = self.receive  # type: ignore[method-assign]
        self.line = UartLine(self.device, uart, faults)
        self.output = b""
        self.untaken_bytes = 0

    def receive(self, data: bytes) -> None:
        self.heard += len(data)
        self._receive(data)

    def run(self, looks: list[float]) -> list[tuple[int, LineState]]:
        """Write a frame each half second, and look at it at those times too; give how it stands between the frames."""
        found = []
        looks = sorted(looks)
        for index in range(8):
            now = index * 0.5
            if index < len(self.writes):
                data = self.writes[index]
                self.untaken_bytes += len(data) - self.line.write(data, now)
            steps = 0
            while (event := self.line.next_event()) is not None and event <= index * 0.5 + 0.25:
                if looks and looks[0] < event:
                    event = looks.pop(0)
                now = max(now, event)
                self.output += self.line.read(now)
                steps += 1
                assert steps < 20_000
            now = index * 0.5 + 0.25
            self.output += self.line.read(now)
            found.append((len(self.output), self.line.state))
        return found


def same(one: LineState, other: LineState) -> bool:
    return all(
        getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-9)
        for name in LineState.__slots__  # type: ignore[attr-defined]
        if name != "damaged"
    ) and dict(one.damaged) == dict(other.damaged)


@settings(max_examples=120, deadline=None)
@given(
    uart=UARTS,
    faults=st.builds(Faults, st.lists(st.one_of(BYTE_FAULTS, OTHER_FAULTS), max_size=3), st.integers(0, 99)),
    firmware=st.sampled_from(["robust", "stock"]),
    looks=st.lists(MOMENTS, max_size=30),
)
def test_nobody_can_tell_how_often_anybody_looks(uart: Uart, faults: Faults, firmware: str, looks: list[float]) -> None:
    blind, watched = Tapped(uart, faults, firmware), Tapped(uart, faults, firmware)
    seen_blind, seen_watched = blind.run([]), watched.run(looks)
    assert blind.output == watched.output
    assert [count for count, _ in seen_blind] == [count for count, _ in seen_watched]
    for (_, one), (_, other) in zip(seen_blind, seen_watched, strict=True):
        assert same(one, other)
    assert blind.heard == watched.heard
    assert blind.device.stats == watched.device.stats


@settings(max_examples=120, deadline=None)
@given(
    uart=UARTS.filter(lambda uart: uart.flow_control is not FlowControl.XON_XOFF),
    faults=st.lists(
        st.one_of(
            st.builds(Flip, rate=st.just(0.01)),
            st.builds(Drop, rate=st.just(0.01)),
            st.builds(Double, rate=st.just(0.01)),
            st.builds(Insert, rate=st.just(0.01)),
            OTHER_FAULTS,
        ),
        max_size=3,
    ),
)
def test_every_byte_is_heard_or_its_loss_is_counted(uart: Uart, faults: list[Fault]) -> None:
    """Faults strike towards the board only, so that their counts are those of its bytes."""
    one_way = [
        replace(fault, direction=Direction.TO_BOARD)  # type: ignore[call-arg]
        if hasattr(fault, "direction")
        else fault
        for fault in faults
    ]
    tapped = Tapped(uart, Faults(one_way), "robust")
    tapped.run([])
    state = tapped.line.state
    counts = state.damaged
    arrived = state.bytes_to_board - counts.get("drop", 0) - counts.get("stuck", 0)
    arrived += counts.get("double", 0) + counts.get("insert", 0)
    assert arrived == tapped.heard + state.bytes_overrun + state.bytes_unheard + state.ring_bytes
    if not any(isinstance(fault, Unplug) for fault in faults) and uart.flow_control is FlowControl.NONE:
        assert state.bytes_to_board == sum(map(len, tapped.writes)) - tapped.untaken_bytes
