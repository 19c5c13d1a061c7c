"""A gateway for TVM's clients in a thread, in front of boards in memory; and a client that is nobody's but ours."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from microrpc import aio
from microrpc.client.aio.board import AsyncBoard
from microrpc.errors import PortLostError
from microrpc.firmware.build import Firmware
from microrpc.gateway.tvm.server import Gateway
from microrpc.gateway.tvm.station import Station
from microrpc.wire.datatypes import CPU, DataType, FunctionHandle, OpaqueHandle, Tensor, Value
from microrpc.wire.packets import (
    CallFunc,
    CopyFromRemote,
    CopyToRemote,
    InitServer,
    Packet,
    PacketCode,
    RemoteException,
    Reply,
    Return,
    Shutdown,
    Syscall,
)
from microrpc.wire.session import Timeouts
from microrpc.wire.tvm.layout import NEW, Layout

TIMEOUTS = Timeouts(retry_s=0.5, start_s=5.0, call_s=2.0)
LIMIT_S = 20.0  # of what must end at once: a failed test ends too
MAGIC, MISMATCH = 0xFF271, 0xFF273


class Line(LoopbackChannel):
    """A board in memory whose cable can be pulled, or that can be slow."""

    is_lost = False

    def read(self, deadline: float) -> bytes:
        if self.is_lost:
            raise PortLostError(self.name, "the cable was pulled")
        return super().read(deadline)


class Waiting:
    """A channel to a board that answers nothing while it is held."""

    def __init__(self, line: Line, held: threading.Event) -> None:
        self._inner = aio.InMemoryChannel(line)
        self.name, self.now, self.close = self._inner.name, self._inner.now, self._inner.close
        self._held = held

    async def read(self, deadline: float) -> bytes:
        while self._held.is_set():
            await asyncio.sleep(0.002)
        return await self._inner.read(deadline)

    async def write(self, data: bytes, deadline: float) -> None:
        await self._inner.write(data, deadline)


class InMemory:
    """A board in memory, opened as often as that is wanted: every time it is the same device."""

    def __init__(self, device: Device, *, comes_back: bool = True) -> None:
        self.device = device
        self.opened = 0
        self.images: list[Firmware | None] = []
        self.is_gone = False
        self.held = threading.Event()
        """While it is set, the board answers nothing."""
        self._comes_back = comes_back

    async def __call__(self, image: Firmware | None) -> AsyncBoard:
        if self.is_gone:
            raise PortLostError("loopback", "there is no board")
        self.opened += 1
        self.images.append(image)
        channel, reopen = await self._plug_in(), self._plug_in if self._comes_back else None
        return await aio.open_board(channel, TIMEOUTS, seed=self.opened, reopen=reopen)

    async def _plug_in(self) -> aio.AsyncChannel:
        self.line = Line(self.device)
        return Waiting(self.line, self.held)


class Serving:
    """A gateway in a thread. `boards`: by key; options are the stations'."""

    def __init__(
        self,
        boards: dict[str, Device] | None = None,
        *,
        comes_back: bool = True,
        gateway: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if boards is None:
            boards = {"board": Device(seed=7)}
            install(boards["board"])
        self.openers = {key: InMemory(device, comes_back=comes_back) for key, device in boards.items()}
        self.opener = next(iter(self.openers.values()))
        self.device = self.opener.device
        self.notes: list[str] = []
        self.sessions: list[str] = []
        self._options = {"call_s": 2.0, **options}
        self._gateway_options = gateway or {}
        self.failures: list[dict[str, Any]] = []
        self.ended_by: BaseException | None = None
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(lambda loop, context: self.failures.append(context))
        self.stations = [
            Station(
                f"board {key}", key, opener, on_note=self.notes.append, on_session=self.sessions.append, **self._options
            )
            for key, opener in self.openers.items()
        ]
        try:
            async with Gateway(self.stations, on_note=self.notes.append, **self._gateway_options) as gateway:
                self.gateway = gateway
                self.address = gateway.address
                self._is_up.set()
                await self._stopped.wait()
        except Exception as error:
            self.ended_by = error
        finally:
            self._is_up.set()

    def do(self, order: Callable[[], object]) -> None:
        """Have the thread do something, and wait until it is done."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (order(), done.set()))
        assert done.wait(LIMIT_S)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not is_so():
            assert time.monotonic() < deadline, "it did not come true"
            time.sleep(0.002)

    def wait_until_free(self) -> None:
        """Wait until every board is free, and nothing of its clients is left on it."""
        self.wait_until(lambda: not any(station.is_busy for station in self.stations))
        for opener in self.openers.values():
            assert opener.device.memory.used_bytes == 0

    def client(self, key: str = "", layout: Layout = NEW, **options: Any) -> Client:
        return Client(self.address, key, layout, **options)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_up.wait(LIMIT_S)
        if self.ended_by is not None:
            raise self.ended_by
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()
        assert self.ended_by is None
        gc.collect()  # tasks whose failure nobody looked at tell it then
        assert self.failures == []


class RefusedError(Exception):
    """What the server answered with an exception; the text is its own."""


class Client:
    """Speaks as TVM's client does, over a socket; `key` is what follows "client:" in its hello.

    start: whether the hello is answered and the session opened here; else nothing is said.
    """

    def __init__(
        self,
        address: tuple[str, int],
        key: str = "",
        layout: Layout = NEW,
        *,
        start: bool = True,
        options: str = "",
        buffer_bytes: int | None = None,
    ) -> None:
        self.socket = socket.socket()
        if buffer_bytes is not None:  # of what it does not read
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        self.socket.settimeout(LIMIT_S)
        self.socket.connect(address)
        self.layout = layout
        self.server_key = ""
        if start:
            self.say_hello(key, options)
            self.server_key = self.read_hello()
            assert isinstance(self.request(InitServer("0.8.0", ())), Return)

    def say_hello(self, key: str, options: str = "") -> None:
        raw = f"client:{key}{options}".encode()
        self.socket.sendall(struct.pack("<ii", MAGIC, len(raw)) + raw)

    def read_hello(self) -> str:
        magic, size = struct.unpack("<ii", self.read(8))
        assert magic == MAGIC
        return self.read(size).decode()

    def read(self, size_bytes: int) -> bytes:
        data = b""
        while len(data) < size_bytes:
            more = self.socket.recv(size_bytes - len(data))
            if not more:
                raise EOFError(f"closed after {data!r}")
            data += more
        return data

    def read_reply(self) -> Reply:
        body = self.read(struct.unpack("<Q", self.read(8))[0])
        packet = self.layout.decode_packet(body)
        assert isinstance(packet, Reply)
        return packet

    def request(self, packet: Packet) -> Reply:
        self.socket.sendall(self.layout.encode_packet(packet))
        return self.read_reply()

    def value(self, packet: Packet) -> Value:
        """Give the one value of a Return, or what a CopyAck has. Raises RefusedError."""
        reply = self.request(packet)
        if isinstance(reply, RemoteException):
            raise RefusedError(reply.message)
        if not isinstance(reply, Return):
            return reply.data
        (value,) = reply.values
        return value

    def syscall(self, code: PacketCode, *args: Value) -> Any:
        return self.value(Syscall(code, args))

    def look_up(self, name: str) -> int:
        handle = self.syscall(PacketCode.GET_GLOBAL_FUNC, name)
        assert type(handle) is OpaqueHandle
        return int(handle)

    def call(self, function: int | str, *args: Value) -> Any:
        """Call a function, by its handle or its name; give its result."""
        handle = self.look_up(function) if isinstance(function, str) else function
        assert handle, f"no function {function}"
        reply = self.request(CallFunc(handle, args))
        if isinstance(reply, RemoteException):
            raise RefusedError(reply.message)
        assert isinstance(reply, Return)
        result = self.layout.decode_result(reply.values)
        return int(result) if isinstance(result, FunctionHandle) else result

    def empty(self, shape: tuple[int, ...], dtype: DataType | str) -> Tensor:
        data_type = DataType.parse(dtype) if isinstance(dtype, str) else dtype
        tensor = Tensor(0, CPU, data_type, shape)
        data = self.syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, tensor, None)
        return Tensor(int(data), CPU, data_type, shape)

    def write(self, tensor: Tensor, data: bytes) -> None:
        assert self.value(CopyToRemote(tensor, data)) is None

    def copy_from(self, tensor: Tensor) -> bytes:
        data = self.value(CopyFromRemote(tensor, tensor.size_bytes))
        assert isinstance(data, bytes)
        return data

    def free(self, handle: int) -> None:
        assert self.syscall(PacketCode.FREE_HANDLE, OpaqueHandle(handle)) is None

    def free_data(self, tensor: Tensor) -> None:
        assert self.syscall(PacketCode.DEV_FREE_DATA, CPU, OpaqueHandle(tensor.data)) is None

    def is_closed(self) -> bool:
        """Whether the server closes, as it must by now; what it still says is read before."""
        with contextlib.suppress(ConnectionError):
            while self.socket.recv(1 << 16):
                pass
        return True

    def goodbye(self) -> None:
        self.socket.sendall(self.layout.encode_packet(Shutdown()))
        assert self.is_closed()
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serving() -> Iterator[Serving]:
    """A fixture's body: one board with the demonstration functions, of which nothing may be left in the end."""
    with Serving() as gateway:
        yield gateway
        gateway.wait_until_free()
