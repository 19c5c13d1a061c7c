"""The monitor's screen where it has the process to itself, and the garbage collector with it."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable

from microrpc.cli.monitor.source import Source
from microrpc.cli.monitor.view import MonitorApp

_SWITCH_S = 0.001
"""How long the thread that reads may hold up the one that shows: each key waits for that several times."""
_SETTLED_ROWS = 2000
"""After so many rows, what there is is taken out of what the garbage collector looks at."""
_COLLECT_S, _ALONE_S = 600.0, 10.0
"""So long after it looked at everything it does again, where nobody has pressed a key for so long."""


class AloneApp(MonitorApp):
    """One that has the process to itself, where nothing is to hold up keys.

    A garbage collector that looks at 100,000 rows takes 0.3 s. They have no cycles: what is not kept any more is freed
    without it.
    """

    _settled_rows, _collected_s = 0, 0.0

    def on_ready(self) -> None:
        """Begin."""
        sys.setswitchinterval(_SWITCH_S)
        self._settle()

    def take(self) -> None:
        """Take what came; what stays of it is settled from time to time."""
        super().take()
        newest = self.line_watch.rows.newest
        if newest - self._settled_rows >= _SETTLED_ROWS:
            self._settled_rows = newest
            self._settle()

    def _settle(self) -> None:
        now = time.monotonic()
        if now - self._collected_s > _COLLECT_S and now - self.touched_s > _ALONE_S:
            self._collected_s = now
            gc.unfreeze()  # of what was looked at on the screen, some has cycles
        gc.collect()
        gc.freeze()


def show(source: Source, title: str, *, keep: int, baud: int | None, clock: Callable[[], float] | None) -> None:
    """Show it until somebody quits."""
    AloneApp(source, title, keep=keep, baud=baud, clock=clock).run()
