"""The host's messages of the link, put together by hand, for tests of boards (docs/link.md)."""

from __future__ import annotations

import struct
import zlib
from typing import Any

from firmware_sim.board.device import Device
from microrpc.wire.frames import FrameDecoder, encode_frame
from microrpc.wire.packets import CallFunc, encode_packet

INIT, SESSION_REPLY, TERMINATE, LOG, NORMAL = 0, 1, 2, 3, 0x10
REQUEST, REPLY, NAK = 0x20, 0x21, 0x22
EVENT, EVENT_ACK, EVENT_STATE = 0x23, 0x24, 0x25
CANCEL, PROGRESS, KEEP_ALIVE = 0x26, 0x27, 0x28
PACKET, WRITE, READ, CALL = 0, 1, 2, 3
NONCE = 0x26


def sealed(session_id: int, message_type: int, body: bytes) -> bytes:
    """A frame payload with its crc32."""
    payload = struct.pack("<HB", session_id, message_type) + body
    return payload + struct.pack("<I", zlib.crc32(payload))


def i64(number: int) -> bytes:
    """An Int of an event."""
    return b"\0" + struct.pack("<q", number)


def data(value: bytes) -> bytes:
    """Bytes of an event."""
    return b"\x0c" + struct.pack("<H", len(value)) + value


class LinkHand:
    """The other end of a board's line, made of single steps.

    `wire` gives the bytes of a message; where `device` is not on a line of its own, `say` hands them over and gives
    what the board answers, as (message type, what follows it up to the crc32).
    """

    def __init__(self, device: Device | None = None, **device_args: Any) -> None:
        self.device = Device(**device_args) if device is None else device
        self.session_id = 0
        self._decoder = FrameDecoder(1 << 24)

    def open(self) -> None:
        """Open a session."""
        self.say(self.plain(TERMINATE))
        [(kind, body)] = self.say(self.plain(INIT, b"\x01", NONCE))
        assert (kind, body) == (SESSION_REPLY, b"\x01")

    def plain(self, message_type: int, body: bytes = b"", session_id: int = 0) -> bytes:
        """Give the frame of a message without a crc32."""
        return encode_frame(struct.pack("<HB", session_id, message_type) + body)

    def wire(self, message_type: int, body: bytes = b"") -> bytes:
        """Give the frame of a message of the session."""
        return encode_frame(sealed(self.session_id, message_type, body))

    def ack(self, wanted: int, credit_bytes: int, flags: int = 0) -> bytes:
        """Give the frame of an EVENT_ACK."""
        return self.wire(EVENT_ACK, struct.pack("<IHB", wanted, credit_bytes, flags))

    def about(self, message_type: int, seq: int, body: bytes = b"") -> bytes:
        """Give the frame of a message with a seq."""
        return self.wire(message_type, struct.pack("<H", seq) + body)

    def call(self, seq: int, name: str, *args: object, kind: int = CALL) -> bytes:
        """Give the frame of a LINK_REQUEST that calls a function of the system library or the global registry."""
        return self.about(REQUEST, seq, bytes((kind,)) + self.call_packet(name, *args)[8:])

    def call_packet(self, name: str, *args: object) -> bytes:
        """Give the packet of a call, from packet_nbytes on."""
        registries = (self.device.functions, self.device.system_library)
        handle = next(
            1 << 63 | number << 32 | list(registry).index(name)
            for number, registry in enumerate(registries)
            if name in registry
        )
        return encode_packet(CallFunc(handle, tuple(args)))  # type: ignore[arg-type]

    def say(self, wire: bytes = b"") -> list[tuple[int, bytes]]:
        """Hand bytes to the board, and give its answers."""
        self.device.receive(wire)
        return self.read(self.device.take_output())

    def read(self, output: bytes) -> list[tuple[int, bytes]]:
        """Give what the board has said, and take note of a session that it has opened."""
        found = []
        for payload in self._decoder.feed(output):
            assert isinstance(payload, bytes), payload
            session_id, message_type = struct.unpack_from("<HB", payload)
            if message_type == SESSION_REPLY:
                self.session_id = session_id
            if message_type >= REQUEST:
                assert session_id == self.session_id
                assert zlib.crc32(payload[:-4]) == int.from_bytes(payload[-4:], "little")
                payload = payload[:-4]
            found.append((message_type, payload[3:]))
        return found


def returned(seq: int, number: int) -> tuple[int, bytes]:
    """A LINK_REPLY that returns an Int: its type code, and itself."""
    return REPLY, struct.pack("<HBiiiiqq", seq, 0, 4, 2, 0, 0, 0, number)


def thrown(seq: int, text: str) -> tuple[int, bytes]:
    """A LINK_REPLY that throws the text of an Exception."""
    return REPLY, struct.pack("<HBiiiQ", seq, 0, 5, 1, 11, len(text)) + text.encode()
