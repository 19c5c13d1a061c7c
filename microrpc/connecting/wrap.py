"""What sits between a port and its connection, and sees all that passes.

    trace = Trace()
    with microrpc.connect("/dev/ttyACM0", wrap=tapped(trace)) as board:
        board.function("add")(2, 3)
    for frame in trace.frames:
        print(frame.line(0.0))

The `wrap` of `connect` and `open_board` is a function: it is given a channel that was just opened, and gives the one
that the connection reads and writes. It is called again with each channel that is opened after the port was lost. With
`microrpc.aio` both are an `AsyncChannel`. What it gives must keep the name and the clock of what it was given, and
close that when it is closed. `tapped` makes a `wrap` that serves both clients.

A channel of one's own should also hand these on to the one that it was given. Nothing fails without them, but what they
are for is not done: `renew()` (settings of the port that another program changed are set again), `others()` (who else
has the port is named where no session comes about), `is_open` (a warning where nobody closed the board), and, where
calls block, `interrupt()` (`Board.close` ends what another thread waits for; else it closes the channel under it);
`wait_readable` (events arrive while the program asks nothing). `TappedChannel` does all that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload

from microrpc.errors import PortLostError
from microrpc.host.uncopyable import CONNECT_THERE, uncopyable
from microrpc.ports.channel import Channel, interrupt, others_on, renew

if TYPE_CHECKING:
    from microrpc.capture.trace import Trace
    from microrpc.capture.words import Frame
    from microrpc.ports.aio import AsyncChannel

ChannelT = TypeVar("ChannelT", Channel, "AsyncChannel")


class Tap(Protocol):
    """Sees what passes; `microrpc.capture.trace.Trace` is one.

    It may have more, which is told to those that do: `port_lost(time_s)` and `port_opened(time_s)`, by the channel's
    clock, and `comment(text)`, of what a simulated line does to the bytes, from whatever thread that lives in.
    """

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        """Take bytes that were read, or that are about to be written, at `time_s` of the channel's clock.

        They are those of one read or write, and no frame of their own. What it raises ends the request under way.
        """


def port_lost(tap: Tap, time_s: float) -> None:
    """Tell a tap that the port went away, where it has `port_lost(time_s)`."""
    tell = getattr(tap, "port_lost", None)
    if tell is not None:
        tell(time_s)


def port_opened(tap: Tap, time_s: float) -> None:
    """Tell a tap that a port was opened, the first time or again, where it has `port_opened(time_s)`."""
    tell = getattr(tap, "port_opened", None)
    if tell is not None:
        tell(time_s)


def tell_comments(tap: Tap, text: str) -> None:
    """Tell a tap in words what the bytes do not say, where it has `comment(text)`, which any thread may call."""
    tell = getattr(tap, "comment", None)
    if tell is not None:
        tell(text)


class _Tapped(Generic[ChannelT]):
    """What a tapped channel is in both clients."""

    def __init__(self, channel: ChannelT, tap: Tap) -> None:
        self.name = channel.name
        self.now = channel.now
        self._channel: ChannelT = channel
        self._tap = tap
        self._note = tap.note
        self._is_wanted = True

    __reduce_ex__ = uncopyable(CONNECT_THERE)

    @property
    def is_open(self) -> bool:
        """Whether a port is held."""
        return getattr(self._channel, "is_open", False)

    @property
    def wait_readable(self) -> Callable[..., Any] | None:
        """What waits beside the requests, where `channel` can; else None."""
        found: Callable[..., Any] | None = getattr(self._channel, "wait_readable", None)
        return found

    def renew(self) -> None:
        """Set the port as it was opened, where `channel` can."""
        renew(self._channel)

    def others(self) -> str:
        """Name the other programs that have the port open, where `channel` can tell."""
        return others_on(self._channel)

    def close(self) -> None:
        """Release the port."""
        self._is_wanted = False
        self._channel.close()

    def _tell_lost(self) -> None:
        """Tell that the port went away, which it has not where this program closed it."""
        if self._is_wanted:
            port_lost(self._tap, self.now())


class TappedChannel(_Tapped[Channel]):
    """A channel that shows `tap` all that passes; name and clock (`now`) are those of `channel`."""

    def read(self, deadline: float) -> bytes:
        """See `Channel.read`."""
        try:
            data = self._channel.read(deadline)
        except PortLostError:
            self._tell_lost()
            raise
        if data:
            self._note(self.now(), data, to_board=False)
        return data

    def write(self, data: bytes, deadline: float) -> None:
        """See `Channel.write`."""
        self._note(self.now(), data, to_board=True)
        try:
            self._channel.write(data, deadline)
        except PortLostError:
            self._tell_lost()
            raise

    def interrupt(self) -> None:
        """End what waits in another thread, where the channel can."""
        self._is_wanted = False
        interrupt(self._channel)


class TappedAsyncChannel(_Tapped["AsyncChannel"]):
    """A channel of asyncio that shows `tap` all that passes; name and clock (`now`) are those of `channel`."""

    async def read(self, deadline: float) -> bytes:
        """See `AsyncChannel.read`."""
        try:
            data = await self._channel.read(deadline)
        except PortLostError:
            self._tell_lost()
            raise
        if data:
            self._note(self.now(), data, to_board=False)
        return data

    async def write(self, data: bytes, deadline: float) -> None:
        """See `AsyncChannel.write`."""
        self._note(self.now(), data, to_board=True)
        try:
            await self._channel.write(data, deadline)
        except PortLostError:
            self._tell_lost()
            raise


@dataclass(frozen=True, slots=True)
class Tapping:
    """A `wrap` for both clients that shows `tap` all that passes; it sees the reset before a connection, too."""

    tap: Tap

    @overload
    def __call__(self, channel: Channel) -> TappedChannel: ...

    @overload
    def __call__(self, channel: AsyncChannel) -> TappedAsyncChannel: ...

    def __call__(self, channel: Channel | AsyncChannel) -> TappedChannel | TappedAsyncChannel:
        """Wrap a channel."""
        port_opened(self.tap, channel.now())
        if (tell_faults := getattr(channel, "tell_faults", None)) is not None:
            tell_faults(partial(tell_comments, self.tap))
        if inspect.iscoroutinefunction(channel.read):
            return TappedAsyncChannel(cast("AsyncChannel", channel), self.tap)
        return TappedChannel(cast("Channel", channel), self.tap)


def tapped(tap: Tap) -> Tapping:
    """Give a `wrap` for `connect` and `open_board` of both clients: `tap` sees all bytes, both ways, with their times.

    With `connect(reset=True)` what the board says after its reset is seen too.
    """
    return Tapping(tap)


def tap_of(wrap: object) -> Tap | None:
    """Give the tap of a `wrap` that `tapped` made; None for every other, which knows nothing of a reset."""
    return wrap.tap if isinstance(wrap, Tapping) else None


class RecordingChannel(TappedChannel):
    """A channel that notes in `trace` everything that passes; where none is given, in a new one."""

    def __init__(self, channel: Channel, trace: Trace | None = None) -> None:
        from microrpc.capture.trace import Trace

        self.trace = trace if trace is not None else Trace()
        super().__init__(channel, self.trace)

    @property
    def frames(self) -> list[Frame]:
        """See `Trace.frames`."""
        return self.trace.frames
