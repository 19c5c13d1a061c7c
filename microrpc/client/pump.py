"""The blocking pump: it drives operations over a channel that blocks, one at a time."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from threading import get_ident
from typing import Any, ParamSpec, TypeVar

from microrpc.client.listener import Listener
from microrpc.client.listening import BUSY_S, Wait, politely
from microrpc.client.losses import retold
from microrpc.client.owner import GRACE_S, PortOwner
from microrpc.client.refusals import crossed_error, in_use_error, within_error
from microrpc.client.turns import Turns
from microrpc.errors import BoardError, ClosedError, FeatureMissingError, MicroRpcError, PortError, PortLostError
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.requests import AnyConnection
from microrpc.ports.channel import Channel, WaitingChannel, interrupt, monotonic, renew, waiting
from microrpc.ports.lost import POLL_S
from microrpc.ports.registry import at_end, registered

P = ParamSpec("P")
T = TypeVar("T")

END_S = 1.0
"""How long a request may take to end, and how long all boards together are said goodbye to where a program ends."""


class Pump(PortOwner[Channel, Callable[[float], Channel]]):
    """Drives the operations of one connection. Any thread may call it; they take turns.

    Its arguments, and `name`, `closed` and `goodbye`, are those of `PortOwner`.
    """

    _BOARD, _REMEDY = "Board", "call its close()"

    def __init__(
        self,
        channel: Channel,
        connection: AnyConnection,
        *,
        on_close: Callable[[], None] = lambda: None,
        reopen: Callable[[float], Channel] | None = None,
        reconnect_s: float = 0.0,
        on_reconnect: Callable[[bool], None] = lambda memory_is_lost: None,
    ) -> None:
        self._turns = Turns()
        self._listener: Listener | None = None
        self._until = math.inf  # when, by the channel's clock, all requests end; AT_ONCE once it is closed
        super().__init__(
            channel,
            connection,
            on_close=on_close,
            reopen=reopen,
            reconnect_s=reconnect_s,
            on_reconnect=on_reconnect,
        )

    def run(self, make: Callable[P, Operation[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make an operation when it is its turn, and drive it to its end: send what it wants sent, wait for the rest.

        The wait for the turn is a part of its `timeout_s`, where it is given one by that name. Raises what the
        operation raises, what the channel does, RequestError from within an operation (a callback, a signal handler)
        and ClosedError.
        """
        turns, thread = self._turns, get_ident()
        if turns.owner == thread and make != self._listening:  # which has taken it
            raise within_error(self.name)
        interruption: BaseException | None = None
        try:
            with turns.guard:
                if not turns.owner:
                    turns.owner = thread
            if turns.owner != thread:
                self._wait_for_turn(thread, kwargs)
            comes_back = bool(self.closed) and not self._says_goodbye(make)
            give_up_at = self._channel.now() + self._reconnect_s if comes_back else AT_ONCE
            while True:
                operation: Operation[Any]
                if comes_back:  # a session comes before any operation then, so that it knows of a reset
                    self._open_again(give_up_at)
                    operation = self.connection.begin(None)
                else:
                    operation = make(*args, **kwargs)
                channel, output, trust = self._channel, self.connection.output, self.connection.trust
                try:
                    try:
                        deadline = operation.send(None)  # type: ignore[arg-type]  # a generator starts with None
                        while True:
                            try:
                                data = channel.read(min(deadline, self._until, trust.text.ends_at))
                                now = channel.now()
                                if now >= self._until:
                                    raise self._ended_error()
                                if now >= trust.text.ends_at:
                                    trust.text.flush()
                                deadline = operation.send((data, now))
                                if output.pieces:
                                    if output.port_is_doubtful:
                                        output.port_is_doubtful = False
                                        renew(channel)
                                    data, write_by = output.take(deadline, now)
                                    channel.write(data, min(write_by, self._until))
                                    output.left_at = channel.now()
                                    trust.is_out = trust.is_asking
                            except Exception:
                                raise
                            except BaseException as error:  # Ctrl-C, above all; the second ends it at once
                                # Where it came in the middle of a step, the operation is over.
                                is_over = getattr(operation, "gi_frame", None) is None
                                if is_over or not self.connection.cancel(channel.now()):
                                    raise
                                interruption, deadline = error, AT_ONCE
                    except StopIteration as stop:
                        if output.pieces:
                            channel.write(*output.take(AT_ONCE, channel.now()))
                        if interruption is not None:
                            raise interruption from None
                        if not comes_back:
                            result: T = stop.value
                            return result
                        comes_back = False
                except MicroRpcError as error:
                    if interruption is not None:
                        raise interruption from None
                    if self._is_ended and isinstance(error, PortLostError):
                        raise self._ended_error() from None
                    more = self._note_failure(error, comes_back)
                    if not (self.closed and comes_back and channel.now() < give_up_at):
                        if more is None:
                            raise
                        raise retold(error, more, trust) from error
                    time.sleep(POLL_S)
                finally:
                    operation.close()
                    trust.is_asking = trust.is_out = trust.is_cancelled = False
        finally:
            interruption = None  # which has this frame, and all that its callers have
            if turns.owner == thread:
                with turns.guard:
                    turns.owner = 0  # before anything that Ctrl-C may interrupt
                    if turns.waiting:
                        turns.pass_on()

    def _wait_for_turn(self, thread: int, kwargs: dict[str, object]) -> None:
        """Wait while others use the board; what that took is taken from the caller's `timeout_s`."""
        if self._turns.has(thread):  # a signal handler, while the thread that it interrupts waits here
            raise within_error(self.name)
        timeout_s, began_at = kwargs.get("timeout_s"), monotonic()
        if not isinstance(timeout_s, int | float) or not timeout_s > 0:  # the operation says what is wrong with it
            timeout_s = None
        has_turn = self._turns.wait(timeout_s, lambda: crossed_error(self.name))
        if not has_turn and self._is_closing:
            raise self._closed_error()
        if timeout_s is not None:
            kwargs["timeout_s"] = left_s = timeout_s - (monotonic() - began_at)
            if not has_turn or left_s <= 0:
                raise in_use_error(self.name, "another thread", timeout_s)

    def _open_again(self, give_up_at: float) -> None:
        """Open the port that went away, with nothing under way over it; it is waited for until `give_up_at`."""
        if self._reopen is None:
            raise self._unreachable_error()
        try:
            channel = self._reopen(max(give_up_at - self._channel.now(), 0.0))
        except PortError:
            if self._is_closing:
                raise self._closed_error() from None
            raise
        self._go_on_over(channel)

    # --- what a board says unasked ----------------------------------------------------------------

    def listen(self) -> None:
        """See `PortOwner.listen`."""
        listener = self._listener
        if listener is not None and listener.is_listening:
            listener.wake()
        elif not self._is_lost and waiting(self._channel) is not None:
            with self._turns.guard, contextlib.suppress(RuntimeError):  # where no thread begins, as at a program's end
                if self._listener is listener:
                    self._listener = Listener(self)

    @property
    def is_listening(self) -> bool:
        """Whether events arrive while nobody asks for them."""
        return self._listener is not None and self._listener.is_listening

    def check_turn(self) -> None:
        """Raise RequestError from within a request of this thread."""
        if self._turns.has(get_ident()):
            raise within_error(self.name)

    def listen_once(self) -> Wait[WaitingChannel] | None:
        """Listen, in the listener's thread, if the board is free; give what to wait for next, None at the end."""
        turns, thread = self._turns, get_ident()
        if self._is_lost:
            return None
        with turns.guard:
            if turns.owner or turns.waiting:
                return Wait(None, BUSY_S)
            turns.owner = thread
        wait: Wait[Channel] | None
        try:
            if self.closed:
                self._look_for_port()
            wait = self._after_listening(self.run(self._listening))
        except ClosedError as error:
            wait = self._after_closing(error)
        except FeatureMissingError as error:
            wait = self._after_refusal(error)
        except (PortError, BoardError) as error:
            wait = self._after_loss(error)
        except BaseException as error:  # of a callback: `sys.exit()`, or what fails a test
            wait = self._after_raising(error)
        channel = waiting(wait.channel) if wait is not None else None
        return Wait(channel, wait.wait_s) if wait is not None else None

    def _look_for_port(self) -> None:
        try:
            self._open_again(AT_ONCE)
        except BaseException:
            with self._turns.guard:
                self._turns.owner = 0
                self._turns.pass_on()
            raise

    def _listening(self) -> Operation[BoardError | None]:
        return politely(self.connection.listen(0.0), lambda: bool(self._turns.waiting) or self._is_closing)

    def _release(self) -> None:
        if self._listener is not None:
            self._listener.end()  # before the port is closed, which it waits for
        super()._release()

    # --- the end ----------------------------------------------------------------------------------

    def close(self, shutdown: bool = False, *, within_s: float = math.inf) -> None:
        """Drive the last operation, whatever comes of it, and release the port. Closing twice is fine.

        A request of another thread ends with ClosedError, and then nothing is said to the board, which may be busy
        with it. within_s: how long all that may take, in seconds. Raises RequestError from within an operation.
        """
        if self._is_inherited:
            return
        if self._turns.has(get_ident()):
            raise within_error(self.name)
        patience_s = within_s if self._is_closing else min(GRACE_S, within_s)  # another thread's closing is waited for
        says_goodbye = not self.closed
        self.closed = self.closed or "it was closed here"
        reopen, self._is_closing, self._reopen = self._reopen, True, None
        try:
            self._turns.turn_away()
            if not self._is_idle(patience_s):
                self._end()
                interrupt(self._channel)
                interrupt(reopen)
                self._is_idle(min(END_S, within_s))
            elif says_goodbye:
                self._until = self._channel.now() + within_s
                with contextlib.suppress(MicroRpcError, OSError):
                    self.run(self.goodbye, shutdown)
        finally:
            self.closed = self.closed or "it was closed here"  # where a port came back in this very moment
            self._end()
            self._release()

    def _end(self) -> None:
        """Let all requests end, and begin none."""
        self._is_ended, self._until = True, AT_ONCE

    def _is_idle(self, timeout_s: float) -> bool:
        """Wait until no thread is at work here."""
        turns, thread = self._turns, get_ident()
        try:
            has_turn = turns.wait(timeout_s)
        finally:  # Ctrl-C may end the waiting, too
            if turns.owner == thread:
                with turns.guard:
                    turns.owner = 0
                    turns.pass_on()
        return has_turn

    # --- the end of a program, and forks of it --------------------------------------------------

    def close_at_exit(self, within_s: float) -> None:
        """Close it, and say nothing to the board where it is in doubt: a request was interrupted, or not answered."""
        trust = self.connection.trust
        try:
            self._warn_unclosed()
        finally:
            if trust.doubt or trust.damage:
                self.closed = self.closed or "the program ends"
            with contextlib.suppress(MicroRpcError, OSError):
                self.close(within_s=within_s)

    def on_fork(self) -> None:
        """See `PortOwner.on_fork`."""
        Turns.waits.clear()
        self._turns.owner = 0  # that of a request which goes on in the fork, to learn of it
        if self._listener is not None:
            self._listener.on_fork()
        super().on_fork()
        self._turns, self._until = Turns(), AT_ONCE


def _close_all() -> None:
    """Close what is open when the program ends, all of it within END_S; what goes wrong with one stops no other."""
    until = monotonic() + END_S
    pumps = [thing for thing in registered() if isinstance(thing, Pump) and not thing.closed]

    def close(pump: Pump, remaining: int) -> None:
        pump.close_at_exit(max(until - monotonic(), 0.0) / remaining)

    with contextlib.ExitStack() as stack:
        for remaining, pump in enumerate(pumps, 1):  # the last first
            stack.callback(close, pump, remaining)


at_end(_close_all)
