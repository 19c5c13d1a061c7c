"""Hostile bytes for whatever takes TVM's: recordings of clients, servers and a tracker, mutated by a seed.

`rpc_stream` and `tracker_stream` give what one side of a connection sends; `packet_body` gives one packet behind its
length. What a target does with them is its test's own.
"""

from __future__ import annotations

import random
import struct
from functools import cache

import tvm_golden

from microrpc.wire.tvm.hello import encode_hello
from microrpc.wire.tvm.tracker import TRACKER_MAGIC

# Type indices and codes of both layouts, and what stands beside them; lengths that are boundaries.
_NUMBERS = (*range(-1, 23), 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 115, 128, 129, 0x7FFFFFFF, -0x80000000)
_LENGTHS = (0, 1, 7, 8, 4096, 4097, 1 << 20, (1 << 20) + 1, 1 << 26, 1 << 31, 1 << 32, (1 << 63) - 1, (1 << 64) - 1)
_BRACKETS = (b"[", b"{", b'"', b"]", b"[" * 500, b"NaN", b"1e999", b'{"a":' * 50, b"\xff", b"\\u0000", b"null", b",")


@cache
def packets(sender: str, most: int = 1 << 16) -> tuple[bytes, ...]:
    """The bodies of all packets of up to `most` bytes that "client" or "server" sent, of both layouts, each once."""
    found = [
        packet[8:]
        for stream in tvm_golden.streams(*tvm_golden.RPC_NAMES)
        if stream.sender == sender and len(stream.data) > 8
        for packet in tvm_golden.packets_of(stream.data)
    ]
    for _, of_board in tvm_golden.old_packets("host" if sender == "client" else "device"):
        found += [packet[8:] for packet in of_board]
    return tuple(dict.fromkeys(body for body in found if len(body) <= most))


@cache
def _messages() -> tuple[bytes, ...]:
    streams = tvm_golden.streams(tvm_golden.TRACKER_NAME)
    return tuple(dict.fromkeys(stream.data[4:] for stream in streams if len(stream.data) > 8))


def mutate(rng: random.Random, data: bytes, other: bytes = b"") -> bytes:
    """Flip, drop, double, insert, overwrite by a type or a length, truncate or splice, one to four times."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        aligned = at // 4 * 4
        match rng.randrange(8):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                del out[at : at + rng.choice((1, 4, 8, 12, 100))]
            case 2:
                out[at:at] = out[at : at + rng.choice((4, 12, 300))]
            case 3 | 4 if aligned + 4 <= len(out):
                struct.pack_into("<i", out, aligned, rng.choice(_NUMBERS))
            case 5 if aligned + 8 <= len(out):
                struct.pack_into("<Q", out, aligned, rng.choice(_LENGTHS))
            case 6 if rng.random() < 0.3:
                del out[at:]
            case 7 if other:
                start = rng.randrange(len(other))
                out[at : at + rng.randrange(30)] = other[start : start + rng.randrange(200)]
    return bytes(out)


def packet_body(rng: random.Random, sender: str = "client") -> bytes:
    """One packet of "client" or "server" behind its packet_nbytes: as recorded, mutated, or noise."""
    known = packets(sender) if rng.random() < 0.02 else packets(sender, 300)
    body = rng.choice(known)
    match rng.randrange(12):
        case 0:
            return body
        case 1:
            return struct.pack("<i", rng.choice(_NUMBERS)) + rng.randbytes(rng.randrange(80))
        case _:
            return mutate(rng, body, rng.choice(known))


def hello(rng: random.Random, key: str = "client:") -> bytes:
    """The beginning of a connection of a client that says `key`, mostly whole."""
    whole = encode_hello(key)
    return whole if rng.random() < 0.8 else mutate(rng, whole, encode_hello("client:a -timeout=1e-9 -timeout=nan"))


def rpc_stream(rng: random.Random, size_bytes: int, key: str = "client:", sender: str = "client") -> bytes:
    """A hello and about `size_bytes` of packets, most with a length that is theirs."""
    out = bytearray(hello(rng, key))
    if rng.random() < 0.9:
        out += tvm_golden.INIT_SERVER
    while len(out) < size_bytes:
        body = packet_body(rng, sender)
        size = len(body) if rng.random() < 0.97 else rng.choice(_LENGTHS)
        out += struct.pack("<Q", size) + body
    return bytes(out)


def tracker_stream(rng: random.Random, size_bytes: int) -> bytes:
    """The tracker's magic and about `size_bytes` of messages, most with a length that is theirs."""
    out = bytearray(struct.pack("<i", TRACKER_MAGIC if rng.random() < 0.95 else rng.getrandbits(31)))
    while len(out) < size_bytes:
        known = rng.choice(_messages())
        if rng.random() < 0.5:
            out += mutate(rng, known) if rng.random() < 0.7 else known
            continue
        text = bytearray(known[4 : 4 + struct.unpack_from("<i", known)[0]])
        at = rng.randrange(len(text) + 1)
        text[at : at + rng.randrange(4)] = rng.choice(_BRACKETS)
        out += struct.pack("<i", len(text) if rng.random() < 0.97 else rng.choice(_NUMBERS)) + text
    return bytes(out)


def pieces(rng: random.Random, data: bytes) -> list[bytes]:
    """`data` at once, in pieces of one size, or the first of it byte by byte."""
    match rng.randrange(6):
        case 0:
            return [data[at : at + 1] for at in range(min(len(data), 500))] + [data[500:]]
        case 1 | 2:
            size = rng.choice((3, 64, 1000))
            return [data[at : at + size] for at in range(0, len(data), size)]
        case _:
            return [data]
