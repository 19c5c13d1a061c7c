"""A device of docs/link.md 3 and 7 to 10, written for the tests of the host, and a line in virtual time to it.

The device shares with the code that it tests the frames, the session and the packets of calls, and nothing of the link:
its messages are made and read here, by the specification.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from microrpc.host.connection import Connection
from microrpc.host.operation import Operation
from microrpc.host.requests import Requests
from microrpc.wire.datatypes import OpaqueHandle
from microrpc.wire.events import Event
from microrpc.wire.frames import FrameDecoder, encode_frame
from microrpc.wire.packets import (
    CallFunc,
    RemoteException,
    Return,
    Syscall,
    decode_packet,
    encode_packet,
    encode_result,
)
from microrpc.wire.session import Established, LinkMessage, Message, Session, Terminated, Timeouts

T = TypeVar("T")
EVENTS, RELIABLE, PROGRESS, CANCEL = 1, 2, 4, 8
ALL = EVENTS | RELIABLE | PROGRESS | CANCEL
COUNT, SLOW = 11, 12  # handles of its functions
WINDOW_REQUESTS, PACKET_BYTES, WINDOW_BYTES = 4, 512, 1024
LINK = 1 | WINDOW_REQUESTS << 8 | PACKET_BYTES << 16 | WINDOW_BYTES << 40


def sealed(session_id: int, kind: int, body: bytes) -> bytes:
    """Give a frame payload of the link: header, body, crc32."""
    message = struct.pack("<HB", session_id, kind) + body
    return message + struct.pack("<I", zlib.crc32(message))


def event_body(number: int, flags: int, time_us: int, name: bytes, values: bytes) -> bytes:
    return struct.pack("<IBIB", number, flags, time_us, len(name)) + name + values


@dataclass
class Slow:
    """A function that runs: until when, when it tells of its progress, and whether it was cancelled."""

    seq: int
    ends_at: float
    tells_at: float
    tells: int = 0
    is_cancelled: bool = False


@dataclass
class TalkingBoard:
    """A board that sends events, tells of progress, and heeds CANCEL.

    features: what it announces. keeps: how many reliable events it has room for. heeds_cancel: whether its slow
    function ends when it is cancelled. slow_s, tells_s: how long that takes, and how often it tells. `output` is what
    it sends. made: numbers of the plain events of each boot, sent or not; accepted: likewise of the reliable ones.
    """

    features: int = ALL
    host_timeout_ms: int = 0
    keeps: int = 8
    heeds_cancel: bool = True
    slow_s: float = 10.0
    tells_s: float = 1.0
    answers_events: bool = True
    boot: int = 1000
    output: list[bytes] = field(default_factory=list)
    calls: int = 0
    slow_calls: int = 0
    keep_alives: int = 0
    executed: list[int] = field(default_factory=list)  # kinds of messages of the link, in order
    made: dict[int, int] = field(default_factory=dict)
    accepted: dict[int, list[int]] = field(default_factory=dict)
    memory: bytearray = field(default_factory=lambda: bytearray(65536))
    now: float = 0.0

    def __post_init__(self) -> None:
        self.seeds = itertools.count(7)
        self.power_up()

    def power_up(self) -> None:
        self.boot += 1
        self.made[self.boot], self.accepted[self.boot] = 0, []
        self.session = Session(next(self.seeds))
        self.decoder = FrameDecoder()
        self.next_plain = self.next_number = 0
        self.kept: list[tuple[int, bytes]] = []
        self.running: Slow | None = None
        self.waiting: list[bytes] = []
        self.ends_session: list[bytes] = []
        self.begin()

    def reset(self) -> None:
        self.power_up()
        self.session.boot()
        self.say_session()

    def begin(self) -> None:
        """Forget what belongs to a session."""
        self.base = self.done = self.credit = 0
        self.last_seq, self.last_reply = -1, b""
        self.is_active = self.has_complained = False
        self.next_reliable = self.kept[0][0] if self.kept else self.next_number

    # --- events ----------------------------------------------------------------------------------

    def emit(self, name: bytes, values: bytes, *, reliable: bool = False) -> bool:
        time_us = int(self.now * 1e6) % 2**32
        if reliable:
            if len(self.kept) >= self.keeps:
                return False
            number, self.next_number = self.next_number, self.next_number + 1
            self.accepted[self.boot].append(number)
            self.kept.append((number, event_body(number, 1, time_us, name, values)))
            self.send_reliable()
            return True
        number, self.next_plain = self.next_plain, self.next_plain + 1
        self.made[self.boot] += 1
        self.send_event(event_body(number, 0, time_us, name, values))
        return True

    def send_event(self, body: bytes) -> bool:
        payload = sealed(self.session.session_id, 0x23, body)
        if len(payload) > self.credit:
            return False
        self.credit -= len(payload)
        self.say(payload)
        return True

    def send_reliable(self) -> None:
        for number, body in self.kept:
            if number == self.next_reliable:
                if not self.send_event(body):
                    return
                self.next_reliable += 1

    def on_event_ack(self, wanted: int, credit: int, flags: int) -> None:
        if not self.answers_events:
            return
        self.credit = credit
        oldest = self.kept[0][0] if self.kept else self.next_number
        if credit and oldest <= wanted <= self.next_number:
            self.kept = [(number, body) for number, body in self.kept if number >= wanted]
            self.next_reliable = wanted if flags & 1 else max(self.next_reliable, wanted)
        self.say(
            sealed(self.session.session_id, 0x25, struct.pack("<III", self.boot, self.next_plain, self.next_reliable))
        )
        self.send_reliable()

    # --- what arrives ----------------------------------------------------------------------------

    def say(self, payload: bytes) -> None:
        self.output.append(encode_frame(payload))

    def say_session(self) -> None:
        for payload in self.session.outgoing:
            self.say(payload)
        self.session.outgoing.clear()

    def receive(self, data: bytes, now: float) -> None:
        self.now = now
        for item in self.decoder.feed(data):
            if self.running is not None:
                if isinstance(item, bytes):
                    self.hear_while_running(item)
            elif isinstance(item, bytes):
                self.on_payload(item)
            else:
                self.complain()

    def hear_while_running(self, payload: bytes) -> None:
        assert self.running is not None
        if len(payload) == 9 and payload == sealed(self.session.session_id, 0x26, struct.pack("<H", self.running.seq)):
            self.running.is_cancelled = self.running.is_cancelled or bool(self.features & CANCEL)
        elif len(payload) in (3, 4) and payload[2] in (0, 2):
            self.ends_session.append(payload)
            self.running.is_cancelled = True

    def on_payload(self, payload: bytes) -> None:
        if self.session.session_id == 0 and payload[2:3] in (b"\x20", b"\x24", b"\x26", b"\x28"):
            self.session.terminate()
        else:
            event = self.session.receive(payload)
            if isinstance(event, Established | Terminated):
                self.begin()
            elif isinstance(event, Message):
                packet = decode_packet(event.body[8:])
                assert isinstance(packet, Syscall), packet
                handle = {"microrpc.link": LINK, "microrpc.features": self.handle, "count": COUNT, "slow": SLOW}.get(
                    str(packet.args[0]), 0
                )
                self.say(self.session.wrap(encode_packet(Return((OpaqueHandle(handle),)))))
            elif isinstance(event, LinkMessage):
                self.on_link(payload)
        self.say_session()

    @property
    def handle(self) -> int:
        return (1 | self.features << 8 | self.host_timeout_ms << 16) if self.features or self.host_timeout_ms else 0

    def on_link(self, payload: bytes) -> None:
        body = payload[3:-4]
        if payload != sealed(self.session.session_id, payload[2], body):
            self.complain()
            return
        self.has_complained = False
        self.executed.append(payload[2])
        if payload[2] == 0x24:
            self.on_event_ack(*struct.unpack("<IHB", body))
        elif payload[2] == 0x28:
            self.keep_alives += 1
            self.say(sealed(self.session.session_id, 0x28, b"\0\0"))
        elif payload[2] in (0x20, 0x26):
            self.is_active = True
            (seq,) = struct.unpack_from("<H", body)
            self.on_request(seq, payload[2] == 0x26, body[2:])

    def complain(self) -> None:
        if self.is_active and not self.has_complained:
            self.has_complained = True
            self.say(sealed(self.session.session_id, 0x22, struct.pack("<H", self.base % 2**16)))

    def on_request(self, seq: int, cancels: bool, content: bytes) -> None:
        ahead = (seq - self.base + 2**15) % 2**16 - 2**15
        if ahead >= WINDOW_REQUESTS:
            return
        is_old = ahead < 0 or bool(self.done >> ahead & 1)
        kind = content[0] if content else 0
        if kind in (1, 2):
            self.copy(seq, kind, content[1:], is_old)
            self.mark(ahead, is_old)
        elif is_old:
            if seq == self.last_seq and self.last_reply:
                self.say(self.last_reply)
        elif ahead:
            self.complain()
        else:
            self.mark(0, False)
            self.last_seq, self.last_reply = seq, b""
            if cancels:
                self.answer(seq, RemoteException("cancelled before it began"))
            else:
                self.run(seq, decode_packet(content[1:]))

    def mark(self, ahead: int, is_old: bool) -> None:
        if not is_old:
            self.done |= 1 << ahead
        while self.done & 1:
            self.done, self.base = self.done >> 1, (self.base + 1) % 2**16

    def copy(self, seq: int, kind: int, body: bytes, is_old: bool) -> None:
        (address,) = struct.unpack_from("<Q", body)
        if kind == 1 and not is_old:
            self.memory[address : address + len(body) - 8] = body[8:]
        size = struct.unpack_from("<I", body, 8)[0] if kind == 2 else 0
        reply = b"\2" + self.memory[address : address + size] if kind == 2 else b"\1"
        self.say(sealed(self.session.session_id, 0x21, struct.pack("<H", seq) + reply))

    def run(self, seq: int, packet: object) -> None:
        if isinstance(packet, Syscall):
            handle = {"count": COUNT, "slow": SLOW}.get(str(packet.args[0]), 0)
            self.answer(seq, Return((OpaqueHandle(handle),)))
        elif isinstance(packet, CallFunc) and packet.handle == SLOW:
            self.slow_calls += 1
            self.running = Slow(seq, self.now + self.slow_s, self.now + self.tells_s)
        else:
            self.calls += 1
            self.answer(seq, encode_result(self.calls))

    def answer(self, seq: int, packet: Return | RemoteException) -> None:
        content = struct.pack("<H", seq) + b"\0" + encode_packet(packet)[8:]
        self.last_reply = sealed(self.session.session_id, 0x21, content)
        self.say(self.last_reply)

    # --- time ------------------------------------------------------------------------------------

    @property
    def wakes_at(self) -> float:
        running = self.running
        if running is None:
            return math.inf
        if running.is_cancelled and self.heeds_cancel:
            return self.now
        return min(running.ends_at, running.tells_at)

    def on_time(self, now: float) -> None:
        self.now, running = now, self.running
        if running is None or now < self.wakes_at:
            return
        if (running.is_cancelled and self.heeds_cancel) or now >= running.ends_at:
            self.running = None
            is_early = running.is_cancelled and self.heeds_cancel
            self.answer(running.seq, RemoteException("stopped") if is_early else encode_result(running.tells))
            for payload in self.ends_session[-1:]:
                self.on_payload(payload)
            self.ends_session.clear()
        elif now >= running.tells_at:
            running.tells, running.tells_at = running.tells + 1, running.tells_at + self.tells_s
            if self.features & PROGRESS:
                body = struct.pack("<HII", running.seq, running.tells, int(self.slow_s / self.tells_s))
                self.say(sealed(self.session.session_id, 0x27, body))


# --- the line, and who uses it -----------------------------------------------------------------------


class Collected:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.is_wanted = True
        self.has_room = True
        self.wakes = 0

    def deliver(self, event: Event) -> None:
        self.events.append(event)

    def wake(self) -> None:
        self.wakes += 1

    def plain(self) -> list[Event]:
        return [event for event in self.events if not event.reliable]

    def reliable(self) -> list[tuple[int, int]]:
        return [(event.boot, event.number) for event in self.events if event.reliable and not event.is_gap]


class World:
    """A host, a board, and a line of `baud` between them, in virtual time.

    damage: what becomes of the bytes of a piece, on their way; at: things that happen at a time.
    """

    def __init__(
        self, board: TalkingBoard | None = None, *, baud: int = 921_600, timeouts: Timeouts | None = None
    ) -> None:
        self.board = board or TalkingBoard()
        self.byte_s = 10 / baud
        self.timeouts = timeouts or Timeouts(retry_s=0.5, start_s=5.0, call_s=2.0)
        self.connection = Connection(seed=1, timeouts=self.timeouts, baud=baud)
        self.requests = Requests(self.connection, call_s=self.timeouts.call_s)
        self.sink = Collected()
        self.connection.events.sink = self.sink
        self.now = 100.0
        self.damage: Callable[[bytes, bool], bytes] = lambda data, to_board: data
        self.sent: list[bytes] = []  # payloads of the host, before damage
        self.sent_at: list[float] = []
        self.writes = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._free_at = [0.0, 0.0]
        self._arrived = bytearray()

    def at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (time, next(self._order), action))

    def cross(self, data: bytes, to_board: bool) -> None:
        """Put bytes on the line, in pieces, so that a frame is cut anywhere."""
        start = max(self.now, self._free_at[to_board])
        for offset in range(0, len(data), 64):
            piece = data[offset : offset + 64]
            start += len(piece) * self.byte_s
            damaged = self.damage(piece, to_board)
            self.at(start, lambda damaged=damaged: self._arrive(damaged, to_board))  # type: ignore[misc]
        self._free_at[to_board] = start

    def _arrive(self, data: bytes, to_board: bool) -> None:
        if to_board:
            self.board.receive(data, self.now)
        else:
            self._arrived += data

    def _flush_board(self) -> None:
        pieces, self.board.output = self.board.output, []
        if pieces:
            self.cross(b"".join(pieces), to_board=False)

    def run(self, operation: Operation[T], *, cancel_at: float = math.inf) -> T:
        """Drive an operation to its end, as a pump does; tell it to be cancelled at a time, once."""
        trust, output = self.connection.trust, self.connection.output
        try:
            deadline = operation.send(None)  # type: ignore[arg-type]
            while True:
                data = self._read(min(deadline, cancel_at))
                if self.now >= cancel_at:
                    cancel_at = math.inf
                    assert self.connection.cancel(self.now)
                deadline = operation.send((data, self.now))
                self._write(deadline)
                trust.is_out = trust.is_asking
        except StopIteration as stop:
            self._write(-math.inf)
            result: T = stop.value
            return result
        finally:
            operation.close()
            trust.is_asking = trust.is_out = trust.is_cancelled = False
            del output

    def _write(self, deadline: float) -> None:
        output = self.connection.output
        if output.pieces:
            for frame in output.pieces:
                self.sent += [payload for payload in FrameDecoder().feed(frame) if isinstance(payload, bytes)]
                self.sent_at.append(self.now)
            data, _ = output.take(deadline, self.now)
            self.writes += 1
            self.cross(data, to_board=True)

    def _read(self, deadline: float) -> bytes:
        while True:
            self._flush_board()
            due = self._heap[0][0] if self._heap else math.inf
            wakes_at = self.board.wakes_at
            if self._arrived and min(due, wakes_at) > self.now:
                break
            if min(due, wakes_at) > max(deadline, self.now):
                self.now = max(self.now, deadline)
                break
            if wakes_at < due:
                self.now = max(self.now, wakes_at)
                self.board.on_time(self.now)
            else:
                _, _, action = heapq.heappop(self._heap)
                self.now = max(self.now, due)
                self.board.now = self.now
                action()
        data, self._arrived = bytes(self._arrived), bytearray()
        return data

    # --- what a program does ---------------------------------------------------------------------

    def look_up(self, name: str) -> int:
        return self.run(self.requests.look_up(name))

    def call(
        self,
        handle: int,
        *,
        timeout_s: float | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        cancel_at: float = math.inf,
    ) -> object:
        operation = self.requests.request(
            CallFunc(handle, ()),
            timeout_s=timeout_s,
            on_progress=on_progress,
            function="f",
            epoch=self.connection.trust.epoch,
        )
        reply = self.run(operation, cancel_at=cancel_at)
        assert isinstance(reply, Return)
        return reply.values[-1]

    def listen(self, timeout_s: float, *, until_event: bool = False) -> int:
        return self.run(self.connection.listen(timeout_s, until_event=until_event))

    def kinds(self) -> list[int]:
        """The message types that the host has sent, since this was asked last."""
        kinds = [payload[2] for payload in self.sent]
        self.sent.clear()
        self.sent_at.clear()
        return kinds


def noise(seed: int, *, bit_errors: float = 0.0, drops: float = 0.0) -> Callable[[bytes, bool], bytes]:
    """Damage bytes: each bit, and each byte, with a probability."""
    source = random.Random(seed)
    byte_errors = 1 - (1 - bit_errors) ** 8

    def damage(data: bytes, to_board: bool) -> bytes:
        damaged = bytearray()
        for byte in data:
            luck = source.random()
            if luck < drops:
                continue
            damaged.append(byte ^ 1 << source.randrange(8) if luck < drops + byte_errors else byte)
        return bytes(damaged)

    return damage
