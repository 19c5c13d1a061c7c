"""Opening a connection: from a port's name to an `AsyncBoard` with a session. See `microrpc.connecting.blocking`.

Openers block, so each runs in a thread of its own, which ends with it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

from microrpc.boards.descriptions import DescriptionCache, cache_for
from microrpc.boards.schema import BoardProfile
from microrpc.client.aio.board import AsyncBoard
from microrpc.connecting.address import find_target
from microrpc.connecting.connection import (
    OnLog,
    OnReconnect,
    OnReset,
    check_options,
    make_connection,
    reconnect_log,
    reset_first,
)
from microrpc.connecting.openers import PYSERIAL, Closable, Opened, find_opener, has_frames, open_target
from microrpc.connecting.watching import CaptureTarget, Watch, tell_opened, tell_port, telling_closed, watch
from microrpc.errors import PortError
from microrpc.ports.aio import AsyncChannel, adopt, cannot_be_awaited
from microrpc.ports.channel import Channel
from microrpc.ports.lost import POLL_S, RECONNECT_S, LostPort
from microrpc.ports.options import PortOptions
from microrpc.ports.registry import collect_dropped
from microrpc.wire.checks import check_seconds
from microrpc.wire.session import Timeouts

Wrap = Callable[[AsyncChannel], AsyncChannel]
"""See `microrpc.connecting.wrap`."""

_Opened = TypeVar("_Opened", bound=Closable)
_Reopen = Callable[[float], Awaitable[AsyncChannel]]  # given how many seconds it may wait


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

    async def __aexit__(self, *_: object) -> None:
        if self._board is not None:
            await self._board.close()


def connect(
    port: str | os.PathLike[str] | None = None,
    *,
    board: str | BoardProfile | None = None,
    baud: int | None = None,
    timeouts: Timeouts | None = None,
    on_log: OnLog | None = None,
    reset: bool = False,
    release: bool = False,
    link: bool = True,
    dtr: bool | None = None,
    rts: bool | None = None,
    hang_up: bool | None = None,
    low_latency: bool | None = None,
    reconnect: bool = False,
    reconnect_s: float = RECONNECT_S,
    on_reconnect: OnReconnect | None = None,
    on_reset: OnReset | None = None,
    wrap: Wrap | None = None,
    capture: CaptureTarget | None = None,
) -> Opening:
    """Open `port` and a session with the board behind it; see `microrpc.connect`.

        async with microrpc.aio.connect("/dev/ttyACM0") as board: ...
        board = await microrpc.aio.connect("/dev/ttyACM0")

    wrap: as `microrpc.connect` has it, but what it is given and gives is an `AsyncChannel`. A cancelled opening ends at
    once; the thread that opens the port closes what it opened.
    Raises PortError for "rfc2217://" too, which cannot be awaited.
    """

    async def open_port() -> AsyncBoard:
        check_options(
            Timeouts() if timeouts is None else timeouts,
            {"reset": reset, "release": release, "link": link, "reconnect": reconnect},
            on_log=on_log,
            on_reconnect=on_reconnect,
            on_reset=on_reset,
            wrap=wrap,
        )
        wait_s = check_seconds(reconnect_s, "reconnect_s", may_be_zero=True)
        target = find_target(
            port, board=board, baud=baud, timeouts=timeouts, options=PortOptions(dtr, rts, hang_up, low_latency)
        )
        if find_opener(target) == PYSERIAL:
            raise cannot_be_awaited(target.port, "what pyserial opens by URL waits in threads")
        collect_dropped(target.port)
        lost = LostPort(target.port, wait_s=wait_s) if reconnect else None
        watched = await _watch(target.port, capture, wrap, framed=has_frames(target), resets=reset)
        try:
            first = reset_first(target.port, on_log, watched.tap) if reset else None
            opened = await _open_in_thread(partial(open_target, target, first))
        except BaseException:
            watched.close()
            raise
        tell_port(opened, target.port, target.profile.name)
        open_again = opened.reopen
        return await _open_session(
            _adopt(watched.attend(opened)),
            target.timeouts,
            on_log,
            link=link,
            release=release,
            reopen=partial(_reopen, lost, open_again) if lost is not None and open_again is not None else None,
            reconnect_s=wait_s,
            on_reconnect=on_reconnect,
            on_reset=on_reset,
            wrap=watched.wrap,
            cache=cache_for(target.port),
        )

    return Opening(open_port)


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
    on_reset: OnReset | None = None,
    wrap: Wrap | None = None,
    capture: CaptureTarget | None = None,
) -> Opening:
    """Open a session over a channel that is open already; see `microrpc.open_board`."""
    check_options(
        timeouts,
        {"link": link},
        on_log=on_log,
        on_close=on_close,
        reopen=reopen,
        on_reconnect=on_reconnect,
        on_reset=on_reset,
        wrap=wrap,
    )
    opened = Opened(channel, baud=baud, ring_bytes=ring_bytes, on_close=on_close)

    async def open_channel() -> AsyncBoard:
        try:
            watched = await _watch(channel.name, capture, wrap)
        except BaseException:
            opened.close()
            raise
        return await _open_session(
            watched.attend(opened),
            timeouts,
            on_log,
            seed=seed,
            link=link,
            reopen=(lambda within_s: reopen()) if reopen is not None else None,
            on_reconnect=on_reconnect,
            on_reset=on_reset,
            wrap=watched.wrap,
        )

    return Opening(open_channel)


async def _open_session(
    opened: Opened[AsyncChannel],
    timeouts: Timeouts,
    on_log: OnLog | None,
    *,
    seed: int | None = None,
    link: bool,
    release: bool = False,
    reopen: _Reopen | None,
    reconnect_s: float = 0.0,
    on_reconnect: OnReconnect | None,
    on_reset: OnReset | None,
    wrap: Wrap | None,
    cache: DescriptionCache | None = None,
) -> AsyncBoard:
    """See `microrpc.connecting.blocking.open_session`."""

    async def reopen_wrapped(wrap: Wrap, reopen: _Reopen, within_s: float) -> AsyncChannel:
        return wrap(await reopen(within_s))

    try:
        connection = make_connection(opened, timeouts, on_log, seed=seed, link=link, on_reset=on_reset)
        board = AsyncBoard(
            wrap(opened.channel) if wrap is not None else opened.channel,
            connection,
            call_s=timeouts.call_s,
            on_close=telling_closed(opened.on_close, opened.channel.name, connection),
            reopen=reopen if wrap is None or reopen is None else partial(reopen_wrapped, wrap, reopen),
            reconnect_s=reconnect_s,
            on_reconnect=reconnect_log(opened.channel.name, on_reconnect),
        )
    except BaseException:
        opened.close()
        raise
    board.operations.described.store = cache
    try:
        await board.open()
        tell_opened(opened.channel.name, connection)
        if release:
            await board.release_all()
    except BaseException:
        await board.close()
        raise
    return board


async def _watch(
    port: str, capture: CaptureTarget | None, wrap: Wrap | None, *, framed: bool = True, resets: bool = False
) -> Watch:
    """See `watch`; the opening of a capture may wait, for the reader of a pipe."""
    begin = partial(watch, port, capture, wrap, framed=framed, resets=resets)
    return begin() if capture is None else await _open_in_thread(begin)


def _adopt(opened: Opened[Channel]) -> Opened[AsyncChannel]:
    """Let the running loop watch what was opened. Raises PortError, and closes it, where it cannot."""
    try:
        channel: AsyncChannel = adopt(opened.channel)
    except BaseException:
        opened.close()
        raise
    return Opened(channel, opened.is_stream, opened.is_shared, opened.baud, opened.ring_bytes, opened.on_close)


async def _reopen(lost: LostPort, open_named: Callable[[str, float], Channel], within_s: float) -> AsyncChannel:
    """See `microrpc.ports.lost.Reopening`; it waits by the event loop, and opens in threads."""
    now = asyncio.get_running_loop().time
    deadline = now() + within_s
    while True:
        error = None
        if (name := lost.find()) is not None:
            try:
                return adopt(await _open_in_thread(partial(open_named, name, max(deadline - now(), POLL_S))))
            except PortError as failure:
                error = failure
        if now() >= deadline:
            raise lost.not_back(error) from error
        await asyncio.sleep(POLL_S)


async def _open_in_thread(open_: Callable[[], _Opened]) -> _Opened:
    """Open something in a thread of its own; where this is cancelled meanwhile, it is closed.

    The thread does that itself: the loop may be closed before the thread is done.
    """
    outcome: concurrent.futures.Future[_Opened] = concurrent.futures.Future()

    def run() -> None:
        try:
            opened = open_()
        except BaseException as error:
            with contextlib.suppress(concurrent.futures.InvalidStateError):  # cancelled: nobody asks any more
                outcome.set_exception(error)
            return
        try:
            outcome.set_result(opened)
        except concurrent.futures.InvalidStateError:
            opened.close()

    thread = threading.Thread(target=run, name="microrpc opening")
    thread.start()
    try:
        opened = await asyncio.wrap_future(outcome)
    except BaseException:
        if not outcome.cancel() and outcome.exception() is None:
            outcome.result().close()  # it was opened, and did not come here any more
        raise
    finally:
        if outcome.done() and not outcome.cancelled():
            thread.join()  # it has nothing left to do
    return opened
