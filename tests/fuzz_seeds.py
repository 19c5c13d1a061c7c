"""What the fuzzer of the device library (firmware/tests/fuzz.c) begins with."""

from __future__ import annotations

import itertools

_SAY_PACKET, _SAY_LINK_PACKET, _SAY_WORK, _SAY_SEALED, _FEED_SEALED = 8, 9, 13, 14, 15  # in fuzz.c
_TELL, _SAY_MODEL, _NEST = 17, 18, 19


def seeds() -> list[bytes]:
    """A thing to say of each kind, and packets of each kind after an allocation."""
    allocation = bytes((_SAY_PACKET, 9, 13, 0, 0, 0, 64, 0, 8, 0, 0))  # 64 bytes, aligned to 8
    said = [allocation + bytes((kind, 20)) + bytes((0,) * 8 + (4,) + (0,) * 11) for kind in range(18)]
    for function, model, layer in itertools.product(range(4), range(3), range(3)):  # in blocks of their own
        said.append(allocation * 3 + bytes((_SAY_MODEL, 6, function, model, layer, 0, 8, 16)))
    for start in range(0, 256, 4):
        values = bytes((start, 0, *range(start % 7, start % 7 + 38)))
        said += [
            allocation + bytes((_SAY_PACKET, 40)) + values,
            allocation + bytes((_SAY_LINK_PACKET, 40, start)) + bytes(39),
        ]
    said += [bytes((_NEST, 4)) + b"\xff\xfd\x10\0" + bytes((kind, 20, *range(20))) for kind in range(18)]
    acknowledgement = bytes((_SAY_SEALED, 8, 4, 0, 0, 0, 0, 0, 1, 1))  # with a credit of 256 bytes
    said += [acknowledgement + bytes((_TELL, 3)) + b"abc" + acknowledgement * 2]
    said += [bytes((_FEED_SEALED, 3, 6, seq, 0, _SAY_WORK, 3, 5, 2, 0)) for seq in range(4)]
    return said
