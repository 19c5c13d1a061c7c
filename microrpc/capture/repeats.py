"""Which messages of the reliable link were sent again (docs/link.md 2, 4): the same one of a session, a second time."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from microrpc.wire.session import MessageType

_KEY_BYTES: Final = 5  # session, type, seq
_CRC_BYTES: Final = 4  # the link's own, over all of it, ends each message
_MOST = 256  # more than any window, and far less than the seqs that there are
_REPEATED: Final = frozenset({MessageType.LINK_REQUEST, MessageType.LINK_REPLY})


class Repeats:
    """The payloads of one direction, in order: tells of each whether it was there already.

    What each side repeats of its own accord, such as credit for events, is no repetition.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, bytes] = (
            OrderedDict()
        )  # a dict finds its first one slowly, where firsts are deleted

    def is_repeated(self, payload: bytes) -> bool:
        """Take the payload of a good frame; tell whether it is a request or a reply that was sent before."""
        if len(payload) <= _KEY_BYTES or payload[2] not in _REPEATED:
            return False
        key, crc = payload[:_KEY_BYTES], payload[-_CRC_BYTES:]
        if self._seen.pop(key, None) == crc:
            self._seen[key] = crc
            return True
        if len(self._seen) >= _MOST:
            self._seen.popitem(last=False)
        self._seen[key] = crc
        return False
