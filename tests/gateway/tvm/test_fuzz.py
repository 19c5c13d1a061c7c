"""Hostile bytes into the gateway, with a board behind it, and into a registration: exceptions and cut-offs, no more.

MICRORPC_FUZZ_BYTES is how many in all, MICRORPC_FUZZ_SEED runs one case.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import struct
import tracemalloc
from typing import Any

import pytest
import tvm_fuzz
import tvm_golden
from tvm_gateway import InMemory

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from microrpc.errors import PortLostError, ProtocolError
from microrpc.gateway.tvm.registration import RegistrationState, TrackerError
from microrpc.gateway.tvm.server import Gateway
from microrpc.gateway.tvm.station import Station
from microrpc.wire.datatypes import OpaqueHandle
from microrpc.wire.packets import CallFunc, PacketCode, Return, Shutdown, Syscall
from microrpc.wire.tvm.hello import encode_hello
from microrpc.wire.tvm.layout import NEW
from microrpc.wire.tvm.tracker import LARGEST_MESSAGE_BYTES

BYTES = int(os.environ.get("MICRORPC_FUZZ_BYTES", 10_500_000))
ONLY = os.environ.get("MICRORPC_FUZZ_SEED")
SHARES = {"server": 0.5, "registration": 0.5}
PARTS = 10  # so that none takes longer than a test may
LIMIT_BYTES = 1 << 16
MOST_MEMORY_BYTES = 24 << 20
CASE_S = 60.0
MAGIC, ZERO = struct.pack("<i", 0x2F271), b"\x01\0\0\x000"  # of a tracker, and its usual answer


class Said:
    """A connection on which a client has said all that it will, and goes unless it stays; what it is told is kept."""

    def __init__(self, pieces: list[bytes], *, stays: bool) -> None:
        self._stays = stays
        self.name = "client"
        self.now = asyncio.get_running_loop().time
        self.told = bytearray()
        self.is_open = True
        self._pieces = pieces[::-1]

    async def read(self, deadline: float) -> bytes:
        await asyncio.sleep(0)
        if self._stays and not self._pieces:
            await asyncio.sleep(CASE_S)
        if not self._pieces:
            raise PortLostError(self.name, "it has gone")
        return self._pieces.pop()

    async def write(self, data: bytes, deadline: float) -> None:
        assert self.is_open
        self.told += data

    def close(self) -> None:
        self.is_open = False


async def meet(gateway: Gateway, pieces: list[bytes], *, stays: bool = False) -> bytes:
    """Have the gateway serve a connection to its end; give what was said on it."""
    channel = Said(pieces, stays=stays)
    gateway._strangers += 1
    await asyncio.wait_for(gateway._meet(channel), CASE_S)
    assert not channel.is_open
    assert gateway._strangers == 0
    return bytes(channel.told)


def check_told(told: bytes) -> None:
    """What a client is told is a hello and whole packets, replies alone, as its Python can read them."""
    if told[:4] != struct.pack("<i", 0xFF271):  # nothing, or a refusal
        assert told in (b"", struct.pack("<i", 0xFF273))
        return
    at = 8 + struct.unpack_from("<i", told, 4)[0]
    while at < len(told):
        (size,) = struct.unpack_from("<Q", told, at)
        (code,) = struct.unpack_from("<i", told, at + 8)
        body = told[at + 8 : at + 8 + size]
        assert len(body) == size
        assert code in (PacketCode.RETURN, PacketCode.EXCEPTION, PacketCode.COPY_ACK)
        if code == PacketCode.EXCEPTION:
            body[20:].decode()  # it is UTF-8
        at += 8 + size


async def check_works(gateway: Gateway, device: Device) -> None:
    """The board answers a client who knows its manners, has all its memory, and nobody has a handle of another's."""
    begin = encode_hello("client:") + tvm_golden.INIT_SERVER
    goodbye = NEW.encode_packet(Shutdown())
    look_up = NEW.encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("add",)))
    told = await meet(gateway, [begin, look_up, goodbye], stays=True)
    (handle,) = NEW.decode_packet(told[-20:]).values  # type: ignore[union-attr]
    assert isinstance(handle, OpaqueHandle)
    calls = b"".join(NEW.encode_packet(CallFunc(number, (2, 3))) for number in (handle, handle + 1))
    told = await meet(gateway, [begin, look_up, calls, goodbye], stays=True)
    assert b"this client has no handle" in told
    assert told.endswith(NEW.encode_packet(Return((1, 5))))
    assert device.memory.used_bytes == 0


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_fuzz_the_gateway_in_front_of_a_board(part: int) -> None:
    device = Device(seed=7)
    install(device)
    failures: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        station = Station("board", "board", InMemory(device), call_s=2.0, limit_bytes=LIMIT_BYTES)
        fed, seed = 0, int(ONLY or part * 1_000_000)
        async with Gateway([station]) as gateway:
            while fed < BYTES * SHARES["server"] / PARTS:
                rng = random.Random(f"server {seed}")
                stream = tvm_fuzz.rpc_stream(rng, 4000, rng.choice(("client:", "client:board")))
                try:
                    check_told(await meet(gateway, tvm_fuzz.pieces(rng, stream)))
                    assert device.memory.used_bytes == 0
                    if seed % 40 == 0 or ONLY:
                        await check_works(gateway, device)
                except Exception as error:
                    replay = f"MICRORPC_FUZZ_SEED={seed} .venv/bin/python -m pytest {__file__} -k gateway"
                    raise AssertionError(f"{type(error).__name__}: {error}\nreplay it with: {replay}") from error
                fed, seed = fed + len(stream), seed + 1
                if ONLY:
                    return
            assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY_BYTES

    tracemalloc.start()
    try:
        asyncio.run(main())
    finally:
        tracemalloc.stop()
    assert failures == []


@pytest.mark.long
def test_fuzz_a_registration() -> None:
    fed, seed = 0, int(ONLY or 0)
    while fed < BYTES * SHARES["registration"]:
        rng = random.Random(f"registration {seed}")
        state, now = RegistrationState("board", 9090, None, rng), 0.0
        for _ in range(rng.randint(1, 3)):  # connections, each with its nonsense
            state.connected(now)
            state.take()
            stream = tvm_fuzz.tracker_stream(rng, 600)
            pieces = tvm_fuzz.pieces(rng, stream)
            if rng.random() < 0.7:  # else it gets no further than the first answer that is none
                pieces = [MAGIC, *[ZERO] * rng.randint(1, 3), *tvm_fuzz.pieces(rng, stream[4:])]
            with contextlib.suppress(ProtocolError, TrackerError):
                for piece in pieces:
                    now += rng.choice((0.0, 0.1, 2.0, 3.0))
                    state.feed(piece, now)
                    state.tick(now)
                    match rng.randrange(6):
                        case 0:
                            state.taken()
                            assert state.matchkey == ""
                        case 1:
                            state.released(now)
                    sent = len(state.take())
                    assert sent < 1000  # one thing at a time
                    assert len(state._reader._buffer) < 4 + LARGEST_MESSAGE_BYTES
            fed += len(stream)
            state.lost()
            assert not state.is_registered
            assert state.wakes_at is None
        if ONLY:
            return
        seed += 1
        if seed % 100:
            continue
        state.released(now)  # and a tracker that is one has the board again
        state.connected(now)
        state.feed(MAGIC, now)
        state.take()
        state.feed(ZERO, now)
        assert state.is_registered
        assert b"[3, " in state.take()
        assert state.matchkey.startswith("board:")
