"""Giving back what was freed or garbage collected here: little by little, with the requests that come after."""

from __future__ import annotations

import contextlib
import math
from collections import deque

from microrpc.errors import BoardError, RemoteError
from microrpc.host.handles import Owned
from microrpc.host.operation import Operation
from microrpc.host.requests import Requests

# Each request makes no more than one thing, so a few of them are enough.
_PORTION = 8
_PORTION_S = 0.05  # nothing more is begun then


class Disposal:
    """What is to be given back on the board behind `requests`: `garbage`, in that order."""

    def __init__(self, requests: Requests) -> None:
        self.garbage: deque[Owned] = deque()
        self._requests = requests
        self._connection = requests.connection

    def collect(self, timeout_s: float | None = None) -> Operation[BoardError | None]:
        """Free on the board a little of what was freed or garbage collected here, within `timeout_s`.

        It stops at the first sign of trouble, and gives it. That is not raised here, where it would be blamed on
        another request: the next one meets it again.
        """
        limit_s = self._requests.call_s if timeout_s is None else timeout_s
        enough_s = min(limit_s / 2, _PORTION_S)
        begun_at, spent_s, count = -math.inf, 0.0, 0
        trust = self._connection.trust
        trust.is_preparing = True
        try:
            while self._has_any() and count < _PORTION and spent_s < enough_s:
                if not count:
                    begun_at = yield from self._connection.begin(None)
                    if not self._has_any():  # the board was reset
                        break
                count += 1
                with contextlib.suppress(RemoteError):  # the board does not free such a thing
                    yield from self._requests.free(*self.garbage.popleft(), timeout_s=limit_s - spent_s)
                spent_s = self._connection.counters.now - begun_at
        except BoardError as trouble:
            return trouble
        finally:
            trust.is_preparing = False
        return None

    def collect_all(self, limit_s: float = math.inf) -> Operation[int]:
        """Free all that waits for it, but begin nothing after `limit_s`; give how much is left."""
        end = math.inf
        while self._has_any() and (yield from self.collect()) is None:
            end = min(end, self._connection.counters.now + limit_s)
            if self._connection.counters.now >= end:
                break
        epoch = self._connection.trust.epoch
        return sum(owned.epoch == epoch for owned in self.garbage)

    def _has_any(self) -> bool:
        """Whether anything is to be freed; what a reset has freed is forgotten."""
        while self.garbage and self.garbage[0].epoch != self._connection.trust.epoch:
            self.garbage.popleft()
        return bool(self.garbage)
