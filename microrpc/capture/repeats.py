"""Which messages of the reliable link were sent again (docs/link.md 2, 4): the same one of a session, a second time."""

from __future__ import annotations

from typing import Final

from microrpc.wire.frames import FRAME_START, FrameDecoder
from microrpc.wire.session import MessageType

_TYPE_AT: Final = 8  # of a frame without escapes: start, length, session
_HEAD_BYTES: Final = 20  # start, length, session, type and seq, whatever of that is escaped
_END_BYTES: Final = 8  # at least the link's own crc, over all of its message, or the last of it and that of the frame
_LEAST_BYTES: Final = 17  # of a frame: with seq and crc of the link
_MOST = 256  # more than any window, and far less than the seqs that there are
_REPEATED: Final = frozenset({int(MessageType.LINK_REQUEST), int(MessageType.LINK_REPLY)})


class Repeats:
    """The frames of one direction, in order: tells of each whether it was there already, be it damaged.

    The same message is the same bytes on the line. What each side repeats of its own accord, such as credit for events,
    is no repetition.
    """

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._seen_before: set[bytes] = set()

    def is_repeated(self, frame: bytes) -> bool:
        """Take a piece of a line; tell whether it is a good frame, of a request or a reply that was there before."""
        if frame[:2] != FRAME_START:
            frame = frame[max(frame.find(FRAME_START), 0) :]  # no-ops may stand in front of it
        if len(frame) < _LEAST_BYTES:
            return False
        kind = frame[_TYPE_AT]
        if frame[_TYPE_AT - 2] == 0xFF or frame[_TYPE_AT - 1] == 0xFF:  # they are sent twice
            kind = frame[_TYPE_AT - 2 : _TYPE_AT + 4].replace(b"\xff\xff", b"\xff")[2]
        if kind not in _REPEATED:
            return False
        key = frame[:_HEAD_BYTES] + frame[-_END_BYTES:]
        was_there = key in self._seen or key in self._seen_before
        self._seen.add(key)
        if len(self._seen) >= _MOST:
            self._seen_before, self._seen = self._seen, set()
        return was_there and any(isinstance(item, bytes) for item in FrameDecoder().feed(frame))
