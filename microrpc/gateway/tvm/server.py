"""Boards as RPC servers of TVM, on one TCP port: who comes is told apart by the key it asks for (docs/tvm_serve.md).

    station = Station("sim://", "board", BoardOpener("sim://"), call_s=5.0)
    async with Gateway([station], host="127.0.0.1", port=9090) as gateway:
        await gateway.wait()

A client without a key gets the first board that is free. Those that a tracker knows are let in by its matchkeys alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from microrpc.errors import CallTimeoutError, PortError, PortLostError, ProtocolError, RequestError, reason_of
from microrpc.gateway.tvm.registration import Registration
from microrpc.gateway.tvm.station import TAKE_S, Station
from microrpc.ports.aio import AsyncChannel, adopt
from microrpc.ports.selected import SocketChannel
from microrpc.ports.sockets import keep_alive, socket_channel
from microrpc.wire.tvm.hello import ClientHello, HelloReader, encode_hello, encode_refusal

HELLO_S = 10.0
"""How long a client may take to say who it is, in seconds."""
MOST_WAITING = 16
"""How many clients wait for each board; one more is closed, as by a stock server whose queue is full."""
_MOST_STRANGERS = 64  # that have not said yet who they are
_CROWD_S = 0.1  # how long one that comes while there are so many waits for one of them to say it
_MOST_EARLY_BYTES = 1 << 16  # of what is said before the server has answered
_BACKLOG = 128
_DESCRIPTORS_S = 1.0  # how long nobody is let in when the system has no more descriptors


@dataclass(eq=False)
class _Waiting:
    """A client that waits for a board, any of `stations`."""

    stations: Sequence[Station]
    turn: asyncio.Future[Station | None]

    def end(self) -> None:
        """It waits no more: it has gone."""
        if not self.turn.done():
            self.turn.set_result(None)

    @property
    def given(self) -> Station | None:
        """The board that it was given."""
        return self.turn.result() if self.turn.done() and not self.turn.cancelled() else None


class Gateway:
    """Serves `stations` on one TCP port; used with `async with`, which opens the boards first and closes them last.

    host, port: where it listens; port 0: any that is free. hello_s: how long a client may take to say who it is.
    tracker: where the boards are offered, its host and port; address: how clients reach this computer, None being as
    the tracker sees it. on_note: told in a line what goes wrong.
    Raises PortError where nothing can listen there, and what opening a board raises.
    """

    def __init__(
        self,
        stations: Sequence[Station],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tracker: tuple[str, int] | None = None,
        address: str | None = None,
        hello_s: float = HELLO_S,
        on_note: Callable[[str], None] = lambda text: None,
    ) -> None:
        if not stations:
            raise RequestError("a gateway serves one board or more: name a port")
        self._stations = list(stations)
        self._host, self._port = host, port
        self._tracker, self._address = tracker, address
        self._hello_s = hello_s
        self._on_note = on_note
        self._clients: set[asyncio.Task[None]] = set()
        self._waiting: deque[_Waiting] = deque()
        self._strangers = 0
        self._own_tasks: list[asyncio.Task[None]] = []

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that clients connect to."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    async def wait(self) -> None:
        """Serve until this is cancelled."""
        await asyncio.gather(*self._own_tasks)

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            self._listener = _listen(self._host, self._port)
            stack.callback(self._listener.close)
            opened: list[Station] = []
            stack.push_async_callback(_close_all, opened)
            for station in self._stations:
                await station.open()
                opened.append(station)
            if (tracker := self._tracker) is not None:
                offers = [self._register(station, tracker) for station in self._stations]
                self._own_tasks += [asyncio.create_task(offer.run()) for offer in offers]
            self._own_tasks += [
                asyncio.create_task(self._accept()),
                *(asyncio.create_task(station.watch()) for station in self._stations),
            ]
            stack.push_async_callback(self._end)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _end(self) -> None:
        tasks = [*self._own_tasks, *self._clients]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _register(self, station: Station, tracker: tuple[str, int]) -> Registration:
        """Have a board offered at the tracker, and let clients in by the matchkeys of that alone."""
        station.offer = registration = Registration(
            tracker, key=station.key, port=self.address[1], address=self._address, on_note=self._on_note
        )
        return registration

    # --- who comes -----------------------------------------------------------------------------

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(self._listener)
            except OSError:
                await asyncio.sleep(_DESCRIPTORS_S)
                continue
            if not await self._has_room():
                connection.close()
                continue
            self._strangers += 1
            task = asyncio.create_task(self._meet(_channel(connection, peer)))
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)

    async def _has_room(self) -> bool:
        """Whether one more may say who it is; where too many are at it, what they have said already is read before."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _CROWD_S
        while self._strangers >= _MOST_STRANGERS:
            if loop.time() >= until:
                return False
            await asyncio.sleep(_CROWD_S / 20)
        return True

    async def _meet(self, channel: AsyncChannel) -> None:
        """Serve one connection, whatever it is. It is closed in the end."""
        try:
            try:
                hello = await self._read_hello(channel)
            finally:
                self._strangers -= 1
            if hello is not None and hello.matchkey is not None:
                await self._serve(channel, hello, hello.matchkey)
        except (PortLostError, CallTimeoutError):  # it went, or does not read
            pass
        finally:
            channel.close()

    async def _read_hello(self, channel: AsyncChannel) -> ClientHello | None:
        """Give who it is; None where it does not say so in time, or cannot: that gets no answer."""
        reader, until = HelloReader(), channel.now() + self._hello_s
        hello: ClientHello | None = None
        while hello is None:
            data = await channel.read(until)
            if not data:
                return None
            try:
                hello = reader.feed(data)
            except ProtocolError as error:
                self._on_note(f"{channel.name}: {error}")
                return None
        return hello

    async def _serve(self, channel: AsyncChannel, hello: ClientHello, matchkey: str) -> None:
        stations = [station for station in self._stations if station.expects(matchkey)]
        if not stations:
            self._on_note(f"{channel.name}: no board has the key {matchkey!r}")
            await channel.write(encode_refusal(), channel.now() + TAKE_S)
            return
        early = bytearray(hello.rest)
        station = await self._turn(channel, stations, early)
        if station is None:
            return
        try:
            await channel.write(encode_hello(f"server:{station.key}"), channel.now() + TAKE_S)
            await station.serve(channel, replace(hello, rest=bytes(early)))
        finally:
            self._release(station)

    # --- whose turn it is ------------------------------------------------------------------------

    async def _turn(self, channel: AsyncChannel, stations: Sequence[Station], early: bytearray) -> Station | None:
        """Give a board that is this client's from now on; None where it went, or too many wait already.

        What it says meanwhile is put behind `early`.
        """
        for station in stations:
            if not station.is_busy:
                return self._take(station)
        if len(self._waiting) >= MOST_WAITING * len(self._stations):
            self._on_note(f"{channel.name}: {len(self._waiting)} clients wait already")
            return None
        one = _Waiting(stations, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        listening = asyncio.ensure_future(_hear(channel, early))
        listening.add_done_callback(lambda _: one.end())
        try:
            return await one.turn
        except BaseException:
            if one.given is not None:
                self._release(one.given)
            raise
        finally:
            if one in self._waiting:
                self._waiting.remove(one)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    def _take(self, station: Station) -> Station:
        station.is_busy = True
        self._share_loop()
        if station.offer is not None:
            station.offer.taken()
        return station

    def _share_loop(self) -> None:
        """Have a session that is the only one keep the event loop in short waits; several take turns at each."""
        is_alone = sum(station.is_busy for station in self._stations) == 1
        for station in self._stations:
            station.set_eager(is_alone and station.is_busy)

    def _release(self, station: Station) -> None:
        station.is_busy = False
        self._share_loop()
        if station.offer is not None:
            station.offer.released()
        for one in list(self._waiting):
            if station in one.stations:
                self._waiting.remove(one)
                if not one.turn.done():
                    one.turn.set_result(self._take(station))
                    return


async def _close_all(stations: Sequence[Station]) -> None:
    """Close boards at once: each that does not answer takes the time of a call. Raises what one of them raises."""
    ends = await asyncio.gather(*(station.close() for station in stations), return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end


async def _hear(channel: AsyncChannel, early: bytearray) -> None:
    """Keep what a client says before its turn; return when it has gone, or says more than anybody has to say then."""
    with contextlib.suppress(PortLostError):
        while len(early) <= _MOST_EARLY_BYTES:
            early += await channel.read(math.inf)


def _channel(connection: socket.socket, peer: object) -> AsyncChannel:
    name = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) and len(peer) > 1 else "client"
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    keep_alive(connection)
    return adopt(socket_channel(name, connection) if hasattr(select, "poll") else SocketChannel(name, connection))


def _listen(host: str, port: int) -> socket.socket:
    """Listen on a TCP port. Raises PortError."""
    name = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise PortError(name, f"nothing can listen on {name}: {reason}; choose another --listen HOST:PORT") from error
    return listener
