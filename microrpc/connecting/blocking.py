"""Opening a connection: from a port's name to a `Board` with a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from microrpc.boards.resets import open_reset
from microrpc.boards.schema import BoardProfile
from microrpc.client.board import Board
from microrpc.connecting.address import Target, board_log, find_target, framed_conversation, no_reset
from microrpc.host.requests import AnyConnection
from microrpc.host.stream import StreamConnection
from microrpc.ports.channel import Channel
from microrpc.ports.lost import RECONNECT_S, LostPort, OnReconnect, reconnect_log, reopen_port
from microrpc.ports.opening import open_serial, open_stream
from microrpc.wire.session import Timeouts

OnLog = Callable[[str], None]


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
) -> Board:
    """Open `port` and a session with the board behind it.

    port: a serial port ("/dev/ttyACM0", "COM3"); "sim://" or "sim://PROFILE", a simulated board behind a pty;
    "qemu://NAME", the board qemu_NAME in an emulator that is started, and ends with the connection (docs/firmware.md),
    and "emulated://NAME" for an emulated board of any name;
    "socket://HOST:PORT", a serial line carried over TCP; "tcp://HOST:PORT", an RPC server without frames;
    "unix:///PATH", a board that `microrpc share` shares (docs/sharing.md).
    board: a profile or its name, for baud rate, flow control and timeouts ("loopback", the generic one, where none is
    given). Without a port it is looked for by its USB ids, and must be plugged in once; an emulated one is started.
    baud (bits a second) and timeouts (seconds) overrule the profile. on_log: called with each line of the board's log,
    which goes to the logger "microrpc.board" in any case; it must not use the board. reset: reset the board first, as
    its profile says, and wait until it has booted; a simulated or emulated board begins anew in any case. link: use the
    reliable link where the board knows it (docs/link.md).
    reconnect: a port that goes away is not the end: the request under way ends in PortLostError, the next one waits up
    to reconnect_s seconds for the same board, whatever its port is called then (docs/reconnecting.md). It has no effect
    on simulated and emulated boards, which do not come back. on_reconnect: called when it is back, with whether it lost
    its memory; it must not use the board.

    Raises PortError and its kinds, HandshakeTimeoutError, ProfileError, FirmwareError.
    """
    target = find_target(port, board=board, baud=baud, timeouts=timeouts)
    if target.is_simulated:
        return _connect_simulator(target, on_log, link)
    if target.is_emulated:
        return _connect_emulator(target, on_log, link)
    lost = LostPort(target.port, wait_s=reconnect_s) if reconnect else None
    if target.stream_address is not None:
        if reset:
            raise no_reset(target)
        address = target.stream_address
        return _open(
            open_stream(address, target.timeouts.start_s),
            StreamConnection(timeouts=target.timeouts),
            target.timeouts,
            reopen=_reopen(lost, lambda _, timeout_s: open_stream(address, timeout_s)),
            on_reconnect=on_reconnect,
        )
    open_named = partial(open_serial, baud=target.baud, flow_control=target.profile.flow_control)
    if reset:
        port_log = board_log(target.port, on_log)
        serial_channel, _ = open_reset(target.port, target.profile, baud=target.baud, on_log=port_log)
    else:
        serial_channel = open_named(target.port)
    return open_board(
        serial_channel,
        target.timeouts,
        on_log,
        link=link,
        baud=target.baud,
        ring_bytes=target.ring_bytes,
        reopen=_reopen(lost, lambda name, timeout_s: open_named(name, timeout_s=timeout_s)),
        on_reconnect=on_reconnect,
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
) -> Board:
    """Open a session over a channel that is open already, for instance a simulated board's in memory.

    seed: of the session's nonces, for a run that can be repeated. link: as `connect` has it. baud: of the line, in bits
    a second, where there is one. ring_bytes: of the ring in front of a stock board's receive buffer, where it is known:
    copies use it. on_close: called last, when the board is closed. reopen: gives a new channel when this one went away,
    or raises PortError; without it that is the end. on_reconnect: as `connect` has it.
    """
    return _open(
        channel,
        framed_conversation(channel.name, timeouts, on_log, seed=seed, link=link, baud=baud, ring_bytes=ring_bytes),
        timeouts,
        on_close,
        reopen,
        on_reconnect,
    )


def _open(
    channel: Channel,
    conversation: AnyConnection,
    timeouts: Timeouts,
    on_close: Callable[[], None] = lambda: None,
    reopen: Callable[[], Channel] | None = None,
    on_reconnect: OnReconnect | None = None,
) -> Board:
    board = Board(
        channel,
        conversation,
        call_s=timeouts.call_s,
        on_close=on_close,
        reopen=reopen,
        on_reconnect=reconnect_log(channel.name, on_reconnect),
    )
    try:
        board.open()
    except BaseException:
        board.close()
        raise
    return board


def _reopen(lost: LostPort | None, open_named: Callable[[str, float], Channel]) -> Callable[[], Channel] | None:
    return partial(reopen_port, lost, open_named) if lost is not None else None


def _connect_simulator(target: Target, on_log: OnLog | None, link: bool) -> Board:
    from firmware_sim.running.server import PtyServer
    from firmware_sim.running.simulate import simulate

    server = PtyServer(simulate(target.profile))
    server.start()
    try:
        channel = open_serial(server.path, baud=target.profile.baud)
        return open_board(channel, target.timeouts, on_log, link=link, on_close=server.close)
    except BaseException:
        server.close()
        raise


def _connect_emulator(target: Target, on_log: OnLog | None, link: bool) -> Board:
    from microrpc.firmware.emulator import start_emulated

    emulator = start_emulated(target.board_name)
    try:
        channel = open_serial(emulator.port, baud=target.profile.baud)
        ring_bytes = target.ring_bytes
        return open_board(channel, target.timeouts, on_log, link=link, ring_bytes=ring_bytes, on_close=emulator.close)
    except BaseException:
        emulator.close()
        raise
