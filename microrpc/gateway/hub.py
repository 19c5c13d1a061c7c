"""The events of a shared board, given to each client that wants them (docs/sharing.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from microrpc.client.aio.board import AsyncBoard
from microrpc.errors import ClosedError
from microrpc.gateway.outbox import Outbox
from microrpc.wire.asides import Want, encode_event_values
from microrpc.wire.events import Event
from microrpc.wire.features import Feature, Features


class EventHub:
    """Subscribes at the board while a client wants events: what was put into their queues is acknowledged to it."""

    def __init__(self, board: AsyncBoard) -> None:
        self._board = board
        self._outboxes: dict[Outbox, None] = {}  # in the order in which they came
        self._unsubscribe: Callable[[], None] | None = None
        self._has_events = False

    @property
    def known(self) -> Feature:
        """What the board knows, as far as it was asked since its last reset."""
        return self._board.operations.connection.features.known

    def tell(self) -> Features:
        """Give what clients can have of the board, to be told to one: it is the share alone that the board watches."""
        features = self._board.operations.connection.features
        self._has_events = self._has_events or bool(features.known & Feature.EVENTS)
        return Features(features.known, 0, features.description_hash)

    def want(self, outbox: Outbox, wants: Want) -> None:
        """Take note of what a client wants now, of what there is."""
        outbox.want(wants)
        if wants & Want.EVENTS and self._has_events:  # after a reset, too, when nothing is known
            self._outboxes[outbox] = None
            if self._unsubscribe is None:
                with contextlib.suppress(ClosedError):  # which is the end of sharing, too
                    self._unsubscribe = self._board.on_event(None, self._deliver).close
        else:
            self.leave(outbox)

    def leave(self, outbox: Outbox) -> None:
        """Give a client no more events. Doing it twice is fine."""
        self._outboxes.pop(outbox, None)
        if not self._outboxes and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def _deliver(self, event: Event) -> None:
        values = encode_event_values(event)
        for outbox in self._outboxes:
            outbox.put_event(event, values)
