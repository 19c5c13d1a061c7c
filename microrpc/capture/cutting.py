"""A direction of a line, cut into what a capture has as packets: frames, and what is between them.

A frame ends where `FrameDecoder` says so (docs/protocol.md 1), good or not: nothing else decides it a second time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from microrpc.wire.frames import FRAME_START, FrameDecoder, Item

MOST_FRAME_BYTES: Final = 192 * 1024
"""A frame that takes more on the line comes in several pieces: Wireshark takes no packets over 256 KiB."""
MOST_BETWEEN_BYTES: Final = 4096
"""And what is between frames, where it takes more."""
_MOST_WHOLE_BYTES: Final = 16 * 1024  # of a payload: the frames of copies are taken whole


class Piece(NamedTuple):
    """Bytes of the line as they were on it; with no-ops (FE) in front of it, where a frame has any.

    payload: that of a frame which came whole; None for every other, and for what is between frames.
    """

    data: bytes
    payload: bytes | None = None


class _Marking(FrameDecoder):
    """Notes where the frames of a stream begin and end."""

    def __init__(self) -> None:
        super().__init__()
        self._whole_max = _MOST_WHOLE_BYTES
        self.marks: list[tuple[int, int, Item]] = []

    @property
    def is_between(self) -> bool:
        """Whether a frame may begin with the next byte: none is arriving, and no escape."""
        return not (self._missing or self._held)

    def take_one(self, data: bytes) -> bytes | None:
        """Take `data`, where a frame may begin, if it is one good frame, and give its payload; else None."""
        taken: list[Item] = []
        if data[:2] != FRAME_START or super()._take_whole(data, 0, taken) != len(data):
            return None
        self._base += len(data)
        [payload] = taken
        assert isinstance(payload, bytes)
        return payload

    @property
    def begun_at(self) -> int:
        """Where the frame begins that is arriving; without any, up to where it is certain that none does."""
        return self._offset if self.in_packet else self._base - len(self._held)

    def _take_whole(self, data: bytes, start: int, out: list[Item]) -> int:
        end = super()._take_whole(data, start, out)
        if end:
            self.marks.append((self._base + start, self._base + end, out[-1]))
        return end

    def _advance(self, data: bytes, pos: int, out: list[Item]) -> int:
        count = len(out)
        end = super()._advance(data, pos, out)
        if len(out) > count:
            self.marks.append((self._offset, self._base + end, out[-1]))
        return end


class Cutter:
    """Cuts one direction. All bytes come out again, in order: what is kept is bounded, and `rest` gives it."""

    def __init__(self) -> None:
        self._decoder = _Marking()
        self._kept = b""
        self._kept_at = 0  # where that is in the stream

    def cut(self, data: bytes) -> list[Piece]:
        """Take the next bytes; give what they complete. What is between frames goes on until its line ends."""
        if not self._kept and self._decoder.is_between and (payload := self._decoder.take_one(data)) is not None:
            self._kept_at += len(data)
            return [Piece(data, payload)]  # most reads and writes are: that costs a third
        marks = self._decoder.marks
        marks.clear()
        self._decoder.feed(data)
        whole = self._kept + data if self._kept else data
        pieces: list[Piece] = []
        at = 0
        for start, end, item in marks:
            at = self._pass_between(whole, at, start - self._kept_at, pieces)
            pieces.append(Piece(whole[at : end - self._kept_at], item if isinstance(item, bytes) else None))
            at = end - self._kept_at
        begun = self._decoder.begun_at - self._kept_at
        if self._decoder.in_packet:
            at = self._pass_between(whole, at, begun, pieces)
            if len(whole) - at > MOST_FRAME_BYTES:
                pieces.append(Piece(whole[at:]))
                at = len(whole)
        elif begun > at and (whole[begun - 1] == 0x0A or begun - at > MOST_BETWEEN_BYTES):
            pieces.append(Piece(whole[at:begun]))
            at = begun
        self._keep(whole, at)
        return pieces

    def between(self) -> list[Piece]:
        """Give what is kept of what is between frames: something else has ended it."""
        if not self._kept:
            return []
        size = self._decoder.begun_at - self._kept_at
        pieces: list[Piece] = []
        if size > 0:
            self._keep(self._kept, self._pass_between(self._kept, 0, size, pieces))
        return pieces

    def rest(self) -> list[Piece]:
        """Give all that is kept, whether a frame is arriving or not. What follows goes on with it all the same."""
        pieces = self.between()
        if self._kept:
            pieces.append(Piece(self._kept))
        self._keep(b"", 0, len(self._kept))
        return pieces

    def _keep(self, whole: bytes, at: int, gone: int = 0) -> None:
        self._kept = whole[at:]
        self._kept_at += at + gone

    @staticmethod
    def _pass_between(whole: bytes, at: int, start: int, pieces: list[Piece]) -> int:
        """Give what is before a frame, which begins at `start`; where it means nothing, it belongs to the frame."""
        if start <= at:
            return at
        between = whole[at:start]
        if not between.replace(b"\xff\xfe", b"").strip(b"\xfe") and len(between) <= MOST_BETWEEN_BYTES:
            return at
        pieces.append(Piece(between))
        return start
