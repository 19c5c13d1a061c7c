"""Finding a port again that went away: by its path, and by what its USB device told of itself (docs/reconnecting.md).

`connect(reconnect=True)` makes a `LostPort` while the port is open; when it is gone, `Reopening` waits for it.
asyncio has a twin of that in `microrpc.connecting.aio`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from microrpc.errors import PortError, PortNotFoundError
from microrpc.ports.channel import Channel, monotonic
from microrpc.ports.holders import is_pty
from microrpc.ports.usb import UsbId, serial_ports, usb_id
from microrpc.wire.checks import check_seconds

if TYPE_CHECKING:
    from serial.tools.list_ports_common import ListPortInfo

RECONNECT_S = 10.0
"""How long a request waits for a port to come back, where nothing else is said."""
POLL_S = 0.05
"""How often it is looked whether the port is back, in seconds."""


_Mark = tuple[tuple[int, int], tuple[int, int]]


def _mark(port: str) -> _Mark | None:
    """Tell a pty from a later one of its number, and a link from one that was made anew: give that of both."""
    if not is_pty(port):
        return None
    try:
        link, pty = os.lstat(port), os.stat(port)
    except OSError:
        return None
    return (link.st_ino, link.st_ctime_ns), (pty.st_ino, pty.st_ctime_ns)


def _resolve(port: str) -> str:
    return port if os.name == "nt" else os.path.realpath(port)


@dataclass(frozen=True, slots=True)
class SearchTools:
    """What finding a port needs of the computer. Tests put virtual ones in.

    `ports`: gives those that there are. `resolve`: gives where a link leads. `now`: a clock in seconds. `sleep`: waits
    for so many of them.
    """

    ports: Callable[[], Sequence[ListPortInfo]] = serial_ports
    resolve: Callable[[str], str] = _resolve
    now: Callable[[], float] = monotonic
    sleep: Callable[[float], None] = time.sleep


_TOOLS = SearchTools()


@dataclass(frozen=True, slots=True)
class UsbIdentity:
    """What tells one USB serial port from another: `usb`, `serial_number` where it has one, and `location`.

    The location is where on the bus it is, as pyserial writes it: "1-4:1.2".
    """

    usb: UsbId
    serial_number: str | None
    location: str | None

    @classmethod
    def of(cls, port: ListPortInfo) -> UsbIdentity | None:
        """Give a port's, None where it is not one of a USB device."""
        usb = usb_id(port)
        return cls(usb, port.serial_number or None, port.location or None) if usb is not None else None

    @property
    def is_telling(self) -> bool:
        """Whether it tells a board from another of its kind."""
        return self.serial_number is not None or self.location is not None

    @property
    def interface(self) -> str:
        """Which of its USB device's ports it is: "1.2" of the location "1-4:1.2"; empty where that has but one."""
        return (self.location or "").partition(":")[2]

    def find(self, ports: Iterable[ListPortInfo]) -> ListPortInfo | None:
        """Give the port that has this identity; None where none or more than one may.

        A serial number decides, wherever it is plugged in; the place only among those that have the same one, as
        cheap adapters do. Without a serial number only the place tells a board from another of its kind.
        """
        alike = self.alike(ports)
        if self.serial_number is None or len(alike) > 1:
            alike = [port for port in alike if port.location == self.location]
        return alike[0] if len(alike) == 1 else None

    def alike(self, ports: Iterable[ListPortInfo]) -> list[ListPortInfo]:
        """Give the ports that differ from it in no more than their place."""
        return [
            port
            for port in ports
            if (other := UsbIdentity.of(port)) is not None
            and (other.usb, other.interface) == (self.usb, self.interface)
            and self.serial_number in (None, other.serial_number)
        ]

    def __str__(self) -> str:
        serial_number = f", serial number {self.serial_number}" if self.serial_number is not None else ""
        return f"USB {self.usb}{serial_number}{f', at {self.location}' if self.location is not None else ''}"


class LostPort:
    """A port that may go away: make it while it is there, ask it for the port's name when it is gone.

    `port` is what the user named: a device, a link to one, or a URL, which only its own name finds again. `identity` is
    what its USB device is known by, None where there is none. `wait_s`: how long, in seconds, whoever needs it waits.
    `afterwards`: what becomes of it after that, in words. `tools`: what finding it needs of the computer.
    """

    def __init__(
        self,
        port: str,
        *,
        wait_s: float = RECONNECT_S,
        afterwards: str = "the next request looks again",
        tools: SearchTools = _TOOLS,
    ) -> None:
        self.port = port
        self.afterwards = afterwards
        self.wait_s = check_seconds(wait_s, "wait_s", may_be_zero=True)
        self.tools = tools
        self._mark = _mark(port)
        there = self._port_named() if "://" not in port else None
        self.identity = UsbIdentity.of(there) if there is not None else None
        if self.identity is not None and len(self.identity.alike(tools.ports())) > 1:
            self.identity = replace(self.identity, serial_number=None)  # its maker gave it to more than one

    def find(self) -> str | None:
        """Give the name under which to open it now, None while it is not there. Where no USB device tells, its name.

        The number of a pty goes to whoever makes the next one, a terminal perhaps: that is not the board's. Nor is one
        opened by its name while there is none: it may be another's by then, and what that says first would be lost.
        """
        if self.identity is None:
            return self.port if self._mark is None or self._is_ours(_mark(self.port)) else None
        if self.identity.is_telling:
            found = self.identity.find(self.tools.ports())
        else:
            found = self._port_named()
            found = found if found is not None and UsbIdentity.of(found) == self.identity else None
        if found is None:
            return None
        device = str(found.device)
        return self.port if self.tools.resolve(self.port) == device else device

    def not_back(self, last_error: PortError | None) -> PortNotFoundError:
        """Give the error for a port that did not come back in time, `last_error` being that of the last try to open."""
        what = self.port if self.identity is None else f"{self.port} ({self.identity})"
        pty = _mark(self.port) if self._mark is not None else None
        if pty is not None and not self._is_ours(pty):
            seen = "another program's pty has its number now; a link (`microrpc sim --link`) leads to the next one"
        elif last_error is not None:
            seen = str(last_error)
        elif self._mark is not None:
            seen = f"there is no port {self.port}"
        else:
            ports = [f"{port.device} ({UsbIdentity.of(port) or 'no USB device'})" for port in self.tools.ports()]
            seen = f"the ports there are: {', '.join(ports)}" if ports else "there is no serial port at all"
        text = f"{what} went away and was not back within {self.wait_s:g} s: {seen}"
        return PortNotFoundError(self.port, f"{text}. Check the cable and the power; {self.afterwards}")

    def _is_ours(self, pty: _Mark | None) -> bool:
        """Whether a pty is the one that there was. If not, a link that somebody made since leads to the board."""
        if pty is None or self._mark is None:
            return not is_pty(self.port) and os.path.exists(self.port)
        return pty[1] == self._mark[1] or (pty[0] != self._mark[0] and os.path.islink(self.port))

    def _port_named(self) -> ListPortInfo | None:
        device = self.tools.resolve(self.port)
        return next((port for port in self.tools.ports() if port.device.upper() == device.upper()), None)


class Reopening:
    """What waits until a port is back, and opens it; `open_port` is given its name and how many seconds it may take.

    Called with how many seconds it may wait; `LostPort.wait_s` where it is not told.
    """

    def __init__(self, lost: LostPort, open_port: Callable[[str, float], Channel]) -> None:
        self._lost = lost
        self._open_port = open_port
        self._is_wanted = True

    def __call__(self, within_s: float | None = None) -> Channel:
        """Wait and open. Raises PortNotFoundError when that time is over, or after `interrupt`."""
        lost, tools = self._lost, self._lost.tools
        deadline = tools.now() + (lost.wait_s if within_s is None else within_s)
        while True:
            error = None
            if (name := lost.find()) is not None:
                try:
                    return self._open_port(name, max(deadline - tools.now(), POLL_S))
                except PortError as failure:  # it is there, but its permissions may not be, or somebody probes it
                    error = failure
            if tools.now() >= deadline or not self._is_wanted:
                raise lost.not_back(error) from error
            tools.sleep(POLL_S)

    def interrupt(self) -> None:
        """End the waiting, from another thread."""
        self._is_wanted = False
