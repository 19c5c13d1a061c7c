"""The messages of TVM's tracker: JSON <-> bytes (docs/tvm_wire.md 6)."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import TypeAlias

from microrpc.errors import ProtocolError, UnsupportedValueError
from microrpc.wire.tvm.values import DOCUMENT

TRACKER_MAGIC = 0x0002F271
"""What both sides of a tracker's connection begin with; the client waits for it before it says anything else."""
LARGEST_MESSAGE_BYTES = 1 << 20
"""The longest message that is taken from a peer, and that a tracker takes."""

JsonValue: TypeAlias = bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None
"""What a message is."""

_I32 = struct.Struct("<i")
_MAGIC = _I32.pack(TRACKER_MAGIC)


class TrackerCode(IntEnum):
    """What is said to a tracker (the first element of a message), or what it answers.

    An answer: FAIL, SUCCESS. Said to it: PING, STOP, PUT (offer a session), REQUEST (ask for one), UPDATE_INFO (who the
    server of this connection is), SUMMARY, GET_PENDING_MATCHKEYS.
    """

    FAIL = -1
    SUCCESS = 0
    PING = 1
    STOP = 2
    PUT = 3
    REQUEST = 4
    UPDATE_INFO = 5
    SUMMARY = 6
    GET_PENDING_MATCHKEYS = 7


def encode_magic() -> bytes:
    """Give what a connection begins with, in either direction."""
    return _MAGIC


def encode_message(value: JsonValue) -> bytes:
    """Give a message. Raises UnsupportedValueError for what is no JSON, and for more than 1 MiB."""
    try:
        text = json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UnsupportedValueError(f"what is no JSON cannot be sent to a tracker: {error}") from None
    if len(text) > LARGEST_MESSAGE_BYTES:
        raise UnsupportedValueError(f"a message of {len(text)} bytes is more than a tracker takes, 1 MiB")
    return _I32.pack(len(text)) + text


# --- what is said to a tracker ----------------------------------------------------------------


def ping() -> bytes:
    """Give a PING; the reply is 0."""
    return encode_message([TrackerCode.PING])


def stop(stop_key: str) -> bytes:
    """Give a STOP; the reply is 0, or -1 for another key than the tracker's."""
    return encode_message([TrackerCode.STOP, stop_key])


def put(key: str, port: int, matchkey: str, address: str | None) -> bytes:
    """Give a PUT, which offers one session under `key`; the reply is 0.

    matchkey: what its client will say in its hello. address: where it finds the server; None: where the tracker does.
    """
    return encode_message([TrackerCode.PUT, key, [port, matchkey], address])


def request(key: str, priority: int = 1) -> bytes:
    """Give a REQUEST; the reply is [0, [host, port, matchkey]], when a server is offered."""
    return encode_message([TrackerCode.REQUEST, key, "", priority])


def update_info(key: str, address: str | None, port: int) -> bytes:
    """Give an UPDATE_INFO: what the summary says of the server of this connection; the reply is 0."""
    return encode_message([TrackerCode.UPDATE_INFO, {"key": f"server:{key}", "addr": [address, port]}])


def summary() -> bytes:
    """Give a SUMMARY; the reply is [0, {"queue_info": ..., "server_info": ...}]."""
    return encode_message([TrackerCode.SUMMARY])


def get_pending_matchkeys() -> bytes:
    """Give a GET_PENDING_MATCHKEYS; the reply is a list of those that this connection put and nobody took."""
    return encode_message([TrackerCode.GET_PENDING_MATCHKEYS])


# --- what comes -------------------------------------------------------------------------------


def _wrong(message: str) -> ProtocolError:
    return ProtocolError("6", message, document=DOCUMENT)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


class MessageReader:
    """Reads messages from a stream that comes in pieces of any size; first the magic."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._has_magic = False

    @property
    def has_magic(self) -> bool:
        """Whether the peer has said that it is a tracker, or the client of one."""
        return self._has_magic

    def feed(self, data: bytes) -> list[JsonValue]:
        """Take bytes that arrived; give the messages that are whole.

        Raises ProtocolError as soon as the bytes cannot be a magic and messages of 1 .. 2**20 bytes of JSON: the stream
        cannot be followed any further.
        """
        self._buffer += data
        return list(self._messages())

    def _messages(self) -> Iterator[JsonValue]:
        buffer = self._buffer
        if not self._has_magic:
            if buffer[:4] != _MAGIC[: len(buffer)]:
                raise _wrong(f"{buffer[:4].hex()} arrived where a tracker's connection begins with {_MAGIC.hex()}")
            if len(buffer) < 4:
                return
            self._has_magic = True
            del buffer[:4]
        while len(buffer) >= 4:
            (size_bytes,) = _I32.unpack_from(buffer)
            if not 0 < size_bytes <= LARGEST_MESSAGE_BYTES:
                raise _wrong(f"a message of {size_bytes} bytes is announced; 1 .. {LARGEST_MESSAGE_BYTES} are taken")
            if len(buffer) < 4 + size_bytes:
                return
            text = bytes(buffer[4 : 4 + size_bytes])
            del buffer[: 4 + size_bytes]
            try:
                value: JsonValue = json.loads(text.decode(), parse_constant=_refuse_constant)
            except (ValueError, RecursionError) as error:
                raise _wrong(f"a message that is no JSON: {error}") from None
            yield value
