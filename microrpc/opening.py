"""Opening a connection: from a port's name to a `Board` with a session."""

from __future__ import annotations

from collections.abc import Callable

from microrpc.boards import BoardProfile
from microrpc.channel import Channel, open_serial, open_tcp
from microrpc.client import Board, PumpedConversation
from microrpc.resets import open_reset
from microrpc.session import Timeouts
from microrpc.stream import StreamConversation
from microrpc.target import Target, board_log, find_target, framed_conversation, no_reset

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
) -> Board:
    """Open `port` and a session with the board behind it.

    port: a serial port ("/dev/ttyACM0", "COM3"); "sim://" or "sim://PROFILE", a simulated board behind a pty;
    "socket://HOST:PORT", a serial line carried over TCP; "tcp://HOST:PORT", an RPC server without frames.
    board: a profile or its name, for baud rate, flow control and timeouts ("loopback", the generic one, where none is
    given). Without a port it is looked for by its USB ids, and must be plugged in once.
    baud (bits a second) and timeouts (seconds) overrule the profile. on_log: called with each line of the board's log,
    which goes to the logger "microrpc.board" in any case; it must not use the board. reset: reset the board first, as
    its profile says, and wait until it has booted; a simulated board begins anew in any case. link: use the reliable
    link where the board knows it (docs/link.md).

    Raises PortError and its kinds, HandshakeTimeoutError, ProfileError.
    """
    target = find_target(port, board=board, baud=baud, timeouts=timeouts)
    if target.is_simulated:
        return _connect_simulator(target, on_log, link)
    if target.stream_address is not None:
        if reset:
            raise no_reset(target)
        channel = open_tcp(*target.stream_address, target.timeouts.start_s)
        return _open(channel, StreamConversation(timeouts=target.timeouts), target.timeouts)
    if reset:
        port_log = board_log(target.port, on_log)
        serial_channel, _ = open_reset(target.port, target.profile, baud=target.baud, on_log=port_log)
    else:
        serial_channel = open_serial(target.port, baud=target.baud, flow_control=target.profile.flow_control)
    return open_board(serial_channel, target.timeouts, on_log, link=link, baud=target.baud)


def open_board(
    channel: Channel,
    timeouts: Timeouts,
    on_log: OnLog | None = None,
    *,
    seed: int | None = None,
    link: bool = True,
    baud: int | None = None,
    on_close: Callable[[], None] = lambda: None,
) -> Board:
    """Open a session over a channel that is open already, for instance a simulated board's in memory.

    seed: of the session's nonces, for a run that can be repeated. link: as `connect` has it. baud: of the line, in bits
    a second, where there is one. on_close: called last, when the board is closed.
    """
    return _open(
        channel,
        framed_conversation(channel.name, timeouts, on_log, seed=seed, link=link, baud=baud),
        timeouts,
        on_close,
    )


def _open(
    channel: Channel,
    conversation: PumpedConversation,
    timeouts: Timeouts,
    on_close: Callable[[], None] = lambda: None,
) -> Board:
    board = Board(channel, conversation, call_s=timeouts.call_s, on_close=on_close)
    try:
        board.open()
    except BaseException:
        board.close()
        raise
    return board


def _connect_simulator(target: Target, on_log: OnLog | None, link: bool) -> Board:
    from firmware_sim.serve import PtyServer  # the one place where the host knows the simulator
    from firmware_sim.simulate import simulate

    server = PtyServer(simulate(target.profile))
    server.start()
    try:
        channel = open_serial(server.path, baud=target.profile.baud)
        return open_board(channel, target.timeouts, on_log, link=link, on_close=server.close)
    except BaseException:
        server.close()
        raise
