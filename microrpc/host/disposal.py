"""Giving back what was freed or garbage collected here: little by little, with the requests that come after."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable

from microrpc.errors import BoardError, RemoteError
from microrpc.host.handles import Owned
from microrpc.host.operation import Operation
from microrpc.host.requests import AnyConnection, Requests

# Each request makes no more than one thing, so a few of them are enough.
_PORTION = 8
_PORTION_S = 0.05  # nothing more is begun then


class Waiting:
    """How long an operation has waited for the board, from now on: the line's own time, where it is known, is none."""

    def __init__(self, connection: AnyConnection, now: float) -> None:
        self._output, self._counters = connection.output, connection.counters
        self._begun_at, self._bytes_before = now, self._bytes()

    def _bytes(self) -> int:
        return self._counters.bytes_sent + self._counters.bytes_received

    @property
    def elapsed_s(self) -> float:
        """How long ago it began, when something last arrived, in seconds."""
        return self._counters.now - self._begun_at

    @property
    def spent_s(self) -> float:
        """What of that was no time of the line, in seconds."""
        return max(self.elapsed_s - (self._bytes() - self._bytes_before) * self._output.byte_s, 0.0)


class Disposal:
    """What is to be given back on the board behind `requests`: `garbage`, in that order, and what was set apart."""

    def __init__(self, requests: Requests) -> None:
        self.garbage: deque[Owned] = deque()
        self._queues = deque([self.garbage])  # one portion of each in turn
        self._requests = requests
        self._connection = requests.connection

    def set_apart(self, let_go: Callable[[], None]) -> None:
        """Have what is garbage after `let_go` wait in a queue of its own, of which a portion is freed in turn."""
        before = len(self.garbage)
        let_go()
        own = deque(reversed([self.garbage.pop() for _ in range(len(self.garbage) - before)]))
        if own:
            self._queues.append(own)

    @property
    def has_any(self) -> bool:
        """Whether anything is to be freed, which what a reset has freed is not."""
        return any(self._is_any_in(queue) for queue in self._queues)

    def collect(self, timeout_s: float | None = None) -> Operation[BoardError | None]:
        """Free on the board a little of what was freed or garbage collected here, within `timeout_s`.

        It stops at the first sign of trouble, and gives it. That is not raised here, where it would be blamed on
        another request: the next one meets it again.
        """
        limit_s = self._requests.call_s if timeout_s is None else timeout_s
        enough_s = min(limit_s / 2, _PORTION_S)
        queue = self._next_queue()
        if not queue:
            return None
        trust = self._connection.trust
        trust.is_preparing = True
        try:
            waiting = Waiting(self._connection, (yield from self._connection.begin(None)))
            for _ in range(_PORTION):
                if not self._is_any_in(queue) or waiting.elapsed_s >= enough_s:
                    break
                with contextlib.suppress(RemoteError):  # the board does not free such a thing
                    left_s = limit_s - waiting.spent_s
                    yield from self._requests.free(*queue.popleft(), timeout_s=left_s)
        except BoardError as trouble:
            return trouble
        finally:
            trust.is_preparing = False
        return None

    def collect_all(self, limit_s: float = math.inf) -> Operation[int]:
        """Free all that waits for it, but begin nothing after `limit_s`; give how much is left."""
        end = math.inf
        while self.has_any and (yield from self.collect()) is None:
            end = min(end, self._connection.counters.now + limit_s)
            if self._connection.counters.now >= end:
                break
        epoch = self._connection.trust.epoch
        return sum(owned.epoch == epoch for queue in self._queues for owned in queue)

    def _next_queue(self) -> deque[Owned]:
        """Give the queue whose turn it is; one that was set apart and is empty is no more."""
        for _ in range(len(self._queues)):
            queue = self._queues.popleft()
            is_any = self._is_any_in(queue)
            if is_any or queue is self.garbage:
                self._queues.append(queue)
            if is_any:
                return queue
        return self.garbage

    def _is_any_in(self, queue: deque[Owned]) -> bool:
        while queue and queue[0].epoch != self._connection.trust.epoch:
            queue.popleft()
        return bool(queue)
