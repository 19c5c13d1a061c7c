"""A direction of a line, cut into what a capture has as packets: frames, and what is between them.

A frame ends where `FrameDecoder` says so (docs/protocol.md 1), good or not. Most frames are whole, or become so, and
their end follows from the length that they announce and from their escapes: neither is their crc computed, nor their
payload built. Everything else goes through the decoder.
"""

from __future__ import annotations

import struct
from typing import Final

from microrpc.wire.frames import FRAME_OVERHEAD_BYTES, FRAME_START, FrameDecoder, Item

MOST_FRAME_BYTES: Final = 192 * 1024
"""A frame that takes more on the line comes in several pieces: Wireshark takes no packets over 256 KiB."""
MOST_BETWEEN_BYTES: Final = 4096
"""And what is between frames, where it takes more."""
_MOST_PLAIN_BYTES: Final = 16 * 1024  # of a payload: the frames of copies; the high bytes of such a length are no FF
_MOST_ESCAPES: Final = 128  # FFs in a frame: many of them are cheaper for the decoder
_BEGIN: Final = struct.Struct("<HI")
_START: Final = int.from_bytes(FRAME_START, "little")


def _go_on(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Give where a frame ends that would end at `end` if no escape came from `at` on; and up to where that is certain.

    It is whole where the two are the same. 0, 0 where only the decoder can tell.
    """
    while at < end and at < len(data):
        parts = data[at:end].split(b"\xff", _MOST_ESCAPES)
        count = len(parts) - 1
        if not count:
            at = min(end, len(data))
        elif count == _MOST_ESCAPES or any(parts[1::2]):  # between the bytes of each FF FF is nothing
            return 0, 0
        else:
            at = min(end, len(data))
            end += count // 2  # what each FF FF has taken more
            if count & 1:
                if at == len(data):  # half an escape
                    return at - 1, end
                if data[at] != 0xFF:
                    return 0, 0
                at, end = at + 1, end + 1
    return at, end


class _Marking(FrameDecoder):
    """Notes where the frames of a stream begin and end."""

    def __init__(self) -> None:
        super().__init__()
        self._whole_max = _MOST_PLAIN_BYTES
        self.marks: list[tuple[int, int]] = []

    @property
    def is_between(self) -> bool:
        """Whether a frame may begin with the next byte: none is arriving, and no escape."""
        return not (self._missing or self._held)

    def go_to(self, at: int) -> None:
        """Go on at the byte `at` of the stream, where a frame may begin."""
        self.reset()
        self._base = at

    @property
    def begun_at(self) -> int:
        """Where the frame begins that is arriving; without any, up to where it is certain that none does."""
        return self._offset if self.in_packet else self._base - len(self._held)

    def _take_whole(self, data: bytes, start: int, out: list[Item]) -> int:
        end = super()._take_whole(data, start, out)
        if end:
            self.marks.append((self._base + start, self._base + end))
        return end

    def _advance(self, data: bytes, pos: int, out: list[Item]) -> int:
        count = len(out)
        end = super()._advance(data, pos, out)
        if len(out) > count:
            self.marks.append((self._offset, self._base + end))
        return end


class Cutter:
    """Cuts one direction. All bytes come out again, in order: what is kept is bounded, and `rest` gives it."""

    def __init__(self) -> None:
        self._decoder = _Marking()
        self._is_decoding = False  # the decoder was given what is kept; else that is a frame that needs none so far
        self._kept = b""
        self._kept_at = 0  # where that is in the stream
        self._certain, self._end = 0, 0  # of the frame that is kept and needs no decoder: see `_go_on`

    def cut(self, data: bytes) -> list[bytes]:
        """Take the next bytes; give what they complete. What is between frames goes on until its line ends."""
        whole = self._kept + data if self._kept else data
        pieces: list[bytes] = []
        begin, size = 0, len(whole)
        new_at = self._kept_at + size - len(data)
        if self._is_decoding:
            self._decode(whole, data, new_at, pieces)
            return pieces
        at, end = self._certain, self._end
        while begin < size:
            if not end and size - begin >= _BEGIN.size:
                start, length = _BEGIN.unpack_from(whole, begin)
                if start == _START and length <= _MOST_PLAIN_BYTES and length & 0xFF != 0xFF:
                    at = begin + _BEGIN.size
                    end = begin + FRAME_OVERHEAD_BYTES + length
            at, end = _go_on(whole, at, end)
            if at < end:
                break
            if not end:
                self._decoder.go_to(self._kept_at + begin)
                self._keep(whole, begin)
                self._decode(self._kept, self._kept, new_at, pieces)
                return pieces
            pieces.append(whole[begin:end])
            begin, end = end, 0
        self._certain, self._end = (at - begin, end - begin) if end else (0, 0)
        self._keep(whole, begin)
        return pieces

    def _decode(self, whole: bytes, data: bytes, new_at: int, pieces: list[bytes]) -> None:
        """Go on with the decoder, which has seen all of `whole` but `data`, its end; new: what never came here."""
        marks = self._decoder.marks
        marks.clear()
        self._decoder.feed(data)
        at = 0
        for start, end in marks:
            at = self._pass_between(whole, at, start - self._kept_at, pieces)
            pieces.append(whole[at : end - self._kept_at])
            at = end - self._kept_at
        begun_at = self._decoder.begun_at
        begun = begun_at - self._kept_at
        if self._decoder.in_packet:
            at = self._pass_between(whole, at, begun, pieces)
            if len(whole) - at > MOST_FRAME_BYTES:
                pieces.append(whole[at:])
                at = len(whole)
        elif begun > at and (whole[begun - 1] == 0x0A or begun - at > MOST_BETWEEN_BYTES):
            pieces.append(whole[at:begun])
            at = begun
        self._keep(whole, at)
        self._end = 0
        # A frame that has just begun is tried without the decoder, once: with 4095 bytes a read, one always has.
        is_new = self._decoder.in_packet and self._kept_at == begun_at >= new_at
        self._is_decoding = not (is_new or (self._decoder.is_between and not self._kept))

    def between(self) -> list[bytes]:
        """Give what is kept of what is between frames: something else has ended it."""
        if not (self._kept and self._is_decoding):
            return []
        size = self._decoder.begun_at - self._kept_at
        pieces: list[bytes] = []
        if size > 0:
            self._keep(self._kept, self._pass_between(self._kept, 0, size, pieces))
        return pieces

    def rest(self) -> list[bytes]:
        """Give all that is kept, whether a frame is arriving or not. What follows goes on with it all the same."""
        pieces = self.between()
        if self._kept:
            if not self._is_decoding:
                self._decoder.go_to(self._kept_at)
                self._decoder.feed(self._kept)
                self._is_decoding = True
            pieces.append(self._kept)
        self._keep(b"", 0, len(self._kept))
        return pieces

    def _keep(self, whole: bytes, at: int, gone: int = 0) -> None:
        self._kept = whole[at:]
        self._kept_at += at + gone

    @staticmethod
    def _pass_between(whole: bytes, at: int, start: int, pieces: list[bytes]) -> int:
        """Give what is before a frame, which begins at `start`; where it means nothing, it belongs to the frame."""
        if start <= at:
            return at
        between = whole[at:start]
        if not between.replace(b"\xff\xfe", b"").strip(b"\xfe") and len(between) <= MOST_BETWEEN_BYTES:
            return at
        pieces.append(between)
        return start
