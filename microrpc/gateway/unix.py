"""Several programs, one board: a Unix socket on which a board is served to many clients (docs/sharing.md).

    async with microrpc.aio.connect("/dev/ttyACM0") as board, Share(board, "/tmp/board.sock") as share:
        await share.wait()

Clients open it with `microrpc.connect("unix:///tmp/board.sock")`. They speak the bare packets of docs/protocol.md 5.
Each has one request under way, and those of different clients take turns on the board as they arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from microrpc.client.aio.board import AsyncBoard
from microrpc.errors import (
    CallTimeoutError,
    MicroRpcError,
    PortBusyError,
    PortError,
    PortLostError,
    PortPermissionError,
    reason_of,
)
from microrpc.gateway.client import SharedClient
from microrpc.gateway.hub import EventHub
from microrpc.gateway.shared import SharedBoard
from microrpc.ports.aio import AsyncFdChannel
from microrpc.ports.registry import register
from microrpc.ports.sockets import socket_channel
from microrpc.wire.checks import check_baud, check_seconds, check_whole
from microrpc.wire.packets import RemoteException, encode_packet
from microrpc.wire.uart import BITS_PER_BYTE

__all__ = ["Share", "check_system", "default_path", "turn_bytes"]

MAX_CLIENTS = 64
TAKE_S = 10.0  # so long a client may leave a reply unread
_REFUSAL_S = 2.0  # so long one that is too many may take to ask for anything
_BACKLOG = 128

# How much of a copy a client sends at once, and so how long the others may have to wait for it.
_TURN_S = 0.25
_TURN_BYTES = 65536
_MOST_PACKET_BYTES = 1 << 20

_WATCH_S = 0.5  # how often a board that nobody uses is listened to
_PAUSE_S = 10.0  # and how long it is left alone where that failed
_DESCRIPTORS_S = 1.0  # how long nobody is let in when the system has no more descriptors


def turn_bytes(board_bytes: int, baud: int) -> int:
    """Give the largest packet that clients may send.

    A board takes packets of `board_bytes`; what is larger is copied in one go, in many packets that are under way at
    once. It is bounded by what a line of `baud` bits a second carries in a quarter of a second.
    """
    line_bytes = min(int(_TURN_S * baud / BITS_PER_BYTE), _TURN_BYTES)
    return min(max(board_bytes, line_bytes), _MOST_PACKET_BYTES)


def check_system() -> None:
    """Raise PortError where there are no Unix sockets."""
    if not hasattr(socket, "AF_UNIX"):
        raise PortError("unix://", "this system has no Unix sockets, so no board can be shared")


def default_path(port: str) -> Path:
    """Give where the board on `port` is shared if nothing else is said, in a directory that is this user's alone.

    Raises PortPermissionError where that directory belongs to somebody else.
    """
    check_system()
    name = re.sub(r"[^\w.]+", "-", port.removeprefix("/dev/")).strip("-.") or "board"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) / "microrpc" if runtime else Path(tempfile.gettempdir()) / f"microrpc-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise PortError(str(folder), f"{folder} cannot be made: {error.strerror}; name a --socket elsewhere") from error
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
        raise PortPermissionError(str(folder), f"{folder} is not this user's: name a --socket elsewhere")
    return folder / f"{name}.sock"


class Share:
    """Serves `board` on a Unix socket at `path`, to this user only; used with `async with`.

    baud: of the board's line, in bits a second: how much of a copy is one turn. take_s: how long a client may leave a
    reply unread before it is dropped. Raises PortBusyError where something listens on `path` already, PortError where
    no socket can be made there. The socket is removed at the end; the board stays open.
    """

    def __init__(
        self,
        board: AsyncBoard,
        path: str | os.PathLike[str],
        *,
        baud: int = 115200,
        max_clients: int = MAX_CLIENTS,
        take_s: float = TAKE_S,
    ) -> None:
        self.path = Path(path).absolute()
        self.url = f"unix://{self.path}"
        """What clients connect to: unix:///PATH."""
        self._board = board
        self._baud = check_baud(baud)
        self._max_clients = check_whole(max_clients, "max_clients", 1)
        self._take_s = check_seconds(take_s, "take_s")
        self._clients: set[asyncio.Task[None]] = set()
        self._refused: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    async def wait(self) -> None:
        """Serve until the board can be used no more, and raise why: PortLostError, ClosedError."""
        await self._ended.wait()
        if self._shared.failure is not None:
            raise self._shared.failure

    async def __aenter__(self) -> Self:
        """Listen, and serve from tasks of the running loop."""
        self._shared = SharedBoard(self._board, turn_bytes(await self._board.max_packet_bytes(), self._baud))
        self._hub = EventHub(self._board)
        self._listener = _listen(self.path)
        self._inode = self.path.stat().st_ino
        register(self)
        self._own_tasks = [asyncio.create_task(self._accept()), asyncio.create_task(self._listen_to_board())]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._remove()
        tasks = [*self._own_tasks, *self._clients, *self._refused]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()
        await self._free_all()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):  # it is gone, or another program's by now
            if self.path.lstat().st_ino == self._inode:
                self.path.unlink()

    def on_fork(self) -> None:
        """Leave the socket to the parent: see `microrpc.ports.registry.Inherited.on_fork`."""
        self._inode = -1
        self._listener.close()

    # --- the board -----------------------------------------------------------------------------

    async def _listen_to_board(self) -> None:
        """Take note of what the board says and of its end while no client asks for anything; free what trouble left."""
        while not self._ended.is_set():
            await asyncio.sleep(_WATCH_S)
            try:
                await self._board.max_packet_bytes()  # known, so that this only takes what has arrived
                await self._free_all()
            except MicroRpcError as error:
                self._shared.note(error)
                self._end_if_lost()
                await asyncio.sleep(_PAUSE_S)  # the requests of clients meet it too

    def _end_if_lost(self) -> None:
        if self._shared.failure is not None:
            self._ended.set()

    # --- clients -------------------------------------------------------------------------------

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError:
                await asyncio.sleep(_DESCRIPTORS_S)
                continue
            is_welcome = len(self._clients) < self._max_clients
            tasks = self._clients if is_welcome else self._refused
            if len(tasks) >= self._max_clients:
                connection.close()
                continue
            channel = AsyncFdChannel(socket_channel(self.url, connection))
            task = asyncio.create_task(self._meet(channel, self._serve if is_welcome else self._refuse))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _meet(self, channel: AsyncFdChannel, serve: Callable[[AsyncFdChannel], Awaitable[None]]) -> None:
        try:
            await serve(channel)
        except (
            PortLostError,
            CallTimeoutError,
            TimeoutError,
        ):  # it went, with or without a word, or does not read its replies
            pass
        finally:
            channel.close()

    async def _serve(self, channel: AsyncFdChannel) -> None:
        try:
            await SharedClient(
                self._shared, self._hub, channel, take_s=self._take_s, on_served=self._end_if_lost
            ).serve()
        finally:
            await self._free_all()
            self._end_if_lost()

    async def _free_all(self) -> None:
        """Give back what no client holds any more, a portion at a time: between two of them it is the others' turn."""
        while await self._shared.free_garbage():
            await asyncio.sleep(0)

    async def _refuse(self, channel: AsyncFdChannel) -> None:
        """Answer the first request with the reason; before it, a client would not take it for an answer."""
        if await channel.read(channel.now() + _REFUSAL_S):
            text = (
                f"{self.url} has {self._max_clients} clients already, and takes no more: close one, and connect again"
            )
            await channel.write(encode_packet(RemoteException(text)), channel.now() + self._take_s)


def _listen(path: Path) -> socket.socket:
    """Listen on a new Unix socket that only this user may open; a stale one is replaced."""
    name = str(path)
    check_system()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_room(path)
        listener.bind(name)
        path.chmod(0o600)  # before anybody can connect
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise PortError(
            name, f"no socket can be made at {path}: {reason_of(error)}; name a --socket elsewhere"
        ) from error
    except PortError:
        listener.close()
        raise
    return listener


def _make_room(path: Path) -> None:
    """Remove a socket on which nobody listens any more. Raises PortBusyError, and PortError for what is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise PortError(str(path), f"{path} exists and is no socket: name a --socket elsewhere")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # its queue is full: somebody is there
            pass
    raise PortBusyError(str(path), f"{path}: a board is shared there already: end that one, or name another --socket")
