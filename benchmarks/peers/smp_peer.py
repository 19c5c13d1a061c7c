"""SMP: the client of `smpclient` over its serial transports, a server from the messages of `smp`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from smp import header, image_management, os_management, packet
from smpclient import SMPClient
from smpclient.generics import success
from smpclient.requests.os_management import EchoWrite
from smpclient.transport.serial import SMPSerialRawTransport, SMPSerialTransport

from benchmarks.peers.harness import Call, Codec, Copy, Peer, main, opened, write_all

_BUFFER_BYTES = 4096
_START = packet.START_DELIMITER[0]


def _serve(fd: int) -> None:
    """Answer in the framing in which the request came: a raw message begins with its operation, 0 or 2."""
    received = bytearray()
    while True:
        received += os.read(fd, 65536)
        if not received:
            continue
        if received[0] == _START:
            if (request := _encoded(received)) is not None:
                received.clear()
                for line in packet.encode(_answer(request)):
                    write_all(fd, line)
        elif (length := _raw_length(received)) is not None and len(received) >= length:
            request = bytes(received[:length])
            del received[:length]
            write_all(fd, _answer(request))


def _raw_length(received: bytearray) -> int | None:
    size_bytes = header.Header.SIZE
    if len(received) < size_bytes:
        return None
    return size_bytes + header.Header.loads(bytes(received[:size_bytes])).length


def _encoded(received: bytearray) -> bytes | None:
    """Give the message where its last line has come."""
    if received[-1:] != packet.END_DELIMITER:
        return None
    messages = _decode(bytes(received))
    return messages[0] if messages else None


def _answer(request: bytes) -> bytes:
    head = header.Header.loads(request[: header.Header.SIZE])
    made: Any
    match head.group_id, head.command_id:
        case header.GroupId.OS_MANAGEMENT, header.CommandId.OSManagement.ECHO:
            text = os_management.EchoWriteRequest.loads(request).d
            made = os_management.EchoWriteResponse(r=text, sequence=head.sequence)
        case header.GroupId.OS_MANAGEMENT, header.CommandId.OSManagement.MCUMGR_PARAMETERS:
            made = os_management.MCUMgrParametersReadResponse(
                buf_size=_BUFFER_BYTES, buf_count=1, sequence=head.sequence
            )
        case _:
            upload = image_management.ImageUploadWriteRequest.loads(request)
            made = image_management.ImageUploadWriteResponse(off=upload.off + len(upload.data), sequence=head.sequence)
    return bytes(made)


@contextmanager
def _client(path: str, transport: Callable[[], Any]) -> Iterator[tuple[SMPClient, asyncio.Runner]]:
    with opened(path), asyncio.Runner() as runner:
        client = SMPClient(transport(), path)
        runner.run(client.connect())
        try:
            yield client, runner
        finally:
            runner.run(client.disconnect())


@contextmanager
def _call(path: str) -> Iterator[Call]:
    with _client(path, SMPSerialTransport) as (client, runner):

        async def echo() -> None:
            reply = await client.request(EchoWrite(d="2 and 3."))
            assert success(reply)
            assert reply.r == "2 and 3."

        yield lambda: runner.run(echo())


@contextmanager
def _copy(path: str, *, transport: Callable[[], Any]) -> Iterator[Copy]:
    with _client(path, transport) as (client, runner):

        async def upload(data: bytes) -> None:
            async for _ in client.upload(data, use_sha=False):
                pass

        yield lambda data: runner.run(upload(data))


def _encode(payload: bytes) -> bytes:
    return b"".join(packet.encode(payload))


def _decode(stream: bytes) -> list[bytes]:
    messages = []
    decoder = None
    for line in stream.splitlines(keepends=True):
        if decoder is None:
            decoder = packet.decode()
            next(decoder)
        try:
            decoder.send(line)
        except StopIteration as done:
            messages.append(bytes(done.value))
            decoder = None
    return messages


if __name__ == "__main__":
    copies = {
        "encoded, 4 KiB buffer": partial(_copy, transport=SMPSerialTransport),
        "raw, 4 KiB buffer": partial(_copy, transport=partial(SMPSerialRawTransport, mtu=_BUFFER_BYTES)),
    }
    main(Peer(_serve, _call, copies, Codec(_encode, _decode)))
