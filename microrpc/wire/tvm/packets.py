"""RPC packets as TVM has had them since 0.21: requests and replies <-> bytes (docs/tvm_wire.md 2, 4).

The packets are those of `microrpc.wire.packets`, with sequences of another layout (`microrpc.wire.tvm.values`), a
FreeHandle without a type code, and results announced by type indices.
"""

from __future__ import annotations

import numpy as np

from microrpc.errors import ProtocolError
from microrpc.wire import packets
from microrpc.wire.datatypes import (
    ArrayResult,
    DataType,
    Device,
    FunctionHandle,
    ModuleHandle,
    ObjectHandle,
    OpaqueHandle,
    Tensor,
    Value,
)
from microrpc.wire.packets import Packet, RemoteException, Return, Sequences
from microrpc.wire.tvm.values import DOCUMENT, ByteArray, LongText, TypeIndex, decode_values, encode_values, is_object
from microrpc.wire.values import Buffer, find_for

_SEQUENCES = Sequences(
    encode_values, decode_values, TypeIndex.RAW_STR, client_only=(ModuleHandle, FunctionHandle, ObjectHandle)
)


def clean_text(text: str) -> str:
    """Give a text that is UTF-8: a client's Python fails on any other. What is not is replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        except UnicodeEncodeError:
            return text.encode("utf-8", "backslashreplace").decode()
    return text


def encode_packet(packet: Packet) -> bytes:
    """The whole packet, from packet_nbytes (u64) on (docs/tvm_wire.md 2).

    Raises as `microrpc.wire.packets.encode_packet`, and UnsupportedValueError for a Return with an ObjectHandle in it.
    The text of a RemoteException is always sent: what is not UTF-8 is replaced, and a NUL becomes a backslash and a 0.
    """
    if type(packet) is RemoteException:
        packet = RemoteException(clean_text(packet.message))
    return packets.encode_packet(packet, _SEQUENCES)


def decode_packet(body: Buffer) -> Packet:
    """The packet whose bytes after packet_nbytes are `body` (docs/tvm_wire.md 2).

    Raises ProtocolError where `body` is not exactly one packet. A FreeHandle is a Syscall with one OpaqueHandle.
    """
    try:
        return packets.decode_packet(body, _SEQUENCES)
    except ProtocolError as error:
        raise ProtocolError(error.section, error.reason, document=DOCUMENT) from None


# --- results of CallFunc ----------------------------------------------------------------------

_INDICES: dict[type, TypeIndex] = {
    bool: TypeIndex.BOOL,
    float: TypeIndex.FLOAT,
    OpaqueHandle: TypeIndex.OPAQUE_POINTER,
    type(None): TypeIndex.NONE,
    DataType: TypeIndex.DATA_TYPE,
    Device: TypeIndex.DEVICE,
    Tensor: TypeIndex.DL_TENSOR,
    np.bool_: TypeIndex.BOOL,
    np.integer: TypeIndex.INT,
    np.floating: TypeIndex.FLOAT,
    int: TypeIndex.INT,  # UInt, too; the last, for the handles are ints
}


def encode_result(value: Value | ArrayResult, *, tensor_index: int = TypeIndex.TENSOR) -> Return:
    """The Return of a function that returned `value`: its type index, then the value (docs/tvm_wire.md 4).

    tensor_index: what stands before a tensor that is given away; TVM 0.21 wants 72 there. Text that is not UTF-8 is
    replaced. Raises UnsupportedValueError for a type that cannot be sent; `encode_packet` refuses values out of range.
    """
    values: tuple[Value, ...]
    match value:
        case ArrayResult(tensor, handle):
            values = (int(tensor_index), tensor, handle)
        case str():
            text = clean_text(value)
            values = (int(TypeIndex.STR), LongText(text) if "\0" in text else text)
        case bytes() | bytearray() | memoryview():
            values = (int(TypeIndex.BYTES), ByteArray(value))
        case FunctionHandle():
            values = (int(TypeIndex.FUNCTION), OpaqueHandle(value))
        case ModuleHandle():
            values = (int(TypeIndex.MODULE), OpaqueHandle(value))
        case ObjectHandle(handle, type_index):
            values = (type_index, OpaqueHandle(handle))
        case _:
            values = (int(find_for(_INDICES, 0, value)), value)
    return Return(values)


_RESULT_TYPES: dict[int, tuple[type, ...]] = {
    TypeIndex.NONE: (type(None),),
    TypeIndex.INT: (int,),
    TypeIndex.BOOL: (bool,),
    TypeIndex.FLOAT: (float,),
    TypeIndex.OPAQUE_POINTER: (OpaqueHandle,),
    TypeIndex.DATA_TYPE: (DataType,),
    TypeIndex.DEVICE: (Device,),
    TypeIndex.DL_TENSOR: (Tensor,),
    TypeIndex.RAW_STR: (str, LongText),
    TypeIndex.SMALL_STR: (str, LongText),
    TypeIndex.STR: (str, LongText),
    TypeIndex.BYTE_ARRAY: (ByteArray, bytes),
    TypeIndex.SMALL_BYTES: (ByteArray, bytes),
    TypeIndex.BYTES: (ByteArray, bytes),
}


_HANDLE_RESULTS: dict[int, type[FunctionHandle | ModuleHandle]] = {
    TypeIndex.FUNCTION: FunctionHandle,
    TypeIndex.MODULE: ModuleHandle,
}


def decode_result(values: tuple[Value, ...]) -> Value | ArrayResult:
    """What a function returned, from the values of its Return as `decode_packet` gives them (docs/tvm_wire.md 4).

    Gives None for a void function; FunctionHandle, ModuleHandle, ObjectHandle (which may be 0) and ArrayResult where
    the result is one. Raises ProtocolError where the values do not have the form of a result.
    """
    match values:
        case (int(index), value) if type(index) is int:
            if type(value) in _RESULT_TYPES.get(index, ()):
                return value
            if isinstance(value, OpaqueHandle):
                if index in _HANDLE_RESULTS:
                    return _HANDLE_RESULTS[index](value)
                if is_object(index) and index != TypeIndex.TENSOR:
                    return ObjectHandle(int(value), index)
        case (int(index), Tensor() as tensor, OpaqueHandle() as handle) if type(index) is int:
            if index in (TypeIndex.DL_TENSOR, TypeIndex.TENSOR, TypeIndex.MAP):  # a tensor of TVM 0.21 has Map's
                return ArrayResult(tensor, handle)
        case (0,) if type(values[0]) is int:
            return None
    form = [str(value) if type(value) is int else type(value).__name__ for value in values[:4]]
    form_text = f"a result is a type index and a value of that type, not ({', '.join(form)})"
    raise ProtocolError("4", form_text, document=DOCUMENT)
