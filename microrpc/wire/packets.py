"""RPC packets: requests and replies <-> bytes (docs/protocol.md 3).

Pure: bytes in, values out. A packet from the peer that is not exactly as the protocol has it raises
`ProtocolError("3", ...)`, which says what is wrong and at which byte; every length in it is compared with the bytes
that are really there before anything is allocated. A value of the caller that cannot be sent raises
`UnsupportedValueError`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from microrpc.errors import ProtocolError, UnsupportedValueError
from microrpc.wire.datatypes import (
    ArrayResult,
    DataType,
    Device,
    FunctionHandle,
    ModuleHandle,
    OpaqueHandle,
    Tensor,
    TypeCode,
    UInt,
    Value,
)
from microrpc.wire.values import (
    U64,
    Buffer,
    decode_values,
    encode_values,
    find_packer,
    i32_from,
    malformed,
    pack_tensor,
    read_blob,
    read_tensor,
    too_short,
    u64_from,
)

PROTOCOL_VERSION = "0.8.0"
"""What InitServer carries, and both sides must have alike (docs/protocol.md 5)."""


class PacketCode(IntEnum):
    """What a packet is; from GET_GLOBAL_FUNC on they are syscalls (docs/protocol.md 3)."""

    SHUTDOWN = 1
    INIT_SERVER = 2
    CALL_FUNC = 3
    RETURN = 4
    EXCEPTION = 5
    COPY_FROM_REMOTE = 6
    COPY_TO_REMOTE = 7
    COPY_ACK = 8
    GET_GLOBAL_FUNC = 9
    FREE_HANDLE = 10
    DEV_SET_DEVICE = 11
    DEV_GET_ATTR = 12
    DEV_ALLOC_DATA = 13
    DEV_FREE_DATA = 14
    DEV_STREAM_SYNC = 15
    COPY_AMONG_REMOTE = 16
    DEV_ALLOC_DATA_WITH_SCOPE = 17
    DEV_CREATE_STREAM = 18
    DEV_FREE_STREAM = 19
    DEV_SET_STREAM = 20
    DEV_GET_CURRENT_STREAM = 21
    """Of TVM from 0.16 on; no board knows it."""

    @property
    def label(self) -> str:
        """The name that docs/protocol.md gives it: "CallFunc"."""
        return self.name.title().replace("_", "")


@dataclass(slots=True)
class Shutdown:
    """The server stops; there is no reply."""


@dataclass(slots=True)
class InitServer:
    """Opens a full server: the client's protocol `version` and the session constructor's `args`, its name first."""

    version: str
    args: tuple[Value, ...]


@dataclass(slots=True)
class CallFunc:
    """Calls the function with this `handle` (u64) with `args`."""

    handle: int
    args: tuple[Value, ...]


@dataclass(slots=True)
class Return:
    """The answer to everything but CopyFromRemote: `values`. Of a CallFunc, `decode_result` knows what they mean."""

    values: tuple[Value, ...]


@dataclass(slots=True)
class RemoteException:
    """The packet named Exception: the request failed; `message` is the peer's own text (it may be empty)."""

    message: str


@dataclass(slots=True)
class CopyFromRemote:
    """Asks for `size_bytes` (u64) of the tensor, from its byte_offset on."""

    tensor: Tensor
    size_bytes: int


@dataclass(slots=True)
class CopyToRemote:
    """Puts `data` into the tensor, from its byte_offset on. Decoding gives `bytes`."""

    tensor: Tensor
    data: Buffer


@dataclass(slots=True)
class CopyAck:
    """The answer to a CopyFromRemote: `data` is what it asked for."""

    data: bytes


@dataclass(slots=True)
class Syscall:
    """A request with a code >= 9 and its `args`; `code` is a plain int where `PacketCode` does not know it."""

    code: PacketCode | int
    args: tuple[Value, ...]


Request: TypeAlias = Shutdown | InitServer | CallFunc | CopyFromRemote | CopyToRemote | Syscall
"""What a client sends."""
Reply: TypeAlias = Return | RemoteException | CopyAck
"""What it is answered with."""
Packet: TypeAlias = Request | Reply
"""Either of them (docs/protocol.md 3)."""

RETURN_NONE = Return((None,))
"""The answer of what returns nothing."""

_HEAD = struct.Struct("<Qi")
_HEAD_U64 = struct.Struct("<QiQ")

# --- packets ----------------------------------------------------------------------------------

_CLIENT_ONLY = (ModuleHandle, FunctionHandle)


@dataclass(frozen=True, slots=True)
class Sequences:
    """How packed sequences stand in packets: `docs/protocol.md` 3 has it so, today's TVM otherwise.

    encode, decode: as `encode_values` and `decode_values` of `microrpc.wire.values`. text_code: the type of the text
    in an Exception. client_only: classes that no Return has.
    """

    encode: Callable[[Sequence[Value]], bytes]
    decode: Callable[[Buffer, int], tuple[tuple[Value, ...], int]]
    text_code: int
    client_only: tuple[type, ...] = _CLIENT_ONLY


PACKED = Sequences(encode_values, decode_values, TypeCode.STR)
"""Those of docs/protocol.md 3."""

_SYSCALLS = {code.value: code for code in PacketCode if code >= PacketCode.GET_GLOBAL_FUNC}


def _flat(data: Buffer) -> Buffer:
    """What `len` and `bytes.join` count in bytes: a view or an array may have larger items, or gaps."""
    if isinstance(data, bytes | bytearray):
        return data
    view = memoryview(data)
    return view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()


def _exception_text(message: str) -> bytes:
    # An error must reach the peer whatever its text is: what a Str cannot hold is spelt out.
    message = message.replace("\0", "\\0")
    try:
        return message.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return message.encode("utf-8", "backslashreplace")


def _encode_return_values(values: tuple[Value, ...], sequences: Sequences) -> bytes:
    for index, value in enumerate(values):
        if isinstance(value, sequences.client_only):
            raise UnsupportedValueError(
                f"ValueError: Cannot pass argument {index}, type {type(value).__name__} goes from client to server only"
            )
    return sequences.encode(values)


def _code_and_parts(packet: Packet, sequences: Sequences) -> tuple[int, tuple[Buffer, ...]]:
    match packet:
        case CopyAck(data):
            return 8, (_flat(data),)
        case CopyToRemote(tensor, data):
            flat = _flat(data)
            return 7, (pack_tensor(tensor), U64.pack(len(flat)), flat)
        case CopyFromRemote(tensor, size_bytes):
            return 6, (pack_tensor(tensor), U64.pack(size_bytes))
        case Syscall(code, args):
            if code < PacketCode.GET_GLOBAL_FUNC:
                raise UnsupportedValueError(f"a syscall has a code of 9 or more, not {code}")
            return code, (sequences.encode(args),)
        case RemoteException(message):
            text = _exception_text(message)
            return 5, (struct.pack("<iiQ", 1, sequences.text_code, len(text)), text)
        case InitServer(version, args):
            raw = version.encode("utf-8", "surrogateescape")
            return 2, (U64.pack(len(raw)), raw, sequences.encode(args))
        case Shutdown():
            return 1, ()
    raise TypeError(f"{packet!r} is not a packet")


def encode_packet(packet: Packet, sequences: Sequences = PACKED) -> bytes:
    """The whole packet, from packet_nbytes (u64) on (docs/protocol.md 3).

    Raises UnsupportedValueError as `encode_values` does, and for a Return with a ModuleHandle or FunctionHandle in it
    (`encode_result` gives their form in a result), a number outside its field, a field of another type than the packet
    has, and a syscall code below 9. Raises TypeError for what is no packet.
    The text of a RemoteException is always sent: a NUL in it becomes a backslash and a 0.
    """
    try:
        if type(packet) is CallFunc:  # this and its Return are sent most
            args = sequences.encode(packet.args)
            return _HEAD_U64.pack(len(args) + 12, 3, packet.handle) + args
        if type(packet) is Return:
            values = _encode_return_values(packet.values, sequences)
            return _HEAD.pack(len(values) + 4, 4) + values
        code, parts = _code_and_parts(packet, sequences)
        return b"".join((_HEAD.pack(4 + sum(map(len, parts)), code), *parts))
    except struct.error as error:
        raise UnsupportedValueError(f"{type(packet).__name__}: a number does not fit its field: {error}") from None
    except (AttributeError, TypeError, ValueError) as error:
        if not isinstance(packet, Packet):
            raise
        raise UnsupportedValueError(f"{type(packet).__name__}: a field is of the wrong type: {error}") from None


def _decode_exception(body: Buffer, sequences: Sequences) -> tuple[RemoteException, int]:
    values, at = sequences.decode(body, 4)
    if len(values) != 1 or not isinstance(values[0], str):
        raise malformed("an Exception that is not one Str", 4)
    return RemoteException(values[0]), at


def _decode_request(code: int, body: Buffer, sequences: Sequences) -> tuple[Packet, int]:
    if code >= PacketCode.GET_GLOBAL_FUNC:
        args, at = sequences.decode(body, 4)
        return Syscall(_SYSCALLS.get(code, code), args), at
    match code:
        case PacketCode.CALL_FUNC:
            args, at = sequences.decode(body, 12)
            return CallFunc(u64_from(body, 4)[0], args), at
        case PacketCode.COPY_TO_REMOTE:
            tensor, at = read_tensor(body, 4)
            data, at = read_blob(body, at, "the data of a CopyToRemote")
            return CopyToRemote(tensor, data), at
        case PacketCode.COPY_FROM_REMOTE:
            tensor, at = read_tensor(body, 4)
            return CopyFromRemote(tensor, u64_from(body, at)[0]), at + 8
        case PacketCode.INIT_SERVER:
            version, at = read_blob(body, 4, "the protocol version")
            args, at = sequences.decode(body, at)
            return InitServer(version.decode("utf-8", "surrogateescape"), args), at
        case PacketCode.SHUTDOWN:
            return Shutdown(), 4
    raise malformed(f"the unknown packet code {code}", 0)


def decode_packet(body: Buffer, sequences: Sequences = PACKED) -> Packet:
    """The packet whose bytes after packet_nbytes are `body`, a bytes-like object of u8 (docs/protocol.md 3).

    Everything in the packet is copied out of `body`. Raises ProtocolError where `body` is not exactly one packet;
    the empty packet (packet_nbytes = 0) is for the caller to skip. A syscall code that nobody knows is no error.
    """
    if len(body) < 4:
        raise too_short("the packet code", 0, 4, len(body))
    code = i32_from(body)[0]
    packet: Packet
    try:
        if code == 4:
            values, at = sequences.decode(body, 4)
            for value in values:
                if type(value) in sequences.client_only:
                    raise malformed(f"a Return with a {type(value).__name__}, which goes from client to server only", 4)
            packet = Return(values)
        elif code == 8:
            packet, at = CopyAck(bytes(body[4:])), len(body)
        elif code == 5:
            packet, at = _decode_exception(body, sequences)
        else:
            packet, at = _decode_request(code, body, sequences)
    except struct.error as error:
        raise malformed(f"a packet of code {code} breaks off: {error}", len(body)) from None
    if at != len(body):
        raise malformed(f"{len(body) - at} bytes are left over after a packet of code {code}", at)
    return packet


# --- results of CallFunc ----------------------------------------------------------------------

_RESULT_TYPES: dict[int, type] = {
    TypeCode.INT: int,
    TypeCode.UINT: UInt,
    TypeCode.FLOAT: float,
    TypeCode.OPAQUE_HANDLE: OpaqueHandle,
    TypeCode.NULL: type(None),
    TypeCode.DATA_TYPE: DataType,
    TypeCode.DEVICE: Device,
    TypeCode.TENSOR: Tensor,
    TypeCode.MODULE: OpaqueHandle,
    TypeCode.FUNCTION: OpaqueHandle,
    TypeCode.STR: str,
    TypeCode.BYTES: bytes,
}
_HANDLE_RESULTS: dict[int, type[FunctionHandle | ModuleHandle]] = {
    TypeCode.MODULE: ModuleHandle,
    TypeCode.FUNCTION: FunctionHandle,
}


def encode_result(value: Value | ArrayResult) -> Return:
    """The Return of a function that returned `value`: its type code, then the value (docs/protocol.md 3).

    Raises UnsupportedValueError for a type that cannot be sent; `encode_packet` refuses values out of range.
    """
    values: tuple[Value, ...]
    if isinstance(value, ArrayResult):
        values = (int(TypeCode.NDARRAY), value.tensor, value.handle)
    else:
        code, _ = find_packer(1, value)
        values = (code, OpaqueHandle(value) if isinstance(value, _CLIENT_ONLY) else value)
    return Return(values)


def decode_result(values: tuple[Value, ...]) -> Value | ArrayResult:
    """What a function returned, from the values of its Return as `decode_packet` gives them (docs/protocol.md 3).

    Gives None for a void function, FunctionHandle and ModuleHandle (which may be 0) and ArrayResult where the result
    is one. Raises ProtocolError where the values do not have the form of a result.
    """
    code = values[0] if values else None
    if type(code) is int:
        if len(values) == 2:
            value = values[1]
            if type(value) is _RESULT_TYPES.get(code):
                make = _HANDLE_RESULTS.get(code)
                return value if make is None or not isinstance(value, OpaqueHandle) else make(value)
        elif len(values) == 3 and code == TypeCode.NDARRAY:
            tensor, handle = values[1:]
            if isinstance(tensor, Tensor) and isinstance(handle, OpaqueHandle):
                return ArrayResult(tensor, handle)
    form = [type(value).__name__ for value in values]
    if type(code) is int:
        form[0] = str(code)
    raise ProtocolError("3", f"a result is a type code and a value of that type, not ({', '.join(form)})")


def handle_of(reply: Reply) -> int:
    """Give the handle that a look-up was answered with; 0 for an exception, and for what is no handle."""
    value = reply.values[0] if isinstance(reply, Return) and len(reply.values) == 1 else None
    return int(value) if isinstance(value, int) else 0
