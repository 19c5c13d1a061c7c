"""The framing that many write themselves: COBS (the package cobs, in C), a crc of `binascii`, a zero between frames."""

from __future__ import annotations

import binascii

from cobs import cobs

from benchmarks.peers.harness import Codec, Peer, main


def _encode(payload: bytes) -> bytes:
    return cobs.encode(payload + binascii.crc_hqx(payload, 0xFFFF).to_bytes(2, "big")) + b"\0"


def _decode(stream: bytes) -> list[bytes]:
    payloads = []
    for frame in stream.split(b"\0")[:-1]:
        data = cobs.decode(frame)
        payload = data[:-2]
        if binascii.crc_hqx(payload, 0xFFFF) == int.from_bytes(data[-2:], "big"):
            payloads.append(payload)
    return payloads


if __name__ == "__main__":
    main(Peer(codec=Codec(_encode, _decode)))
