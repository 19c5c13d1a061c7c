"""How many READs may be unanswered while events come: an EVENT_ACK waits behind them (docs/link.md 8)."""

from __future__ import annotations

import struct
import zlib

from microrpc.host.events import EventHost
from microrpc.host.link import LinkHost
from microrpc.host.notices import Notices
from microrpc.wire.link import LinkParameters

SESSION_ID = 0x2766
PARAMETERS = LinkParameters(window_requests=8, packet_bytes=2048, window_bytes=4096)


class Wanting:
    is_wanted = has_room = True

    def deliver(self, event: object) -> None:
        raise AssertionError("there was no event")

    def wake(self) -> None:
        """Do nothing."""


def make_host(*, events_come: bool) -> LinkHost:
    events = EventHost()
    events.begin(SESSION_ID, PARAMETERS.packet_bytes, 0.0)
    host = LinkHost(SESSION_ID, PARAMETERS, notices=Notices(SESSION_ID, events))
    if events_come:
        events.sink = Wanting()
        host.notify(0.0)
        state = struct.pack("<HBIII", SESSION_ID, 0x25, 1, 0, 0)
        host.receive(state + struct.pack("<I", zlib.crc32(state)), 0.1)
    return host


def sent(host: LinkHost, size_bytes: int) -> int:
    """Give how many READs of so many bytes may be unanswered together."""
    for number in range(10):
        if not host.try_send(host.prepare_read(0x1000 + number * size_bytes, size_bytes), 0.2):
            return number
    return 10


def test_beside_events_the_answers_to_reads_that_are_under_way_are_few_and_it_is_never_less_than_two() -> None:
    assert sent(make_host(events_come=True), 2030) == 2
    assert sent(make_host(events_come=True), 1300) == 3
    assert sent(make_host(events_come=True), 8000) == 2
    assert sent(make_host(events_come=True), 100) == 8


def test_without_events_the_window_alone_says_how_many_reads_may_be_unanswered() -> None:
    assert sent(make_host(events_come=False), 2030) == sent(make_host(events_come=False), 100) == 8
