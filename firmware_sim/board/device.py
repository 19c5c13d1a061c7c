"""The simulated board: bytes and time in, bytes out (docs/protocol.md 6).

    device = Device()

    @device.function
    def add(a: int, b: int) -> int:
        return a + b

    device.receive(bytes_from_the_line)
    bytes_for_the_line = device.take_output()

It does no I/O and reads no clock but the one it is given. `loopback.py` and `serve.py` connect it to a host.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from typing import Literal, overload

from firmware_sim.board.clock import Clock, VirtualClock
from firmware_sim.board.evaluator import DEFAULT_COUNT, ArgumentCount, register_time_evaluator
from firmware_sim.board.events import DEFAULT_RING_BYTES, EventSource, to_microseconds
from firmware_sim.board.host_watch import HostWatch, OnSession
from firmware_sim.board.model import SimModel, register_models
from firmware_sim.board.parts import Monitor, Port, Stats
from firmware_sim.board.robust import RobustPort
from firmware_sim.board.runtime import (
    RuntimeSession,
    register_description,
    register_extensions,
    register_memory,
    register_runtime,
)
from firmware_sim.board.stock import StockMemory, StockPort, register_stock
from microrpc.errors import RequestError
from microrpc.serve.description import Description
from microrpc.serve.local import FunctionT, Module, RemoteCallable
from microrpc.serve.memory import Memory
from microrpc.wire.checks import check_whole
from microrpc.wire.events import NUMBER_MODULUS, EventValue
from microrpc.wire.features import NONE, Feature, Features
from microrpc.wire.frames import FrameEncoder
from microrpc.wire.link import LinkParameters
from microrpc.wire.logs import log_prefix
from microrpc.wire.names import FEATURES_FUNCTION, LINK_FUNCTION
from microrpc.wire.session import MessageType, encode_message

_WINDOW_REQUESTS = 8
RING_MARGIN_BYTES = 100
"""So much larger than the receive buffer is the ring in microTVM's Zephyr project, and where nobody states it."""

_MOST_PACKET_BYTES = 1 << 24
_MOST_HEAP_BYTES = 1 << 32
_MOST_TIMEOUT_MS = 65535
_BOOT_STEP = 0x9E37_79B9  # odd, so that no two of 2**32 boots have the same id

ALL_FEATURES = ~NONE
"""What a board knows besides, where nobody states it."""
_OF_THE_LINK = Feature.EVENTS | Feature.RELIABLE | Feature.PROGRESS | Feature.CANCEL

RegistryName = Literal["system", "global"]
"""Where a function is registered: the system library, or the global registry."""


class Firmware(enum.StrEnum):
    """Which receive side a board has."""

    ROBUST = "robust"
    """Answers or drops whatever arrives."""
    STOCK = "stock"
    """Fails as the real C runtime does (docs/protocol.md 6)."""


class Device:
    """A board with microTVM's C runtime on it.

    functions: the global registry, with what the runtime registers itself; system_library: where user functions
    live on real boards. packet_size_bytes: the receive buffer, so the largest frame payload it takes. seed: of robust
    firmware's nonces (stock firmware takes them from the clock). clock: the time that its functions live in, virtual
    where none is given. link: whether robust firmware knows the link extension (docs/link.md); stock firmware does
    not. receive_ring_bytes: what it tells the host there that it can keep while it is busy. reply_bytes: the longest
    reply that it keeps there to repeat it, in frame payload, that of a full receive buffer where nothing is given.
    time_evaluator_arguments: how many arguments the time evaluator of stock firmware takes, by which TVM versions
    differ (docs/protocol.md 6): 8, 10, 11 or 12; robust firmware takes them all. board_name, firmware_name,
    firmware_version: who it is, as robust firmware tells it (docs/description.md).

    What a host may ask of robust firmware besides (docs/link.md 7): features: what it knows, None for nothing; all
    but DESCRIBE and MEMORY need the link. event_ring_bytes: the room for reliable events that were not acknowledged.
    host_timeout_ms: after how long it takes a silent host for gone, 0 where it does not care. on_session: is told
    when a host comes (True), and when it is gone (False).

    It has booted when it is made: its TERMINATE waits in the output. Not thread-safe. Raises RequestError for a size
    or a time that cannot be, and for RELIABLE events without EVENTS.
    """

    def __init__(
        self,
        *,
        packet_size_bytes: int = 2048,
        heap_bytes: int = 256 * 1024,
        seed: int = 0,
        firmware: Firmware | Literal["robust", "stock"] = Firmware.ROBUST,
        clock: Clock | None = None,
        link: bool = True,
        receive_ring_bytes: int | None = None,
        reply_bytes: int | None = None,
        time_evaluator_arguments: ArgumentCount = DEFAULT_COUNT,
        board_name: str = "",
        firmware_name: str = "",
        firmware_version: str = "",
        features: Feature | None = ALL_FEATURES,
        event_ring_bytes: int = DEFAULT_RING_BYTES,
        host_timeout_ms: int = 0,
        on_session: OnSession | None = None,
    ) -> None:
        self.packet_size_bytes = check_whole(packet_size_bytes, "packet_size_bytes", 1, _MOST_PACKET_BYTES)
        check_whole(heap_bytes, "heap_bytes", 0, _MOST_HEAP_BYTES)
        for name, size_bytes in (("receive_ring_bytes", receive_ring_bytes), ("reply_bytes", reply_bytes)):
            if size_bytes is not None:
                check_whole(size_bytes, name, 0)
        self.firmware = Firmware(firmware)
        self.clock = clock or VirtualClock()
        self.functions = Module()
        self.system_library = Module()
        self.models: list[SimModel] = []
        """The models of robust firmware, by their numbers; more may be added."""
        self.stats = Stats()
        """What arrived since it was made."""
        self.monitor: Monitor | None = None
        """Who is told what it does, None for nobody."""
        self.interleaves = False
        """Whether who drives it calls `go_on` while a long function is under way, so that it hears of cancelling."""
        self._seed = check_whole(seed, "seed", 0)
        self._is_wedged = False
        self._encoder = FrameEncoder()
        self._output = bytearray()
        ring_bytes = packet_size_bytes + RING_MARGIN_BYTES if receive_ring_bytes is None else receive_ring_bytes
        has_link = link and self.firmware is Firmware.ROBUST
        self._link = LinkParameters(_WINDOW_REQUESTS, packet_size_bytes, ring_bytes) if has_link else None
        is_robust = self.firmware is Firmware.ROBUST
        known = Feature(features or NONE) if is_robust else NONE
        if not has_link:
            known &= ~_OF_THE_LINK
        if Feature.RELIABLE in known and Feature.EVENTS not in known:
            raise RequestError(
                "a board with RELIABLE events has EVENTS, too: give it Feature.EVENTS | Feature.RELIABLE"
            )
        self._host_timeout_ms = check_whole(host_timeout_ms, "host_timeout_ms", 0, _MOST_TIMEOUT_MS)
        self._is_described = Feature.DESCRIBE in known
        self._extras = known if has_link and (known or host_timeout_ms) else None
        check_whole(event_ring_bytes, "event_ring_bytes", 0)
        self._events = EventSource(self._send, known=known, packet_bytes=packet_size_bytes, ring_bytes=event_ring_bytes)
        self._watch = HostWatch(host_timeout_ms / 1000, on_session, self.clock.now)
        self._port, self._session = self._build(heap_bytes, reply_bytes)
        register_runtime(self._session, packet_size_bytes)
        register_time_evaluator(self._session, self.clock, None if is_robust else time_evaluator_arguments)
        self.description = Description(
            self._session, board_name=board_name, firmware_name=firmware_name, firmware_version=firmware_version
        )
        if is_robust:
            register_extensions(self._session)
            if Feature.DESCRIBE in known:
                register_description(self._session, self.description, packet_size_bytes)
            if Feature.MEMORY in known:
                register_memory(self._session)
            register_models(self._session, self.models, self.clock, packet_size_bytes)
        else:
            register_stock(self.functions)
        self._boot()

    def _build(self, heap_bytes: int, reply_bytes: int | None) -> tuple[Port, RuntimeSession]:
        is_stock = self.firmware is Firmware.STOCK
        memory = StockMemory(heap_bytes) if is_stock else Memory(heap_bytes)
        told: dict[str, Callable[[], int]] = {}
        if self._link is not None:
            link_handle = self._link.handle
            told[LINK_FUNCTION] = lambda: link_handle
        if self._extras is not None:
            told[FEATURES_FUNCTION] = self._tell_features
        session = RuntimeSession(self.functions, self.system_library, memory, self._monitor, told)
        size_bytes = self.packet_size_bytes
        port: Port
        if is_stock:
            port = StockPort(session, self._send, self.stats, packet_size_bytes=size_bytes, clock=self.clock)
        else:
            port = RobustPort(
                session,
                self._send,
                self.stats,
                packet_size_bytes=size_bytes,
                events=self._events,
                watch=self._watch,
                link=self._link,
                reply_bytes=reply_bytes,
                extras=self._extras,
            )
        return port, session

    def _tell_features(self) -> int:
        return Features(self._extras or NONE, self._host_timeout_ms, self.description_hash).handle

    def _boot(self) -> None:
        seed = self._seed + self.stats.resets
        self._events.boot(seed * _BOOT_STEP % NUMBER_MODULUS)
        self._port.boot(seed)

    @property
    def description_hash(self) -> int:
        """The hash of what it tells of itself (docs/description.md 2), 0 where that is nothing."""
        return self.description.hash if self._is_described else 0

    @property
    def memory(self) -> Memory:
        """The heap that tensors live in, with its blocks and how much is used."""
        return self._session.memory

    @property
    def is_dead(self) -> bool:
        """Whether the board is silent until it is reset, as stock firmware can be."""
        return self._is_wedged or self._port.is_dead

    @overload
    def function(
        self,
        function: FunctionT,
        *,
        name: str | None = None,
        registry: RegistryName = "system",
        signature: str | None = None,
        doc: str | None = None,
    ) -> FunctionT: ...

    @overload
    def function(
        self,
        function: None = None,
        *,
        name: str | None = None,
        registry: RegistryName = "system",
        signature: str | None = None,
        doc: str | None = None,
    ) -> Callable[[FunctionT], FunctionT]: ...

    def function(
        self,
        function: RemoteCallable | None = None,
        *,
        name: str | None = None,
        registry: RegistryName = "system",
        signature: str | None = None,
        doc: str | None = None,
    ) -> RemoteCallable:
        """Decorate a Python function so that a host can call it, under its own name or `name`.

        signature, doc: what the board tells of it (docs/description.md); else its annotations and its docstring tell.
        """
        module = {"system": self.system_library, "global": self.functions}[registry]
        return module.function(function, name=name, signature=signature, doc=doc)

    def receive(self, data: bytes) -> None:
        """Take bytes from the line and do what they ask for; the answers wait in the output.

        A long function runs to its end, unless who drives the device `interleaves`.
        """
        if not self._is_wedged:
            self._port.receive(data)
        while self.is_busy and not self.interleaves:
            self._port.go_on()

    @property
    def is_busy(self) -> bool:
        """Whether a long function is under way: it goes on when `go_on` is called."""
        return self._port.is_busy and not self._is_wedged

    @property
    def listens(self) -> bool:
        """Whether it takes what comes. A board without CANCEL reads nothing while a long function is under way."""
        return self._port.listens or self.is_dead

    def go_on(self) -> None:
        """Let the long function that is under way run to its next yield, or its end, in the time of the clock."""
        if self.is_busy:
            self._port.go_on()

    @property
    def due(self) -> float:
        """When `on_time` is to be called, by its clock; infinity where nothing happens by itself."""
        due = self._watch.due
        return math.inf if due == math.inf or self.is_busy or self.is_dead else due

    def on_time(self) -> None:
        """Do what is due by now: take a silent host for gone."""
        if self.due < math.inf:
            self._watch.on_time()

    def take_output(self) -> bytes:
        """Give the bytes that wait to be sent."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def log(self, text: str, level: int | None = None) -> None:
        """Send a LOG (docs/protocol.md 2); allowed at any time, also from within a function, before its reply.

        level: as `logging` counts it, DEBUG, INFO, WARNING or ERROR; it and the board's time go before the text then
        (docs/device.md 5). Raises RequestError for another one.
        """
        prefix = "" if level is None else log_prefix(level, to_microseconds(self.clock.now()))
        if not self.is_dead:
            # What of a Str is not UTF-8 goes as it came.
            self._send(encode_message(0, MessageType.LOG, (prefix + text).encode("utf-8", "surrogateescape")))

    def event(self, name: str, *values: EventValue, reliable: bool = False) -> bool:
        """Send an event (docs/link.md 8), from the main loop or from within a function; its time is the clock's.

        Tells whether a plain one was sent, which is lost where the host gave no credit for it; of a reliable one,
        whether there was room to keep it. False, too, for one of more than 4096 bytes of frame payload or than a packet
        has, and from a board without such events. Raises RequestError for what an event cannot carry.
        """
        time_us = to_microseconds(self.clock.now())
        is_out = not self.is_dead and self._events.emit(name, values, is_reliable=reliable, time_us=time_us)
        self.stats.events_unsent += not is_out
        return is_out

    @property
    def boot_id(self) -> int:
        """The number of this boot (docs/link.md 8): another one after each reset."""
        return self._events.boot_id

    def wedge(self) -> None:
        """Hang, as firmware in an endless loop: nothing is taken and nothing sent until it is reset."""
        self._is_wedged = True
        self._session.abandon()

    def reset(self) -> None:
        """Press the reset button: memory, handles and session are lost, and the board boots."""
        self.stats.resets += 1
        self._is_wedged = False
        if self.monitor is not None:
            self.monitor.on_reset()
        self._session.reset()
        self._encoder.reset()
        self._boot()

    def _send(self, payload: bytes) -> None:
        if self._is_wedged:
            return
        frame = self._encoder.encode(payload)
        if self.monitor is not None:
            self.monitor.send(payload, frame)
        else:
            self._output += frame

    def _monitor(self) -> Monitor | None:
        return self.monitor
