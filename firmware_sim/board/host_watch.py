"""Whether a board has a host: its firmware is told when one comes, and when it is gone (docs/link.md 10)."""

from __future__ import annotations

import math
from collections.abc import Callable

OnSession = Callable[[bool], None]
"""Is told that there is a host now (True), or none any more (False)."""


class HostWatch:
    """Tells `on_session` when a session begins and ends, and when its host is silent for `timeout_s`, or speaks again.

    `now` gives the board's time in seconds. timeout_s: 0 for a board that does not care for silence.
    """

    def __init__(self, timeout_s: float, on_session: OnSession | None, now: Callable[[], float]) -> None:
        self._timeout_s = timeout_s or math.inf
        self._on_session = on_session
        self._now = now
        self.boot()

    def boot(self) -> None:
        """Start from nothing, and tell nobody: the firmware boots, too."""
        self._has_session = False
        self._is_there = False
        self._heard_at = 0.0

    def begin(self) -> None:
        """A session begins, whether there was one or not."""
        self.end()
        self._has_session = True
        self.hear()

    def hear(self) -> None:
        """A good message of the session was handled by now."""
        if self._has_session:
            self._heard_at = self._now()
            self._tell(True)

    def end(self) -> None:
        """The session is over."""
        self._has_session = False
        self._tell(False)

    @property
    def due(self) -> float:
        """When the host will have been silent for too long, infinity where that is not asked."""
        return self._heard_at + self._timeout_s if self._is_there else math.inf

    def on_time(self) -> None:
        """Look at the time."""
        if self._now() >= self.due:
            self._tell(False)

    def _tell(self, is_there: bool) -> None:
        if is_there is not self._is_there:
            self._is_there = is_there
            if self._on_session is not None:
                self._on_session(is_there)
