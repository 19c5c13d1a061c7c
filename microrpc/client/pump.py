"""The blocking pump: it drives operations over a channel that blocks, one at a time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from microrpc.client.losses import loss_of, retold
from microrpc.errors import ClosedError, MicroRpcError
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.requests import AnyConnection
from microrpc.ports.channel import Channel, renew
from microrpc.ports.lost import POLL_S

P = ParamSpec("P")
T = TypeVar("T")


class Pump:
    """Drives the operations of one connection. Any thread may call it; they take turns.

    name: the port's. closed: why nothing can be asked any more; empty while it can. `reopen` waits for a port that went
    away and opens it, raising PortError where it does not come back; without it a lost port is the end. Where no
    session comes about over it then, it is opened again, until `reconnect_s` seconds are over. `on_reconnect` is told
    whether the board lost its memory. `on_close` is called last.
    """

    def __init__(
        self,
        channel: Channel,
        connection: AnyConnection,
        *,
        on_close: Callable[[], None] = lambda: None,
        reopen: Callable[[], Channel] | None = None,
        reconnect_s: float = 0.0,
        on_reconnect: Callable[[bool], None] = lambda memory_is_lost: None,
    ) -> None:
        self.name = channel.name
        self.closed = ""
        self._channel = channel
        self._connection = connection
        self._on_close = on_close
        self._reopen = reopen
        self._reconnect_s = reconnect_s
        self._on_reconnect = on_reconnect
        self._lock = threading.RLock()

    def run(self, make: Callable[P, Operation[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make an operation when it is its turn, and drive it to its end: send what it wants sent, wait for the rest.

        Raises what the operation raises, and what the channel does.
        """
        with self._lock:
            comes_back = bool(self.closed)  # a session comes before any operation then, so that it knows of a reset
            give_up_at = self._channel.now() + self._reconnect_s if comes_back else AT_ONCE
            while True:
                operation: Operation[Any]
                if comes_back:
                    self._reconnect()
                    operation = self._connection.begin(None)
                else:
                    operation = make(*args, **kwargs)
                channel, output = self._channel, self._connection.output
                try:
                    try:
                        deadline = operation.send(None)  # type: ignore[arg-type]  # a generator starts with None
                        while True:
                            data = channel.read(deadline)
                            now = channel.now()
                            deadline = operation.send((data, now))
                            if output.pieces:
                                if output.port_is_doubtful:
                                    output.port_is_doubtful = False
                                    renew(channel)
                                channel.write(*output.take(deadline, now))
                    except StopIteration as stop:
                        if output.pieces:
                            channel.write(*output.take(AT_ONCE, channel.now()))
                        if not comes_back:
                            result: T = stop.value
                            return result
                        comes_back = False
                except MicroRpcError as error:
                    more = self._note_failure(error, comes_back)
                    if not (self.closed and comes_back and channel.now() < give_up_at):
                        if more is None:
                            raise
                        raise retold(error, more, comes_back=comes_back) from error
                    time.sleep(POLL_S)
                finally:
                    operation.close()

    def _note_failure(self, error: MicroRpcError, comes_back: bool) -> str | None:
        """Let go of the port where `error` means that it is lost; give what else is to be told, see `Loss`."""
        loss = loss_of(error, self._channel, can_reopen=self._reopen is not None, comes_back=comes_back)
        self.closed = self.closed or loss.closed
        if loss.closed and self._reopen is not None:
            self._channel.close()  # held open, its name would not be free for the port that comes back
        return loss.more

    def _reconnect(self) -> None:
        """Open the port that went away, with nothing under way over it."""
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
