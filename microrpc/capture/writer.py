"""What passes on a line, written down as it passes: a tap that fills a capture (docs/capture.md).

    with CaptureWriter("x.pcapng", "/dev/ttyACM0") as writer:
        board = microrpc.connect("/dev/ttyACM0", wrap=tapped(writer))

`connect(capture=...)` does it all by itself.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Final, Self

from microrpc.capture.cutting import Cutter
from microrpc.capture.file import CaptureFile, Target
from microrpc.capture.pcapng import packet_parts
from microrpc.capture.repeats import Repeats
from microrpc.errors import CaptureError

_MOST_PENDING_BYTES: Final = 1 << 20
_AT_ONCE_BYTES: Final = 1 << 16
_MOST_COMMENTS: Final = 64
_LOOK_S = 0.02  # how often it is looked whether the line is quiet
_PATIENT_LOOKS = 10  # after so many, it is written beside the traffic
_QUIET_LOOKS = 50  # after so many, the thread ends
_LAST_START_NS: Final = (1 << 63) - 1  # as long again fits in a file
_QUIET_S = 0.05  # what is between frames ends with that much silence
REPEATED: Final = "sent again by the link"
"""The comment on a frame of the link that was on the line before."""
PORT_LOST: Final = "port lost"
"""Said where the port went away."""
PORT_OPENED: Final = "port opened again"
"""Said where it came back."""


class CaptureWriter:
    """A tap (`microrpc.connecting.wrap.Tap`): one packet a frame, or run of what is between frames, in order of time.

    target: a path, "-" for stdout, a stream of bytes that takes `write`, or a `CaptureFile`; the last two stay open.
    name: of the port. Times are those of the channel, on from now; start_ns: since 1970, instead of now. live: each
    packet is written as soon as it is complete; else within a quarter of a second, by a thread, while the line is
    quiet. None: as fits `target`.

    What cannot be written never ends the request that is under way: see `CaptureFile`. Memory is bounded: of what is
    pending, a MiB is kept at most. Raises CaptureError where it cannot begin.
    """

    def __init__(
        self,
        target: Target | CaptureFile,
        name: str,
        *,
        live: bool | None = None,
        start_ns: int | None = None,
    ) -> None:
        if start_ns is not None and not 0 <= start_ns <= _LAST_START_NS:
            raise CaptureError(f"a capture begins between 1970 and 2262, not {start_ns} ns after 1970")
        self._file = target if isinstance(target, CaptureFile) else CaptureFile(target)
        self._is_own = self._file is not target
        self._interface = self._file.interface(name)
        self._live = self._file.is_live if live is None else live
        self._offset_ns: int | None = None  # from the channel's clock to 1970
        self._start_ns = start_ns
        self._cutters = {True: Cutter(), False: Cutter()}
        self._repeats = {True: Repeats(), False: Repeats()}
        self._pending: deque[tuple[float, bool, bytes] | str] = deque()  # what passed, and comments
        self._pending_bytes = 0  # about: two threads may count at once, and it begins anew each time
        self._comments: deque[str] = deque(maxlen=_MOST_COMMENTS)
        self._last_s = 0.0
        self._last_to_board = False
        self._is_over = self._is_closed = self._was_opened = False
        self._writing = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what is told, by whoever uses the line -----------------------------------------------

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        """Take bytes that passed at `time_s` of the channel's clock. It costs next to nothing: they are cut later."""
        self._pending.append((time_s, to_board, data))
        self._pending_bytes += len(data)
        if self._pending_bytes > _MOST_PENDING_BYTES:
            self._drain()
        elif self._thread is None:
            self._start()
        elif self._live:
            self._wake.set()

    def comment(self, text: str) -> None:
        """Say something of the line that its bytes do not: it stands on the packet that is written next.

        Any thread may. Of more than 64 at once, the last are kept.
        """
        self._pending.append(text)
        self._pending_bytes += len(text)
        if self._pending_bytes > _MOST_PENDING_BYTES:
            self._drain()

    def port_lost(self, time_s: float) -> None:
        """Note that the port went away. What was begun then has ended, as far as it came."""
        self._mark(PORT_LOST, time_s)

    def port_opened(self, time_s: float) -> None:
        """Note that the port is open: the second time, and from then on, that is told."""
        if self._was_opened:
            self._mark(PORT_OPENED, time_s)
        self._was_opened = True

    def _mark(self, text: str, time_s: float) -> None:
        if self._file.is_ours:
            self.comment(text)
            self._drain()
            self._finish(time_s)

    def flush(self) -> None:
        """Write all that came so far, also of frames that are not complete; what follows of them is a packet, too."""
        if self._file.is_ours:
            self._drain()
            self._finish(self._last_s)

    def close(self) -> None:
        """Write what is left, and close what was opened. Closing twice is fine, and so is what comes after it."""
        if self._file.is_ours:
            self.flush()
            if not self._is_closed:
                self._file.release(self._interface)
        self._is_closed = True
        if self._is_own:
            self._file.close()
        self._is_over = True
        self._pending = deque(maxlen=0)
        self._wake.set()

    # --- writing ------------------------------------------------------------------------------

    def _start(self) -> None:
        """Have a thread write while the line is quiet; it ends where nothing comes for a second."""
        if self._is_over:
            self._pending_bytes = 0
            return
        thread = threading.Thread(target=self._run, name="microrpc capture", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # no memory for one, or the program ends: it goes without
            self._thread = None
            self._drain()

    def _run(self) -> None:
        quiet = waited = before = 0
        while quiet < _QUIET_LOOKS and not self._is_over:
            if self._live:
                self._wake.wait(_LOOK_S)
                self._wake.clear()
            else:
                time.sleep(_LOOK_S)
            count = len(self._pending)
            if not count:
                quiet += 1
                if self._live and quiet == 1:
                    self._end_between()
            elif self._live or count == before or waited >= _PATIENT_LOOKS:
                self._drain()
                quiet = waited = 0
            else:
                waited += 1
            before = count
        self._thread = None
        if self._pending and not self._is_over:  # it came as this ended
            self._drain()

    def _drain(self) -> None:
        """Write what is pending."""
        with self._writing:
            self._pending_bytes = 0
            pending = self._pending
            blocks: list[bytes] = []
            taken_bytes = 0
            try:
                while pending:
                    one = pending.popleft()
                    if isinstance(one, str):
                        self._comments.append(one)
                        continue
                    self._take(*one, blocks)
                    taken_bytes += len(one[2])
                    if taken_bytes > _AT_ONCE_BYTES:  # a write for each of them costs more than all else
                        whole, blocks, taken_bytes = b"".join(blocks), [], 0
                        self._write(whole)
            finally:  # an interrupt takes nothing away
                if blocks:
                    self._write(b"".join(blocks))

    def _take(self, time_s: float, to_board: bool, data: bytes, blocks: list[bytes]) -> None:
        if time_s - self._last_s > _QUIET_S and (pieces := self._cutters[to_board].between()):
            self._add(self._last_s, to_board, pieces, blocks)
        if to_board is not self._last_to_board and (pieces := self._cutters[not to_board].between()):
            self._add(self._last_s, not to_board, pieces, blocks)
        if pieces := self._cutters[to_board].cut(data):
            self._add(time_s, to_board, pieces, blocks)
        self._last_s, self._last_to_board = time_s, to_board

    def _finish(self, time_s: float) -> None:
        """Write what is not complete, and what there is to say."""
        with self._writing:
            blocks: list[bytes] = []
            for to_board, cutter in self._cutters.items():
                self._add(time_s, to_board, cutter.rest(), blocks)
            if not blocks and self._comments:
                self._add(time_s, False, [b""], blocks)
            if blocks:
                self._write(b"".join(blocks))

    def _end_between(self) -> None:
        """Show who reads along what is between frames, though nothing has ended it."""
        with self._writing:
            blocks: list[bytes] = []
            for to_board, cutter in self._cutters.items():
                self._add(self._last_s, to_board, cutter.between(), blocks)
            if blocks:
                self._write(b"".join(blocks))

    def _add(self, time_s: float, to_board: bool, pieces: list[bytes], blocks: list[bytes]) -> None:
        """Give each piece as a packet."""
        if self._offset_ns is None:
            start_ns = time.time_ns() if self._start_ns is None else self._start_ns
            self._offset_ns = start_ns - round(time_s * 1e9)
        time_ns = max(round(time_s * 1e9) + self._offset_ns, 0)
        repeats, interface = self._repeats[to_board], self._interface
        for piece in pieces:
            comments: list[str] = []
            while self._comments:
                comments.append(self._comments.popleft())
            if repeats.is_repeated(piece):
                comments.append(REPEATED)
            blocks += packet_parts(time_ns, piece, to_board, comments, interface)

    def _write(self, blocks: bytes) -> None:
        self._file.write(blocks)
        if self._file.is_over:
            self._is_over = True
            self._pending = deque(maxlen=0)
