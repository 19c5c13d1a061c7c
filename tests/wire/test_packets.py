from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrpc.errors import ProtocolError, UnsupportedValueError
from microrpc.host.blocks import plan_copy
from microrpc.wire.datatypes import (
    CPU,
    ArrayResult,
    DataType,
    Device,
    FunctionHandle,
    ModuleHandle,
    OpaqueHandle,
    Tensor,
    UInt,
)
from microrpc.wire.packets import (
    PROTOCOL_VERSION,
    RETURN_NONE,
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
    decode_packet,
    decode_result,
    encode_packet,
    encode_result,
)
from microrpc.wire.values import decode_values, encode_values

TENSOR = Tensor(0x1122334455667788, Device(1, 0), DataType(2, 32), (3, 5), 4)
# data u64, device type i32, id i32, ndim i32, dtype u8 u8 u16, shape i64 x 2, byte_offset u64
TENSOR_HEX = "8877665544332211 01000000 00000000 02000000 02 20 0100 0300000000000000 0500000000000000 0400000000000000"


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)


# --- every packet, by hand --------------------------------------------------------------------

# packet_nbytes u64, code i32, then the body; a sequence is count i32, type codes i32, values.
PACKETS: list[tuple[Packet, str]] = [
    (Shutdown(), "0400000000000000 01000000"),
    # version length u64, version, one Str
    (
        InitServer("0.8.0", ("ab",)),
        "2300000000000000 02000000 0500000000000000 302e382e30 01000000 0b000000 0200000000000000 6162",
    ),
    (InitServer("0.8.0", ()), "1500000000000000 02000000 0500000000000000 302e382e30 00000000"),
    # handle u64, no arguments
    (CallFunc(0x80000001, ()), "1000000000000000 03000000 0100008000000000 00000000"),
    # add(2, -3)
    (
        CallFunc(0x80000001, (2, -3)),
        "2800000000000000 03000000 0100008000000000 02000000 00000000 00000000 0200000000000000 fdffffffffffffff",
    ),
    (RETURN_NONE, "0c00000000000000 04000000 01000000 04000000"),
    # the result 5: (Int 0, Int 5)
    (
        Return((0, 5)),
        "2000000000000000 04000000 02000000 00000000 00000000 0000000000000000 0500000000000000",
    ),
    (RemoteException("no"), "1600000000000000 05000000 01000000 0b000000 0200000000000000 6e6f"),
    (RemoteException(""), "1400000000000000 05000000 01000000 0b000000 0000000000000000"),
    (CopyFromRemote(TENSOR, 9), f"3c00000000000000 06000000 {TENSOR_HEX} 0900000000000000"),
    (CopyToRemote(TENSOR, b"\xff\x00\x01"), f"3f00000000000000 07000000 {TENSOR_HEX} 0300000000000000 ff0001"),
    (CopyToRemote(TENSOR, b""), f"3c00000000000000 07000000 {TENSOR_HEX} 0000000000000000"),
    (CopyAck(b"\xff\x00\x01"), "0700000000000000 08000000 ff0001"),
    (CopyAck(b""), "0400000000000000 08000000"),
    (Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",)), "1500000000000000 09000000 01000000 0b000000 0100000000000000 66"),
    (
        Syscall(PacketCode.FREE_HANDLE, (OpaqueHandle(0xABCD), 10)),
        "2000000000000000 0a000000 02000000 03000000 00000000 cdab000000000000 0a00000000000000",
    ),
    (Syscall(PacketCode.DEV_SET_DEVICE, (CPU,)), "1400000000000000 0b000000 01000000 06000000 01000000 00000000"),
    (
        Syscall(PacketCode.DEV_GET_ATTR, (CPU, 0)),
        "2000000000000000 0c000000 02000000 06000000 00000000 01000000 00000000 0000000000000000",
    ),
    # device, nbytes, alignment, type hint: u8 code, u8 bits, u16 lanes, i32 padding
    (
        Syscall(PacketCode.DEV_ALLOC_DATA, (CPU, 64, 8, DataType(2, 32))),
        "3800000000000000 0d000000 04000000 06000000 00000000 00000000 05000000"
        "01000000 00000000 4000000000000000 0800000000000000 02 20 0100 00000000",
    ),
    (
        Syscall(PacketCode.DEV_FREE_DATA, (CPU, OpaqueHandle(1))),
        "2000000000000000 0e000000 02000000 06000000 03000000 01000000 00000000 0100000000000000",
    ),
    (
        Syscall(PacketCode.DEV_STREAM_SYNC, (CPU, OpaqueHandle(0))),
        "2000000000000000 0f000000 02000000 06000000 03000000 01000000 00000000 0000000000000000",
    ),
    (
        Syscall(PacketCode.COPY_AMONG_REMOTE, (TENSOR, TENSOR, OpaqueHandle(0))),
        f"7c00000000000000 10000000 03000000 07000000 07000000 03000000 {TENSOR_HEX} {TENSOR_HEX} 0000000000000000",
    ),
    (
        Syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (TENSOR, None)),
        f"4000000000000000 11000000 02000000 07000000 04000000 {TENSOR_HEX}",
    ),
    (
        Syscall(PacketCode.DEV_CREATE_STREAM, (Device(2, 3),)),
        "1400000000000000 12000000 01000000 06000000 02000000 03000000",
    ),
    (
        Syscall(PacketCode.DEV_FREE_STREAM, (CPU, OpaqueHandle(7))),
        "2000000000000000 13000000 02000000 06000000 03000000 01000000 00000000 0700000000000000",
    ),
    (
        Syscall(PacketCode.DEV_SET_STREAM, (CPU, OpaqueHandle(7))),
        "2000000000000000 14000000 02000000 06000000 03000000 01000000 00000000 0700000000000000",
    ),
    (Syscall(22, (None,)), "0c00000000000000 16000000 01000000 04000000"),
    (Syscall(2**31 - 1, ()), "0800000000000000 ffffff7f 00000000"),
]
IDS = [f"{type(packet).__name__}-{number}" for number, (packet, _) in enumerate(PACKETS)]


@pytest.mark.parametrize(("packet", "wire"), PACKETS, ids=IDS)
def test_every_packet_has_its_exact_bytes(packet: Packet, wire: str) -> None:
    assert encode_packet(packet).hex() == _hex(wire).hex()


@pytest.mark.parametrize("container", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(("packet", "wire"), PACKETS, ids=IDS)
def test_every_packet_is_read_back(packet: Packet, wire: str, container: type[bytes]) -> None:
    decoded = decode_packet(container(_hex(wire)[8:]))
    assert decoded == packet
    assert type(decoded) is type(packet)
    assert repr(decoded) == repr(packet)  # == alone would take True for 1, or a handle for an int


@pytest.mark.parametrize(("packet", "wire"), PACKETS, ids=IDS)
def test_a_packet_cut_short_anywhere_is_a_protocol_error(packet: Packet, wire: str) -> None:
    body = _hex(wire)[8:]
    for length in range(len(body)):
        if isinstance(packet, CopyAck) and length >= 4:
            assert decode_packet(body[:length]) == CopyAck(body[4:length])
            continue
        with pytest.raises(ProtocolError) as caught:
            decode_packet(body[:length])
        assert caught.value.section == "3"
        assert "at byte" in caught.value.reason


@pytest.mark.parametrize(("packet", "wire"), PACKETS, ids=IDS)
def test_bytes_left_over_after_a_packet_are_a_protocol_error(packet: Packet, wire: str) -> None:
    if isinstance(packet, CopyAck):
        return
    body = _hex(wire)[8:]
    with pytest.raises(ProtocolError) as caught:
        decode_packet(body + b"\0\0")
    expected = f"2 bytes are left over after a packet of code {body[0] if body[3] == 0 else 2**31 - 1}"
    assert caught.value.reason == f"{expected}, at byte {len(body)} of the packet's body"


def test_packet_codes_and_labels_are_those_of_the_protocol() -> None:
    labels = [code.label for code in sorted(PacketCode)]
    assert [int(code) for code in sorted(PacketCode)] == list(range(1, 22))
    assert " ".join(labels) == (
        "Shutdown InitServer CallFunc Return Exception CopyFromRemote CopyToRemote CopyAck GetGlobalFunc FreeHandle "
        "DevSetDevice DevGetAttr DevAllocData DevFreeData DevStreamSync CopyAmongRemote DevAllocDataWithScope "
        "DevCreateStream DevFreeStream DevSetStream DevGetCurrentStream"
    )
    assert PROTOCOL_VERSION == "0.8.0"


def test_a_known_syscall_code_is_decoded_as_an_enum_and_an_unknown_one_as_an_int() -> None:
    known = decode_packet(_hex("09000000 00000000"))
    unknown = decode_packet(_hex("16000000 00000000"))
    assert isinstance(known, Syscall)
    assert isinstance(unknown, Syscall)
    assert type(known.code) is PacketCode
    assert type(unknown.code) is int


@pytest.mark.parametrize("code", [0, -1, -(2**31)])
def test_an_unknown_packet_code_is_a_protocol_error(code: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_packet(struct.pack("<i", code) + bytes(16))
    assert caught.value.reason == f"the unknown packet code {code}, at byte 0 of the packet's body"


@pytest.mark.parametrize(("claimed", "present"), [(2, 3), (4, 3), (2**64 - 1, 3), (2**62, 0)])
def test_a_copy_whose_nbytes_is_not_what_is_there_is_a_protocol_error(claimed: int, present: int) -> None:
    body = encode_packet(CopyToRemote(TENSOR, b""))[8:-8] + struct.pack("<Q", claimed) + bytes(present)
    with pytest.raises(ProtocolError):
        decode_packet(body)


@pytest.mark.parametrize("values", [(), (5,), ("a", "b"), (None,), (b"text",)])
def test_an_exception_is_exactly_one_str(values: tuple[Any, ...]) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_packet(_hex("05000000") + encode_values(values))
    assert caught.value.reason == "an Exception that is not one Str, at byte 4 of the packet's body"


@pytest.mark.parametrize("handle", [ModuleHandle(3), FunctionHandle(3)])
def test_a_return_never_holds_a_module_or_function_handle(handle: ModuleHandle | FunctionHandle) -> None:
    name = type(handle).__name__
    with pytest.raises(UnsupportedValueError) as refused:
        encode_packet(Return((0, handle)))
    assert str(refused.value) == (f"ValueError: Cannot pass argument 1, type {name} goes from client to server only")
    with pytest.raises(ProtocolError) as caught:
        decode_packet(_hex("04000000") + encode_values((0, handle)))
    assert caught.value.reason.startswith(f"a Return with a {name}, which goes from client to server only")


def test_decoded_packets_do_not_keep_the_buffer() -> None:
    buffer = bytearray(encode_packet(CopyToRemote(TENSOR, b"abcd"))[8:])
    packet = decode_packet(memoryview(buffer))
    buffer[-4:] = b"zzzz"
    assert packet == CopyToRemote(TENSOR, b"abcd")
    assert isinstance(packet, CopyToRemote)
    assert type(packet.data) is bytes


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"abcdefgh"),
        memoryview(b"xabcdefghx")[1:-1],
        memoryview(b"a.b.c.d.e.f.g.h.")[::2],
        np.frombuffer(b"abcdefgh", "<u4").data,
        np.asfortranarray(np.frombuffer(b"abcdefgh", "<u2").reshape(2, 2)).data,
        bytearray(b"abcdefgh"),
        np.frombuffer(b"abcdefgh", "<u2"),  # which is a buffer as well
    ],
)
def test_the_data_of_a_copy_may_be_any_view(view: memoryview | bytearray) -> None:
    raw = bytes(view)
    assert encode_packet(CopyToRemote(TENSOR, view)) == encode_packet(CopyToRemote(TENSOR, raw))
    assert encode_packet(CopyAck(view)) == encode_packet(CopyAck(raw))  # type: ignore[arg-type]


def test_the_data_of_a_copy_may_be_an_empty_array() -> None:
    view = np.zeros((0, 3), "f4").data
    assert encode_packet(CopyToRemote(TENSOR, view)) == encode_packet(CopyToRemote(TENSOR, b""))


@pytest.mark.parametrize(
    "packet",
    [
        CallFunc(-1, ()),
        CallFunc(2**64, ()),
        CopyFromRemote(TENSOR, -1),
        CopyFromRemote(TENSOR, 2**64),
        Syscall(2**31, ()),
        Syscall(8, ()),
        CopyFromRemote(Tensor(-1, CPU, DataType(0, 8), (1,)), 1),
        CopyToRemote(Tensor(0, CPU, DataType(0, 8), (2**63,)), b""),
        CopyToRemote(Tensor(0, CPU, DataType(0, 8), (), -1), b""),
    ],
)
def test_a_packet_with_a_number_out_of_its_field_cannot_be_sent(packet: Packet) -> None:
    with pytest.raises(UnsupportedValueError):
        encode_packet(packet)


def test_what_is_not_a_packet_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="is not a packet"):
        encode_packet("Shutdown")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("message", "sent"),
    [("a\0b", "a\\0b"), ("\ud800", "\\ud800"), ("\udc80", "\udc80"), ("gr\u00fc\u00df", "gr\u00fc\u00df")],
)
def test_the_text_of_an_exception_can_always_be_sent(message: str, sent: str) -> None:
    assert decode_packet(encode_packet(RemoteException(message))[8:]) == RemoteException(sent)


# --- packed sequences -------------------------------------------------------------------------

# The type code, and the value on the wire.
VALUES: list[tuple[Any, int, str]] = [
    (0, 0, "0000000000000000"),
    (-1, 0, "ffffffffffffffff"),
    (2**63 - 1, 0, "ffffffffffffff7f"),
    (-(2**63), 0, "0000000000000080"),
    (UInt(5), 1, "0500000000000000"),
    (UInt(2**64 - 1), 1, "ffffffffffffffff"),
    (1.5, 2, "000000000000f83f"),
    (float("-inf"), 2, "000000000000f0ff"),
    (OpaqueHandle(2**64 - 1), 3, "ffffffffffffffff"),
    (None, 4, ""),
    (DataType(2, 16, 4), 5, "02 10 0400 00000000"),
    (Device(2, 3), 6, "02000000 03000000"),
    (Device(-1, -1), 6, "ffffffff ffffffff"),
    (TENSOR, 7, TENSOR_HEX),
    (
        Tensor(0, CPU, DataType(0, 8), ()),
        7,
        "0000000000000000 01000000 00000000 00000000 00 08 0100 0000000000000000",
    ),
    (ModuleHandle(0x80000000), 9, "0000008000000000"),
    (FunctionHandle(0x8000000000000001), 10, "0100000000000080"),
    ("", 11, "0000000000000000"),
    ("h\u00e9", 11, "0300000000000000 68c3a9"),
    ("\udcff", 11, "0100000000000000 ff"),
    (b"", 12, "0000000000000000"),
    (b"\x00\xff", 12, "0200000000000000 00ff"),
]


@pytest.mark.parametrize(("value", "code", "wire"), VALUES, ids=[repr(value)[:40] for value, _, _ in VALUES])
def test_every_type_has_its_exact_bytes_and_comes_back_as_it_was(value: Any, code: int, wire: str) -> None:
    raw = struct.pack("<ii", 1, code) + _hex(wire)
    assert encode_values((value,)) == raw
    (decoded,), end = decode_values(raw)
    assert end == len(raw)
    assert type(decoded) is type(value)
    assert decoded == value


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (True, 1),
        (False, 0),
        (np.bool_(True), 1),
        (np.int8(-3), -3),
        (np.uint8(200), 200),
        (np.int64(-(2**63)), -(2**63)),
        (np.uint64(7), 7),
        (np.float16(0.5), 0.5),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float64(0.1), 0.1),
        (np.str_("ab"), "ab"),
        (np.bytes_(b"ab"), b"ab"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        (memoryview(b"a.b.")[::2], b"ab"),
        (np.array([0x6261], "<u2").data, b"ab"),
        (PacketCode.RETURN, 4),
    ],
    ids=lambda value: "memoryview" if isinstance(value, memoryview) else repr(value),  # whose repr has its address
)
def test_python_and_numpy_scalars_travel_as_their_plain_kind(value: Any, same: Any) -> None:
    assert encode_values((value,)) == encode_values((same,))


def test_subclasses_of_handles_keep_their_type_code() -> None:
    class Buffer(OpaqueHandle):
        pass

    assert encode_values((Buffer(5),)) == encode_values((OpaqueHandle(5),))


@pytest.mark.parametrize("value", [[1], {}, object(), 1j, np.datetime64(0, "s"), np.timedelta64(1, "s"), int, {1}])
def test_other_types_are_refused_with_their_index_and_name(value: Any) -> None:
    with pytest.raises(UnsupportedValueError) as caught:
        encode_values((1, value))
    name = type(value).__name__
    assert str(caught.value) == f"ValueError: Cannot pass argument 1, type {name} is not supported by RPC"


def test_a_numpy_array_is_refused_with_a_hint() -> None:
    with pytest.raises(UnsupportedValueError) as caught:
        encode_packet(CallFunc(1, (np.zeros(3),)))  # type: ignore[arg-type]
    assert str(caught.value) == (
        "ValueError: Cannot pass argument 0, type ndarray is not supported by RPC; "
        "copy it to the board first: board.array(x)"
    )


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        -(2**63) - 1,
        10**5000,
        np.uint64(2**63),
        UInt(-1),
        UInt(2**64),
        OpaqueHandle(-1),
        ModuleHandle(2**64),
        FunctionHandle(-5),
        Device(1, 2**31),
        Device(-(2**31) - 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numbers_out_of_range_are_refused_with_their_index(value: Any) -> None:
    with pytest.raises(UnsupportedValueError, match=r"^ValueError: Cannot pass argument 2, \w+ out of range"):
        encode_values((1, None, value))


@pytest.mark.parametrize("value", [Device(129), Tensor(0, Device(128 * 2 + 1), DataType(0, 8), (1,))])
def test_a_device_of_an_rpc_session_is_refused(value: Device | Tensor) -> None:
    with pytest.raises(UnsupportedValueError) as caught:
        encode_values((value,))
    assert str(caught.value) == "InternalError: cannot pass RPC device in the channel"


def test_a_device_of_an_rpc_session_from_the_peer_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="a device of type 129 carries an RPC session mask, at byte 8 "):
        decode_values(_hex("01000000 06000000 81000000 00000000"))
    tensor = bytearray(encode_values((TENSOR,)))
    tensor[16] = 129
    with pytest.raises(ProtocolError, match="a device of type 129 carries an RPC session mask, at byte 16 "):
        decode_values(tensor)


def test_a_str_with_a_nul_is_refused_because_the_rest_would_be_lost() -> None:
    with pytest.raises(UnsupportedValueError, match="a Str ends at its first NUL"):
        encode_values(("a\0b",))


def test_a_lone_surrogate_that_is_no_escaped_byte_is_refused() -> None:
    with pytest.raises(UnsupportedValueError, match="a str that is not text cannot be sent"):
        encode_values(("\ud800",))


def test_a_tensor_with_a_negative_extent_is_refused() -> None:
    with pytest.raises(UnsupportedValueError, match=r"a tensor of shape \(2, -1\) cannot be sent"):
        encode_values((Tensor(0, CPU, DataType(0, 8), (2, -1)),))


def test_a_str_ends_at_its_first_nul_and_what_follows_it_is_still_in_step() -> None:
    # two Str of 5 bytes: "ab\0cd", "\0\0\0\0\0"; an Int 7
    raw = _hex(
        "03000000 0b000000 0b000000 00000000 0500000000000000 6162006364 0500000000000000 0000000000 0700000000000000"
    )
    assert decode_values(raw) == (("ab", "", 7), len(raw))


def test_bytes_of_a_str_that_are_not_utf_8_come_back_the_same() -> None:
    raw = _hex("01000000 0b000000 0400000000000000 c3ff80e2")
    (text,), _ = decode_values(raw)
    assert text == "\udcc3\udcff\udc80\udce2"
    assert encode_values((text,)) == raw


def test_the_padding_of_a_data_type_is_ignored_as_the_reference_does() -> None:
    assert decode_values(_hex("01000000 05000000 02 20 0100 ffffffff"))[0] == (DataType(2, 32),)


def test_a_sequence_is_read_from_its_offset_to_its_end() -> None:
    raw = b"xyz" + encode_values((1, "a")) + b"rest"
    assert decode_values(raw, 3) == ((1, "a"), len(raw) - 4)
    assert decode_values(memoryview(raw), 3) == ((1, "a"), len(raw) - 4)


@pytest.mark.parametrize(
    ("code", "name"), [(8, "Object"), (13, "NDArray"), (14, "ObjectRValueRef"), (15, "15"), (-1, "-1"), (99, "99")]
)
def test_type_codes_that_never_cross_are_refused(code: int, name: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_values(struct.pack("<iiiq", 2, 0, code, 5) + bytes(64))
    assert caught.value.reason == (
        f"ValueError: Cannot pass argument 1, type {name} is not supported by RPC, at byte 8 of the packet's body"
    )


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ("ffffffff 00000000", "a sequence of -1 arguments with 4 bytes after it, at byte 0 of the packet's body"),
        ("02000000 04000000", "a sequence of 2 arguments with 4 bytes after it, at byte 0 of the packet's body"),
        (
            "ffffff7f 04000000",
            "a sequence of 2147483647 arguments with 4 bytes after it, at byte 0 of the packet's body",
        ),
        ("010000", "the number of arguments needs 4 bytes and 3 are there, at byte 0 of the packet's body"),
        (
            "01000000 00000000 00000000000000",
            "argument 0 of type code 0 does not fit the 7 bytes that are left, at byte 8 of the packet's body",
        ),
        (
            "02000000 04000000 02000000",
            "argument 1 of type code 2 does not fit the 0 bytes that are left, at byte 12 of the packet's body",
        ),
        (
            "01000000 0b000000 0300000000000000 6162",
            "a Str needs 3 bytes and 2 are there, at byte 16 of the packet's body",
        ),
        (
            "01000000 0c000000 ffffffffffffffff",
            "a Bytes needs 18446744073709551615 bytes and 0 are there, at byte 16 of the packet's body",
        ),
        (
            # ndim = 2**31 - 1
            "01000000 07000000 0000000000000000 01000000 00000000 ffffff7f 02200100 0000000000000000",
            "a tensor of 2147483647 dimensions needs 17179869208 bytes and 32 are there, at byte 8 of the "
            "packet's body",
        ),
        (
            "01000000 07000000 0000000000000000 01000000 00000000 feffffff 02200100 0000000000000000",
            "a tensor with -2 dimensions, at byte 24 of the packet's body",
        ),
        (
            # shape = (-3,)
            "01000000 07000000 0000000000000000 01000000 00000000 01000000 02200100fdffffffffffffff 0000000000000000",
            "a tensor with the negative extent -3, at byte 32 of the packet's body",
        ),
    ],
)
def test_lengths_from_the_peer_are_checked_against_what_is_there(wire: str, reason: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_values(_hex(wire))
    assert caught.value.reason == reason
    assert str(caught.value) == f"{reason} (docs/protocol.md, section 3)"


# --- against an encoder that shares nothing with the codec ---------------------------------------


def _plain_value(code: int, value: Any) -> Any:
    if code == 0:
        return value.to_bytes(8, "little", signed=True)
    if code in (1, 3, 9, 10):
        return value.to_bytes(8, "little")
    if code == 2:
        return struct.pack("<d", value)
    if code == 4:
        return b""
    if code == 5:
        return bytes([value.code, value.bits]) + value.lanes.to_bytes(2, "little") + bytes(4)
    if code == 6:
        return struct.pack("<2i", value.type, value.id)
    if code == 7:
        parts = [struct.pack("<Q2ii", value.data, value.device.type, value.device.id, len(value.shape))]
        parts.append(bytes([value.dtype.code, value.dtype.bits]) + value.dtype.lanes.to_bytes(2, "little"))
        parts += [extent.to_bytes(8, "little") for extent in value.shape]
        return b"".join(parts) + value.byte_offset.to_bytes(8, "little")
    raw = value if code == 12 else value.encode()
    return len(raw).to_bytes(8, "little") + raw


U64 = st.integers(0, 2**64 - 1)
I32 = st.integers(-(2**31), 2**31 - 1)
DEVICES = st.builds(Device, st.integers(-(2**31), 127), I32)
DATA_TYPES = st.builds(DataType, st.integers(0, 255), st.integers(0, 255), st.integers(0, 65535))
TENSORS = st.builds(Tensor, U64, DEVICES, DATA_TYPES, st.lists(st.integers(0, 2**63 - 1), max_size=5).map(tuple), U64)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
FOR_ALL = [
    st.tuples(st.just(0), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(1), U64.map(UInt)),
    st.tuples(st.just(2), st.floats(allow_nan=False)),
    st.tuples(st.just(3), U64.map(OpaqueHandle)),
    st.tuples(st.just(4), st.none()),
    st.tuples(st.just(5), DATA_TYPES),
    st.tuples(st.just(6), DEVICES),
    st.tuples(st.just(7), TENSORS),
    st.tuples(st.just(11), TEXTS),
    st.tuples(st.just(12), st.binary(max_size=20)),
]
TYPED = st.one_of(
    *FOR_ALL, st.tuples(st.just(9), U64.map(ModuleHandle)), st.tuples(st.just(10), U64.map(FunctionHandle))
)


def _plain_sequence(typed: list[tuple[int, Any]]) -> bytes:
    codes = struct.pack(f"<i{len(typed)}i", len(typed), *[code for code, _ in typed])
    return codes + b"".join(_plain_value(code, value) for code, value in typed)


@given(typed=st.lists(TYPED, max_size=12))
def test_sequences_are_the_bytes_of_an_independent_encoder(typed: list[tuple[int, Any]]) -> None:
    values = tuple(value for _, value in typed)
    raw = _plain_sequence(typed)
    assert encode_values(values) == raw
    decoded, end = decode_values(raw)
    assert (decoded, end) == (values, len(raw))
    assert [type(value) for value in decoded] == [type(value) for value in values]


@given(typed=st.lists(st.one_of(*FOR_ALL), max_size=5), handle=U64, code=st.integers(9, 2**31 - 1), data=st.binary())
def test_packets_are_the_bytes_of_an_independent_encoder(
    typed: list[tuple[int, Any]], handle: int, code: int, data: bytes
) -> None:
    values, raw = tuple(value for _, value in typed), _plain_sequence(typed)
    tensor = _plain_value(7, TENSOR)
    length = len(data).to_bytes(8, "little")
    packets: list[tuple[Packet, int, bytes]] = [
        (CallFunc(handle, values), 3, handle.to_bytes(8, "little") + raw),
        (Return(values), 4, raw),
        (Syscall(code, values), code, raw),
        (InitServer("1.2", values), 2, b"\3" + bytes(7) + b"1.2" + raw),
        (CopyToRemote(TENSOR, data), 7, tensor + length + data),
        (CopyFromRemote(TENSOR, handle), 6, tensor + handle.to_bytes(8, "little")),
        (CopyAck(data), 8, data),
    ]
    for packet, number, rest in packets:
        body = number.to_bytes(4, "little") + rest
        assert encode_packet(packet) == len(body).to_bytes(8, "little") + body
        assert decode_packet(body) == packet


@given(code=st.integers(-1, 25), rest=st.binary(max_size=80))
def test_any_bytes_are_a_packet_or_a_protocol_error(code: int, rest: bytes) -> None:
    try:
        packet = decode_packet(struct.pack("<i", code) + rest)
    except ProtocolError:
        return
    encode_packet(packet)


@given(index=st.integers(0, len(PACKETS) - 1), at=st.integers(0, 200), byte=st.integers(0, 255))
def test_a_packet_with_one_byte_changed_is_a_packet_or_a_protocol_error(index: int, at: int, byte: int) -> None:
    body = bytearray(_hex(PACKETS[index][1])[8:])
    body[at % len(body)] = byte
    try:
        packet = decode_packet(body)
    except ProtocolError:
        return
    encode_packet(packet)


# --- results ----------------------------------------------------------------------------------

# What a function returned, and the values of its Return.
RESULTS: list[tuple[Any, tuple[Any, ...]]] = [
    (None, (4, None)),
    (-7, (0, -7)),
    (UInt(7), (1, UInt(7))),
    (2.5, (2, 2.5)),
    (OpaqueHandle(9), (3, OpaqueHandle(9))),
    (DataType(2, 32), (5, DataType(2, 32))),
    (CPU, (6, CPU)),
    (TENSOR, (7, TENSOR)),
    (ModuleHandle(1), (9, OpaqueHandle(1))),
    (FunctionHandle(2), (10, OpaqueHandle(2))),
    (FunctionHandle(0), (10, OpaqueHandle(0))),
    ("text", (11, "text")),
    (b"\0\1", (12, b"\0\1")),
    (ArrayResult(TENSOR, OpaqueHandle(3)), (13, TENSOR, OpaqueHandle(3))),
]


@pytest.mark.parametrize(("value", "values"), RESULTS, ids=[type(value).__name__ for value, _ in RESULTS])
def test_every_kind_of_result_goes_and_comes_back(value: Any, values: tuple[Any, ...]) -> None:
    result = encode_result(value)
    assert result == Return(values)
    assert [type(item) for item in result.values] == [type(item) for item in values]
    packet = decode_packet(encode_packet(result)[8:])
    assert isinstance(packet, Return)
    decoded = decode_result(packet.values)
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize(
    ("value", "plain"),
    [(True, 1), (np.int16(4), 4), (np.float32(0.5), 0.5), (bytearray(b"x"), b"x"), (memoryview(b"x"), b"x")],
)
def test_results_of_other_spellings_arrive_as_their_plain_kind(value: Any, plain: Any) -> None:
    packet = decode_packet(encode_packet(encode_result(value))[8:])
    assert isinstance(packet, Return)
    decoded = decode_result(packet.values)
    assert decoded == plain
    assert type(decoded) is type(plain)


@pytest.mark.parametrize("value", [[1], np.zeros(2), 2**63, "a\0b", Device(129)])
def test_a_result_that_cannot_be_sent_is_refused(value: Any) -> None:
    with pytest.raises(UnsupportedValueError):
        encode_packet(encode_result(value))


@pytest.mark.parametrize(
    ("values", "form"),
    [
        ((), ""),
        ((None,), "NoneType"),
        ((0,), "0"),
        ((4,), "4"),
        ((0, 1, 2), "0, int, int"),
        ((0, "a"), "0, str"),
        ((0, UInt(1)), "0, UInt"),
        ((0, None), "0, NoneType"),
        ((UInt(0), 1), "UInt, int"),
        (("0", 1), "str, int"),
        ((4, 0), "4, int"),
        ((9, 1), "9, int"),
        ((10, None), "10, NoneType"),
        ((12, "a"), "12, str"),
        ((13, TENSOR), "13, Tensor"),
        ((13, OpaqueHandle(1), TENSOR), "13, OpaqueHandle, Tensor"),
        ((13, TENSOR, 1), "13, Tensor, int"),
        ((8, OpaqueHandle(1)), "8, OpaqueHandle"),
        ((14, 1), "14, int"),
        ((-1, 1), "-1, int"),
    ],
    ids=str,
)
def test_values_that_are_not_a_result_are_a_protocol_error(values: tuple[Any, ...], form: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_result(values)
    assert caught.value.section == "3"
    assert caught.value.reason == f"a result is a type code and a value of that type, not ({form})"


# --- the recordings ---------------------------------------------------------------------------

VECTORS = Path(__file__).parent.parent / "vectors"


def _crc(data: bytes) -> int:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def _payloads(stream: bytes) -> Iterator[bytes]:
    """The payloads of the frames with a good crc, bytewise."""
    starts, at = [], 0
    while at < len(stream) - 1:
        if stream[at] == 0xFF:
            if stream[at + 1] == 0xFD:
                starts.append(at)
            at += 2
        else:
            at += 1
    for start, end in zip(starts, [*starts[1:], len(stream)], strict=True):
        plain, ends, at = bytearray(), [], start + 2  # ends[i]: where plain byte i stops in the stream
        while at < end:
            at += 2 if stream[at] == 0xFF else 1
            plain.append(stream[at - 1])
            ends.append(at)
        size = 4 + int.from_bytes(plain[:4], "little")
        if len(plain) >= size + 2 and _crc(stream[start : ends[size - 1]]) == int.from_bytes(
            plain[size : size + 2], "little"
        ):
            yield bytes(plain[4:size])


def _recorded_packets(name: str, direction: str) -> list[bytes]:
    lines = [json.loads(line) for line in (VECTORS / name).read_text().splitlines()[1:]]
    stream = b"".join(bytes.fromhex(line["hex"]) for line in lines if line["dir"] == direction)
    return [payload[3:] for payload in _payloads(stream) if payload[2] == 0x10]


RECORDED = {
    (path.name, direction): _recorded_packets(path.name, direction)
    for path in sorted(VECTORS.glob("*.jsonl"))
    for direction in ("host", "device")
}


def test_the_recordings_are_there() -> None:
    assert len(RECORDED[("crt_2k.jsonl", "host")]) == len(RECORDED[("crt_2k.jsonl", "device")]) + 1  # Shutdown
    assert sum(map(len, RECORDED.values())) > 1000


@pytest.mark.parametrize(("name", "direction"), RECORDED)
def test_recorded_packets_decode_and_encode_to_themselves(name: str, direction: str) -> None:
    for raw in RECORDED[(name, direction)]:
        assert int.from_bytes(raw[:8], "little") == len(raw) - 8
        assert encode_packet(decode_packet(raw[8:])) == raw


def test_recorded_results_decode() -> None:
    """Each call and its reply: every result has the form of one, and encodes to the very Return that was recorded."""
    kinds = set()
    for call, reply in zip(RECORDED[("crt_2k.jsonl", "host")], RECORDED[("crt_2k.jsonl", "device")], strict=False):
        answer = decode_packet(reply[8:])
        if isinstance(decode_packet(call[8:]), CallFunc) and isinstance(answer, Return):
            result = decode_result(answer.values)
            assert encode_packet(encode_result(result)) == reply
            kinds.add(type(result).__name__)
    assert kinds >= {"int", "float", "str", "bytes", "NoneType", "ModuleHandle", "FunctionHandle"}


def test_recorded_copies_follow_the_plan() -> None:
    """Runs of copies of one kind to one address are what plan_copy makes of the tensor and the device's limit."""
    limit_bytes = 2048 - 11
    runs: list[tuple[type, Tensor, list[tuple[int, int]]]] = []
    for raw in RECORDED[("crt_2k.jsonl", "host")]:
        packet = decode_packet(raw[8:])
        if isinstance(packet, CopyToRemote | CopyFromRemote):
            size = len(packet.data) if isinstance(packet, CopyToRemote) else packet.size_bytes
            if packet.tensor.byte_offset == 0:
                runs.append((type(packet), packet.tensor, []))
            assert runs[-1][0] is type(packet)
            runs[-1][2].append((packet.tensor.byte_offset, size))
    assert max(len(blocks) for _, _, blocks in runs) > 2
    for _, tensor, blocks in runs:
        total = sum(size for _, size in blocks)
        plan = [(block.byte_offset, block.size_bytes) for block in plan_copy(tensor, total, limit_bytes)]
        assert plan == blocks
