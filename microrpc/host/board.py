"""What a board can be asked for, one operation each: the whole of a client, but for the waiting.

`BoardOperations` makes, of the questions in `microrpc.host.requests`, what users see: functions by name, arrays,
garbage that is given back. A client (`microrpc.client`) runs one operation at a time, from its first step to its last.
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
    FunctionNotFoundError,
    ProtocolError,
    RemoteError,
    RequestError,
)
from microrpc.host.copies import copy_from, copy_to
from microrpc.host.handles import AnyArray, AnyFunction, AnyHandle, AnyModule, Keeper, Owned, Timing, describe
from microrpc.host.job import Progress
from microrpc.host.operation import Operation
from microrpc.host.requests import AnyConnection, Requests
from microrpc.host.timing import COUNTS, evaluator_arguments, is_refusal
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
from microrpc.wire.names import MODULE_GET_FUNCTION, RELEASE_FUNCTION, TIME_EVALUATOR_FUNCTION
from microrpc.wire.packets import CallFunc, CopyAck, PacketCode, RemoteException, Reply, Request, Return, decode_result


class Client(Keeper, Protocol):
    """What the operations need of the client that hands their results out."""

    @property
    def name(self) -> str:
        """The port as the user gave it, for messages."""


T = TypeVar("T")
FunctionT = TypeVar("FunctionT", bound=AnyFunction[Any])
ModuleT = TypeVar("ModuleT", bound=AnyModule[Any])
ArrayT = TypeVar("ArrayT", bound=AnyArray[Any])


class BoardOperations(Generic[FunctionT, ModuleT, ArrayT]):
    """The operations of one connection, and what is known of it.

    `function`, `module` and `array` make what is handed out: they are called like the classes in
    `microrpc.host.handles`. `call_s` is how long a reply is waited for where nothing else is said. garbage: what is to
    be given back with the next request; live: what is to be given back when the board is closed.
    """

    def __init__(
        self,
        client: Client,
        connection: AnyConnection,
        *,
        call_s: float,
        function: Callable[..., FunctionT],
        module: Callable[..., ModuleT],
        array: Callable[..., ArrayT],
    ) -> None:
        self.connection = connection
        self.garbage: deque[Owned] = deque()
        self.live: weakref.WeakSet[AnyHandle[Any]] = weakref.WeakSet()
        self._client = client
        self._requests = Requests(connection, call_s=call_s)
        self._verifier = Verifier(self._requests)
        self._make_function, self._make_module, self._make_array = function, module, array
        self._system_library: ModuleT | None = None
        self._get_function: FunctionT | None = None
        self._evaluator_counts, self._evaluator_epoch = COUNTS, -1

    # --- functions -----------------------------------------------------------------------------

    def function(self, name: str) -> Operation[FunctionT]:
        """Look a function up: in the global registry first, then in the system library.

        Raises FunctionNotFoundError.
        """
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
        """Look a function up in the global registry alone; None where there is none of that name.

        Raises RequestError for the one that frees everybody's memory.
        """
        if name == RELEASE_FUNCTION:
            raise RequestError(
                f"{name} is not called as a function, because handles would go on as if their memory were there: "
                f"use `release_all()` of the board, `connect(..., release=True)` or `microrpc reset --memory`"
            )
        handle = yield from self._requests.look_up(name)
        return self._make_function(self._client, handle, name) if handle else None

    def system_library(self) -> Operation[ModuleT | None]:
        """Give the board's system library, None where it has none."""
        if self._system_library is None or not self._system_library.is_live:
            handle = yield from self._requests.system_library()
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

    def call(self, function: AnyFunction[Any], args: tuple[Any, ...], timeout_s: float | None = None) -> Operation[Any]:
        """Call a function with values and handles of this board, and give its result as one of those.

        Raises StaleHandleError, RequestError for a handle of another board, and what `Requests.request` raises.
        """
        for arg in args:
            if isinstance(arg, AnyHandle):
                args = tuple([self._to_value(arg) if isinstance(arg, AnyHandle) else arg for arg in args])
                break
        operation = self._requests.request(
            CallFunc(function.handle, args),
            timeout_s=timeout_s,
            epoch=function.epoch,
            function=function.name,
            finish=self._finish_call,
        )
        return self._collect_before(operation) if self.garbage else operation

    def _collect_before(self, operation: Operation[T]) -> Operation[T]:
        yield from self.collect()
        return (yield from operation)

    def time_evaluator(self, name: str, *, number: int, repeat: int, min_repeat_ms: int) -> Operation[FunctionT]:
        """Give the board's function that times its function `name` (docs/protocol.md 6); `timing` calls it.

        Raises FunctionNotFoundError.
        """
        library = yield from self.system_library()
        if library is None:
            raise FunctionNotFoundError(
                f"{self._client.name} has no system library, and only its functions can be timed"
            )
        evaluator = yield from self.function(TIME_EVALUATOR_FUNCTION)
        if self._evaluator_epoch != self.connection.trust.epoch:
            self._evaluator_counts = COUNTS  # it may have other firmware now
        refusals = []
        for count in self._evaluator_counts:
            arguments = evaluator_arguments(
                count, library, name, number=number, repeat=repeat, min_repeat_ms=min_repeat_ms
            )
            try:
                timed: FunctionT = yield from self.call(evaluator, arguments)
            except RemoteError as error:
                refusals.append(error)
            else:
                self._evaluator_counts, self._evaluator_epoch = (count,), evaluator.epoch
                return timed
        # A stock board has no text of its own for a name that is not there.
        if (yield from self.find_in_module(library, name)) is None:
            raise FunctionNotFoundError(
                f"{self._client.name} has no function {name!r} in its system library, and only its functions can be "
                f"timed; check the name's spelling"
            )
        raise next((error for error in refusals if not is_refusal(error.message)), refusals[0])

    def timing(
        self, timed: FunctionT, args: Sequence[Any], *, repeat: int, timeout_s: float | None
    ) -> Operation[Timing]:
        """Call what `time_evaluator` gave. Raises ProtocolError where it returns no such figures."""
        seconds = yield from self.call(timed, tuple(args), timeout_s)
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
        """Allocate an array on the board, its contents undefined; `scope` names a memory scope that the board has.

        Raises RequestError for what no array can be, and RemoteError where the board has no room.
        """
        tensor = describe(0, shape, dtype)
        yield from self.collect()
        address = yield from self._requests.alloc(tensor, scope)
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
        """Copy bytes (u8) into an array, and where `verify` is set compare what is in it then. Raises VerifyError."""
        yield from self.collect()
        tensor = array.tensor
        begun_at = yield from self.connection.begin(array.epoch)
        yield from copy_to(self._requests, data, tensor, epoch=array.epoch, on_progress=on_progress)
        if data:
            self.connection.counters.note_copy_to(len(data), begun_at)
        if verify:
            yield from self._verifier.check_written(data, tensor, array.epoch)

    def read(
        self, array: AnyArray[Any], into: memoryview, *, on_progress: Progress | None, verify: bool
    ) -> Operation[None]:
        """Copy bytes (u8) out of an array, and where `verify` is set compare what is in it. Raises VerifyError."""
        yield from self.collect()
        tensor = array.tensor
        begun_at = yield from self.connection.begin(array.epoch)
        yield from copy_from(self._requests, tensor, into, epoch=array.epoch, on_progress=on_progress)
        if into:
            self.connection.counters.note_copy_from(len(into), begun_at)
        if verify:
            yield from self._verifier.check_read(into, tensor, array.epoch)

    # --- the rest ------------------------------------------------------------------------------

    def max_packet_bytes(self) -> Operation[int]:
        """See `Requests.max_packet_bytes`."""
        return self._requests.max_packet_bytes()

    def release_all(self) -> Operation[int]:
        """Free all that was allocated over the wire, by anybody; give how many bytes. Every handle is stale then.

        Raises FunctionNotFoundError where the board has no function for it, as stock firmware has not.
        """
        handle = yield from self._requests.look_up(RELEASE_FUNCTION)
        if not handle:
            raise FunctionNotFoundError(
                f"{self._client.name} has no function {RELEASE_FUNCTION!r}, which frees what earlier programs have "
                f"left in a board's memory, and stock firmware has none: reset the board"
            )
        self.connection.trust.forget_handles()
        freed_bytes = yield from self._requests.call(handle, (), function=RELEASE_FUNCTION)
        if not isinstance(freed_bytes, int):
            raise ProtocolError("3", f"{RELEASE_FUNCTION} returned {freed_bytes!r}, not a number of bytes")
        return freed_bytes

    def create_stream(self) -> Operation[OpaqueHandle]:
        """Create a stream on the board."""
        handle = yield from self.syscall(PacketCode.DEV_CREATE_STREAM, CPU)
        return OpaqueHandle(handle if isinstance(handle, int) else 0)

    def syscall(self, code: PacketCode, *args: Value, epoch: int | None = None) -> Operation[Value]:
        """Send a syscall and give the value that it returns."""
        yield from self.collect()
        return (yield from self._requests.syscall(code, *args, epoch=epoch))

    def request(self, request: Request) -> Operation[Reply]:
        """Send any request and give the reply as it is, an exception of the board too."""
        try:
            reply: Return | CopyAck = yield from self._requests.request(request)
        except RemoteError as error:
            return RemoteException(error.message)
        return reply

    def collect(self) -> Operation[None]:
        """Free on the board what was freed or garbage collected here; stop at the first sign of trouble.

        Trouble is not raised here, where it would be blamed on another request: the next one meets it again.
        """
        while self.garbage:
            owned = self.garbage.popleft()
            if owned.epoch != self.connection.trust.epoch:
                continue
            try:
                yield from self._requests.free(*owned)
            except RemoteError:
                pass  # the board does not free such a thing
            except BoardError:
                return

    def close(self, shutdown: bool) -> Operation[None]:
        """Free everything on the board and leave the session; the client releases the port then."""
        for owner in sorted(self.live, key=lambda owner: owner._handle):  # a set of weak references has no order
            owner.discard()
        yield from self.collect()
        yield from self.connection.close(shutdown)

    # --- values --------------------------------------------------------------------------------

    def _to_value(self, arg: AnyHandle[Any]) -> Value:
        if arg.board is not self._client:
            raise RequestError(f"{arg!r} belongs to another board")
        return arg.as_value()

    def _finish_call(self, reply: Return | CopyAck, function: str) -> Any:
        if not isinstance(reply, Return):
            raise ProtocolError("3", f"{function} returned {type(reply).__name__}")
        value = decode_result(reply.values)
        if isinstance(value, FunctionHandle):
            return self._make_function(self._client, int(value), f"{function}()")
        if isinstance(value, ModuleHandle):
            return self._make_module(self._client, int(value), f"{function}()")
        if isinstance(value, ArrayResult):
            return self._make_array(self._client, value.tensor, result_handle=int(value.handle))
        return value
