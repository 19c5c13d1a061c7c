"""Names of well-known functions, and sizes that several layers count with (docs/protocol.md 3, 4; docs/link.md 1)."""

from __future__ import annotations

from typing import Final

from microrpc.wire.session import HEADER_SIZE_BYTES

MAX_PACKET_SIZE_FUNCTION: Final = "tvm.rpc.server.GetCRTMaxPacketSize"
"""Returns the largest packet that the board takes, in bytes (docs/protocol.md 4)."""
SYSTEM_LIBRARY_FUNCTION: Final = "runtime.SystemLib"
"""Returns the system library, a module (docs/protocol.md 6)."""
MODULE_GET_FUNCTION: Final = "tvm.rpc.server.ModuleGetFunction"
"""Returns a function of a module, by its name (docs/protocol.md 6)."""
TIME_EVALUATOR_FUNCTION: Final = "runtime.RPCTimeEvaluator"
"""Times a function of the system library on the board (docs/protocol.md 6)."""
LINK_FUNCTION: Final = "microrpc.link"
"""Its handle tells the parameters of the reliable link, 0 that there is none (docs/link.md 1)."""
FEATURES_FUNCTION: Final = "microrpc.features"
"""Its handle tells what a device with a link knows besides, 0 that it is nothing (docs/link.md 7)."""
STREAM_FUNCTION: Final = "microrpc.stream"
"""Its handle tells the same of a server over a stream, 0 that it says nothing beside replies (docs/link.md 11)."""
DESCRIBE_FUNCTION: Final = "microrpc.describe"
"""Returns a page of the board's description (docs/description.md)."""
MEMORY_FUNCTION: Final = "microrpc.memory"
"""Returns what is used of the board's memory (docs/device.md 4)."""
MODELS_FUNCTION: Final = "microrpc.models"
"""Returns a page of the table of a model, None where there is none of that number (docs/models.md 1)."""
MODEL_RUN_FUNCTION: Final = "microrpc.model.run"
"""Runs a model on tensors (docs/models.md 1)."""
MODEL_PROFILE_FUNCTION: Final = "microrpc.model.profile"
"""The same, and returns how long each layer took (docs/models.md 1)."""
MODEL_LAYER_FUNCTION: Final = "microrpc.model.layer"
"""The same, and copies the output of a layer (docs/models.md 1)."""
CRC32_FUNCTION: Final = "microrpc.crc32"
"""Returns the CRC-32 of a tensor, to verify copies (docs/copies.md)."""
RELEASE_FUNCTION: Final = "microrpc.release_all"
"""Frees all that was allocated over the wire, and returns how many bytes that were (docs/device.md 4)."""
RANDOM_FILL_FUNCTION: Final = "tvm.contrib.random.random_fill"
"""Fills a tensor with numbers (docs/protocol.md 6)."""

PACKET_NBYTES: Final = 8
"""The bytes of the length that stands in front of every packet."""
MESSAGE_OVERHEAD_BYTES: Final = HEADER_SIZE_BYTES + PACKET_NBYTES
"""What a receive buffer must have besides the largest packet, which is what the board tells (docs/protocol.md 4)."""
LEAST_BUFFER_BYTES: Final = 128
"""The smallest receive buffer that a device has, in bytes: the library in C refuses less, and so do profiles."""
