"""What may be particular about a serial port, besides its baud rate and flow control."""

from __future__ import annotations

from dataclasses import dataclass, fields

from microrpc.wire.checks import check_flag


@dataclass(frozen=True, slots=True)
class PortOptions:
    """How a port is opened and closed; None leaves it as the system and pyserial have it (docs/boards.md).

    dtr, rts: the modem lines once the port is open; True asserts one, which is the low level; None is as True.
    hang_up: whether closing the port drops them, which stays so for whoever opens the port next. low_latency: hand on
    what arrives at once; False: gather it first, as some USB adapters do for 16 ms.

    Raises RequestError for what is neither True, False nor None.
    """

    dtr: bool | None = None
    rts: bool | None = None
    hang_up: bool | None = None
    low_latency: bool | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            check_flag(getattr(self, field.name), field.name, may_be_none=True)

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
