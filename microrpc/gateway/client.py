"""One client of a shared board: what it asks is executed; what it says besides is read meanwhile (docs/sharing.md)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from microrpc.errors import PortLostError, ProtocolError
from microrpc.gateway.hub import EventHub
from microrpc.gateway.outbox import Outbox
from microrpc.gateway.session import ClientSession
from microrpc.gateway.shared import SharedBoard
from microrpc.ports.aio import AsyncChannel
from microrpc.ports.channel import READ_BYTES
from microrpc.serve.endpoint import ServerEndpoint
from microrpc.wire.asides import Aside, Want, check_cancel, code_of, decode_want
from microrpc.wire.packets import RemoteException, encode_packet
from microrpc.wire.reader import EndpointState

_PIECE_BYTES = 4096  # of what a client says: so much of it is read before it is the others' turn


class SharedClient:
    """Serves one client until it goes.

    take_s: how long it may leave a reply unread, in seconds. on_served: called when a request of it was executed.
    """

    def __init__(
        self,
        shared: SharedBoard,
        hub: EventHub,
        channel: AsyncChannel,
        *,
        take_s: float,
        on_served: Callable[[], None],
    ) -> None:
        self._shared = shared
        self._hub = hub
        self._channel = channel
        self._on_served = on_served
        self._outbox = Outbox(channel, take_s)
        self._session = ClientSession(shared, hub, self._outbox.put_progress)
        # As much again as one read may bring, so that a client may ask for many things at once.
        self._endpoint = ServerEndpoint(
            name="share",
            session=self._session,
            event_driven=True,
            max_packet_bytes=shared.limit_bytes + READ_BYTES,
            on_aside=self._on_aside,
        )
        self._news, self._may_read = asyncio.Event(), asyncio.Event()
        self._may_read.set()
        self._wants: Want | None = None  # what it said last, of which nobody took note yet
        self._end: PortLostError | ProtocolError | None = None
        self._writing: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Serve it. Raises PortLostError, and CallTimeoutError or TimeoutError where it does not read a reply."""
        reading = asyncio.create_task(self._read())
        try:
            while self._endpoint.state is not EndpointState.SHUTDOWN_RECEIVED and self._end is None:
                await self._news.wait()
                self._news.clear()
                await self._serve_all()
            if isinstance(self._end, ProtocolError):  # where its next packet begins is not known
                text = f"ProtocolError: {self._end}; connect again"
                await self._outbox.reply(encode_packet(RemoteException(text)))
        finally:
            self._hub.leave(self._outbox)
            self._session.release()
            tasks = [reading] if self._writing is None else [reading, self._writing]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve_all(self) -> None:
        """Execute what was asked, and what was asked behind it."""
        endpoint, session = self._endpoint, self._session
        while (waiting := session.take()) is not None:
            request, done = waiting
            reply = await session.execute(request)
            try:
                done(reply)
            except ProtocolError as error:  # of what was asked behind it
                self._end = error
            self._on_served()
            await self._send()
            if endpoint.state is EndpointState.WAIT_FOR_ASYNC_CALLBACK:
                await asyncio.sleep(0)  # it asked for more; the others' turn, even where no board was asked
        await self._send()

    async def _send(self) -> None:
        """Send the replies that wait; meanwhile nothing is read, of which there would be more."""
        data = self._endpoint.take_output()
        if data:
            self._may_read.clear()
            await self._outbox.reply(data)
        if self._endpoint.buffered_bytes < self._shared.limit_bytes:
            self._may_read.set()

    async def _read(self) -> None:
        """Read what the client says, while its requests are executed, too: as much as there is room for."""
        endpoint = self._endpoint
        try:
            while endpoint.state is not EndpointState.SHUTDOWN_RECEIVED:
                await self._may_read.wait()
                data = await self._channel.read(math.inf)
                for at in range(0, len(data), _PIECE_BYTES):
                    await self._may_read.wait()
                    endpoint.feed(data[at : at + _PIECE_BYTES])
                    self._take_note()
                    if endpoint.buffered_bytes >= self._shared.limit_bytes:
                        self._may_read.clear()
                    self._news.set()
                    if len(data) > _PIECE_BYTES:
                        await asyncio.sleep(0)  # there may be a thousand words in it; the others' turn
        except (PortLostError, ProtocolError) as error:
            self._end = error
            self._session.cancel()
            self._news.set()

    def _on_aside(self, body: bytes) -> None:
        if code_of(body) is Aside.CANCEL:
            check_cancel(body)
            self._session.cancel()
            return
        self._wants = decode_want(body)

    def _take_note(self) -> None:
        """Take note of what the client wants by now."""
        wants, self._wants = self._wants, None
        if wants is not None:
            self._hub.want(self._outbox, wants)
            if self._writing is None:
                self._writing = asyncio.create_task(self._outbox.run())
