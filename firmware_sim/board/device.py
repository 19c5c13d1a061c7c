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
from collections.abc import Callable
from typing import Literal, overload

from firmware_sim.board.clock import Clock, VirtualClock
from firmware_sim.board.evaluator import DEFAULT_COUNT, ArgumentCount, register_time_evaluator
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
from microrpc.serve.description import Description
from microrpc.serve.local import FunctionT, Module, RemoteCallable
from microrpc.serve.memory import Memory
from microrpc.wire.checks import check_whole
from microrpc.wire.frames import FrameEncoder
from microrpc.wire.link import LinkParameters
from microrpc.wire.logs import log_prefix
from microrpc.wire.session import MessageType, encode_message

_WINDOW_REQUESTS = 8
RING_MARGIN_BYTES = 100
"""So much larger than the receive buffer is the ring in microTVM's Zephyr project, and where nobody states it."""

_MOST_PACKET_BYTES = 1 << 24
_MOST_HEAP_BYTES = 1 << 32

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

    It has booted when it is made: its TERMINATE waits in the output. Not thread-safe. Raises RequestError for a size
    that cannot be.
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
        self.stats = Stats()
        """What arrived since it was made."""
        self.monitor: Monitor | None = None
        """Who is told what it does, None for nobody."""
        self._seed = seed = check_whole(seed, "seed", 0)
        self._is_wedged = False
        self._encoder = FrameEncoder()
        self._output = bytearray()
        ring_bytes = packet_size_bytes + RING_MARGIN_BYTES if receive_ring_bytes is None else receive_ring_bytes
        has_link = link and self.firmware is Firmware.ROBUST
        self._link = LinkParameters(_WINDOW_REQUESTS, packet_size_bytes, ring_bytes) if has_link else None
        self._port, self._session = self._build(heap_bytes, reply_bytes)
        register_runtime(self._session, packet_size_bytes)
        is_robust = self.firmware is Firmware.ROBUST
        register_time_evaluator(self._session, self.clock, None if is_robust else time_evaluator_arguments)
        self.description = Description(
            self._session, board_name=board_name, firmware_name=firmware_name, firmware_version=firmware_version
        )
        if is_robust:
            register_extensions(self._session)
            register_description(self._session, self.description, packet_size_bytes)
            register_memory(self._session)
        else:
            register_stock(self.functions)
        self._port.boot(seed)

    def _build(self, heap_bytes: int, reply_bytes: int | None) -> tuple[Port, RuntimeSession]:
        is_stock = self.firmware is Firmware.STOCK
        memory = StockMemory(heap_bytes) if is_stock else Memory(heap_bytes)
        link_handle = self._link.handle if self._link is not None else 0
        session = RuntimeSession(self.functions, self.system_library, memory, self._monitor, link_handle)
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
                link=self._link,
                reply_bytes=reply_bytes,
            )
        return port, session

    @property
    def description_hash(self) -> int:
        """The hash of what it tells of itself (docs/description.md 2), 0 for stock firmware, which tells nothing."""
        return self.description.hash if self.firmware is Firmware.ROBUST else 0

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
        """Take bytes from the line and do what they ask for; the answers wait in the output."""
        if not self._is_wedged:
            self._port.receive(data)

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
        prefix = "" if level is None else log_prefix(level, round(self.clock.now() * 1e6))
        if not self.is_dead:
            # What of a Str is not UTF-8 goes as it came.
            self._send(encode_message(0, MessageType.LOG, (prefix + text).encode("utf-8", "surrogateescape")))

    def wedge(self) -> None:
        """Hang, as firmware in an endless loop: nothing is taken and nothing sent until it is reset."""
        self._is_wedged = True

    def reset(self) -> None:
        """Press the reset button: memory, handles and session are lost, and the board boots."""
        self.stats.resets += 1
        self._is_wedged = False
        if self.monitor is not None:
            self.monitor.on_reset()
        self._session.reset()
        self._encoder.reset()
        self._port.boot(self._seed + self.stats.resets)

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
