"""What waits for one client of a shared board: in order, within bounds, never lost without a word (docs/link.md 11)."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Awaitable, Callable

import pytest

from microrpc.errors import PortLostError
from microrpc.gateway import outbox
from microrpc.gateway.outbox import Outbox
from microrpc.wire.asides import Want, encode_event_values
from microrpc.wire.events import Event

EVENTS = Want.EVENTS | Want.PROGRESS


class Channel:
    """What is written, and a client that may not read."""

    name = "client"

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.deadlines: list[float] = []
        self.is_read, self.is_closed, self.is_gone = asyncio.Event(), False, False
        self.is_read.set()

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def read(self, deadline: float) -> bytes:
        raise AssertionError("an outbox reads nothing")

    async def write(self, data: bytes, deadline: float) -> None:
        if not self.is_gone:
            await self.is_read.wait()
        if self.is_gone or self.is_closed:
            raise PortLostError(self.name, "it went")
        self.written.append(data)
        self.deadlines.append(deadline)

    def close(self) -> None:
        self.is_closed = True
        self.is_read.set()  # nobody waits for it any more

    def take(self) -> bytes:
        data = b"".join(self.written)
        self.written.clear()
        return data


def run(test: Callable[[Channel, Outbox], Awaitable[None]], *, take_s: float = 5.0) -> None:
    async def main() -> None:
        channel = Channel()
        await test(channel, Outbox(channel, take_s))

    asyncio.run(asyncio.wait_for(main(), 20.0))


def put(box: Outbox, *events: Event) -> None:
    for event in events:
        box.put_event(event, encode_event_values(event))


def plain(number: int, *, missed: int = 0) -> Event:
    return Event(number, "s", missed=missed)


def reliable(number: int) -> Event:
    return Event(number, "s", reliable=True)


def packet(number: int, missed: int = 0, *, is_reliable: bool = False, name: bytes = b"s") -> bytes:
    body = struct.pack("<iIIiIBIB", 0x4D520003, 0, missed, 0, number, is_reliable, 0, len(name)) + name
    return struct.pack("<Q", len(body)) + body


def progress(done: int) -> bytes:
    return struct.pack("<QiII", 12, 0x4D520004, done, 9)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_reply_goes_behind_what_was_told_of_its_call_and_before_events_that_wait() -> None:
    async def test(channel: Channel, box: Outbox) -> None:
        box.want(EVENTS)
        box.put_progress(1, 9)
        put(box, plain(0))
        box.put_progress(2, 9)
        await box.reply(b"reply")
        assert channel.take() == progress(1) + progress(2) + b"reply"
        writing = asyncio.create_task(box.run())
        await settle()
        assert channel.take() == packet(0)
        assert channel.deadlines[-1] == math.inf
        writing.cancel()

    run(test)


def test_nothing_is_told_that_is_not_wanted() -> None:
    async def test(channel: Channel, box: Outbox) -> None:
        box.put_progress(1, 9)
        writing = asyncio.create_task(box.run())
        box.want(EVENTS)
        put(box, plain(0))
        box.want(Want.PROGRESS)
        await settle()
        assert channel.take() == b""
        writing.cancel()

    run(test)


def test_what_is_held_is_kept_until_it_is_wanted() -> None:
    async def test(channel: Channel, box: Outbox) -> None:
        writing = asyncio.create_task(box.run())
        box.want(EVENTS | Want.HOLD)
        put(box, plain(0), plain(1))
        box.put_progress(1, 9)
        await settle()
        assert channel.take() == progress(1)
        box.want(EVENTS)
        await settle()
        assert channel.take() == packet(0) + packet(1)
        writing.cancel()

    run(test)


def test_what_has_no_room_is_missed_and_told_with_what_comes_next_or_by_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_EVENTS", 2)

    async def test(channel: Channel, box: Outbox) -> None:
        writing = asyncio.create_task(box.run())
        box.want(EVENTS)
        put(box, *(plain(number) for number in range(4)), Event(4, "", missed=3), plain(7, missed=5))
        await settle()
        assert channel.take() == packet(0) + packet(1) + packet(2, 11, name=b""), "2, 3, three of a gap, five, and 7"
        put(box, plain(8))
        await settle()
        assert channel.take() == packet(8)
        box.want(EVENTS | Want.HOLD)
        put(box, plain(9), plain(10), plain(11))
        box._events.clear()
        put(box, plain(12))
        box.want(EVENTS)
        await settle()
        assert channel.take() == packet(12, 1)
        writing.cancel()

    run(test)


def test_the_bytes_that_wait_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_BYTES", 2 * len(packet(0)))

    async def test(channel: Channel, box: Outbox) -> None:
        box.want(EVENTS)
        put(box, plain(0), plain(1), plain(2))
        writing = asyncio.create_task(box.run())
        await settle()
        assert channel.take() == packet(0) + packet(1) + packet(2, 1, name=b"")
        put(box, plain(3), plain(4))
        await settle()
        assert channel.take() == packet(3) + packet(4)
        writing.cancel()

    run(test)


def test_a_reliable_event_without_room_is_the_end_of_this_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_EVENTS", 2)

    async def test(channel: Channel, box: Outbox) -> None:
        box.want(EVENTS)
        put(box, reliable(0), reliable(1), Event(2, "", missed=1, reliable=True), reliable(3), plain(0))
        await box.run()
        (data,) = channel.written
        assert struct.unpack_from("<Qi", data) == (len(data) - 8, 0x4D520005)
        assert data[12:].startswith(b"this client read its events too slowly: 1024 events, or 256 KiB of them, waited")
        assert channel.is_closed

    run(test)


def test_a_client_that_is_dropped_and_does_not_read_that_is_waited_for_no_longer_than_for_a_reply(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "MOST_EVENTS", 1)

    async def test(channel: Channel, box: Outbox) -> None:
        channel.is_read.clear()
        box.want(EVENTS)
        put(box, reliable(0), reliable(1))
        await box.run()
        assert channel.is_closed
        assert channel.written == []

    run(test, take_s=0.05)


def test_a_client_that_reads_nothing_of_what_is_being_written_is_dropped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_EVENTS", 1)

    async def test(channel: Channel, box: Outbox) -> None:
        box.want(EVENTS)
        channel.is_read.clear()
        writing = asyncio.create_task(box.run())
        put(box, reliable(0))
        await settle()
        put(box, reliable(1), reliable(2))
        await writing
        assert channel.is_closed
        assert channel.written == []

    run(test, take_s=0.05)


def test_a_gap_behind_one_that_had_no_room_is_told_with_it_by_the_number_of_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "MOST_EVENTS", 1)

    async def test(channel: Channel, box: Outbox) -> None:
        box.want(EVENTS | Want.HOLD)
        put(box, plain(0), plain(1))
        box._events.clear()  # it has room again
        put(box, Event(2, "", missed=3))
        box.want(EVENTS)
        writing = asyncio.create_task(box.run())
        await settle()
        assert channel.take() == packet(1, 4, name=b"")
        writing.cancel()

    run(test)


def test_a_client_that_does_not_read_its_events_holds_up_nothing_but_its_own_reply() -> None:
    async def test(channel: Channel, box: Outbox) -> None:
        channel.is_read.clear()
        box.want(EVENTS)
        put(box, plain(0))
        writing = asyncio.create_task(box.run())
        await settle()
        put(box, *(plain(number) for number in range(1, 2000)))
        with pytest.raises(TimeoutError):
            await box.reply(b"reply")
        channel.is_read.set()
        await settle()
        assert channel.take().startswith(packet(0) + packet(1))
        writing.cancel()

    run(test, take_s=0.05)


def test_a_reply_waits_for_one_piece_of_events_at_most() -> None:
    async def test(channel: Channel, box: Outbox) -> None:
        box.want(EVENTS)
        put(box, *(plain(number) for number in range(1000)))
        channel.is_read.clear()
        writing = asyncio.create_task(box.run())
        await settle()
        replying = asyncio.create_task(box.reply(b"reply"))
        await settle()
        channel.is_read.set()
        await replying
        assert channel.written.index(b"reply") == 1
        assert len(channel.written[0]) < 17_000
        await settle()
        assert b"".join(channel.written).replace(b"reply", b"") == b"".join(packet(number) for number in range(1000))
        writing.cancel()

    run(test)


def test_a_client_that_is_gone_ends_what_is_written_to_it() -> None:
    async def test(channel: Channel, box: Outbox) -> None:
        channel.is_gone = True
        box.want(EVENTS)
        put(box, plain(0))
        await box.run()
        assert channel.is_closed

    run(test)
