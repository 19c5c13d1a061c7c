"""Text beside frames: what firmware prints on the port that carries its frames (docs/protocol.md 7). Pure.

Bytes outside of frames are either what a board printed, or what is left of a frame whose start was damaged. A lost
frame has NULs: three of the four bytes of its length, but for the largest, and most of what follows. So a line that has
no byte which no text has is text. It costs time where that is wrong, for a lost frame is then waited for, and no more:
nothing is ever taken for an answer that did not arrive as a frame.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable

__all__ = ["HEARD_BYTES", "SILENCE_S", "TextReader", "is_text"]

SILENCE_S = 0.2
"""A line that does not go on for so long, in seconds, has ended, as a prompt does."""
HEARD_BYTES = 160
"""How much of a text `TextReader.heard` keeps, for an error to quote."""

_LONGEST_LINE_CHARACTERS = 1024
_LINE_ENDS = (b"\n", b"\r")
_SHORT_BYTES = 9  # less than a frame takes, and so the end of a damaged one where it follows that
# Bell, backspace, all that is white space, the ESC of ANSI escapes, what is printable, and whatever is in UTF-8.
_TEXT_BYTES = bytes([*range(0x07, 0x0E), 0x1B, *range(0x20, 0x7F), *range(0x80, 0xF5)])
_CONTINUATION = bytes(range(0x80, 0xC0))
_MOST_CUT_BYTES = 3


def is_text(data: bytes) -> bool:
    """Whether nothing in `data` tells that it is no text: UTF-8, which may be cut at both ends, or ANSI escapes."""
    if data.translate(None, _TEXT_BYTES):
        return False
    whole = data.lstrip(_CONTINUATION)
    if len(data) - len(whole) > _MOST_CUT_BYTES:
        return False
    try:
        codecs.utf_8_decode(whole, "strict", False)
    except UnicodeDecodeError:
        return False
    return True


class TextReader:
    """Tells text from broken frames, and the lines of it to `on_line`.

    It judges what stands between two frames, line by line: a line with one byte that no text has is part of a broken
    frame. A line may go on after a frame that was sent in the middle of it; it ends with LF or CR, after `SILENCE_S`,
    and after 1024 characters. Lines that are empty are not told. `size_bytes` counts the bytes of text. `heard` is the
    first of it, for an error to quote; whoever wants to know of later text empties it. `ends_at`: when a line that has
    begun is to be ended with `flush`, in seconds, if nothing comes before; infinity without one.
    """

    def __init__(self, on_line: Callable[[str], None] = lambda text: None) -> None:
        self.size_bytes = 0
        self.heard = b""
        self.ends_at = math.inf
        self._on_line = on_line
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._line = ""  # what was judged of a line that has not ended
        self._unit = b""  # what was not, since the last frame or newline: the next byte may tell that it is no text
        self._is_broken = False  # one told so
        self._is_rest = False  # a frame broke before it
        self._frames = 0

    def feed(self, data: bytes, now: float, frames: int) -> bytes:
        """Take bytes outside of frames that came at `now`, in seconds; give those that are of a broken frame.

        `frames` counts the frames before them, damaged ones too: so that is told what follows what directly.
        """
        if frames != self._frames:
            self._frames = frames
            self._accept()
        if now >= self.ends_at:
            self.flush()
        broken = []
        for piece in data.splitlines(keepends=True):
            broken.append(self._judge(piece))
            if piece.endswith(_LINE_ENDS):
                self.flush()
        if len(self._line) + len(self._unit) >= _LONGEST_LINE_CHARACTERS:
            self._accept()
            self._tell("")
        self.ends_at = now + SILENCE_S if self._line or self._unit or self._is_broken else math.inf
        return b"".join(broken)

    def after_damage(self, frames: int) -> None:
        """Take note of a damaged frame, counted in `frames`: a few bytes that follow it directly are the end of it."""
        self._accept()
        self._frames = frames
        self._is_rest = True

    def flush(self) -> None:
        """End a line that has not ended."""
        self._accept()
        self.ends_at = math.inf
        self._tell(self._decoder.decode(b"", True))

    def quote(self) -> str:
        """Give what was heard as a sentence for an error, after a space; "" where that is nothing."""
        text = self.heard_text()
        return f" The board printed {text!r}." if text.strip() else ""

    def heard_text(self) -> str:
        """End a line that has not ended; give what was heard, without a character that is cut."""
        self.flush()
        return self.heard.decode(errors="ignore")

    def _judge(self, piece: bytes) -> bytes:
        """Add a piece to what is not judged; give what is now known to be no text."""
        unit = self._unit + piece
        if self._is_broken or not is_text(unit):
            self._is_broken, self._unit = True, b""
            return unit
        self._unit = unit
        return b""

    def _accept(self) -> None:
        """Take what is not judged for text: nothing told against it, and something else follows."""
        unit, self._unit = self._unit, b""
        if self._is_rest and len(unit) < _SHORT_BYTES and not unit.endswith(_LINE_ENDS):
            unit = b""
        self._is_broken = self._is_rest = False
        self.size_bytes += len(unit)
        self.heard += unit[: HEARD_BYTES - len(self.heard)]
        self._line += self._decoder.decode(unit)

    def _tell(self, end: str) -> None:
        """Tell the line so far, and its `end`."""
        line, self._line = self._line + end, ""
        for start in range(0, len(line), _LONGEST_LINE_CHARACTERS):
            if text := line[start : start + _LONGEST_LINE_CHARACTERS].rstrip():
                self._on_line(text)
