"""pw_rpc over pw_hdlc: its Python client; the device's side from its own decoder, encoder and packets.

The client reads with its `SelectableReader`, which is prompt; its documented `SerialReader` waits for its timeout in
each call, and takes 10 ms.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pw_hdlc import encode
from pw_hdlc.decode import FrameDecoder
from pw_hdlc.rpc import DEFAULT_ADDRESS, HdlcRpcClient, SelectableReader, default_channels
from pw_rpc import benchmark_pb2, packets
from pw_rpc.descriptors import RpcIds

from benchmarks.peers.harness import Call, Codec, Copy, Peer, main, opened, write_all

_NUMBERS = bytes(8)  # two int32 and their echo, in place of add(int, int)
_BLOCK_BYTES = 1024


def _serve(fd: int) -> None:
    """Echo what is short, acknowledge what is long."""
    decoder = FrameDecoder()
    while True:
        for frame in decoder.process_valid_frames(os.read(fd, 65536)):
            request = packets.decode(frame.data)
            payload = benchmark_pb2.Payload.FromString(request.payload)
            ids = RpcIds(request.channel_id, request.service_id, request.method_id, request.call_id)
            echo = payload if len(payload.payload) == len(_NUMBERS) else None
            write_all(fd, encode.ui_frame(DEFAULT_ADDRESS, packets.encode_response(ids, echo)))


class _Reading:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def read(self) -> bytes:
        return os.read(self._fd, 65536)


@contextmanager
def _echo(path: str) -> Iterator[Any]:
    with opened(path) as fd:
        channels = default_channels(lambda data: write_all(fd, data))
        with HdlcRpcClient(SelectableReader(_Reading(fd)), [benchmark_pb2], channels) as client:
            yield client.rpcs().pw.rpc.Benchmark.UnaryEcho


@contextmanager
def _call(path: str) -> Iterator[Call]:
    with _echo(path) as echo:

        def call() -> None:
            status, reply = echo(payload=_NUMBERS)
            assert status.ok()
            assert reply.payload == _NUMBERS

        yield call


@contextmanager
def _copy(path: str) -> Iterator[Copy]:
    with _echo(path) as echo:

        def copy(data: bytes) -> None:
            for start in range(0, len(data), _BLOCK_BYTES):
                status, _ = echo(payload=data[start : start + _BLOCK_BYTES])
                assert status.ok()

        yield copy


def _encode(payload: bytes) -> bytes:
    return encode.ui_frame(DEFAULT_ADDRESS, payload)


def _decode(stream: bytes) -> list[bytes]:
    return [frame.data for frame in FrameDecoder().process_valid_frames(stream)]


if __name__ == "__main__":
    main(Peer(_serve, _call, {"unary calls, 1 KiB": _copy}, Codec(_encode, _decode)))
