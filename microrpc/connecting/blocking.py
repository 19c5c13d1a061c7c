"""Opening a connection: from a port's name to a `Board` with a session.

An address is told what it means (`address`), opened (`openers`), wrapped (`wrap`), and given a connection.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from microrpc.boards.descriptions import DescriptionCache, cache_for
from microrpc.boards.schema import BoardProfile
from microrpc.client.board import Board
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
from microrpc.connecting.openers import Opened, has_frames, open_target
from microrpc.connecting.watching import CaptureTarget, Watch, tell_opened, tell_port, telling_closed, watch
from microrpc.ports.channel import Channel, interrupt
from microrpc.ports.lost import RECONNECT_S, LostPort, Reopening
from microrpc.ports.options import PortOptions
from microrpc.ports.registry import collect_dropped
from microrpc.wire.checks import check_seconds
from microrpc.wire.session import Timeouts

Wrap = Callable[[Channel], Channel]
"""See `microrpc.connecting.wrap`."""


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
) -> Board:
    """Open `port` and a session with the board behind it.

    port: a serial port ("/dev/ttyACM0", "COM3"); "sim://" or "sim://PROFILE", a simulated board behind a pty;
    "qemu://NAME", the board qemu_NAME in an emulator that is started, and ends with the connection (docs/firmware.md),
    and "emulated://NAME" for an emulated board of any name;
    "socket://HOST:PORT", a serial line carried over TCP; "rfc2217://HOST:PORT" and other URLs of pyserial;
    "tcp://HOST:PORT", an RPC server without frames; "tvm://HOST:PORT?key=KEY", a board that `microrpc tvm serve` serves
    (docs/tvm_serve.md); "unix:///PATH", a board that `microrpc share` shares (docs/sharing.md).
    board: a profile or its name, for baud rate, flow control and timeouts ("loopback", the generic one, where none is
    given). Without a port it is looked for by its USB ids, and must be plugged in once; an emulated one is started.
    baud (bits a second) and timeouts (seconds) overrule the profile. on_log: called with each line of the board's log,
    which goes to the logger "microrpc.board" in any case, and with each line that the board prints beside its frames,
    which goes to "microrpc.text"; it must not use the board. reset: reset the board first, as its profile says, and
    wait until it has booted; a simulated or emulated board begins anew in any case. release: free first what earlier
    programs have left in the board's memory, as `Board.release_all` does. link: use the reliable link where the board
    knows it (docs/link.md).
    dtr, rts: the port's modem lines while it is open; True asserts one, and so does None where the profile says
    nothing. hang_up: whether closing the port drops them. low_latency: whether it hands on at once what arrives
    (docs/boards.md, "Modem lines and latency"). All four overrule the profile, and have no effect on what is no serial
    port.
    reconnect: a port that goes away is not the end: the request under way ends in PortLostError, the next one waits up
    to reconnect_s seconds for the same board, whatever its port is called then (docs/reconnecting.md). It has no effect
    on simulated and emulated boards, which do not come back. on_reconnect: called when it is back, with whether it lost
    its memory; it must not use the board. on_reset: called each time that the board is seen to have lost its memory, if
    anything was asked of it before, and requests that use nothing from before go on; it must not use the board. Without
    it the first request after a reset that no error told of raises BoardResetError, once (docs/errors.md). wrap: given
    the channel that was opened, and each that is opened after the port was lost; gives the one that the connection uses
    (docs/testing.md). `microrpc.connecting.wrap.tapped` makes one that shows all bytes. capture: the path of a file, or
    a stream that takes bytes, to which all that crosses the line is written, until the board is closed, for Wireshark
    and `microrpc decode`; or a `microrpc.capture.file.CaptureFile`, for several boards (docs/capture.md). It is opened
    before the port. Nothing without frames can be captured: tcp, tvm and unix.

    Raises PortError and its kinds, HandshakeTimeoutError, ProfileError, FirmwareError, CaptureError, RequestError for a
    duration or a baud rate that cannot be, and with `release` what `Board.release_all` raises.
    """
    check_options(
        Timeouts() if timeouts is None else timeouts,
        {"reset": reset, "release": release, "link": link, "reconnect": reconnect},
        on_log=on_log,
        on_reconnect=on_reconnect,
        on_reset=on_reset,
        wrap=wrap,
    )
    reconnect_s = check_seconds(reconnect_s, "reconnect_s", may_be_zero=True)
    target = find_target(
        port, board=board, baud=baud, timeouts=timeouts, options=PortOptions(dtr, rts, hang_up, low_latency)
    )
    collect_dropped(target.port)
    lost = LostPort(target.port, wait_s=reconnect_s) if reconnect else None
    watched = watch(target.port, capture, wrap, framed=has_frames(target), resets=reset)
    try:
        opened = open_target(target, reset_first(target.port, on_log, watched.tap) if reset else None)
    except BaseException:
        watched.close()
        raise
    tell_port(opened, target.port, target.profile.name)
    return open_session(
        opened,
        target.timeouts,
        on_log,
        link=link,
        reopen=Reopening(lost, opened.reopen) if lost is not None and opened.reopen is not None else None,
        reconnect_s=reconnect_s,
        release=release,
        on_reconnect=on_reconnect,
        on_reset=on_reset,
        watched=watched,
        cache=cache_for(target.port),
    )


def open_board(
    channel: Channel,
    timeouts: Timeouts,
    on_log: OnLog | None = None,
    *,
    seed: int | None = None,
    link: bool = True,
    baud: int | None = None,
    ring_bytes: int = 0,
    on_close: Callable[[], None] = lambda: None,
    reopen: Callable[[], Channel] | None = None,
    on_reconnect: OnReconnect | None = None,
    on_reset: OnReset | None = None,
    wrap: Wrap | None = None,
    capture: CaptureTarget | None = None,
) -> Board:
    """Open a session over a channel that is open already, for instance a simulated board's in memory.

    seed: of the session's nonces, for a run that can be repeated. link: as `connect` has it. baud: of the line, in bits
    a second, where there is one. ring_bytes: of the ring in front of a stock board's receive buffer, where it is known:
    copies use it. on_close: called last, when the board is closed. reopen: gives a new channel when this one went away,
    or raises PortError; without it that is the end. on_reconnect, on_reset, wrap, capture: as `connect` has them.

    Raises HandshakeTimeoutError, PortLostError, CaptureError, and RequestError for a baud rate or size that cannot be.
    """
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
    return open_session(
        opened,
        timeouts,
        on_log,
        seed=seed,
        link=link,
        reopen=_Patient(reopen) if reopen is not None else None,
        on_reconnect=on_reconnect,
        on_reset=on_reset,
        wrap=wrap,
        capture=capture,
    )


@dataclass(frozen=True, slots=True)
class _Patient:
    """Opens a port again by a function of a user's own, which waits as long as it likes."""

    reopen: Callable[[], Channel]

    def __call__(self, within_s: float) -> Channel:
        return self.reopen()

    def interrupt(self) -> None:
        interrupt(self.reopen)


@dataclass(frozen=True, slots=True)
class _Rewrapped:
    """Opens a port again, within so many seconds, and wraps it."""

    wrap: Wrap
    reopen: Callable[[float], Channel]

    def __call__(self, within_s: float) -> Channel:
        return self.wrap(self.reopen(within_s))

    def interrupt(self) -> None:
        interrupt(self.reopen)


def open_session(
    opened: Opened[Channel],
    timeouts: Timeouts,
    on_log: OnLog | None = None,
    *,
    seed: int | None = None,
    link: bool = True,
    release: bool = False,
    reopen: Callable[[float], Channel] | None = None,
    reconnect_s: float = 0.0,
    on_reconnect: OnReconnect | None = None,
    on_reset: OnReset | None = None,
    wrap: Wrap | None = None,
    capture: CaptureTarget | None = None,
    watched: Watch | None = None,
    cache: DescriptionCache | None = None,
) -> Board:
    """Open a session over what an opener gave; the arguments are those of `connect` and `open_board`.

    watched: what watches the line already, in place of `wrap` and `capture`. cache: of what boards tell of themselves.
    """
    try:
        if watched is None:
            watched = watch(opened.channel.name, capture, wrap, framed=not opened.is_stream, resets=False)
        opened, wrap = watched.attend(opened), watched.wrap
        connection = make_connection(opened, timeouts, on_log, seed=seed, link=link, on_reset=on_reset)
        board = Board(
            wrap(opened.channel) if wrap is not None else opened.channel,
            connection,
            call_s=timeouts.call_s,
            on_close=telling_closed(opened.on_close, opened.channel.name, connection),
            reopen=reopen if wrap is None or reopen is None else _Rewrapped(wrap, reopen),
            reconnect_s=reconnect_s,
            on_reconnect=reconnect_log(opened.channel.name, on_reconnect),
        )
    except BaseException:
        opened.close()
        raise
    board.operations.described.store = cache
    try:
        board.open()
        tell_opened(opened.channel.name, connection)
        if release:
            board.release_all()
    except BaseException:
        board.close()
        raise
    return board
