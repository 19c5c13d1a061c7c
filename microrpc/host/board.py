"""What a board can be asked for, one operation each: the whole of a client, but for the waiting.

`BoardOperations` makes, of the questions in `microrpc.host.requests`, what users see: functions by name, arrays,
garbage that is given back. A client (`microrpc.client`) runs one operation at a time, from its first step to its last.
"""

from __future__ import annotations

import struct
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy.typing as npt

from microrpc.errors import (
    CallTimeoutError,
    CopyRangeError,
    FunctionNotFoundError,
    ProtocolError,
    RemoteError,
    RequestError,
    UnsupportedValueError,
)
from microrpc.host.copies import copy_from, copy_to, flat
from microrpc.host.described import Callee, Described
from microrpc.host.disposal import Disposal, Waiting
from microrpc.host.handles import (
    AnyArray,
    AnyHandle,
    Timing,
    describe,
)
from microrpc.host.job import Progress
from microrpc.host.library import Library
from microrpc.host.making import ArrayT, Client, FunctionT, Maker, ModuleT
from microrpc.host.models import Models
from microrpc.host.operation import Operation
from microrpc.host.report import ask_memory
from microrpc.host.requests import AnyConnection, Requests
from microrpc.host.timing import Evaluators, Runs, check_runs
from microrpc.host.verify import Verifier
from microrpc.wire.checks import check_callable, check_text, show
from microrpc.wire.datatypes import CPU, DataType, OpaqueHandle, Tensor, Value
from microrpc.wire.memory import BoardMemory
from microrpc.wire.names import RELEASE_FUNCTION, TIME_EVALUATOR_FUNCTION
from microrpc.wire.packets import (
    CallFunc,
    CopyAck,
    PacketCode,
    RemoteException,
    Reply,
    Request,
    Return,
    Shutdown,
)

_A_NAME = "the name of a function"
_ALLOCATIONS = (PacketCode.DEV_ALLOC_DATA, PacketCode.DEV_ALLOC_DATA_WITH_SCOPE)

T = TypeVar("T")


class BoardOperations(Generic[FunctionT, ModuleT, ArrayT]):
    """The operations of one connection, and what is known of it.

    `function`, `module` and `array` make what is handed out: they are called like the classes in
    `microrpc.host.handles`. `call_s` is how long a reply is waited for where nothing else is said. garbage: what is to
    be given back with the next requests, of which `collect` is a portion, and disposal what does so; live: what is when
    the board is closed. described: what it tells of itself. system_library, find_in_module: what is there, as
    `Library` gives it. models: those of its firmware.
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
        self.live: weakref.WeakSet[AnyHandle[Any]] = weakref.WeakSet()
        self._requests = Requests(connection, call_s=call_s)
        self.disposal = Disposal(self._requests)
        self.garbage, self.collect = self.disposal.garbage, self.disposal.collect
        self._verifier = Verifier(self._requests)
        self._maker = Maker(client, function=function, module=module, array=array)
        self.described = Described(self._requests, self._maker)
        self.models = Models(self._requests, self._maker)
        self._library = library = Library(self._requests, self._maker)
        self.system_library, self.find_in_module = library.give, library.find
        self._evaluators = Evaluators()

    # --- functions -----------------------------------------------------------------------------

    def function(self, name: str) -> Operation[FunctionT]:
        """Look a function up: in the global registry first, then in the system library.

        Raises FunctionNotFoundError.
        """
        found = yield from self.global_function(name)
        library = None if found else (yield from self.system_library())
        if library is not None:
            found = yield from self.find_in_module(library, name)
            if found is not None:
                found.described_as = name
        if found is None:
            where = "neither its global registry nor its system library has it"
            if library is None:
                where = "its global registry does not have it, and it has no system library"
            hint = self.described.hint(name) or "; check the name's spelling"
            raise FunctionNotFoundError(f"{self._maker.client.name} has no function {name!r}: {where}{hint}")
        return found

    def global_function(self, name: str) -> Operation[FunctionT | None]:
        """Look a function up in the global registry alone; None where there is none of that name.

        Raises RequestError for what is no name, and for the function that frees everybody's memory.
        """
        name = check_text(name, _A_NAME)
        if name == RELEASE_FUNCTION:
            raise RequestError(
                f"{name} is not called as a function, because handles would go on as if their memory were there: "
                f"use `release_all()` of the board, `connect(..., release=True)` or `microrpc reset --memory`"
            )
        yield from self.collect()
        handle = yield from self._requests.look_up(name)
        return self._maker.function(handle, name) if handle else None

    def call(
        self,
        function: Callee,
        args: tuple[Any, ...],
        timeout_s: float | None = None,
        *,
        on_progress: Progress | None = None,
        collects: bool = True,
        renews: bool = False,
    ) -> Operation[Any]:
        """Call a function with values and handles of this board, and give its result as one of those.

        `timeout_s` holds for the garbage that is given back before it too, where it `collects`. on_progress, renews:
        as `Requests.request` has them.
        Raises StaleHandleError, RequestError for a handle of another board, ArgumentError where the board is known to
        take other arguments, and what `Requests.request` raises.
        """
        given = args
        for arg in args:
            if isinstance(arg, AnyHandle):
                args = tuple([self._maker.to_value(arg) if isinstance(arg, AnyHandle) else arg for arg in args])
                break
        handle = function.handle
        if function.epoch == self.described.epoch:
            args = self.described.check(function, args, given)
        request = CallFunc(handle, args)
        if self.garbage and collects:
            return self._call_after_garbage(function, args, timeout_s, on_progress)
        return self._requests.request(
            request,
            timeout_s=timeout_s,
            epoch=function.epoch,
            function=function.name,
            on_progress=on_progress,
            renews=renews,
            finish=self._maker.finish_call,
        )

    def _call_after_garbage(
        self,
        function: Callee,
        args: tuple[Any, ...],
        timeout_s: float | None,
        on_progress: Progress | None,
    ) -> Operation[Any]:
        limit_s = self._requests.call_s if timeout_s is None else timeout_s
        waiting = Waiting(self.connection, (yield from self.connection.begin(None)))
        trouble = yield from self.collect(limit_s)
        if isinstance(trouble, CallTimeoutError):
            raise CallTimeoutError(
                f"{function.name} was not called: what was to be freed before it was not answered within "
                f"{limit_s:g} s. Give it a longer timeout_s, or check the board; the next request starts a new session",
                may_have_run=False,
            ) from trouble
        left_s, renews = round(limit_s - waiting.spent_s, 6), timeout_s is None
        return (yield from self.call(function, args, left_s, on_progress=on_progress, collects=False, renews=renews))

    def time_evaluator(
        self,
        name: str,
        *,
        number: int,
        repeat: int,
        min_repeat_ms: int,
        module: ModuleT | None = None,
        **more: int,
    ) -> Operation[FunctionT]:
        """Give the board's function that times its function `name` (docs/protocol.md 6); `timing` calls it.

        The function is looked up in `module`, None being the system library. more: what else `Runs` has.
        Raises FunctionNotFoundError, and RequestError for numbers that no board could mean.
        """
        check_text(name, _A_NAME)
        runs = check_runs(Runs(number, repeat, min_repeat_ms, **more))
        library = module if module is not None else (yield from self.system_library())
        if library is None:
            raise FunctionNotFoundError(
                f"{self._maker.client.name} has no system library, and only its functions can be timed"
            )
        evaluator = yield from self.function(TIME_EVALUATOR_FUNCTION)
        try:
            timed: FunctionT = yield from self._evaluators.make(
                lambda args: self.call(evaluator, args), evaluator.epoch, library, name, runs
            )
        except RemoteError:
            if (yield from self.find_in_module(library, name)) is None:  # stock boards have no text of their own for it
                raise FunctionNotFoundError(
                    f"{self._maker.client.name} has no function {name!r} in its system library, and only its functions "
                    f"can be timed; check the name's spelling"
                ) from None
            raise
        return timed

    def timing(
        self,
        timed: FunctionT,
        args: Sequence[Any],
        *,
        repeat: int,
        timeout_s: float | None,
        on_progress: Progress | None = None,
    ) -> Operation[Timing]:
        """Call what `time_evaluator` gave. Raises ProtocolError where it returns no such figures."""
        seconds = yield from self.call(timed, tuple(args), timeout_s, on_progress=on_progress)
        if not isinstance(seconds, bytes) or len(seconds) != 8 * repeat:
            raise ProtocolError("6", f"{TIME_EVALUATOR_FUNCTION} returned {show(seconds)}, not {repeat} doubles")
        return Timing(struct.unpack(f"<{repeat}d", seconds))

    # --- memory --------------------------------------------------------------------------------

    def array(
        self, data: npt.NDArray[Any], *, on_progress: Progress | None = None, verify: bool = False
    ) -> Operation[ArrayT]:
        """Allocate an array on the board and copy `data` into it."""
        check_callable(on_progress, "on_progress")
        array = yield from self.empty(data.shape, data.dtype)
        yield from self.write(array.pack(data), array, on_progress=on_progress, verify=verify)
        return array

    def empty(
        self, shape: int | Sequence[int], dtype: npt.DTypeLike | DataType | str, *, scope: str | None = None
    ) -> Operation[ArrayT]:
        """Allocate an array on the board, its contents undefined; `scope` names a memory scope that the board has.

        Raises RequestError for what no array can be, and RemoteError where the board has no room.
        """
        tensor = describe(0, shape, dtype)
        address = yield from self._allocate(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, tensor, scope)
        return self._maker.array(Tensor(address, CPU, tensor.dtype, tensor.shape))

    def _allocate(self, code: PacketCode, *args: Value, epoch: int | None = None) -> Operation[OpaqueHandle]:
        """Ask for memory; where there is none, free all that waits to be freed, and ask again."""
        yield from self.collect()
        try:
            return (yield from self._requests.alloc(code, *args, epoch=epoch))
        except RemoteError:
            if not self.disposal.has_any:
                raise
        yield from self.disposal.collect_all()
        return (yield from self._requests.alloc(code, *args, epoch=epoch))

    def copy(self, source: AnyArray[Any], target: AnyArray[Any]) -> Operation[None]:
        """Copy one array of the board into another, on the board.

        Raises RequestError for what is no array, CopyRangeError where their shapes or data types differ.
        """
        for array in (source, target):
            if not isinstance(array, AnyArray):
                text = f"{show(array)} is no array on the board: `array.write` copies what is not there yet"
                raise RequestError(text)
        if (source.shape, source.dtype) != (target.shape, target.dtype):
            raise CopyRangeError(f"{source!r} does not fit {target!r}: their shapes and data types must be the same")
        args = (self._maker.to_value(source), self._maker.to_value(target), OpaqueHandle(0))
        yield from self.syscall(PacketCode.COPY_AMONG_REMOTE, *args, epoch=source.epoch)

    def write(
        self, data: memoryview, array: AnyArray[Any], *, on_progress: Progress | None, verify: bool
    ) -> Operation[None]:
        """Copy bytes (u8) into an array, and where `verify` is set compare what is in it then. Raises VerifyError."""
        tensor = flat(array.tensor)
        check_callable(on_progress, "on_progress")
        yield from self.collect()
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
        tensor = flat(array.tensor)
        check_callable(on_progress, "on_progress")
        yield from self.collect()
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
        freed_bytes = yield from self._requests.release_all()
        if freed_bytes is None:
            raise FunctionNotFoundError(
                f"{self._maker.client.name} has no function {RELEASE_FUNCTION!r}, which frees what earlier programs "
                f"have left in a board's memory, and stock firmware has none: reset the board"
            )
        return freed_bytes

    def memory(self) -> Operation[BoardMemory]:
        """See `ask_memory`."""
        return ask_memory(self._requests, self._maker.client.name)

    def create_stream(self) -> Operation[OpaqueHandle]:
        """Create a stream on the board."""
        handle = yield from self.syscall(PacketCode.DEV_CREATE_STREAM, CPU)
        return OpaqueHandle(handle if isinstance(handle, int) else 0)

    def syscall(self, code: PacketCode, *args: Value, epoch: int | None = None) -> Operation[Value]:
        """Send a syscall and give the value that it returns."""
        if code in _ALLOCATIONS:
            return (yield from self._allocate(code, *args, epoch=epoch))
        yield from self.collect()
        return (yield from self._requests.syscall(code, *args, epoch=epoch))

    def request(self, request: Request) -> Operation[Reply]:
        """Send any request and give the reply as it is, an exception of the board too.

        Raises UnsupportedValueError for what is no request, or a Shutdown, which nothing answers.
        """
        if not isinstance(request, Request) or isinstance(request, Shutdown):
            hint = " (`close(shutdown=True)` sends it)" if isinstance(request, Shutdown) else ""
            raise UnsupportedValueError(f"{show(request)} is no request that is answered{hint}; nothing was sent")
        try:
            reply: Return | CopyAck = yield from self._requests.request(request)
        except RemoteError as error:
            return RemoteException(error.message)
        return reply

    def close(self, shutdown: bool) -> Operation[None]:
        """Free everything on the board and leave the session; the client releases the port then.

        Freeing takes no longer than a reply may. What is left then stays on the board until its reset; the client is
        told how much that is.
        """
        for owner in sorted(self.live, key=lambda owner: owner._handle):  # a set of weak references has no order
            owner.discard()
        self.garbage += self._library.owned + self.described.owned + self.models.owned
        left = yield from self.disposal.collect_all(self._requests.call_s)
        if left:
            self._maker.client.pump.tell_left(left)
        yield from self.connection.close(shutdown)
