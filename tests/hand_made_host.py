"""A host of single steps, for tests of boards."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from firmware_sim.board import demo as demo
from firmware_sim.board.device import Device
from microrpc.wire.datatypes import (
    CPU,
    DataType,
    ModuleHandle,
    OpaqueHandle,
    Tensor,
    Value,
)
from microrpc.wire.frames import FrameDecoder, FrameEncoder
from microrpc.wire.packets import (
    RETURN_NONE,
    CallFunc,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    Packet,
    PacketCode,
    RemoteException,
    Request,
    Return,
    Syscall,
    decode_packet,
    decode_result,
    encode_packet,
)
from microrpc.wire.session import MessageType, encode_message

BOOT = bytes.fromhex("fefffd030000000000026677")


HOST_NONCE = 0x26


F32 = DataType(2, 32)


U8 = DataType(1, 8)


class Host:
    """The other end of the line, made of single steps and without a memory of its own."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.session_id = 0
        self.logs: list[str] = []
        self._encoder = FrameEncoder()
        self._decoder = FrameDecoder(1 << 24)

    def send(self, message_type: MessageType, body: bytes = b"", session_id: int = 0) -> None:
        self.device.receive(self._encoder.encode(encode_message(session_id, message_type, body)))

    def send_normal(self, body: bytes) -> None:
        self.send(MessageType.NORMAL, body, self.session_id)

    def messages(self) -> list[tuple[int, int, bytes]]:
        """What the device has said, as (session id, type, body); logs are set aside."""
        found = []
        for frame in self._decoder.feed(self.device.take_output()):
            assert isinstance(frame, bytes)
            session_id, message_type = struct.unpack_from("<HB", frame)
            if message_type == MessageType.LOG:
                assert session_id == 0
                self.logs.append(frame[3:].decode())
            else:
                found.append((session_id, message_type, frame[3:]))
        return found

    def open(self, nonce: int = HOST_NONCE) -> int:
        self.send(MessageType.TERMINATE_SESSION)
        self.messages()
        self.send(MessageType.START_SESSION_INIT, b"\x01", nonce)
        [(self.session_id, message_type, body)] = self.messages()
        assert (message_type, body, self.session_id & 0xFF) == (MessageType.START_SESSION_REPLY, b"\x01", nonce)
        return self.session_id

    def replies(self) -> list[Packet]:
        packets = []
        for session_id, message_type, body in self.messages():
            assert (session_id, message_type) == (self.session_id, MessageType.NORMAL)
            assert int.from_bytes(body[:8], "little") == len(body) - 8
            packets.append(decode_packet(body[8:]))
        return packets

    def exchange(self, request: Request) -> Packet:
        self.send_normal(encode_packet(request))
        [reply] = self.replies()
        return reply

    def syscall(self, code: PacketCode | int, *args: Value) -> Any:
        """The value that a syscall returned, or the text of its exception."""
        reply = self.exchange(Syscall(code, args))
        if isinstance(reply, RemoteException):
            return reply.message
        assert isinstance(reply, Return)
        [value] = reply.values
        return value

    def call_handle(self, handle: int, *args: Value) -> Any:
        """What a function returned, or the text of its exception."""
        reply = self.exchange(CallFunc(handle, args))
        if isinstance(reply, RemoteException):
            return reply.message
        assert isinstance(reply, Return)
        return decode_result(reply.values)

    def look_up(self, name: str) -> int:
        return int(self.syscall(PacketCode.GET_GLOBAL_FUNC, name))

    def call_global(self, name: str, *args: Value) -> Any:
        return self.call_handle(self.look_up(name), *args)

    def system_library(self) -> ModuleHandle:
        module = self.call_global("runtime.SystemLib")
        assert type(module) is ModuleHandle
        return module

    def function(self, name: str) -> Any:
        return self.call_global("tvm.rpc.server.ModuleGetFunction", self.system_library(), name, 1)

    def call(self, name: str, *args: Value) -> Any:
        return self.call_handle(self.function(name), *args)

    def alloc(self, size_bytes: int, alignment: int = 8) -> Any:
        return self.syscall(PacketCode.DEV_ALLOC_DATA, CPU, size_bytes, alignment, U8)

    def free(self, address: int) -> Any:
        return self.syscall(PacketCode.DEV_FREE_DATA, CPU, OpaqueHandle(address))

    def put(self, array: np.ndarray[Any, Any]) -> Tensor:
        """A tensor on the device with the contents of `array`."""
        tensor = Tensor(self.alloc(array.nbytes), CPU, DataType.from_numpy(array.dtype), array.shape)
        assert self.exchange(CopyToRemote(tensor, array.tobytes())) == RETURN_NONE
        return tensor

    def get(self, tensor: Tensor) -> np.ndarray[Any, Any]:
        reply = self.exchange(CopyFromRemote(tensor, tensor.size_bytes))
        assert isinstance(reply, CopyAck), reply
        return np.frombuffer(reply.data, tensor.dtype.numpy).reshape(tensor.shape)
