"""What the C runtime itself offers: the functions it registers, and the syscalls it refuses (docs/protocol.md 6)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from firmware_sim.clock import Clock
from firmware_sim.port import Monitor
from microrpc.codec import PacketCode, Reply, Request, Return, Syscall
from microrpc.datatypes import Device as BoardDevice
from microrpc.datatypes import OpaqueHandle, Value
from microrpc.link import LINK_FUNCTION
from microrpc.memory import Memory
from microrpc.serving import FunctionError, LocalSession, Module, RemoteCallable

CRC32_FUNCTION = "microrpc.crc32"  # docs/copies.md
MESSAGE_OVERHEAD_BYTES = 11  # packet_nbytes and the session header (docs/protocol.md 4)

Array = np.ndarray[Any, Any]


class RuntimeSession(LocalSession):
    """Executes requests as the C runtime does: there are no device attributes, and no device can be set."""

    def __init__(
        self,
        functions: Module,
        system_library: Module,
        memory: Memory,
        monitor: Callable[[], Monitor | None],
        link_handle: int = 0,
    ) -> None:
        super().__init__(functions, memory)
        self._link_look_up = Syscall(PacketCode.GET_GLOBAL_FUNC, (LINK_FUNCTION,))
        self._link_handle = link_handle
        self._modules = (functions, system_library)
        self._monitor = monitor

    def serve(self, request: Request) -> Reply:
        """Execute `request` and give the reply."""
        if (monitor := self._monitor()) is not None:
            monitor.before_packet()
        if self._link_handle and request == self._link_look_up:
            return Return((OpaqueHandle(self._link_handle),))
        return super().serve(request)

    def invoke(self, function: RemoteCallable, arguments: list[object]) -> Any:
        """Run a function."""
        if (monitor := self._monitor()) is not None:
            monitor.before_call(self._name_of(function))
        return function(*arguments)

    def _name_of(self, function: RemoteCallable) -> str:
        registered = (name for module in self._modules for name, known in module.items() if known is function)
        return next(registered, getattr(function, "__name__", ""))

    def set_device(self, device: BoardDevice) -> None:
        """Refuse DevSetDevice."""
        raise FunctionError("SetDevice not supported")

    def get_attr(self, device: BoardDevice, kind: int) -> Value:
        """Refuse DevGetAttr."""
        raise FunctionError("GetAttr not supported")


def register_extensions(functions: Module) -> None:
    """Put into the global registry `functions` what the C runtime does not have, and good firmware should."""

    @functions.function(name=CRC32_FUNCTION)
    def crc32(array: Array) -> int:
        return zlib.crc32(array.tobytes())


def register_runtime(
    functions: Module,
    system_library: Module,
    clock: Clock,
    rng: np.random.Generator,
    packet_size_bytes: int,
    invoke: Callable[[RemoteCallable, list[object]], Any],
) -> None:
    """Put the functions of the C runtime into the global registry `functions`; `invoke` runs what is timed."""

    @functions.function(name="runtime.SystemLib")
    def system_lib() -> Module:
        return system_library

    @functions.function(name="tvm.rpc.server.ModuleGetFunction")
    def module_get_function(module: Module, name: str, query_imports: int) -> Callable[..., Any] | None:
        return module.get(name)

    @functions.function(name="tvm.rpc.server.GetCRTMaxPacketSize")
    def get_crt_max_packet_size() -> int:
        return packet_size_bytes - MESSAGE_OVERHEAD_BYTES

    @functions.function(name="tvm.contrib.random.random_fill")
    def random_fill(array: Array) -> None:
        if array.dtype.kind == "f":
            array[...] = rng.uniform(1.0, 10.0, array.shape)
        elif array.dtype.kind == "b":
            array[...] = rng.integers(0, 2, array.shape)
        else:
            array[...] = np.frombuffer(rng.bytes(array.nbytes), array.dtype).reshape(array.shape)

    @functions.function(name="runtime.RPCTimeEvaluator")
    def rpc_time_evaluator(
        module: Module,
        name: str,
        device_type: int,
        device_id: int,
        number: int,
        repeat: int,
        min_repeat_ms: int,
        limit_zero_time_iterations: int,
        cooldown_interval_ms: int,
        repeats_to_cooldown: int,
        cache_flush_bytes: int,
        f_preproc: str,
    ) -> Callable[..., bytes]:
        timed = module.get(name)
        preproc = functions.get(f_preproc) if f_preproc else None
        if timed is None:
            raise FunctionError(f"RPCTimeEvaluator: the module has no function {name}")
        if f_preproc and preproc is None:
            raise FunctionError(f"RPCTimeEvaluator: there is no function {f_preproc} to prepare with")
        if number < 1 or repeat < 1:
            raise FunctionError(f"RPCTimeEvaluator: number={number} and repeat={repeat} must be positive")

        def run_once(arguments: tuple[Any, ...]) -> float:
            """Give the mean time of a call, over as many as min_repeat_ms asks for."""
            total_s, calls, zeros = 0.0, 0, 0
            while True:
                start = clock.now()
                for _ in range(number):
                    invoke(timed, list(arguments))
                taken_s = clock.now() - start
                total_s += taken_s
                calls += number
                zeros += taken_s == 0.0
                if total_s * 1000 >= min_repeat_ms or zeros >= limit_zero_time_iterations:
                    return total_s / calls

        def evaluate(*arguments: Any) -> bytes:
            times = []
            for index in range(repeat):
                if preproc is not None:
                    preproc(*arguments)
                times.append(run_once(arguments))
                if cooldown_interval_ms > 0 and index % max(repeats_to_cooldown, 1) == 0:
                    clock.sleep(cooldown_interval_ms / 1000)
            return struct.pack(f"<{repeat}d", *times)

        return evaluate
