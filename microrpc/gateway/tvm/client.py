"""One client of TVM: its requests one after the other, until it goes or its time is over (docs/tvm_serve.md)."""

from __future__ import annotations

import asyncio
import contextlib
import math
import traceback
from collections.abc import Awaitable, Callable

from microrpc.errors import CallTimeoutError, PortLostError, ProtocolError
from microrpc.gateway.tvm.session import TvmSession
from microrpc.ports.aio import AsyncChannel
from microrpc.ports.channel import READ_BYTES
from microrpc.serve.endpoint import DEFAULT_CONSTRUCTOR, ServerEndpoint
from microrpc.wire.packets import RemoteException, Reply, Request
from microrpc.wire.reader import EndpointState
from microrpc.wire.tvm.layout import LayoutFinder

_NO_CONSTRUCTOR = "Check failed: (fconstructor.has_value()) is false:  Cannot find session constructor"
_WATCH_S = 0.05  # so long a request may take before it is looked whether its client is still there
_PIECE_BYTES = 1 << 18
# How long what a client still sends is thrown away, so that it reads why it is cut off; and how long it may pause.
_DRAIN_S, _QUIET_S = 2.0, 0.2


class TvmClient:
    """Serves one client until it goes. It asks one thing at a time, and is not read while that is done.

    timeout_s: how long its session may last; None: as long as it likes. limit_bytes: the largest packet that is taken
    from it. take_s: how long it may leave a piece of a reply unread. on_served: awaited after each request.
    """

    def __init__(
        self,
        session: TvmSession,
        finder: LayoutFinder,
        channel: AsyncChannel,
        *,
        name: str,
        timeout_s: float | None,
        limit_bytes: int,
        take_s: float,
        on_served: Callable[[], Awaitable[None]],
    ) -> None:
        self._session = session
        self._channel = channel
        self._timeout_s = timeout_s
        self._limit_bytes = limit_bytes
        self._take_s = take_s
        self._on_served = on_served
        self._endpoint = ServerEndpoint(
            name=name,
            constructors={DEFAULT_CONSTRUCTOR: lambda *args: session},
            unknown_constructor=_NO_CONSTRUCTOR,
            event_driven=True,
            max_packet_bytes=limit_bytes,
            codec=finder,
        )
        self._early = bytearray()  # what came while a request was executed
        self._serving: asyncio.Task[None] | None = None
        self._sending = False
        self._executing: Request | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watching: asyncio.Task[None] | None = None

    async def serve(self, first: bytes) -> str:
        """Serve it; `first` came with its hello. Give how it ended, in a few words."""
        serving = self._serving = asyncio.ensure_future(self._serve(first))
        try:
            done, _ = await asyncio.wait({serving}, timeout=self._timeout_s)
            if not done:
                serving.cancel()  # before anything is said: it says nothing more
                await self._tell_expired()
                return "its time was over"
            try:
                serving.result()
            except asyncio.CancelledError:
                return "it went in the middle of a request"
            except PortLostError:
                return "it closed the connection"
            except CallTimeoutError:
                return "it did not read its replies"
            except ProtocolError as error:
                return str(error)
            return "it said goodbye"
        finally:
            if self._timer is not None:
                self._timer.cancel()
            serving.cancel()
            (ended_by,) = await asyncio.gather(serving, return_exceptions=True)
            if isinstance(ended_by, BaseException):  # what was said last hangs on its frames, and may be large
                traceback.clear_frames(ended_by.__traceback__)

    async def _serve(self, first: bytes) -> None:
        endpoint = self._endpoint
        try:
            data = first or await self._read()
            while True:
                endpoint.feed(data)
                while (waiting := self._session.take()) is not None:
                    request, done = waiting
                    done(await self._execute(request))
                    await self._send(endpoint.take_output())
                    await self._on_served()
                if data := endpoint.take_output():  # what it answers itself
                    await self._send(data)
                if endpoint.state is EndpointState.SHUTDOWN_RECEIVED:
                    return
                data = await self._read()
        except ProtocolError as error:  # where its next packet begins is not known
            with contextlib.suppress(PortLostError, CallTimeoutError):
                await self._say_last(f"ProtocolError: {error}; connect again")
                await self._drain()
            raise

    async def _read(self) -> bytes:
        if self._early:
            data = bytes(self._early[:READ_BYTES])
            del self._early[:READ_BYTES]
            return data
        return await self._channel.read(math.inf)

    # --- while a request is executed -------------------------------------------------------------

    async def _execute(self, request: Request) -> Reply:
        """Execute a request; where that takes long, give it up when the client goes."""
        self._executing = request
        if self._timer is None:  # one is set for many short requests, since each costs a little
            self._set_timer()
        try:
            return await self._session.execute(request)
        finally:
            self._executing = None
            watching, self._watching = self._watching, None
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    def _set_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_WATCH_S, self._look_at, self._executing)

    def _look_at(self, request: Request | None) -> None:
        """Watch the client where it is still `request` that is executed."""
        self._timer = None
        if self._executing is None or self._watching is not None:
            return
        if self._executing is not request:
            self._set_timer()
        else:
            self._watching = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        with contextlib.suppress(PortLostError):
            while len(self._early) <= self._limit_bytes:  # a client of TVM says nothing at all
                data = await self._channel.read(math.inf)
                self._early += data
        if self._serving is not None:
            self._serving.cancel()

    # --- replies ---------------------------------------------------------------------------------

    async def _send(self, data: bytes) -> None:
        self._sending = True
        await self._write(data)
        self._sending = False

    async def _write(self, data: bytes) -> None:
        """Write in pieces, each with a deadline of its own: a slow network is no client that does not read."""
        channel = self._channel
        if len(data) <= _PIECE_BYTES:
            await channel.write(data, channel.now() + self._take_s)
            return
        view = memoryview(data)
        for at in range(0, len(data), _PIECE_BYTES):
            await channel.write(bytes(view[at : at + _PIECE_BYTES]), channel.now() + self._take_s)

    async def _say_last(self, text: str) -> None:
        await self._write(self._endpoint.encode(RemoteException(text)))

    async def _tell_expired(self) -> None:
        """Tell that its time is over: as the answer of what is under way, or unasked. Then it is cut off."""
        if self._sending:  # a reply of which a part is out: nothing can be said behind it
            return
        text = (
            f"RPCSessionTimeoutError: Your {self._timeout_s}s session has expired, "
            'try to increase the "session_timeout" value.'
        )
        with contextlib.suppress(PortLostError, CallTimeoutError):
            await self._say_last(text)

    async def _drain(self) -> None:
        channel = self._channel
        until = channel.now() + _DRAIN_S
        while await channel.read(min(channel.now() + _QUIET_S, until)):
            pass
