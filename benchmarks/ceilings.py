"""What no host can exceed on a line, from the bytes that the protocol has sent.

A copy of an array of random bytes in one dimension, in blocks as large as the packet allows. Of random bytes one of 256
is 0xFF and is sent twice; the other fields are taken to have none.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from microrpc.host.blocks import batch_blocks, copy_overhead_bytes
from microrpc.wire.frames import FRAME_OVERHEAD_BYTES
from microrpc.wire.link import DATA_OVERHEAD_BYTES, WRITE_OVERHEAD_BYTES
from microrpc.wire.names import MESSAGE_OVERHEAD_BYTES

Direction = Literal["to", "from"]
DIRECTIONS: tuple[Direction, ...] = ("to", "from")

_CODE_BYTES = 4
_ESCAPED = 1 / 256  # of random bytes are 0xFF, and are sent twice
_CRC_BYTES = 2
_CRC32_BYTES = 4
_RETURN_NOTHING_BYTES = _CODE_BYTES + 4 + 4  # code, a count of 1, the type code Null


class Ceiling(NamedTuple):
    """What a block costs: the bytes of its data, and all that the line carries for it, one after the other."""

    data_bytes: int
    line_bytes: tuple[float, ...]

    @property
    def percent(self) -> float:
        return 100 * self.data_bytes / sum(self.line_bytes)

    def __str__(self) -> str:
        return f"{self.data_bytes} / ({' + '.join(f'{size_bytes:.1f}' for size_bytes in self.line_bytes)})"


def stop_and_wait(packet_bytes: int, direction: Direction) -> Ceiling:
    """Give the ceiling of a copy whose every block waits for its reply (docs/protocol.md 1 to 4).

    message = frame 8 + session header 3 + packet_nbytes 8 + the packet
    block   = packet_bytes - 3 - 8 - overhead, where overhead = 44 + 8 for one dimension, the code among it
    to the board:   request = message(overhead + block) + escapes, reply = message(12)
    from the board: request = message(overhead), reply = message(4 + block) + escapes
    escapes = (block + 2 of crc) / 256
    """
    overhead = copy_overhead_bytes(1)
    data_bytes = packet_bytes - MESSAGE_OVERHEAD_BYTES - overhead
    escapes = (data_bytes + _CRC_BYTES) * _ESCAPED
    if direction == "to":
        request, reply = _message(overhead + data_bytes) + escapes, _message(_RETURN_NOTHING_BYTES)
    else:
        request, reply = _message(overhead), _message(_CODE_BYTES + data_bytes) + escapes
    return Ceiling(data_bytes, (request, reply))


def back_to_back(packet_bytes: int, direction: Direction) -> Ceiling:
    """Give the ceiling of a copy to a stock board whose ring takes the next request (docs/protocol.md 6).

    As stop_and_wait, but what goes the other way does so meanwhile, except once in a batch of 16 blocks.
    """
    alone = stop_and_wait(packet_bytes, direction)
    request, reply = alone.line_bytes
    copied, meanwhile = (request, reply) if direction == "to" else (reply, request)
    return Ceiling(alone.data_bytes, (copied, meanwhile / batch_blocks(2 * packet_bytes, packet_bytes)))


def over_the_link(packet_bytes: int, direction: Direction) -> Ceiling:
    """Give the ceiling of a copy over the link, where what goes the other way does so meanwhile (docs/link.md 2).

    block   = packet_bytes - 18, both ways
    to the board:   WRITE = frame 8 + session 2, type 1, seq 2, kind 1, address 8, crc32 4 + block + escapes
    from the board: DATA  = frame 8 + session 2, type 1, seq 2, kind 1, crc32 4 + block + escapes
    escapes = (block + 4 of crc32 + 2 of crc) / 256
    """
    data_bytes = packet_bytes - WRITE_OVERHEAD_BYTES
    escapes = (data_bytes + _CRC32_BYTES + _CRC_BYTES) * _ESCAPED
    header = WRITE_OVERHEAD_BYTES if direction == "to" else DATA_OVERHEAD_BYTES
    return Ceiling(data_bytes, (FRAME_OVERHEAD_BYTES + header + data_bytes + escapes,))


def _message(packet_bytes: int) -> int:
    return FRAME_OVERHEAD_BYTES + MESSAGE_OVERHEAD_BYTES + packet_bytes
