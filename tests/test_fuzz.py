"""Hostile bytes into everything that takes bytes: nothing but documented errors, no hang, bounded memory, recovery."""

from __future__ import annotations

import os
import random
import struct
import tracemalloc
from collections.abc import Callable
from functools import cache
from typing import Any

import golden
import pytest

from firmware_sim.board import demo as demo
from firmware_sim.board.device import Device, Firmware
from firmware_sim.running.loopback import LoopbackChannel
from microrpc.capture.trace import Trace
from microrpc.connecting.blocking import open_board
from microrpc.errors import (
    BoardResetError,
    HandshakeTimeoutError,
    MicroRpcError,
    OutcomeUnknownError,
    ProtocolError,
    RequestError,
    StaleHandleError,
)
from microrpc.host.connection import Connection
from microrpc.host.operation import Operation
from microrpc.host.recovery import MAX_ATTEMPTS
from microrpc.serve.endpoint import ServerEndpoint
from microrpc.serve.local import LocalSession
from microrpc.serve.memory import Memory
from microrpc.wire.datatypes import CPU, DataType, OpaqueHandle, Tensor
from microrpc.wire.frames import Damage, FrameDecoder, FrameEncoder, Garbage, encode_frame
from microrpc.wire.link import encode_with_kind
from microrpc.wire.packets import PacketCode, Request, Return, Syscall, decode_packet, encode_packet
from microrpc.wire.reader import ClientEndpoint, PacketReader
from microrpc.wire.session import (
    Dropped,
    Established,
    LateReply,
    Log,
    Message,
    MessageType,
    Session,
    SessionState,
    StartExpired,
    Terminated,
    Timeouts,
    encode_message,
)

# --- hostile bytes: MICRORPC_FUZZ_BYTES in all, MICRORPC_FUZZ_SEED runs one case of a target --------

DEFAULT_BYTES = 20_000_000
SPECIAL = (b"\xff", b"\xfd", b"\xfe", b"\xff\xfd", b"\xff\xfe", b"\xff\xff", b"\xff\x00", b"\x00" * 4)
Case = Callable[[random.Random, int], int]


def run_cases(target: str, share: float, case: Case) -> int:
    """Run `case(rng, seed)`, which returns how many bytes it fed, until `target` has had its share of all bytes."""
    only = os.environ.get("MICRORPC_FUZZ_SEED")
    budget = int(os.environ.get("MICRORPC_FUZZ_BYTES", DEFAULT_BYTES)) * share
    fed = 0
    seed = int(only) if only else 0
    while fed < budget:
        try:
            fed += case(random.Random(f"{target} {seed}"), seed)
        except Exception as error:
            raise AssertionError(
                f"{type(error).__name__} with seed {seed}: {error}\nreplay it with: "
                f"MICRORPC_FUZZ_SEED={seed} .venv/bin/python -m pytest tests/test_fuzz.py -k {target}"
            ) from error
        if only:
            break
        seed += 1
    return fed


@cache
def recordings(direction: str) -> tuple[bytes, ...]:
    return tuple(golden.stream(name, direction) for name in golden.NAMES)


@cache
def payloads(direction: str, most: int = 1 << 20) -> tuple[bytes, ...]:
    """The payloads of all good frames that `direction` sent, each once, of at most so many bytes."""
    found = [frame for data in recordings(direction) for frame in FrameDecoder().feed(data)]
    return tuple(dict.fromkeys(frame for frame in found if isinstance(frame, bytes) and len(frame) <= most))


def noise(rng: random.Random, size_bytes: int) -> bytes:
    """Random bytes; now and then of few values, so that starts and escapes are frequent."""
    if rng.random() < 0.6:
        return rng.randbytes(size_bytes)
    alphabet = rng.choice((b"\xff\xfd", b"\xff\xfd\xfe", b"\xff\xfd\xfe\x00\x01\x05", b"\xff", b"\xff\xfd\x00"))
    return bytes(rng.choices(alphabet, k=size_bytes))


def mutate(rng: random.Random, data: bytes, other: bytes = b"", changes: int = 4) -> bytes:
    """Flip, drop, double, insert, overwrite as a length, truncate or splice, up to `changes` times."""
    out = bytearray(data)
    for _ in range(rng.randint(1, changes)):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(9):
            case 0 | 1 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 2:
                del out[at : at + rng.choice((1, 1, 2, 9, 200))]
            case 3:
                out[at:at] = out[at : at + rng.choice((1, 2, 30, 300))]
            case 4 | 5:
                out[at:at] = rng.choice(SPECIAL)
            case 6 if len(out) >= 8:
                at = rng.randrange(len(out) - 7)
                value = rng.choice((0, 1, 255, 2047, 2049, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, rng.randrange(99999)))
                struct.pack_into(rng.choice(("<I", "<Q")), out, at, value)
            case 7 if rng.random() < 0.2:
                del out[at:]
            case 8 if other:
                start = rng.randrange(len(other))
                out[at : at + 50] = other[start : start + rng.randrange(300)]
    return bytes(out)


def message(rng: random.Random, direction: str, session_id: int) -> bytes:
    """The payload of one session message, mostly damaged behind its header, mostly of `session_id`."""
    source = payloads(direction) if rng.random() < 0.03 else payloads(direction, 200)
    payload = rng.choice(source)
    if rng.random() < 0.85:
        header = struct.pack("<HB", session_id, rng.choice((payload[2], MessageType.NORMAL)))
        body = payload[3:]
        return header + (mutate(rng, body, rng.choice(source)) if rng.random() < 0.8 else body)
    return mutate(rng, payload, rng.choice(source))


def hostile(rng: random.Random, direction: str, session_id: int, size_bytes: int) -> bytes:
    """About `size_bytes` of noise, of a mutated recording, or of mutated messages in frames with a correct crc."""
    kind = rng.randrange(4)
    if kind == 0:
        return noise(rng, size_bytes)
    if kind == 1:
        data = rng.choice(recordings(direction))
        start = rng.randrange(max(1, len(data) - size_bytes))
        other = rng.choice(recordings(rng.choice(("host", "device"))))
        return mutate(rng, data[start : start + size_bytes], other, 1 + size_bytes // 300)
    return b"".join(encode_frame(message(rng, direction, session_id)) for _ in range(max(1, size_bytes // 100)))


def pieces(rng: random.Random, data: bytes) -> list[bytes]:
    """`data` at once, in pieces of one size, or (little of it) byte by byte."""
    kind = rng.randrange(8)
    if kind == 0:
        return [data[at : at + 1] for at in range(min(len(data), 2000))] + [data[2000:]]
    if kind < 4:
        size = rng.choice((7, 64, 1000, 5000))
        return [data[at : at + size] for at in range(0, len(data), size)]
    return [data]


# The parts of all bytes that the targets get; the frame decoder is the fastest, and takes most.
SHARES = {
    "frame_decoder": 0.60,
    "session": 0.08,
    "packet_reader": 0.08,
    "client_endpoint": 0.05,
    "server_endpoint": 0.05,
    "conversation": 0.05,
    "robust_device": 0.05,
    "stock_device": 0.01,
    "board": 0.02,
    "trace": 0.02,
}
EVENTS = Dropped | Established | LateReply | Log | Message | StartExpired | Terminated
LOOK_UP = Syscall(PacketCode.GET_GLOBAL_FUNC, ("add",))


def fuzz(target: str, case: Case) -> None:
    assert run_cases(target, SHARES[target], case) > 0


def test_the_targets_get_all_bytes_that_were_promised() -> None:
    assert sum(SHARES.values()) >= 1


# --- framing and session ----------------------------------------------------------------------


def check_decoder_is_bounded(decoder: FrameDecoder) -> None:
    assert len(decoder._got) <= max(4, decoder.max_payload_bytes)
    assert len(getattr(decoder, "_payload", b"")) <= decoder.max_payload_bytes
    assert len(decoder._held) <= 1


def test_fuzz_frame_decoder_never_raises_and_takes_the_next_good_frame() -> None:
    def case(rng: random.Random, seed: int) -> int:
        limit = rng.choice((16, 2048, 1 << 20))
        decoder = FrameDecoder(limit)
        data = b"".join(hostile(rng, rng.choice(("host", "device")), 0x6226, 60_000) for _ in range(4))
        got = 0
        for piece in pieces(rng, data):
            for frame in decoder.feed(piece):
                assert isinstance(frame, bytes | Damage | Garbage)
                if isinstance(frame, bytes):
                    assert len(frame) <= limit
                    got += len(frame)
            check_decoder_is_bounded(decoder)
        assert got <= len(data)
        assert decoder.bytes_skipped <= len(data)
        assert decoder.feed(FrameEncoder().encode(b"good"))[-1] == b"good"
        return len(data)

    fuzz("frame_decoder", case)


def test_fuzz_session_gives_an_event_for_any_payload_and_can_be_opened_after_it() -> None:
    def case(rng: random.Random, seed: int) -> int:
        session = Session(seed)
        is_initiator = rng.random() < 0.5
        now = 0.0
        if is_initiator:
            session.start(now, retry_s=0.5, total_s=5.0)
        fed = 0
        for _ in range(300):
            session_id = session.session_id | (rng.randrange(256) << 8 if rng.random() < 0.5 else 0)
            payload = message(rng, rng.choice(("host", "device")), session_id)
            fed += len(payload)
            before = len(session.outgoing)
            assert isinstance(session.receive(payload), EVENTS)
            assert len(session.outgoing) <= before + 2
            if session.deadline is not None and rng.random() < 0.1:
                now = session.deadline
                assert isinstance(session.on_time(now), StartExpired | None)
            if len(session.outgoing) > 9:
                session.outgoing.clear()
            assert (session.state is SessionState.NO_SESSION) == (session.session_id == 0)
        session.receive(encode_message(0, MessageType.TERMINATE_SESSION))
        session.start(now, retry_s=0.5, total_s=5.0)
        session.receive(encode_message(session.session_id | 0x7700, MessageType.START_SESSION_REPLY, b"\x01"))
        assert session.state is SessionState.ESTABLISHED
        return fed

    fuzz("session", case)


def odd_frame(rng: random.Random, direction: str) -> bytes:
    """A good frame with what no peer of ours says: packets without values, and messages of the link cut anywhere."""
    kind = rng.choice([*MessageType, rng.randrange(256)])
    packet = rng.choice((encode_packet(Return(())), rng.choice(payloads(direction, 200))[3:], rng.randbytes(20)))
    if kind in (MessageType.LINK_REQUEST, MessageType.LINK_REPLY, MessageType.LINK_NAK) and rng.random() < 0.7:
        body = (packet[8:] if rng.random() < 0.7 else rng.randbytes(rng.randrange(20)))[: rng.choice((0, 4, 12, 2000))]
        return encode_frame(encode_with_kind(0x6226, kind, rng.randrange(4), rng.randrange(5), body))
    return encode_frame(struct.pack("<HB", 0x6226, kind) + packet[: rng.choice((0, 1, 5, 9, 2000))])


def test_fuzz_trace_shows_whatever_crosses_and_keeps_the_last_of_it() -> None:
    def case(rng: random.Random, seed: int) -> int:
        trace = Trace(keep_frames=50)
        fed = 0
        for at in range(30):
            to_board = rng.random() < 0.5
            session_id = rng.choice((0, 0x6226))
            direction = "host" if to_board else "device"
            odd = b"".join(odd_frame(rng, direction) for _ in range(10))
            for piece in pieces(rng, odd + hostile(rng, direction, session_id, 1000)):
                trace.note(at * 0.1, piece, to_board=to_board)
                fed += len(piece)
            for frame in trace.frames:
                assert frame.line(0.0).isprintable()
            assert len(trace.frames) <= 50
            assert len(trace.log_lines) <= 50
            assert set(trace.unfinished) <= {"to the board", "from the board"}
        for to_board in (False, True):
            trace.note(
                9.0, encode_frame(encode_message(0x6226, MessageType.NORMAL, encode_packet(LOOK_UP))), to_board=to_board
            )
            assert "add" in trace.frames[-1].meaning
        return fed

    fuzz("trace", case)


# --- endpoints --------------------------------------------------------------------------------


def packets(rng: random.Random, direction: str, count: int) -> bytes:
    """A stream of packets, each mutated; most with a packet_nbytes that fits, so that the next one is found."""
    out = []
    for _ in range(count):
        body = mutate(rng, message(rng, direction, 0)[11:])
        nbytes = len(body) if rng.random() < 0.95 else rng.choice((0, 1, len(body) + 1, 1 << 16, 1 << 40))
        out.append(struct.pack("<Q", nbytes) + body)
    return b"".join(out)


def test_fuzz_packet_reader_and_the_codec_raise_protocol_errors_only() -> None:
    def case(rng: random.Random, seed: int) -> int:
        limit = 1 << 16
        reader = PacketReader(max_packet_bytes=limit, init_header=rng.random() < 0.1)
        is_noise = rng.random() < 0.2
        data = noise(rng, 30_000) if is_noise else packets(rng, rng.choice(("host", "device")), 150)
        for piece in pieces(rng, data):
            reader.feed(piece)
            try:
                while (body := reader.next_packet()) is not None:
                    assert len(body) <= limit
                    try:
                        encode_packet(decode_packet(body))
                    except ProtocolError:
                        continue
            except ProtocolError:
                reader.reset()
            assert len(reader._buffer) <= limit + 8 + len(piece)
            assert 0 <= reader.bytes_needed <= limit + 8
        return len(data)

    fuzz("packet_reader", case)


def test_fuzz_client_endpoint_raises_protocol_errors_only_and_works_after_a_reset() -> None:
    requests: list[Request] = [LOOK_UP]

    def case(rng: random.Random, seed: int) -> int:
        client = ClientEndpoint(max_packet_bytes=1 << 16)
        data = packets(rng, "device", 60) if rng.random() < 0.8 else noise(rng, 10_000)
        client.request(requests[0])
        for piece in pieces(rng, data):
            try:
                done = client.feed(piece) is not None
            except ProtocolError:
                done = True
            if done:
                client.reset()
                client.request(requests[0])
        client.reset()
        client.request(LOOK_UP)
        assert client.feed(encode_packet(Return((OpaqueHandle(9),)))) == Return((OpaqueHandle(9),))
        return len(data)

    fuzz("client_endpoint", case)


def test_fuzz_server_endpoint_raises_protocol_errors_only_and_serves_after_a_reset() -> None:
    def case(rng: random.Random, seed: int) -> int:
        session = LocalSession({"add": demo.add}, Memory(1 << 14))
        data = packets(rng, "host", 80) if rng.random() < 0.9 else noise(rng, 10_000)
        server = ServerEndpoint(session=session, max_packet_bytes=1 << 16)
        for piece in pieces(rng, data):
            try:
                server.feed(piece)
            except ProtocolError:
                server = ServerEndpoint(session=session, max_packet_bytes=1 << 16)
            reader = PacketReader()
            reader.feed(server.take_output())
            while (body := reader.next_packet()) is not None:
                decode_packet(body)
            assert reader.is_between_packets
        server = ServerEndpoint(session=session)
        server.feed(encode_packet(LOOK_UP))
        reply = decode_packet(server.take_output()[8:])
        assert isinstance(reply, Return)
        assert reply.values[0]
        return len(data)

    fuzz("server_endpoint", case)


# --- the conversation -------------------------------------------------------------------------


class Line:
    """A pump in virtual time: whatever the host sends is listened to, and hostile bytes are what it gets.

    While `is_fluent`, INITs are answered, so that what follows comes to a host with a session.
    """

    def __init__(self, rng: random.Random, connection: Connection) -> None:
        self.rng = rng
        self.connection = connection
        self.now = 0.0
        self.fed = 0
        self.is_fluent = True
        self._decoder = FrameDecoder()
        self._answers: list[bytes] = []

    def run(self, operation: Operation[Any], limit_s: float) -> Any:
        end = self.now + limit_s
        try:
            deadline = operation.send(None)  # type: ignore[arg-type]
            for _ in range(20_000):
                data = self._arrival()
                self.now = self.now + 0.005 if data and deadline > self.now else max(self.now, deadline)
                self.fed += len(data)
                deadline = operation.send((data, self.now))
                assert self.now <= end, f"it still waits after {limit_s} s"
                self._listen(self.connection.output.take(0.0, 0.0)[0])
        except StopIteration as stop:
            return stop.value
        raise AssertionError("it does not end")

    def _listen(self, output: bytes) -> None:
        for payload in self._decoder.feed(output):
            assert isinstance(payload, bytes)
            if payload[2] == MessageType.START_SESSION_INIT:
                session_id = payload[0] | self.rng.randrange(1, 256) << 8
                answer = encode_message(session_id, MessageType.START_SESSION_REPLY, b"\x01")
                self._answers = [encode_frame(answer)]
            elif payload[2] == MessageType.NORMAL:
                handle = OpaqueHandle(0 if b"in-step" in payload else 9)
                self._answers.append(encode_frame(payload[:3] + encode_packet(Return((handle,)))))

    def _arrival(self) -> bytes:
        if self.is_fluent and self._answers and self.rng.random() < 0.9:
            return self._answers.pop(0)
        if self.rng.random() < (0.9 if self.is_fluent else 0.3):
            return b""
        size = self.rng.choice((50, 300, 2000))
        return hostile(self.rng, "device", self.connection.session_id, size)


def test_fuzz_conversation_ends_each_operation_in_time_with_a_reply_or_a_documented_error() -> None:
    waits = Timeouts(retry_s=0.2, start_s=1.0, call_s=0.5)
    limit_s = MAX_ATTEMPTS * (MAX_ATTEMPTS * waits.start_s + waits.call_s) + 1.0
    tensor = Tensor(64, CPU, DataType(1, 8), (8,))
    requests: list[Request] = [LOOK_UP, Syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (tensor, None))]

    def case(rng: random.Random, seed: int) -> int:
        connection = Connection(seed=seed, timeouts=waits, link=False, max_reply_bytes=1 << 16)
        line = Line(rng, connection)
        line.is_fluent = rng.random() < 0.9
        operations: list[Callable[[], Operation[Any]]] = [connection.open]
        for _ in range(6):
            request = rng.choice(requests)
            epoch = rng.choice((None, None, connection.trust.epoch))
            repeatable = rng.random() < 0.5

            def exchange(
                request: Request = request, epoch: int | None = epoch, repeatable: bool = repeatable
            ) -> Operation[Any]:
                packet = encode_packet(request)
                return connection.exchange(request, packet, timeout_s=waits.call_s, repeatable=repeatable, epoch=epoch)

            operations.append(exchange)
        for operation in operations:
            try:
                line.run(operation(), limit_s)
            except MicroRpcError as error:
                if not isinstance(error, OutcomeUnknownError | HandshakeTimeoutError):
                    raise
                connection.output.take(0.0, 0.0)[0]
            check_decoder_is_bounded(connection.line._decoder)
        line.run(connection.close(shutdown=False), limit_s)
        return line.fed

    fuzz("conversation", case)


# --- the simulated boards and the whole host ----------------------------------------------------


class Host:
    """Just enough of a host to open a session and look a function up, whatever came before."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.session_id = 0
        self._encoder = FrameEncoder()

    def _say(self, session_id: int, message_type: MessageType, body: bytes) -> list[bytes]:
        self._encoder.reset()  # the lone FE that ends a dangling FF
        self.device.receive(self._encoder.encode(encode_message(session_id, message_type, body)))
        found = FrameDecoder(1 << 24).feed(self.device.take_output())
        assert all(isinstance(frame, bytes) for frame in found)
        return [frame for frame in found if isinstance(frame, bytes) and frame[2] != MessageType.LOG]

    def open(self, nonce: int) -> None:
        self._say(0, MessageType.TERMINATE_SESSION, b"")
        [reply] = self._say(nonce, MessageType.START_SESSION_INIT, b"\x01")
        self.session_id = int.from_bytes(reply[:2], "little")
        assert (reply[0], reply[2:]) == (nonce, b"\x01\x01")

    def look_up(self) -> int:
        [reply] = self._say(self.session_id, MessageType.NORMAL, encode_packet(LOOK_UP))
        packet = decode_packet(reply[11:])
        assert isinstance(packet, Return)
        [handle] = packet.values
        assert isinstance(handle, OpaqueHandle)
        return handle


def make_device(seed: int, firmware: Firmware) -> Device:
    device = Device(seed=seed, firmware=firmware, heap_bytes=1 << 16)
    demo.install(device)
    return device


def test_fuzz_robust_device_answers_a_handshake_and_a_look_up_after_anything() -> None:
    def case(rng: random.Random, seed: int) -> int:
        device = make_device(seed, Firmware.ROBUST)
        host = Host(device)
        fed = 0
        for batch in range(4):
            host.open(rng.randrange(1, 256))
            assert host.look_up(), batch
            data = hostile(rng, "host", host.session_id, 6000)
            for piece in pieces(rng, data):
                device.receive(piece)
            output = FrameDecoder(1 << 24).feed(device.take_output())
            assert all(isinstance(frame, bytes) for frame in output)
            fed += len(data)
        host.open(rng.randrange(1, 256))
        assert host.look_up()
        assert not device.is_dead
        assert device.memory.used_bytes <= 1 << 16
        return fed

    fuzz("robust_device", case)


def test_fuzz_stock_device_dies_or_lives_but_never_raises_and_a_reset_revives_it() -> None:
    def case(rng: random.Random, seed: int) -> int:
        device = make_device(seed, Firmware.STOCK)
        host = Host(device)
        host.open(rng.randrange(1, 256))
        assert host.look_up()
        data = hostile(rng, "host", host.session_id, 2000)
        device.receive(data)
        output = FrameDecoder(1 << 24).feed(device.take_output())
        assert all(isinstance(frame, bytes) for frame in output)
        if device.is_dead:
            device.receive(data)
            assert device.take_output() == b""
        device.reset()
        assert not device.is_dead
        device.take_output()
        host.open(rng.randrange(1, 256))
        assert host.look_up()
        return len(data)

    fuzz("stock_device", case)


def test_fuzz_board_recovers_once_the_line_is_clean() -> None:
    def case(rng: random.Random, seed: int) -> int:
        device = make_device(seed, Firmware.ROBUST)
        fed = 0
        is_hostile = False

        def damage(data: bytes) -> bytes:
            nonlocal fed
            if not is_hostile or rng.random() < 0.3:
                return data
            garbage = hostile(rng, "device", board.session_id, 1000)
            fed += len(garbage)
            return rng.choice((garbage, garbage + data, data + garbage, mutate(rng, data)))

        channel = LoopbackChannel(device, to_host=damage)
        board = open_board(channel, Timeouts(retry_s=0.2, start_s=2.0, call_s=1.0), on_reset=lambda: None)
        for _ in range(3):
            is_hostile = True
            for _ in range(4):
                try:
                    found = board.global_function("add")
                    if found is not None:
                        found(2, 3)
                except MicroRpcError as error:
                    if blames_the_caller(error):
                        raise
            is_hostile = False
            add = board.global_function("add")
            assert add is not None
            assert add(2, 3) == 5
        board.close()
        return fed

    fuzz("board", case)


# --- bugs that this fuzzing found -----------------------------------------------------------------


def blames_the_caller(error: MicroRpcError) -> bool:
    """Whether this blames the caller for what came over the line."""
    return isinstance(error, RequestError) and not isinstance(error, StaleHandleError)


def test_a_reset_that_arrives_with_the_proof_is_not_blamed_on_the_caller() -> None:
    terminate = encode_frame(encode_message(0, MessageType.TERMINATE_SESSION))
    is_armed = False

    def damage(data: bytes) -> bytes:
        nonlocal is_armed
        is_proof = is_armed and len(data) == 8 + 3 + 8 + 4 + 4 + 4 + 8 and data[8] == MessageType.NORMAL
        if is_proof:
            is_armed = False
            return data + terminate
        return data

    channel = LoopbackChannel(make_device(0, Firmware.ROBUST), to_host=damage)
    board = open_board(channel, Timeouts(), link=False)
    channel.to_device = lambda data: b""
    with pytest.raises(OutcomeUnknownError):
        board.syscall(PacketCode.DEV_STREAM_SYNC, CPU, OpaqueHandle(0))
    channel.to_device = None
    is_armed = True
    with pytest.raises(BoardResetError):
        board.global_function("add")
    assert board.global_function("add") is not None


def test_a_log_that_arrives_just_after_the_handshake_is_passed_on() -> None:
    device = make_device(0, Firmware.ROBUST)
    logs: list[str] = []
    connection = Connection(seed=1, timeouts=Timeouts(), on_log=logs.append, link=False)
    operation = connection.exchange(LOOK_UP, encode_packet(LOOK_UP), timeout_s=1.0, repeatable=True, epoch=None)
    deadline = operation.send(None)  # type: ignore[arg-type]
    was_logged = False
    with pytest.raises(StopIteration):  # noqa: PT012
        for _ in range(20):
            data = device.take_output()
            if connection.session.state is SessionState.ESTABLISHED and not was_logged:
                data, was_logged = encode_frame(encode_message(0, MessageType.LOG, b"up")) + data, True
            deadline = operation.send((data, max(deadline, 0.0) if not data else 0.0))
            device.receive(connection.output.take(0.0, 0.0)[0])
    assert was_logged
    assert logs == ["up"]


# --- memory -----------------------------------------------------------------------------------


@pytest.mark.parametrize("announced", [1 << 31, 1 << 16, 60_000])
def test_memory_stays_bounded_whatever_lengths_are_announced(announced: int) -> None:
    limit = 1 << 16
    rng = random.Random(announced)
    frame = (b"\xff\xfd" + struct.pack("<I", announced) + bytes(50_000)) * 4
    packet = struct.pack("<Q", announced) + bytes(30_000)
    decoder, reader = FrameDecoder(limit), PacketReader(max_packet_bytes=limit)
    tracemalloc.start()
    try:
        for _ in range(10):
            decoder.feed(mutate(rng, frame))
            reader.feed(packet)
            try:
                while reader.next_packet() is not None:
                    pass
            except ProtocolError:
                reader.reset()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000
