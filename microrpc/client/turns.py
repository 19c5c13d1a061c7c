"""Whose turn it is on a board that many threads use: one at a time, in the order in which they asked."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import ClassVar


class Turns:
    """A queue of threads. `owner` is the thread whose turn it is, 0 where it is nobody's; `waiting` has the others.

    `guard` is held for an instant, while either changes. It is reentrant: a signal handler may come in between. The
    pump takes and gives back a turn that nobody waits for by itself, which spares each call two steps.
    waits: which turn each thread waits for, of all boards.
    """

    waits: ClassVar[dict[int, Turns]] = {}

    def __init__(self) -> None:
        self.guard = threading.RLock()
        self.owner = 0
        self.waiting: deque[tuple[int, threading.Lock]] = deque()

    def has(self, thread: int) -> bool:
        """Tell whether it is the turn of `thread`, or will be."""
        return self.owner == thread or any(waiting == thread for waiting, _ in tuple(self.waiting))

    def wait(self, timeout_s: float | None, crossed: Callable[[], Exception] | None = None) -> bool:
        """Wait for the turn of this thread, None for as long as it takes; tell whether it has come.

        Raises what `crossed` gives where whose turn it is waits, in the end, for one that this thread has.
        """
        thread, bell = get_ident(), threading.Lock()
        bell.acquire()
        place = thread, bell
        interrupted = self.waits.get(thread)  # by a signal handler
        self.waits[thread] = self  # before any look at what the others wait for
        try:
            with self.guard:
                if not self.owner:
                    self.owner = thread
                    return True
                self.waiting.append(place)
            if crossed is not None and self._is_crossed(thread):
                raise crossed()
            bell.acquire(timeout=-1 if timeout_s is None else min(timeout_s, threading.TIMEOUT_MAX))
        finally:
            del self.waits[thread]
            if interrupted is not None:
                self.waits[thread] = interrupted
            with self.guard:
                if place in self.waiting:
                    self.waiting.remove(place)
        return self.owner == thread

    def _is_crossed(self, thread: int) -> bool:
        turns: Turns | None = self
        seen: list[Turns] = []
        while turns is not None and turns not in seen:
            if turns.owner == thread:
                return True
            seen.append(turns)
            turns = self.waits.get(turns.owner)
        return False

    def pass_on(self) -> None:
        """Give the turn, which nobody has, to who has waited longest."""
        with self.guard:
            if self.waiting and not self.owner:
                self.owner, bell = self.waiting.popleft()
                bell.release()

    def turn_away(self) -> None:
        """Let everybody who waits go without a turn."""
        with self.guard:
            while self.waiting:
                self.waiting.popleft()[1].release()
