"""What an address means: which port, which board is behind it, and what its profile says of them. No I/O is done here.

docs/firmware.md and docs/sharing.md have the addresses of emulated and shared boards.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from microrpc.boards.catalogue import profile
from microrpc.boards.finding import find_port
from microrpc.boards.schema import BoardKind, BoardProfile
from microrpc.errors import PortError, RequestError
from microrpc.firmware.project import emulated_names, has_port
from microrpc.ports.channel import port_name
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions
from microrpc.ports.urls import address_in
from microrpc.wire.checks import check_baud
from microrpc.wire.session import Timeouts
from microrpc.wire.uart import FlowControl

DEFAULT_PROFILE = "loopback"
"""The board that is meant where none is named."""
SIMULATOR_SCHEME = "sim://"
"""Begins the address of a simulated board."""
EMULATED_SCHEME = "emulated://"
"""Begins the address of an emulated board."""
QEMU_SCHEME = "qemu://"
"""Begins the address of a board that QEMU emulates."""
_QEMU_PREFIX = "qemu_"  # of the names of boards that QEMU emulates


@dataclass(frozen=True, slots=True)
class Target:
    """A port with what is known about the board behind it: its profile, its timeouts, its `baud` in bits a second.

    `ring_bytes` is the size of the ring in front of the board's receive buffer, 0 where no board was named, or its
    profile does not state it; `options` are those of its port.
    """

    port: str
    profile: BoardProfile
    baud: int
    timeouts: Timeouts
    ring_bytes: int = 0
    options: PortOptions = AS_THE_SYSTEM_DOES

    @property
    def scheme(self) -> str:
        """What stands before "://" in the port; "" where it is a device."""
        return scheme_of(self.port)

    @property
    def is_emulated(self) -> bool:
        """Whether the board's emulator is to be started."""
        return is_emulated(self.port)

    @property
    def board_name(self) -> str:
        """Which board is simulated or emulated: the one that the port names, else that of the profile."""
        return named_board(self.port) or self.profile.name

    @property
    def server_address(self) -> tuple[str, int]:
        """Host and port of tcp://HOST:PORT. Raises PortError where one is missing."""
        return address_in(self.port)

    @property
    def socket_path(self) -> str:
        """The path of unix:///PATH."""
        return _rest(self.port)


def find_target(
    port: str | os.PathLike[str] | None,
    *,
    board: str | BoardProfile | None,
    baud: int | None,
    timeouts: Timeouts | None,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> Target:
    """Put together what `connect` was told, and what the board's profile says where it was told nothing.

    Without a port the one that the board is plugged into is looked for; a simulated or emulated board needs none.
    Raises ProfileError, PortError and PortNotFoundError where the port cannot be told, or names another board, and
    RequestError for what is no baud rate, and for options that the port cannot have.
    """
    if baud is not None:
        baud = check_baud(baud)
    if port is not None:
        scheme, separator, rest = port_name(port).partition("://")
        port = scheme.lower() + separator + rest if separator else scheme
    if port is not None and is_emulated(port) and not has_port(named_board(port)):
        known = ", ".join(port_of_emulated(name) for name in emulated_names())
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
    ring_bytes = chosen.receive_ring_bytes if is_known else None
    chosen_options = options.over(chosen.port_options)
    if chosen_options.rts is not None and chosen.flow_control is FlowControl.RTS_CTS:
        raise RequestError(f"rts cannot be set for {chosen.name}: its flow control, 'rts-cts', has that line")
    rate = chosen.baud if baud is None else baud
    return Target(port, chosen, rate, timeouts or chosen.timeouts, ring_bytes or 0, chosen_options)


def scheme_of(port: str) -> str:
    """Give what stands before "://" in a URL; "" for a device."""
    scheme, separator, _ = port.partition("://")
    return scheme if separator else ""


def _rest(port: str) -> str:
    return port.partition("://")[2]


def named_board(port: str) -> str:
    """Give the profile that a URL names: of sim://NAME, emulated://NAME, and qemu://NAME for qemu_NAME; else ""."""
    if port.startswith(QEMU_SCHEME):
        return _QEMU_PREFIX + _rest(port)
    return _rest(port) if port.startswith((SIMULATOR_SCHEME, EMULATED_SCHEME)) else ""


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
