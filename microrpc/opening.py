"""Opening a connection: from a port's name to a `Board` with a session."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable

from microrpc.boards import BoardProfile, profile
from microrpc.channel import Channel, open_serial, open_tcp
from microrpc.client import Board, PumpedConversation
from microrpc.conversation import Conversation
from microrpc.errors import PortError
from microrpc.session import Timeouts
from microrpc.stream import StreamConversation

log = logging.getLogger("microrpc.board")

DEFAULT_PROFILE = "loopback"
SIMULATOR_SCHEME = "sim://"
STREAM_SCHEME = "tcp://"


def connect(
    port: str,
    *,
    board: str | BoardProfile | None = None,
    baud: int | None = None,
    timeouts: Timeouts | None = None,
    on_log: Callable[[str], None] | None = None,
) -> Board:
    """Open `port` and a session with the board behind it.

    port: a serial port ("/dev/ttyACM0", "COM3"); "sim://" or "sim://PROFILE", a simulated board behind a pty;
    "socket://HOST:PORT", a serial line carried over TCP; "tcp://HOST:PORT", an RPC server without frames.
    board: a profile or its name, for baud rate and timeouts ("loopback", the generic one, where none is given).
    baud (bits a second) and timeouts (seconds) overrule the profile. on_log: called with each line of the board's log,
    which goes to the logger "microrpc.board" in any case; it must not use the board.

    Raises PortError and its kinds, HandshakeTimeoutError, ProfileError.
    """
    if port.startswith(SIMULATOR_SCHEME):
        return _connect_simulator(port, board=board, timeouts=timeouts, on_log=on_log)
    chosen = board if isinstance(board, BoardProfile) else profile(board or DEFAULT_PROFILE)
    waits = timeouts or chosen.timeouts
    if port.startswith(STREAM_SCHEME):
        host, _, number = port.removeprefix(STREAM_SCHEME).rpartition(":")
        if not host or not number.isdigit():
            raise PortError(port, f"{port}: a server's address is tcp://HOST:PORT")
        channel = open_tcp(host, int(number), waits.start_s)
        return _open(channel, StreamConversation(timeouts=waits), waits)
    return _open_framed(open_serial(port, baud=baud or chosen.baud), waits, on_log)


def open_board(channel: Channel, timeouts: Timeouts, on_log: Callable[[str], None] | None = None) -> Board:
    """Open a session over a channel that is open already, for instance a simulated board's in memory."""
    return _open_framed(channel, timeouts, on_log)


def _open_framed(
    channel: Channel,
    timeouts: Timeouts,
    on_log: Callable[[str], None] | None,
    on_close: Callable[[], None] = lambda: None,
) -> Board:
    def pass_log(text: str) -> None:
        log.info("%s: %s", channel.name, text)
        if on_log is not None:
            try:
                on_log(text)
            except Exception:  # the caller's function must not break the conversation that it listens to
                log.exception("on_log raised")

    conversation = Conversation(seed=secrets.randbits(64), timeouts=timeouts, on_log=pass_log)
    return _open(channel, conversation, timeouts, on_close)


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


def _connect_simulator(
    port: str,
    *,
    board: str | BoardProfile | None,
    timeouts: Timeouts | None,
    on_log: Callable[[str], None] | None,
) -> Board:
    from firmware_sim.serve import PtyServer  # the one place where the host knows the simulator
    from firmware_sim.simulate import simulate

    name = port.removeprefix(SIMULATOR_SCHEME)
    chosen = board if isinstance(board, BoardProfile) else profile(name or board or DEFAULT_PROFILE)
    server = PtyServer(simulate(chosen))
    server.start()
    try:
        channel = open_serial(server.path, baud=chosen.baud)
        return _open_framed(channel, timeouts or chosen.timeouts, on_log, server.close)
    except BaseException:
        server.close()
        raise
