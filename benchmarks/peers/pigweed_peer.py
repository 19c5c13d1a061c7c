"""pw_rpc over pw_hdlc: its Python client; the device's side from its own decoder, encoder and packets.

The client reads with its `SelectableReader`, which is prompt; its documented `SerialReader` waits for its timeout in
each call, and takes 10 ms.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pw_hdlc import encode
from pw_hdlc.decode import FrameDecoder
from pw_hdlc.rpc import DEFAULT_ADDRESS, HdlcRpcClient, SelectableReader, default_channels
from pw_log.proto import log_pb2
from pw_rpc import benchmark_pb2, ids, packets
from pw_rpc.descriptors import RpcIds
from pw_rpc.internal import packet_pb2
from pw_rpc.internal.packet_pb2 import PacketType

from benchmarks.peers.harness import Call, Codec, Copy, Peer, Talk, main, opened, write_all

_NUMBERS = bytes(8)  # two int32 and their echo, in place of add(int, int)
_BLOCK_BYTES = 1024
_LOGS = ids.calculate("pw.log.Logs")
_RATE_HZ = 400  # of the stream of server streaming, which has no parameter for it
_EVENT_BYTES = 32


def _serve(fd: int) -> None:
    """Echo what is short, acknowledge what is long, and stream entries of a log while a client listens."""
    decoder = FrameDecoder()
    stream = _Stream(fd)
    while True:
        if not select.select([fd], [], [], stream.wait_s())[0]:
            stream.send()
            continue
        for frame in decoder.process_valid_frames(os.read(fd, 65536)):
            request = packets.decode(frame.data)
            call = RpcIds(request.channel_id, request.service_id, request.method_id, request.call_id)
            if request.type == PacketType.CLIENT_ERROR:
                stream.end()
            elif request.service_id == _LOGS:
                stream.begin(call)
            else:
                payload = benchmark_pb2.Payload.FromString(request.payload)
                echo = payload if len(payload.payload) == len(_NUMBERS) else None
                write_all(fd, encode.ui_frame(DEFAULT_ADDRESS, packets.encode_response(call, echo)))
        stream.send()


class _Stream:
    """The entries of a log, while somebody listens: the device's side of server streaming."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._ids: RpcIds | None = None
        self._due = 0.0
        self._said = 0

    def begin(self, call: RpcIds) -> None:
        self._ids = call
        self._due = time.monotonic() + 1 / _RATE_HZ

    def end(self) -> None:
        self._ids = None

    def wait_s(self) -> float | None:
        return None if self._ids is None else max(0.0, self._due - time.monotonic())

    def send(self) -> None:
        """Send what is due."""
        while self._ids is not None and self._due <= time.monotonic():
            entry = log_pb2.LogEntry(message=self._said.to_bytes(_EVENT_BYTES, "little"))
            packet = packet_pb2.RpcPacket(
                type=PacketType.SERVER_STREAM,
                channel_id=self._ids.channel_id,
                service_id=self._ids.service_id,
                method_id=self._ids.method_id,
                call_id=self._ids.call_id,
                payload=log_pb2.LogEntries(entries=[entry]).SerializeToString(),
            )
            write_all(self._fd, encode.ui_frame(DEFAULT_ADDRESS, packet.SerializeToString()))
            self._said += 1
            self._due += 1 / _RATE_HZ


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


@contextmanager
def _talk(path: str) -> Iterator[Talk]:
    with opened(path) as fd:
        channels = default_channels(lambda data: write_all(fd, data))
        with HdlcRpcClient(SelectableReader(_Reading(fd)), [benchmark_pb2, log_pb2], channels) as client:
            echo = client.rpcs().pw.rpc.Benchmark.UnaryEcho
            listen = client.rpcs().pw.log.Logs.Listen
            streams: list[Any] = []
            expected: list[int] = []  # the number of the next entry, where one has come

            def call() -> None:
                status, reply = echo(payload=_NUMBERS)
                assert status.ok()
                assert reply.payload == _NUMBERS

            def copy(data: bytes) -> None:
                for start in range(0, len(data), _BLOCK_BYTES):
                    status, _ = echo(payload=data[start : start + _BLOCK_BYTES])
                    assert status.ok()

            def count(_: object, entries: Any) -> None:
                for entry in entries.entries:
                    number = int.from_bytes(entry.message, "little")
                    talk.came += 1
                    talk.missed += number - (expected or [number])[0]
                    expected[:] = [number + 1]

            def report(rate_hz: int) -> None:
                assert rate_hz in (0, _RATE_HZ)
                while streams:
                    streams.pop().cancel()
                if rate_hz:
                    expected.clear()
                    streams.append(listen.invoke(on_next=count))

            talk = Talk(call, copy, report)
            yield talk


def _encode(payload: bytes) -> bytes:
    return encode.ui_frame(DEFAULT_ADDRESS, payload)


def _decode(stream: bytes) -> list[bytes]:
    return [frame.data for frame in FrameDecoder().process_valid_frames(stream)]


if __name__ == "__main__":
    main(Peer(_serve, _call, {"unary calls, 1 KiB": _copy}, Codec(_encode, _decode), _talk))
