"""The blocking pump: it drives operations over a channel that blocks, one at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from microrpc.errors import BoardError, CallTimeoutError, ClosedError, MicroRpcError, PortLostError
from microrpc.host.operation import AT_ONCE, Operation, after
from microrpc.host.requests import AnyConnection
from microrpc.ports.channel import Channel

P = ParamSpec("P")
T = TypeVar("T")


class Pump:
    """Drives the operations of one connection. Any thread may call it; they take turns.

    name: the port's. closed: why nothing can be asked any more; empty while it can. `reopen` waits for a port that went
    away and opens it, raising PortError where it does not come back; without it a lost port is the end. `on_reconnect`
    is told then whether the board lost its memory. `on_close` is called last.
    """

    def __init__(
        self,
        channel: Channel,
        connection: AnyConnection,
        *,
        on_close: Callable[[], None] = lambda: None,
        reopen: Callable[[], Channel] | None = None,
        on_reconnect: Callable[[bool], None] = lambda memory_is_lost: None,
    ) -> None:
        self.name = channel.name
        self.closed = ""
        self._channel = channel
        self._connection = connection
        self._on_close = on_close
        self._reopen = reopen
        self._on_reconnect = on_reconnect
        self._lock = threading.RLock()

    def run(self, make: Callable[P, Operation[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make an operation when it is its turn, and drive it to its end: send what it wants sent, wait for the rest.

        Raises what the operation raises, and what the channel does.
        """
        with self._lock:
            if self.closed:
                self._reconnect()
                operation = after(self._connection.begin(None), make, *args, **kwargs)
            else:
                operation = make(*args, **kwargs)
            channel, output, trust = self._channel, self._connection.output, self._connection.trust
            try:
                try:
                    deadline = operation.send(None)  # type: ignore[arg-type]  # a generator starts with None
                    while True:
                        data = channel.read(deadline)
                        now = channel.now()
                        deadline = operation.send((data, now))
                        if output.pieces:
                            channel.write(*output.take(deadline, now))
                            trust.is_out = trust.is_asking
                except StopIteration as stop:
                    if output.pieces:
                        channel.write(*output.take(AT_ONCE, channel.now()))
                    result: T = stop.value
                    return result
            except CallTimeoutError as error:
                raise trust.judge_write(error) from error.__cause__
            except BoardError as error:
                trust.note_told(error)
                raise
            except PortLostError as error:
                self.closed = self.closed or "the port went away"
                text = str(error)
                if self._reopen is not None:
                    self._channel.close()  # held open, its name would not be free for the port that comes back
                    text += " (the next request looks for it)"
                raise PortLostError(error.port, text, may_have_run=trust.is_out) from error
            finally:
                operation.close()
                trust.is_asking = trust.is_out = False

    def _reconnect(self) -> None:
        """Open the port that went away; a session comes before any operation, so that it knows of a reset."""
        if self._reopen is None:
            raise ClosedError(f"the connection to {self.name} is closed ({self.closed}); connect again")
        self._channel = self._reopen()
        self.name = self._channel.name
        self.closed = ""
        self._connection.on_port_reopened(self._on_reconnect)

    def close(self, say_goodbye: Callable[[], Operation[None]]) -> None:
        """Drive a last operation, whatever comes of it, and release the port. Closing twice is fine."""
        with self._lock:
            self._reopen = None
            try:
                with contextlib.suppress(MicroRpcError, OSError):
                    self.run(say_goodbye)
            finally:
                self.closed = self.closed or "it was closed here"
                self._channel.close()
                on_close, self._on_close = self._on_close, lambda: None
                on_close()
