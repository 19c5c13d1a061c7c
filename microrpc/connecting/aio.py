"""Opening a connection: from a port's name to an `AsyncBoard` with a session. See `microrpc.connecting.blocking`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from types import TracebackType
from typing import Any, Protocol, TypeVar

from microrpc.boards.resets import open_reset
from microrpc.boards.schema import BoardProfile
from microrpc.client.aio.board import AsyncBoard
from microrpc.connecting.address import Target, board_log, find_target, framed_conversation, no_reset
from microrpc.errors import PortError
from microrpc.host.requests import AnyConnection
from microrpc.host.stream import StreamConnection
from microrpc.ports.aio import AsyncChannel, adopt, open_port, open_stream
from microrpc.ports.lost import POLL_S, RECONNECT_S, LostPort, OnReconnect, reconnect_log
from microrpc.wire.session import Timeouts

OnLog = Callable[[str], None]


class _Closable(Protocol):
    def close(self) -> None: ...


_Opened = TypeVar("_Opened", bound=_Closable)


class Opening:
    """A board that is yet to be opened: await it, or use it in `async with`, which closes the board too."""

    def __init__(self, open_: Callable[[], Coroutine[Any, Any, AsyncBoard]]) -> None:
        self._open = open_
        self._board: AsyncBoard | None = None

    def __await__(self) -> Generator[Any, Any, AsyncBoard]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncBoard:
        self._board = await self._open()
        return self._board

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._board is not None:
            await self._board.close()


def connect(
    port: str | None = None,
    *,
    board: str | BoardProfile | None = None,
    baud: int | None = None,
    timeouts: Timeouts | None = None,
    on_log: OnLog | None = None,
    reset: bool = False,
    link: bool = True,
    reconnect: bool = False,
    reconnect_s: float = RECONNECT_S,
    on_reconnect: OnReconnect | None = None,
) -> Opening:
    """Open `port` and a session with the board behind it; see `microrpc.connect`.

        async with microrpc.aio.connect("/dev/ttyACM0") as board: ...
        board = await microrpc.aio.connect("/dev/ttyACM0")

    Raises PortError for "rfc2217://" too, which cannot be awaited.
    """

    async def open_target() -> AsyncBoard:
        target = find_target(port, board=board, baud=baud, timeouts=timeouts)
        if target.is_simulated:
            return await _open_simulated(target, on_log, link)
        if target.is_emulated:
            return await _open_emulated(target, on_log, link)
        lost = LostPort(target.port, wait_s=reconnect_s) if reconnect else None
        if target.stream_address is not None:
            if reset:
                raise no_reset(target)
            address = target.stream_address
            return await _open(
                await open_stream(address, target.timeouts.start_s),
                StreamConnection(timeouts=target.timeouts),
                target.timeouts,
                reopen=_reopen(lost, lambda _, timeout_s: open_stream(address, timeout_s)),
                on_reconnect=on_reconnect,
            )
        open_named = partial(open_port, baud=target.baud, flow_control=target.profile.flow_control)
        if reset:
            channel = await _reset(target, on_log)
        else:
            channel = await open_named(target.port, timeout_s=target.timeouts.start_s)
        return await open_board(
            channel,
            target.timeouts,
            on_log,
            link=link,
            baud=target.baud,
            ring_bytes=target.ring_bytes,
            reopen=_reopen(lost, lambda name, timeout_s: open_named(name, timeout_s=timeout_s)),
            on_reconnect=on_reconnect,
        )

    return Opening(open_target)


def open_board(
    channel: AsyncChannel,
    timeouts: Timeouts,
    on_log: OnLog | None = None,
    *,
    seed: int | None = None,
    link: bool = True,
    baud: int | None = None,
    ring_bytes: int = 0,
    on_close: Callable[[], None] = lambda: None,
    reopen: Callable[[], Awaitable[AsyncChannel]] | None = None,
    on_reconnect: OnReconnect | None = None,
) -> Opening:
    """Open a session over a channel that is open already; see `microrpc.open_board`."""

    async def open_channel() -> AsyncBoard:
        conversation = framed_conversation(
            channel.name, timeouts, on_log, seed=seed, link=link, baud=baud, ring_bytes=ring_bytes
        )
        return await _open(channel, conversation, timeouts, on_close, reopen, on_reconnect)

    return Opening(open_channel)


async def _open(
    channel: AsyncChannel,
    conversation: AnyConnection,
    timeouts: Timeouts,
    on_close: Callable[[], None] = lambda: None,
    reopen: Callable[[], Awaitable[AsyncChannel]] | None = None,
    on_reconnect: OnReconnect | None = None,
) -> AsyncBoard:
    board = AsyncBoard(
        channel,
        conversation,
        call_s=timeouts.call_s,
        on_close=on_close,
        reopen=reopen,
        on_reconnect=reconnect_log(channel.name, on_reconnect),
    )
    try:
        await board.open()
    except BaseException:
        await board.close()
        raise
    return board


async def reopen_port(lost: LostPort, open_named: Callable[[str, float], Awaitable[AsyncChannel]]) -> AsyncChannel:
    """See `microrpc.ports.lost.reopen_port`; it waits by the event loop."""
    now = asyncio.get_running_loop().time
    deadline = now() + lost.wait_s
    while True:
        error = None
        if (name := lost.find()) is not None:
            try:
                return await open_named(name, max(deadline - now(), POLL_S))
            except PortError as failure:
                error = failure
        if now() >= deadline:
            raise lost.not_back(error) from error
        await asyncio.sleep(POLL_S)


def _reopen(
    lost: LostPort | None, open_named: Callable[[str, float], Awaitable[AsyncChannel]]
) -> Callable[[], Awaitable[AsyncChannel]] | None:
    return partial(reopen_port, lost, open_named) if lost is not None else None


async def _open_in_thread(open_: Callable[[], _Opened]) -> _Opened:
    """Open something in a thread; where this is cancelled meanwhile, it is closed.

    The thread does that itself: the loop may be closed before the thread is done.
    """
    lock = threading.Lock()
    opened: list[_Opened] = []
    is_cancelled = False

    def run() -> _Opened:
        result = open_()
        with lock:
            opened.append(result)
            is_unwanted = is_cancelled
        if is_unwanted:
            result.close()
        return result

    try:
        return await asyncio.to_thread(run)
    except BaseException:
        with lock:
            is_cancelled = True
            unwanted = list(opened)  # it was opened, and did not come here any more
        for one in unwanted:
            one.close()
        raise


async def _reset(target: Target, on_log: OnLog | None) -> AsyncChannel:
    """Open the port and reset the board, in a thread: it takes a second or two, once."""
    port_log = board_log(target.port, on_log)
    return adopt(
        await _open_in_thread(lambda: open_reset(target.port, target.profile, baud=target.baud, on_log=port_log)[0])
    )


async def _open_simulated(target: Target, on_log: OnLog | None, link: bool) -> AsyncBoard:
    from firmware_sim.running.server import PtyServer
    from firmware_sim.running.simulate import simulate

    server = PtyServer(simulate(target.profile))
    server.start()
    try:
        channel = await open_port(server.path, baud=target.profile.baud, timeout_s=target.timeouts.start_s)
        return await open_board(channel, target.timeouts, on_log, link=link, on_close=server.close)
    except BaseException:
        server.close()
        raise


async def _open_emulated(target: Target, on_log: OnLog | None, link: bool) -> AsyncBoard:
    """Build and start it in a thread: building takes seconds, once."""
    from microrpc.firmware.emulator import start_emulated

    emulator = await _open_in_thread(lambda: start_emulated(target.board_name))
    try:
        channel = await open_port(emulator.port, baud=target.profile.baud, timeout_s=target.timeouts.start_s)
        return await open_board(
            channel, target.timeouts, on_log, link=link, ring_bytes=target.ring_bytes, on_close=emulator.close
        )
    except BaseException:
        emulator.close()
        raise
