"""The recordings in tests/vectors/tvm/ (tests/vectors/README.md), and those of boards as a client over TCP."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from functools import cache

import golden

from microrpc.wire.frames import FrameDecoder
from microrpc.wire.session import MessageType

VECTORS = golden.VECTORS / "tvm"
NAMES = sorted(path.stem for path in VECTORS.glob("*.jsonl"))
RPC_NAMES = [name for name in NAMES if not name.endswith("tracker")]
TRACKER_NAME = "tvm027_tracker"

HELLO_OF_A_CLIENT = b"\x71\xf2\x0f\x00\x07\x00\x00\x00client:"
INIT_SERVER = bytes.fromhex("1500000000000000 02000000 0500000000000000 302e382e30 00000000")


@dataclass(frozen=True, slots=True)
class Burst:
    """What one side of a connection sent at once: "client" or "server", of a tracker "peer" or "tracker"."""

    connection: int
    sender: str
    label: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """All that one side of a connection sent."""

    recording: str
    connection: int
    sender: str
    data: bytes

    def __str__(self) -> str:
        return f"{self.recording}-{self.connection}-{self.sender}"


@cache
def load(name: str) -> tuple[Burst, ...]:
    """The bursts of the recording `name` (one of NAMES), in the order in which they were seen."""
    lines = (VECTORS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    objects = [json.loads(line) for line in lines if line]
    return tuple(
        Burst(item["conn"], item["dir"], item["label"], bytes.fromhex(item["hex"])) for item in objects if "hex" in item
    )


@cache
def streams(*names: str) -> tuple[Stream, ...]:
    """The streams of these recordings, two of each connection."""
    found: dict[tuple[str, int, str], bytearray] = {}
    for name in names:
        for burst in load(name):
            found.setdefault((name, burst.connection, burst.sender), bytearray()).extend(burst.data)
    return tuple(Stream(*key, bytes(data)) for key, data in found.items())


def hello_of(stream: bytes) -> bytes:
    """What stands before the packets of a stream."""
    return stream[: 8 + struct.unpack_from("<i", stream, 4)[0]]


def packets_of(stream: bytes) -> list[bytes]:
    """The whole packets of a stream, but the empty ones; they must end with it."""
    found = []
    at = len(hello_of(stream))
    while at < len(stream):
        end = at + 8 + struct.unpack_from("<Q", stream, at)[0]
        assert end <= len(stream)
        found.append(stream[at:end])
        at = end
    return [packet for packet in found if len(packet) > 8]


@cache
def old_packets(direction: str) -> tuple[tuple[str, tuple[bytes, ...]], ...]:
    """Of each recording of a board that came to a session: its name, and the packets that "host" or "device" sent."""
    found = []
    for name in golden.NAMES:
        payloads = [item for item in FrameDecoder().feed(golden.stream(name, direction)) if isinstance(item, bytes)]
        bodies = b"".join(payload[3:] for payload in payloads if payload[2] == MessageType.NORMAL)
        if bodies:
            found.append((name, tuple(packets_of(HELLO_OF_A_CLIENT + bodies))))
    return tuple(found)


def old_clients() -> list[tuple[str, bytes]]:
    """What the hosts of those recordings said, as TVM up to 0.20 says it over TCP: hello, InitServer, requests."""
    return [(name, HELLO_OF_A_CLIENT + INIT_SERVER + b"".join(packets)) for name, packets in old_packets("host")]
