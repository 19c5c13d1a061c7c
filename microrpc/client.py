"""The blocking client: a `Board` pumps the operations of `microrpc.host` over a channel (docs/protocol.md 4 to 6).

`microrpc.connect` opens one; what it hands out is in `microrpc.remote`.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from microrpc.channel import Channel
from microrpc.codec import CopyAck, PacketCode, RemoteException, Reply, Request, Return
from microrpc.conversation import Exchanger, Operation
from microrpc.datatypes import (
    CPU,
    ArrayResult,
    DataType,
    Device,
    FunctionHandle,
    ModuleHandle,
    OpaqueHandle,
    Tensor,
    Value,
)
from microrpc.errors import (
    BoardError,
    ClosedError,
    FunctionNotFoundError,
    MicroRpcError,
    PortLostError,
    ProtocolError,
    RemoteError,
    RequestError,
)
from microrpc.host import MODULE_GET_FUNCTION, Host, Progress
from microrpc.remote import Owned, RemoteArray, RemoteFunction, RemoteHandle, RemoteModule, RemoteStream, Timing

T = TypeVar("T")
TIME_EVALUATOR_FUNCTION = "runtime.RPCTimeEvaluator"


class PumpedConversation(Exchanger, Protocol):
    """A conversation that a Board can drive: `microrpc.conversation.Conversation` or `microrpc.stream`'s."""

    @property
    def session_id(self) -> int:
        """The id of the session, 0 without one."""

    def take_output(self) -> bytes:
        """Give the bytes that are to be sent now."""

    def open(self) -> Operation[None]:
        """Begin."""

    def close(self, shutdown: bool) -> Operation[None]:
        """End."""


class Board:
    """A connection to one board. All methods wait, and all waits end; any thread may call them, one runs at a time.

    `on_close` is called last, when the board is closed.
    """

    def __init__(
        self,
        channel: Channel,
        conversation: PumpedConversation,
        *,
        call_s: float,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = channel.name
        self._channel = channel
        self._conversation = conversation
        self._host = Host(conversation, call_s=call_s)
        self._on_close = on_close
        self._lock = threading.RLock()
        self.garbage: deque[Owned] = deque()
        self.live: weakref.WeakSet[RemoteHandle] = weakref.WeakSet()
        self._system_library: RemoteModule | None = None
        self._get_function: RemoteFunction | None = None
        self._closed = ""

    # --- the pump ------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the session; `microrpc.connect` does it. Raises HandshakeTimeoutError."""
        self._run(self._conversation.open())

    def _run(self, operation: Operation[T]) -> T:
        """Drive one operation to its end: send what it wants sent, wait for what it waits for."""
        channel, conversation = self._channel, self._conversation
        with self._lock:
            if self._closed:
                operation.close()
                raise ClosedError(f"the connection to {self.name} is closed ({self._closed}); connect again")
            try:
                deadline = operation.send(None)  # type: ignore[arg-type]  # a generator starts with None
                while True:
                    data = channel.read(deadline)
                    deadline = operation.send((data, channel.now()))
                    output = conversation.take_output()
                    if output:
                        channel.write(output, deadline)
            except StopIteration as stop:
                output = conversation.take_output()
                if output:
                    channel.write(output, channel.now() + 1.0)
                result: T = stop.value
                return result
            except PortLostError as error:
                self._closed = "the port went away"
                raise PortLostError(error.port, str(error), may_have_run=True) from error
            finally:
                operation.close()

    # --- functions -----------------------------------------------------------------------------

    def function(self, name: str) -> RemoteFunction:
        """Look a function up: in the global registry first, then in the system library.

        Raises FunctionNotFoundError.
        """
        with self._lock:
            found = self.global_function(name)
            library = None if found else self.system_library()
            if library is not None:
                found = library.find(name)
        if found is None:
            where = "neither its global registry nor its system library has it"
            if library is None:
                where = "its global registry does not have it, and it has no system library"
            raise FunctionNotFoundError(f"{self.name} has no function {name!r}: {where}; check the name's spelling")
        return found

    def global_function(self, name: str) -> RemoteFunction | None:
        """Look a function up in the global registry alone; None where there is none of that name."""
        with self._lock:
            handle = self._run(self._host.look_up(name))
            return RemoteFunction(self, handle, name) if handle else None

    def system_library(self) -> RemoteModule | None:
        """Give the board's system library, None where it has none."""
        with self._lock:
            if self._system_library is None or not self._system_library.is_live:
                handle = self._run(self._host.system_library())
                self._system_library = RemoteModule(self, handle, "system library") if handle else None
            return self._system_library

    def find_in_module(self, module: RemoteModule, name: str) -> RemoteFunction | None:
        """Look a function up in a module; `RemoteModule.find` does it."""
        with self._lock:
            if self._get_function is None or not self._get_function.is_live:
                self._get_function = self.global_function(MODULE_GET_FUNCTION)
            found = self._get_function(module, name, 1) if self._get_function is not None else None
            if not isinstance(found, RemoteFunction):
                return None
            found.name = name
            return found

    def call(self, function: RemoteFunction, args: Sequence[Any], *, timeout_s: float | None = None) -> Any:
        """Call a function; `RemoteFunction` does it."""
        with self._lock:
            self.collect()
            values = tuple(self._to_value(arg) for arg in args)
            operation = self._host.call(
                function.handle, values, timeout_s=timeout_s, epoch=function.epoch, function=function.name
            )
            return self._from_value(self._run(operation), function.name)

    def time_evaluator(
        self,
        name: str,
        *,
        number: int = 10,
        repeat: int = 1,
        min_repeat_ms: int = 0,
        timeout_s: float | None = None,
    ) -> Callable[..., Timing]:
        """Give a function that times the board's function `name` by the board's own clock.

        Called with that function's arguments, it runs it `number` times for each of `repeat` figures, more often until
        a figure took `min_repeat_ms`. `timeout_s` must cover all of it.
        """
        library = self.system_library()
        if library is None:
            raise FunctionNotFoundError(f"{self.name} has no system library, and only its functions can be timed")
        evaluator = self.function(TIME_EVALUATOR_FUNCTION)
        timed = evaluator(library, name, CPU.type, CPU.id, number, repeat, min_repeat_ms, 0, 0, 1, 0, "")

        def evaluate(*args: Any) -> Timing:
            seconds = timed(*args, timeout_s=timeout_s)
            if not isinstance(seconds, bytes) or len(seconds) != 8 * repeat:
                raise ProtocolError("6", f"{TIME_EVALUATOR_FUNCTION} returned {seconds!r}, not {repeat} doubles")
            return Timing(struct.unpack(f"<{repeat}d", seconds))

        return evaluate

    # --- memory --------------------------------------------------------------------------------

    def array(self, data: npt.ArrayLike, *, on_progress: Progress | None = None) -> RemoteArray:
        """Allocate an array on the board and copy `data` into it, of any shape and any dtype that a board can have.

        `on_progress` is called with (bytes done, bytes in all) after each block.
        """
        source = np.asarray(data)
        remote = self.empty(source.shape, source.dtype)
        remote.write(source, on_progress=on_progress)
        return remote

    def empty(
        self, shape: int | Sequence[int], dtype: npt.DTypeLike | DataType | str, *, scope: str | None = None
    ) -> RemoteArray:
        """Allocate an array on the board, its contents undefined; `scope` names a memory scope that the board has.

        `dtype` is a numpy dtype, or a `DataType` or its name ("float32x4", "bfloat16") where numpy has none.
        """
        tensor = _describe(0, shape, dtype)
        with self._lock:
            self.collect()
            address = self._run(self._host.alloc(tensor, scope))
            if not address:
                raise RemoteError(
                    "it gave address 0", function="alloc", code=PacketCode.DEV_ALLOC_DATA_WITH_SCOPE.label
                )
            return RemoteArray(self, Tensor(address, CPU, tensor.dtype, tensor.shape))

    def array_at(self, address: int, shape: int | Sequence[int], dtype: npt.DTypeLike | DataType | str) -> RemoteArray:
        """Give access to memory of the board by its address; it is not freed."""
        return RemoteArray(self, _describe(address, shape, dtype), owned=False)

    def copy(self, source: RemoteArray, target: RemoteArray) -> None:
        """Copy one array of the board into another, on the board."""
        with self._lock:
            args = (source.tensor, target.tensor, OpaqueHandle(0))
            self.syscall(PacketCode.COPY_AMONG_REMOTE, *args, epoch=source.epoch)

    def write_bytes(self, data: memoryview, array: RemoteArray, *, on_progress: Progress | None) -> None:
        """Copy bytes into an array; `RemoteArray.write` does it."""
        with self._lock:
            self.collect()
            self._run(self._host.copy_to(data, array.tensor, epoch=array.epoch, on_progress=on_progress))

    def read_bytes(self, array: RemoteArray, into: memoryview, *, on_progress: Progress | None) -> None:
        """Copy bytes out of an array; `RemoteArray.numpy` does it."""
        with self._lock:
            self.collect()
            self._run(self._host.copy_from(array.tensor, into, epoch=array.epoch, on_progress=on_progress))

    # --- the rest ------------------------------------------------------------------------------

    def max_packet_bytes(self) -> int:
        """Give the largest packet that the board takes, in bytes; 2**64 - 1 where it knows none."""
        return self._run(self._host.max_packet_bytes())

    def create_stream(self) -> RemoteStream:
        """Create a stream on the board. Raises RemoteError where it cannot."""
        handle = self.syscall(PacketCode.DEV_CREATE_STREAM, CPU)
        return RemoteStream(self, OpaqueHandle(handle if isinstance(handle, int) else 0))

    def set_device(self, device: Device = CPU) -> None:
        """Choose the device for what follows. Raises RemoteError on a stock board."""
        self.syscall(PacketCode.DEV_SET_DEVICE, device)

    def attribute(self, kind: int, device: Device = CPU) -> Value:
        """Give an attribute of a device. Raises RemoteError on a stock board."""
        return self.syscall(PacketCode.DEV_GET_ATTR, device, kind)

    def syscall(self, code: PacketCode, *args: Value, epoch: int | None = None) -> Value:
        """Send a syscall and give the value that it returns."""
        with self._lock:
            self.collect()
            return self._run(self._host.syscall(code, *args, epoch=epoch))

    def request(self, request: Request) -> Reply:
        """Send any request and give the reply as it is; a proxy serves a board to others with it."""
        with self._lock:
            try:
                reply: Return | CopyAck = self._run(self._host.request(request))
            except RemoteError as error:
                return RemoteException(error.message)
            return reply

    @property
    def session_id(self) -> int:
        """The id of the session, both nonces in it; 0 where there is none, as over TCP."""
        return self._conversation.session_id

    @property
    def epoch(self) -> int:
        """How often the board was seen to reset; what it handed out belongs to one epoch."""
        return self._conversation.epoch

    @property
    def reply_epoch(self) -> int:
        """The epoch in which the last request was sent."""
        return self._conversation.reply_epoch

    # --- handles -------------------------------------------------------------------------------

    def collect(self) -> None:
        """Free on the board what was freed or garbage collected here; stop at the first sign of trouble.

        Trouble is not raised here, where it would be blamed on another request: the next one meets it again.
        """
        while self.garbage and not self._closed:
            with self._lock:
                if not self.garbage:
                    return
                owned = self.garbage.popleft()
                if owned.epoch != self.epoch:
                    continue
                try:
                    self._run(self._host.free(*owned))
                except RemoteError:
                    pass  # the board does not free such a thing
                except BoardError:
                    return

    def close(self, *, shutdown: bool = False) -> None:
        """Free everything on the board, leave the session and release the port; never fails, closing twice is fine.

        `shutdown` sends Shutdown too, as TVM's host does: a stock board is deaf from then on, until it is reset.
        """
        with self._lock:
            if not self._closed:
                with contextlib.suppress(MicroRpcError, OSError):
                    for owner in list(self.live):
                        owner.discard()
                    self.collect()
                    self._run(self._conversation.close(shutdown))
                self._closed = "it was closed here"
            self._channel.close()
            on_close, self._on_close = self._on_close, lambda: None
        on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Board {self.name}{' closed' if self._closed else ''}>"

    # --- values --------------------------------------------------------------------------------

    def _to_value(self, arg: Any) -> Value:
        if isinstance(arg, RemoteHandle):
            if arg.board is not self:
                raise RequestError(f"{arg!r} belongs to another board")
            return arg.as_value()
        value: Value = arg
        return value

    def _from_value(self, value: Value | ArrayResult, function: str) -> Any:
        if isinstance(value, FunctionHandle):
            return RemoteFunction(self, int(value), f"{function}()")
        if isinstance(value, ModuleHandle):
            return RemoteModule(self, int(value), f"{function}()")
        if isinstance(value, ArrayResult):
            return RemoteArray(self, value.tensor, result_handle=int(value.handle))
        return value


def _describe(address: int, shape: int | Sequence[int], dtype: npt.DTypeLike | DataType | str) -> Tensor:
    if isinstance(dtype, str):
        dtype = DataType.parse(dtype)
    elif not isinstance(dtype, DataType):
        dtype = DataType.from_numpy(np.dtype(dtype))
    sizes = (shape,) if isinstance(shape, int) else tuple(int(size) for size in shape)
    if any(size < 0 for size in sizes):
        raise RequestError(f"a shape has no negative sizes: {sizes}")
    return Tensor(address, CPU, dtype, sizes)
