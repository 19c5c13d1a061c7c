"""The link's two state machines against every behaviour of a bad line, within small bounds (docs/link.md).

Host and device are the real ones. The line carries messages in order, and may lose, damage and double them, the
second one at any later time; the host's timer may fire at any moment. All interleavings with two faults are explored,
an early timeout counted as one; MICRORPC_MODEL_FAULTS=3 takes a minute.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from firmware_sim.board.link import LinkDevice
from microrpc.host.link import LinkHost, LinkReply
from microrpc.wire.frames import FrameDecoder
from microrpc.wire.link import (
    LinkParameters,
    ReplyKind,
    RequestKind,
    decode_link_message,
    encode_link_message,
    unpack_read,
    unpack_write,
)
from microrpc.wire.session import MessageType

FAULTS = int(os.environ.get("MICRORPC_MODEL_FAULTS", "2"))
SESSION_ID = 0x2766
DAMAGED = b"?"  # what the decoder of the other side makes of a damaged frame
PARAMETERS = LinkParameters(window_requests=2, packet_bytes=64, window_bytes=64)
PARAMETERS_BESIDE = LinkParameters(window_requests=3, packet_bytes=64, window_bytes=160)
MEMORY_BYTES = 4


@dataclass(frozen=True)
class Step:
    """What the program on the host asks for: a call, a block to write, beside the call before it or not, or to read."""

    kind: RequestKind
    address: int = 0
    data: bytes = b""
    is_beside: bool = False


CALL = Step(RequestKind.PACKET)


def write(address: int, data: bytes) -> Step:
    return Step(RequestKind.WRITE, address, data)


def beside(address: int, data: bytes) -> Step:
    return Step(RequestKind.WRITE, address, data, is_beside=True)


def read(address: int) -> Step:
    return Step(RequestKind.READ, address)


PROGRAMS = {
    "calls": (CALL, CALL, CALL),
    "a copy each way": (write(0, b"a"), write(1, b"b"), write(2, b"c"), read(0), read(1), read(2)),
    "copies between calls": (CALL, write(0, b"a"), write(1, b"b"), CALL, read(0), read(1), CALL),
    "one place written again": (write(0, b"a"), write(1, b"b"), CALL, write(0, b"c"), CALL, read(0), read(1)),
    "a copy beside a call": (CALL, beside(0, b"a"), beside(1, b"b"), CALL, read(0), read(1)),
    "copies beside calls": (CALL, beside(0, b"a"), CALL, beside(1, b"b"), write(0, b"c"), read(0), read(1)),
}


def groups(program: tuple[Step, ...]) -> list[list[Step]]:
    """Cut a program into what may be unanswered together: a call and what is beside it, writes, or reads."""
    cut: list[list[Step]] = []
    for step in program:
        if step.is_beside or (cut and step.kind is cut[-1][0].kind and step.kind is not RequestKind.PACKET):
            cut[-1].append(step)
        else:
            cut.append([step])
    return cut


@dataclass
class World:
    """Both ends, the line between them, and what has come of the program."""

    host: LinkHost
    device: LinkDevice
    groups: list[list[Step]]
    group: int = 0
    sent: int = 0
    answered: int = 0
    memory: bytearray = field(default_factory=lambda: bytearray(MEMORY_BYTES))
    expected: bytearray = field(default_factory=lambda: bytearray(MEMORY_BYTES))
    calls: int = 0
    asked: dict[int, Step] = field(default_factory=dict)
    to_device: tuple[bytes, ...] = ()
    to_host: tuple[bytes, ...] = ()
    strays: tuple[tuple[str, bytes], ...] = ()

    def key(self) -> tuple[object, ...]:
        """Everything that decides what may come; times do not, as the timer may fire at any moment."""
        host, device = self.host, self.device
        orders = sorted(
            {order for request in host._unanswered.values() for order in (request.order, request.first_order)}
        )
        unanswered = tuple(
            (seq, orders.index(request.order), orders.index(request.first_order))
            for seq, request in host._unanswered.items()
        )
        state = (host._is_damaged, device.base, device.done, device.last_seq, device.is_active, device.has_complained)
        return (
            *(self.group, self.sent, self.answered, bytes(self.memory), self.calls),
            *(host._next_seq, unanswered, state, self.to_device, self.to_host, self.strays),
        )

    # --- the ends --------------------------------------------------------------------------------

    def run_program(self) -> None:
        """Let the program ask for as much as it may."""
        while self.group < len(self.groups):
            steps = self.groups[self.group]
            while self.sent < len(steps):
                step = steps[self.sent]
                if step.kind is RequestKind.PACKET:
                    seq = self.host.send_packet(b"call", 0.0)
                elif step.is_beside:
                    sent = self.host.send_beside(step.address, memoryview(step.data), 0.0)
                    assert sent is not None, "there is no room, or the call was answered"
                    seq = sent.seq
                else:
                    if step.kind is RequestKind.WRITE:
                        request = self.host.prepare_write(step.address, memoryview(step.data))
                    else:
                        request = self.host.prepare_read(step.address, 1)
                    if not self.host.try_send(request, 0.0):
                        break
                    seq = request.seq
                self.asked[seq] = step
                self.sent += 1
            if self.answered < len(steps):
                break
            self.group, self.sent, self.answered = self.group + 1, 0, 0
        self._flush()

    def _flush(self) -> None:
        decoder = FrameDecoder()
        for frame in self.host.frames:
            self.to_device += tuple(payload for payload in decoder.feed(frame) if isinstance(payload, bytes))
        self.host.frames.clear()

    def execute(self, kind: RequestKind, body: bytes, check_only: bool) -> tuple[ReplyKind, bytes]:
        if kind is RequestKind.PACKET:
            self.calls += 1
            return ReplyKind.PACKET, bytes([self.calls])
        if kind is RequestKind.WRITE:
            address, data = unpack_write(body)
            if not check_only:
                self.memory[address : address + len(data)] = data
            return ReplyKind.DONE, b""
        address, size_bytes = unpack_read(body)
        return ReplyKind.DATA, bytes(self.memory[address : address + size_bytes])

    def device_gets(self, message: bytes) -> None:
        self.device.execute = self.execute
        reply = self.device.on_damage() if message == DAMAGED else self.device.receive(message)
        if reply is not None:
            self.to_host += (reply,)

    def host_gets(self, message: bytes) -> None:
        if message == DAMAGED:
            self.host.on_damage(0.0)
        else:
            reply = self.host.receive(message, 0.0)
            if reply is not None:
                self.check(reply)
        self.run_program()

    def check(self, reply: LinkReply) -> None:
        """Compare an answer with what an ideal device would have given."""
        step = self.asked.pop(reply.seq)
        self.answered += 1
        if step.kind is RequestKind.PACKET:
            number = sum(1 for group in self.groups[: self.group + 1] if group[0].kind is RequestKind.PACKET)
            assert (reply.kind, reply.body) == (ReplyKind.PACKET, bytes([number])), (
                "a call ran twice, or another's reply"
            )
        elif step.kind is RequestKind.WRITE:
            assert reply.kind is ReplyKind.DONE
            self.expected[step.address : step.address + 1] = step.data
            assert self.memory[step.address : step.address + 1] == step.data, "answered, and not done"
        else:
            assert (reply.kind, reply.body) == (ReplyKind.DATA, bytes(self.expected[step.address : step.address + 1]))

    @property
    def is_over(self) -> bool:
        return self.group == len(self.groups)

    # --- what may happen next ------------------------------------------------------------------------

    def successors(self) -> Iterator[tuple[str, int, World]]:
        """Give each thing that may happen: its name, what it costs in faults, and the world after it."""
        for lane in ("to_device", "to_host"):
            messages = getattr(self, lane)
            if not messages:
                continue
            first, rest = messages[0], messages[1:]
            yield f"{lane}: arrives", 0, self._after(lane, first, rest)
            yield f"{lane}: lost", 1, self._after(lane, None, rest)
            if first != DAMAGED:
                yield f"{lane}: damaged", 1, self._after(lane, DAMAGED, rest)
                doubled = self._after(lane, first, rest)
                doubled.strays += ((lane, first),)
                yield f"{lane}: doubled", 1, doubled
        for index, (lane, message) in enumerate(self.strays):
            stray = self._after(lane, message, getattr(self, lane))
            stray.strays = self.strays[:index] + self.strays[index + 1 :]
            yield f"{lane}: its double", 0, stray
        if self.host.unanswered:
            quiet = not self.to_device and not self.to_host and not self.strays
            world = self._copy()
            world.host.on_time(math.inf)
            world._flush()
            yield "timeout", 0 if quiet else 1, world

    def _after(self, lane: str, message: bytes | None, rest: tuple[bytes, ...]) -> World:
        world = self._copy()
        setattr(world, lane, rest)
        if message is not None:
            (world.device_gets if lane == "to_device" else world.host_gets)(message)
        return world

    def _copy(self) -> World:
        world = copy.copy(self)
        world.host = copy.copy(self.host)
        world.host.frames = []
        world.host.noise = copy.copy(self.host.noise)
        world.host._unanswered = {seq: copy.copy(request) for seq, request in self.host._unanswered.items()}
        world.device = dataclasses.replace(self.device)
        world.memory, world.expected = bytearray(self.memory), bytearray(self.expected)
        world.asked = dict(self.asked)
        return world


def start(program: tuple[Step, ...]) -> World:
    parameters = PARAMETERS_BESIDE if any(step.is_beside for step in program) else PARAMETERS
    host = LinkHost(SESSION_ID, parameters)
    world = World(host, LinkDevice(SESSION_ID, parameters, lambda *_: (ReplyKind.DONE, b""), 64), groups(program))
    world.run_program()
    return world


def explore(program: tuple[Step, ...], faults: int) -> tuple[int, int]:
    """Visit every state within the bound; give how many there are, and in how many the program is over."""
    first = start(program)
    best = {first.key(): faults}  # the most faults that may still come in a state
    stack = [(first, faults)]
    over = 0
    while stack:
        world, left = stack.pop()
        if world.is_over:
            over += 1
            assert world.memory == world.expected
            assert world.calls == sum(step.kind is RequestKind.PACKET for step in program)
        moved = False
        for _, cost, after in world.successors():
            moved = True
            if cost > left:
                continue
            key = after.key()
            if best.get(key, -1) < left - cost:
                best[key] = left - cost
                stack.append((after, left - cost))
        assert moved or world.is_over, "a deadlock: nothing can happen, and the program is not over"
    return len(best), over


@pytest.mark.parametrize("name", PROGRAMS)
def test_whatever_the_line_does_calls_run_once_and_copies_arrive(name: str) -> None:
    states, over = explore(PROGRAMS[name], FAULTS + (name == "calls"))
    assert states > 200, "the bound is too small to mean anything"
    assert over


@pytest.mark.parametrize("name", PROGRAMS)
def test_from_every_state_the_program_comes_to_its_end_once_the_line_is_good(name: str) -> None:
    first = start(PROGRAMS[name])
    seen = {first.key()}
    stack = [(first, 2)]
    while stack:
        world, left = stack.pop()
        finish(world)
        for _, cost, after in world.successors():
            if cost <= left and after.key() not in seen:
                seen.add(after.key())
                stack.append((after, left - cost))


def finish(world: World) -> None:
    """Let everything arrive, and the timer fire only when the line is quiet."""
    for _ in range(200):
        if world.is_over:
            return
        name, _, world = next((step for step in world.successors() if step[1] == 0), ("", 0, world))
        assert name, "a deadlock"
    raise AssertionError("it goes on for ever without coming to an end")


# --- the model itself -----------------------------------------------------------------------------


def test_the_model_finds_a_device_that_forgets_what_it_has_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LinkDevice, "_repeat", lambda self, seq: self._execute_packet(seq, 0, b""))
    with pytest.raises(AssertionError, match="a call ran twice"):
        explore(PROGRAMS["calls"], faults=1)


def test_the_model_finds_a_device_that_writes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    execute = World.execute
    monkeypatch.setattr(World, "execute", lambda self, kind, body, check_only: execute(self, kind, body, False))
    with pytest.raises(AssertionError):
        explore(PROGRAMS["one place written again"], faults=1)


def test_the_model_finds_a_host_that_takes_any_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    receive = LinkHost.receive

    def careless(self: LinkHost, payload: bytes, now: float) -> LinkReply | None:
        message = decode_link_message(payload)
        if message is not None and message[0] is MessageType.LINK_REPLY and self._unanswered:
            seq = next(iter(self._unanswered))
            payload = encode_link_message(SESSION_ID, MessageType.LINK_REPLY, seq, message[2])
        return receive(self, payload, now)

    monkeypatch.setattr(LinkHost, "receive", careless)
    with pytest.raises(AssertionError):
        explore(PROGRAMS["copies between calls"], faults=2)


def test_the_model_finds_a_host_that_never_sends_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LinkHost, "_retransmit", lambda self, request, now: None)
    worlds = [after for _, _, after in start(PROGRAMS["calls"]).successors()]
    with pytest.raises(AssertionError, match=r"deadlock|for ever"):
        list(map(finish, worlds))
