"""The two layouts of TVM's packets, and which of them a client speaks (docs/tvm_wire.md 1).

TVM changed its packed sequences in 0.21 and did not change the version that it states, so the first request with a
value in it tells. `LayoutFinder` is the codec of one connection.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from microrpc.errors import ProtocolError, UnsupportedValueError
from microrpc.wire import packets
from microrpc.wire.datatypes import (
    CPU,
    ArrayResult,
    Device,
    FunctionHandle,
    ModuleHandle,
    ObjectHandle,
    OpaqueHandle,
    Tensor,
    TypeCode,
    Value,
)
from microrpc.wire.packets import CallFunc, InitServer, Packet, PacketCode, RemoteException, Return, Sequences, Syscall
from microrpc.wire.signatures import fits_signature
from microrpc.wire.tvm import packets as new
from microrpc.wire.tvm.packets import clean_text
from microrpc.wire.tvm.values import DOCUMENT
from microrpc.wire.values import PACKERS, READERS, Buffer, decode_values, encode_each, i32_from, malformed

_OBJECT = struct.Struct("<IQ")
_BOOL_CODE = 15
# What an object is called on the wire, by version: the type index of RPCObjectRef.
_OBJECT_REFERENCES = (8, 9)


@dataclass(frozen=True, slots=True)
class Layout:
    """One of the layouts: what makes packets of bytes and bytes of packets and results in it.

    name: "old" or "new". decode_packet, encode_packet, encode_result, decode_result: as those of
    `microrpc.wire.packets`, with what clients of that layout send and can read.
    """

    name: str
    decode_packet: Callable[[Buffer], Packet]
    encode_packet: Callable[[Packet], bytes]
    encode_result: Callable[[Value | ArrayResult], Return]
    decode_result: Callable[[tuple[Value, ...]], Value | ArrayResult]
    has_type_code_in_free: bool
    """Whether a FreeHandle says what its handle is; where not, the server must remember."""


# --- the old layout, with what came to it after microrpc's boards -----------------------------


def _read_bool(buf: Buffer, at: int) -> tuple[bool, int]:
    return struct.unpack_from("<q", buf, at)[0] != 0, at + 8


def _read_object(buf: Buffer, at: int) -> tuple[ObjectHandle, int]:
    reference, handle = _OBJECT.unpack_from(buf, at)
    if reference not in _OBJECT_REFERENCES:
        raise malformed(f"an object of type {reference}, and only references to the server's own can be passed", at)
    return ObjectHandle(handle, reference), at + _OBJECT.size


_OLD_READERS = {**READERS, TypeCode.OBJECT: _read_object, _BOOL_CODE: _read_bool}
_OLD_PACKERS = {ObjectHandle: (TypeCode.OBJECT, lambda value: _OBJECT.pack(value.type_index, value.handle)), **PACKERS}
_OLD_SEQUENCES = Sequences(
    lambda values: encode_each(values, _OLD_PACKERS),
    lambda buf, at: decode_values(buf, at, _OLD_READERS),
    TypeCode.STR,
    client_only=(ModuleHandle, FunctionHandle, ObjectHandle),
)


def _encode_old(packet: Packet) -> bytes:
    if type(packet) is RemoteException:
        packet = RemoteException(clean_text(packet.message))
    return packets.encode_packet(packet, _OLD_SEQUENCES)


def _encode_old_result(value: Value | ArrayResult) -> Return:
    if isinstance(value, ObjectHandle):
        return Return((int(TypeCode.OBJECT), OpaqueHandle(value.handle)))
    return packets.encode_result(clean_text(value) if isinstance(value, str) else value)


OLD = Layout(
    "old",
    lambda body: packets.decode_packet(body, _OLD_SEQUENCES),
    _encode_old,
    _encode_old_result,
    packets.decode_result,
    has_type_code_in_free=True,
)
"""What TVM up to 0.20 speaks, and every board: docs/protocol.md 3, with objects (code 8) and Bool (code 15)."""
NEW = Layout(
    "new",
    new.decode_packet,
    new.encode_packet,
    new.encode_result,
    new.decode_result,
    has_type_code_in_free=False,
)
"""What TVM speaks from 0.21 on: docs/tvm_wire.md 2 to 4."""

# --- which one it is --------------------------------------------------------------------------

# The same bytes in both, and so nothing that tells.
_ALIKE = (PacketCode.SHUTDOWN, PacketCode.COPY_FROM_REMOTE, PacketCode.COPY_TO_REMOTE, PacketCode.COPY_ACK)
_RETURN_NONE = packets.RETURN_NONE
# A client does not look at what InitServer, and whatever returns None, is answered with, if it can read it. Both can
# read a device.
_READABLE_BY_BOTH = Return((CPU,))


def _fits(layout: Layout, packet: Packet) -> bool:
    """Whether a client that speaks `layout` says such a thing before anything else."""
    if not isinstance(packet, Syscall):
        return True
    args = packet.args
    if any((isinstance(value, Device) and value.type < 1) or isinstance(value, bool) for value in args):
        return False
    if packet.code == PacketCode.DEV_ALLOC_DATA_WITH_SCOPE and args:
        tensor = args[0]
        if isinstance(tensor, Tensor) and tensor.data != 0:  # nothing is allocated yet
            return False
    if packet.code == PacketCode.FREE_HANDLE and not layout.has_type_code_in_free:
        return list(map(type, args)) == [OpaqueHandle]
    try:
        return fits_signature(packet)
    except UnsupportedValueError:  # an object, which no syscall takes
        return not isinstance(packet.code, PacketCode)


def _read(layout: Layout, body: Buffer) -> Packet | ProtocolError:
    try:
        packet = layout.decode_packet(body)
    except ProtocolError as error:
        return error
    return packet if _fits(layout, packet) else malformed(f"not the arguments that syscall {i32_from(body)[0]} has", 4)


def _are_same(packet: Packet, other: Packet) -> bool:
    """Whether two packets are equal and of equal types: 1 is not True."""
    return repr(packet) == repr(other)


class LayoutFinder:
    """The codec of one connection: reads a client's packets in its layout, which the first that tells is asked for.

    What both layouts have alike (InitServer without arguments, copies, Shutdown) is read before it is known, and
    answered with what either client can read.
    """

    def __init__(self) -> None:
        self._found: Layout | None = None

    @property
    def layout(self) -> Layout:
        """The layout of this client; OLD until it is known, when only what is alike in both came."""
        return self._found or OLD

    @property
    def is_known(self) -> bool:
        """Whether the client has said something that tells."""
        return self._found is not None

    def decode_packet(self, body: Buffer) -> Packet:
        """The packet whose bytes after packet_nbytes are `body`, as `Layout.decode_packet` has it.

        Raises ProtocolError for what is no packet, and, before the layout is known, for what is one in both and says
        something else in each: no client begins so. Nothing is decided by what raises.
        """
        if self._found is not None:
            return self._found.decode_packet(body)
        if len(body) < 4 or i32_from(body)[0] in _ALIKE:
            return OLD.decode_packet(body)
        old, new = _read(OLD, body), _read(NEW, body)
        if isinstance(old, ProtocolError):
            if isinstance(new, ProtocolError):
                raise new
            return self._decide(NEW, new)
        if isinstance(new, ProtocolError):
            return self._decide(OLD, old)
        if not _are_same(old, new):
            told = "a first request that means one thing to TVM up to 0.20 and another to TVM from 0.21 on"
            raise ProtocolError("1", told, document=DOCUMENT)
        return old

    def _decide(self, layout: Layout, packet: Packet) -> Packet:
        if isinstance(packet, CallFunc | InitServer | Syscall):  # and no reply, which a server refuses
            self._found = layout
        return packet

    def encode_packet(self, packet: Packet) -> bytes:
        """The whole packet in the layout of the client. Raises as `Layout.encode_packet` does.

        Before that is known, a Return(None) is replaced by one that either can read; of what no packet of both can
        say, an exception for instance, the client of today gets its own.
        """
        if self._found is not None:
            return self._found.encode_packet(packet)
        return NEW.encode_packet(_READABLE_BY_BOTH if packet == _RETURN_NONE else packet)
