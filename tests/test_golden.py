"""The recordings of the real C++ host and the real C device: every byte decoded, encoded, and played to our host."""

from __future__ import annotations

import dataclasses
import math
import struct
from dataclasses import dataclass
from typing import Any

import golden
import numpy as np
import pytest

from microrpc.client.board import Board
from microrpc.client.remote import RemoteArray, RemoteFunction, RemoteHandle, RemoteModule
from microrpc.connecting.blocking import open_board
from microrpc.errors import RemoteError
from microrpc.wire.datatypes import FunctionHandle, ModuleHandle, OpaqueHandle, Tensor, Value
from microrpc.wire.frames import Damage, DamageKind, FrameDecoder, FrameEncoder
from microrpc.wire.names import MAX_PACKET_SIZE_FUNCTION
from microrpc.wire.packets import (
    CallFunc,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    Packet,
    PacketCode,
    RemoteException,
    Request,
    Return,
    Shutdown,
    Syscall,
    decode_packet,
    decode_result,
    encode_packet,
)
from microrpc.wire.session import MessageType, Timeouts, encode_message, make_session_id

# What the recordings with a fault carry, and nothing else: the direction, the kind, the frame's first byte.
DAMAGE = {
    "fault_callflip": ("host", DamageKind.BAD_CRC, 386),
    "fault_hellodrop": ("device", DamageKind.SHORT_PACKET, 1),
    "fault_helloflip": ("device", DamageKind.BAD_CRC, 1),
    "fault_initdrop": ("host", DamageKind.SHORT_PACKET, 12),
    "fault_initflip": ("host", DamageKind.BAD_CRC, 12),
    "fault_replyflip": ("device", DamageKind.BAD_CRC, 286),
}
STREAMS = [(name, direction) for name in golden.NAMES for direction in ("host", "device")]
REQUESTS = CallFunc | CopyFromRemote | CopyToRemote | Syscall | Shutdown
REPLIES = Return | RemoteException | CopyAck


def expected_damage(name: str, direction: str) -> list[tuple[DamageKind, int]]:
    where, kind, offset = DAMAGE.get(name, ("", None, 0))
    return [(kind, offset)] if kind is not None and where == direction else []


def payloads(name: str, direction: str) -> list[bytes]:
    return [frame for frame in FrameDecoder().feed(golden.stream(name, direction)) if isinstance(frame, bytes)]


# --- bytes to frames to messages to packets, and back -----------------------------------------


def test_all_recordings_are_there() -> None:
    assert sorted(["crt_2k", *DAMAGE]) == golden.NAMES


@pytest.mark.parametrize("piece_bytes", [None, 1, 7])
@pytest.mark.parametrize(("name", "direction"), STREAMS)
def test_the_frames_of_a_recording_are_whole_but_for_the_damage_it_was_made_with(
    name: str, direction: str, piece_bytes: int | None
) -> None:
    data = golden.stream(name, direction)
    decoder = FrameDecoder()
    size = piece_bytes or len(data)
    frames = [frame for at in range(0, len(data), size) for frame in decoder.feed(data[at : at + size])]
    found = [(frame.kind, frame.offset) for frame in frames if isinstance(frame, Damage)]
    assert found == expected_damage(name, direction)
    assert not decoder.in_packet
    assert decoder.bytes_skipped == 0
    assert [frame for frame in frames if isinstance(frame, bytes)] == payloads(name, direction)


@pytest.mark.parametrize(("name", "direction"), STREAMS)
def test_the_frames_of_a_recording_are_encoded_to_the_bytes_that_crossed_the_line(name: str, direction: str) -> None:
    encoder = FrameEncoder()
    encoded = b"".join(encoder.encode(payload) for payload in payloads(name, direction))
    sent = golden.stream(name, direction)
    for _, offset in expected_damage(name, direction):  # the damaged frame lies there, as far as it arrived
        removed_bytes = len(sent) - len(encoded)
        assert sent[offset : offset + 2] == b"\xff\xfd"
        assert sent[offset + removed_bytes :][:2] == b"\xff\xfd"
        sent = sent[:offset] + sent[offset + removed_bytes :]
    assert encoded == sent


@pytest.mark.parametrize(("name", "direction"), STREAMS)
def test_frames_sent_in_pieces_are_the_same_bytes(name: str, direction: str) -> None:
    whole, pieces = FrameEncoder(), FrameEncoder()
    for payload in payloads(name, direction):
        wire = pieces.message_start(len(payload))
        wire += b"".join(pieces.message_chunk(payload[at : at + 11]) for at in range(0, len(payload), 11))
        assert wire + pieces.message_done() == whole.encode(payload)


@pytest.mark.parametrize(("name", "direction"), STREAMS)
def test_session_messages_and_packets_of_a_recording_are_understood_and_encoded_to_the_same_bytes(
    name: str, direction: str
) -> None:
    allowed = REQUESTS if direction == "host" else REPLIES
    for payload in payloads(name, direction):
        session_id, number = struct.unpack_from("<HB", payload)
        message_type, body = MessageType(number), payload[3:]
        assert encode_message(session_id, message_type, body) == payload
        match message_type:
            case MessageType.NORMAL:
                assert int.from_bytes(body[:8], "little") == len(body) - 8  # one message is one packet
                packet = decode_packet(body[8:])
                assert isinstance(packet, allowed)
                assert encode_packet(packet) == body
            case MessageType.LOG:
                assert (direction, session_id, body) == ("device", 0, b"hello from device")
            case MessageType.TERMINATE_SESSION:
                assert (session_id, body) == (0, b"")
            case MessageType.START_SESSION_INIT:
                assert (direction, session_id >> 8, body) == ("host", 0, b"\x01")
                assert session_id
            case MessageType.START_SESSION_REPLY:
                assert (direction, body) == ("device", b"\x01")
                assert session_id >> 8


def test_the_long_recording_holds_what_is_said_of_it() -> None:
    exchanges = recorded_exchanges()
    requests = [exchange.request for exchange in exchanges]
    assert len(exchanges) == 502
    assert sum(isinstance(request, CopyToRemote) for request in requests) == 100
    assert sum(isinstance(request, CopyFromRemote) for request in requests) == 100
    assert sum(isinstance(request, CallFunc) for request in requests) == 64
    assert sum(is_syscall(request, PacketCode.DEV_STREAM_SYNC) for request in requests) == 104
    assert [exchange.logs for exchange in exchanges if exchange.logs] == [[b"hello from device"]]
    assert isinstance(requests[-1], Shutdown)


# --- the device of the recording, played to our host --------------------------------------------

SMALL_PACKET_BYTES = 128 - 3  # a buffer has the session's header, too


@dataclass(slots=True)
class Exchange:
    """A recorded request, the logs that came before its reply, and the reply; `wire` are their session bodies."""

    request: Request
    request_wire: bytes
    logs: list[bytes]
    reply: Packet | None = None
    reply_wire: bytes = b""


def is_syscall(packet: Packet, code: PacketCode) -> bool:
    return isinstance(packet, Syscall) and packet.code is code


def recorded_exchanges() -> list[Exchange]:
    """All exchanges of the long recording, in their order."""
    decoders = {"host": FrameDecoder(), "device": FrameDecoder()}
    found: list[Exchange] = []
    for burst in golden.load("crt_2k"):
        for payload in decoders[burst.dir].feed(burst.data):
            assert isinstance(payload, bytes)
            body = payload[3:]
            if payload[2] == MessageType.LOG:
                found[-1].logs.append(body)
            elif payload[2] == MessageType.NORMAL:
                packet = decode_packet(body[8:])
                if burst.dir == "host":
                    assert isinstance(packet, REQUESTS)
                    found.append(Exchange(packet, body, []))
                else:
                    assert found[-1].reply is None
                    found[-1].reply, found[-1].reply_wire = packet, body
    return found


@dataclass(slots=True)
class Script:
    """What the recorded program did, and what our host is to send and get for it."""

    program: list[Exchange]
    expected: list[Exchange]


def make_script() -> Script:
    """Take the recording apart: the calls of the program, and the packets, without the DevStreamSyncs.

    The limit that the C++ host asked for of its own accord, at its first copy although that was of 0 bytes, is
    expected of ours before the first request that the smallest board could not hold.
    """
    exchanges = recorded_exchanges()
    asked = [
        at
        for at, exchange in enumerate(exchanges)
        if exchange.request == Syscall(PacketCode.GET_GLOBAL_FUNC, (MAX_PACKET_SIZE_FUNCTION,))
    ]
    assert len(asked) == 2  # the first by the program, which frees the function after it has called it
    first = asked[1]
    assert is_syscall(exchanges[first - 1].request, PacketCode.DEV_ALLOC_DATA_WITH_SCOPE)
    assert is_syscall(exchanges[first + 2].request, PacketCode.DEV_STREAM_SYNC)  # that copy was empty
    limit = exchanges[first : first + 2]
    program = exchanges[:first] + exchanges[first + 2 :]
    expected = [exchange for exchange in program if not is_syscall(exchange.request, PacketCode.DEV_STREAM_SYNC)]
    first_large = next(at for at, exchange in enumerate(expected) if len(exchange.request_wire) > SMALL_PACKET_BYTES)
    expected[first_large:first_large] = limit
    return Script(program, [with_flat_tensor(exchange) for exchange in expected])


def with_flat_tensor(exchange: Exchange) -> Exchange:
    """Describe the tensor of a copy with one dimension, as our host does it to have the smallest header."""
    request = exchange.request
    if not isinstance(request, CopyToRemote | CopyFromRemote) or len(request.tensor.shape) < 2:
        return exchange
    flat = dataclasses.replace(request.tensor, shape=(math.prod(request.tensor.shape),))
    request = dataclasses.replace(request, tensor=flat)
    return dataclasses.replace(exchange, request=request, request_wire=encode_packet(request))


class RecordedDevice:
    """A channel with the device of the recording behind it, in virtual time.

    What our host sends must be what the C++ host sent, byte by byte but for the session id and the shape of what is
    copied; it gets the answers that
    the C++ host got, in pieces of `piece_bytes`.
    """

    name = "recording"
    responder_nonce = 0x62

    def __init__(self, expected: list[Exchange], piece_bytes: int) -> None:
        self.expected = expected
        self.consumed = 0
        self.types: list[MessageType] = []
        self.sent = b""
        self.session_id = 0
        self.is_closed = False
        self._piece_bytes = piece_bytes
        self._now = 0.0
        self._decoder = FrameDecoder()
        self._encoder = FrameEncoder()
        self._pending = bytearray()
        self._answer(0, MessageType.TERMINATE_SESSION, b"")

    def read(self, deadline: float) -> bytes:
        data = bytes(self._pending[: self._piece_bytes])
        del self._pending[: self._piece_bytes]
        if not data and deadline > self._now:
            raise AssertionError(f"our host waits for something that the recording has not, after {self.consumed}")
        return data

    def write(self, data: bytes, deadline: float) -> None:
        self.sent += data
        for payload in self._decoder.feed(data):
            assert isinstance(payload, bytes)
            session_id, number = struct.unpack_from("<HB", payload)
            self.types.append(MessageType(number))
            if number == MessageType.START_SESSION_INIT:
                self.session_id = make_session_id(session_id, self.responder_nonce)
                self._answer(self.session_id, MessageType.START_SESSION_REPLY, b"\x01")
            elif number == MessageType.NORMAL:
                assert session_id == self.session_id
                self._take(payload[3:])
            else:
                assert (session_id, number) == (0, MessageType.TERMINATE_SESSION)

    def now(self) -> float:
        return self._now

    def close(self) -> None:
        self.is_closed = True

    @property
    def next_request(self) -> Request | None:
        return self.expected[self.consumed].request if self.consumed < len(self.expected) else None

    def _take(self, body: bytes) -> None:
        assert not self._pending, "a request was sent before the last reply was read"
        assert decode_packet(body[8:]) == self.next_request
        exchange = self.expected[self.consumed]
        assert body == exchange.request_wire
        self.consumed += 1
        for log in exchange.logs:
            self._answer(0, MessageType.LOG, log)
        if exchange.reply is not None:
            self._answer(self.session_id, MessageType.NORMAL, exchange.reply_wire)

    def _answer(self, session_id: int, message_type: MessageType, body: bytes) -> None:
        self._pending += self._encoder.encode(encode_message(session_id, message_type, body))


class Program:
    """The program that was recorded, as calls of our `Board`."""

    def __init__(self, board: Board, program: list[Exchange]) -> None:
        self.board = board
        self.program = program
        self.freed: list[RemoteHandle] = []
        self.calls: list[str] = []
        self._live: dict[tuple[type, int], list[Any]] = {}

    def run(self) -> None:
        at = 0
        while at < len(self.program):
            run = self._run_of_copies(at)
            self.calls.append(self._step(run))
            at += len(run)

    def _run_of_copies(self, at: int) -> list[Exchange]:
        """The exchange at `at`; where it is a block of a copy, with the other blocks."""
        first = self.program[at].request
        if not isinstance(first, CopyToRemote | CopyFromRemote):
            return self.program[at : at + 1]
        end = at
        while type(self.program[end].request) is type(first):
            end += 1
        return self.program[at:end]

    def _keep(self, thing: RemoteHandle) -> None:
        self._live.setdefault((type(thing), thing.handle), []).append(thing)

    def _find(self, kind: type, handle: int) -> Any:
        return self._live[kind, handle][-1]

    def _free(self, kind: type, handle: int) -> None:
        thing = self._live[kind, handle].pop()
        thing.free()
        assert not thing.is_live
        self.freed.append(thing)

    def _argument(self, value: Value) -> Any:
        if isinstance(value, ModuleHandle):
            return self._find(RemoteModule, value)
        if isinstance(value, FunctionHandle):
            return self._find(RemoteFunction, value)
        if isinstance(value, Tensor):
            return self._find(RemoteArray, value.data)
        return value

    def _step(self, run: list[Exchange]) -> str:
        exchange = run[0]
        request = exchange.request
        match request:
            case Syscall(PacketCode.GET_GLOBAL_FUNC, (str(name),)):
                function = self.board.global_function(name)
                assert exchange.reply == Return((OpaqueHandle(function.handle if function else 0),))
                if function is not None:
                    self._keep(function)
                return "look up"
            case CallFunc():
                self._call(request, exchange.reply)
                return "call"
            case Syscall(PacketCode.FREE_HANDLE, (int(handle), int(type_code))):
                self._free({9: RemoteModule, 10: RemoteFunction}[type_code], handle)
                return "free handle"
            case Syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (Tensor() as tensor, None)):
                array = self.board.empty(tensor.shape, tensor.dtype)
                assert exchange.reply == Return((OpaqueHandle(array.handle),))
                self._keep(array)
                if not array.size_bytes:  # of an empty copy in, and one back, the recording has the syncs alone
                    array.write(np.empty(array.shape, array.dtype.numpy))
                    assert array.numpy().shape == array.shape
                return "alloc"
            case CopyToRemote():
                array = self._find(RemoteArray, request.tensor.data)
                data = b"".join(bytes(part.request.data) for part in run)  # type: ignore[union-attr]
                assert len(data) == array.size_bytes
                array.write(np.frombuffer(data, array.dtype.numpy).reshape(array.shape))
                return "write"
            case CopyFromRemote():
                array = self._find(RemoteArray, request.tensor.data)
                acks = b"".join(part.reply.data for part in run)  # type: ignore[union-attr]
                found = array.numpy()
                assert (found.shape, found.dtype) == (array.shape, array.dtype.numpy)
                assert found.tobytes() == acks
                return "read"
            case Syscall(PacketCode.COPY_AMONG_REMOTE, (Tensor() as source, Tensor() as target, _)):
                self._find(RemoteArray, source.data).copy_to(self._find(RemoteArray, target.data))
                return "copy"
            case Syscall(PacketCode.DEV_FREE_DATA, (_, int(address))):
                self._free(RemoteArray, address)
                return "free data"
            case Syscall(PacketCode.DEV_STREAM_SYNC):
                return "sync"
            case Shutdown():
                self.board.live.clear()  # the recorded program left a function unfreed; ours would free it now
                self.board.close(shutdown=True)
                return "shutdown"
        raise AssertionError(f"the recording has something new: {request}")

    def _call(self, request: CallFunc, reply: Packet | None) -> None:
        function = self._find(RemoteFunction, request.handle)
        arguments = [self._argument(value) for value in request.args]
        if isinstance(reply, RemoteException):
            with pytest.raises(RemoteError) as caught:
                function(*arguments)
            assert (caught.value.message, caught.value.code) == (reply.message, "CallFunc")
            return
        assert isinstance(reply, Return)
        expected = decode_result(reply.values)
        result = function(*arguments)
        if isinstance(result, RemoteHandle):
            assert isinstance(result, {FunctionHandle: RemoteFunction, ModuleHandle: RemoteModule}[type(expected)])
            assert result.handle == expected
            self._keep(result)
        else:
            assert (type(result), result) == (type(expected), expected)

    def still_held(self) -> list[RemoteHandle]:
        return [thing for things in self._live.values() for thing in things]


@dataclass(slots=True)
class Played:
    """Our host after it has played its part."""

    device: RecordedDevice
    program: Program
    logs: list[str]


def play(piece_bytes: int) -> Played:
    script = make_script()
    device = RecordedDevice(script.expected, piece_bytes)
    logs: list[str] = []
    board = open_board(device, Timeouts(), logs.append, link=False)
    program = Program(board, script.program)
    program.run()
    return Played(device, program, logs)


@pytest.fixture(scope="module")
def played() -> Played:
    return play(1 << 20)


@pytest.mark.parametrize("piece_bytes", [1, 64, 1 << 20])
def test_our_host_sends_what_the_reference_sent_and_takes_the_answers_that_it_got(piece_bytes: int) -> None:
    played = play(piece_bytes)
    assert played.device.consumed == len(played.device.expected) == 502 - 104
    assert played.device.next_request is None
    assert played.device.is_closed
    assert played.logs == ["hello from device"]
    assert played.device.now() == 0.0  # it never waited


def test_every_call_of_the_recorded_program_was_made(played: Played) -> None:
    calls = played.program.calls
    assert {call: calls.count(call) for call in sorted(set(calls))} == {
        "alloc": 53,
        "call": 63,
        "copy": 1,
        "free data": 53,
        "free handle": 18,
        "look up": 7,
        "read": 47,
        "shutdown": 1,
        "sync": 104,
        "write": 47,
    }


def test_our_host_opens_one_session_and_leaves_it_with_the_shutdown(played: Played) -> None:
    opening = [MessageType.TERMINATE_SESSION, MessageType.START_SESSION_INIT]
    assert played.device.types == opening + [MessageType.NORMAL] * 398
    assert played.device.sent.endswith(
        FrameEncoder().encode(encode_message(played.device.session_id, MessageType.NORMAL, encode_packet(Shutdown())))[
            1:
        ]
    )


def test_the_line_carries_the_bytes_of_the_reference_but_for_nonces_and_its_extra_requests(played: Played) -> None:
    theirs = [0, 0x26, 0x6226]  # session ids: none, opening, open
    ours = [0, played.device.session_id & 0xFF, played.device.session_id]
    encoder = FrameEncoder()
    renamed = b""
    for frame in FrameDecoder().feed(played.device.sent):
        assert isinstance(frame, bytes)
        session_id = theirs[ours.index(int.from_bytes(frame[:2], "little"))]
        renamed += encoder.encode(session_id.to_bytes(2, "little") + frame[2:])
    head = 24  # TERMINATE and INIT
    assert renamed[:head] == golden.stream("crt_2k", "host")[:head]
    encoder.reset()
    for frame in FrameDecoder().feed(golden.stream("crt_2k", "host"))[:2]:
        assert isinstance(frame, bytes)
        encoder.encode(frame)
    requests = [encode_message(0x6226, MessageType.NORMAL, e.request_wire) for e in played.device.expected]
    assert renamed[head:] == b"".join(map(encoder.encode, requests))


def limit_at(played: Played) -> int:
    """Where our host asked for the limit of its own accord, in the requests that it sent."""
    request = Syscall(PacketCode.GET_GLOBAL_FUNC, (MAX_PACKET_SIZE_FUNCTION,))
    sent = [exchange.request for exchange in played.device.expected]
    [at] = [  # the program asks for it too, and frees the function
        at for at, one in enumerate(sent) if one == request and not is_syscall(sent[at + 2], PacketCode.FREE_HANDLE)
    ]
    return at


def test_our_host_asks_for_the_limit_before_what_the_smallest_board_could_not_hold_the_reference_at_an_empty_copy(
    played: Played,
) -> None:
    at = limit_at(played)
    _, ask, large = (exchange for exchange in played.device.expected[at : at + 3])
    assert ask.request == CallFunc(0x80028003, ())
    assert isinstance(large.request, CallFunc)
    assert len(large.request_wire) > SMALL_PACKET_BYTES
    before = played.device.expected[:at]
    assert max(len(exchange.request_wire) for exchange in before) <= SMALL_PACKET_BYTES
    assert not any(isinstance(exchange.request, CopyToRemote) for exchange in before)


def test_what_the_recorded_program_left_unfreed_is_what_ours_holds(played: Played) -> None:
    # The function "noop", which the C++ program let go of without a FreeHandle.
    assert sorted({thing._handle for thing in played.program.still_held()}) == [0x80008006]
    assert len(played.program.freed) == 53 + 18
