"""What a board can be asked for, one generator an operation: the whole of a client, but for the waiting.

`BoardOperations` makes, of the exchanges in `microrpc.host`, what users see: functions by name, arrays, garbage that
is given back. It is sans I/O, like what it is built on. `microrpc.client` pumps these operations over a channel that
blocks, `microrpc.aio` over one that is awaited; a client runs one operation at a time, from its first step to its last.
"""

from __future__ import annotations

import struct
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from microrpc.errors import (
    BoardError,
    ClosedError,
    FunctionNotFoundError,
    ProtocolError,
    RemoteError,
    RequestError,
)
from microrpc.host.copies import copy_from, copy_to
from microrpc.host.handles import AnyArray, AnyFunction, AnyHandle, AnyModule, Keeper, Owned, Timing, describe
from microrpc.host.operation import Operation
from microrpc.host.requests import Exchanger, Host, Progress
from microrpc.host.stats import Stats
from microrpc.host.verify import Verifier
from microrpc.wire.datatypes import (
    CPU,
    ArrayResult,
    DataType,
    FunctionHandle,
    ModuleHandle,
    OpaqueHandle,
    Tensor,
    Value,
)
from microrpc.wire.names import MODULE_GET_FUNCTION, TIME_EVALUATOR_FUNCTION
from microrpc.wire.packets import CopyAck, PacketCode, RemoteException, Reply, Request, Return


class PumpedConversation(Exchanger, Protocol):
    """A conversation that a client can drive: `microrpc.host.connection.Conversation` or `microrpc.host.stream`'s."""

    @property
    def session_id(self) -> int:
        """The id of the session, 0 without one."""

    @property
    def stats(self) -> Stats:
        """What was counted so far."""

    def take_output(self) -> bytes:
        """Give the bytes that are to be sent now."""

    def write_by(self, deadline: float, now: float) -> float:
        """Until when the port may take them, where the operation waits until `deadline`."""

    def open(self) -> Operation[None]:
        """Begin."""

    def close(self, shutdown: bool) -> Operation[None]:
        """End."""

    def on_port_reopened(self, on_session: Callable[[bool], None]) -> None:
        """Begin anew over a port that was opened again; `on_session` is told whether the board lost its memory."""


class Client(Keeper, Protocol):
    """What the operations need of the client that hands their results out."""

    name: str


T = TypeVar("T")
FunctionT = TypeVar("FunctionT", bound=AnyFunction[Any])
ModuleT = TypeVar("ModuleT", bound=AnyModule[Any])
ArrayT = TypeVar("ArrayT", bound=AnyArray[Any])


class BoardOperations(Generic[FunctionT, ModuleT, ArrayT]):
    """The operations of one connection, and what is known of it.

    `function`, `module` and `array` make what is handed out: they are called like the classes in `microrpc.host.handles`.
    `call_s` is how long a reply is waited for where nothing else is said.
    """

    def __init__(
        self,
        client: Client,
        conversation: PumpedConversation,
        *,
        call_s: float,
        function: Callable[..., FunctionT],
        module: Callable[..., ModuleT],
        array: Callable[..., ArrayT],
    ) -> None:
        self.conversation = conversation
        self.garbage: deque[Owned] = deque()
        self.live: weakref.WeakSet[AnyHandle[Any]] = weakref.WeakSet()
        self.closed = ""
        """Why nothing can be asked any more; empty while it can."""
        self._client = client
        self._host = Host(conversation, call_s=call_s)
        self._verifier = Verifier(self._host)
        self._make_function, self._make_module, self._make_array = function, module, array
        self._system_library: ModuleT | None = None
        self._get_function: FunctionT | None = None

    def closed_error(self) -> ClosedError:
        """Give the error for a request after the end."""
        return ClosedError(f"the connection to {self._client.name} is closed ({self.closed}); connect again")

    def resume(self, operation: Operation[T], on_session: Callable[[bool], None]) -> Operation[T]:
        """Give `operation` with a new session before it, for a port that went away and is open again.

        So the operation knows from its first step whether the handles that it uses are gone.
        """
        self.closed = ""
        self.conversation.on_port_reopened(on_session)
        return self._after_session(operation)

    def _after_session(self, operation: Operation[T]) -> Operation[T]:
        yield from self.conversation.begin(None)
        return (yield from operation)

    # --- functions -----------------------------------------------------------------------------

    def function(self, name: str) -> Operation[FunctionT]:
        """Look a function up: in the global registry first, then in the system library."""
        found = yield from self.global_function(name)
        library = None if found else (yield from self.system_library())
        if library is not None:
            found = yield from self.find_in_module(library, name)
        if found is None:
            where = "neither its global registry nor its system library has it"
            if library is None:
                where = "its global registry does not have it, and it has no system library"
            raise FunctionNotFoundError(
                f"{self._client.name} has no function {name!r}: {where}; check the name's spelling"
            )
        return found

    def global_function(self, name: str) -> Operation[FunctionT | None]:
        """Look a function up in the global registry alone; None where there is none of that name."""
        handle = yield from self._host.look_up(name)
        return self._make_function(self._client, handle, name) if handle else None

    def system_library(self) -> Operation[ModuleT | None]:
        """Give the board's system library, None where it has none."""
        if self._system_library is None or not self._system_library.is_live:
            handle = yield from self._host.system_library()
            self._system_library = self._make_module(self._client, handle, "system library") if handle else None
        return self._system_library

    def find_in_module(self, module: AnyModule[Any], name: str) -> Operation[FunctionT | None]:
        """Look a function up in a module."""
        if self._get_function is None or not self._get_function.is_live:
            self._get_function = yield from self.global_function(MODULE_GET_FUNCTION)
        if self._get_function is None:
            return None
        found: FunctionT | None = yield from self.call(self._get_function, (module, name, 1))
        if not isinstance(found, AnyFunction):
            return None
        found.name = name
        return found

    def call(
        self, function: AnyFunction[Any], args: Sequence[Any], *, timeout_s: float | None = None
    ) -> Operation[Any]:
        """Call a function with values and handles of this board, and give its result as one of those."""
        if self.garbage:
            yield from self.collect()
        values = tuple([self._to_value(arg) if isinstance(arg, AnyHandle) else arg for arg in args])
        name = function.name
        result = yield from self._host.call(
            function.handle, values, timeout_s=timeout_s, epoch=function.epoch, function=name
        )
        return self._from_value(result, name)

    def time_evaluator(self, name: str, *, number: int, repeat: int, min_repeat_ms: int) -> Operation[FunctionT]:
        """Give the board's function that times its function `name`; `timing` calls it."""
        library = yield from self.system_library()
        if library is None:
            raise FunctionNotFoundError(
                f"{self._client.name} has no system library, and only its functions can be timed"
            )
        evaluator = yield from self.function(TIME_EVALUATOR_FUNCTION)
        arguments = (library, name, CPU.type, CPU.id, number, repeat, min_repeat_ms, 0, 0, 1, 0, "")
        timed: FunctionT = yield from self.call(evaluator, arguments)
        return timed

    def timing(
        self, timed: FunctionT, args: Sequence[Any], *, repeat: int, timeout_s: float | None
    ) -> Operation[Timing]:
        """Call what `time_evaluator` gave."""
        seconds = yield from self.call(timed, args, timeout_s=timeout_s)
        if not isinstance(seconds, bytes) or len(seconds) != 8 * repeat:
            raise ProtocolError("6", f"{TIME_EVALUATOR_FUNCTION} returned {seconds!r}, not {repeat} doubles")
        return Timing(struct.unpack(f"<{repeat}d", seconds))

    # --- memory --------------------------------------------------------------------------------

    def array(
        self, data: npt.ArrayLike, *, on_progress: Progress | None = None, verify: bool = False
    ) -> Operation[ArrayT]:
        """Allocate an array on the board and copy `data` into it."""
        source = np.asarray(data)
        array = yield from self.empty(source.shape, source.dtype)
        yield from self.write(array.pack(source), array, on_progress=on_progress, verify=verify)
        return array

    def empty(
        self, shape: int | Sequence[int], dtype: npt.DTypeLike | DataType | str, *, scope: str | None = None
    ) -> Operation[ArrayT]:
        """Allocate an array on the board, its contents undefined; `scope` names a memory scope that the board has."""
        tensor = describe(0, shape, dtype)
        yield from self.collect()
        address = yield from self._host.alloc(tensor, scope)
        if not address:
            raise RemoteError("it gave address 0", function="alloc", code=PacketCode.DEV_ALLOC_DATA_WITH_SCOPE.label)
        return self._make_array(self._client, Tensor(address, CPU, tensor.dtype, tensor.shape))

    def copy(self, source: AnyArray[Any], target: AnyArray[Any]) -> Operation[None]:
        """Copy one array of the board into another, on the board."""
        args = (self._to_value(source), self._to_value(target), OpaqueHandle(0))
        yield from self.syscall(PacketCode.COPY_AMONG_REMOTE, *args, epoch=source.epoch)

    def write(
        self, data: memoryview, array: AnyArray[Any], *, on_progress: Progress | None, verify: bool
    ) -> Operation[None]:
        """Copy bytes into an array, and where `verify` is set compare what is in it then."""
        yield from self.collect()
        tensor = array.tensor
        begun_at = yield from self.conversation.begin(array.epoch)
        yield from copy_to(self._host, data, tensor, epoch=array.epoch, on_progress=on_progress)
        if data:
            self.conversation.counters.note_copy_to(len(data), begun_at)
        if verify:
            yield from self._verifier.check_written(data, tensor, array.epoch)

    def read(
        self, array: AnyArray[Any], into: memoryview, *, on_progress: Progress | None, verify: bool
    ) -> Operation[None]:
        """Copy bytes out of an array, and where `verify` is set compare what is in it."""
        yield from self.collect()
        tensor = array.tensor
        begun_at = yield from self.conversation.begin(array.epoch)
        yield from copy_from(self._host, tensor, into, epoch=array.epoch, on_progress=on_progress)
        if into:
            self.conversation.counters.note_copy_from(len(into), begun_at)
        if verify:
            yield from self._verifier.check_read(into, tensor, array.epoch)

    # --- the rest ------------------------------------------------------------------------------

    def max_packet_bytes(self) -> Operation[int]:
        """Give the largest packet that the board takes, in bytes; 2**64 - 1 where it knows none."""
        return self._host.max_packet_bytes()

    def create_stream(self) -> Operation[OpaqueHandle]:
        """Create a stream on the board."""
        handle = yield from self.syscall(PacketCode.DEV_CREATE_STREAM, CPU)
        return OpaqueHandle(handle if isinstance(handle, int) else 0)

    def syscall(self, code: PacketCode, *args: Value, epoch: int | None = None) -> Operation[Value]:
        """Send a syscall and give the value that it returns."""
        yield from self.collect()
        return (yield from self._host.syscall(code, *args, epoch=epoch))

    def request(self, request: Request) -> Operation[Reply]:
        """Send any request and give the reply as it is."""
        try:
            reply: Return | CopyAck = yield from self._host.request(request)
        except RemoteError as error:
            return RemoteException(error.message)
        return reply

    def collect(self) -> Operation[None]:
        """Free on the board what was freed or garbage collected here; stop at the first sign of trouble.

        Trouble is not raised here, where it would be blamed on another request: the next one meets it again.
        """
        while self.garbage:
            owned = self.garbage.popleft()
            if owned.epoch != self.conversation.epoch:
                continue
            try:
                yield from self._host.free(*owned)
            except RemoteError:
                pass  # the board does not free such a thing
            except BoardError:
                return

    def close(self, shutdown: bool) -> Operation[None]:
        """Free everything on the board and leave the session; the client releases the port then."""
        for owner in sorted(self.live, key=lambda owner: owner._handle):  # a set of weak references has no order
            owner.discard()
        yield from self.collect()
        yield from self.conversation.close(shutdown)

    # --- values --------------------------------------------------------------------------------

    def _to_value(self, arg: AnyHandle[Any]) -> Value:
        if arg.board is not self._client:
            raise RequestError(f"{arg!r} belongs to another board")
        return arg.as_value()

    def _from_value(self, value: Value | ArrayResult, function: str) -> Any:
        if isinstance(value, FunctionHandle):
            return self._make_function(self._client, int(value), f"{function}()")
        if isinstance(value, ModuleHandle):
            return self._make_module(self._client, int(value), f"{function}()")
        if isinstance(value, ArrayResult):
            return self._make_array(self._client, value.tensor, result_handle=int(value.handle))
        return value
