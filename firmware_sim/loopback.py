"""A board in memory, as a `microrpc.channel.Channel`: the whole stack without a port, exact and instant."""

from __future__ import annotations

from collections.abc import Callable

from firmware_sim.device import Device
from microrpc.errors import PortLostError

Damager = Callable[[bytes], bytes]


class LoopbackChannel:
    """Connects a host to `device` directly, in the time of the device's clock.

    `to_device` and `to_host` may change the bytes on their way, to damage them.
    """

    def __init__(
        self,
        device: Device,
        *,
        name: str = "loopback",
        to_device: Damager | None = None,
        to_host: Damager | None = None,
    ) -> None:
        self.device = device
        self.name = name
        self.to_device = to_device
        self.to_host = to_host
        self._is_open = True

    def read(self, deadline: float) -> bytes:
        """Give what the device has sent; where that is nothing, let the time come to `deadline` and give b""."""
        self._check_open()
        output = self.device.take_output()
        if output and self.to_host is not None:
            output = self.to_host(output)
        if not output:
            self.device.clock.sleep(deadline - self.now())
        return output

    def write(self, data: bytes, deadline: float) -> None:
        """Give `data` to the device, which serves it before this returns."""
        self._check_open()
        self.device.receive(data if self.to_device is None else self.to_device(data))

    def now(self) -> float:
        """Give the time of the device's clock, in seconds."""
        return self.device.clock.now()

    def close(self) -> None:
        """Let go of the device, which stays as it is."""
        self._is_open = False

    def _check_open(self) -> None:
        if not self._is_open:
            raise PortLostError(self.name, f"{self.name} was closed by this program")
