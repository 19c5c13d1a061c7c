"""Packets and results of today's TVM: bytes by hand from docs/tvm_wire.md 2 and 4."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrpc.errors import ProtocolError, UnsupportedValueError
from microrpc.wire.datatypes import (
    CPU,
    ArrayResult,
    DataType,
    Device,
    FunctionHandle,
    ModuleHandle,
    ObjectHandle,
    OpaqueHandle,
    Tensor,
    UInt,
    Value,
)
from microrpc.wire.packets import (
    CallFunc,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    InitServer,
    Packet,
    PacketCode,
    RemoteException,
    Return,
    Shutdown,
    Syscall,
)
from microrpc.wire.tvm.packets import decode_packet, decode_result, encode_packet, encode_result
from microrpc.wire.tvm.values import ByteArray, LongText

TENSOR = Tensor(0x10, CPU, DataType(2, 32), (3,))
TENSOR_BYTES = "1000000000000000 01000000 00000000 01000000 02200100 0300000000000000 0000000000000000"
PACKETS: list[tuple[Packet, str]] = [
    (Shutdown(), "0400000000000000 01000000"),
    (InitServer("0.8.0", ()), "1500000000000000 02000000 0500000000000000 302e382e30 00000000"),
    (
        InitServer("0.8.0", (LongText("rpc.X"), False)),
        "3600000000000000 02000000 0500000000000000 302e382e30 02000000 "
        "0b000000 41000000 0500000000000000 7270632e58 02000000 0000000000000000",
    ),
    (
        CallFunc(0x558B39AEDDB0, (2, 3)),
        "2800000000000000 03000000 b0ddae398b550000 02000000 01000000 0200000000000000 01000000 0300000000000000",
    ),
    (Return((None,)), "0c00000000000000 04000000 01000000 00000000"),
    (Return((1, 5)), "2000000000000000 04000000 02000000 01000000 0100000000000000 01000000 0500000000000000"),
    (RemoteException("no"), "1600000000000000 05000000 01000000 08000000 0200000000000000 6e6f"),
    (RemoteException(""), "1400000000000000 05000000 01000000 08000000 0000000000000000"),
    (CopyFromRemote(TENSOR, 12), "3400000000000000 06000000" + TENSOR_BYTES + "0c00000000000000"),
    (CopyToRemote(TENSOR, b"ab"), "3600000000000000 07000000" + TENSOR_BYTES + "0200000000000000 6162"),
    (CopyAck(b"abc"), "0700000000000000 08000000 616263"),
    (
        Syscall(PacketCode.GET_GLOBAL_FUNC, ("t.add",)),
        "1900000000000000 09000000 01000000 08000000 0500000000000000 742e616464",
    ),
    (
        Syscall(PacketCode.FREE_HANDLE, (OpaqueHandle(7),)),
        "1400000000000000 0a000000 01000000 04000000 0700000000000000",
    ),
    (
        Syscall(PacketCode.DEV_GET_ATTR, (CPU, 14)),
        "2000000000000000 0c000000 02000000 06000000 0100000000000000 01000000 0e00000000000000",
    ),
    (
        Syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (TENSOR, None)),
        "3800000000000000 11000000 02000000 07000000" + TENSOR_BYTES + "00000000",
    ),
    (
        Syscall(PacketCode.DEV_GET_CURRENT_STREAM, (CPU,)),
        "1400000000000000 15000000 01000000 06000000 0100000000000000",
    ),
    (Syscall(99, ()), "0800000000000000 63000000 00000000"),
]
IDS = [f"{type(packet).__name__}-{index}" for index, (packet, _) in enumerate(PACKETS)]


@pytest.mark.parametrize(("packet", "wire"), PACKETS, ids=IDS)
def test_a_packet_has_the_bytes_of_the_document(packet: Packet, wire: str) -> None:
    assert encode_packet(packet) == bytes.fromhex(wire)
    assert repr(decode_packet(bytes.fromhex(wire)[8:])) == repr(packet)


@pytest.mark.parametrize(("packet", "wire"), PACKETS, ids=IDS)
def test_a_packet_that_breaks_off_or_goes_on_is_refused(packet: Packet, wire: str) -> None:
    body = bytes.fromhex(wire)[8:]
    if isinstance(packet, CopyAck):
        return
    for wrong in (*(body[:end] for end in range(len(body))), body + b"\0"):
        with pytest.raises(ProtocolError, match=r"at byte \d+ of the packet's body \(docs/tvm_wire.md, section 3\)$"):
            decode_packet(wrong)


def test_the_text_of_an_exception_always_arrives_and_is_utf_8() -> None:
    for text, sent in (
        ("a\0b", rb"a\0b"),
        ("a\udcffb", "a\ufffdb".encode()),
        ("a\ud800b", rb"a\ud800b"),
        ("é", "é".encode()),
    ):
        assert encode_packet(RemoteException(text))[28:] == sent
        sent.decode()


@given(st.text())
def test_the_text_of_any_exception_can_be_sent(text: str) -> None:
    found = decode_packet(encode_packet(RemoteException(text))[8:])
    assert isinstance(found, RemoteException)
    found.message.encode()
    assert "\0" not in found.message


@pytest.mark.parametrize("handle", [FunctionHandle(1), ModuleHandle(1), ObjectHandle(1)])
def test_handles_that_only_clients_send_are_in_no_return(handle: Value) -> None:
    with pytest.raises(UnsupportedValueError, match="goes from client to server only"):
        encode_packet(Return((handle,)))
    body = b"\4" + encode_packet(CallFunc(1, (handle,)))[9:12] + encode_packet(CallFunc(1, (handle,)))[20:]
    with pytest.raises(ProtocolError, match="goes from client to server only"):
        decode_packet(body)


# --- results ----------------------------------------------------------------------------------

ARRAY = ArrayResult(TENSOR, OpaqueHandle(9))
RESULTS: list[tuple[Value | ArrayResult, tuple[Value, ...]]] = [
    (None, (0, None)),
    (5, (1, 5)),
    (True, (2, True)),
    (0.5, (3, 0.5)),
    (OpaqueHandle(4), (4, OpaqueHandle(4))),
    (DataType(0, 8), (5, DataType(0, 8))),
    (Device(1, 0), (6, Device(1, 0))),
    (TENSOR, (7, TENSOR)),
    ("abc", (65, "abc")),
    ("a\0c", (65, LongText("a\0c"))),
    (ByteArray(b"abc"), (66, ByteArray(b"abc"))),
    (FunctionHandle(6), (68, OpaqueHandle(6))),
    (ModuleHandle(7), (73, OpaqueHandle(7))),
    (ObjectHandle(8, 71), (71, OpaqueHandle(8))),
    (ARRAY, (70, TENSOR, OpaqueHandle(9))),
]


def shown(values: tuple[Value, ...]) -> list[tuple[str, Value]]:
    return [(type(value).__name__, value) for value in values]


@pytest.mark.parametrize(("value", "values"), RESULTS, ids=[repr(value)[:30] for value, _ in RESULTS])
def test_a_result_is_announced_by_its_type_index(value: Value | ArrayResult, values: tuple[Value, ...]) -> None:
    assert shown(encode_result(value).values) == shown(values)
    found = decode_result(values)
    assert found == value
    assert type(found) is type(values[1] if isinstance(value, str) else value)
    sent = decode_packet(encode_packet(encode_result(value))[8:])
    assert isinstance(sent, Return)
    assert shown(sent.values) == shown(values)


@pytest.mark.parametrize(
    ("value", "values"),
    [
        (b"abc", (66, ByteArray(b"abc"))),
        (bytearray(b"abc"), (66, ByteArray(b"abc"))),
        (memoryview(b"abc"), (66, ByteArray(b"abc"))),
        (UInt(5), (1, UInt(5))),
        (np.int8(5), (1, np.int8(5))),
        (np.float32(0.5), (3, np.float32(0.5))),
        ("a\udcff", (65, "a\ufffd")),
        ("\ud800", (65, "\\ud800")),
    ],
)
def test_what_a_board_gives_is_made_what_a_client_takes(value: Value, values: tuple[Value, ...]) -> None:
    assert shown(encode_result(value).values) == shown(values)


def test_the_index_of_a_tensor_can_be_that_of_0_21() -> None:
    assert encode_result(ARRAY, tensor_index=72).values == (72, TENSOR, OpaqueHandle(9))
    assert decode_result((72, TENSOR, OpaqueHandle(9))) == ARRAY
    assert decode_result((72, OpaqueHandle(9))) == ObjectHandle(9, 72)


def test_a_result_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(UnsupportedValueError):
        encode_result([1])  # type: ignore[arg-type]
    with pytest.raises(UnsupportedValueError, match="out of range"):
        encode_packet(encode_result(UInt(2**63)))


@pytest.mark.parametrize(
    ("values", "value"),
    [
        ((0,), None),
        ((11, "ab"), "ab"),
        ((8, "ab"), "ab"),
        ((65, LongText("ab")), LongText("ab")),
        ((12, ByteArray(b"a")), ByteArray(b"a")),
        ((66, b"a"), b"a"),
        ((7, TENSOR, OpaqueHandle(0)), ArrayResult(TENSOR, OpaqueHandle(0))),
    ],
)
def test_the_other_forms_of_results_are_read(values: tuple[Value, ...], value: Value | ArrayResult) -> None:
    found = decode_result(values)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    "values",
    [
        (), (5,), (1,), (1, 2.0), (1, True), (True, 1), (2, 1), (3, 1), (8, b"a"), (65, 5), (65, OpaqueHandle(5)),
        (66, "a"), (68, 5), (70, OpaqueHandle(5), 5), (71, TENSOR, OpaqueHandle(5)), (0, None, None), (None, None),
        (OpaqueHandle(1), 1), (70, TENSOR), (70, OpaqueHandle(1)), (63, OpaqueHandle(1)),
    ],
)  # fmt: skip
def test_what_is_no_result_is_refused(values: tuple[Value, ...]) -> None:
    with pytest.raises(ProtocolError, match=r"a result is a type index and a value of that type, not \(.*section 4"):
        decode_result(values)
