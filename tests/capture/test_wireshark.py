"""The dissector against our own decoder: the same fields, packet by packet (docs/wireshark.md)."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import describing
import fault_matrix
import golden
import needs
import numpy as np
import pytest
from wireshark import Piece, assert_equal, cut, decoded, dissected, tshark, write

import microrpc
from firmware_sim.line.faults import Double, Drop, Faults, Flip, Insert
from firmware_sim.running.simulate import SimBoard
from microrpc.capture.fields import FIELDS
from microrpc.connecting.blocking import open_board
from microrpc.connecting.wrap import tapped
from microrpc.wire.datatypes import DataType, Device, FunctionHandle, ModuleHandle, OpaqueHandle, Tensor, UInt, Value
from microrpc.wire.events import EventAck, EventMessage, EventState, encode_event, encode_event_ack, encode_event_body
from microrpc.wire.events import encode_event_state
from microrpc.wire.frames import encode_frame
from microrpc.wire.link import PROGRESS, encode_link_message, encode_with_kind, sealed
from microrpc.wire.packets import (
    CallFunc,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    InitServer,
    Packet,
    RemoteException,
    Return,
    Shutdown,
    Syscall,
    encode_packet,
)
from microrpc.wire.session import MessageType, Timeouts, encode_log, encode_message

pytestmark = pytest.mark.tools

T = TypeVar("T")
MUTATED_BYTES = 2_000_000
SESSION = 0x0201
STEP = 211  # of the positions of the fault matrix: each row has some, and a run takes seconds


@pytest.fixture(autouse=True)
def _needs_tshark() -> None:
    needs.program("tshark")


def assert_same(path: Path) -> list[list[dict[str, object]]]:
    """Hold the dissector to our decoder; give what both found."""
    expected = decoded(path)
    assert_equal(dissected(path, path.parent), expected)
    return expected


def recorded(name: str) -> list[Piece]:
    return [Piece(burst.dir == "host", burst.data) for burst in golden.load(name)]


# --- recordings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", golden.NAMES)
def test_a_golden_conversation_has_the_fields_of_our_own_decoder(name: str, tmp_path: Path) -> None:
    assert sum(map(len, assert_same(write(tmp_path / "x.pcapng", recorded(name))))) > 1


@pytest.mark.parametrize("size", [1, 7])
def test_bursts_that_are_cut_give_the_same_records(size: int, tmp_path: Path) -> None:
    pieces = recorded("fault_helloflip")
    found = assert_same(write(tmp_path / "cut.pcapng", cut(pieces, size)))
    whole = decoded(write(tmp_path / "whole.pcapng", pieces))

    def kinds(packets: list[list[dict[str, object]]]) -> list[object]:
        return [
            (record["microrpc.kind"], record.get("microrpc.arg"))
            for packet in packets
            for record in packet
            if record["microrpc.kind"] not in ("noise", "text")  # which are told for each packet
        ]

    assert kinds(found) == kinds(whole)


# --- the fault matrix, and the link on a bad line --------------------------------------------------------------


class Recording:
    """What passed, in order."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        if data:
            self.pieces.append(Piece(to_board, bytes(data)))


class RecordedLine(fault_matrix.Line):
    """A line of the matrix whose bytes are recorded as they arrive."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.recording = Recording()

    def _pass(self, direction: str, data: bytes, deliver: Callable[[bytes], None]) -> bytes:
        def note(arrived: bytes) -> None:
            self.recording.note(0.0, arrived, to_board=direction == "to-board")
            deliver(arrived)

        return super()._pass(direction, data, note)


@pytest.mark.parametrize("firmware", fault_matrix.FIRMWARES)
def test_the_conversations_of_the_fault_matrix_have_the_fields_of_our_own_decoder(
    firmware: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, _ = fault_matrix.undamaged(firmware)
    lines: list[RecordedLine] = []

    def make(*arguments: object) -> RecordedLine:
        lines.append(RecordedLine(*arguments))
        return lines[-1]

    monkeypatch.setattr(fault_matrix, "Line", make)
    for name, direction, kind in fault_matrix.ROWS:
        if name == firmware:
            for position in range(0, len(said[direction]), STEP):
                fault_matrix.run(fault_matrix.Fault(firmware, direction, kind, position))
    assert len(lines) >= 20
    found = assert_same(write(tmp_path / "x.pcapng", *(line.recording.pieces for line in lines)))
    assert any(record["microrpc.kind"] == "damaged" for packet in found for record in packet)


class Steps:
    """A function that tells how far it has come."""

    def __call__(self, steps: int) -> Iterator[tuple[int, int]]:
        for step in range(steps):
            yield step + 1, steps


def fails() -> None:
    raise ValueError("no sensor")


def on_a_bad_line(seed: int) -> list[Piece]:
    """Converse with a board over a line that damages and loses: look-ups, calls, copies, events, a description."""
    strikes = (Flip(rate=2e-4), Drop(rate=1e-4), Double(rate=1e-4), Insert(rate=1e-4))
    sim = SimBoard(microrpc.profile("loopback"), faults=Faults(strikes, seed=seed), seed=seed)
    describing.install(sim.device)
    sim.device.functions["steps"] = Steps()
    sim.device.functions["fails"] = fails
    recording = Recording()
    timeouts = Timeouts(retry_s=0.5, start_s=60.0, call_s=60.0)
    with open_board(sim.open_channel(), timeouts, seed=seed, wrap=tapped(recording)) as board:
        board.on_event(None, lambda event: None)
        assert board.functions()
        board.memory()
        assert board.function("sum")(1, 2, 3) == 6
        with pytest.raises(microrpc.RemoteError):
            board.function("fails")()
        board.function("steps")(5)
        array = board.empty(40_000, "uint8")
        array.write(np.random.default_rng(seed).integers(0, 256, 40_000, dtype=np.uint8))
        array.numpy()
        for number in range(20):
            sim.device.event("said", number, 0.5, "text \xe9", b"\xff\xfd", reliable=number % 2 == 0)
        board.poll(2.0)
    return recording.pieces


@pytest.mark.parametrize("seed", range(3))
def test_the_link_on_a_bad_line_has_the_fields_of_our_own_decoder(seed: int, tmp_path: Path) -> None:
    found = assert_same(write(tmp_path / "x.pcapng", on_a_bad_line(seed)))
    names = {name for packet in found for record in packet for name in record}
    assert names >= {
        "microrpc.link.retransmission",
        "microrpc.link.window_requests",
        "microrpc.features",
        "microrpc.description",
        "microrpc.memory.heap",
        "microrpc.event.name",
        "microrpc.event.credit",
        "microrpc.progress.done",
        "microrpc.damage",
        "microrpc.response_time",
    }


# --- whatever bytes ----------------------------------------------------------------------------------------------


class Maker:
    """Makes messages of every kind, and damages them; all is drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._seq = 0

    def _bits(self, size: int) -> int:
        return self._random.getrandbits(self._random.randrange(1, size + 1))

    def _text(self) -> str:
        alphabet = "abc\\\"\n\t\x1b\x7f\x85\xa0\xe9\u20ac\U0001f600"
        return "".join(self._random.choices(alphabet, k=self._random.choice((0, 1, 5, 60))))

    def _float(self) -> float:
        anything: float = struct.unpack("<d", self._random.randbytes(8))[0]
        return self._random.choice((0.0, -0.0, 0.1, 1e22, 1e-5, 123456789.0, float("inf"), float("nan"), anything))

    def _tensor(self) -> Tensor:
        dtype = DataType(self._random.choice((0, 1, 2, 3, 4, 5, 6, 200)), self._random.choice((0, 1, 8, 64)), 1)
        shape = tuple(self._bits(63) for _ in range(self._random.randrange(4)))
        return Tensor(self._bits(64), Device(1, 0), dtype, shape, self._bits(64))

    def _value(self) -> Value:
        makers: tuple[Callable[[], Value], ...] = (
            lambda: self._bits(64) - 2**63,
            lambda: UInt(self._bits(64)),
            self._float,
            lambda: OpaqueHandle(self._bits(64)),
            lambda: None,
            lambda: DataType(self._random.randrange(8), self._bits(8), self._bits(16)),
            lambda: Device(self._random.randrange(-300, 128), self._bits(31)),
            self._tensor,
            self._text,
            lambda: self._random.randbytes(self._random.choice((0, 3, 20, 21))),
        )
        return self._random.choice(makers)()

    def _values(self) -> tuple[Value, ...]:
        return tuple(self._value() for _ in range(self._random.randrange(6)))

    def _request(self) -> Packet:
        names = ("add", "microrpc.link", "microrpc.features", "microrpc.describe", "microrpc.memory")
        makers: tuple[Callable[[], Packet], ...] = (
            Shutdown,
            lambda: InitServer(self._text(), self._values()),
            lambda: CallFunc(self._random.randrange(5), self._values()),
            lambda: CallFunc(self._bits(64), (ModuleHandle(self._bits(64)), FunctionHandle(self._bits(64)))),
            lambda: CopyToRemote(self._tensor(), self._random.randbytes(9)),
            lambda: CopyFromRemote(self._tensor(), self._bits(64)),
            lambda: Syscall(9, (self._random.choice(names),)),
            lambda: Syscall(self._random.randrange(9, 30), self._values()),
        )
        return self._random.choice(makers)()

    def _reply(self) -> Packet:
        parameters = 1 | self._bits(63) << 8
        results: tuple[tuple[Value, ...], ...] = (
            (0, self._bits(30)),
            (10, OpaqueHandle(self._random.randrange(5))),
            (9, OpaqueHandle(self._random.randrange(5))),
            (13, self._tensor(), OpaqueHandle(3)),
            (OpaqueHandle(self._random.randrange(5)),),
            (OpaqueHandle(parameters & 2**64 - 1),),
            (12, self._random.randbytes(self._random.choice((3, 24, 30)))),
            (12, b"microrpc\t1\t\xff"),
            self._values(),
        )
        makers: tuple[Callable[[], Packet], ...] = (
            lambda: Return(self._random.choice(results)),
            lambda: Return(self._random.choice(results)),
            lambda: RemoteException(self._text()),
            lambda: CopyAck(self._random.randbytes(self._random.randrange(20))),
        )
        return self._random.choice(makers)()

    def _link(self, to_board: bool) -> bytes:
        kind = self._random.randrange(6)
        message_type = MessageType.LINK_REQUEST if to_board else MessageType.LINK_REPLY
        self._seq = (self._seq + self._random.choice((0, 0, 1))) & 0xFFFF
        bodies = (
            encode_packet(self._request() if to_board else self._reply())[8:],
            self._random.randbytes(self._random.choice((8, 12, 30))),
            b"",
        )
        body = bodies[0] if kind in (0, 3) else self._random.choice(bodies[1:])
        return encode_with_kind(SESSION, message_type, self._seq, kind, body)

    def _signal(self) -> bytes:
        types = (MessageType.LINK_NAK, MessageType.LINK_CANCEL, MessageType.LINK_KEEP_ALIVE, MessageType.LINK_PROGRESS)
        content = self._random.choice((b"", PROGRESS.pack(self._bits(32), self._bits(32))))
        return encode_link_message(SESSION, self._random.choice(types), self._seq, content)

    def _event(self) -> bytes:
        values = (self._bits(63), self._float(), self._text(), self._random.randbytes(5))
        some = tuple(self._random.choices(values, k=self._random.randrange(4)))
        event = EventMessage(self._bits(32), bool(self._bits(1)), self._bits(32), self._text(), some)
        ack = EventAck(self._bits(32), self._bits(16), bool(self._bits(1)))
        return self._random.choice(
            (
                encode_event(SESSION, encode_event_body(event)),
                encode_event_ack(SESSION, ack),
                encode_event_state(SESSION, EventState(self._bits(32), self._bits(32), self._bits(32))),
            )
        )

    def _other(self) -> bytes:
        log = self._random.choice(("", "[W 0012.345678] ", "[E ----.------] ", "[I 9999.999999] ")) + self._text()
        return self._random.choice(
            (
                encode_log(log),
                encode_message(0, MessageType.TERMINATE_SESSION),
                encode_message(7, MessageType.START_SESSION_INIT, b"\1"),
                encode_message(SESSION, MessageType.START_SESSION_REPLY, b"\1"),
                self._random.randbytes(self._random.randrange(30)),
            )
        )

    def _payload(self, to_board: bool) -> bytes:
        packet = encode_packet(self._request() if to_board else self._reply())
        normal = encode_message(SESSION, MessageType.NORMAL, packet)
        kind = self._random.randrange(100)
        if kind < 40:
            return normal
        if kind < 75:
            return self._link(to_board)
        return self._event() if kind < 85 else self._signal() if kind < 92 else self._other()

    def _damage(self, data: bytes) -> bytes:
        """Change a few bytes, or the length."""
        changed = bytearray(data)
        for _ in range(self._random.randrange(1, 4)):
            at = self._random.randrange(len(changed) + 1)
            match self._random.randrange(4):
                case 0:
                    changed[at : at + 1] = bytes([self._random.choice((0, 1, 0x7F, 0x80, 0xFD, 0xFE, 0xFF))])
                case 1:
                    del changed[at : at + self._random.randrange(1, 9)]
                case 2:
                    changed[at:at] = self._random.randbytes(self._random.randrange(1, 9))
                case 3:
                    changed[at : at + 1] = self._random.randbytes(1)
        return bytes(changed)

    def piece(self) -> Piece:
        """Give what crosses the line at once: frames, half of them damaged, or with damage in them; and rests."""
        to_board = bool(self._bits(1))
        line = b""
        for _ in range(self._random.choice((1, 1, 1, 3))):
            payload = self._payload(to_board)
            fate = self._random.randrange(10)
            if fate < 4:
                payload = self._damage(payload)
                if payload[2:3] >= b"\x20":
                    payload = sealed(payload[:-4])
            frame = encode_frame(payload)
            line += self._damage(frame) if fate in (4, 5) else frame
            if fate == 6:
                line += self._random.choice((b"\xfe", b"boot\r\n", b"\xff\xfe\xe2\x82", b"ok \xc3\xa9\n\r\x07", b"\0\1\2"))
        return Piece(to_board, line)


def test_two_megabytes_of_mutated_bytes_have_the_fields_of_our_own_decoder(tmp_path: Path) -> None:
    maker = Maker(seed=17)
    pieces, size = [], 0
    while size < MUTATED_BYTES:
        pieces.append(maker.piece())
        size += len(pieces[-1].data)
    found = assert_same(write(tmp_path / "x.pcapng", pieces))
    assert {name for packet in found for record in packet for name in record} == set(FIELDS)


def test_two_megabytes_of_noise_have_the_fields_of_our_own_decoder(tmp_path: Path) -> None:
    chance = random.Random(5)
    pieces = []
    for _ in range(MUTATED_BYTES // 500):
        data = chance.randbytes(500).replace(b"\x80", b"\xff\xfd").replace(b"\x00\x00", b"\xff\xff")
        pieces.append(Piece(chance.random() < 0.5, data))
    assert_same(write(tmp_path / "x.pcapng", pieces))


def test_a_long_message_is_put_together_and_one_that_is_too_long_is_refused(tmp_path: Path) -> None:
    long = encode_frame(encode_message(SESSION, MessageType.NORMAL, encode_packet(CopyAck(bytes(range(256)) * 4000))))
    too_long = b"\xff\xfd" + struct.pack("<I", (1 << 20) + 1) + b"text\n"
    found = assert_same(write(tmp_path / "x.pcapng", cut([Piece(False, long + too_long)], 4096)))
    kinds = [(record["microrpc.kind"], record.get("microrpc.damage")) for packet in found for record in packet]
    assert kinds == [("CopyAck", None), ("damaged", "too long"), ("text", None)]
