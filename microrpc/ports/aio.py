"""Ports as an event loop waits for them: bytes out, bytes in, no threads, and every wait ends at its deadline."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol, cast

from microrpc.errors import PortError, PortLostError
from microrpc.host.operation import AT_ONCE
from microrpc.host.uncopyable import CONNECT_THERE, uncopyable
from microrpc.ports.channel import MOST_KEPT_BYTES, READ_BYTES, Channel, write_timeout_error
from microrpc.ports.fd import FdChannel
from microrpc.ports.registry import register

_POLL_S = 1e-3
_SOON_S = 200e-6  # how long a read that is in a hurry has the loop


class AsyncChannel(Protocol):
    """What a connection needs of a port: `microrpc.ports.channel.Channel`, but `read` and `write` are awaited."""

    name: str
    """The port as the user gave it, for messages."""

    def now(self) -> float:
        """Give the time in seconds, by the clock of every deadline."""

    async def read(self, deadline: float) -> bytes:
        """See `microrpc.ports.channel.Channel.read`. Cancelled, it takes nothing."""

    async def write(self, data: bytes, deadline: float) -> None:
        """See `microrpc.ports.channel.Channel.write`. Cancelled, the peer may have got a part."""

    def close(self) -> None:
        """See `microrpc.ports.channel.Channel.close`. A read or write that waits raises PortLostError."""


class WaitingAsyncChannel(AsyncChannel, Protocol):
    """A channel that a task may wait for beside the one that reads and writes: `channel.WaitingChannel` for asyncio."""

    async def wait_readable(self, deadline: float, bell: asyncio.Future[None]) -> None:
        """Wait until something can be read, or the port is gone, or `bell` is done; but not beyond the deadline.

        It takes nothing and raises nothing. The bell is used up by it.
        """


class AsyncFdChannel:
    """A channel over a file descriptor that the running loop can watch; it takes `port` over.

    Deadlines are times of the loop's clock. Raises PortError where the loop cannot watch descriptors.
    """

    def __init__(self, port: FdChannel) -> None:
        self.name = port.name
        """See `AsyncChannel.name`."""
        self._port = port
        self._fd = port.fileno()
        self._loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = self._loop.time
        """See `AsyncChannel.now`."""
        self._kept = bytearray()
        self._lost: PortLostError | None = None
        self._is_watching = False
        self._reader: asyncio.Future[None] | None = None
        self._bell: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        try:
            self._watch()
        except NotImplementedError as error:
            port.close()
            raise cannot_be_awaited(port.name, "this event loop cannot watch file descriptors") from error
        register(self)

    __reduce_ex__ = uncopyable(CONNECT_THERE)

    def __repr__(self) -> str:
        return f"<AsyncFdChannel {self.name}{' closed' if self._fd < 0 else ''}>"

    # --- reading -------------------------------------------------------------------------------

    async def read(self, deadline: float) -> bytes:
        """See `AsyncChannel.read`."""
        while not self._kept:
            if self._lost is not None:
                raise self._lost
            if self._fd < 0 or self._loop.time() >= deadline:
                return self._port.read(AT_ONCE)  # it raises what is to be raised
            self._watch()
            self._reader = self._loop.create_future()
            try:
                await self._wait(self._reader, deadline)
            finally:
                self._reader = None
        data = bytes(self._kept[:READ_BYTES])
        del self._kept[:READ_BYTES]
        return data

    def read_soon(self, deadline: float) -> bytes:
        """Give what has arrived or does in a moment, while no other task has its turn; else b"", and `read` waits.

        It is for who has the loop to himself: a turn of the loop costs as much as a board takes to answer.
        Raises PortLostError.
        """
        if self._kept or self._lost is not None:
            return b""
        return self._port.read_soon(deadline, _SOON_S)

    def _watch(self) -> None:
        # Once and for all, as registering costs two system calls, more than the read.
        if not self._is_watching:
            self._loop.add_reader(self._fd, self._on_readable)
            self._is_watching = True

    def _unwatch(self) -> None:
        if self._is_watching:
            self._is_watching = False
            self._loop.remove_reader(self._fd)

    def _on_readable(self) -> None:
        try:
            self._kept += self._port.read(AT_ONCE)
        except PortLostError as error:
            self._lost = error
        if self._lost is not None or len(self._kept) >= MOST_KEPT_BYTES:
            self._unwatch()
        _wake(self._reader)
        if self._bell is not None:
            _wake(self._bell)

    async def wait_readable(self, deadline: float, bell: asyncio.Future[None]) -> None:
        """See `WaitingAsyncChannel.wait_readable`."""
        if self._kept or self._lost is not None or self._fd < 0:
            return
        self._watch()
        self._bell = bell
        try:
            await self._wait(bell, deadline)
        finally:
            self._bell = None

    # --- writing -------------------------------------------------------------------------------

    async def write(self, data: bytes, deadline: float) -> None:
        """See `AsyncChannel.write`."""
        done = self._port.write_some(data)
        while done < len(data):
            if self._loop.time() >= deadline:
                raise write_timeout_error(self.name, done, len(data))
            self._writer = self._loop.create_future()
            self._loop.add_writer(self._fd, _wake, self._writer)
            try:
                await self._wait(self._writer, deadline)
            finally:
                self._writer = None
                if self._fd >= 0:
                    self._loop.remove_writer(self._fd)
            taken = self._port.write_some(memoryview(data)[done:])
            if not taken:  # a tty may report room and take nothing: do not spin on it
                await asyncio.sleep(0.001)
            done += taken

    # --- both ----------------------------------------------------------------------------------

    def renew(self) -> None:
        """See `FdChannel.renew`."""
        self._port.renew()

    def others(self) -> str:
        """See `FdChannel.others`."""
        return self._port.others()

    async def _wait(self, waiter: asyncio.Future[None], deadline: float) -> None:
        if deadline == math.inf:
            await waiter
            return
        timer = self._loop.call_at(deadline, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()

    def close(self) -> None:
        """See `AsyncChannel.close`."""
        if self._fd < 0:
            return
        if not self._loop.is_closed():
            self._unwatch()
            self._loop.remove_writer(self._fd)
            for waiter in (self._reader, self._writer, self._bell):
                _wake(waiter)
        self._kept.clear()
        self._fd = -1
        self._port.close()

    @property
    def is_open(self) -> bool:
        """Whether the port is held."""
        return self._port.is_open

    def on_fork(self) -> None:
        """See `Inherited.on_fork`. The loop's list of what it watches is the parent's too: it stays as it is."""
        self._is_watching = False
        self._kept.clear()
        self._fd = -1


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class InMemoryChannel:
    """A channel that never blocks, such as `firmware_sim.loopback.LoopbackChannel` in virtual time, as an awaited one.

    Other tasks get their turn before each read and write.
    """

    def __init__(self, channel: Channel) -> None:
        self.name = channel.name
        """See `AsyncChannel.name`."""
        self._channel = channel

    __reduce_ex__ = uncopyable(CONNECT_THERE)

    def now(self) -> float:
        """See `AsyncChannel.now`."""
        return self._channel.now()

    async def read(self, deadline: float) -> bytes:
        """See `AsyncChannel.read`."""
        await asyncio.sleep(0)
        return self._channel.read(deadline)

    async def write(self, data: bytes, deadline: float) -> None:
        """See `AsyncChannel.write`."""
        await asyncio.sleep(0)
        self._channel.write(data, deadline)

    def tell_faults(self, listener: Callable[[str], None]) -> None:
        """Have the channel tell of the faults that it makes, where it makes any."""
        tell = getattr(self._channel, "tell_faults", None)
        if tell is not None:
            tell(listener)

    def close(self) -> None:
        """See `AsyncChannel.close`."""
        self._channel.close()


class PollableChannel(Channel, Protocol):
    """A channel that can be asked without waiting."""

    def write_some(self, data: bytes | memoryview) -> int:
        """Hand over what the port takes at once, and give how many bytes that was. Raises PortLostError."""


class PolledChannel:
    """A channel that no event loop can watch, asked every millisecond: a simulated board in memory, and on Windows TCP.

    Deadlines are times of the loop's clock, which is that of the channel.
    """

    def __init__(self, channel: PollableChannel) -> None:
        self.name = channel.name
        """See `AsyncChannel.name`."""
        self.now = channel.now
        """See `AsyncChannel.now`."""
        self._channel = channel
        self._kept = b""

    __reduce_ex__ = uncopyable(CONNECT_THERE)

    def __repr__(self) -> str:
        return f"<PolledChannel {self._channel!r}>"

    async def wait_readable(self, deadline: float, bell: asyncio.Future[None]) -> None:
        """See `WaitingAsyncChannel.wait_readable`."""
        while not (self._kept or bell.done()) and self.now() < deadline:
            try:
                self._kept = self._channel.read(AT_ONCE)
            except PortLostError:  # the next read tells
                return
            await asyncio.sleep(_POLL_S)

    async def read(self, deadline: float) -> bytes:
        """See `AsyncChannel.read`."""
        while not (data := self._kept or self._channel.read(AT_ONCE)) and self.now() < deadline:
            await asyncio.sleep(_POLL_S)
        self._kept = b""
        return data

    async def write(self, data: bytes, deadline: float) -> None:
        """See `AsyncChannel.write`."""
        done, view = 0, memoryview(data)
        while (done := done + self._channel.write_some(view[done:])) < len(data):
            if self.now() >= deadline:
                raise write_timeout_error(self.name, done, len(data))
            await asyncio.sleep(_POLL_S)

    def close(self) -> None:
        """See `AsyncChannel.close`."""
        self._channel.close()


# --- opening --------------------------------------------------------------------------------------


def adopt(channel: Channel) -> AsyncFdChannel | PolledChannel:
    """Take over a port that is open. Raises PortError, and closes it, where the running loop cannot wait for it."""
    if isinstance(channel, FdChannel):
        return AsyncFdChannel(channel)
    if getattr(channel, "can_be_polled", False):
        return PolledChannel(cast("PollableChannel", channel))
    channel.close()
    raise cannot_be_awaited(channel.name, "pyserial alone waits for it, in threads")


def waiting(channel: object) -> WaitingAsyncChannel | None:
    """Give a channel that can be waited for beside requests, None where it cannot."""
    return cast("WaitingAsyncChannel", channel) if getattr(channel, "wait_readable", None) is not None else None


def cannot_be_awaited(port: str, reason: str) -> PortError:
    """Give the error for a port that no event loop can wait for."""
    return PortError(
        port,
        f"{port} cannot be used with asyncio: {reason}. Use socket://HOST:PORT (a serial line as a raw TCP stream, "
        "for example from ser2net), or the blocking microrpc.connect in a thread",
    )
