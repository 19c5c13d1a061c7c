"""pySerialTransfer: packets of at most 254 bytes; the client polls `available()`, as its examples do."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pySerialTransfer import pySerialTransfer

from benchmarks.peers.harness import Call, Codec, Copy, Peer, main, opened, write_all

_LARGEST_BYTES = pySerialTransfer.MAX_PACKET_SIZE
_ADD, _WRITE = 1, 2


class _Memory:
    """Stands in for its serial port: what is sent, and what there is to read."""

    is_open = True

    def __init__(self) -> None:
        self.sent = b""
        self.data = memoryview(b"")

    @property
    def in_waiting(self) -> int:
        return len(self.data)

    def read(self, count: int = 1) -> bytes:
        taken, self.data = self.data[:count], self.data[count:]
        return bytes(taken)

    def write(self, data: bytes) -> None:
        self.sent = bytes(data)


class _Fd(_Memory):
    """The device's end of a pty."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def wait(self) -> None:
        self.data = memoryview(bytes(self.data) + os.read(self._fd, 65536))

    def read(self, count: int = 1) -> bytes:
        while len(self.data) < count:
            self.wait()
        return super().read(count)

    def write(self, data: bytes) -> None:
        write_all(self._fd, data)


def _transfer(connection: Any = None, path: str = "") -> Any:
    transfer = pySerialTransfer.SerialTransfer(path, restrict_ports=False)
    if connection is not None:
        transfer.connection = connection
    return transfer


def _serve(fd: int) -> None:
    port = _Fd(fd)
    transfer = _transfer(port)
    while True:
        port.wait()
        while transfer.available():
            size_bytes = 0
            if transfer.id_byte == _ADD:
                total = transfer.rx_obj(obj_type="i") + transfer.rx_obj(obj_type="i", start_pos=4)
                size_bytes = transfer.tx_obj(total)
            transfer.send(max(1, size_bytes), transfer.id_byte)


@contextmanager
def _link(path: str) -> Iterator[Any]:
    with opened(path):  # raw before it is opened
        transfer = _transfer(path=path)
        transfer.open()
        try:
            yield transfer
        finally:
            transfer.close()


def _wait(transfer: Any) -> None:
    while not transfer.available():
        if transfer.status.value <= 0:
            raise RuntimeError(transfer.status.name)
        time.sleep(0)


@contextmanager
def _call(path: str) -> Iterator[Call]:
    with _link(path) as transfer:

        def call() -> None:
            size_bytes = transfer.tx_obj(3, transfer.tx_obj(2))
            transfer.send(size_bytes, _ADD)
            _wait(transfer)
            assert transfer.rx_obj(obj_type="i") == 5

        yield call


@contextmanager
def _copy(path: str) -> Iterator[Copy]:
    with _link(path) as transfer:

        def copy(data: bytes) -> None:
            for start in range(0, len(data), _LARGEST_BYTES):
                transfer.send(transfer.tx_struct_obj(data[start : start + _LARGEST_BYTES]), _WRITE)
                _wait(transfer)

        yield copy


_memory = _Memory()
_codec = _transfer(_memory)


def _encode(payload: bytes) -> bytes:
    _codec.send(_codec.tx_struct_obj(payload))
    return _memory.sent


def _decode(stream: bytes) -> list[bytes]:
    _memory.data = memoryview(stream)
    payloads = []
    while size_bytes := _codec.available():
        payloads.append(bytes(_codec.rx_buff[:size_bytes]))
    return payloads


if __name__ == "__main__":
    main(Peer(_serve, _call, {"254 B packets": _copy}, Codec(_encode, _decode, _LARGEST_BYTES)))
