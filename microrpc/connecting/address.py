"""What a connection is made to: which port, which board is behind it, and the conversation to have with it.

The blocking and the asyncio client have this in common; they differ in how they open the port and wait.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from microrpc.boards.catalogue import profile
from microrpc.boards.finding import find_port
from microrpc.boards.schema import BoardKind, BoardProfile
from microrpc.errors import PortError
from microrpc.firmware.project import has_port, port_names
from microrpc.host.connection import Connection
from microrpc.wire.session import Timeouts
from microrpc.wire.uart import BITS_PER_BYTE

log = logging.getLogger("microrpc.board")

DEFAULT_PROFILE = "loopback"
SIMULATOR_SCHEME = "sim://"
STREAM_SCHEME = "tcp://"
SHARED_SCHEME = "unix://"
EMULATED_SCHEME = "emulated://"
QEMU_SCHEME = "qemu://"
_QEMU_PREFIX = "qemu_"  # of the names of boards that QEMU emulates


@dataclass(frozen=True, slots=True)
class Target:
    """A port with what is known about the board behind it; `baud` in bits a second.

    `ring_bytes` is the size of the ring in front of the board's receive buffer, 0 where no board was named.
    """

    port: str
    profile: BoardProfile
    baud: int
    timeouts: Timeouts
    ring_bytes: int = 0

    @property
    def is_simulated(self) -> bool:
        """Whether the board is to be simulated."""
        return self.port.startswith(SIMULATOR_SCHEME)

    @property
    def is_emulated(self) -> bool:
        """Whether the board's emulator is to be started."""
        return is_emulated(self.port)

    @property
    def board_name(self) -> str:
        """Which board is simulated or emulated: the one that the port names, else that of the profile."""
        return named_board(self.port) or self.profile.name

    @property
    def stream_address(self) -> tuple[str, int] | str | None:
        """Where an RPC server without frames is, None for every other port. Raises PortError.

        Host and port (tcp://), or the path of the Unix socket of a board that is shared (unix://).
        """
        if self.port.startswith(SHARED_SCHEME):
            return self.port.removeprefix(SHARED_SCHEME)
        if not self.port.startswith(STREAM_SCHEME):
            return None
        host, _, number = self.port.removeprefix(STREAM_SCHEME).rpartition(":")
        if not host or not (number.isascii() and number.isdigit()):
            raise PortError(self.port, f"{self.port}: a server's address is tcp://HOST:PORT")
        return host, int(number)


def find_target(
    port: str | None, *, board: str | BoardProfile | None, baud: int | None, timeouts: Timeouts | None
) -> Target:
    """Put together what `connect` was told, and what the board's profile says where it was told nothing.

    Without a port the one that the board is plugged into is looked for; a simulated or emulated board needs none.
    Raises ProfileError, and PortError and PortNotFoundError where the port cannot be told, or names another board.
    """
    if port is not None and is_emulated(port) and not has_port(named_board(port)):
        known = ", ".join(port_of_emulated(name) for name in port_names())
        raise PortError(port, f"{port}: microrpc has no firmware of that name to emulate. There are: {known or 'none'}")
    name = named_board(port) if port is not None else ""
    other = board.name if isinstance(board, BoardProfile) else board
    if port is not None and name and other not in (None, name):
        raise PortError(port, f"{port} is the board {name}, and the board that is named is {other}: name one of them")
    chosen = board if isinstance(board, BoardProfile) else profile(name or board or DEFAULT_PROFILE)
    if port is None:
        if board is None:
            raise PortError("", "no port and no board is given: name a port (`microrpc ports`), or the board to find")
        port = _port_of(chosen)
    # The generic profile tells nothing of a real board's ring.
    is_known = chosen.kind is not BoardKind.SIMULATED or port.startswith(SIMULATOR_SCHEME)
    ring_bytes = chosen.receive_ring_bytes if is_known else 0
    return Target(port, chosen, baud or chosen.baud, timeouts or chosen.timeouts, ring_bytes)


def named_board(port: str) -> str:
    """Give the profile that a URL names: of sim://NAME, emulated://NAME, and qemu://NAME for qemu_NAME; else ""."""
    scheme, separator, name = port.partition("://")
    if scheme + separator == QEMU_SCHEME:
        return _QEMU_PREFIX + name
    return name if scheme + separator in (SIMULATOR_SCHEME, EMULATED_SCHEME) else ""


def is_emulated(port: str) -> bool:
    """Whether the port is a board in an emulator that microrpc starts."""
    return port.startswith((EMULATED_SCHEME, QEMU_SCHEME))


def port_of_emulated(name: str) -> str:
    """Give what `connect` takes as the port of an emulated board."""
    return QEMU_SCHEME + name.removeprefix(_QEMU_PREFIX) if name.startswith(_QEMU_PREFIX) else EMULATED_SCHEME + name


def is_started_here(board: BoardProfile) -> bool:
    """Whether microrpc has firmware for this emulated board, and can start it."""
    return board.kind is BoardKind.EMULATED and has_port(board.name)


def _port_of(board: BoardProfile) -> str:
    if board.kind is BoardKind.SIMULATED:
        return SIMULATOR_SCHEME + board.name
    if is_started_here(board):
        return port_of_emulated(board.name)
    if board.kind is BoardKind.EMULATED:
        text = f"{board.name} is emulated: start the emulator with the board's UART on a pty, and give that as the port"
        raise PortError("", text)
    return find_port(board)


def board_log(name: str, on_log: Callable[[str], None] | None) -> Callable[[str], None]:
    """Give what the log of the board on the port `name` goes to: "microrpc.board", and `on_log` where there is one."""

    def pass_log(text: str) -> None:
        log.info("%s: %s", name, text)
        if on_log is not None:
            try:
                on_log(text)
            except Exception:  # the caller's function must not break the conversation that it listens to
                log.exception("on_log raised")

    return pass_log


def no_reset(target: Target) -> PortError:
    """Give the error for a reset that is asked of a server without frames."""
    return PortError(target.port, f"{target.port} is a server without frames, which cannot be reset from here")


def framed_conversation(
    name: str,
    timeouts: Timeouts,
    on_log: Callable[[str], None] | None,
    *,
    seed: int | None = None,
    link: bool = True,
    baud: int | None = None,
    ring_bytes: int = 0,
) -> Connection:
    """Make a conversation with the board on the port `name`, whose log goes where `board_log` says.

    seed: of the session's nonces; drawn from the system where it is None. link: use the link extension where the board
    knows it (docs/link.md). baud: of the line, in bits a second, None where it has none that one could wait for.
    ring_bytes: of the ring in front of a stock board's receive buffer, where that is known.
    """
    connection = Connection(
        seed=secrets.randbits(64) if seed is None else seed,
        timeouts=timeouts,
        on_log=board_log(name, on_log),
        link=link,
        ring_bytes=ring_bytes,
        byte_s=BITS_PER_BYTE / baud if baud else 0.0,
    )
    connection.counters.baud = baud
    return connection
