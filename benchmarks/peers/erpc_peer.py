"""eRPC: its Python client on its serial transport, its Python server; the shims as erpcgen would generate them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import erpc

from benchmarks.peers.harness import Call, Codec, Copy, Peer, main, read_exactly, write_all

_SERVICE = 1
_ADD, _WRITE = 1, 2
_FRAME_BYTES, _MESSAGE_BYTES, _LENGTH_BYTES = 6, 8, 4


class _FdTransport(erpc.transport.FramedTransport):
    """The device's end of a pty."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def _base_send(self, data: bytes) -> None:
        write_all(self._fd, data)

    def _base_receive(self, count: int) -> bytes:
        return read_exactly(self._fd, count)


class _Service(erpc.server.Service):
    def __init__(self) -> None:
        super().__init__(_SERVICE)
        self._methods = {_ADD: self._add, _WRITE: self._write}

    def _add(self, sequence: int, codec: Any) -> None:
        a, b = codec.read_int32(), codec.read_int32()
        self._reply(_ADD, sequence, codec)
        codec.write_int32(a + b)

    def _write(self, sequence: int, codec: Any) -> None:
        codec.read_binary()
        self._reply(_WRITE, sequence, codec)

    def _reply(self, request: int, sequence: int, codec: Any) -> None:
        codec.reset()
        kind = erpc.codec.MessageType.kReplyMessage
        codec.start_write_message(erpc.codec.MessageInfo(kind, self.service_id, request, sequence))


class _Client:
    def __init__(self, manager: erpc.client.ClientManager) -> None:
        self._manager = manager

    def add(self, a: int, b: int) -> int:
        def write(codec: Any) -> None:
            codec.write_int32(a)
            codec.write_int32(b)

        return self._request(_ADD, write).read_int32()

    def write(self, data: bytes) -> None:
        self._request(_WRITE, lambda codec: codec.write_binary(data))

    def _request(self, number: int, write: Callable[[Any], None]) -> Any:
        request = self._manager.create_request()
        codec = request.codec
        kind = erpc.codec.MessageType.kInvocationMessage
        codec.start_write_message(erpc.codec.MessageInfo(kind, _SERVICE, number, request.sequence))
        write(codec)
        self._manager.perform_request(request)
        return codec


def _serve(fd: int) -> None:
    server = erpc.simple_server.SimpleServer(_FdTransport(fd), erpc.basic_codec.BasicCodec)
    server.add_service(_Service())
    server.run()


@contextmanager
def _client(path: str) -> Iterator[_Client]:
    transport = erpc.transport.SerialTransport(path, 115200)
    try:
        yield _Client(erpc.client.ClientManager(transport, erpc.basic_codec.BasicCodec))
    finally:
        transport.close()


@contextmanager
def _call(path: str) -> Iterator[Call]:
    with _client(path) as client:

        def call() -> None:
            assert client.add(2, 3) == 5

        yield call


@contextmanager
def _copy(path: str, *, buffer_bytes: int) -> Iterator[Copy]:
    block = buffer_bytes - _FRAME_BYTES - _MESSAGE_BYTES - _LENGTH_BYTES
    with _client(path) as client:

        def copy(data: bytes) -> None:
            for start in range(0, len(data), block):
                client.write(data[start : start + block])

        yield copy


class _Memory(erpc.transport.FramedTransport):
    """Frames alone."""

    def __init__(self) -> None:
        super().__init__()
        self.data = memoryview(b"")
        self.sent = b""

    def _base_send(self, data: bytes) -> None:
        self.sent = bytes(data)

    def _base_receive(self, count: int) -> bytes:
        taken, self.data = self.data[:count], self.data[count:]
        return bytes(taken)


_memory = _Memory()


def _encode(payload: bytes) -> bytes:
    _memory.send(payload)
    return _memory.sent


def _decode(stream: bytes) -> list[bytes]:
    _memory.data = memoryview(stream)
    payloads = []
    while _memory.data:
        payloads.append(_memory.receive())
    return payloads


if __name__ == "__main__":
    copies = {
        "256 B messages": partial(_copy, buffer_bytes=256),
        "4 KiB messages": partial(_copy, buffer_bytes=4096),
    }
    main(Peer(_serve, _call, copies, Codec(_encode, _decode)))
