"""The device for MicroPython and the simulator's robust firmware: the same bytes, whatever is said to them."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from micropython_board import MicroPythonBoard

from firmware import test_c_device as conversations
from firmware_sim.board.demo import FIRMWARE_NAME, FIRMWARE_VERSION, install
from firmware_sim.board.device import Device
from microrpc.wire.features import Feature
from microrpc.wire.frames import FrameDecoder
from microrpc.wire.session import Session


class Pair(conversations.Pair):
    """Both devices, freshly booted, the one for MicroPython in the place of the one in C."""

    def __init__(self, rng: random.Random, *, packet_bytes: int = 512, heap_bytes: int = 4096) -> None:
        seed = rng.randrange(1 << 16)
        nonce = Session(seed)._nonce
        ring_bytes = packet_bytes + 100
        self.rng = rng
        self.c = MicroPythonBoard(  # type: ignore[assignment]
            nonce=nonce,
            packet_bytes=packet_bytes,
            ring_bytes=ring_bytes,
            memory_bytes=heap_bytes,
            name="test",
            firmware=FIRMWARE_NAME,
            version=FIRMWARE_VERSION,
        )
        self.python = Device(
            packet_size_bytes=packet_bytes,
            heap_bytes=heap_bytes,
            seed=seed,
            receive_ring_bytes=ring_bytes,
            board_name="test",
            firmware_name=FIRMWARE_NAME,
            firmware_version=FIRMWARE_VERSION,
            features=Feature.EVENTS | Feature.DESCRIBE | Feature.MEMORY,
        )
        self.python._events.boot_id = nonce
        install(self.python)
        for registry in (self.python.functions, self.python.system_library):
            for name in {*conversations.MODEL_FUNCTIONS, "emit", "work"} & set(registry):
                del registry[name]
        self.session_id = self.seq = 0
        self.handles = [0, conversations.SYSTEM_LIB]
        self.blocks = []
        self.heard = Counter()
        self._decoder = FrameDecoder()
        self.say(b"")


@pytest.mark.parametrize("seed", range(20))
def test_both_answer_the_same_to_whatever_is_right(seed: int) -> None:
    converse(seed, damage=0.0)


@pytest.mark.parametrize("seed", range(100, 140))
def test_both_answer_the_same_to_whatever_is_wrong(seed: int) -> None:
    converse(seed, damage=0.5)


def converse(seed: int, *, damage: float) -> Counter[str]:
    pair = Pair(random.Random(seed))
    with np.errstate(all="ignore"):
        conversations.converse(pair, steps=250, damage=damage)
    pair.close()
    return pair.heard
