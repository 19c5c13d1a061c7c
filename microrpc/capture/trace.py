"""What crossed a line, for people to read: frames of both directions in words, with times.

docs/protocol.md 1 to 3 and docs/link.md 2 have what they are made of.

`Trace` takes bytes and times and gives frames.
"""

from __future__ import annotations

from collections import deque

from microrpc.capture.records import NOISE, TEXT
from microrpc.capture.tally import Tally
from microrpc.capture.words import MOST_TEXT_BYTES, Frame, FrameReader, log_text, text_meaning

_MOST_PENDING_BYTES = 65536
_PROGRESS, _ACK, _STATE = "PROGRESS", "EVENT_ACK", "EVENT_STATE"


class Trace:
    """The frames of one line, both directions: all of them, or the last `keep_frames` in bounded memory.

    Those that are kept are not wasted: of PROGRESS in a row the last is, and so is of EVENT_ACK and EVENT_STATE where
    they say nothing new. left_out: how many are not kept because of that.
    """

    def __init__(self, *, keep_frames: int | None = None) -> None:
        self.bytes_to_board = 0
        """How many bytes went to the board, since it was made or cleared."""
        self.bytes_to_host = 0
        """And how many came from it."""
        self.left_out = 0
        self._keep_frames = keep_frames
        self._pending: list[tuple[float, bool, bytes]] = []
        self._pending_bytes = 0
        self._reader = FrameReader()
        self._frames: deque[Frame] = deque(maxlen=keep_frames)
        self._log_lines: deque[tuple[float, str]] = deque(maxlen=keep_frames)
        self._count = 0
        self._tally = Tally()

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        """Take bytes that passed at `time_s`, in seconds. They are decoded later, so as not to slow the line down."""
        if to_board:
            self.bytes_to_board += len(data)
        else:
            self.bytes_to_host += len(data)
        self._pending.append((time_s, to_board, data))
        self._pending_bytes += len(data)
        if self._keep_frames is not None and self._pending_bytes > _MOST_PENDING_BYTES:
            self._decode()

    @property
    def frames(self) -> list[Frame]:
        """The frames so far, or the last of them."""
        self._decode()
        return list(self._frames)

    @property
    def frame_count(self) -> int:
        """How many frames there were, those that are not kept too."""
        self._decode()
        return self._count

    @property
    def log_lines(self) -> list[tuple[float, str]]:
        """What the board logged so far, or the last of it, each line with its time in seconds."""
        self._decode()
        return list(self._log_lines)

    @property
    def happened(self) -> list[str]:
        """What there was of events and long calls so far, a phrase each."""
        self._decode()
        return self._tally.words()

    @property
    def unfinished(self) -> list[str]:
        """The directions, as "to the board" or "from the board", in which a frame was begun and did not end yet."""
        self._decode()
        return self._reader.unfinished

    def clear(self) -> None:
        """Forget the frames and counts so far; the names of functions stay known."""
        self._decode()
        self._frames.clear()
        self._log_lines.clear()
        self._tally.forget()
        self._count = self.left_out = self.bytes_to_board = self.bytes_to_host = 0

    def _decode(self) -> None:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        for time_s, to_board, data in pending:
            for frame in self._reader.read(time_s, to_board, data):
                self._add(frame)

    def _add(self, frame: Frame) -> None:
        last = self._frames[-1] if self._frames else None
        if last and (last.kind, frame.kind, last.to_board) == (NOISE, NOISE, frame.to_board):
            last.size_bytes += frame.size_bytes
            return
        if last and (last.kind, frame.kind, last.to_board) == (TEXT, TEXT, frame.to_board) and _goes_on(last.payload):
            last.payload = (last.payload + frame.payload)[:MOST_TEXT_BYTES]
            last.meaning = text_meaning(last.payload)
            last.size_bytes += frame.size_bytes
            return
        if self._keep_frames is not None:
            self._leave_out(frame)
        self._frames.append(frame)
        self._count += 1
        if frame.kind != TEXT:
            self._tally.note(frame.payload, to_board=frame.to_board)
        if frame.kind == "LOG":
            self._log_lines.append((frame.time_s, log_text(frame.payload)))

    def _leave_out(self, frame: Frame) -> None:
        """Leave out what `frame`, which comes next, tells better: a wait would fill a report with the same words."""
        frames = self._frames
        if frame.kind == _PROGRESS and frames and frames[-1].kind == _PROGRESS:
            frames.pop()
            self.left_out += 1
        elif frame.kind == _STATE and len(frames) > 2:  # ACK, STATE, ACK, and this one
            acked, stated, asked = frames[-3], frames[-2], frames[-1]
            if (stated.payload, acked.payload) == (frame.payload, asked.payload) and asked.kind == _ACK:
                del frames[-3], frames[-2]
                self.left_out += 2


def _goes_on(line: bytes) -> bool:
    """Whether more of a line of text may follow: it came in pieces."""
    return len(line) < MOST_TEXT_BYTES and not line.endswith((b"\r", b"\n"))
