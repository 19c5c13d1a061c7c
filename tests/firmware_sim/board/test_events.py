"""Events of the simulated board: exact bytes, numbers, the ring, and the host's credit (docs/link.md 7, 8)."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hand_made_link import (
    EVENT,
    EVENT_STATE,
    KEEP_ALIVE,
    NAK,
    NORMAL,
    TERMINATE,
    LinkHand,
    data,
    i64,
    returned,
)

from firmware_sim.board.clock import VirtualClock
from firmware_sim.board.demo import install
from firmware_sim.board.device import Device, Firmware
from firmware_sim.board.events import EventSource
from microrpc.errors import RequestError
from microrpc.wire.events import EventAck
from microrpc.wire.features import Feature

EVENTS, RELIABLE = Feature.EVENTS, Feature.RELIABLE
ENOUGH = 0xFFFF
OVERHEAD_BYTES = 3 + 10 + 4  # what an EVENT has besides its name and values


def body(number: int, name: bytes, values: bytes = b"", *, flags: int = 0, time_us: int = 0) -> bytes:
    """What an EVENT has between its message type and its crc32."""
    return struct.pack("<IBIB", number, flags, time_us, len(name)) + name + values


def plain(number: int, name: bytes, values: bytes = b"", *, time_us: int = 0) -> tuple[int, bytes]:
    return EVENT, body(number, name, values, time_us=time_us)


def reliable(number: int, name: bytes, values: bytes = b"") -> tuple[int, bytes]:
    return EVENT, body(number, name, values, flags=1)


def state(hand: LinkHand, next_number: int, next_reliable: int) -> tuple[int, bytes]:
    return EVENT_STATE, struct.pack("<III", hand.device.boot_id, next_number, next_reliable)


@pytest.fixture
def hand() -> LinkHand:
    hand = LinkHand(seed=7)
    hand.open()
    return hand


# --- the look-up of features --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device_args", "handle"),
    [
        ({}, 0x0F01),
        ({"features": EVENTS}, 0x0101),
        ({"features": EVENTS | RELIABLE, "host_timeout_ms": 0x1234}, 0x1234_0301),
        ({"features": None, "host_timeout_ms": 500}, 500 << 16 | 1),
        ({"features": Feature(0)}, 0),
        ({"features": None}, 0),
        ({"link": False}, 0),
        ({"firmware": Firmware.STOCK}, 0),
    ],
)
def test_the_look_up_of_features_tells_what_the_board_knows(device_args: dict[str, object], handle: int) -> None:
    hand = LinkHand(**device_args)
    hand.open()
    name = b"microrpc.features"
    packet = struct.pack("<iiiQ", 9, 1, 11, len(name)) + name
    answer = hand.say(hand.plain(NORMAL, struct.pack("<Q", len(packet)) + packet, hand.session_id))
    assert answer == [(NORMAL, struct.pack("<QiiiQ", 20, 4, 1, 3, handle))]


def test_a_board_cannot_have_reliable_events_without_events() -> None:
    with pytest.raises(RequestError, match="EVENTS"):
        Device(features=RELIABLE)


# --- plain ones ---------------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_host_gave_credit_and_every_event_takes_a_number(hand: LinkHand) -> None:
    assert not hand.device.event("a", 1)
    assert hand.say() == []
    assert hand.say(hand.ack(0, 0)) == [state(hand, 1, 0)]
    assert not hand.device.event("a", 2)
    assert hand.say(hand.ack(0, ENOUGH)) == [state(hand, 2, 0)]
    assert hand.device.event("a", 3)
    assert hand.say() == [plain(2, b"a", i64(3))]


def test_an_event_is_these_bytes_on_the_wire() -> None:
    hand = LinkHand(seed=7)
    hand.device.clock.sleep(1.5)
    hand.open()
    hand.say(hand.ack(0, ENOUGH))
    assert hand.device.event("temp", -2, 0.5, "\N{DEGREE SIGN}C", b"\xff\x00")
    expected = bytes.fromhex("00000000 00 60e31600 04") + b"temp"
    expected += bytes.fromhex("00 feffffffffffffff  02 000000000000e03f  0b 0300 c2b043  0c 0200 ff00")
    assert hand.say() == [(EVENT, expected)]


def test_the_credit_is_used_up_by_frame_payloads_to_the_byte(hand: LinkHand) -> None:
    cost_bytes = OVERHEAD_BYTES + 1 + 9
    hand.say(hand.ack(0, 2 * cost_bytes + 5))
    assert [hand.device.event("a", index) for index in range(3)] == [True, True, False]
    assert hand.say() == [plain(0, b"a", i64(0)), plain(1, b"a", i64(1))]
    hand.say(hand.ack(0, 2 * cost_bytes - 1))  # an EVENT_ACK sets the credit, and adds nothing
    assert [hand.device.event("a", index) for index in range(2)] == [True, False]
    assert hand.say() == [plain(3, b"a", i64(0))]
    assert hand.device.event("")  # what is left pays for a smaller one
    assert hand.say() == [plain(5, b"")]


def test_the_credit_ends_with_the_session_and_numbers_go_on() -> None:
    hand = LinkHand()
    hand.open()
    hand.say(hand.ack(0, ENOUGH))
    assert hand.device.event("a")
    hand.say()
    hand.open()
    assert not hand.device.event("a")
    hand.say(hand.ack(0, ENOUGH))
    hand.say(hand.plain(TERMINATE))
    assert not hand.device.event("a")
    hand.open()
    assert hand.say(hand.ack(0, ENOUGH)) == [state(hand, 3, 0)]


def test_a_reset_begins_a_new_boot_with_numbers_from_0_and_an_empty_ring() -> None:
    hand = LinkHand(seed=7)
    boots = []
    for _ in range(4):
        hand.open()
        hand.say(hand.ack(0, ENOUGH))
        hand.device.event("a")
        hand.device.event("b", reliable=True)
        assert hand.say()[-1] == reliable(0, b"b")
        boots.append(hand.device.boot_id)
        hand.device.reset()
    assert len(set(boots)) == 4
    assert boots[:2] == [Device(seed=7).boot_id, Device(seed=8).boot_id]


def test_an_event_from_within_a_function_comes_before_its_reply() -> None:
    hand = LinkHand()

    @hand.device.function
    def report(number: int) -> int:
        hand.device.event("r", number)
        return number

    hand.open()
    hand.say(hand.ack(0, ENOUGH))
    assert hand.say(hand.call(0, "report", 5, kind=0)) == [plain(0, b"r", i64(5)), returned(0, 5)]


def test_what_a_number_of_numpy_holds_is_sent(hand: LinkHand) -> None:
    hand.say(hand.ack(0, ENOUGH))
    hand.device.event("n", np.int16(-1), np.float32(0.5), np.True_, bytearray(b"x"))  # type: ignore[arg-type]
    expected = i64(-1) + b"\x02" + struct.pack("<d", 0.5) + i64(1) + data(b"x")
    assert hand.say() == [plain(0, b"n", expected)]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("x" * 256, 1, "name is a str of at most 255 bytes"),
        ("a", 1 << 63, "value 0 of the event 'a'"),
        ("a", None, "value 0 of the event 'a'"),
        ("a", b"x" * 65536, "value 0 of the event 'a'"),
    ],
)
def test_what_no_event_can_carry_is_refused_and_takes_no_number(
    hand: LinkHand, name: str, value: object, text: str
) -> None:
    hand.say(hand.ack(0, ENOUGH))
    with pytest.raises(RequestError, match=text):
        hand.device.event(name, value)  # type: ignore[arg-type]
    assert hand.say(hand.ack(0, ENOUGH)) == [state(hand, 0, 0)]


def test_the_time_of_an_event_wraps_around_after_71_minutes() -> None:
    hand = LinkHand(clock=VirtualClock((1 << 32) / 1e6 + 2))
    hand.open()
    hand.say(hand.ack(0, ENOUGH))
    hand.device.event("a")
    assert hand.say() == [plain(0, b"a", time_us=2_000_000)]


def test_a_board_that_hangs_or_has_no_events_sends_none() -> None:
    for hand in (LinkHand(features=Feature.CANCEL), LinkHand(firmware="stock"), LinkHand(features=None)):
        assert not hand.device.event("a")
        assert not hand.device.event("a", reliable=True)
    only_plain = LinkHand(features=EVENTS)
    assert not only_plain.device.event("a", reliable=True)
    hanging = LinkHand()
    hanging.device.wedge()
    assert not hanging.device.event("a", reliable=True)


# --- reliable ones ------------------------------------------------------------------------------------


def test_a_reliable_event_is_kept_until_it_is_acknowledged_and_sent_when_the_credit_comes(hand: LinkHand) -> None:
    assert hand.device.event("a", reliable=True)
    assert hand.device.event("b", reliable=True)
    assert hand.say() == []
    assert hand.say(hand.ack(0, 18)) == [state(hand, 0, 0), reliable(0, b"a")]
    assert hand.say(hand.ack(0, 18)) == [state(hand, 0, 1), reliable(1, b"b")]  # it repeats nothing by itself
    assert hand.say(hand.ack(0, ENOUGH, 1)) == [state(hand, 0, 0), reliable(0, b"a"), reliable(1, b"b")]
    assert hand.say(hand.ack(1, ENOUGH, 1)) == [state(hand, 0, 1), reliable(1, b"b")]
    assert hand.say(hand.ack(2, ENOUGH, 1)) == [state(hand, 0, 2)]
    assert hand.say(hand.ack(1, ENOUGH, 1)) == [state(hand, 0, 2)]  # of what it does not keep any more


def test_a_reliable_event_waits_for_those_before_it_and_plain_ones_do_not(hand: LinkHand) -> None:
    hand.say(hand.ack(0, 40))
    assert hand.device.event("long", b"x" * 20, reliable=True)
    assert hand.device.event("s", reliable=True)
    assert hand.device.event("p")
    assert hand.say() == [plain(0, b"p")]
    assert hand.say(hand.ack(0, 62)) == [
        state(hand, 1, 0),
        reliable(0, b"long", data(b"x" * 20)),
        reliable(1, b"s"),
    ]


def test_what_was_not_acknowledged_is_sent_again_in_the_next_session(hand: LinkHand) -> None:
    hand.say(hand.ack(0, ENOUGH))
    for name in "abc":
        hand.device.event(name, reliable=True)
    assert hand.say(hand.ack(1, ENOUGH))[-1] == state(hand, 0, 3)
    hand.open()
    assert hand.say(hand.ack(0, 0)) == [state(hand, 0, 1)]
    assert hand.say(hand.ack(1, ENOUGH)) == [state(hand, 0, 1), reliable(1, b"b"), reliable(2, b"c")]


def test_without_credit_nothing_is_forgotten_and_nothing_lost(hand: LinkHand) -> None:
    hand.say(hand.ack(0, ENOUGH))
    hand.device.event("a", reliable=True)
    hand.say()
    assert hand.say(hand.ack(1, 0, 1)) == [state(hand, 0, 1)]
    assert hand.say(hand.ack(0, ENOUGH, 1)) == [state(hand, 0, 0), reliable(0, b"a")]


@pytest.mark.parametrize("wanted", [3, 0xFFFFFFFF, 0x80000000])
def test_an_acknowledgement_of_what_was_never_sent_changes_nothing_but_the_credit(hand: LinkHand, wanted: int) -> None:
    hand.say(hand.ack(0, ENOUGH))
    for name in "ab":
        hand.device.event(name, reliable=True)
    hand.say()
    assert hand.say(hand.ack(wanted, ENOUGH, 1)) == [state(hand, 0, 2)]
    assert hand.say(hand.ack(0, ENOUGH, 1)) == [state(hand, 0, 0), reliable(0, b"a"), reliable(1, b"b")]


def test_what_is_acknowledged_before_it_was_sent_in_this_session_is_not_sent(hand: LinkHand) -> None:
    for name in "abc":
        hand.device.event(name, reliable=True)
    assert hand.say(hand.ack(2, ENOUGH)) == [state(hand, 0, 2), reliable(2, b"c")]


def test_the_ring_takes_what_fits_to_the_byte_and_refuses_the_rest() -> None:
    hand = LinkHand(event_ring_bytes=2 * (2 + 11))
    assert [hand.device.event("a", reliable=True) for _ in range(3)] == [True, True, False]
    hand.open()
    assert hand.say(hand.ack(1, ENOUGH))[0] == state(hand, 0, 1)
    assert not hand.device.event("ab", reliable=True)
    assert hand.device.event("c", reliable=True)
    assert hand.say() == [reliable(2, b"c")]


@pytest.mark.parametrize(("packet_bytes", "most_bytes"), [(200, 200), (8192, 4096)])
def test_an_event_longer_than_a_packet_or_the_credit_of_a_host_takes_no_number(
    packet_bytes: int, most_bytes: int
) -> None:
    hand = LinkHand(packet_size_bytes=packet_bytes, event_ring_bytes=10_000)
    hand.open()
    hand.say(hand.ack(0, ENOUGH))
    longest = b"x" * (most_bytes - OVERHEAD_BYTES - 1 - 3)
    for is_reliable in (False, True):
        assert not hand.device.event("a", longest + b"x", reliable=is_reliable)
        assert hand.device.event("a", longest, reliable=is_reliable)
    assert hand.say() == [plain(0, b"a", data(longest)), reliable(0, b"a", data(longest))]


def test_numbers_begin_again_after_the_highest() -> None:
    sent: list[bytes] = []
    source = EventSource(sent.append, known=EVENTS | RELIABLE, packet_bytes=2048, ring_bytes=100)
    source._next = source._oldest = 0xFFFFFFFF
    source.begin_session(0x0101)
    for is_reliable in (False, True, True):
        source.emit("a", (), is_reliable=is_reliable, time_us=0)
    source.on_ack(EventAck(0xFFFFFFFF, ENOUGH, False))
    numbers = [int.from_bytes(payload[3:7], "little") for payload in sent[1:]]
    assert numbers == [0xFFFFFFFF, 0]
    source.on_ack(EventAck(0, ENOUGH, False))
    assert sent[-1][3:-4] == struct.pack("<III", 0, 0, 1)
    source.on_ack(EventAck(1, ENOUGH, False))
    assert source.emit("a", (b"x" * 80,), is_reliable=True, time_us=0)


# --- what is damaged, what has no session, and what an older board does ------------------------------------


def test_without_a_session_what_a_host_sends_is_answered_with_terminate() -> None:
    hand = LinkHand()
    hand.session_id = 0x2766
    hand.device.take_output()
    for wire in (hand.ack(0, 1), hand.about(KEEP_ALIVE, 0), hand.about(0x26, 0)):
        assert hand.say(wire) == [(TERMINATE, b"")]
    for message_type in (EVENT, EVENT_STATE, 0x27):
        assert hand.say(hand.about(message_type, 0)) == []


def test_a_board_without_features_drops_what_it_does_not_know() -> None:
    hand = LinkHand(features=None)
    wires = [hand.ack(0, 100), hand.about(KEEP_ALIVE, 0), hand.about(0x26, 0)]
    hand.device.take_output()
    assert [hand.say(wire) for wire in wires] == [[], [], []]
    hand.open()
    assert [hand.say(wire) for wire in (hand.ack(0, 100), hand.about(KEEP_ALIVE, 0), hand.about(0x26, 0))] == [[]] * 3
    assert hand.device.stats.messages_dropped == 6


def test_a_keep_alive_is_answered_with_the_same(hand: LinkHand) -> None:
    assert hand.say(hand.about(KEEP_ALIVE, 0)) == [(KEEP_ALIVE, b"\0\0")]
    assert hand.say(hand.about(KEEP_ALIVE, 0x1234)) == [(KEEP_ALIVE, b"\x34\x12")]


@pytest.mark.parametrize("message_type", [0x24, 0x26, 0x28])
def test_a_message_of_the_wrong_length_is_damage(hand: LinkHand, message_type: int) -> None:
    assert hand.say(hand.about(message_type, 0, b"\0")) == []  # before the first request damage is dropped silently
    install(hand.device)
    hand.say(hand.call(0, "noop"))
    assert hand.say(hand.about(message_type, 0, b"\0")) == [(NAK, b"\1\0")]


@pytest.mark.parametrize("good", ["ack", "cancel", "keep-alive"])
def test_a_good_message_ends_the_silence_after_a_nak_and_does_not_begin_it(hand: LinkHand, good: str) -> None:
    install(hand.device)
    wire = {"ack": hand.ack(0, 0), "cancel": hand.about(0x26, 7), "keep-alive": hand.about(KEEP_ALIVE, 0)}[good]
    hand.say(wire)
    assert hand.say(b"noise") == []
    hand.say(hand.call(0, "noop"))
    assert hand.say(b"noise") == [(NAK, b"\1\0")]
    assert hand.say(b"noise") == []
    hand.say(wire)
    assert hand.say(b"noise") == [(NAK, b"\1\0")]


def test_after_a_shutdown_events_go_on_and_calls_do_not(hand: LinkHand) -> None:
    install(hand.device)
    hand.say(hand.plain(NORMAL, struct.pack("<Qi", 4, 1), hand.session_id))
    assert hand.say(hand.call(0, "noop")) == []
    assert hand.say(hand.about(0x26, 0)) == []
    assert hand.say(hand.ack(0, ENOUGH)) == [state(hand, 0, 0)]
    assert hand.say(hand.about(KEEP_ALIVE, 0)) == [(KEEP_ALIVE, b"\0\0")]


def test_the_demo_sends_events_with_their_number_and_bytes_that_count(hand: LinkHand) -> None:
    install(hand.device)
    hand.say(hand.ack(0, 2 * (OVERHEAD_BYTES + 4 + 9 + 3 + 3)))
    assert hand.say(hand.call(0, "emit", "tick", 3, 3, 0)) == [
        plain(0, b"tick", i64(0) + data(b"\0\1\2")),
        plain(1, b"tick", i64(1) + data(b"\1\2\3")),
        returned(0, 2),
    ]
    assert hand.say(hand.call(1, "emit", "kept", 2, 0, 1)) == [returned(1, 2)]
    assert hand.say(hand.call(2, "emit", "x" * 256, 2, 0, 1)) == [returned(2, 0)]
