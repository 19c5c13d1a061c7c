"""What crosses the line, for people to read: a channel that records, and frames in words (docs/protocol.md 1 to 3)."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass

from microrpc.channel import Channel
from microrpc.codec import (
    CallFunc,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    PacketCode,
    RemoteException,
    Return,
    Syscall,
    decode_packet,
    decode_result,
)
from microrpc.datatypes import ArrayResult, FunctionHandle, ModuleHandle, OpaqueHandle, Tensor, Value
from microrpc.errors import ProtocolError
from microrpc.framing import FrameDecoder
from microrpc.session import HEADER_SIZE_BYTES, MessageType

_BITS_PER_BYTE = 10  # 8N1: a start bit, eight, a stop bit
_PACKET_NBYTES = 8
_LONGEST_TEXT = 40


@dataclass(slots=True)
class Frame:
    """One good frame: when it was seen (the channel's time, in seconds), where it went, and what it says."""

    time_s: float
    to_board: bool
    payload: bytes
    kind: str
    meaning: str


class RecordingChannel:
    """A channel that keeps everything that passes. `baud` makes it as slow as a UART; 0 leaves it as it is."""

    def __init__(self, channel: Channel, *, baud: int = 0) -> None:
        self.name = channel.name
        self.bytes_sent = 0
        self.bytes_received = 0
        self._channel = channel
        self._byte_s = _BITS_PER_BYTE / baud if baud else 0.0
        self._free_at = 0.0
        self._passed: list[tuple[float, bool, bytes]] = []
        self._reader = FrameReader()
        self._frames: list[Frame] = []

    @property
    def frames(self) -> list[Frame]:
        """All good frames so far. They are decoded here, so as not to slow the line down."""
        for time_s, to_board, data in self._passed:
            self._frames += self._reader.read(time_s, to_board, data)
        self._passed.clear()
        return self._frames

    def now(self) -> float:
        """See `Channel.now`."""
        return self._channel.now()

    def read(self, deadline: float) -> bytes:
        """See `Channel.read`."""
        data = self._channel.read(deadline)
        if data:
            self.bytes_received += len(data)
            self._note(data, to_board=False)
        return data

    def write(self, data: bytes, deadline: float) -> None:
        """See `Channel.write`."""
        self._channel.write(data, deadline)
        self.bytes_sent += len(data)
        self._note(data, to_board=True)

    def close(self) -> None:
        """Release the port."""
        self._channel.close()

    def _note(self, data: bytes, *, to_board: bool) -> None:
        now = self.now()
        self._passed.append((now, to_board, data))
        if self._byte_s:
            self._free_at = max(self._free_at, now) + len(data) * self._byte_s
            time.sleep(max(self._free_at - now, 0))


class FrameReader:
    """Both directions of one line, put in words."""

    def __init__(self) -> None:
        self._decoders = {True: FrameDecoder(), False: FrameDecoder()}
        self._asked: CallFunc | Syscall | None = None
        self._names: dict[int, str] = {}

    def read(self, time_s: float, to_board: bool, data: bytes) -> list[Frame]:
        """Give the good frames that `data`, seen at `time_s`, completes."""
        return [
            Frame(time_s, to_board, payload, *self._explain(payload, to_board))
            for payload in self._decoders[to_board].feed(data)
            if isinstance(payload, bytes) and len(payload) >= HEADER_SIZE_BYTES
        ]

    def _explain(self, payload: bytes, to_board: bool) -> tuple[str, str]:
        """Give the kind of a message and what it says."""
        session_id, code = struct.unpack_from("<HB", payload)
        body = payload[HEADER_SIZE_BYTES:]
        match code:
            case MessageType.START_SESSION_INIT:
                return "INIT", f"open a session; my nonce is 0x{session_id:02x}"
            case MessageType.START_SESSION_REPLY:
                return "REPLY", f"session 0x{session_id:04x}; my nonce is 0x{session_id >> 8:02x}"
            case MessageType.TERMINATE_SESSION:
                return "TERMINATE", "any session there was is over" if to_board else "I have booted"
            case MessageType.LOG:
                return "LOG", _quoted(body.decode(errors="backslashreplace"))
            case MessageType.NORMAL:
                return self._explain_packet(body)
        return f"type 0x{code:02x}", f"{len(body)} bytes"

    def _explain_packet(self, body: bytes) -> tuple[str, str]:
        try:
            packet = decode_packet(body[_PACKET_NBYTES:])
            match packet:
                case CallFunc(handle, args):
                    self._asked = packet
                    return "CallFunc", f"{self._name(handle)}({', '.join(map(_value, args))})"
                case Syscall(code, args):
                    self._asked = packet
                    label = code.label if isinstance(code, PacketCode) else f"code {code}"
                    return label, ", ".join(map(_value, args))
                case CopyToRemote(tensor, data):
                    self._asked = None
                    return "CopyToRemote", f"{len(data)} bytes to {_value(tensor)} +{tensor.byte_offset}"
                case CopyFromRemote(tensor, size_bytes):
                    self._asked = None
                    return "CopyFromRemote", f"{size_bytes} bytes of {_value(tensor)} +{tensor.byte_offset}"
                case CopyAck(data):
                    return "CopyAck", f"{len(data)} bytes"
                case RemoteException(message):
                    return "Exception", _quoted(message)
                case Return(values):
                    return "Return", self._explain_return(values)
        except ProtocolError as error:
            return "?", str(error)
        return type(packet).__name__, ""

    def _explain_return(self, values: tuple[Value, ...]) -> str:
        """Give what was returned; where it is a function that was looked up, note its name."""
        result: Value | ArrayResult = decode_result(values) if isinstance(self._asked, CallFunc) else values[0]
        if self._asked is not None and isinstance(result, FunctionHandle | OpaqueHandle):
            names = [arg for arg in self._asked.args if isinstance(arg, str)]
            self._names[int(result)] = names[0] if names else f"{self._asked_name()}()"
        return _value(result)

    def _asked_name(self) -> str:
        return self._name(self._asked.handle) if isinstance(self._asked, CallFunc) else "?"

    def _name(self, handle: int) -> str:
        return self._names.get(handle, f"0x{handle:x}")


def _value(value: Value | ArrayResult) -> str:
    match value:
        case None:
            return "nothing"
        case FunctionHandle():
            return f"function 0x{int(value):x}"
        case ModuleHandle():
            return f"module 0x{int(value):x}"
        case OpaqueHandle():
            return f"0x{int(value):x}"
        case ArrayResult():
            return f"a new {_value(value.tensor)}"
        case Tensor():
            return f"{value.dtype}[{','.join(map(str, value.shape))}]" + (f" at 0x{value.data:x}" if value.data else "")
        case str():
            return _quoted(value)
        case bytes():
            return f"bytes:{value.hex()}" if len(value) <= _LONGEST_TEXT // 2 else f"{len(value)} bytes"
    return str(value)


def _quoted(text: str) -> str:
    short = text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."
    return '"' + short.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"') + '"'
