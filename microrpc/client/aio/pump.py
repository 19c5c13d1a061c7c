"""asyncio's pump: it drives operations over a channel that is awaited, one at a time."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import Any, ParamSpec, TypeVar

from microrpc.client.aio.listener import AsyncListener
from microrpc.client.listening import BUSY_S, Wait, politely
from microrpc.client.losses import retold
from microrpc.client.owner import GRACE_S, PortOwner
from microrpc.client.refusals import in_use_error
from microrpc.errors import (
    BoardError,
    ClosedError,
    FeatureMissingError,
    MicroRpcError,
    PortError,
    PortLostError,
    RequestError,
)
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.requests import AnyConnection
from microrpc.ports.aio import AsyncChannel, WaitingAsyncChannel, waiting
from microrpc.ports.channel import renew
from microrpc.ports.lost import POLL_S
from microrpc.ports.registry import at_end, registered

_TURN_S = 1e-3  # how long an eager operation keeps the loop, when it gets what it waits for

P = ParamSpec("P")
T = TypeVar("T")


class AsyncPump(PortOwner[AsyncChannel, Callable[[float], Awaitable[AsyncChannel]]]):
    """Drives the operations of one connection, in the event loop that it was made in. Tasks take turns.

    Its arguments, and `name`, `closed` and `goodbye`, are those of `PortOwner`; `reopen` is awaited. loop: that one.
    """

    _BOARD, _REMEDY = "AsyncBoard", "await its close()"

    def __init__(
        self,
        channel: AsyncChannel,
        connection: AnyConnection,
        *,
        on_close: Callable[[], None] = lambda: None,
        reopen: Callable[[float], Awaitable[AsyncChannel]] | None = None,
        reconnect_s: float = 0.0,
        on_reconnect: Callable[[bool], None] = lambda memory_is_lost: None,
    ) -> None:
        self.loop = get_running_loop()
        self._lock = asyncio.Lock()
        self.is_eager = False
        """Whether the loop has nothing to do meanwhile that matters: short waits keep it then, and are shorter."""
        self._asked = 0  # how many are at work or wait for it
        self._reopening: asyncio.Future[AsyncChannel] | None = None
        self._thread = get_ident()
        self._listener: AsyncListener | None = None
        super().__init__(
            channel,
            connection,
            on_close=on_close,
            reopen=reopen,
            reconnect_s=reconnect_s,
            on_reconnect=on_reconnect,
        )

    async def run(self, make: Callable[P, Operation[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make an operation when it is its turn, and drive it to its end: send what it wants sent, wait for the rest.

        The wait for the turn is a part of its `timeout_s`, where it is given one by that name. Raises what the
        operation raises, what the channel does, ClosedError, and RequestError in another event loop.
        """
        if self._is_inherited:  # in which there may be no loop at all
            raise self._closed_error()
        if get_running_loop() is not self.loop:
            raise self._other_loop_error()
        lock, is_busy = self._lock, self._asked > 0
        self._asked += 1
        has_turn = False
        interruption: asyncio.CancelledError | None = None
        try:
            if is_busy:
                await self._wait_for_turn(kwargs)
            else:
                await lock.acquire()
            has_turn = True
            comes_back = bool(self.closed) and not self._says_goodbye(make)
            give_up_at = self._channel.now() + self._reconnect_s if comes_back else AT_ONCE
            while True:
                operation: Operation[Any]
                if comes_back:  # a session comes before any operation then, so that it knows of a reset
                    await self._open_again(give_up_at)
                    operation = self.connection.begin(None)
                else:
                    operation = make(*args, **kwargs)
                channel, output, trust = self._channel, self.connection.output, self.connection.trust
                read_soon = getattr(channel, "read_soon", None) if self.is_eager else None
                now = AT_ONCE
                turn_ends_at = channel.now() + _TURN_S if read_soon is not None else AT_ONCE
                try:
                    try:
                        deadline = operation.send(None)  # type: ignore[arg-type]  # a generator starts with None
                        while True:
                            try:
                                until = min(deadline, trust.text.ends_at)
                                data = b""
                                if read_soon is not None and until > AT_ONCE:
                                    if now < turn_ends_at:
                                        data = read_soon(until)
                                    else:
                                        turn_ends_at = now + _TURN_S
                                data = data or await channel.read(until)
                                now = channel.now()
                                if self._is_ended:
                                    raise self._ended_error()
                                if now >= trust.text.ends_at:
                                    trust.text.flush()
                                deadline = operation.send((data, now))
                                if output.pieces:
                                    if output.port_is_doubtful:
                                        output.port_is_doubtful = False
                                        renew(channel)
                                    await channel.write(*output.take(deadline, now))
                                    output.left_at = channel.now()
                                    trust.is_out = trust.is_asking
                            except asyncio.CancelledError as error:  # the second ends it at once
                                if not self.connection.cancel(channel.now()):
                                    raise
                                interruption, deadline = error, AT_ONCE
                    except StopIteration as stop:
                        if output.pieces:
                            await channel.write(*output.take(AT_ONCE, channel.now()))
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
                    await asyncio.sleep(POLL_S)
                finally:
                    operation.close()
                    trust.is_asking = trust.is_out = trust.is_cancelled = False
        finally:
            interruption = None  # which has this frame, and all that its callers have
            self._asked -= 1
            if has_turn:
                lock.release()

    async def _wait_for_turn(self, kwargs: dict[str, object]) -> None:
        """Wait while other tasks use the board; what that took is taken from the caller's `timeout_s`."""
        timeout_s, began_at = kwargs.get("timeout_s"), self.loop.time()
        if not isinstance(timeout_s, int | float) or not timeout_s > 0:  # the operation says what is wrong with it
            await self._lock.acquire()
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._lock.acquire()
        except TimeoutError:
            raise in_use_error(self.name, "another task", timeout_s) from None
        left_s = timeout_s - (self.loop.time() - began_at)
        if left_s <= 0:
            self._lock.release()
            raise in_use_error(self.name, "another task", timeout_s)
        kwargs["timeout_s"] = left_s

    async def _open_again(self, give_up_at: float) -> None:
        """Open the port that went away, with nothing under way over it; it is waited for until `give_up_at`."""
        if self._reopen is None:
            raise self._unreachable_error()
        left_s = max(give_up_at - self._channel.now(), 0.0)
        self._reopening = reopening = asyncio.ensure_future(self._reopen(left_s))
        try:
            channel = await reopening
        except asyncio.CancelledError:
            if reopening.done() and not reopening.cancelled() and reopening.exception() is None:
                reopening.result().close()
            if not self._is_ended:
                raise
            raise self._closed_error() from None
        finally:
            self._reopening = None
        self._go_on_over(channel)

    # --- what a board says unasked ----------------------------------------------------------------

    def listen(self) -> None:
        """See `PortOwner.listen`."""
        listener = self._listener
        if self.loop.is_closed():
            return
        if self._is_elsewhere:  # a subscription may be closed, and garbage collected, by any thread
            with contextlib.suppress(RuntimeError):  # where the loop is closed in this very moment
                self.loop.call_soon_threadsafe(self.subscriptions.on_wish)
        elif listener is not None and listener.is_listening:
            listener.wake()
        elif not self._is_lost and waiting(self._channel) is not None:
            self._listener = AsyncListener(self, self.loop)

    def check_loop(self) -> None:
        """Raise RequestError where nothing can be begun in its loop: that is closed, or another thread's."""
        if self.loop.is_closed() or self._is_elsewhere:
            raise self._other_loop_error()

    def check_open(self) -> None:
        """See `PortOwner.check_open`. Raises RequestError as `check_loop` does, too."""
        super().check_open()
        self.check_loop()

    @property
    def _is_elsewhere(self) -> bool:
        """Whether another thread than this one runs its loop."""
        return self.loop.is_running() and get_ident() != self._thread

    @property
    def is_listening(self) -> bool:
        """Whether events arrive while nobody asks for them."""
        return self._listener is not None and self._listener.is_listening

    async def listen_once(self) -> Wait[WaitingAsyncChannel] | None:
        """Listen, in the listener's task, if the board is free; give what to wait for next, None at the end."""
        if self._is_lost:
            return None
        if self._asked:
            return Wait(None, BUSY_S)
        wait: Wait[AsyncChannel] | None
        try:
            if self.closed:
                await self._look_for_port()
            wait = self._after_listening(await self.run(self._listening))
        except ClosedError as error:
            wait = self._after_closing(error)
        except FeatureMissingError as error:
            wait = self._after_refusal(error)
        except (PortError, BoardError) as error:
            wait = self._after_loss(error)
        channel = waiting(wait.channel) if wait is not None else None
        return Wait(channel, wait.wait_s) if wait is not None else None

    async def _look_for_port(self) -> None:
        self._asked += 1
        try:
            async with self._lock:
                await self._open_again(AT_ONCE)
        finally:
            self._asked -= 1

    def _listening(self) -> Operation[BoardError | None]:
        return politely(self.connection.listen(0.0), lambda: self._asked > 1 or self._is_closing)

    # --- the end ----------------------------------------------------------------------------------

    async def close(self, shutdown: bool = False) -> None:
        """Drive the last operation, whatever comes of it, and release the port, even if this is cancelled.

        A request of another task ends with ClosedError, and then nothing is said to the board, which may be busy with
        it. Closing twice is fine. Raises RequestError in another event loop.
        """
        if self._is_inherited:
            return
        is_reachable = not self.loop.is_closed()
        if is_reachable and get_running_loop() is not self.loop:
            raise self._other_loop_error()
        patience_s = None if self._is_closing else GRACE_S  # another task's closing is waited for
        says_goodbye = is_reachable and not self.closed
        self.closed = self.closed or "it was closed here"
        self._is_closing, self._reopen = True, None
        try:
            if is_reachable and await self._is_idle(patience_s) and says_goodbye:
                with contextlib.suppress(MicroRpcError, OSError):
                    await self.run(self.goodbye, shutdown)
        finally:
            self._is_ended = True
            if self._reopening is not None:
                self._reopening.cancel()
            self._release()
            if self._listener is not None and is_reachable:
                await self._listener.wait_ended()

    async def _is_idle(self, timeout_s: float | None) -> bool:
        """Wait until no task is at work here."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._lock.acquire()
        except TimeoutError:
            return False
        self._lock.release()
        return True

    # --- the end, and forks of the program ------------------------------------------------------

    def on_fork(self) -> None:
        """See `PortOwner.on_fork`."""
        super().on_fork()
        self._lock = asyncio.Lock()

    def _release(self) -> None:
        if self._listener is not None:
            self._listener.end()
        super()._release()

    def _drop(self) -> None:
        if self._is_elsewhere:
            if self._listener is not None:
                self.loop.call_soon_threadsafe(self._listener.end)
            self.loop.call_soon_threadsafe(self._channel.close)
            self._on_close()
        else:
            self._release()

    def _other_loop_error(self) -> RequestError:
        what = f"<AsyncBoard {self.name}{' closed' if self.closed else ''}>"
        return RequestError(f"{what} belongs to another event loop: use it in the one that it was connected in")


def _abandon_all() -> None:
    """Give back the ports that are open when the program ends; what goes wrong with one stops no other."""
    with contextlib.ExitStack() as stack:
        for thing in registered():
            if isinstance(thing, AsyncPump) and not (thing._is_ended or thing._is_inherited):
                stack.callback(thing.abandon)


at_end(_abandon_all)
