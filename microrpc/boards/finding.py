"""Which boards are plugged in, told from the USB ids of the serial ports.

The ids are often those of a debug probe that many boards have, so that a port may belong to one of several boards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from microrpc.boards.schema import BoardProfile
from microrpc.errors import PortError, PortNotFoundError
from microrpc.ports.usb import serial_ports, usb_id

if TYPE_CHECKING:
    from serial.tools.list_ports_common import ListPortInfo


def boards_behind(port: ListPortInfo, known: Iterable[BoardProfile]) -> list[str]:
    """Give the names of the boards among `known` that have the USB id of `port`."""
    return [board.name for board in known if usb_id(port) in board.usb]


def find_port(board: BoardProfile, ports: Sequence[ListPortInfo] | None = None) -> str:
    """Give the name of the one port that has a USB id of `board`, among `ports` or else all that there are.

    Raises PortNotFoundError where there is none, and PortError where there are several or the profile has no ids;
    each says what was seen.
    """
    found = _find(board, ports)
    if len(found) == 1:
        return str(found[0].device)
    seen = ", ".join(map(_describe, found))
    raise PortError(
        "", f"{len(found)} ports may be {board.name}, by the USB id {_ids(board)}: {seen}. Name the one you mean"
    )


def find_ports(board: BoardProfile) -> list[str]:
    """Give the names of all ports that have a USB id of `board`, in the order of their names.

    Raises PortNotFoundError where there is none, and PortError where the profile has no ids.
    """
    return sorted(str(port.device) for port in _find(board, None))


def _find(board: BoardProfile, ports: Sequence[ListPortInfo] | None) -> list[ListPortInfo]:
    if not board.usb:
        text = f"the profile {board.name!r} has no USB ids to look for: name the port (`microrpc ports` lists them)"
        raise PortError("", text)
    there = serial_ports() if ports is None else ports
    found = [port for port in there if usb_id(port) in board.usb]
    if not found:
        seen = f"the ports there are: {', '.join(map(_describe, there))}" if there else "there is no serial port at all"
        text = f"no {board.name} is plugged in: no port has the USB id {_ids(board)}; {seen}"
        raise PortNotFoundError("", f"{text}. Check the cable, or name the port")
    return found


def _ids(board: BoardProfile) -> str:
    return " or ".join(map(str, board.usb))


def _describe(port: ListPortInfo) -> str:
    """Give a port with what tells it from its like: USB id, serial number, and where on the bus it is."""
    details = [str(usb_id(port) or "no USB device")]
    if port.serial_number:
        details.append(f"serial number {port.serial_number}")
    if port.location:
        details.append(f"at {port.location}")
    return f"{port.device} ({', '.join(details)})"
