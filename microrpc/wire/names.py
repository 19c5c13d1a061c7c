"""Names of well-known functions, and sizes that several layers count with (docs/protocol.md 3, 4; docs/link.md 1)."""

from __future__ import annotations

from typing import Final

from microrpc.wire.session import HEADER_SIZE_BYTES

MAX_PACKET_SIZE_FUNCTION: Final = "tvm.rpc.server.GetCRTMaxPacketSize"
SYSTEM_LIBRARY_FUNCTION: Final = "runtime.SystemLib"
MODULE_GET_FUNCTION: Final = "tvm.rpc.server.ModuleGetFunction"
TIME_EVALUATOR_FUNCTION: Final = "runtime.RPCTimeEvaluator"
LINK_FUNCTION: Final = "microrpc.link"
CRC32_FUNCTION: Final = "microrpc.crc32"
RANDOM_FILL_FUNCTION: Final = "tvm.contrib.random.random_fill"

PACKET_NBYTES: Final = 8
"""The bytes of the length that stands in front of every packet."""
MESSAGE_OVERHEAD_BYTES: Final = HEADER_SIZE_BYTES + PACKET_NBYTES
"""What a receive buffer must have besides the largest packet, which is what the board tells (docs/protocol.md 4)."""
