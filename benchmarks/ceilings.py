"""What no host can exceed on a line, from the bytes that the protocol has sent: docs/protocol.md 1 to 4.

A copy in blocks, one request in flight: the line carries a request, then its reply, and nothing beside them. An array
of random bytes in one dimension, blocks as large as the packet allows; only the fixed fields, of which none is 0xFF,
are taken as they are.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from microrpc.chunking import copy_overhead_bytes
from microrpc.session import HEADER_SIZE_BYTES

Direction = Literal["to", "from"]
DIRECTIONS: tuple[Direction, ...] = ("to", "from")

_FRAME_BYTES = 8  # FF FD, a length of 4, a crc of 2
_PACKET_NBYTES = 8
_CODE_BYTES = 4
_ESCAPED = 1 / 256  # of random bytes are 0xFF, and are sent twice
_CRC_BYTES = 2
_RETURN_NOTHING_BYTES = _CODE_BYTES + 4 + 4  # code, a count of 1, the type code Null


class Ceiling(NamedTuple):
    """The bytes of one block: of its data, and of all that the line carries for it, one way after the other."""

    data_bytes: int
    request_bytes: float
    reply_bytes: float

    @property
    def percent(self) -> float:
        return 100 * self.data_bytes / (self.request_bytes + self.reply_bytes)

    def __str__(self) -> str:
        return f"{self.data_bytes} / ({self.request_bytes:.1f} + {self.reply_bytes:.1f})"


def stop_and_wait(packet_bytes: int, direction: Direction) -> Ceiling:
    """Give the ceiling of a copy whose every block waits for its reply, as on stock firmware.

    message = frame 8 + session header 3 + packet_nbytes 8 + the packet
    block   = packet_bytes - 3 - 8 - overhead, where overhead = 44 + 8 for one dimension, the code among it
    to the board:   request = message(overhead + block) + escapes, reply = message(12)
    from the board: request = message(overhead), reply = message(4 + block) + escapes
    escapes = (block + 2 of crc) / 256
    """
    overhead = copy_overhead_bytes(1)
    data_bytes = packet_bytes - HEADER_SIZE_BYTES - _PACKET_NBYTES - overhead
    escapes = (data_bytes + _CRC_BYTES) * _ESCAPED
    if direction == "to":
        return Ceiling(data_bytes, _message(overhead + data_bytes) + escapes, _message(_RETURN_NOTHING_BYTES))
    return Ceiling(data_bytes, _message(overhead), _message(_CODE_BYTES + data_bytes) + escapes)


def _message(packet_bytes: int) -> int:
    return _FRAME_BYTES + HEADER_SIZE_BYTES + _PACKET_NBYTES + packet_bytes
