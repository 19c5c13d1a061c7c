"""What a board can be asked for, one operation each: the whole of a client, but for the waiting.

`BoardOperations` makes, of the questions in `microrpc.host.requests`, what users see: functions by name, arrays,
garbage that is given back. A client (`microrpc.client`) runs one operation at a time, from its first step to its last.
"""

from __future__ import annotations

import contextlib
import logging
import math
import struct
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from microrpc.errors import (
    BoardError,
    CallTimeoutError,
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
from microrpc.wire.packets import CallFunc, CopyAck, PacketCode, RemoteException, Reply, Request, Return, decode_result


class Client(Keeper, Protocol):
    """What the operations need of the client that hands their results out."""

    @property
    def name(self) -> str:
        """The port as the user gave it, for messages."""


_log = logging.getLogger("microrpc")

# What is garbage goes little by little with the requests, each of which makes no more than one thing.
_PORTION = 8
_PORTION_S = 0.05  # nothing more is begun then
_ALLOCATIONS = (PacketCode.DEV_ALLOC_DATA, PacketCode.DEV_ALLOC_DATA_WITH_SCOPE)

T = TypeVar("T")
FunctionT = TypeVar("FunctionT", bound=AnyFunction[Any])
ModuleT = TypeVar("ModuleT", bound=AnyModule[Any])
ArrayT = TypeVar("ArrayT", bound=AnyArray[Any])


class BoardOperations(Generic[FunctionT, ModuleT, ArrayT]):
    """The operations of one connection, and what is known of it.

    `function`, `module` and `array` make what is handed out: they are called like the classes in
    `microrpc.host.handles`. `call_s` is how long a reply is waited for where nothing else is said. garbage: what is to
    be given back with the next requests; live: what is to be given back when the board is closed.
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
        """Look a function up in the global registry alone; None where there is none of that name."""
        yield from self.collect()
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

    def call(
        self,
        function: AnyFunction[Any],
        args: tuple[Any, ...],
        timeout_s: float | None = None,
        *,
        collects: bool = True,
    ) -> Operation[Any]:
        """Call a function with values and handles of this board, and give its result as one of those.

        `timeout_s` holds for the garbage that is given back before it too, where it `collects`.
        Raises StaleHandleError, RequestError for a handle of another board, and what `Requests.request` raises.
        """
        for arg in args:
            if isinstance(arg, AnyHandle):
                args = tuple([self._to_value(arg) if isinstance(arg, AnyHandle) else arg for arg in args])
                break
        request = CallFunc(function.handle, args)
        if self.garbage and collects:
            return self._call_after_garbage(function, args, timeout_s)
        return self._requests.request(
            request,
            timeout_s=timeout_s,
            epoch=function.epoch,
            function=function.name,
            finish=self._finish_call,
        )

    def _call_after_garbage(
        self, function: AnyFunction[Any], args: tuple[Any, ...], timeout_s: float | None
    ) -> Operation[Any]:
        limit_s = self._requests.call_s if timeout_s is None else timeout_s
        begun_at = yield from self.connection.begin(None)
        trouble = yield from self.collect(limit_s)
        if isinstance(trouble, CallTimeoutError):
            raise CallTimeoutError(
                f"{function.name} was not called: what was to be freed before it was not answered within "
                f"{limit_s:g} s. Give it a longer timeout_s, or check the board; the next request starts a new session",
                may_have_run=False,
            ) from trouble
        spent_s = max(self.connection.counters.now - begun_at, 0.0)
        return (yield from self.call(function, args, round(limit_s - spent_s, 6), collects=False))

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
        arguments = (library, name, CPU.type, CPU.id, number, repeat, min_repeat_ms, 0, 0, 1, 0, "")
        timed: FunctionT = yield from self.call(evaluator, arguments)
        return timed

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
        address = yield from self._allocate(lambda: self._requests.alloc(tensor, scope))
        if not address:
            raise RemoteError("it gave address 0", function="alloc", code=PacketCode.DEV_ALLOC_DATA_WITH_SCOPE.label)
        return self._make_array(self._client, Tensor(address, CPU, tensor.dtype, tensor.shape))

    def _allocate(self, ask: Callable[[], Operation[T]]) -> Operation[T | None]:
        """Ask for memory; where there is none, free all that waits to be freed, and ask again."""
        yield from self.collect()
        found = None
        try:
            found = yield from ask()
        except RemoteError:
            if not self.garbage:
                raise
        if not found and self.garbage:
            yield from self._collect_all()
            found = yield from ask()
        return found

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

    def create_stream(self) -> Operation[OpaqueHandle]:
        """Create a stream on the board."""
        handle = yield from self.syscall(PacketCode.DEV_CREATE_STREAM, CPU)
        return OpaqueHandle(handle if isinstance(handle, int) else 0)

    def syscall(self, code: PacketCode, *args: Value, epoch: int | None = None) -> Operation[Value]:
        """Send a syscall and give the value that it returns."""
        if code in _ALLOCATIONS:
            return (yield from self._allocate(lambda: self._requests.syscall(code, *args, epoch=epoch)))
        yield from self.collect()
        return (yield from self._requests.syscall(code, *args, epoch=epoch))

    def request(self, request: Request) -> Operation[Reply]:
        """Send any request and give the reply as it is, an exception of the board too."""
        try:
            reply: Return | CopyAck = yield from self._requests.request(request)
        except RemoteError as error:
            return RemoteException(error.message)
        return reply

    def collect(self, timeout_s: float | None = None) -> Operation[BoardError | None]:
        """Free on the board a little of what was freed or garbage collected here, within `timeout_s`.

        It stops at the first sign of trouble, and gives it. That is not raised here, where it would be blamed on
        another request: the next one meets it again.
        """
        limit_s = self._requests.call_s if timeout_s is None else timeout_s
        enough_s = min(limit_s / 2, _PORTION_S)
        begun_at, spent_s, count = -math.inf, 0.0, 0
        try:
            while self._has_garbage() and count < _PORTION and spent_s < enough_s:
                if not count:
                    begun_at = yield from self.connection.begin(None)
                    if not self._has_garbage():  # the board was reset
                        break
                count += 1
                with contextlib.suppress(RemoteError):  # the board does not free such a thing
                    yield from self._requests.free(*self.garbage.popleft(), timeout_s=limit_s - spent_s)
                spent_s = self.connection.counters.now - begun_at
        except BoardError as trouble:
            return trouble
        return None

    def _has_garbage(self) -> bool:
        """Whether anything is to be freed; what a reset has freed is forgotten."""
        while self.garbage and self.garbage[0].epoch != self.connection.trust.epoch:
            self.garbage.popleft()
        return bool(self.garbage)

    def _collect_all(self, limit_s: float = math.inf) -> Operation[None]:
        """Free all that waits for it, but begin nothing after `limit_s`."""
        end = math.inf
        while self._has_garbage() and (yield from self.collect()) is None:
            end = min(end, self.connection.counters.now + limit_s)
            if self.connection.counters.now >= end:
                return

    def close(self, shutdown: bool) -> Operation[None]:
        """Free everything on the board and leave the session; the client releases the port then.

        Freeing takes no longer than a reply may. What is left then stays on the board until its reset, and is logged.
        """
        for owner in sorted(self.live, key=lambda owner: owner._handle):  # a set of weak references has no order
            owner.discard()
        yield from self._collect_all(self._requests.call_s)
        left = sum(owned.epoch == self.connection.trust.epoch for owned in self.garbage)
        if left:
            text = "%s: closed before all could be freed: %d arrays and handles stay on the board until its reset"
            _log.warning(text, self._client.name, left)
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
