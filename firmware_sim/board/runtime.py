"""What the C runtime itself offers: the functions it registers, and the syscalls it refuses (docs/protocol.md 6)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from firmware_sim.board.long_call import LongCall, Steps, is_long
from firmware_sim.board.parts import Monitor
from microrpc.serve.description import Description
from microrpc.serve.local import BoardArray, FunctionError, LocalSession, Module, RemoteCallable
from microrpc.serve.memory import Memory
from microrpc.wire.datatypes import DataType, OpaqueHandle, Value
from microrpc.wire.datatypes import Device as BoardDevice
from microrpc.wire.memory import encode_memory
from microrpc.wire.names import (
    CRC32_FUNCTION,
    DESCRIBE_FUNCTION,
    MAX_PACKET_SIZE_FUNCTION,
    MEMORY_FUNCTION,
    MESSAGE_OVERHEAD_BYTES,
    MODULE_GET_FUNCTION,
    RANDOM_FILL_FUNCTION,
    RELEASE_FUNCTION,
    SYSTEM_LIBRARY_FUNCTION,
)
from microrpc.wire.packets import Reply, Request

Array = np.ndarray[Any, Any]
"""A tensor argument: an array that aliases the board's memory."""
ResultT = TypeVar("ResultT")
_Words = npt.NDArray[np.uint32]

_FLOAT32 = DataType.parse("float32")
_FITS: dict[str, Callable[[object], bool]] = {
    "Int": lambda argument: type(argument) is int,
    "Float": lambda argument: type(argument) in (int, float),
    "Str": lambda argument: type(argument) is str,
    "Bytes": lambda argument: type(argument) is bytes,
    "Tensor": lambda argument: isinstance(argument, BoardArray),
    "float32": lambda argument: isinstance(argument, BoardArray) and argument.data_type == _FLOAT32,
    "Module": lambda argument: isinstance(argument, Module),
}


def check_kinds(kinds: Sequence[str], arguments: Sequence[object]) -> None:
    """Raise FunctionError for the first of `arguments` that is not there, or not of its kind."""
    for index, kind in enumerate(kinds):
        if index >= len(arguments) or not _FITS[kind](arguments[index]):
            raise FunctionError(f"argument {index}: {kind} expected")


def takes(*kinds: str) -> Callable[[Callable[..., ResultT]], Callable[..., ResultT]]:
    """Decorate a function that takes arguments of these kinds, as the C library's functions do (docs/device.md 4).

    A Float may be an Int, and is a float here. More arguments than these are no error, and do not get here.
    """

    def decorate(function: Callable[..., ResultT]) -> Callable[..., ResultT]:
        @wraps(function)
        def checked(*arguments: Any) -> ResultT:
            check_kinds(kinds, arguments)
            pairs = zip(kinds, arguments, strict=False)
            return function(*(float(argument) if kind == "Float" else argument for kind, argument in pairs))

        return checked

    return decorate


class RandomWords:
    """The words that random_fill draws: the same ones after every boot (docs/device.md 4)."""

    def __init__(self) -> None:
        self._drawn = 0

    def reset(self) -> None:
        """Begin again."""
        self._drawn = 0

    def fill(self, array: BoardArray) -> None:
        """Fill a tensor."""
        dtype = array.dtype
        data = self._draw(-(-array.nbytes // 4)).view(np.uint8)[: array.nbytes]
        if dtype.kind == "b":
            data &= 1
        elif dtype.kind == "f":
            one = np.ones(1, dtype).view(f"u{dtype.itemsize}")
            numbers = data.view(one.dtype)
            numbers &= (1 << np.finfo(dtype).nmant) - 1
            numbers |= one
        array[...] = data.view(dtype).reshape(array.shape)

    def _draw(self, count: int) -> _Words:
        first = np.uint32((self._drawn + 1) % (1 << 32))
        self._drawn += count
        z = (np.arange(count, dtype=np.uint32) + first) * np.uint32(0x9E37_79B9)
        z = (z ^ z >> np.uint32(16)) * np.uint32(0x21F0_AAAD)
        z = (z ^ z >> np.uint32(15)) * np.uint32(0x735A_2D97)
        return z ^ z >> np.uint32(15)


class RuntimeSession(LocalSession):
    """Executes requests as the C runtime does: there are no device attributes, and no device can be set.

    `functions` is the global registry, `random_words` what random_fill draws from (docs/device.md 4). told: the names
    whose look-up tells of the board (docs/link.md 1, 7), and what gives that in the place of a handle.
    """

    def __init__(
        self,
        functions: Module,
        system_library: Module,
        memory: Memory,
        monitor: Callable[[], Monitor | None],
        told: Mapping[str, Callable[[], int]],
    ) -> None:
        super().__init__(functions, memory, system_library)
        self.functions: Module = functions
        self.random_words = RandomWords()
        self.received_bytes = 0
        """Of the receive buffer, that the message has which is being served."""
        self._told = told
        self._monitor = monitor
        self._steps: Steps | None = None
        self._long: LongCall | None = None

    def begin(self, request: Request) -> Reply | LongCall:
        """Execute `request` and give the reply; or the call of a long function, which stands at its first yield."""
        if (monitor := self._monitor()) is not None:
            monitor.before_packet()
        reply = super().serve(request)
        steps, self._steps = self._steps, None
        if steps is None:
            return reply
        self._long = LongCall(self, steps)
        return self._long.go_on() or self._long

    def serve(self, request: Request) -> Reply:
        """Execute `request` to its end, and give the reply."""
        reply = self.begin(request)
        while isinstance(reply, LongCall):
            reply = reply.go_on() or reply
        return reply

    def abandon(self) -> None:
        """End the long function that is under way, if there is one."""
        if self._long is not None:
            self._long.abandon()
            self._long = None

    def reset(self) -> None:
        """Lose memory, the handles of what is in it, the random words drawn, and what is under way."""
        super().reset()
        self.random_words.reset()
        self.abandon()

    def invoke(self, function: RemoteCallable, arguments: list[object]) -> Any:
        """Run a function that was called by its handle; a long one only begins, and `begin` sees to the rest."""
        result = self.start(function, arguments)
        if not is_long(result):
            return result
        self._steps = result
        return None

    def start(self, function: RemoteCallable, arguments: list[object]) -> Any:
        """Run a function, and give what it gives: a generator, if it is a long one. Its arithmetic warns of nothing."""
        if (monitor := self._monitor()) is not None:
            monitor.before_call(self._name_of(function))
        with np.errstate(all="ignore"):
            return function(*arguments)

    def _look_up(self, name: str) -> OpaqueHandle:
        told = self._told.get(name)
        return super()._look_up(name) if told is None else OpaqueHandle(told())

    def _name_of(self, function: RemoteCallable) -> str:
        modules = (self.functions, self.system_library)
        registered = (name for module in modules for name, known in module.items() if known is function)
        return next(registered, getattr(function, "__name__", ""))

    def set_device(self, device: BoardDevice) -> None:
        """Refuse DevSetDevice."""
        raise FunctionError("SetDevice not supported")

    def get_attr(self, device: BoardDevice, kind: int) -> Value:
        """Refuse DevGetAttr."""
        raise FunctionError("GetAttr not supported")


def register_extensions(session: RuntimeSession) -> None:
    """Put into the global registry of `session` what the C runtime does not have, and good firmware should."""
    functions = session.functions

    @functions.function(name=CRC32_FUNCTION)
    @takes("Tensor")
    def crc32(array: Array) -> int:
        return zlib.crc32(array.tobytes())

    @functions.function(name=RELEASE_FUNCTION)
    @takes()
    def release_all() -> int:
        return session.release_all()


def free_bytes(session: RuntimeSession, packet_size_bytes: int) -> int:
    """Give what the request that is served leaves free of the receive buffer. Raises FunctionError for less than 0."""
    used_bytes = -(-session.received_bytes // 8) * 8
    if used_bytes > packet_size_bytes:
        raise FunctionError("the result is too long")
    return packet_size_bytes - used_bytes


def register_description(session: RuntimeSession, description: Description, packet_size_bytes: int) -> None:
    """Put into the global registry of `session` what serves `description` (docs/description.md 1)."""

    @session.functions.function(name=DESCRIBE_FUNCTION)
    @takes("Int")
    def describe(offset: int) -> bytes:
        return description.page(offset, free_bytes(session, packet_size_bytes))


def register_memory(session: RuntimeSession) -> None:
    """Put into the global registry of `session` what tells of its memory (docs/device.md 4)."""

    @session.functions.function(name=MEMORY_FUNCTION)
    @takes()
    def memory() -> bytes:
        heap = session.memory
        return encode_memory(heap.size_bytes, heap.occupied_bytes, heap.largest_free_bytes, heap.most_occupied_bytes)


def register_runtime(session: RuntimeSession, packet_size_bytes: int) -> None:
    """Put the functions of the C runtime into the global registry of `session`, but for its time evaluator."""
    functions = session.functions

    @functions.function(name=SYSTEM_LIBRARY_FUNCTION)
    @takes()
    def system_lib() -> Module:
        return session.system_library

    @functions.function(name=MODULE_GET_FUNCTION)
    @takes("Module", "Str")
    def module_get_function(module: Module, name: str) -> RemoteCallable | None:
        return module.get(name)

    @functions.function(name=MAX_PACKET_SIZE_FUNCTION)
    @takes()
    def get_crt_max_packet_size() -> int:
        return packet_size_bytes - MESSAGE_OVERHEAD_BYTES

    @functions.function(name=RANDOM_FILL_FUNCTION)
    @takes("Tensor")
    def random_fill(array: BoardArray) -> None:
        session.random_words.fill(array)
