"""Which layout a client speaks, told by whatever it says first (docs/tvm_wire.md 1); and the old one as TVM left it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrpc.errors import ProtocolError, UnsupportedValueError
from microrpc.wire import packets as of_boards
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
    RETURN_NONE,
    CallFunc,
    CopyAck,
    CopyToRemote,
    InitServer,
    Packet,
    PacketCode,
    RemoteException,
    Return,
    Shutdown,
    Syscall,
)
from microrpc.wire.tvm.layout import NEW, OLD, Layout, LayoutFinder
from microrpc.wire.tvm.values import LongText

LAYOUTS = pytest.mark.parametrize("layout", [OLD, NEW], ids=["old", "new"])
U64 = st.integers(0, 2**64 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
DEVICES = st.builds(Device, st.integers(1, 127), st.integers(0, 2**31 - 1))
# Of streams: that of an old device (N, 4) has the bytes of today's device (3, N).
FIRST_DEVICES = DEVICES.filter(lambda device: device.id != 4 and (device.type != 3 or device.id == 0))
EMPTY = st.builds(
    Tensor,
    st.just(0),
    DEVICES,
    st.builds(DataType, st.integers(0, 20), st.integers(1, 128), st.integers(1, 16)),
    st.lists(st.integers(0, 2**40), max_size=6).map(tuple),
)
HANDLES = U64.map(OpaqueHandle)


def syscall(code: PacketCode, *args: st.SearchStrategy[Value]) -> st.SearchStrategy[Packet]:
    return st.tuples(*args).map(lambda values: Syscall(code, values))


FIRST_REQUESTS: st.SearchStrategy[Packet] = st.one_of(
    syscall(PacketCode.GET_GLOBAL_FUNC, TEXTS),
    syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, EMPTY, st.none()),
    syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, EMPTY, TEXTS),
    syscall(PacketCode.DEV_GET_ATTR, DEVICES, st.integers(0, 20)),
    syscall(PacketCode.DEV_STREAM_SYNC, FIRST_DEVICES, HANDLES),
    syscall(PacketCode.DEV_SET_STREAM, FIRST_DEVICES, HANDLES),
    syscall(PacketCode.DEV_FREE_DATA, FIRST_DEVICES, HANDLES),
)
OF_BOTH: tuple[Packet, ...] = (
    Shutdown(),
    InitServer("0.8.0", ()),
    CallFunc(7, ()),
    CopyToRemote(Tensor(16, CPU, DataType(0, 8), (2,)), b"ab"),
    Syscall(PacketCode.DEV_CREATE_STREAM, (CPU,)),
    Syscall(PacketCode.DEV_SET_DEVICE, (CPU,)),
)


def body(layout: Layout, packet: Packet) -> bytes:
    return layout.encode_packet(packet)[8:]


# --- which one it is --------------------------------------------------------------------------


@LAYOUTS
@given(packet=FIRST_REQUESTS)
def test_any_first_request_of_a_client_tells(layout: Layout, packet: Packet) -> None:
    finder = LayoutFinder()
    assert repr(finder.decode_packet(body(layout, packet))) == repr(packet)
    assert finder.is_known
    assert finder.layout is layout


@pytest.mark.parametrize(
    ("layout", "wire"),
    [
        (NEW, "09000000 01000000 08000000 0500000000000000 742e616464"),
        (OLD, "09000000 01000000 0b000000 0500000000000000 742e616464"),
        (NEW, "0c000000 02000000 06000000 01000000 00000000 01000000 0e00000000000000"),
        (OLD, "0c000000 02000000 06000000 00000000 01000000 00000000 0e00000000000000"),
        # a tensor of no dimensions: as long in both
        (NEW, "11000000 02000000 07000000" + "00" * 8 + "01000000 00000000 00000000 00200100" + "00" * 8 + "00000000"),
        (OLD, "11000000 02000000 07000000 04000000" + "00" * 8 + "01000000 00000000 00000000 00200100" + "00" * 8),
        # a device whose type is the old code of a Bool
        (NEW, "0c000000 02000000 06000000 0f000000 01000000 01000000 0000000000000000"),
        (NEW, "0a000000 01000000 04000000 0700000000000000"),
        (OLD, "0a000000 02000000 03000000 00000000 0700000000000000 0a00000000000000"),
        (NEW, "02000000 0100000000000000 30 02000000 0b000000 41000000 0100000000000000 61 02000000 0100000000000000"),
        (OLD, "02000000 0100000000000000 30 02000000 0b000000 0f000000 0100000000000000 61 0100000000000000"),
    ],
)  # fmt: skip
def test_the_bytes_of_the_document_tell(layout: Layout, wire: str) -> None:
    finder = LayoutFinder()
    finder.decode_packet(bytes.fromhex(wire))
    assert finder.is_known
    assert finder.layout is layout


@pytest.mark.parametrize("packet", OF_BOTH, ids=lambda packet: type(packet).__name__)
def test_what_both_have_alike_decides_nothing(packet: Packet) -> None:
    assert body(OLD, packet) == body(NEW, packet)
    for layout in (OLD, NEW):
        finder = LayoutFinder()
        assert finder.decode_packet(body(layout, packet)) == packet
        assert not finder.is_known
        assert finder.layout is OLD
        finder.decode_packet(body(layout, Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",))))
        assert finder.layout is layout


def test_nothing_is_decided_twice() -> None:
    for layout, other in ((OLD, NEW), (NEW, OLD)):
        finder = LayoutFinder()
        finder.decode_packet(body(layout, Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",))))
        with pytest.raises(ProtocolError):
            finder.decode_packet(body(other, Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",))))
        assert finder.layout is layout


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "09",
        "09000000",
        "09000000 01000000",
        "09000000 01000000 08000000 ff00000000000000 61",
        "09000000 01000000 0d000000 0100000000000000 61",
        "00000000 00000000",
        "ffffffff 00000000",
        "03000000 0700000000000000 01000000 01000000 0500000000000000",  # UInt 5 of old, Int 5 of today
        "03000000 0700000000000000 01000000 03000000 0500000000000000",  # a handle of old, a Float of today
        "63000000 01000000 01000000 0500000000000000",
        "0f000000 02000000 06000000 03000000 01000000 04000000 0000000000000000",  # device (1, 4) or (3, 1)
        "0a000000 00000000",
        "0c000000 02000000 06000000 00000000 00000000 01000000 0e00000000000000",  # no device has the type 0
        "11000000 01000000 73000000 73000000 0100000000000000",
    ],
)
def test_what_does_not_tell_is_an_error_and_decides_nothing(wire: str) -> None:
    finder = LayoutFinder()
    with pytest.raises(ProtocolError):
        finder.decode_packet(bytes.fromhex(wire))
    assert not finder.is_known
    finder.decode_packet(body(NEW, Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",))))
    assert finder.layout is NEW


def test_a_reply_that_a_client_sends_decides_nothing() -> None:
    finder = LayoutFinder()
    assert finder.decode_packet(body(NEW, RemoteException("no"))) == RemoteException("no")
    assert finder.decode_packet(body(OLD, Return(("no",)))) == Return(("no",))
    assert finder.decode_packet(b"\x08\0\0\0abc") == CopyAck(b"abc")
    assert not finder.is_known


@given(st.binary(max_size=60), st.integers(0, 22))
def test_any_bytes_are_a_packet_or_one_error(data: bytes, code: int) -> None:
    finder = LayoutFinder()
    try:
        packet = finder.decode_packet(code.to_bytes(4, "little") + data)
    except ProtocolError:
        assert not finder.is_known
    else:
        assert repr(finder.layout.decode_packet(code.to_bytes(4, "little") + data)) == repr(packet)


# --- what is answered -------------------------------------------------------------------------


def test_before_it_is_known_nothing_is_answered_with_what_both_clients_can_read() -> None:
    answer = LayoutFinder().encode_packet(RETURN_NONE)
    assert answer == bytes.fromhex("1400000000000000 04000000 01000000 06000000 0100000000000000")
    assert OLD.decode_packet(answer[8:]) == NEW.decode_packet(answer[8:]) == Return((CPU,))


def test_then_it_is_answered_in_the_clients_layout() -> None:
    for layout, none, text in ((OLD, "04000000", "0b"), (NEW, "00000000", "08")):
        finder = LayoutFinder()
        finder.decode_packet(body(layout, Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",))))
        assert finder.encode_packet(RETURN_NONE) == bytes.fromhex("0c00000000000000 04000000 01000000" + none)
        assert finder.encode_packet(RemoteException("")) == bytes.fromhex(
            "1400000000000000 05000000 01000000" + text + "000000 0000000000000000"
        )


def test_an_exception_before_it_is_known_is_for_todays_client() -> None:
    assert LayoutFinder().encode_packet(RemoteException("no")) == NEW.encode_packet(RemoteException("no"))


# --- the old layout, as TVM left it -----------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (True, "0f000000 0100000000000000"),
        (False, "0f000000 0000000000000000"),
        (ObjectHandle(7, 8), "08000000 08000000 0700000000000000"),
        (ObjectHandle(7, 9), "08000000 09000000 0700000000000000"),
    ],
)
def test_what_came_to_the_old_layout_is_read(value: Value, wire: str) -> None:
    packet = CallFunc(1, (value,))
    data = bytes.fromhex("03000000 0100000000000000 01000000" + wire)
    decoded = OLD.decode_packet(data)
    assert repr(decoded) == repr(packet)
    with pytest.raises(ProtocolError, match="is not supported by RPC"):
        of_boards.decode_packet(data)


def test_objects_are_sent_to_servers_that_know_them_and_to_no_board() -> None:
    packet = CallFunc(1, (ObjectHandle(7, 9), 5))
    assert repr(OLD.decode_packet(OLD.encode_packet(packet)[8:])) == repr(packet)
    with pytest.raises(UnsupportedValueError, match="Cannot pass argument 0, type ObjectHandle is not supported"):
        of_boards.encode_packet(packet)
    with pytest.raises(UnsupportedValueError, match="goes from client to server only"):
        OLD.encode_packet(Return((ObjectHandle(7, 9),)))


def test_an_object_that_is_no_reference_is_refused() -> None:
    with pytest.raises(ProtocolError, match="an object of type 6, and only references"):
        OLD.decode_packet(bytes.fromhex("03000000 0100000000000000 01000000 08000000 06000000 0700000000000000"))


TENSOR = Tensor(16, CPU, DataType(2, 32), (3,))


@pytest.mark.parametrize(
    ("value", "values"),
    [
        (None, (4, None)),
        (5, (0, 5)),
        (True, (0, True)),
        (UInt(5), (1, UInt(5))),
        ("a\udcff", (11, "a\ufffd")),
        (b"a", (12, b"a")),
        (FunctionHandle(3), (10, OpaqueHandle(3))),
        (ModuleHandle(3), (9, OpaqueHandle(3))),
        (ObjectHandle(3, 9), (8, OpaqueHandle(3))),
        (ArrayResult(TENSOR, OpaqueHandle(3)), (13, TENSOR, OpaqueHandle(3))),
    ],
)
def test_a_result_in_the_old_layout(value: Value | ArrayResult, values: tuple[Value, ...]) -> None:
    assert repr(OLD.encode_result(value)) == repr(Return(values))


def test_exceptions_are_utf_8_in_both() -> None:
    for layout in (OLD, NEW):
        assert layout.encode_packet(RemoteException("a\udcff\0"))[28:] == "a\ufffd\\0".encode()


def test_the_layouts_know_whether_a_handle_is_freed_with_its_type() -> None:
    assert OLD.has_type_code_in_free
    assert not NEW.has_type_code_in_free
    assert (OLD.name, NEW.name) == ("old", "new")


def test_init_server_with_arguments_tells_in_every_form_of_them() -> None:
    for layout, args in (
        (NEW, (LongText("rpc.Connect"), LongText("127.0.0.1"), 19090, LongText(""), False)),
        (OLD, ("rpc.Connect", "127.0.0.1", 19090, "", 0)),
    ):
        finder = LayoutFinder()
        found = finder.decode_packet(body(layout, InitServer("0.8.0", args)))
        assert isinstance(found, InitServer)
        assert found.args == args
        assert finder.layout is layout
