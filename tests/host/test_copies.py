"""Copies over the link and without it: they keep the line busy, and what arrives is what was sent (docs/link.md 4)."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable

import numpy as np
import pytest

import firmware_sim.board.device
import microrpc
from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.board.robust import RobustPort
from firmware_sim.line.faults import Faults, Flip, Reset, Wedge
from firmware_sim.running.loopback import LoopbackChannel
from firmware_sim.running.simulate import SimBoard
from microrpc.client.board import Board
from microrpc.connecting.blocking import open_board
from microrpc.errors import (
    BoardResetError,
    CallTimeoutError,
    HandshakeTimeoutError,
    ProtocolError,
    RemoteError,
    StaleHandleError,
)
from microrpc.host.carriers.link import LinkCarrier
from microrpc.host.connection import Connection
from microrpc.wire.frames import FrameDecoder
from microrpc.wire.link import ReplyKind, RequestKind
from microrpc.wire.packets import CopyFromRemote, CopyToRemote, Return, decode_packet, encode_packet
from microrpc.wire.session import MessageType, Timeouts

TIMEOUTS = Timeouts(retry_s=0.5, start_s=5.0, call_s=2.0)
PROFILE = microrpc.profile("loopback")
Change = Callable[[bytes], bytes]


class Wire:
    """A board in memory behind a line that a test can listen to and change."""

    def __init__(
        self, firmware: str = "robust", *, packet_size_bytes: int = 256, ring_bytes: int | None = None
    ) -> None:
        self.device = Device(
            firmware=firmware,  # type: ignore[arg-type]
            seed=7,
            packet_size_bytes=packet_size_bytes,
            receive_ring_bytes=ring_bytes,
        )
        install(self.device)
        self.to_device: Change = lambda data: data
        self.to_host: Change = lambda data: data
        self.sent_bytes = bytearray()
        channel = LoopbackChannel(self.device, to_device=self._send, to_host=lambda data: self.to_host(data))
        self.channel = channel
        self.board = open_board(channel, TIMEOUTS, seed=1)

    def _send(self, data: bytes) -> bytes:
        self.sent_bytes += data
        return self.to_device(data)

    def requests(self, kind: RequestKind) -> list[bytes]:
        """The bodies of the requests of this kind that the host sent."""
        frames = [frame for frame in FrameDecoder().feed(bytes(self.sent_bytes)) if isinstance(frame, bytes)]
        return [f[6:-4] for f in frames if f[2] == MessageType.LINK_REQUEST and f[5] == kind]

    def answer_with(self, kind: ReplyKind, body: bytes) -> None:
        """Let the board answer every request of this session with this."""
        port = self.device._port
        assert isinstance(port, RobustPort)
        assert port._link is not None
        port._link.execute = lambda *_: (kind, body)


def retransmissions(board: Board) -> int:
    connection = board.operations.connection
    assert isinstance(connection, Connection)
    assert isinstance(connection.carrier, LinkCarrier)
    return connection.carrier.retransmissions


def some_data(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


# --- what is copied ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "uint64", "float16", "float32", "float64", "bool"])
@pytest.mark.parametrize("count", [0, 1, 2, 59, 60, 61, 1000])
def test_arrays_of_every_dtype_and_size_come_back_as_they_went(dtype: str, count: int) -> None:
    wire = Wire()
    data = some_data(count * np.dtype(dtype).itemsize).view(np.uint8)
    array = (data & 1).astype(bool)[:count] if dtype == "bool" else data.view(dtype)
    back = wire.board.array(array).numpy()
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("size", [0, 1, 237, 238, 239, 476, 477, 5000])
@pytest.mark.parametrize(("window", "ring_bytes"), [(1, 10_000), (2, 10_000), (8, 0), (8, 64), (8, 600), (32, 10_000)])
def test_every_size_crosses_in_every_window(
    size: int, window: int, ring_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firmware_sim.board.device, "_WINDOW_REQUESTS", window)
    wire = Wire(ring_bytes=ring_bytes)
    data = some_data(size)
    array = wire.board.array(data)
    assert np.array_equal(array.numpy(), data)
    assert retransmissions(wire.board) == 0
    blocks = [len(body) - 8 for body in wire.requests(RequestKind.WRITE)]
    assert blocks == [238] * (size // 238) + [size % 238] * (size % 238 > 0)
    reads = [struct.unpack("<QI", body)[1] for body in wire.requests(RequestKind.READ)]
    assert reads == blocks


def test_bytes_that_framing_cares_about_cross() -> None:
    wire = Wire()
    data = np.frombuffer(b"\xff\xfd\xff\xfe\xff\xff" * 300, np.uint8)
    assert np.array_equal(wire.board.array(data).numpy(), data)
    assert retransmissions(wire.board) == 0


def test_progress_goes_up_to_the_end_whatever_is_lost() -> None:
    sim = SimBoard(PROFILE, faults=Faults([Flip(rate=5e-5)], seed=3))
    board = open_board(sim.open_channel(), PROFILE.timeouts, seed=1, baud=PROFILE.baud)
    data = some_data(40_000)
    told: list[tuple[int, int]] = []
    array = board.array(data, on_progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (40_000, 40_000)
    told.clear()
    assert np.array_equal(array.numpy(on_progress=lambda done, total: told.append((done, total))), data)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (40_000, 40_000)


# --- the line is kept busy -------------------------------------------------------------------------------------


def busy_shares(firmware: str, *, link: bool, baud: int | None) -> tuple[float, float]:
    """The shares of the time that the line carries bytes, in a copy to the board and in one from it."""
    sim = SimBoard(PROFILE, firmware=firmware)  # type: ignore[arg-type]
    board = open_board(sim.open_channel(), PROFILE.timeouts, seed=1, link=link, baud=baud)
    data = some_data(100_000)
    array = board.empty(data.shape, data.dtype)
    states, times = [sim.state], [sim.now()]
    array.write(data)
    states.append(sim.state)
    times.append(sim.now())
    assert np.array_equal(array.numpy(), data)
    to_board = (states[1].to_board_busy_s - states[0].to_board_busy_s) / (times[1] - times[0])
    to_host = (sim.state.to_host_busy_s - states[1].to_host_busy_s) / (sim.now() - times[1])
    assert sim.state.bytes_overrun == 0
    return to_board, to_host


@pytest.mark.parametrize("baud", [PROFILE.baud, None])
def test_over_the_link_the_line_is_never_idle(baud: int | None) -> None:
    to_board, to_host = busy_shares("robust", link=True, baud=baud)
    assert to_board > 0.999
    assert to_host > 0.999


# --- losses ---------------------------------------------------------------------------------------------------


def test_each_answer_gives_the_next_one_its_time() -> None:
    profile = dataclasses.replace(PROFILE, packet_size_bytes=256, baud=115200)
    sim = SimBoard(profile)
    board = open_board(sim.open_channel(), Timeouts(call_s=0.15), seed=1, baud=115200)
    array = board.empty((5000,), "uint8")
    start = sim.now()
    array.write(some_data(5000))
    assert sim.now() - start > 2 * 0.15
    assert board.stats.repeats == 0


def test_blocks_become_small_where_much_is_damaged_and_large_again_after_it() -> None:
    wire = Wire(packet_size_bytes=2048)
    data = some_data(20_000)
    array = wire.board.empty(data.shape, data.dtype)
    hits = iter(range(1000))

    def damage(sent: bytes) -> bytes:
        return sent[:-1] + bytes([sent[-1] ^ 1]) if len(sent) > 40 and next(hits) % 2 and len(sent) > 400 else sent

    wire.to_device = damage
    wire.sent_bytes.clear()
    array.write(data)
    sizes = [len(body) - 8 for body in wire.requests(RequestKind.WRITE)]
    assert min(sizes) < 400
    assert np.array_equal(array.numpy(), data)
    wire.to_device = lambda sent: sent
    big = some_data(200_000)
    array = wire.board.empty(big.shape, big.dtype)
    array.write(big)
    wire.sent_bytes.clear()
    array.write(big)
    sizes = [len(body) - 8 for body in wire.requests(RequestKind.WRITE)]
    assert max(sizes) == 2030
    assert np.array_equal(array.numpy(), big)


def test_a_block_that_is_sent_again_shorter_leaves_its_rest_to_another() -> None:
    wire = Wire(packet_size_bytes=2048)
    data = some_data(2000)
    array = wire.board.empty(data.shape, data.dtype)
    losses = iter(range(3))
    wire.to_device = lambda sent: sent[:-1] + bytes([sent[-1] ^ 1]) if next(losses, None) is not None else sent
    wire.sent_bytes.clear()
    array.write(data)
    starts = [int.from_bytes(body[:8], "little") for body in wire.requests(RequestKind.WRITE)]
    sizes = [len(body) - 8 for body in wire.requests(RequestKind.WRITE)]
    assert sizes[0] == 2000
    assert sizes[1] < 300  # the second time, of the same address
    assert starts[0] == starts[1]
    assert np.array_equal(array.numpy(), data)


@pytest.mark.parametrize("way", ["to_device", "to_host"])
def test_losses_of_any_piece_of_a_copy_leave_it_whole(way: str) -> None:
    for lost in range(12):
        wire = Wire()
        data = some_data(1500, lost)
        array = wire.board.empty(data.shape, data.dtype)
        pieces = iter(range(1000))
        setattr(wire, way, lambda piece, lost=lost, pieces=pieces: b"" if next(pieces) == lost else piece)
        array.write(data)
        assert np.array_equal(array.numpy(), data)


def test_bytes_outside_of_any_frame_are_heard_of_in_their_place_among_the_frames() -> None:
    wire = Wire(ring_bytes=10_000)
    array = wire.board.empty(1500, "uint8")
    cuts = iter([2])

    def damage(data: bytes) -> bytes:
        """Let two replies come in one piece, the first without its start, and then the others."""
        if data.count(b"\xff\xfd") < 3 or next(cuts, None) is None:
            return data
        third = data.index(b"\xff\xfd", data.index(b"\xff\xfd", 2) + 2)
        wire.device._output[:0] = data[third:]
        return b"?" + data[1:third]

    wire.to_host = damage
    array.write(np.zeros(1500, np.uint8))
    assert next(cuts, None) is None
    assert retransmissions(wire.board) == 1  # what is missing, and nothing else


# --- errors ----------------------------------------------------------------------------------------------------


def test_an_exception_in_the_middle_ends_the_copy_and_nothing_else() -> None:
    wire = Wire()
    array = wire.board.array(np.zeros(1000, np.uint8))
    address = next(iter(wire.device.memory.blocks))
    session_id = wire.board.session_id
    beyond = wire.board.array_at(address, 3000, "uint8")
    with pytest.raises(RemoteError, match="not inside an allocated block"):
        beyond.write(np.full(3000, 7, np.uint8))
    with pytest.raises(RemoteError, match="not inside an allocated block"):
        beyond.numpy()
    assert wire.board.session_id == session_id
    data = some_data(1000)
    array.write(data)
    assert np.array_equal(array.numpy(), data)
    assert not set(wire.device.memory.blocks) - {address}


def test_after_an_exception_no_further_blocks_are_sent() -> None:
    wire = Wire()
    wire.board.function("add")
    wire.sent_bytes.clear()
    with pytest.raises(RemoteError):
        wire.board.array_at(8, 100_000, "uint8").write(np.zeros(100_000, np.uint8))
    assert len(wire.requests(RequestKind.WRITE)) <= 8


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (ReplyKind.DONE, b""),
        (ReplyKind.DATA, b""),
        (ReplyKind.DATA, b"x" * 239),
        (ReplyKind.DATA, b"x" * 5000),
        (ReplyKind.FORGOTTEN, b""),
        (ReplyKind.PACKET, b""),
        (ReplyKind.PACKET, encode_packet(Return(()))[8:]),
    ],
)
def test_a_wrong_answer_to_a_read_is_a_protocol_error_that_overruns_nothing(kind: ReplyKind, body: bytes) -> None:
    wire = Wire()
    data = some_data(1000)
    array = wire.board.array(data)
    session_id = wire.board.session_id
    into = bytearray(b"." * 1000)
    wire.answer_with(kind, body)
    with pytest.raises(ProtocolError):
        wire.board.read_bytes(array, memoryview(into), on_progress=None)
    assert into == b"." * 1000
    assert np.array_equal(array.numpy(), data)
    assert wire.board.session_id != session_id


@pytest.mark.parametrize("size", [100, 1000])
@pytest.mark.parametrize("kind", [ReplyKind.DATA, ReplyKind.FORGOTTEN])
def test_a_wrong_answer_to_a_write_is_a_protocol_error(kind: ReplyKind, size: int) -> None:
    wire = Wire()
    array = wire.board.empty(size, "uint8")
    session_id = wire.board.session_id
    wire.answer_with(kind, b"x" * 10 if kind is ReplyKind.DATA else b"")
    with pytest.raises(ProtocolError):
        array.write(np.zeros(size, np.uint8))
    data = some_data(size)
    array.write(data)
    assert np.array_equal(array.numpy(), data)
    assert wire.board.session_id != session_id


def test_data_that_is_shorter_than_asked_is_taken_and_the_rest_asked_for() -> None:
    wire = Wire()
    array = wire.board.array(np.zeros(5, np.uint8))
    wire.answer_with(ReplyKind.DATA, b"x")
    wire.sent_bytes.clear()
    assert array.numpy().tobytes() == b"xxxxx"
    assert [struct.unpack("<QI", body)[1] for body in wire.requests(RequestKind.READ)] == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("copy", ["write", "read"])
def test_a_reset_in_the_middle_is_told_and_the_copy_not_gone_on_with(copy: str) -> None:
    sim = SimBoard(PROFILE)
    board = open_board(sim.open_channel(), PROFILE.timeouts, seed=1, baud=PROFILE.baud)
    array = board.array(some_data(20_000))
    sim.inject(Reset(at_byte=150 if copy == "read" else 9000))
    with pytest.raises(BoardResetError, match=r"was reset during Copy(From|To)Remote"):
        array.write(some_data(20_000)) if copy == "write" else array.numpy()
    with pytest.raises((BoardResetError, StaleHandleError)):
        array.numpy()
    assert np.array_equal(board.array(some_data(5000)).numpy(), some_data(5000))


def test_a_reset_in_the_middle_that_was_not_heard_is_told_by_the_board_without_a_session() -> None:
    wire = Wire()
    array = wire.board.array(some_data(3000))
    pieces = iter(range(1000))

    def reset(data: bytes) -> bytes:
        if next(pieces) == 2:
            wire.device.reset()
            wire.device.take_output()
        return data

    wire.to_device = reset
    start = wire.channel.now()
    with pytest.raises(BoardResetError):
        array.write(some_data(3000))
    assert wire.channel.now() - start < 0.5
    wire.to_device = lambda data: data
    assert np.array_equal(wire.board.array(some_data(5000)).numpy(), some_data(5000))


def test_a_board_that_falls_silent_in_the_middle_is_given_up() -> None:
    sim = SimBoard(PROFILE)
    board = open_board(sim.open_channel(), PROFILE.timeouts, seed=1, baud=PROFILE.baud)
    array = board.empty(20_000, "uint8")
    sim.inject(Wedge(at_byte=3000))
    start = sim.now()
    with pytest.raises(HandshakeTimeoutError):
        array.write(some_data(20_000))
    assert sim.now() - start < 2 * PROFILE.timeouts.call_s + PROFILE.timeouts.start_s
    sim.reset()
    assert np.array_equal(board.array(some_data(5000)).numpy(), some_data(5000))


def test_a_board_that_answers_all_but_the_copy_is_tried_three_times() -> None:
    wire = Wire()
    array = wire.board.empty(5000, "uint8")
    wire.to_device = lambda data: b"" if len(data) > 200 else data
    start = wire.channel.now()
    with pytest.raises(CallTimeoutError):
        array.write(some_data(5000))
    assert wire.channel.now() - start == pytest.approx(3 * TIMEOUTS.call_s)
    wire.to_device = lambda data: data
    array.write(some_data(5000))
    assert np.array_equal(array.numpy(), some_data(5000))


def test_a_copy_goes_on_in_a_new_session_with_what_is_not_done() -> None:
    wire = Wire()
    data = some_data(5000)
    array = wire.board.empty(5000, "uint8")
    session_id, start = wire.board.session_id, wire.channel.now()
    pieces = iter(range(1000))
    done: list[int] = []

    def fall_silent(piece: bytes) -> bytes:
        return b"" if next(pieces) > 3 and wire.channel.now() - start < TIMEOUTS.call_s + 0.1 else piece

    wire.to_device = fall_silent
    wire.board.write_bytes(memoryview(data.tobytes()), array, on_progress=lambda size, _: done.append(size))
    assert wire.board.session_id != session_id
    assert TIMEOUTS.call_s < wire.channel.now() - start < TIMEOUTS.call_s + TIMEOUTS.start_s
    assert done == sorted(set(done))
    assert np.array_equal(array.numpy(), data)


@pytest.mark.parametrize("copy", ["write", "read"])
def test_a_copy_that_is_interrupted_leaves_the_connection_in_order(copy: str) -> None:
    wire = Wire()
    data = some_data(5000)
    array = wire.board.array(data)
    session_id = wire.board.session_id
    pieces = iter(range(1000))

    def interrupt(piece: bytes) -> bytes:
        if next(pieces) == 1:
            raise KeyboardInterrupt
        return piece

    wire.to_host = interrupt
    with pytest.raises(KeyboardInterrupt):
        array.write(data) if copy == "write" else array.numpy()
    assert np.array_equal(array.numpy(), data)
    assert wire.board.session_id != session_id


def test_an_exception_of_the_callback_leaves_the_connection_in_order() -> None:
    wire = Wire()
    data = some_data(5000)
    array = wire.board.empty(5000, "uint8")

    def fail(done: int, total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        wire.board.write_bytes(memoryview(data.tobytes()), array, on_progress=fail)
    array.write(data)
    assert np.array_equal(array.numpy(), data)


# --- without the link -----------------------------------------------------------------------------------------------


def test_stock_boards_get_flat_headers_whatever_the_shape() -> None:
    wire = Wire("stock", packet_size_bytes=512)
    data = some_data(2 * 3 * 4 * 50).reshape(2, 3, 4, 50)
    assert np.array_equal(wire.board.array(data).numpy(), data)
    frames = [frame for frame in FrameDecoder().feed(bytes(wire.sent_bytes)) if isinstance(frame, bytes)]
    packets = [decode_packet(f[11:]) for f in frames if f[2] == MessageType.NORMAL]
    copies = [p for p in packets if isinstance(p, CopyToRemote | CopyFromRemote)]
    assert len(copies) > 4
    assert {copy.tensor.shape for copy in copies} == {(1200,)}
