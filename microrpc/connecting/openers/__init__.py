"""From what an address means to an open channel: one opener for each scheme, imported when it is used.

An opener blocks; asyncio runs it in a thread. A new one is a function `(target, reset) -> Opened`, and a row below.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from microrpc.boards.tables import did_you_mean
from microrpc.connecting.address import Target
from microrpc.connecting.wrap import Tap
from microrpc.errors import PortError, PortNotFoundError
from microrpc.ports.channel import Channel
from microrpc.wire.checks import check_baud, check_whole

PYSERIAL = "microrpc.connecting.openers.serial:open_url"
"""The opener of what no event loop can wait for."""

_DEVICE = "microrpc.connecting.openers.serial:open_line"

_STREAMS = "microrpc.connecting.openers.stream:"

_OPENERS = {
    "sim": "microrpc.connecting.openers.sim:open_simulated",
    "qemu": "microrpc.connecting.openers.emulated:open_emulated",
    "emulated": "microrpc.connecting.openers.emulated:open_emulated",
    "tvm": f"{_STREAMS}open_tvm",
    "tcp": f"{_STREAMS}open_server",
    "unix": f"{_STREAMS}open_shared",
    "socket": "microrpc.connecting.openers.serial:open_line",
    "rfc2217": PYSERIAL,
}


class Closable(Protocol):
    """What is open until it is closed."""

    def close(self) -> None:
        """Close it. Closing twice is fine."""


C = TypeVar("C", bound=Closable)


@dataclass(frozen=True, slots=True)
class Opened(Generic[C]):
    """An open channel, and what a connection must know of it.

    is_stream: packets follow each other there without frames; is_shared: it is a board that `microrpc share` shares,
    which says something beside its replies (docs/link.md 11). baud: of the line in bits a second, None where there is
    none that one could wait for. ring_bytes: of the ring in front of the board's receive buffer, 0 where it is not
    known. on_close: called after the connection was closed. reopen: opens it again after it was lost, within so many
    seconds, under the name that it has then; None where it does not come back. Raises RequestError for what is no baud
    rate or size.
    """

    channel: C
    is_stream: bool = False
    is_shared: bool = False
    baud: int | None = None
    ring_bytes: int = 0
    on_close: Callable[[], None] = lambda: None
    reopen: Callable[[str, float], Channel] | None = None

    def __post_init__(self) -> None:
        if self.baud is not None:
            check_baud(self.baud)
        check_whole(self.ring_bytes, "ring_bytes", 0)

    def close(self) -> None:
        """Close it all, where no connection does. Closing twice is fine."""
        self.channel.close()
        self.on_close()


@dataclass(frozen=True, slots=True)
class ResetFirst:
    """That the board is to be reset: what it logs meanwhile goes to `on_log`, what it prints beside its frames to
    `on_text`, and all that it says to `tap`.
    """

    on_log: Callable[[str], None]
    on_text: Callable[[str], None]
    tap: Tap | None = None


Opener = Callable[[Target, ResetFirst | None], Opened[Channel]]
"""Opens the channel to a target, after a reset where one is asked for."""


def open_target(target: Target, reset: ResetFirst | None = None) -> Opened[Channel]:
    """Open the channel to a board, within `target.timeouts.start_s` where somebody is to answer; `reset` it first.

    A simulated or emulated board begins anew in any case.
    Raises PortError and its kinds, ProfileError for a board that cannot be reset, FirmwareError.
    """
    module, _, name = find_opener(target).partition(":")
    opener: Opener = getattr(importlib.import_module(module), name)
    return opener(target, reset)


def has_frames(target: Target) -> bool:
    """Whether frames cross what a target names, and not bare packets. Raises as `find_opener`."""
    return not find_opener(target).startswith(_STREAMS)


def find_opener(target: Target) -> str:
    """Give where the opener of a target's scheme stands, as "module:name". Raises PortError where there is none."""
    if "://" not in target.port:
        scheme, _, rest = target.port.partition(":")
        if scheme in _OPENERS and not os.path.exists(target.port):
            meant = f"{scheme}://{rest.lstrip('/')}"
            raise PortNotFoundError(target.port, f"there is no port {target.port}; did you mean {meant}?")
        return _DEVICE
    scheme = target.scheme
    if scheme in _OPENERS:
        return _OPENERS[scheme]
    if _is_pyserials(scheme):
        return PYSERIAL
    known = ", ".join(f"{one}://" for one in _OPENERS)
    guess = did_you_mean(scheme, _OPENERS) or "."
    raise PortError(target.port, f"{target.port}: nothing opens {scheme}://{guess} There are: {known}")


def _is_pyserials(scheme: str) -> bool:
    """Whether pyserial has a handler for such URLs; programs may add packages of them."""
    import serial

    for package in serial.protocol_handler_packages:
        with contextlib.suppress(ImportError):
            if importlib.util.find_spec(f"{package}.protocol_{scheme.lower()}") is not None:
                return True
    return False
