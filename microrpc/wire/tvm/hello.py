"""What stands before the packets of a TVM connection: magic, length, key (docs/tvm_wire.md 1)."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from microrpc.errors import ProtocolError, UnsupportedValueError
from microrpc.wire.tvm.values import DOCUMENT

MAGIC = 0x000FF271
"""What both sides of an RPC connection begin with."""
DUPLICATE = MAGIC + 1
"""What a proxy says instead of it: somebody else has this key."""
MISMATCH = MAGIC + 2
"""What a server says instead of it, and closes: it has nothing under the client's key."""
LARGEST_KEY_BYTES = 4096
"""The longest key that is taken from a peer."""

_CLIENT = "client:"
_TIMEOUT = "-timeout="
_I32 = struct.Struct("<i")
_HEAD = struct.Struct("<ii")


def _wrong(message: str) -> ProtocolError:
    return ProtocolError("1", message, document=DOCUMENT)


@dataclass(frozen=True, slots=True)
class ClientHello:
    """How a client introduces itself.

    key: all of what it says. matchkey: what it was told to ask for, "" where it was told nothing; None where it is
    no client (a server that registers at a proxy, for instance). timeout_s: after how many seconds it wants its
    session ended; None: never. rest: the bytes behind the hello that came with it.
    """

    key: str
    matchkey: str | None
    timeout_s: float | None
    rest: bytes


def _read_timeout(options: list[str]) -> float | None:
    timeout_s = None
    for option in options:
        if option.startswith(_TIMEOUT):
            try:
                timeout_s = float(option.removeprefix(_TIMEOUT))
            except ValueError:
                timeout_s = math.nan
            if not 0 < timeout_s < math.inf:
                raise _wrong(f"a session timeout is a number of seconds above 0, not {option[:40]!r}")
    return timeout_s


class HelloReader:
    """Reads the hello of a client from a stream that comes in pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> ClientHello | None:
        """Take bytes that arrived; give the hello once it is whole, None before.

        Raises ProtocolError as soon as the bytes cannot be a hello: another magic, a key that is too long, a timeout
        that is no number of seconds.
        """
        self._buffer += data
        buffer = self._buffer
        magic = _I32.pack(MAGIC)
        if buffer[:4] != magic[: len(buffer)]:
            raise _wrong(f"{buffer[:4].hex()} arrived where a client of TVM begins with {magic.hex()}")
        if len(buffer) < _HEAD.size:
            return None
        _, size_bytes = _HEAD.unpack_from(buffer)
        if not 0 <= size_bytes <= LARGEST_KEY_BYTES:
            raise _wrong(f"a key of {size_bytes} bytes is announced; at most {LARGEST_KEY_BYTES} are taken")
        end = _HEAD.size + size_bytes
        if len(buffer) < end:
            return None
        key = bytes(buffer[_HEAD.size : end]).decode(errors="backslashreplace")
        rest = bytes(buffer[end:])
        buffer.clear()
        word, *options = key.split() or [""]
        matchkey = word.removeprefix(_CLIENT) if word.startswith(_CLIENT) else None
        return ClientHello(key, matchkey, _read_timeout(options), rest)


def encode_hello(key: str, magic: int = MAGIC) -> bytes:
    """Give the hello of either side: "client:KEY", "server:KEY". Raises UnsupportedValueError for too long a key."""
    raw = key.encode("utf-8", "surrogateescape")
    if len(raw) > LARGEST_KEY_BYTES:
        raise UnsupportedValueError(f"a key of {len(raw)} bytes cannot be sent; at most {LARGEST_KEY_BYTES} can")
    return _HEAD.pack(magic, len(raw)) + raw


def encode_refusal(magic: int = MISMATCH) -> bytes:
    """Give what a server says instead of its hello before it closes."""
    return _I32.pack(magic)


def decode_server_hello(data: bytes) -> str | None:
    """Read what a server says to a client's hello: give its key once that is whole, None before.

    Raises ProtocolError, which tells whether the key was refused, or this is no server of TVM.
    """
    if data[:4] in (encode_refusal(MISMATCH), encode_refusal(DUPLICATE)):
        raise _wrong("there is no board with this key")
    if data[:4] != _I32.pack(MAGIC)[: len(data)]:
        raise _wrong(f"{data[:4].hex()} arrived where a server of TVM begins with {_I32.pack(MAGIC).hex()}")
    if len(data) < _HEAD.size:
        return None
    _, size_bytes = _HEAD.unpack_from(data)
    end = _HEAD.size + size_bytes
    if not 0 <= size_bytes <= LARGEST_KEY_BYTES or len(data) > end:
        raise _wrong(f"a key of {size_bytes} bytes is announced, and {len(data)} bytes came")
    return data[_HEAD.size :].decode(errors="backslashreplace") if len(data) == end else None
