"""What a server over a stream says beside its replies, and what it is told of that (docs/link.md 11).

Sans I/O: the packets of `microrpc.wire.asides` in, those that are to be sent into an `Output`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from microrpc.host.events import EventHost, distance
from microrpc.host.output import Output
from microrpc.wire.asides import (
    WANT_NOTHING,
    Aside,
    Want,
    code_of,
    decode_event_aside,
    decode_gone,
    decode_progress,
    encode_want,
)
from microrpc.wire.events import NUMBER_MODULUS
from microrpc.wire.features import NONE, Feature, Features

_MOST_PROGRESS = 64  # of one read; the last ones count


class Asides:
    """The asides of one connection, over all of its streams.

    features: what the server knows, None where it was not asked. progress: what it told of the call under way and
    nobody took yet, as (done, total). gone: why the server ends this stream, if it does.
    """

    def __init__(self, events: EventHost, output: Output) -> None:
        self.features: Features | None = None
        self.progress: deque[tuple[int, int]] = deque(maxlen=_MOST_PROGRESS)
        self.gone = ""
        self._events = events
        self._output = output
        self._told = WANT_NOTHING
        self._boot: int | None = None
        self._next: dict[bool, int] = {}  # the number that follows the last one, of reliable events and of others
        self._resumed: dict[bool, int] = {}  # and those from before this stream, of which none has come in it

    def begin(self) -> None:
        """Begin with a new stream: the server knows nothing of what was before."""
        self.features, self.gone, self._told = None, "", WANT_NOTHING
        self.progress.clear()
        self._next = self._next if self._events.sink.is_wanted else {}
        self._resumed = self._next.copy()

    @property
    def known(self) -> Feature:
        """The features of the server, as far as it was asked."""
        return self.features.known if self.features is not None else NONE

    @property
    def wanted(self) -> Want:
        """What is wanted now, of what the server has."""
        sink, wanted = self._events.sink, WANT_NOTHING
        if self.known & Feature.EVENTS and sink.is_wanted:
            wanted = Want.EVENTS if sink.has_room else Want.EVENTS | Want.HOLD
        return wanted | Want.PROGRESS if self.known & Feature.PROGRESS else wanted

    @property
    def is_due(self) -> bool:
        """Whether the server is to be told something else than before."""
        return self._told != self.wanted

    def tell(self) -> None:
        """Tell the server what is wanted, where that has changed."""
        wanted = self.wanted
        if self._told != wanted:
            if not wanted & Want.EVENTS:
                self._next, self._resumed = {}, {}  # what comes until they are wanted again is not missed
            self._told = wanted
            self._output.pieces.append(encode_want(wanted))

    def receive(self, body: bytes) -> None:
        """Take a packet of the server. Raises ProtocolError for one that is not as it must be."""
        code = code_of(body)
        if code is Aside.PROGRESS:
            self.progress.append(decode_progress(body))
        elif code is Aside.GONE:
            self.gone = decode_gone(body) or "the server ended it"
        else:
            self._on_event(body)

    def _on_event(self, body: bytes) -> None:
        event = decode_event_aside(body)
        if not self._events.sink.is_wanted:  # any more
            return
        kind, number = event.reliable, event.number
        if event.boot != self._boot:
            self._resumed = dict.fromkeys(self._resumed, 0)
        event = replace(event, missed=max(event.missed, distance(number, self._resumed.pop(kind, number))))
        self._boot = event.boot
        self._next[kind] = (number + (event.missed if event.is_gap else 1)) % NUMBER_MODULUS
        self._events.deliver(event)
