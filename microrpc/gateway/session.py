"""What each client of a shared board may do with it: its requests, executed (docs/sharing.md).

Clients get handles of their own numbers, which mean nothing to anybody else, and the board's addresses.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from microrpc.client.aio.remote import AsyncRemoteArray, AsyncRemoteFunction, AsyncRemoteModule
from microrpc.client.cancelling import Cancelling, cancellable
from microrpc.errors import CallCancelledError, MicroRpcError, RemoteError
from microrpc.gateway.hub import EventHub
from microrpc.gateway.memory import Block, ClientMemory
from microrpc.gateway.shared import Kept, RefusedError, SharedBoard
from microrpc.serve.endpoint import Done
from microrpc.wire.datatypes import (
    CPU,
    ArrayResult,
    DataType,
    Device,
    FunctionHandle,
    ModuleHandle,
    OpaqueHandle,
    Tensor,
    TypeCode,
    Value,
)
from microrpc.wire.features import Feature
from microrpc.wire.link import CANCELLED_TEXT
from microrpc.wire.names import (
    FEATURES_FUNCTION,
    LINK_FUNCTION,
    MAX_PACKET_SIZE_FUNCTION,
    MODULE_GET_FUNCTION,
    RELEASE_FUNCTION,
    STREAM_FUNCTION,
    SYSTEM_LIBRARY_FUNCTION,
)
from microrpc.wire.packets import (
    RETURN_NONE,
    CallFunc,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    PacketCode,
    RemoteException,
    Reply,
    Request,
    Return,
    Syscall,
    encode_result,
)
from microrpc.wire.signatures import fits_signature

_MOST_HANDLES = 4096
_TYPE_CODES: dict[type, TypeCode] = {
    AsyncRemoteFunction: TypeCode.FUNCTION,
    AsyncRemoteModule: TypeCode.MODULE,
    AsyncRemoteArray: TypeCode.NDARRAY,
}


class Own(enum.Enum):
    """What clients look up and this process answers itself: it must stay what it is when the board resets.

    SYSTEM_LIBRARY is the module; the others are functions: GET_SYSTEM_LIBRARY gives it, GET_FUNCTION looks a name up in
    it, MAX_PACKET_SIZE tells the limit.
    """

    SYSTEM_LIBRARY = enum.auto()
    GET_SYSTEM_LIBRARY = enum.auto()
    GET_FUNCTION = enum.auto()
    MAX_PACKET_SIZE = enum.auto()


@dataclass(frozen=True, eq=False, slots=True)
class OwnFunction:
    """A function of a client that this process answers: `answer` takes the values of a call, and gives its result.

    That is a value, or a function, module or array of the board, or another OwnFunction. It raises as `execute` can
    tell it: RefusedError, MicroRpcError.
    """

    name: str
    """What errors call it."""
    answer: Callable[[tuple[Value, ...]], Awaitable[Any]]
    """What is awaited for a call."""


OWN_FUNCTIONS: Mapping[str, Own | OwnFunction] = {
    SYSTEM_LIBRARY_FUNCTION: Own.GET_SYSTEM_LIBRARY,
    MODULE_GET_FUNCTION: Own.GET_FUNCTION,
    MAX_PACKET_SIZE_FUNCTION: Own.MAX_PACKET_SIZE,
}
"""By name, what every client is answered by this process."""


class ClientSession:
    """Executes the requests of one client: a serving session whose requests wait until `execute` is awaited.

    hub: tells what the board knows besides. on_progress: told how far a call has come, as (done, total); None: the
    client has no word for that, nor for cancelling. functions:
    by name, what is answered here. finds_all: whether a function of the system library is found by a plain look-up,
    too. encode: makes a Return of the result of a call.
    """

    is_async = True
    """It is: `execute` gives the reply when the board has given it."""

    def __init__(
        self,
        shared: SharedBoard,
        hub: EventHub,
        on_progress: Callable[[int, int], None] | None,
        *,
        functions: Mapping[str, Own | OwnFunction] = OWN_FUNCTIONS,
        finds_all: bool = False,
        encode: Callable[[Value | ArrayResult], Return] = encode_result,
    ) -> None:
        self._shared = shared
        self._board = shared.board
        self._hub = hub
        self._on_progress = on_progress
        self._functions = functions
        self._finds_all = finds_all
        self._encode = encode
        self._running: Cancelling | None = None
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False
        self._waiting: tuple[Request, Done] | None = None
        self._things: dict[int, Kept | Own | OwnFunction] = {}
        self._numbers: dict[Own | OwnFunction, int] = {}
        self._results: dict[int, Block] = {}
        self.memory = ClientMemory(shared)
        """What memory of the board it may use."""

    def submit(self, request: Request, done: Done) -> None:
        """Take a request; `take` gives it, with what is to be called with its reply."""
        self._waiting = request, done
        self._is_cancelled = False

    def take(self) -> tuple[Request, Done] | None:
        """Give the request that was submitted last, once."""
        waiting, self._waiting = self._waiting, None
        return waiting

    def cancel(self) -> None:
        """Have the call end that was submitted last, where the board can be told; others go on."""
        self._is_cancelled = True
        if self._running is not None and not self._running.ask() and self._task is not None:
            task, self._task = self._task, None  # it waits for its turn, which it must not
            task.cancel()

    async def execute(self, request: Request) -> Reply:
        """Execute a request; whatever goes wrong becomes an exception packet."""
        try:
            return await self._execute(request)
        except (RefusedError, MicroRpcError) as error:
            return self.explain(error)

    def explain(self, error: RefusedError | MicroRpcError) -> RemoteException:
        """Give what the client is told of an error, and take note of it where it is the board's end."""
        if isinstance(error, RefusedError):
            return RemoteException(str(error))
        if isinstance(error, RemoteError):
            return RemoteException(error.message)
        if isinstance(error, CallCancelledError):
            return RemoteException(str(error) if error.may_have_run else CANCELLED_TEXT)
        self._shared.note(error)
        return RemoteException(f"{type(error).__name__}: {error}")

    def move(self, hub: EventHub) -> None:
        """Go on with the board that took the place of the shared one (`SharedBoard.move`): all it had is stale."""
        self._board, self._hub = self._shared.board, hub
        self.memory.move()

    def release(self) -> None:
        """Let go of everything that the client has; `free_garbage` gives it back, in turn with what others left."""
        self._board.operations.disposal.set_apart(self._let_all_go)

    def _let_all_go(self) -> None:
        self.memory.release()
        for number in list(self._things):
            self._let_go(number)

    async def _execute(self, request: Request) -> Reply:
        if isinstance(request, CallFunc):
            return await self._call(request)
        if isinstance(request, CopyToRemote):
            data = memoryview(request.data)
            await self._board.write_bytes(data, self.memory.view(request.tensor, len(data)), on_progress=None)
            return RETURN_NONE
        if isinstance(request, CopyFromRemote):
            if request.size_bytes > self._shared.limit_bytes:
                raise RefusedError(f"at most {self._shared.limit_bytes} bytes are copied at once here")
            into = bytearray(request.size_bytes)
            array = self.memory.view(request.tensor, request.size_bytes)
            await self._board.read_bytes(array, memoryview(into), on_progress=None)
            return CopyAck(bytes(into))
        if isinstance(request, Syscall):
            return Return((await self._syscall(request),))
        raise RefusedError(f"{type(request).__name__} is not a request")

    # --- calls ---------------------------------------------------------------------------------

    async def _call(self, request: CallFunc) -> Reply:
        function = self._thing(request.handle)
        if isinstance(function, OwnFunction):
            return self._encode(self._to_client(await function.answer(request.args)))
        if isinstance(function, Own):
            return self._encode(await self._call_own(function, request.args))
        if not isinstance(function.one, AsyncRemoteFunction):
            raise RefusedError(f"the handle 0x{request.handle:x} is no function's")
        args = [await self.from_client(value) for value in request.args]
        return self._encode(self._to_client(await self._call_board(function.one, args)))

    async def _call_board(self, function: AsyncRemoteFunction, args: list[Any]) -> Any:
        if self._on_progress is None:
            return await self._board.pump.run(self._board.operations.call, function, tuple(args))
        if not self._hub.known & Feature.CANCEL:
            return await self._board.call(function, args, on_progress=self._on_progress)
        if self._is_cancelled:
            raise RefusedError(CANCELLED_TEXT)
        operations, running, task = self._board.operations, Cancelling("CallFunc"), asyncio.current_task()
        self._running, self._task = running, task
        call = partial(operations.call, function, tuple(args), on_progress=self._on_progress)
        try:
            return await self._board.pump.run(cancellable, call, operations.connection, running)
        except asyncio.CancelledError:
            if task is None or self._task is task:  # sharing ends
                raise
            task.uncancel()
            raise running.unsent_error() from None
        finally:
            self._running = None

    async def _call_own(self, function: Own, args: tuple[Value, ...]) -> Value:
        match function, args:
            case Own.MAX_PACKET_SIZE, ():
                return self._shared.limit_bytes
            case Own.GET_SYSTEM_LIBRARY, ():
                return ModuleHandle(self._number_of(Own.SYSTEM_LIBRARY))
            case Own.GET_FUNCTION, (ModuleHandle() as number, str() as name, int()):
                return await self._find_in_module(self._thing(number), name)
        raise RefusedError(f"{function.name.lower()}: wrong arguments ({_kinds(args)})")

    async def _find_in_module(self, module: Kept | Own | OwnFunction, name: str) -> FunctionHandle | None:
        kept: Kept | None = None
        if module is Own.SYSTEM_LIBRARY:
            kept = await self._shared.look_up(name, in_library=True)
        elif isinstance(module, Kept) and isinstance(module.one, AsyncRemoteModule):
            found = await self._board.find_in_module(module.one, name)
            kept = self._shared.keep(found) if found is not None else None
        else:
            raise RefusedError(f"{MODULE_GET_FUNCTION}: that is no module")
        return FunctionHandle(self._give(kept)) if kept is not None else None

    async def from_client(self, value: Value) -> Any:
        """Give what the board is given for a value of the client's. Raises RefusedError for what it may not use."""
        if isinstance(value, Tensor):
            return self.memory.tensor(value, value.size_bytes)
        if not isinstance(value, FunctionHandle | ModuleHandle):
            return value
        thing = self._thing(value)
        if isinstance(thing, Kept):
            return thing.one
        if thing is Own.SYSTEM_LIBRARY:
            return await self._board.system_library()
        name = thing.name.lower() if isinstance(thing, Own) else thing.name
        raise RefusedError(f"{name} is answered by the process that shares the board, not by the board")

    def _to_client(self, result: Any) -> Value | ArrayResult:
        if isinstance(result, OwnFunction):
            return FunctionHandle(self._give(result))
        if result is Own.SYSTEM_LIBRARY:
            return ModuleHandle(self._number_of(Own.SYSTEM_LIBRARY))
        if isinstance(result, AsyncRemoteArray):
            self.memory.check_result(result)
            number = self._give(self._shared.keep(result))
            block = self._results[number] = self.memory.own(result)
            visible = Tensor(block.visible, CPU, result.dtype, result.shape)
            return ArrayResult(visible, OpaqueHandle(number))
        if isinstance(result, AsyncRemoteFunction):
            return FunctionHandle(self._give(self._shared.keep(result)))
        if isinstance(result, AsyncRemoteModule):
            return ModuleHandle(self._give(self._shared.keep(result)))
        value: Value = result
        return value

    # --- handles -------------------------------------------------------------------------------

    def type_code(self, number: int) -> TypeCode:
        """Tell of what type the client's handle `number` is. Raises RefusedError where it has none."""
        thing = self._thing(number)
        if isinstance(thing, Kept):
            return _TYPE_CODES[type(thing.one)]
        return TypeCode.MODULE if thing is Own.SYSTEM_LIBRARY else TypeCode.FUNCTION

    def _thing(self, number: int) -> Kept | Own | OwnFunction:
        thing = self._things.get(number)
        if thing is None:
            raise RefusedError(f"this client has no handle 0x{number:x}: look the function up again")
        return thing

    def _give(self, thing: Kept | Own | OwnFunction) -> int:
        if len(self._things) >= _MOST_HANDLES:
            raise RefusedError(f"this client holds {_MOST_HANDLES} handles already: free some")
        number = self._shared.number()
        self._things[number] = thing
        return number

    def _number_of(self, own: Own | OwnFunction) -> int:
        """Give the number of what this process answers itself, always the same."""
        if own not in self._numbers:
            self._numbers[own] = self._give(own)
        return self._numbers[own]

    def _free_handle(self, number: int, type_code: int) -> None:
        thing = self._thing(number)
        if not isinstance(thing, Kept) and self._numbers.get(thing) == number:  # it costs nothing and stays
            return
        if self.type_code(number) != type_code:
            raise RefusedError(f"FreeHandle: the handle 0x{number:x} is not of the type {type_code}")
        self._let_go(number)

    def _let_go(self, number: int) -> None:
        del self._things[number]
        block = self._results.pop(number, None)
        if block is not None:
            self.memory.disown(block)

    # --- syscalls ------------------------------------------------------------------------------

    async def _syscall(self, request: Syscall) -> Value:
        code, args = request.code, request.args
        if not isinstance(code, PacketCode):
            raise RefusedError(f"unknown packet code {code}")
        # A stock board that gets others is deaf from then on, for all its clients.
        if not fits_signature(request):
            raise RefusedError(f"{code.label}: wrong arguments ({_kinds(args)})")
        match code, args:
            case PacketCode.GET_GLOBAL_FUNC, (str() as name,):
                return OpaqueHandle(await self._look_up(name))
            case PacketCode.FREE_HANDLE, (OpaqueHandle() as number, int() as type_code):
                self._free_handle(number, type_code)
                await self._shared.free_garbage()
                return None
            case PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (Tensor() as tensor, str() | None as scope):
                return await self.memory.allocate(tensor, scope)
            case PacketCode.DEV_ALLOC_DATA, (
                Device() as device,
                int() as size,
                int() as alignment,
                DataType() as hint,
            ):
                return await self.memory.allocate_bytes(device, size, alignment, hint)
            case PacketCode.DEV_FREE_DATA, (Device() as device, OpaqueHandle() as address):
                self.memory.free(device, address)
                await self._shared.free_garbage()
                return None
        epoch = self._board.epoch
        passed = [self.memory.tensor(arg, arg.size_bytes) if isinstance(arg, Tensor) else arg for arg in args]
        return await self._board.syscall(code, *passed, epoch=epoch)

    async def _look_up(self, name: str) -> int:
        own = self._functions.get(name)
        if own is Own.MAX_PACKET_SIZE or isinstance(own, OwnFunction):
            return self._number_of(own)
        if own is not None:
            return self._number_of(own) if await self._board.system_library() is not None else 0
        if name == RELEASE_FUNCTION:
            raise RefusedError(f"{name} is refused here: it would free the memory of every client of this board")
        if name in (LINK_FUNCTION, FEATURES_FUNCTION):  # the link ends here: a client is on a stream
            return 0
        if name == STREAM_FUNCTION:
            await self._board.max_packet_bytes()  # before which nothing is known of a board that was reset
            features = self._hub.tell()
            return features.handle if features.known else 0
        kept = await self._shared.look_up(name)
        if kept is None and self._finds_all:
            kept = await self._shared.look_up(name, in_library=True)
        return self._give(kept) if kept is not None else 0


def _kinds(args: tuple[Value, ...]) -> str:
    return ", ".join(type(arg).__name__ for arg in args) or "none"
