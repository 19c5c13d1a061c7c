"""The port of a board that was flashed and boots: it may be away meanwhile, and then have another name and USB id."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from microrpc.boards.finding import find_port
from microrpc.boards.schema import BoardProfile
from microrpc.errors import HandshakeTimeoutError, PortError, PortNotFoundError
from microrpc.ports.lost import POLL_S, LostPort
from microrpc.ports.usb import serial_ports, usb_id

if TYPE_CHECKING:
    from serial.tools.list_ports_common import ListPortInfo

T = TypeVar("T")

BACK_S = 10.0
"""How long the port of a board that was flashed may be away, in seconds, besides the board's `power_up_s`."""


class BootedPort:
    """Where a board is found when it has booted: make it before the board is flashed, of the `port` that it has then.

    Without one it is the port that then has appeared, by the USB ids of the `profile`.
    """

    def __init__(self, profile: BoardProfile, port: str | None) -> None:
        self._profile = profile
        self._wait_s = BACK_S + profile.power_up_s
        remedy = "else the program that it was given does not start"
        self._lost = LostPort(port, wait_s=self._wait_s, afterwards=remedy) if port is not None else None
        self._before = {str(each.device) for each in self._candidates()}

    @property
    def can_be_known(self) -> bool:
        """Whether there is anything that tells it."""
        return self._lost is not None or bool(self._profile.usb)

    def look(self, open_on: Callable[[str], T]) -> T | None:
        """Wait for it, and give what `open_on` makes of its name; None where no port was known, and none came.

        Where that raises PortError or HandshakeTimeoutError it is tried again, until the time is over. Raises what the
        last try did, and PortNotFoundError.
        """
        deadline = time.monotonic() + self._wait_s
        while True:
            error: PortError | HandshakeTimeoutError | None = None
            try:
                if (name := self._find()) is not None:
                    return open_on(name)
            except (PortError, HandshakeTimeoutError) as failure:
                error = failure
            if time.monotonic() >= deadline:
                if error is None and self._lost is None:
                    return None
                if self._lost is not None and (error is None or isinstance(error, PortNotFoundError)):
                    raise self._lost.not_back(error if isinstance(error, PortError) else None) from error
                assert error is not None
                raise error
            time.sleep(POLL_S)

    def _find(self) -> str | None:
        """Give its name, None while it is not there. Raises PortError where several may be meant."""
        if self._lost is not None and ((found := self._lost.find()) is not None or self._lost.identity is None):
            return found
        if self._lost is not None:  # another program may have another USB id, but the board is where it was
            there = [each for each in self._candidates() if self._is_where_it_was(each)]
        else:
            there = [each for each in self._candidates() if str(each.device) not in self._before]
        return find_port(self._profile, there) if there else None

    def _candidates(self) -> list[ListPortInfo]:
        return [each for each in serial_ports() if usb_id(each) in self._profile.usb]

    def _is_where_it_was(self, port: ListPortInfo) -> bool:
        identity = self._lost.identity if self._lost is not None else None
        place = (identity.location or "").partition(":")[0] if identity is not None else ""
        return bool(place) and (port.location or "").partition(":")[0] == place
