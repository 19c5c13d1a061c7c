"""Packets out of a byte stream, and the client role (docs/protocol.md 3 and 5)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from microrpc.errors import ProtocolError, RequestError, UnsupportedValueError
from microrpc.serve.endpoint import ServerEndpoint, ServerStatus
from microrpc.serve.local import LocalSession
from microrpc.wire.datatypes import CPU, DataType, OpaqueHandle, Tensor
from microrpc.wire.packets import (
    RETURN_NONE,
    CallFunc,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    InitServer,
    Packet,
    PacketCode,
    RemoteException,
    Reply,
    Request,
    Return,
    Shutdown,
    Syscall,
    encode_packet,
)
from microrpc.wire.reader import MAX_PACKET_BYTES, ClientEndpoint, EndpointState, PacketReader, request_label

TENSOR = Tensor(0x1000, CPU, DataType.parse("int8"), (4,))
LOOK_UP = Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",))
FOUND = Return((OpaqueHandle(7),))
READ = CopyFromRemote(TENSOR, 4)
REQUESTS: list[Request] = [
    LOOK_UP,
    CallFunc(7, (1, "x")),
    InitServer("0.8.0", ()),
    CopyToRemote(TENSOR, b"abcd"),
    READ,
]
CLOSED_IN_PACKET = "Channel closes before we get needed bytes"


def nbytes(size: int) -> bytes:
    return struct.pack("<Q", size)


def key(text: bytes) -> bytes:
    return struct.pack("<i", len(text)) + text


def all_packets(reader: PacketReader) -> Iterator[bytes]:
    while (body := reader.next_packet()) is not None:
        yield body


def reply_to(request: Request) -> Reply:
    return CopyAck(b"wxyz") if isinstance(request, CopyFromRemote) else FOUND


# --- PacketReader -----------------------------------------------------------------------------

STREAM = nbytes(3) + b"one" + nbytes(0) + nbytes(1) + b"2" + nbytes(0) * 2 + nbytes(5) + b"three"


def test_packets_come_out_the_same_at_every_split_in_two() -> None:
    for split in range(len(STREAM) + 1):
        reader = PacketReader()
        got = []
        for piece in (STREAM[:split], STREAM[split:]):
            reader.feed(piece)
            got += all_packets(reader)
        assert got == [b"one", b"2", b"three"]
        assert reader.is_between_packets


@pytest.mark.parametrize("size", range(1, 12))
def test_packets_come_out_the_same_in_pieces_of_any_size(size: int) -> None:
    reader = PacketReader(init_header=True)
    data = key(b"my key") + STREAM
    got = []
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
        got += all_packets(reader)
    assert got == [b"one", b"2", b"three"]
    assert reader.remote_key == "my key"


def test_whoever_reads_exactly_what_is_needed_gets_every_packet() -> None:
    data = key(b"k") + STREAM
    reader = PacketReader(init_header=True)
    needs, got, start = [], [], 0
    while start < len(data):
        assert 0 < reader.bytes_needed <= len(data) - start, "it would read past the last packet and hang"
        needs.append(reader.bytes_needed)
        reader.feed(data[start : start + needs[-1]])
        start += needs[-1]
        got += all_packets(reader)
    assert got == [b"one", b"2", b"three"]
    assert needs == [4, 1, 8, 3, 8, 8, 1, 8, 8, 8, 5]


def test_bytes_needed_is_exact_at_every_byte() -> None:
    reader = PacketReader(init_header=True)
    assert reader.bytes_needed == 4
    for byte, needed in zip(
        key(b"abc") + nbytes(2) + b"xy", [3, 2, 1, 3, 2, 1, 8, *range(7, 0, -1), 2, 1, 8], strict=True
    ):
        reader.feed(bytes([byte]))
        list(all_packets(reader))
        assert reader.bytes_needed == needed


def test_bytes_needed_is_0_while_a_step_can_be_taken() -> None:
    reader = PacketReader()
    reader.feed(nbytes(2) + b"xy")
    assert reader.bytes_needed == 0
    assert reader.next_packet() == b"xy"
    assert reader.bytes_needed == 8


def test_the_states_follow_the_stream() -> None:
    reader = PacketReader(init_header=True)
    assert reader.state is EndpointState.INIT_HEADER
    assert not reader.is_between_packets
    reader.feed(key(b"k"))
    assert reader.next_packet() is None
    assert reader.state is EndpointState.RECV_PACKET_NUM_BYTES
    assert reader.is_between_packets
    reader.feed(nbytes(1))
    assert reader.next_packet() is None
    assert reader.state is EndpointState.PROCESS_PACKET
    assert not reader.is_between_packets
    reader.feed(b"x")
    assert reader.next_packet() == b"x"
    assert reader.is_between_packets


def test_part_of_a_packets_size_is_not_between_packets() -> None:
    reader = PacketReader()
    reader.feed(b"\x01")
    assert reader.next_packet() is None
    assert not reader.is_between_packets


def test_empty_packets_are_skipped_and_leave_it_between_packets() -> None:
    reader = PacketReader()
    reader.feed(nbytes(0) * 3)
    assert reader.next_packet() is None
    assert reader.is_between_packets


def test_the_remote_key_is_none_until_it_is_whole() -> None:
    reader = PacketReader(init_header=True)
    for byte in key(b"server:x"):
        assert reader.remote_key is None
        reader.feed(bytes([byte]))
        assert reader.next_packet() is None
    assert reader.remote_key == "server:x"


def test_the_remote_key_may_be_empty_or_no_text() -> None:
    for text, expected in ((b"", ""), (b"a\xff", "a\\xff"), (b"k" * 4096, "k" * 4096)):
        reader = PacketReader(init_header=True)
        reader.feed(key(text) + nbytes(1) + b"x")
        assert reader.next_packet() == b"x"
        assert reader.remote_key == expected


@pytest.mark.parametrize("size", [-1, -(2**31), 4097, 2**31 - 1])
def test_a_remote_key_of_a_bad_size_is_refused(size: int) -> None:
    reader = PacketReader(init_header=True)
    reader.feed(struct.pack("<i", size))
    with pytest.raises(ProtocolError, match=f"a remote key of {size} bytes"):
        reader.next_packet()


def test_a_packet_of_the_bound_is_taken_and_one_byte_more_is_refused_at_once() -> None:
    reader = PacketReader(max_packet_bytes=10)
    reader.feed(nbytes(10) + b"0123456789" + nbytes(11))
    assert reader.next_packet() == b"0123456789"
    with pytest.raises(ProtocolError, match=r"11 bytes is announced; at most 10") as caught:
        reader.next_packet()
    assert caught.value.section == "3"


@pytest.mark.parametrize("size", [10, 11])
def test_the_bound_holds_for_a_packet_that_comes_in_one_piece(size: int) -> None:
    reader = PacketReader(max_packet_bytes=10)
    reader.feed(nbytes(size) + bytes(size))
    if size == 10:
        assert reader.next_packet() == bytes(10)
    else:
        with pytest.raises(ProtocolError, match=r"11 bytes is announced; at most 10"):
            reader.next_packet()


@pytest.mark.parametrize("size", [MAX_PACKET_BYTES + 1, 1 << 63, (1 << 64) - 1])
def test_a_huge_packet_is_refused_without_waiting_for_it(size: int) -> None:
    reader = PacketReader()
    reader.feed(nbytes(size))
    with pytest.raises(ProtocolError, match=str(size)):
        reader.next_packet()


def test_reset_forgets_a_packet_in_progress() -> None:
    reader = PacketReader()
    reader.feed(nbytes(100) + b"part")
    assert reader.next_packet() is None
    reader.reset()
    assert (reader.bytes_needed, reader.is_between_packets) == (8, True)
    reader.feed(nbytes(4) + b"rest")  # whole, but not taken yet
    reader.reset()
    assert (reader.next_packet(), reader.is_between_packets) == (None, True)
    reader.feed(nbytes(1) + b"x")
    assert reader.next_packet() == b"x"


# --- ClientEndpoint: states -------------------------------------------------------------------


def test_a_request_gives_its_bytes_and_awaits_the_reply() -> None:
    client = ClientEndpoint()
    assert client.request(LOOK_UP) == encode_packet(LOOK_UP)
    assert (client.state, client.bytes_needed) == (EndpointState.RECV_PACKET_NUM_BYTES, 8)
    answer = encode_packet(FOUND)
    assert client.feed(answer[:8]) is None
    assert (client.state, client.bytes_needed) == (EndpointState.PROCESS_PACKET, len(answer) - 8)
    assert client.feed(answer[8:-1]) is None
    assert client.bytes_needed == 1
    assert client.feed(answer[-1:]) == FOUND
    assert (client.state, client.bytes_needed) == (EndpointState.RETURN_RECEIVED, 8)


def test_the_reply_comes_out_once_at_every_split() -> None:
    answer = nbytes(0) + encode_packet(FOUND)
    for split in range(len(answer) + 1):
        client = ClientEndpoint()
        client.request(LOOK_UP)
        got = [client.feed(answer[:split]), client.feed(answer[split:])]
        assert sorted(reply is None for reply in got) == [False, True]
        assert FOUND in got


def test_a_copy_ends_in_copy_ack_received() -> None:
    client = ClientEndpoint()
    client.request(READ)
    assert client.feed(encode_packet(CopyAck(b"wxyz"))) == CopyAck(b"wxyz")
    assert client.state is EndpointState.COPY_ACK_RECEIVED
    client.request(LOOK_UP)
    assert client.state is EndpointState.RECV_PACKET_NUM_BYTES


def test_one_request_is_in_flight_at_a_time() -> None:
    client = ClientEndpoint()
    client.request(LOOK_UP)
    with pytest.raises(RequestError, match="in flight"):
        client.request(READ)
    with pytest.raises(RequestError, match="in flight"):
        client.expect(READ)
    assert client.feed(encode_packet(FOUND)) == FOUND
    client.request(READ)


def test_a_request_that_cannot_be_encoded_is_not_awaited() -> None:
    client = ClientEndpoint()
    with pytest.raises(UnsupportedValueError):
        client.request(CallFunc(1, (object(),)))  # type: ignore[arg-type]
    client.request(LOOK_UP)


def test_reset_forgets_the_request_and_half_a_reply() -> None:
    client = ClientEndpoint()
    client.request(LOOK_UP)
    client.feed(encode_packet(FOUND)[:-1])
    client.reset()
    client.request(READ)
    assert client.feed(encode_packet(CopyAck(b"wxyz"))) == CopyAck(b"wxyz")


# --- ClientEndpoint: replies ------------------------------------------------------------------


@pytest.mark.parametrize("request_", REQUESTS, ids=request_label)
def test_each_kind_of_request_takes_its_own_kind_of_reply(request_: Request) -> None:
    client = ClientEndpoint()
    client.request(request_)
    assert client.feed(encode_packet(reply_to(request_))) == reply_to(request_)


@pytest.mark.parametrize("request_", REQUESTS, ids=request_label)
def test_each_kind_of_request_refuses_the_other_kind_of_reply(request_: Request) -> None:
    client = ClientEndpoint()
    client.request(request_)
    wrong = FOUND if isinstance(request_, CopyFromRemote) else CopyAck(b"wxyz")
    with pytest.raises(ProtocolError, match=f"arrived as the reply of {request_label(request_)}"):
        client.feed(encode_packet(wrong))


@pytest.mark.parametrize("request_", REQUESTS, ids=request_label)
def test_an_exception_is_a_reply_of_every_request_and_the_endpoint_goes_on(request_: Request) -> None:
    client = ClientEndpoint()
    for text in ("no such thing", ""):
        client.request(request_)
        assert client.feed(encode_packet(RemoteException(text))) == RemoteException(text)
    client.request(LOOK_UP)
    assert client.feed(encode_packet(FOUND)) == FOUND


@pytest.mark.parametrize("data", [b"", b"wxy", b"wxyz0"])
def test_a_copy_ack_of_another_size_is_refused(data: bytes) -> None:
    client = ClientEndpoint()
    client.request(READ)
    with pytest.raises(ProtocolError, match=f"CopyAck of {len(data)} bytes arrived"):
        client.feed(encode_packet(CopyAck(data)))


@pytest.mark.parametrize("packet", [FOUND, CopyAck(b"x"), RemoteException("x"), LOOK_UP])
def test_a_packet_that_nobody_asked_for_is_refused(packet: Packet) -> None:
    with pytest.raises(ProtocolError, match=f"{type(packet).__name__} arrived, and no request was in flight"):
        ClientEndpoint().feed(encode_packet(packet))


@pytest.mark.parametrize("packet", [LOOK_UP, CallFunc(1, ()), InitServer("0.8.0", ()), READ])
def test_a_request_is_no_reply(packet: Packet) -> None:
    client = ClientEndpoint()
    client.request(LOOK_UP)
    with pytest.raises(ProtocolError, match=f"{type(packet).__name__} arrived as the reply"):
        client.feed(encode_packet(packet))


@pytest.mark.parametrize("more", [encode_packet(FOUND), encode_packet(FOUND)[:9], b"\x01"])
def test_bytes_after_the_reply_are_refused_and_do_not_become_the_next_reply(more: bytes) -> None:
    client = ClientEndpoint()
    client.request(LOOK_UP)
    with pytest.raises(ProtocolError, match="bytes arrived, and no request was in flight"):
        client.feed(encode_packet(FOUND) + more)


def test_an_empty_packet_after_the_reply_is_legal() -> None:
    client = ClientEndpoint()
    client.request(LOOK_UP)
    assert client.feed(encode_packet(FOUND) + nbytes(0)) == FOUND
    client.end_of_stream()


@pytest.mark.parametrize("body", [b"\x00", struct.pack("<i", 99), struct.pack("<ii", 4, -1)])
def test_a_reply_that_cannot_be_decoded_is_a_protocol_error(body: bytes) -> None:
    client = ClientEndpoint()
    client.request(LOOK_UP)
    with pytest.raises(ProtocolError):
        client.feed(nbytes(len(body)) + body)


def test_a_reply_beyond_the_bound_is_refused() -> None:
    client = ClientEndpoint(max_packet_bytes=16)
    client.request(LOOK_UP)
    with pytest.raises(ProtocolError, match="at most 16"):
        client.feed(nbytes(17))


# --- ClientEndpoint: the end ------------------------------------------------------------------


@pytest.mark.parametrize("in_flight", [False, True])
def test_shutdown_from_the_peer_ends_it(in_flight: bool) -> None:
    client = ClientEndpoint()
    if in_flight:
        client.request(LOOK_UP)
    assert client.feed(encode_packet(Shutdown())) == Shutdown()
    assert client.state is EndpointState.SHUTDOWN_RECEIVED
    with pytest.raises(RequestError, match="shut this endpoint down"):
        client.request(LOOK_UP)
    client.end_of_stream()


def test_shutdown_of_our_own_is_the_last_that_it_says() -> None:
    client = ClientEndpoint()
    client.request(LOOK_UP)
    assert client.shutdown() == nbytes(4) + struct.pack("<i", 1)
    assert client.state is EndpointState.SHUTDOWN_RECEIVED
    with pytest.raises(RequestError):
        client.expect(LOOK_UP)


def test_the_end_of_the_stream_between_packets_is_clean() -> None:
    client = ClientEndpoint()
    client.end_of_stream()
    assert client.state is EndpointState.SHUTDOWN_RECEIVED
    client = ClientEndpoint()
    client.request(LOOK_UP)
    client.feed(encode_packet(FOUND))
    client.end_of_stream()
    with pytest.raises(RequestError):
        client.request(LOOK_UP)


@pytest.mark.parametrize("size", [0, 1, 8, 9])
def test_the_end_of_the_stream_before_the_reply_is_whole_is_an_error(size: int) -> None:
    client = ClientEndpoint()
    client.request(LOOK_UP)
    client.feed(encode_packet(FOUND)[:size])
    with pytest.raises(ProtocolError, match=CLOSED_IN_PACKET):
        client.end_of_stream()


@pytest.mark.parametrize("data", [b"\x01", nbytes(5), nbytes(5) + b"abcd"])
def test_the_end_of_the_stream_in_mid_packet_is_an_error_without_a_request_too(data: bytes) -> None:
    client = ClientEndpoint()
    with pytest.raises(ProtocolError, match="bytes arrived, and no request was in flight"):
        client.feed(data)
    with pytest.raises(ProtocolError, match=CLOSED_IN_PACKET):
        client.end_of_stream()


def test_requests_have_the_names_of_the_protocol() -> None:
    labels = [request_label(request) for request in [*REQUESTS, Syscall(99, ())]]
    assert labels == ["GetGlobalFunc", "CallFunc", "InitServer", "CopyToRemote", "CopyFromRemote", "syscall 99"]


# --- both roles back to back ------------------------------------------------------------------


class Pair:
    """A client and a server with a LocalSession, joined byte by byte or all at once."""

    def __init__(self, step: int) -> None:
        self.client = ClientEndpoint()
        self.server = ServerEndpoint(
            constructors={"rpc.LocalSession": lambda: LocalSession({"add": lambda a, b: a + b, "fail": self.fail})}
        )
        self.step = step

    @staticmethod
    def fail() -> None:
        raise ValueError("it failed")

    def ask(self, request: Request) -> Reply:
        self.deliver(self.client.request(request))
        output = self.server.take_output()
        replies = [self.client.feed(output[start : start + self.step]) for start in range(0, len(output), self.step)]
        assert replies[:-1] == [None] * (len(replies) - 1)
        last = replies[-1]
        assert isinstance(last, Return | RemoteException | CopyAck)
        return last

    def deliver(self, data: bytes) -> None:
        for start in range(0, len(data), self.step):
            self.server.feed(data[start : start + self.step])

    def look_up(self, name: str) -> int:
        reply = self.ask(Syscall(PacketCode.GET_GLOBAL_FUNC, (name,)))
        assert isinstance(reply, Return)
        handle = reply.values[0]
        assert isinstance(handle, OpaqueHandle)
        return int(handle)


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_client_and_server_talk_to_each_other(step: int) -> None:
    pair = Pair(step)
    refused = pair.ask(LOOK_UP)
    assert isinstance(refused, RemoteException)
    assert refused.message.startswith("Need to call InitRemoteSession first")
    assert pair.ask(InitServer("0.8.0", ())) == RETURN_NONE
    assert pair.look_up("missing") == 0
    assert pair.ask(CallFunc(pair.look_up("add"), (2, 3))) == Return((0, 5))
    assert pair.ask(CallFunc(pair.look_up("fail"), ())) == RemoteException("ValueError: it failed")

    hint = DataType.parse("int8")
    address = pair.ask(Syscall(PacketCode.DEV_ALLOC_DATA, (CPU, 4, 8, hint)))
    assert isinstance(address, Return)
    assert isinstance(address.values[0], OpaqueHandle)
    tensor = Tensor(int(address.values[0]), CPU, hint, (4,))
    assert pair.ask(CopyToRemote(tensor, b"abcd")) == RETURN_NONE
    assert pair.client.state is EndpointState.RETURN_RECEIVED
    assert pair.ask(CopyFromRemote(tensor, 4)) == CopyAck(b"abcd")
    assert pair.client.state is EndpointState.COPY_ACK_RECEIVED

    pair.deliver(pair.client.shutdown())
    assert pair.server.on_io(b"", 0) is ServerStatus.SHUT_DOWN
    assert pair.server.take_output() == b""
    assert pair.server.state is pair.client.state is EndpointState.SHUTDOWN_RECEIVED
