"""The recordings of TVM's clients, servers and tracker: every byte decoded and encoded again, cut in every way."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest
import tvm_golden
from tvm_golden import Stream

from microrpc.errors import ProtocolError
from microrpc.wire import packets as of_boards
from microrpc.wire.packets import CallFunc, CopyFromRemote, InitServer, Packet, PacketCode, Return, Syscall
from microrpc.wire.reader import PacketReader
from microrpc.wire.tvm.hello import MAGIC, MISMATCH, ClientHello, HelloReader, encode_hello, encode_refusal
from microrpc.wire.tvm.layout import NEW, OLD, LayoutFinder
from microrpc.wire.tvm.tracker import JsonValue, MessageReader, encode_magic, encode_message

STREAMS = [s for s in tvm_golden.streams(*tvm_golden.RPC_NAMES) if s.data != encode_refusal(MISMATCH)]
CLIENTS = [s for s in STREAMS if s.sender == "client"]
SAYING = [s for s in CLIENTS if tvm_golden.packets_of(s.data)]  # the one with a wrong key says nothing else
SERVERS = [s for s in STREAMS if s.sender == "server"]
TRACKED = list(tvm_golden.streams(tvm_golden.TRACKER_NAME))


def test_all_recordings_are_there() -> None:
    assert [name.removeprefix("tvm") for name in tvm_golden.NAMES] == [
        *("025_direct", "026_direct", "027_direct", "027_metaschedule", "027_misc", "027_module", "027_relax_vm"),
        "027_tracker",
    ]
    assert (len(CLIENTS), len(SERVERS)) == (13, 12)
    assert sum(len(tvm_golden.packets_of(stream.data)) for stream in STREAMS) > 1500


# --- packets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", STREAMS, ids=str)
def test_every_packet_encodes_to_the_bytes_that_it_was_decoded_from(stream: Stream) -> None:
    for packet in tvm_golden.packets_of(stream.data):
        for body in (packet[8:], bytearray(packet[8:]), memoryview(packet)[8:]):
            assert NEW.encode_packet(NEW.decode_packet(body)) == packet


@pytest.mark.parametrize("stream", STREAMS, ids=str)
def test_no_packet_can_be_read_that_ends_before_or_behind_its_end(stream: Stream) -> None:
    cuts = random.Random(0)
    for packet in set(tvm_golden.packets_of(stream.data)):
        body = packet[8:]
        ends = range(len(body)) if len(body) < 120 else cuts.sample(range(len(body)), 40)
        if body[0] != PacketCode.COPY_ACK:  # which is as long as it is
            for end in ends:
                with pytest.raises(ProtocolError):
                    NEW.decode_packet(body[:end])
            with pytest.raises(ProtocolError):
                NEW.decode_packet(body + b"\0")


def test_the_results_of_all_calls_have_the_form_of_results() -> None:
    kinds = set()
    for client in SAYING:
        data = next(s.data for s in SERVERS if (s.recording, s.connection) == (client.recording, client.connection))
        requests = [NEW.decode_packet(packet[8:]) for packet in tvm_golden.packets_of(client.data)]
        replies = [NEW.decode_packet(packet[8:]) for packet in tvm_golden.packets_of(data)]
        for request, reply in zip(requests, replies, strict=False):
            if isinstance(request, CallFunc) and isinstance(reply, Return):
                kinds.add(type(NEW.decode_result(reply.values)).__name__)
            elif isinstance(reply, Return):
                assert len(reply.values) == 1
    assert kinds == {
        *("NoneType", "int", "bool", "float", "str", "ByteArray", "DataType", "Device"),
        *("ArrayResult", "FunctionHandle", "ModuleHandle", "ObjectHandle"),
    }


# --- which layout it is -----------------------------------------------------------------------


def is_telling(packet: Packet) -> bool:
    """Whether a client begins with such a thing, and says what only one layout has."""
    if isinstance(packet, InitServer):
        return bool(packet.args)
    return isinstance(packet, Syscall)


@pytest.mark.parametrize("stream", SAYING, ids=str)
def test_todays_clients_are_told_by_their_first_request(stream: Stream) -> None:
    finder = LayoutFinder()
    for packet in tvm_golden.packets_of(stream.data):
        expected = NEW.decode_packet(packet[8:])
        assert repr(finder.decode_packet(packet[8:])) == repr(expected)
        assert finder.is_known == (is_telling(expected) or finder.is_known)
    assert finder.layout is NEW or stream.data.count(b"\x09\x00\x00\x00\x01\x00\x00\x00") == 0


@pytest.mark.parametrize(("name", "stream"), tvm_golden.old_clients(), ids=[n for n, _ in tvm_golden.old_clients()])
def test_the_clients_up_to_0_20_are_told_by_their_first_request(name: str, stream: bytes) -> None:
    hello = HelloReader().feed(stream)
    assert hello == ClientHello("client:", "", None, stream[15:])
    finder = LayoutFinder()
    packets = tvm_golden.packets_of(stream)
    assert len(packets) > 8
    for index, packet in enumerate(packets):
        decoded = finder.decode_packet(packet[8:])
        assert finder.is_known == (index > 0)
        assert repr(decoded) == repr(of_boards.decode_packet(packet[8:]))
        assert finder.encode_packet(decoded) == packet
    assert finder.layout is OLD


def first_requests() -> Iterator[tuple[bytes, bool]]:
    """Every packet of the recordings that a client sent, and whether it is of today's layout."""
    for stream in SAYING:
        yield from ((packet, True) for packet in tvm_golden.packets_of(stream.data))
    for _, packets in tvm_golden.old_packets("host"):
        yield from ((packet, False) for packet in packets)


def test_whatever_comes_first_is_read_as_it_was_meant_or_refused() -> None:
    told, alike, refused = 0, 0, set()
    for packet, is_new in set(first_requests()):
        layout = NEW if is_new else OLD
        meant = layout.decode_packet(packet[8:])
        finder = LayoutFinder()
        try:
            assert repr(finder.decode_packet(packet[8:])) == repr(meant)
        except ProtocolError:
            assert not finder.is_known
            refused.add(type(meant))
            continue
        if finder.is_known:
            assert finder.layout is layout
            told += 1
        else:
            alike += 1
            assert not is_telling(meant) or all(arg == meant.args[0] for arg in meant.args)  # type: ignore[union-attr]
    assert told > 400
    assert alike > 20
    assert refused == {CallFunc}  # of a handle that no client has yet, with one number or handle


def test_copies_are_the_same_bytes_in_both() -> None:
    copies = [packet for packet, _ in first_requests() if packet[8] in (1, 6, 7)]
    assert any(isinstance(NEW.decode_packet(packet[8:]), CopyFromRemote) for packet in copies)
    for packet in copies:
        assert OLD.decode_packet(packet[8:]) == NEW.decode_packet(packet[8:])
        assert OLD.encode_packet(NEW.decode_packet(packet[8:])) == packet


# --- hello ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", STREAMS, ids=str)
def test_every_hello_is_read_wherever_it_is_cut(stream: Stream) -> None:
    hello = tvm_golden.hello_of(stream.data)
    key = hello[8:].decode()
    assert encode_hello(key) == hello
    assert struct.unpack_from("<i", hello) == (MAGIC,)
    behind = stream.data[len(hello) : len(hello) + 40]
    for cut in range(len(hello) + 1):
        reader = HelloReader()
        before = reader.feed(hello[:cut])
        found = before or reader.feed(hello[cut:] + behind)
        assert found is not None
        assert (found.key, found.rest) == (key, b"" if before else behind)


def test_the_keys_and_timeouts_of_the_clients_are_read() -> None:
    found = {HelloReader().feed(tvm_golden.hello_of(stream.data)) for stream in CLIENTS}
    assert {(hello.matchkey, hello.timeout_s) for hello in found if hello} == {
        *(("", None), ("board", None), ("other", None), ("board", 1.5), ("ms:1", 20.0)),
    }
    assert HelloReader().feed(tvm_golden.hello_of(SERVERS[0].data)) == ClientHello("server:", None, None, b"")


@pytest.mark.parametrize("size", [1, 7, 100, 5000])
def test_a_stream_is_the_same_however_it_is_cut(size: int) -> None:
    for stream in STREAMS:
        hello, found = tvm_golden.hello_of(stream.data), []
        reader = PacketReader(init_header=True)
        for at in range(4, len(stream.data), size):
            reader.feed(stream.data[at : at + size])
            while (body := reader.next_packet()) is not None:
                found.append(body)
        assert reader.remote_key == hello[8:].decode()
        assert found == [packet[8:] for packet in tvm_golden.packets_of(stream.data)]


# --- the tracker ------------------------------------------------------------------------------


def messages_of(stream: bytes, size: int) -> list[JsonValue]:
    reader = MessageReader()
    found = []
    for at in range(0, len(stream), size):
        found += reader.feed(stream[at : at + size])
    return found


@pytest.mark.parametrize("size", [1, 3, 64, 1 << 20])
def test_every_message_of_the_tracker_encodes_to_the_bytes_that_it_was_decoded_from(size: int) -> None:
    wrong = []
    count = 0
    for stream in TRACKED:
        try:
            messages = messages_of(stream.data, size)
        except ProtocolError:
            wrong.append(stream.data)
            continue
        assert encode_magic() + b"".join(map(encode_message, messages)) == stream.data
        count += len(messages)
    assert wrong == [b"M\0\0\0"]  # which the tracker closed, too
    assert count > 100


def test_messages_are_read_wherever_the_stream_is_cut() -> None:
    stream = max((s.data for s in TRACKED), key=lambda data: len(data) < 3000 and len(data))
    whole = messages_of(stream, len(stream))
    assert len(whole) == 5
    for cut in range(len(stream)):
        reader = MessageReader()
        assert [*reader.feed(stream[:cut]), *reader.feed(stream[cut:])] == whole
