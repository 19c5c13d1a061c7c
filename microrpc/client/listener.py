"""The thread that listens to one board while nobody asks it anything."""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import Protocol

from microrpc.client.listening import Wait
from microrpc.ports.bell import Bell
from microrpc.ports.channel import WaitingChannel

_END_S = 1.0


class ListeningPump(Protocol):
    """What the thread needs of a `Pump`."""

    name: str
    """The port's, for messages."""

    def listen_once(self) -> Wait[WaitingChannel] | None:
        """Listen, if the board is free; give what to wait for next, None at the end."""


class Listener:
    """Listens for a pump, which it does not keep alive, until it is told to end or the pump has no use for it."""

    def __init__(self, pump: ListeningPump) -> None:
        self._pump = weakref.ref(pump)
        self._bell = Bell()
        self._is_ended = False
        self._thread = threading.Thread(target=self._listen, name=f"microrpc listens to {pump.name}", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._bell.close()
            raise

    @property
    def is_listening(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive() and not self._is_ended

    def wake(self) -> None:
        """Have it look at once whether there is something to be done."""
        self._bell.ring()

    def end(self) -> None:
        """End it, and see to it that it does not wait for the port any more."""
        self._is_ended = True
        self._bell.ring()
        if self._thread is not threading.current_thread():
            with contextlib.suppress(RuntimeError):  # where the program ends
                self._thread.join(_END_S)

    def on_fork(self) -> None:
        """Forget it in a fork, which has no such thread."""
        self._is_ended = True
        self._bell.close()

    def _listen(self) -> None:
        bell = self._bell
        try:
            while not self._is_ended:
                bell.clear()  # before it is looked at what is wanted
                pump = self._pump()
                wait = pump.listen_once() if pump is not None else None
                pump = None  # which may be the end of it
                if wait is None:
                    return
                if wait.channel is None:
                    bell.wait(wait.wait_s)
                elif not self._is_ended:
                    wait.channel.wait_readable(wait.wait_s, bell)
        finally:
            self._is_ended = True
            bell.close()
