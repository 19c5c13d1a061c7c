"""What a line carried of events and long calls, counted (docs/link.md 8, 9)."""

from __future__ import annotations

from microrpc.wire.events import NUMBER_MODULUS, EventMessage, EventState, decode_event_news
from microrpc.wire.link import PROGRESS, decode_link_message
from microrpc.wire.session import HEADER_SIZE_BYTES, MessageType

_HALF = NUMBER_MODULUS // 2
_NEWS = (MessageType.LINK_EVENT, MessageType.LINK_EVENT_STATE)


class Tally:
    """Counts what the payloads of good frames tell; each is looked at once, in the order of the line.

    events: those that came; missed: the plain ones that did not, as far as later numbers show. cancelled: the requests
    that the host wanted to end, each once a session.
    """

    def __init__(self) -> None:
        self.events = self.missed = self.cancelled = 0
        self._progress: tuple[int, int] | None = None
        self._next: int | None = None  # the number of the plain event that comes next
        self._boot: int | None = None
        self._last_cancelled: bytes | None = None

    def forget(self) -> None:
        """Count from 0; what is known of the board stays."""
        self.events = self.missed = self.cancelled = 0
        self._progress = None

    def note(self, payload: bytes, *, to_board: bool) -> None:
        """Take a payload."""
        if len(payload) < HEADER_SIZE_BYTES or payload[2] < MessageType.LINK_EVENT:
            return
        if payload[2] in _NEWS and not to_board:
            self._note_news(payload)
        elif payload[2] == MessageType.LINK_CANCEL and to_board:
            self._note_cancel(payload)
        elif payload[2] == MessageType.LINK_PROGRESS and not to_board:
            message = decode_link_message(payload)
            if message is not None and len(message[2]) == PROGRESS.size:
                done, total = PROGRESS.unpack(message[2])
                self._progress = done, total

    def _note_news(self, payload: bytes) -> None:
        match decode_event_news(payload):
            case EventMessage(number, is_reliable):
                self.events += 1
                if not is_reliable:
                    self._come_to(number)
                    self._next = (number + 1) % NUMBER_MODULUS
            case EventState(boot, next_number):
                if boot != self._boot:  # of the first one nobody knows what was before
                    self._next = None if self._boot is None else 0
                    self._boot = boot
                self._come_to(next_number)
                self._next = next_number

    def _come_to(self, number: int) -> None:
        ahead = 0 if self._next is None else (number - self._next) % NUMBER_MODULUS
        self.missed += ahead if ahead < _HALF else 0

    def _note_cancel(self, payload: bytes) -> None:
        if decode_link_message(payload) is not None and payload != self._last_cancelled:
            self._last_cancelled = payload  # it is repeated until it is answered
            self.cancelled += 1

    def words(self) -> list[str]:
        """Tell what there was, a phrase each; nothing of what there was not."""
        told = []
        if self.events or self.missed:
            told.append(f"events: {self.events}, missed: {self.missed}")
        if self._progress is not None:
            done, total = self._progress
            told.append(f"last progress: {done} of {total}")
        if self.cancelled:
            told.append(f"calls cancelled: {self.cancelled}")
        return told
