"""Hostile bytes into everything that reads TVM's: nothing but ProtocolError, bounded memory, no wrong guess that stays.

MICRORPC_FUZZ_BYTES is how many in all, MICRORPC_FUZZ_SEED runs one case.
"""

from __future__ import annotations

import os
import random
import struct
import time
import tracemalloc
from collections.abc import Callable

import pytest
import tvm_fuzz

from microrpc.errors import MicroRpcError, ProtocolError, UnsupportedValueError
from microrpc.wire.packets import CallFunc, CopyAck, InitServer, Packet, RemoteException, Return, Syscall
from microrpc.wire.reader import PacketReader
from microrpc.wire.tvm.hello import LARGEST_KEY_BYTES, HelloReader
from microrpc.wire.tvm.layout import NEW, OLD, Layout, LayoutFinder
from microrpc.wire.tvm.tracker import LARGEST_MESSAGE_BYTES, MessageReader, encode_message

BYTES = int(os.environ.get("MICRORPC_FUZZ_BYTES", 12_000_000))
ONLY = os.environ.get("MICRORPC_FUZZ_SEED")
SHARES = {"packets": 0.55, "finder": 0.2, "hello": 0.05, "tracker": 0.2}
# What is written on a path of a packet's decoding, per byte; a slow machine with all its cores busy has 50.
MOST_SECONDS_PER_MEGABYTE = 50.0


def run_cases(target: str, case: Callable[[random.Random], int]) -> None:
    """Run `case`, which returns how many bytes it fed, until `target` has had its share of all bytes."""
    fed, seed, begin = 0, int(ONLY or 0), time.monotonic()
    while fed < BYTES * SHARES[target]:
        try:
            fed += case(random.Random(f"{target} {seed}"))
        except Exception as error:
            replay = f"MICRORPC_FUZZ_SEED={seed} .venv/bin/python -m pytest tests/test_tvm_fuzz.py -k {target}"
            raise AssertionError(f"{type(error).__name__}: {error}\nreplay it with: {replay}") from error
        if ONLY:
            return
        seed += 1
    assert time.monotonic() - begin < 5 + fed / 1e6 * MOST_SECONDS_PER_MEGABYTE


def test_the_targets_get_all_bytes_that_were_promised() -> None:
    assert sum(SHARES.values()) >= 1
    assert BYTES >= 10_000_000 or "MICRORPC_FUZZ_BYTES" in os.environ


def shown(layout: Layout, packet: Packet) -> str:
    """What a packet is, with the types of its values; in the old layout a Bool is sent as an Int."""
    text = repr(packet)
    return text.replace("True", "1").replace("False", "0") if layout is OLD else text


def read_twice(layout: Layout, body: bytes) -> None:
    """Decode; what can be, encodes again to what decodes to the same."""
    try:
        packet = layout.decode_packet(body)
    except ProtocolError:
        return
    try:
        again = layout.encode_packet(packet)
    except UnsupportedValueError:  # an InitServer with a version of half a character, for instance
        return
    if not isinstance(packet, RemoteException):  # whose text is made UTF-8
        assert shown(layout, layout.decode_packet(again[8:])) == shown(layout, packet)
    if isinstance(packet, Return):
        try:
            layout.decode_result(packet.values)
        except ProtocolError:
            return


@pytest.mark.long
def test_fuzz_packets_of_both_layouts() -> None:
    def case(rng: random.Random) -> int:
        body = tvm_fuzz.packet_body(rng, rng.choice(("client", "server")))
        for layout in (OLD, NEW):
            read_twice(layout, body)
        return len(body)

    run_cases("packets", case)


@pytest.mark.long
def test_fuzz_finder_reads_as_its_layout_does_and_keeps_to_it() -> None:
    def case(rng: random.Random) -> int:
        finder, fed = LayoutFinder(), 0
        for _ in range(rng.randint(1, 12)):
            body = tvm_fuzz.packet_body(rng)
            fed += len(body)
            known = finder.layout if finder.is_known else None
            try:
                packet = finder.decode_packet(body)
            except ProtocolError:
                assert finder.is_known == (known is not None)
                packet = RemoteException("no")
            else:
                if finder.is_known or not isinstance(packet, CopyAck | RemoteException | Return):
                    assert repr(finder.layout.decode_packet(body)) == repr(packet)
                if known is None and finder.is_known:
                    assert isinstance(packet, CallFunc | InitServer | Syscall)
            assert known in (None, finder.layout)
            finder.encode_packet(Return((None,)))
            finder.encode_packet(RemoteException(repr(packet)))
        return fed

    run_cases("finder", case)


@pytest.mark.long
def test_fuzz_hello_and_the_packets_behind_it() -> None:
    def case(rng: random.Random) -> int:
        stream = tvm_fuzz.rpc_stream(rng, 300, rng.choice(("client:", "client:board:0.5 -timeout=1.5")))
        reader, packets = HelloReader(), PacketReader(max_packet_bytes=1 << 16)
        greeted = None
        try:
            for piece in tvm_fuzz.pieces(rng, stream):
                if greeted is None:
                    greeted = reader.feed(piece)
                    assert len(reader._buffer) < 8 + LARGEST_KEY_BYTES + len(piece)
                    if greeted is not None:
                        assert greeted.timeout_s is None or 0 < greeted.timeout_s < 1e308
                        packets.feed(greeted.rest)
                else:
                    packets.feed(piece)
                while greeted is not None and (body := packets.next_packet()) is not None:
                    read_twice(NEW, body)
        except ProtocolError:
            pass
        return len(stream)

    run_cases("hello", case)


@pytest.mark.long
def test_fuzz_tracker() -> None:
    def case(rng: random.Random) -> int:
        stream, reader = tvm_fuzz.tracker_stream(rng, 600), MessageReader()
        try:
            for piece in tvm_fuzz.pieces(rng, stream):
                for message in reader.feed(piece):
                    try:
                        encode_message(message)
                    except UnsupportedValueError:  # a number like 1e999
                        continue
                assert len(reader._buffer) < 4 + LARGEST_MESSAGE_BYTES
        except ProtocolError:
            pass
        return len(stream)

    run_cases("tracker", case)


def test_a_claim_takes_no_memory_in_any_reader() -> None:
    """Each claims gigabytes in a few bytes."""
    claims: list[Callable[[], object]] = [
        lambda: HelloReader().feed(b"\x71\xf2\x0f\0\xff\xff\xff\x7f"),
        lambda: MessageReader().feed(b"\x71\xf2\x02\0\xff\xff\xff\x7f"),
        lambda: PacketReader().feed(struct.pack("<Q", 1 << 40)),
        *(
            lambda layout=layout, index=index: layout.decode_packet(
                struct.pack("<iQiiIQ", 3, 1, 1, index, 65 if index == 65 else 66, 1 << 62)
            )
            for layout in (OLD, NEW)
            for index in (7, 8, 9, 11, 12, 65, 66)
        ),
        *(
            lambda layout=layout: layout.decode_packet(struct.pack("<iQi", 3, 1, 0x7FFFFFFF) + bytes(100))
            for layout in (OLD, NEW)
        ),
    ]
    tracemalloc.start()
    try:
        for claim in claims:
            try:
                claim()
            except MicroRpcError:
                continue
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()
