"""A serial line as it is: slow, with a board behind it that is sometimes busy and then loses bytes.

    line = UartLine(Device(), Uart(to_board=Rate(115200), receive_ring_bytes=64))
    line.write(bytes_from_the_host, now)
    line.next_event()
    bytes_for_the_host = line.read(now)

No I/O, and no clock but the times it is given: a test lives in virtual time (`firmware_sim.running.loopback`), a
server in real time (`firmware_sim.running.server`). What happens is computed frame by frame where nobody can tell, and
does not depend on how often anybody looks. A function does what it does as soon as it begins, a long one at each yield
what it does until the next; its reply waits until it has taken its time, and is lost where something happens to the
board before that.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from firmware_sim.board.clock import VirtualClock
from firmware_sim.board.device import Device
from firmware_sim.board.parts import split_frames
from firmware_sim.line.adapter import AdapterBuffer
from firmware_sim.line.faults import Action, Direction, Fault, Faults
from firmware_sim.line.flow import Flow
from firmware_sim.line.injector import Injector
from firmware_sim.line.lane import Crossing, Lane
from firmware_sim.line.ring import Ring
from firmware_sim.line.settings import LineState, Uart
from microrpc.serve.local import FunctionError
from microrpc.wire.events import EventValue
from microrpc.wire.session import HEADER_SIZE_BYTES, MessageType
from microrpc.wire.uart import FlowControl

_SHORTEST_STEP_S = 1e-6  # of a long function, from one yield to the next: one that only waits must let time go on


class UartLine:
    """The line between a host and `device`, whose clock must be a `VirtualClock`: it is the processor's own time.

    All times are seconds of one clock, the caller's, and must not go backwards; the board powers up at `boots_at`.
    Not thread-safe.
    """

    def __init__(
        self, device: Device, uart: Uart | None = None, faults: Faults | None = None, *, boots_at: float = 0.0
    ) -> None:
        if not isinstance(device.clock, VirtualClock):
            raise ValueError("a device on a UartLine needs a VirtualClock: the line moves its time")
        self.device = device
        self.uart = uart or Uart()
        """What it is made of."""
        self.is_plugged = True
        """Whether the cable is there."""
        self.plugs = 0
        """How often the cable was put back."""
        self._clock = device.clock
        self._now = boots_at
        self._injector = Injector(faults or Faults())
        self._to_board = Lane(self.uart.to_board.byte_s)
        self._to_host = Lane(self.uart.to_host.byte_s)
        self._adapter = AdapterBuffer(self.uart.adapter, self.uart.to_host.byte_s)
        self._ring = Ring(self.uart.receive_ring_bytes)
        self._bytes_unheard = 0
        self._flow = Flow(self.uart.flow_control, self._ring, self._to_board, self._to_host)
        self._bytewise = _bytewise(self.uart)
        self._has_power = True
        self._cpu_free_at = boots_at  # infinity for a dead one
        self._listens_from = boots_at
        boot = device.take_output()
        device.monitor = self
        device.interleaves = True
        self._clock.set_to(boots_at)
        self._power_up(boots_at)
        self._transmit(boot)

    # --- the host's end --------------------------------------------------------------------------

    def write(self, data: bytes, now: float) -> int:
        """Take bytes from the host; give how many there was room for."""
        self.advance(now)
        if not self.is_plugged:
            return 0
        size_bytes = min(len(data), self.uart.adapter.buffer_bytes - self._to_board.waiting_bytes(now))
        at = self.uart.adapter.tick(now)
        for run in split_frames(data[:size_bytes]):
            self._to_board.put(run, at)
        return size_bytes

    def read(self, now: float) -> bytes:
        """Give what has reached the host by `now`."""
        self.advance(now)
        return self._adapter.take(now)

    def next_event(self, *, reads: bool = True) -> float | None:
        """When something happens next that may concern the host, None where nothing will unless it writes.

        What it could read already counts too, unless it does not read.
        """
        at = min(self._next(), self._adapter.next_delivery() if reads else math.inf)
        return at if at < math.inf else None

    # --- the hands at the board ------------------------------------------------------------------

    def reset(self, now: float) -> None:
        """Press the board's reset button."""
        self._do(Action.RESET, now)

    def unplug(self, now: float, *, keeps_power: bool = False) -> None:
        """Pull the cable; a board that has no power of its own forgets everything."""
        self._do(Action.UNPLUG_POWERED if keeps_power else Action.UNPLUG, now)

    def plug(self, now: float) -> None:
        """Put the cable back; a board without power of its own boots."""
        self._do(Action.PLUG, now)

    def event(self, now: float, name: str, *values: EventValue, reliable: bool = False) -> bool:
        """Let the firmware send an event, as `Device.event` has it, as soon as its processor is free."""
        self.advance(now)
        self._let_board_work(now, in_parts=True)
        self._clock.move_to(now)
        return self.device.event(name, *values, reliable=reliable)

    def inject(self, fault: Fault, now: float) -> None:
        """Let a fault strike from now on; its bytes, calls, replies and times count from now."""
        self.advance(now)
        self._let_board_work(now, in_parts=True)
        self._injector.add(fault, now)

    def tell_faults(self, listener: Callable[[str], None] | None) -> None:
        """Have `listener` told in words of each fault that strikes, such as "fault: flip at byte 17 to the board"."""
        self._injector.on_strike = listener

    @property
    def state(self) -> LineState:
        """What happened until now: bytes, times in seconds, losses, damage."""
        return LineState(
            bytes_to_board=self._to_board.bytes_carried,
            bytes_to_host=self._to_host.bytes_carried,
            to_board_busy_s=self._to_board.busy_s,
            to_host_busy_s=self._to_host.busy_s,
            bytes_overrun=self._ring.bytes_overrun,
            bytes_unheard=self._bytes_unheard,
            ring_bytes=len(self._ring),
            ring_high_water_bytes=self._ring.high_water_bytes,
            is_plugged=self.is_plugged,
            damaged=dict(self._injector.counts),
        )

    # --- time ------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Let everything happen that happens until `now`."""
        while (at := self._next()) <= now:
            self._step(at)
        if now > self._now:
            self._step(now)

    def _next(self) -> float:
        """When to step next. Whatever could make a difference happens at such a time, whenever `advance` is called."""
        to_board, device = self._to_board, self.device
        at = min(
            to_board.next_end(self._most_bytes(Direction.TO_BOARD)),
            self._to_host.next_end(self._most_bytes(Direction.TO_HOST)),
            device.due,
            self._adapter.fires_at(),
            self._injector.next_at(),
        )
        free_at = self._cpu_free_at
        if free_at < at and (self._ring or device.is_busy or (free_at > self._now and to_board.queued_bytes)):
            return free_at
        return at

    def _most_bytes(self, direction: Direction) -> float:
        """How many bytes may be handled at once, when the last of them has crossed, without making a difference."""
        return 1 if direction in self._bytewise else self._injector.bytes_to_action(direction)

    def _step(self, now: float) -> None:
        self._now = max(self._now, now)
        self._let_board_work(now)
        injector = self._injector
        if self.device.due <= now:
            self._let_board_work(now, in_parts=True)
            self._clock.move_to(now)
            self.device.on_time()
            self._note_free()
        if injector.next_at() <= now:
            for at, frame in injector.take_released(now):
                self._to_host.put(frame, at)
        while crossing := self._to_host.take(now, self._most_bytes(Direction.TO_HOST)):
            self._reach_host(crossing)
        self._adapter.release(now)
        if injector.next_action_at() <= now:
            self._let_board_work(now, in_parts=True)
            for action in injector.take_due(now):
                self._act(action, now)

    # --- towards the board -----------------------------------------------------------------------

    def _let_board_work(self, until: float, *, in_parts: bool = False) -> None:
        """Let the board hear and do what it can by `until`; `in_parts`: also the beginning of what is on its way."""
        to_board = self._to_board
        while to_board.has_crossed(until) or (self._cpu_free_at <= until and (self._ring or self.device.is_busy)):
            most_bytes = self._most_bytes(Direction.TO_BOARD)
            if crossing := to_board.take(min(self._listens_from, until), most_bytes):
                data, actions = self._damage(crossing)
                self._bytes_unheard += len(data)
            elif crossing := to_board.take(min(self._cpu_free_at, until), min(most_bytes, self._flow.bytes_to_stop)):
                data, actions = self._damage(crossing)
                self._ring.put(data)
                self._flow.stop_if_full(crossing.end)
            elif self._cpu_free_at > until:
                return
            elif self.device.is_busy:
                self._go_on()
                continue
            elif self._ring:
                self._work_from_ring()
                continue
            elif (in_parts or to_board.next_end(most_bytes) <= until) and (
                crossing := to_board.take(until, most_bytes)
            ):
                data, actions = self._damage(crossing)
                self._work_at_once(data, crossing.end)
            else:
                return
            for action in actions:
                self._act(action, crossing.end)

    def _damage(self, crossing: Crossing) -> tuple[bytes, list[Action]]:
        """Give what arrives of a crossing, and what happens to the board thereafter."""
        data, end = crossing
        data, actions = self._injector.carry(data, Direction.TO_BOARD, end, self._to_board.byte_s)
        return self._flow.obey(data, self._to_host, end), actions

    def _work_from_ring(self) -> None:
        """Let the processor read on in the ring: a byte where it takes time for that, else a frame."""
        data = self._ring.take(1) if self.uart.firmware.byte_s else self._ring.take_frame()
        begin = self._cpu_free_at
        self._flow.go_on_if_empty(begin)
        self._work(data, begin)

    def _go_on(self) -> None:
        """Let the long function that is under way read what there is, and run to its next yield."""
        begin, device = self._cpu_free_at, self.device
        if device.listens and self._ring:
            data = self._ring.take()
            self._flow.go_on_if_empty(begin)
            self._work(data, begin)
        self._clock.move_to(begin)
        device.go_on()
        if device.is_busy and self._clock.now() <= begin:
            self._clock.sleep(_SHORTEST_STEP_S)
        self._note_free()

    def _work_at_once(self, data: bytes, end: float) -> None:
        """Let the idle processor handle bytes as they come, the last one at the time `end`."""
        resets, byte_s = self.device.stats.resets, self.uart.firmware.byte_s
        left = len(data)
        begin = end + byte_s - left * byte_s
        for part in split_frames(data):
            self._ring.note(1)
            self._work(part, begin)
            left -= len(part)
            if self.device.stats.resets != resets:
                self._bytes_unheard += left
                return
            if self.device.is_dead or not self.device.listens:
                self._ring.put(data[len(data) - left :])
                return

    def _work(self, data: bytes, begin: float) -> None:
        """Let the processor handle `data`, which holds the end of one frame at most, from the time `begin` on."""
        self._clock.move_to(begin)
        self._clock.sleep(len(data) * self.uart.firmware.byte_s)
        self.device.receive(data)
        self._note_free()

    def _note_free(self) -> None:
        self._cpu_free_at = math.inf if self.device.is_dead else self._clock.now()

    # --- towards the host ------------------------------------------------------------------------

    def _reach_host(self, crossing: Crossing) -> None:
        data, end = crossing
        data, actions = self._injector.carry(data, Direction.TO_HOST, end, self._to_host.byte_s)
        if self.is_plugged:
            self._adapter.put(self._flow.obey(data, self._to_board, end), end)
        if actions:
            self._let_board_work(end, in_parts=True)
        for action in actions:
            self._act(action, end)

    # --- what goes wrong ---------------------------------------------------------------------------

    def _do(self, action: Action, now: float) -> None:
        self.advance(now)
        self._let_board_work(now, in_parts=True)
        self._act(action, now)

    def _act(self, action: Action, at: float) -> None:
        """Let it happen; where it happens in a function, `at` is that function's time, and still to come."""
        match action:
            case Action.RESET if self._has_power:
                self._clock.set_to(at)
                self.device.reset()
            case Action.WEDGE:
                self.device.wedge()
                self._to_host.withdraw(at)
                self._injector.forget_held()
                self._cpu_free_at = math.inf
            case Action.UNPLUG | Action.UNPLUG_POWERED if self.is_plugged:
                self.is_plugged = False
                self._to_board.clear()
                self._flow.forget()
                self._adapter.clear()
                if action is Action.UNPLUG:
                    self._lose_power(at)
            case Action.PLUG if not self.is_plugged:
                self.is_plugged = True
                self.plugs += 1
                if not self._has_power:
                    self._has_power = True
                    self._act(Action.RESET, at)

    def _lose_power(self, at: float) -> None:
        self._has_power = False
        self._injector.on_power_loss()
        self.device.wedge()
        self._forget(at)
        self._cpu_free_at = math.inf

    def _forget(self, at: float) -> None:
        self._bytes_unheard += len(self._ring.take())
        self._injector.forget_held()
        self._to_host.cut(at)
        self._flow.go_on_if_empty(at)

    def _power_up(self, at: float) -> None:
        self._to_host.put(self._injector.on_boot(at), at)
        self._listens_from = at + self.uart.power_up_s
        self._clock.move_to(self._listens_from)

    def _transmit(self, frame: bytes) -> None:
        """Send a frame, and let the processor wait until what is left of it fits where it may wait."""
        self._clock.move_to(self._now)
        self._to_host.put(frame, self._clock.now())
        self._clock.move_to(self._to_host.idle_at() - self.uart.transmit_ring_bytes * self._to_host.byte_s)
        self._cpu_free_at = self._clock.now()

    # --- what the device tells (firmware_sim.board.parts.Monitor) -----------------------------------------

    def before_packet(self) -> None:
        """See `Monitor`."""
        self._clock.sleep(self.uart.firmware.packet_s)

    def before_call(self, name: str) -> None:
        """See `Monitor`."""
        firmware = self.uart.firmware
        self._clock.sleep(firmware.functions.get(name, firmware.function_s))
        if action := self._injector.on_call(name):
            self._act(action, self._clock.now())
            raise FunctionError(f"{name} was interrupted: {action.value}")

    def send(self, payload: bytes, frame: bytes) -> None:
        """See `Monitor`."""
        message_type = payload[HEADER_SIZE_BYTES - 1]
        if message_type in (MessageType.NORMAL, MessageType.LINK_REPLY):
            self._clock.sleep(self._injector.on_reply())
        self._clock.move_to(self._now)
        is_event = message_type == MessageType.LINK_EVENT
        may_wait = is_event or message_type == MessageType.LINK_EVENT_STATE
        if not may_wait or self._injector.lets_pass(frame, self._clock.now(), is_event=is_event):
            self._transmit(frame)

    def on_reset(self) -> None:
        """See `Monitor`."""
        self._clock.move_to(self._now)
        self._forget(self._clock.now())
        self._power_up(self._clock.now())


def _bytewise(uart: Uart) -> frozenset[Direction]:
    """Give the directions in which no two bytes may be handled at once."""
    if uart.flow_control is FlowControl.XON_XOFF:
        return frozenset((Direction.TO_BOARD, Direction.TO_HOST))
    is_slow = uart.firmware.byte_s > uart.to_board.byte_s
    return frozenset((Direction.TO_BOARD,) if is_slow else ())
