"""What may be particular about a serial port, besides its baud rate and flow control."""

from __future__ import annotations

from dataclasses import dataclass

from microrpc.errors import RequestError
from microrpc.wire.checks import show


@dataclass(frozen=True, slots=True)
class PortOptions:
    """How a port is opened and closed; None leaves it as the system and pyserial have it (docs/boards.md).

    dtr, rts: the modem lines once the port is open; True asserts one, which is the low level; None is as True.
    hang_up: whether closing the port drops them, which stays so for whoever opens the port next. low_latency: hand on
    what arrives at once; False: gather it first, as some USB adapters do for 16 ms. Raises RequestError.
    """

    dtr: bool | None = None
    rts: bool | None = None
    hang_up: bool | None = None
    low_latency: bool | None = None

    def __post_init__(self) -> None:
        """Raise RequestError for what is neither: a text that says "false" would be as good as True."""
        for name in ("dtr", "rts", "hang_up", "low_latency"):
            value = getattr(self, name)
            if not isinstance(value, bool | None):
                raise RequestError(f"{name} is True, False or None, not {show(value)}")

    def over(self, others: PortOptions) -> PortOptions:
        """Give these options, and where they say nothing those of `others`."""
        return PortOptions(
            dtr=others.dtr if self.dtr is None else self.dtr,
            rts=others.rts if self.rts is None else self.rts,
            hang_up=others.hang_up if self.hang_up is None else self.hang_up,
            low_latency=others.low_latency if self.low_latency is None else self.low_latency,
        )


AS_THE_SYSTEM_DOES = PortOptions()
"""Nothing particular."""
