"""The host's state machine of events (docs/link.md 8), with the device's messages written by hand."""

from __future__ import annotations

import math
import struct
import zlib

import pytest
from talking_board import Collected, event_body, sealed

from microrpc.host.events import EVENT_POLL_S, EventHost
from microrpc.host.operation import AT_ONCE
from microrpc.wire.events import Event, EventAck, decode_event_ack

SESSION_ID, BOOT, OTHER_BOOT = 0x2766, 0xB007, 0xB008
LOST = True


class Desk:
    """An EventHost in a session, a sink that wants everything, and a clock."""

    def __init__(self, *, packet_bytes: int = 512, byte_s: float = 0.0) -> None:
        self.host = EventHost()
        self.sink = Collected()
        self.host.sink = self.sink
        self.now = 100.0
        self.packet_bytes, self.byte_s = packet_bytes, byte_s
        self.host.begin(SESSION_ID, packet_bytes, byte_s)

    def new_session(self) -> None:
        self.host.begin(SESSION_ID, self.packet_bytes, self.byte_s)

    def ack(self) -> EventAck:
        """Take the EVENT_ACK that is due now."""
        assert self.host.due_at <= self.now, "none is due"
        ack = decode_event_ack(self.host.make_ack(self.now))
        assert ack is not None
        return ack

    def state(self, next_number: int, next_reliable: int, boot: int = BOOT) -> None:
        body = struct.pack("<III", boot, next_number, next_reliable)
        assert self.host.receive(sealed(SESSION_ID, 0x25, body), self.now)

    def event(self, number: int, flags: int = 0, *, time_us: int = 0, values: bytes = b"") -> None:
        payload = sealed(SESSION_ID, 0x23, event_body(number, flags, time_us, b"n", values))
        assert not self.host.receive(payload, self.now)

    def subscribe(self, next_number: int = 0, next_reliable: int = 0, boot: int = BOOT) -> None:
        """Come to where the device has credit."""
        assert self.ack() == EventAck(self.wanted, 0, False)
        self.state(next_number, next_reliable, boot)
        self.ack()

    @property
    def wanted(self) -> int:
        return self.host._wanted

    def told(self) -> list[tuple[int, int]]:
        """Numbers and what was missed before them; a gap is the number -1. Taken out."""
        events, self.sink.events = self.sink.events, []
        return [(-1 if event.is_gap else event.number, event.missed) for event in events]


# --- an event ----------------------------------------------------------------------------------------


def test_an_event_has_all_that_the_board_said() -> None:
    desk = Desk()
    desk.subscribe(next_number=3)
    desk.event(3, time_us=5_000_000, values=b"\x00" + struct.pack("<q", -7) + b"\x0b\x01\x00x")
    assert desk.sink.events == [Event(3, "n", (-7, "x"), 5_000_000, 0, False, BOOT)]


def test_a_single_value_is_had_by_name_and_several_are_not() -> None:
    assert Event(0, "n", (5,)).value == 5
    for values in ((), (1, 2)):
        with pytest.raises(ValueError, match="values to unpack"):
            _ = Event(0, "n", values).value


def test_a_gap_is_told_from_an_event_without_name_and_values() -> None:
    assert Event(0, "", missed=1).is_gap
    assert not Event(0, "").is_gap
    assert not Event(0, "n", missed=1).is_gap
    assert not Event(0, "", (1,), missed=1).is_gap


# --- asking for them ---------------------------------------------------------------------------------


def test_nothing_is_said_while_nobody_wants_events() -> None:
    desk = Desk()
    desk.sink.is_wanted = False
    assert desk.host.due_at == math.inf
    desk.event(0)
    desk.state(5, 5)
    assert desk.told() == []


def test_nothing_is_said_without_a_session() -> None:
    desk = Desk()
    desk.host.end()
    assert desk.host.due_at == math.inf


def test_the_first_acknowledgement_has_no_credit_and_the_second_all_of_it() -> None:
    desk = Desk()
    assert desk.ack() == EventAck(0, 0, False)
    assert desk.ack() == EventAck(0, 0, False)  # it was lost
    desk.state(7, 3)
    assert desk.ack() == EventAck(3, 4096, False)
    assert desk.host.due_at == desk.now + EVENT_POLL_S
    assert desk.told() == []


@pytest.mark.parametrize(
    ("packet_bytes", "byte_s", "credit"),
    [
        (512, 0.0, 4096),
        (512, 10 / 921600, 4096),
        (512, 10 / 115200, 1152),
        (2048, 10 / 115200, 2048),
        (512, 10 / 9600, 512),
        (8192, 10 / 9600, 4096),
    ],
)
def test_the_credit_is_a_tenth_of_a_second_of_the_line_and_covers_any_event(
    packet_bytes: int, byte_s: float, credit: int
) -> None:
    desk = Desk(packet_bytes=packet_bytes, byte_s=byte_s)
    assert desk.host.credit_bytes == credit


def test_no_event_counts_before_the_state_of_the_session() -> None:
    desk = Desk()
    desk.ack()
    desk.event(0)
    desk.event(0, 1)
    assert desk.told() == []


def test_credit_is_renewed_when_half_of_it_was_used() -> None:
    desk = Desk(packet_bytes=64, byte_s=10 / 9600)
    desk.subscribe()
    assert desk.host.credit_bytes == 96
    desk.event(0)  # of 18 bytes each: 3 of header, 10, the name, 4
    desk.event(1)
    assert desk.host.due_at == desk.now + EVENT_POLL_S
    desk.event(2)
    assert desk.host.due_at == AT_ONCE
    assert desk.ack() == EventAck(0, 96, False)
    assert desk.host.due_at == desk.now + EVENT_POLL_S


def test_a_reliable_event_is_acknowledged_soon_since_the_board_has_room_for_few() -> None:
    desk = Desk()
    desk.subscribe()
    desk.event(0, 1)
    assert desk.host.due_at == pytest.approx(desk.now + 0.05)
    desk.now += 0.05
    assert desk.ack() == EventAck(1, 4096, False)
    assert desk.host.due_at == desk.now + EVENT_POLL_S


@pytest.mark.parametrize(("baud", "after_s"), [(921600, 0.05), (57600, 500 * 10 / 57600), (9600, 0.2)])
def test_on_a_slow_line_it_is_acknowledged_later(baud: int, after_s: float) -> None:
    desk = Desk(byte_s=10 / baud)
    desk.subscribe()
    desk.event(0, 1)
    assert desk.host.due_at == pytest.approx(desk.now + after_s)


def test_who_reads_too_slowly_gets_no_more_credit_and_what_was_credited_comes() -> None:
    desk = Desk()
    desk.subscribe()
    desk.sink.has_room = False
    assert desk.host.due_at == math.inf
    desk.event(0)
    assert desk.told() == [(0, 0)]
    desk.now += 10
    desk.sink.has_room = True
    assert desk.ack() == EventAck(0, 4096, False)


def test_who_wants_no_more_events_says_so_until_it_is_heard() -> None:
    desk = Desk()
    desk.subscribe()
    desk.sink.is_wanted = False
    assert desk.ack() == EventAck(0, 0, False)
    assert desk.ack() == EventAck(0, 0, False)
    desk.event(0, 1)
    assert (desk.told(), desk.wanted) == ([], 0)
    desk.state(1, 1)
    assert desk.host.due_at == math.inf


def test_what_came_before_the_board_heard_that_nobody_wants_any_is_not_missed() -> None:
    desk = Desk()
    desk.subscribe()
    desk.sink.is_wanted = False
    assert desk.ack() == EventAck(0, 0, False)
    desk.event(0)
    desk.sink.is_wanted = True
    desk.subscribe(next_number=3)
    desk.event(3)
    assert desk.told() == [(3, 0)]


def test_what_was_not_wanted_is_not_missed_where_the_board_was_never_told_so() -> None:
    desk = Desk()
    desk.subscribe()
    desk.sink.is_wanted = False
    desk.new_session()
    desk.sink.is_wanted = True
    desk.subscribe(next_number=3)
    assert desk.told() == []


def test_what_was_not_wanted_is_not_missed_but_reliable_ones_come_later() -> None:
    desk = Desk()
    desk.subscribe()
    desk.sink.is_wanted = False
    desk.ack()
    desk.state(3, 0)
    desk.sink.is_wanted = True
    assert desk.ack() == EventAck(0, 0, False)
    desk.state(9, 2)
    assert desk.told() == []
    assert desk.ack() == EventAck(0, 4096, LOST)
    desk.event(0, 1)
    desk.event(9)
    assert desk.told() == [(0, 0), (9, 0)]


# --- what is lost ------------------------------------------------------------------------------------


def test_a_plain_event_tells_how_many_were_lost_before_it() -> None:
    desk = Desk()
    desk.subscribe()
    for number in (0, 1, 5, 6):
        desk.event(number)
    assert desk.told() == [(0, 0), (1, 0), (5, 3), (6, 0)]


def test_a_plain_event_that_comes_twice_is_taken_once() -> None:
    desk = Desk()
    desk.subscribe()
    for number in (0, 3, 3, 1, 0, 4):
        desk.event(number)
    assert desk.told() == [(0, 0), (3, 2), (4, 0)]


def test_the_last_events_that_were_lost_are_told_as_a_gap() -> None:
    desk = Desk()
    desk.subscribe()
    desk.event(0, time_us=7)
    desk.state(4, 0)
    assert desk.sink.events[-1] == Event(1, "", (), 7, 3, False, BOOT)
    desk.state(4, 0)
    desk.event(4)
    assert desk.told() == [(0, 0), (-1, 3), (4, 0)]


def test_a_state_from_before_is_no_gap() -> None:
    desk = Desk()
    desk.subscribe()
    desk.event(0)
    desk.event(1)
    desk.state(1, 0)
    assert desk.told() == [(0, 0), (1, 0)]


def test_reliable_events_are_taken_in_order_and_what_is_ahead_is_wanted_again_at_once() -> None:
    desk = Desk()
    desk.subscribe()
    desk.event(0, 1)
    desk.event(2, 1)
    assert desk.told() == [(0, 0)]
    assert desk.host.due_at == AT_ONCE
    assert desk.ack() == EventAck(1, 4096, LOST)
    desk.event(3, 1)  # which was on its way
    assert desk.host.due_at == desk.now + EVENT_POLL_S, "it was said already"
    desk.state(0, 1)
    for number in (1, 2, 3):
        desk.event(number, 1)
    assert desk.told() == [(1, 0), (2, 0), (3, 0)]
    desk.now += 1
    assert desk.ack() == EventAck(4, 4096, False)


def test_the_last_reliable_event_that_was_lost_is_wanted_again() -> None:
    desk = Desk()
    desk.subscribe()
    desk.state(0, 1)
    assert desk.ack() == EventAck(0, 4096, LOST)
    desk.state(0, 1)  # a board that does not heed it is not asked without end
    assert desk.host.due_at == desk.now + EVENT_POLL_S
    desk.now += EVENT_POLL_S
    assert desk.ack() == EventAck(0, 4096, LOST)


def test_a_second_loss_is_told_at_once_too() -> None:
    desk = Desk()
    desk.subscribe()
    desk.event(1, 1)
    assert desk.ack() == EventAck(0, 4096, LOST)
    desk.state(0, 0)
    desk.event(0, 1)
    desk.event(2, 1)
    assert desk.host.due_at == AT_ONCE
    assert desk.ack() == EventAck(1, 4096, LOST)


def test_numbers_go_on_past_32_bits() -> None:
    desk = Desk()
    desk.subscribe(next_number=2**32 - 1, next_reliable=2**32 - 1)
    for number in (1, 2, 2**32 - 1):
        desk.event(number)
    desk.event(2**32 - 1, 1)
    desk.now += 1
    assert desk.ack().wanted == 0
    desk.event(0, 1)
    assert desk.told() == [(1, 2), (2, 0), (2**32 - 1, 0), (0, 0)]


# --- sessions and boots ------------------------------------------------------------------------------


def test_over_a_new_session_reliable_ones_are_taken_once_and_what_was_lost_meanwhile_is_told() -> None:
    desk = Desk()
    desk.subscribe()
    desk.event(0)
    desk.event(0, 1)
    desk.event(1, 1)
    desk.told()
    desk.new_session()
    assert desk.ack() == EventAck(2, 0, False)
    desk.state(5, 0)
    assert desk.told() == [(-1, 4)]
    assert desk.ack() == EventAck(2, 4096, False)
    for number in (0, 1, 2):
        desk.event(number, 1)
    assert desk.told() == [(2, 0)]


def test_what_another_program_has_acknowledged_is_missed() -> None:
    desk = Desk()
    desk.subscribe()
    desk.event(0, 1)
    desk.new_session()
    desk.ack()
    desk.state(0, 4)
    assert desk.sink.events[-1] == Event(1, "", (), 0, 3, True, BOOT)
    assert desk.ack() == EventAck(4, 4096, False)


def test_after_another_boot_the_numbers_begin_at_0() -> None:
    desk = Desk()
    desk.subscribe(next_number=50, next_reliable=60)
    desk.event(50)
    desk.told()
    desk.new_session()
    desk.ack()
    desk.state(2, 0, OTHER_BOOT)
    assert desk.told() == [(-1, 2)]
    assert desk.ack() == EventAck(0, 4096, False)
    desk.event(2)
    desk.event(0, 1)
    assert [event.boot for event in desk.sink.events] == [OTHER_BOOT, OTHER_BOOT]
    assert desk.told() == [(2, 0), (0, 0)]


def test_of_another_boot_those_that_another_program_took_are_missed() -> None:
    desk = Desk()
    desk.subscribe()
    desk.new_session()
    desk.ack()
    desk.state(0, 3, OTHER_BOOT)
    assert desk.sink.events == [Event(0, "", (), 0, 3, True, OTHER_BOOT)]
    assert desk.ack() == EventAck(3, 4096, False)


def test_a_board_that_makes_the_same_boot_id_is_known_by_its_numbers() -> None:
    desk = Desk()
    desk.subscribe(next_number=50, next_reliable=60)
    desk.new_session()
    desk.ack()
    desk.state(3, 0)
    assert desk.told() == [(-1, 3)]
    desk.ack()
    desk.event(0, 1)
    assert desk.told() == [(0, 0)]


@pytest.mark.parametrize("was_reset", [False, True])
def test_without_plain_events_it_is_known_by_the_reset_that_was_seen(was_reset: bool) -> None:
    desk = Desk()
    desk.subscribe(next_reliable=60)
    desk.event(60, 1)
    desk.told()
    if was_reset:
        desk.host.on_reset()
    desk.new_session()
    desk.ack()
    desk.state(0, 0)
    assert desk.ack().wanted == (0 if was_reset else 61)


def test_a_reset_that_was_seen_is_no_other_boot_where_the_numbers_go_on() -> None:
    desk = Desk()
    desk.subscribe(next_number=50, next_reliable=60)
    desk.host.on_reset()
    desk.new_session()
    desk.ack()
    desk.state(50, 60)
    assert desk.told() == []
    assert desk.ack().wanted == 60
    desk.new_session()  # and it is forgotten then
    desk.ack()
    desk.state(50, 59)
    assert desk.ack().wanted == 60


# --- times -------------------------------------------------------------------------------------------


def times(*steps: tuple[float, int]) -> list[int]:
    """Give the times of events that come so many seconds after one another, with these on the wire."""
    desk = Desk()
    desk.subscribe()
    for number, (later_s, time_us) in enumerate(steps):
        desk.now += later_s
        desk.event(number, time_us=time_us)
    return [event.time_us for event in desk.sink.events]


def test_a_time_goes_on_past_32_bits() -> None:
    assert times((0, 2**32 - 10), (0.1, 99_990), (10, 10_099_990)) == [2**32 - 10, 2**32 + 99_990, 2**32 + 10_099_990]


def test_after_a_long_pause_the_hosts_clock_tells_how_often_the_boards_came_round() -> None:
    assert times((0, 5), (3 * 4294.967296 + 100, 100_000_005)) == [5, 3 * 2**32 + 100_000_005]
    assert times((0, 5), (3 * 4294.967296 + 100, 60_000_005)) == [5, 3 * 2**32 + 60_000_005], (
        "a board's clock is not exact"
    )


def test_an_event_of_long_ago_has_its_time() -> None:
    assert times((0, 1_000_000_000), (0, 10), (1, 1_001_000_000)) == [1_000_000_000, 10, 1_001_000_000]
    assert times((0, 2**32 - 1), (0.1, 99_999), (0, 2**32 - 1000)) == [2**32 - 1, 2**32 + 99_999, 2**32 - 1000]


def test_a_gap_has_the_time_of_the_newest_event() -> None:
    desk = Desk()
    desk.subscribe()
    desk.event(0, time_us=1000)
    desk.event(0, 1, time_us=10)
    desk.state(2, 1)
    assert desk.sink.events[-1] == Event(1, "", (), 1000, 1, False, BOOT)


def test_a_board_without_a_clock_has_the_time_0() -> None:
    assert times((0, 0), (5000, 0), (5000, 0)) == [0, 0, 0]


# --- what breaks the rules ---------------------------------------------------------------------------


def test_a_boot_that_changes_within_a_session_begins_the_numbers_anew() -> None:
    desk = Desk()
    desk.subscribe()
    for number in range(5):
        desk.event(number)
        desk.event(number, 1)
    assert len(desk.told()) == 10
    desk.state(2, 1, OTHER_BOOT)
    assert desk.told() == [(-1, 1), (-1, 2)], "the reliable one before the oldest, and the plain ones"
    desk.event(2)
    desk.event(1, 1)
    assert [(event.number, event.boot) for event in desk.sink.events] == [(2, OTHER_BOOT), (1, OTHER_BOOT)]


@pytest.mark.parametrize("jump", [2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1])
def test_numbers_that_jump_cost_nothing_and_end_nothing(jump: int) -> None:
    desk = Desk()
    desk.subscribe()
    for i in range(1, 100):
        number = i * jump % 2**32
        desk.event(number)
        desk.event(number, 1)
        desk.state(number, number)
    assert len(desk.told()) <= 300
    desk.state(0, 0, OTHER_BOOT)
    desk.told()
    desk.event(0)
    desk.event(0, 1)
    assert desk.told() == [(0, 0), (0, 0)]


# --- what is none ------------------------------------------------------------------------------------


def test_an_event_that_cannot_be_read_is_missed_and_what_follows_it_comes() -> None:
    for flags in (0, 1):
        desk = Desk()
        desk.subscribe()
        desk.event(0, flags)
        desk.event(1, flags, values=b"\x07")
        desk.event(2, flags)
        assert [(event.number, event.missed) for event in desk.sink.events] == [(0, 0), (1, 1), (2, 0)]
        assert [event.is_gap for event in desk.sink.events] == [False, True, False]
        assert {event.reliable for event in desk.sink.events} == {bool(flags)}
        assert desk.wanted == 3 * flags
    desk = Desk()
    desk.subscribe()
    desk.event(2, values=b"\x07")
    [gap] = desk.sink.events
    assert (gap.is_gap, gap.number, gap.missed) == (True, 0, 3)


def test_what_does_not_add_up_is_dropped() -> None:
    desk = Desk()
    desk.subscribe()
    assert not desk.host.receive(sealed(SESSION_ID, 0x23, event_body(0, 0, 0, b"n", b"")[:9]), desk.now)
    assert not desk.host.receive(sealed(SESSION_ID, 0x25, b"\0" * 11), desk.now)
    damaged = sealed(SESSION_ID, 0x25, b"\0" * 12)[:-4] + struct.pack("<I", zlib.crc32(b""))
    assert not desk.host.receive(damaged, desk.now)
    assert desk.told() == []
