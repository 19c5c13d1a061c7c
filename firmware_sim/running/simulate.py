"""Simulated boards as a profile describes them: a device alone, its line, and both together in virtual time."""

from __future__ import annotations

from typing import Literal

from firmware_sim.board.clock import Clock, RealClock, VirtualClock
from firmware_sim.board.demo import FIRMWARE_NAME, FIRMWARE_VERSION, install
from firmware_sim.board.device import ALL_FEATURES, RING_MARGIN_BYTES, Device, Firmware
from firmware_sim.board.evaluator import DEFAULT_COUNT, ArgumentCount
from firmware_sim.board.host_watch import OnSession
from firmware_sim.line.faults import Fault, Faults
from firmware_sim.line.settings import LineState, Rate, Uart
from firmware_sim.line.uart import UartLine
from firmware_sim.running.loopback import LineChannel
from microrpc.boards.schema import BoardProfile
from microrpc.errors import FaultsError, PortNotFoundError, RequestError
from microrpc.wire.checks import check_seconds, show
from microrpc.wire.events import EventValue
from microrpc.wire.features import Feature


def simulate(
    profile: BoardProfile,
    *,
    seed: int = 0,
    firmware: Firmware | Literal["robust", "stock"] = Firmware.ROBUST,
    clock: Clock | None = None,
    time_evaluator_arguments: ArgumentCount = DEFAULT_COUNT,
    features: Feature | None = ALL_FEATURES,
    host_timeout_ms: int = 0,
    on_session: OnSession | None = None,
) -> Device:
    """Make a board with the buffer and heap of `profile`, in real time where no `clock` is given.

    The rest is as `Device` has it.
    """
    device = Device(
        packet_size_bytes=profile.packet_size_bytes,
        heap_bytes=profile.heap_bytes,
        seed=seed,
        firmware=firmware,
        clock=clock or RealClock(),
        time_evaluator_arguments=time_evaluator_arguments,
        board_name=profile.name,
        firmware_name=FIRMWARE_NAME,
        firmware_version=FIRMWARE_VERSION,
        features=features,
        host_timeout_ms=host_timeout_ms,
        on_session=on_session,
    )
    install(device)
    return device


def uart_of(profile: BoardProfile) -> Uart:
    """Give the line of a board: its baud rate both ways, receive ring, flow control and power-up time.

    A ring that the profile does not state is as large as that of microTVM's Zephyr project.
    """
    return Uart(
        to_board=Rate(profile.baud),
        to_host=Rate(profile.baud),
        receive_ring_bytes=profile.receive_ring_bytes or profile.packet_size_bytes + RING_MARGIN_BYTES,
        flow_control=profile.flow_control,
        power_up_s=profile.power_up_s,
    )


class SimBoard:
    """A simulated board on its line, in virtual time: waiting costs nothing, and each run is like the last.

    device: the board, to register functions with and to look inside. line: what it hangs on; `uart` is that of the
    profile where none is given. `faults` strike from the start. The others are as `Device` has them. It has booted when
    it is made. Raises RequestError.
    """

    def __init__(
        self,
        profile: BoardProfile,
        *,
        firmware: Firmware | Literal["robust", "stock"] = Firmware.ROBUST,
        uart: Uart | None = None,
        faults: Faults | None = None,
        seed: int = 0,
        time_evaluator_arguments: ArgumentCount = DEFAULT_COUNT,
        features: Feature | None = ALL_FEATURES,
        host_timeout_ms: int = 0,
        on_session: OnSession | None = None,
    ) -> None:
        if not isinstance(profile, BoardProfile):
            raise RequestError(
                f"a board is made of a profile, such as microrpc.profile('loopback'), not of {show(profile)}"
            )
        if not isinstance(faults, Faults | None):
            raise FaultsError(f"faults are told as Faults([Flip(rate=1e-5)], seed=7), not as {show(faults)}")
        if not isinstance(uart, Uart | None):
            raise RequestError(f"a line is told as Uart(receive_ring_bytes=128), not as {show(uart)}")
        self.profile = profile
        self.name = f"sim://{profile.name}"
        """What messages call its port."""
        self.device = simulate(
            profile,
            seed=seed,
            firmware=firmware,
            clock=VirtualClock(),
            time_evaluator_arguments=time_evaluator_arguments,
            features=features,
            host_timeout_ms=host_timeout_ms,
            on_session=on_session,
        )
        self.function = self.device.function
        """See `Device.function`."""
        uart = uart or uart_of(profile)
        self.line = UartLine(self.device, uart, faults, boots_at=-uart.power_up_s)
        self._clock = VirtualClock()

    @property
    def state(self) -> LineState:
        """What happened on the line until now: bytes, times, losses, damage."""
        return self.line.state

    def open_channel(self) -> LineChannel:
        """Open the host's end, as `microrpc.open_board` wants it. Raises PortNotFoundError while it is unplugged."""
        self.line.advance(self.now())
        if not self.line.is_plugged:
            raise PortNotFoundError(self.name, f"there is no port {self.name}: its cable is pulled")
        self.line.read(self.now())  # what came while nobody had the port open is lost
        return LineChannel(self.line, self._clock, name=self.name)

    def now(self) -> float:
        """Give the time, in seconds since it was made."""
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        """Let `seconds` of virtual time go by, in which the line and the board go on. Raises RequestError."""
        self._clock.sleep(check_seconds(seconds, "seconds", may_be_zero=True))
        self.line.advance(self.now())

    def event(self, name: str, *values: EventValue, reliable: bool = False) -> bool:
        """Let the board's firmware send an event (docs/link.md 8); from within a function, see `Device.event`.

        A value is an int, a float, a str or bytes. Tells whether a plain one was sent, which is lost where the host
        gave no credit for it, and whether there was room for a reliable one. Raises RequestError.
        """
        return self.line.event(self.now(), name, *values, reliable=reliable)

    def inject(self, *faults: Fault) -> None:
        """Let faults strike; their bytes, calls, replies and times count from now on."""
        for fault in faults:
            self.line.inject(fault, self.now())

    def reset(self) -> None:
        """Press the reset button: the board loses memory, handles and session, and boots for `power_up_s`."""
        self.line.reset(self.now())

    def unplug(self, *, keeps_power: bool = False) -> None:
        """Pull the cable; a board without power of its own forgets everything."""
        self.line.unplug(self.now(), keeps_power=keeps_power)

    def plug(self) -> None:
        """Put the cable back; a board without power of its own boots."""
        self.line.plug(self.now())

    def __repr__(self) -> str:
        return f"<SimBoard {self.profile.name} at {self.now():.6f} s>"
