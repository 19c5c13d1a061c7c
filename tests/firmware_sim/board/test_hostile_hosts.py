"""Hosts that break the rules of docs/link.md: the simulated board drops what they say, and serves the next session."""

from __future__ import annotations

import random

import pytest
from hand_made_link import (
    CALL,
    CANCEL,
    INIT,
    KEEP_ALIVE,
    NAK,
    PACKET,
    PROGRESS,
    REPLY,
    SESSION_REPLY,
    TERMINATE,
    LinkHand,
)

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from microrpc.wire.features import Feature

EVENTS = Feature.EVENTS | Feature.RELIABLE
FEATURES = (None, EVENTS, Feature.PROGRESS, Feature.EVENTS | Feature.CANCEL, EVENTS | Feature.PROGRESS | Feature.CANCEL)
CALLS = (("work", (3, 1000)), ("add", ()), ("add", (2, 3)), ("emit", ("x", 3, 20, 1)), ("emit", ("y", 2, 20, 0)))
MOST_ANSWER_BYTES = 100_000


class HostileHost:
    """Says anything to a board with any features, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = source = random.Random(seed)
        self.told: list[bool | None] = []  # None for a reset, at which the firmware is told nothing
        self.device = Device(
            host_timeout_ms=source.choice((0, 1, 500)),
            on_session=self.told.append,
            features=source.choice(FEATURES),
            event_ring_bytes=source.choice((0, 40, 1024)),
            packet_size_bytes=source.choice((128, 300, 2048)),
        )
        install(self.device)
        self.device.interleaves = source.random() < 0.7
        self.hand = LinkHand(self.device)
        self.hand.open()
        self.seq = 0

    def step(self) -> None:
        source, device = self.random, self.device
        match source.randrange(8):
            case 0:
                device.event("e", source.randrange(9), bytes(source.randrange(40)), reliable=source.random() < 0.5)
            case 1:
                device.clock.sleep(source.random())
                device.on_time()
            case 2 if source.random() < 0.1:
                device.reset()
                self.told.append(None)
            case _ if device.listens:
                device.receive(self.message())
        output = device.take_output()
        assert len(output) < MOST_ANSWER_BYTES
        if any(kind == SESSION_REPLY for kind, _ in self.hand.read(output)):
            self.seq = 0
        for _ in range(source.randrange(3)):
            device.go_on()

    def message(self) -> bytes:
        source, hand = self.random, self.hand
        seq = (self.seq + source.choice((-2, -1, 0, 0, 0, 1, 9))) % 2**16
        match source.randrange(10):
            case 0 | 1:
                wanted = source.choice((0, 1, 2, 2**31, 2**32 - 1, source.randrange(8)))
                return hand.ack(wanted, source.choice((0, 40, 4096, 65535)), source.randrange(4))
            case 2:
                return hand.about(source.choice((CANCEL, KEEP_ALIVE, PROGRESS, REPLY, NAK)), seq, source.randbytes(1))
            case 3:
                return hand.about(source.choice((CANCEL, KEEP_ALIVE)), seq)
            case 4:
                return hand.wire(source.randrange(0x20, 0x30), source.randbytes(source.randrange(40)))
            case 5:
                return source.randbytes(source.randrange(30))
            case 6 if source.random() < 0.3:
                return hand.plain(TERMINATE, b"", source.choice((0, hand.session_id)))
            case 6 if source.random() < 0.3:
                return hand.plain(INIT, b"\x01", source.randrange(1, 256))
            case _:
                self.seq = (self.seq + (seq == self.seq)) % 2**16
                name, arguments = source.choice(CALLS)
                return hand.call(seq, name, *arguments, kind=source.choice((CALL, CALL, PACKET)))


@pytest.mark.parametrize("seed", range(40))
def test_whatever_a_host_says_the_board_serves_the_next_session(seed: int) -> None:
    host = HostileHost(seed)
    for _ in range(300):
        host.step()
    while host.device.is_busy:
        host.device.go_on()
    host.device.take_output()
    host.hand.open()
    assert REPLY in [kind for kind, _ in host.hand.say(host.hand.call(0, "add", 2, 3, kind=PACKET))]
    pairs = zip(host.told, host.told[1:], strict=False)
    assert all(now is None or now != before for before, now in pairs), "the firmware was told the same twice"
