"""A board in memory, as a `microrpc.ports.channel.Channel`: the whole stack without a port, exact and instant."""

from __future__ import annotations

from collections.abc import Callable

from firmware_sim.board.clock import VirtualClock
from firmware_sim.board.device import Device
from firmware_sim.line.uart import UartLine
from microrpc.errors import CallTimeoutError, PortLostError

Damager = Callable[[bytes], bytes]
"""Gives what becomes of bytes on their way."""


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
        device.interleaves = True
        self.name = name
        """What messages call it."""
        self.to_device = to_device
        self.to_host = to_host
        self._is_open = True

    def read(self, deadline: float) -> bytes:
        """Give what the device has sent; where that is nothing, let the time come to `deadline` and give b""."""
        while True:
            self._check_open()
            output = self.device.take_output()
            if output and self.to_host is not None:
                output = self.to_host(output)
            if output or not self._let_device_work(deadline):
                return output

    def write(self, data: bytes, deadline: float) -> None:
        """Give `data` to the device, which serves it before this returns; a long function goes on in `read`."""
        self._check_open()
        while not self.device.listens:
            self.device.go_on()
        self.device.receive(data if self.to_device is None else self.to_device(data))

    def _let_device_work(self, deadline: float) -> bool:
        """Let the device do what is next, or the time come to `deadline`; tell whether that is still to come."""
        if self.device.is_busy:
            self.device.go_on()
        else:
            self.device.clock.sleep(min(deadline, self.device.due) - self.now())
            self.device.on_time()
        return self.now() < deadline

    def now(self) -> float:
        """Give the time of the device's clock, in seconds."""
        return self.device.clock.now()

    def close(self) -> None:
        """Let go of the device, which stays as it is."""
        self._is_open = False

    def _check_open(self) -> None:
        if not self._is_open:
            raise PortLostError(self.name, f"{self.name} was closed by this program")


class LineChannel:
    """The host's end of a simulated line, in virtual time: reading and writing take as long as they would, at once.

    Raises PortLostError while the cable is pulled.
    """

    def __init__(self, line: UartLine, clock: VirtualClock, *, name: str = "simulated line") -> None:
        self.line = line
        self.name = name
        """What messages call it."""
        self._clock = clock
        self._is_open = True
        self._tells = False
        self._plugs = line.plugs

    def read(self, deadline: float) -> bytes:
        """See `Channel.read`."""
        while True:
            self._check_open()
            data = self.line.read(self._clock.now())
            self._check_cable()
            if data or not self._wait(deadline):
                return data

    def write(self, data: bytes, deadline: float) -> None:
        """See `Channel.write`."""
        self._check_open()
        done = 0
        while True:
            done += self.line.write(data[done:], self._clock.now())
            self._check_cable()
            if done == len(data):
                return
            if not self._wait(deadline, reads=False):
                text = f"{self.name} took only {done} of {len(data)} bytes before the deadline: the board stops it"
                raise CallTimeoutError(text, may_have_run=False)

    def now(self) -> float:
        """Give the time of the line, in seconds."""
        return self._clock.now()

    def tell_faults(self, listener: Callable[[str], None]) -> None:
        """See `UartLine.tell_faults`: until this is closed."""
        self._tells = True
        self.line.tell_faults(listener)

    def close(self) -> None:
        """Let go of the line, which stays as it is."""
        self._is_open = False
        if self._tells:
            self.line.tell_faults(None)
            self._tells = False

    def _wait(self, deadline: float, *, reads: bool = True) -> bool:
        """Let the time go on to what happens next, at most to the deadline; tell whether that is still to come."""
        now = self._clock.now()
        if now >= deadline:
            return False
        event = self.line.next_event(reads=reads)
        self._clock.move_to(deadline if event is None else min(deadline, event))
        return True

    def _check_open(self) -> None:
        if not self._is_open:
            raise PortLostError(self.name, f"{self.name} was closed by this program")

    def _check_cable(self) -> None:
        if not self.line.is_plugged or self.line.plugs != self._plugs:
            raise PortLostError(
                self.name, f"{self.name} went away: the cable was pulled; connect again when it is back"
            )
