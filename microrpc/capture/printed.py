"""What a board says to people: what it prints beside its frames (docs/protocol.md 7), and its log, as bytes. Pure."""

from __future__ import annotations

from typing import Final

from microrpc.wire.frames import FrameDecoder, Garbage
from microrpc.wire.session import HEADER_SIZE_BYTES, MessageType

_MOST_PAYLOAD_BYTES: Final = 1 << 24
_LOG: Final = bytes([MessageType.LOG])


class Printed:
    """Takes what comes from a board, and gives what was there beside its frames, as it was, and the lines of its log.

    No line is waited for: a prompt without an end is given at once. What is left of a frame that was damaged is given,
    too, where it is not known to be of one.
    """

    def __init__(self) -> None:
        self._decoder = FrameDecoder(_MOST_PAYLOAD_BYTES)

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the line; give those that are for people."""
        said = []
        for item in self._decoder.feed(data):
            if isinstance(item, Garbage):
                said.append(item.data)
            elif isinstance(item, bytes) and item[HEADER_SIZE_BYTES - 1 : HEADER_SIZE_BYTES] == _LOG:
                said.append(item[HEADER_SIZE_BYTES:] + b"\n")
        return b"".join(said)
