"""What both pumps are: the owner of a channel, which tells why nothing can be asked over it any more."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import ClassVar, Generic, Protocol, TypeVar

from microrpc.client.listening import (
    LONGEST_PAUSE_S,
    LOOK_S,
    Patience,
    Wait,
    failure_log,
    log_raised,
    wait_until,
    warn_of,
    weakly,
)
from microrpc.client.losses import loss_of
from microrpc.client.refusals import closed_error, ended_error, inherited_error
from microrpc.errors import (
    BoardError,
    ClosedError,
    FeatureMissingError,
    HandshakeTimeoutError,
    MicroRpcError,
    PortLostError,
)
from microrpc.host.operation import Operation
from microrpc.host.requests import AnyConnection
from microrpc.host.subscriptions import Subscriptions
from microrpc.host.uncopyable import CONNECT_THERE, uncopyable
from microrpc.ports.registry import register

_log = logging.getLogger("microrpc")

GRACE_S = 0.1
"""How long a request that is under way when the board is closed may go on, in seconds; most are answered sooner."""


class AnyChannel(Protocol):
    """What a `Channel` and an `AsyncChannel` have in common."""

    name: str
    """The port as the user gave it, for messages."""

    def now(self) -> float:
        """Give the time in seconds, by the clock of every deadline."""

    def close(self) -> None:
        """Release the port. Closing twice is fine."""


ChannelT = TypeVar("ChannelT", bound=AnyChannel)
ReopenT = TypeVar("ReopenT")


class PortOwner(Generic[ChannelT, ReopenT]):
    """Has the channel of one connection, until it is closed, lost, dropped, or the parent's of this process.

    name: the port's. closed: why nothing can be asked any more; empty while it can. goodbye: makes the last operation,
    given whether it sends Shutdown. `reopen` waits for a port that went away, for so many seconds as it is given, and
    opens it, raising PortError where it does not come back; without it a lost port is the end. Where no session comes
    about over it then, it is opened again, until `reconnect_s` seconds are over in all. `on_reconnect` is told whether
    the board lost its memory. `on_close` is called last. One that nobody has any more gives its port back, and says
    nothing to the board. connection: its operations are driven. subscriptions: who wants the board's events. hears_all:
    whether the listener hears also what the board prints, and events or not; else that comes with the next request.
    """

    _BOARD: ClassVar[str]
    """The class of the board, for messages."""
    _REMEDY: ClassVar[str]
    """What should have been done with one that was left open."""

    def __init__(
        self,
        channel: ChannelT,
        connection: AnyConnection,
        *,
        on_close: Callable[[], None],
        reopen: ReopenT | None,
        reconnect_s: float,
        on_reconnect: Callable[[bool], None],
    ) -> None:
        self.name = channel.name
        self.closed = ""
        self.hears_all = False
        self.goodbye: Callable[[bool], Operation[None]] = connection.close
        self._channel: ChannelT = channel
        self.connection = connection
        self._on_close = on_close
        self._reopen = reopen
        self._reconnect_s = reconnect_s
        self._on_reconnect = on_reconnect
        self._process = os.getpid()
        self._is_inherited = self._is_closing = self._is_ended = False
        self._patience = Patience()
        self._is_refusal_told = False
        self._untold_loss = ""  # of the port, which a listener has met
        self.subscriptions = Subscriptions(failure_log(channel.name), weakly(self.listen))
        connection.events.sink = self.subscriptions
        register(self)

    __reduce_ex__ = uncopyable(CONNECT_THERE)

    # --- a port that is lost, and comes back -----------------------------------------------------

    @property
    def comes_back(self) -> bool:
        """Whether a port that went away is not the end: the next request opens it again."""
        return self._reopen is not None

    def _says_goodbye(self, make: object) -> bool:
        """Whether `make` makes the last operation: no port is opened again for that."""
        last: object = self.goodbye
        return make is last and self._is_closing

    def _note_failure(self, error: MicroRpcError, comes_back: bool) -> str | None:
        """Let go of the port where `error` means that it is lost; give what else is to be told, see `Loss`."""
        loss = loss_of(
            error, self._channel, self.connection.trust, can_reopen=self._reopen is not None, comes_back=comes_back
        )
        self.closed = self.closed or loss.closed
        if loss.closed and self._reopen is None:
            self.subscriptions.end(PortLostError(self.name, str(error)))
        elif loss.closed:
            self._channel.close()  # held open, its name would not be free for the port that comes back
        return loss.more

    def _go_on_over(self, channel: ChannelT) -> None:
        """Take the channel to the port that came back. Raises ClosedError where this was closed meanwhile."""
        if self._is_closing:  # by a thread or task that did not wait for this one
            channel.close()
            raise self._closed_error()
        self._channel, self.name = channel, channel.name
        self.closed = ""
        self.connection.on_port_reopened(self._on_reconnect, self.name)

    # --- what a board says unasked ----------------------------------------------------------------

    def check_open(self) -> None:
        """Raise ClosedError where nothing will ever be heard again."""
        if self._is_lost:
            raise self._unreachable_error()

    def listen(self) -> None:
        """Have the listener look at what is wanted now, where the channel can be waited for; begin it, if need be."""
        raise NotImplementedError

    def now(self) -> float:
        """Give the time in seconds, by the channel's clock."""
        return self._channel.now()

    @property
    def _is_lost(self) -> bool:
        """Whether nothing will ever be heard again."""
        return self._is_closing or self._is_ended or (bool(self.closed) and self._reopen is None)

    def _after_listening(self, trouble: BoardError | None) -> Wait[ChannelT]:
        """Give what the listener waits for next."""
        if isinstance(trouble, HandshakeTimeoutError) and self._reopen is not None:
            self.closed = self.closed or "no session came about"
            self._channel.close()
        pause_s = self._patience.after(trouble is not None)
        if pause_s:
            return Wait(None, pause_s)
        connection, channel = self.connection, self._channel
        at = min(connection.listens_at, connection.trust.text.ends_at)
        return wait_until(at, channel, channel.now(), hears_all=self.hears_all)

    def _after_refusal(self, error: FeatureMissingError) -> Wait[ChannelT]:
        """Take note that the board has no events; another firmware may have."""
        if self.subscriptions.has_handlers and not self._is_refusal_told:
            self._is_refusal_told = True
            warn_of(self.name, error)
        self.subscriptions.end(error.with_traceback(None))
        return Wait(None, LONGEST_PAUSE_S)

    def _after_closing(self, error: ClosedError) -> Wait[ChannelT] | None:
        """Take note that there is nothing more to be heard: it was closed here, or a stream can be used no more."""
        if self._is_lost:
            return None
        if self._reopen is not None:
            return Wait(None, LOOK_S)
        if self.subscriptions.has_handlers:
            warn_of(self.name, error)
        self.subscriptions.end(error.with_traceback(None))
        return None

    def _after_loss(self, error: MicroRpcError) -> Wait[ChannelT] | None:
        """Take note that the listener lost the port, which the next request tells; None where that is the end."""
        if self._reopen is not None and not self._is_closing:
            return Wait(None, LOOK_S)
        if isinstance(error, PortLostError):
            self._untold_loss = str(error)
        return None

    def _after_raising(self, error: BaseException) -> Wait[ChannelT]:
        """Take note that a callback raised, in the listener's thread, what ends a program, and can end none there."""
        log_raised(self.name, error)
        return Wait(None, self._patience.after(True))

    def _unreachable_error(self) -> MicroRpcError:
        """Give the error for a port that is gone for good; the first request after a listener met that tells."""
        if self._untold_loss and not self._is_closing:
            text, self._untold_loss = self._untold_loss, ""
            return PortLostError(self.name, text)
        return self._closed_error()

    # --- the end, and forks of the program ------------------------------------------------------

    def _release(self) -> None:
        self._channel.close()
        self.subscriptions.close()
        on_close, self._on_close = self._on_close, lambda: None
        on_close()

    def on_fork(self) -> None:
        """Belong to the parent: see `microrpc.ports.registry.Inherited.on_fork`."""
        self._is_inherited = self._is_ended = True
        self.closed = f"it belongs to process {self._process}"
        self._reopen, self._on_close = None, lambda: None

    def check_process(self) -> None:
        """Raise ClosedError in a fork of the process that opened the port."""
        if self._is_inherited:
            raise self._closed_error()

    def __del__(self) -> None:
        if self.__dict__.get("_is_inherited", True) or self._is_ended or sys.is_finalizing():
            return  # it was never whole, is not this process's, or closed
        self.abandon()

    def abandon(self) -> None:
        """Give the port back, and say nothing to the board, where nobody has it any more or the program ends."""
        self._is_ended = True
        try:
            self._warn_unclosed()
        finally:
            self._drop()
            self.closed = self.closed or "it was left open"

    def tell_left(self, count: int) -> None:
        """Log how many arrays and handles could not be freed before it was closed."""
        text = "%s: closed before all could be freed: %d arrays and handles stay on the board until its reset"
        _log.warning(text, self.name, count)

    def _warn_unclosed(self) -> None:
        if not self.closed and getattr(self._channel, "is_open", False):
            text = f"unclosed <{self._BOARD} {self.name}>: {self._REMEDY}"
            warnings.warn(text, ResourceWarning, stacklevel=3, source=self)

    def _drop(self) -> None:
        """Give the port back in whatever thread garbage is collected in."""
        self._release()

    # --- errors ---------------------------------------------------------------------------------

    def _closed_error(self) -> ClosedError:
        if self._is_inherited:
            return inherited_error(f"<{self._BOARD} {self.name}>", self._process)
        return closed_error(self.name, self.closed)

    def _ended_error(self) -> ClosedError:
        return self._closed_error() if self._is_inherited else ended_error(self.name)
