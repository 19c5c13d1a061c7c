"""All that watches a line: a capture, the logger of its frames, and what the program gave as `wrap`."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from microrpc.connecting.openers import Closable, Opened
from microrpc.connecting.wrap import Tap, port_lost, port_opened, tap_of, tapped, tell_comments
from microrpc.errors import CaptureError, RequestError, counted
from microrpc.host.requests import AnyConnection
from microrpc.wire.checks import show

if TYPE_CHECKING:
    from microrpc.capture.file import CaptureFile, Target

    CaptureTarget: TypeAlias = Target | CaptureFile
    """What a capture goes to: what `CaptureFile` takes, or one."""
else:  # what the reference shows: captures are loaded where one is asked for
    CaptureTarget = str | os.PathLike[str] | Any

_log = logging.getLogger("microrpc.connection")
_wire_log = logging.getLogger("microrpc.wire")  # of `microrpc.capture.wire_log`, which is loaded where it is heard

C = TypeVar("C", bound=Closable)

AnyWrap: TypeAlias = Callable[[Any], Any]
"""Gives the channel to use for one that was opened, in either client."""


def _nothing() -> None:
    """Close nothing."""


class _Taps:
    """Several taps as one."""

    def __init__(self, taps: Sequence[Tap]) -> None:
        self._taps = taps

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        for tap in self._taps:
            tap.note(time_s, data, to_board=to_board)

    def comment(self, text: str) -> None:
        for tap in self._taps:
            tell_comments(tap, text)

    def port_lost(self, time_s: float) -> None:
        for tap in self._taps:
            port_lost(tap, time_s)

    def port_opened(self, time_s: float) -> None:
        for tap in self._taps:
            port_opened(tap, time_s)


@dataclasses.dataclass(frozen=True, slots=True)
class _Checked:
    """A `wrap` of the program's, whose result is a channel; else what it was given is closed."""

    wrap: AnyWrap

    def __call__(self, channel: Any) -> Any:
        try:
            wrapped = self.wrap(channel)
            if not all(hasattr(wrapped, name) for name in ("name", "now", "read", "write", "close")):
                raise RequestError(f"wrap gives a channel, the one that it is given or its own, not {show(wrapped)}")
        except BaseException:
            channel.close()
            raise
        return wrapped


@dataclasses.dataclass(frozen=True, slots=True)
class Watch:
    """What watches one connection. Nothing of it is there, and nothing costs, where nobody asked for it.

    wrap: of its channels; the capture is next to the port, so that what the program wraps around it comes after it.
    tap: sees what is said while the board is reset, before there is a channel. close: of what was opened for it.
    """

    wrap: AnyWrap | None = None
    tap: Tap | None = None
    close: Callable[[], None] = _nothing

    def attend(self, opened: Opened[C]) -> Opened[C]:
        """Give what was opened, so that it closes this too, as the last thing."""

        def close() -> None:
            try:
                opened.on_close()
            finally:
                self.close()

        return dataclasses.replace(opened, on_close=close)


def watch(port: str, capture: CaptureTarget | None, wrap: AnyWrap | None, *, framed: bool, resets: bool) -> Watch:
    """Begin to watch a connection to `port`. Raises CaptureError where the capture cannot be written, or is of frames.

    framed: whether frames cross it. resets: the board is reset first.
    """
    tap_given = tap_of(wrap)
    wrap = None if wrap is None else _Checked(wrap)
    if not framed:
        if capture is not None:
            text = "what crosses it has no frames, which a capture is of: capture where the board is"
            raise CaptureError(f"{port}: {text} (`microrpc share --capture FILE`, `microrpc tvm serve --capture FILE`)")
        _wire_log.debug("%s packets cross it without frames, and are not shown", port)
        return Watch(wrap, tap_given)
    taps: list[Tap] = []
    close = _nothing
    if capture is not None:
        from microrpc.capture.writer import CaptureWriter

        writer = CaptureWriter(capture, port)
        taps.append(writer)
        close = writer.close
    if _wire_log.isEnabledFor(logging.DEBUG):
        from microrpc.capture.wire_log import WireLog

        taps.append(WireLog(port))
    if not taps:
        return Watch(wrap, tap_given)
    tap = taps[0] if len(taps) == 1 else _Taps(taps)
    if resets:
        tell_comments(tap, "the board is reset")
    inner = tapped(tap)
    return Watch(
        inner if wrap is None else lambda channel: wrap(inner(channel)),
        tap if tap_given is None else _Taps([tap, tap_given]),
        close,
    )


def tell_opened(port: str, connection: AnyConnection) -> None:
    """Log that a session is open."""
    session_id = connection.session_id
    _log.info("%s: %s", port, f"session 0x{session_id:04x} is open" if session_id else "connected, without frames")


def telling_closed(on_close: Callable[[], None], port: str, connection: AnyConnection) -> Callable[[], None]:
    """Give what is called last of a connection: it logs how that was, where somebody listens."""
    if not _log.isEnabledFor(logging.INFO):
        return on_close

    def close() -> None:
        stats = connection.stats
        link = getattr(connection, "link", None)
        how = "without the link" if link is None else f"link of {counted(link.window_requests, 'request')}"
        text = "%s: closed; %s; answered: %d, sent again by the link: %d, in a new session: %d, damaged: %d, resets: %d"
        counts = (stats.requests, stats.retransmissions, stats.repeats, stats.frames_damaged, stats.resets)
        _log.info(text, port, how, *counts)
        on_close()

    return close


def tell_port(opened: Opened[Any], port: str, profile: str) -> None:
    """Log which port was opened, and as which board."""
    if _log.isEnabledFor(logging.INFO):
        baud = f", {opened.baud} baud" if opened.baud is not None else ""
        _log.info("%s: open; board profile %s%s", port, profile, baud)
