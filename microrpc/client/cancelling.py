"""A call that another thread or task may cancel, in both clients."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from microrpc.errors import CallCancelledError
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.requests import AnyConnection

_LOOK_S = 0.05
"""How soon it is noticed that a call is to be cancelled, in seconds."""


class Cancelling:
    """Whether a call is to be cancelled, and whether it has begun; the one is settled before the other.

    label: what is called, for messages.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.is_asked = self.has_begun = False
        self._guard = threading.Lock()

    def ask(self) -> bool:
        """Have the call cancelled; tell whether it has begun."""
        with self._guard:
            self.is_asked = True
            return self.has_begun

    def begin(self) -> None:
        """Begin the call. Raises CallCancelledError where it was cancelled before."""
        with self._guard:
            if self.is_asked:
                raise self.unsent_error()
            self.has_begun = True

    def unsent_error(self) -> CallCancelledError:
        """Give the error for a call that never began."""
        text = f"{self.label} was cancelled while it waited for its turn: nothing of it was sent"
        return CallCancelledError(text, may_have_run=False)

    def untold_error(self, *, may_have_run: bool) -> CallCancelledError:
        """Give the error for a call whose board cannot be told."""
        fate = "the board cannot be told, and may go on with it" if may_have_run else "nothing of it was sent"
        text = f"{self.label} was cancelled: {fate}. The next request starts a new session"
        return CallCancelledError(text, may_have_run=may_have_run)


def cancellable(
    make: Callable[[], Operation[Any]], connection: AnyConnection, cancelling: Cancelling
) -> Operation[Any]:
    """Drive the operation that `make` makes; where it is cancelled, the board is told, and it ends by itself.

    Raises CallCancelledError where nobody can be told, else what the operation does.
    """
    cancelling.begin()
    operation, now, is_told = make(), AT_ONCE, False
    try:
        deadline = operation.send(None)  # type: ignore[arg-type]  # a generator starts with None
        while True:
            data, now = yield min(deadline, now + _LOOK_S)
            deadline = operation.send((data, now))
            if cancelling.is_asked and not is_told:
                is_told = connection.cancel(now)
                if not is_told:
                    raise cancelling.untold_error(may_have_run=connection.trust.is_out)
                deadline = AT_ONCE  # so that it is sent now
    except StopIteration as stop:
        return stop.value
    finally:
        operation.close()
