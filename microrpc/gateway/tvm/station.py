"""One board of the gateway: opened, served to one client at a time, opened again (docs/tvm_serve.md)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

from microrpc.client.aio.board import AsyncBoard
from microrpc.errors import MicroRpcError
from microrpc.firmware.build import Firmware
from microrpc.gateway.hub import EventHub
from microrpc.gateway.shared import SharedBoard
from microrpc.gateway.tvm.client import TvmClient
from microrpc.gateway.tvm.session import Loader, TvmSession
from microrpc.ports.aio import AsyncChannel
from microrpc.wire.tvm.hello import ClientHello
from microrpc.wire.tvm.layout import LayoutFinder

OpenBoard = Callable[[Firmware | None], Awaitable[AsyncBoard]]
"""Opens the board, with other firmware than its own where that is given. Raises MicroRpcError."""

MOST_PACKET_BYTES = 1 << 26
"""The largest packet that is taken from a client, and the largest copy that it is given: 64 MiB."""
TAKE_S = 10.0
"""How long a client may leave a piece of a reply unread, in seconds."""
_WATCH_S = 1.0  # how often a board that nobody uses is listened to
_REVIVE_S = 1.0  # how long a board that could not be opened is left alone
_FREE_S = 20.0  # how long what a client left behind may take to be freed


class Offer(Protocol):
    """A board's place at a tracker: `microrpc.gateway.tvm.registration.Registration`."""

    @property
    def matchkey(self) -> str:
        """What a client must know to be let in; "" while none is expected."""

    def taken(self) -> None:
        """A session began."""

    def released(self) -> None:
        """The session is over."""


class Station:
    """A board that is served to clients of TVM, one session at a time.

    name: for messages, as the user gave it. key: what clients ask for. open_board: opens it. call_s: how long one call
    may take, in seconds. make_loader: of what makes firmware of uploaded code; None: there is none. on_note: told in a
    line what goes wrong; on_session: that a session began or is over.
    """

    def __init__(
        self,
        name: str,
        key: str,
        open_board: OpenBoard,
        *,
        call_s: float,
        make_loader: Callable[[Station], Loader] | None = None,
        limit_bytes: int = MOST_PACKET_BYTES,
        take_s: float = TAKE_S,
        on_note: Callable[[str], None] = lambda text: None,
        on_session: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.name = name
        self.key = key
        self.offer: Offer | None = None
        """Its place at a tracker; None where clients come by the key alone."""
        self.is_busy = False
        """Whether a client has it."""
        self._is_eager = False
        self._open_board = open_board
        self._call_s = call_s
        self._limit_bytes = limit_bytes
        self._take_s = take_s
        self._on_note, self._on_session = on_note, on_session
        self._make_loader = make_loader
        self._image: Firmware | None = None
        self._session: TvmSession | None = None
        self._revived_at = -_REVIVE_S
        self._sessions = 0
        self._opening = asyncio.Lock()  # a board is opened by one at a time

    def expects(self, matchkey: str) -> bool:
        """Whether a client with this key is let in; one without any takes what there is, but from a tracker's farm."""
        if self.offer is not None:
            return matchkey != "" and matchkey == self.offer.matchkey
        return matchkey in ("", self.key)

    # --- the board -----------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the board. Raises what `open_board` raises."""
        board = await self._open_board(None)
        self._shared = SharedBoard(board, self._limit_bytes)
        self._hub = EventHub(board)

    def set_eager(self, is_eager: bool) -> None:
        """Say whether its session is the only one of this process, so that what it waits for need not be shared."""
        self._is_eager = self._shared.board.pump.is_eager = is_eager

    async def close(self) -> None:
        """Free everything on the board, and close it. Closing twice is fine."""
        await self._shared.board.close()

    async def restart_with(self, image: Firmware | None) -> None:
        """Close the board, and open it with other firmware; None: with its own again.

        All that clients have of it is stale then. Where it cannot be opened with `image` it is opened as it was, and
        what is wrong is raised: MicroRpcError. Where it cannot be opened with its own, `revive` tries that again.
        """
        async with self._opening:
            before, self._image = self._image, image  # before anything that may be cancelled
            await self._shared.board.close()
            try:
                await self._open_again()
            except MicroRpcError:
                if image is None:  # what a client loaded is for no other
                    raise
                self._image = before
                with contextlib.suppress(MicroRpcError):
                    await self._open_again()
                raise

    async def _open_again(self) -> None:
        try:
            board = await self._open_board(self._image)
        except MicroRpcError as error:
            self._shared.failure = error
            raise
        self._shared.move(board)
        board.pump.is_eager = self._is_eager
        self._hub = EventHub(board)
        if self._session is not None:
            self._session.move(self._hub)

    async def revive(self) -> None:
        """Open a board anew that is lost for good, as an emulator that ended; not again and again."""
        if self._shared.failure is None:
            return
        async with self._opening:
            now = asyncio.get_running_loop().time()
            if self._shared.failure is None or now - self._revived_at < _REVIVE_S:
                return
            self._revived_at = now
            await self._shared.board.close()
            try:
                await self._open_again()
            except MicroRpcError as error:
                self._on_note(f"{self.name}: {error}")
            else:
                self._on_note(f"{self.name}: opened anew")

    async def watch(self) -> None:
        """Take note of what the board says while nobody uses it, until this is cancelled."""
        while True:
            await asyncio.sleep(_WATCH_S)
            if self.is_busy:
                continue
            try:
                await self._shared.board.max_packet_bytes()  # known, so that this only takes what has arrived
            except MicroRpcError as error:
                self._shared.note(error)
            if not self.is_busy:
                await self.revive()

    # --- sessions ------------------------------------------------------------------------------

    async def serve(self, channel: AsyncChannel, hello: ClientHello) -> None:
        """Serve a client to its end; then nothing of it is left on the board."""
        self._sessions += 1
        number = self._sessions
        finder = LayoutFinder()
        loader = self._make_loader(self) if self._make_loader is not None else None
        await self.revive()
        session = self._session = TvmSession(self._shared, self._hub, finder, call_s=self._call_s, loader=loader)
        client = TvmClient(
            session,
            finder,
            channel,
            name=self.key,
            timeout_s=hello.timeout_s,
            limit_bytes=self._limit_bytes,
            take_s=self._take_s,
            on_served=self._look_after,
        )
        self._on_session(f"{self.name}: session {number} began")
        end = "it was ended"
        try:
            end = await client.serve(hello.rest)
        finally:
            channel.close()
            self._session = None
            session.release()
            self._on_session(f"{self.name}: session {number} is over: {end}")
        await self._clean(session.settle)

    async def _look_after(self) -> None:
        if self._shared.failure is not None:
            await self.revive()

    async def _clean(self, settle: Callable[[], Awaitable[None]]) -> None:
        """Free what the client left behind, once it is settled, and give the board its own firmware again."""
        try:
            async with asyncio.timeout(_FREE_S):
                await settle()
                while await self._shared.free_garbage():
                    await asyncio.sleep(0)
        except TimeoutError:
            self._on_note(f"{self.name}: what the session left could not be freed within {_FREE_S:g} s")
        if self._image is not None:
            try:
                await self.restart_with(None)
            except MicroRpcError as error:
                self._on_note(f"{self.name}: {error}")
