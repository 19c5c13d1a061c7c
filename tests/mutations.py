"""Messages of every kind, whole and damaged, all drawn from a seed: what decoders are held to each other with."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from wireshark import Piece

from microrpc.wire.datatypes import DataType, Device, FunctionHandle, ModuleHandle, OpaqueHandle, Tensor, UInt, Value
from microrpc.wire.events import (
    EventAck,
    EventMessage,
    EventState,
    encode_event,
    encode_event_ack,
    encode_event_body,
    encode_event_state,
)
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
from microrpc.wire.session import MessageType, encode_log, encode_message

SESSION = 0x0201


class Maker:
    """Makes messages of every kind, and damages them; all is drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._seq = 0

    def _bits(self, size: int) -> int:
        return self._random.getrandbits(self._random.randrange(1, size + 1))

    def _text(self) -> str:
        alphabet = 'abc\\"\n\t\x1b\x7f\x85\xa0\xe9\u20ac\U0001f600'
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

    def _look_up(self) -> list[Piece]:
        """Give a look-up of what tells of a board, and a call of it, all of it whole."""
        name = self._random.choice(("microrpc.link", "microrpc.features", "microrpc.describe", "microrpc.memory"))
        handle = 1 | self._random.randrange(40) << 8 | self._bits(40) << 16
        result = self._random.choice((b"microrpc\t1\t\xff", self._random.randbytes(24)))
        packets: tuple[tuple[bool, Packet], ...] = (
            (True, Syscall(9, (name,))),
            (False, Return((OpaqueHandle(handle),))),
            (True, CallFunc(handle, ())),
            (False, Return((12, result))),
        )
        return [
            Piece(to_board, encode_frame(encode_message(SESSION, MessageType.NORMAL, encode_packet(packet))))
            for to_board, packet in packets
        ]

    def pieces(self, size: int) -> list[Piece]:
        """Give what crosses a line until it is at least so many bytes."""
        made: list[Piece] = []
        left = size
        while left > 0:
            more = self._look_up() if self._random.random() < 0.02 else [self._piece()]
            left -= sum(len(piece.data) for piece in more)
            made += more
        return made

    def _piece(self) -> Piece:
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
                line += self._random.choice(
                    (b"\xfe", b"boot\r\n", b"\xff\xfe\xe2\x82", b"ok \xc3\xa9\n\r\x07", b"\0\1\2")
                )
        return Piece(to_board, line)
