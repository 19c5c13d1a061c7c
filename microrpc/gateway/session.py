"""A board that several clients share, and what each of them may do with it (docs/sharing.md).

A `SharedBoard` is the board with what its clients have in common; a `ClientSession` executes the requests of one
client. Clients get handles of their own numbers, which mean nothing to anybody else, and the board's addresses. What
the board gave out are objects of `microrpc.aio`: they know the epoch that they belong to, and give themselves back when
the last client has let go of them.
"""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from microrpc.aio import AsyncBoard, AsyncRemoteArray, AsyncRemoteFunction, AsyncRemoteModule
from microrpc.errors import ClosedError, MicroRpcError, PortLostError, RemoteError
from microrpc.gateway.regions import Regions
from microrpc.serve.endpoint import Done
from microrpc.serve.signatures import fits_signature
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
from microrpc.wire.names import LINK_FUNCTION, MAX_PACKET_SIZE_FUNCTION, MODULE_GET_FUNCTION, SYSTEM_LIBRARY_FUNCTION
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

_FIRST_HANDLE = 0x5000_0001
_MOST_HANDLES = 4096
# Clients see the memory of later boots at other addresses (the count of resets since they connected stands above these
# bits), because a stream has no epochs: an array from before a reset must not be taken for one from after it.
_ADDRESS_BITS = 48
_BYTE = DataType.parse("uint8")

Held: TypeAlias = AsyncRemoteFunction | AsyncRemoteModule | AsyncRemoteArray
"""A handle of the board that clients hold by a number."""
_TYPE_CODES: dict[type, TypeCode] = {
    AsyncRemoteFunction: TypeCode.FUNCTION,
    AsyncRemoteModule: TypeCode.MODULE,
    AsyncRemoteArray: TypeCode.NDARRAY,
}


class RefusedError(Exception):
    """A request that this process does not pass on; the text is for the client."""


@dataclass(eq=False)
class Kept:
    """One thing of the board, with as many handles as the board gave out for it.

    A board may count how often it gave a handle out, or free it for everybody at the first word. So all are given
    back together, when no client holds this object any more.
    """

    handles: list[Held] = field(default_factory=list)

    @property
    def one(self) -> Held:
        """Any of the handles: they are all the same."""
        return self.handles[0]


@dataclass(eq=False, frozen=True, slots=True)
class Block:
    """Memory of a client, an `array` of bytes: at `address` on the board, and higher by `shift` for the client."""

    array: AsyncRemoteArray
    address: int
    shift: int

    @property
    def visible(self) -> int:
        """The address that the client knows."""
        return self.address + self.shift


class Own(enum.Enum):
    """What clients look up and this process answers itself: it must stay what it is when the board resets.

    SYSTEM_LIBRARY is the module; the others are functions: GET_SYSTEM_LIBRARY gives it, GET_FUNCTION looks a name up in
    it, MAX_PACKET_SIZE tells the limit.
    """

    SYSTEM_LIBRARY = enum.auto()
    GET_SYSTEM_LIBRARY = enum.auto()
    GET_FUNCTION = enum.auto()
    MAX_PACKET_SIZE = enum.auto()


_OWN_FUNCTIONS = {
    SYSTEM_LIBRARY_FUNCTION: Own.GET_SYSTEM_LIBRARY,
    MODULE_GET_FUNCTION: Own.GET_FUNCTION,
    MAX_PACKET_SIZE_FUNCTION: Own.MAX_PACKET_SIZE,
}


class SharedBoard:
    """A board and what its clients have in common; `limit_bytes` is the largest packet that is taken from them."""

    def __init__(self, board: AsyncBoard, limit_bytes: int) -> None:
        self.board = board
        self.limit_bytes = limit_bytes
        self.failure: MicroRpcError | None = None
        """Why the board can be used no more."""
        self._numbers = itertools.count(_FIRST_HANDLE)
        self._named: WeakValueDictionary[tuple[bool, str], Kept] = WeakValueDictionary()
        self._kept: WeakValueDictionary[tuple[type, int, int], Kept] = WeakValueDictionary()
        self._memory: Regions[ClientSession] = Regions()
        self._memory_epoch = board.epoch

    # --- who owns which of the board's addresses -------------------------------------------------

    def own(self, client: ClientSession, block: Block) -> None:
        """Note that memory of this boot is a client's alone."""
        self._forget_other_boots()
        self._memory.add(block.address, block.array.size_bytes, client)

    def disown(self, block: Block) -> None:
        """Note that it is no more; what is from another boot is forgotten anyway."""
        self._forget_other_boots()
        if block.array.epoch == self._memory_epoch:
            self._memory.remove(block.address)

    def may_use(self, client: ClientSession, address: int, size_bytes: int) -> bool:
        """Tell whether none of these bytes belongs to another client."""
        self._forget_other_boots()
        return all(owner is client for owner in self._memory.overlapping(address, size_bytes))

    def _forget_other_boots(self) -> None:
        if self._memory_epoch != self.board.epoch:
            self._memory = Regions()
            self._memory_epoch = self.board.epoch

    # --- handles -------------------------------------------------------------------------------

    def number(self) -> int:
        """Give a number that no handle has yet."""
        return next(self._numbers)

    def keep(self, thing: Held) -> Kept:
        """Put a handle that the board just gave out beside those that it gave out for the same thing."""
        key = type(thing), thing.handle, thing.epoch
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = Kept()
        kept.handles.append(thing)
        return kept

    async def look_up(self, name: str, *, in_library: bool = False) -> Kept | None:
        """Find a function, globally or in the system library; one that a client holds is not asked for again."""
        known = self._named.get((in_library, name))
        if known is not None and known.one.is_live:
            return known
        found: AsyncRemoteFunction | None
        if in_library:
            library = await self.board.system_library()
            found = await self.board.find_in_module(library, name) if library is not None else None
        else:
            found = await self.board.global_function(name)
        if found is None:
            return None
        kept = self._named[in_library, name] = self.keep(found)
        return kept

    async def free_garbage(self) -> None:
        """Give back on the board what no client holds any more."""
        try:
            await self.board.collect()
        except MicroRpcError as error:
            self.note(error)

    def note(self, error: MicroRpcError) -> None:
        """Remember an error after which nothing can be asked any more."""
        if isinstance(error, PortLostError | ClosedError):
            self.failure = self.failure or error


class ClientSession:
    """Executes the requests of one client: a serving session whose requests wait until `execute` is awaited."""

    is_async = True
    """It is: `execute` gives the reply when the board has given it."""

    def __init__(self, shared: SharedBoard) -> None:
        self._shared = shared
        self._board = shared.board
        self._first_epoch = shared.board.epoch
        self._waiting: tuple[Request, Done] | None = None
        self._things: dict[int, Kept | Own] = {}
        self._numbers: dict[Own, int] = {}
        self._allocated: dict[int, Block] = {}
        self._results: dict[int, Block] = {}
        self._memory: Regions[Block] = Regions()

    def submit(self, request: Request, done: Done) -> None:
        """Take a request; `take` gives it, with what is to be called with its reply."""
        self._waiting = request, done

    def take(self) -> tuple[Request, Done] | None:
        """Give the request that was submitted last, once."""
        waiting, self._waiting = self._waiting, None
        return waiting

    async def execute(self, request: Request) -> Reply:
        """Execute a request; whatever goes wrong becomes an exception packet."""
        try:
            return await self._execute(request)
        except RefusedError as error:
            return RemoteException(str(error))
        except RemoteError as error:
            return RemoteException(error.message)
        except MicroRpcError as error:
            self._shared.note(error)
            return RemoteException(f"{type(error).__name__}: {error}")

    def release(self) -> None:
        """Let go of everything that the client has; the next `free_garbage` gives it back."""
        for address in list(self._allocated):
            self._free(address)
        for number in list(self._things):
            self._let_go(number)

    async def _execute(self, request: Request) -> Reply:
        if isinstance(request, CallFunc):
            return await self._call(request)
        if isinstance(request, CopyToRemote):
            data = memoryview(request.data)
            await self._board.write_bytes(data, self._view(request.tensor, len(data)), on_progress=None)
            return RETURN_NONE
        if isinstance(request, CopyFromRemote):
            if request.size_bytes > self._shared.limit_bytes:
                raise RefusedError(f"at most {self._shared.limit_bytes} bytes are copied at once here")
            into = bytearray(request.size_bytes)
            array = self._view(request.tensor, request.size_bytes)
            await self._board.read_bytes(array, memoryview(into), on_progress=None)
            return CopyAck(bytes(into))
        if isinstance(request, Syscall):
            return Return((await self._syscall(request),))
        raise RefusedError(f"{type(request).__name__} is not a request")

    # --- calls ---------------------------------------------------------------------------------

    async def _call(self, request: CallFunc) -> Reply:
        function = self._thing(request.handle)
        if isinstance(function, Own):
            return encode_result(await self._call_own(function, request.args))
        if not isinstance(function.one, AsyncRemoteFunction):
            raise RefusedError(f"the handle 0x{request.handle:x} is no function's")
        args = [await self._from_client(value) for value in request.args]
        return encode_result(self._to_client(await self._board.call(function.one, args)))

    async def _call_own(self, function: Own, args: tuple[Value, ...]) -> Value:
        match function, args:
            case Own.MAX_PACKET_SIZE, ():
                return self._shared.limit_bytes
            case Own.GET_SYSTEM_LIBRARY, ():
                return ModuleHandle(self._number_of(Own.SYSTEM_LIBRARY))
            case Own.GET_FUNCTION, (ModuleHandle() as number, str() as name, int()):
                return await self._find_in_module(self._thing(number), name)
        raise RefusedError(f"{function.name.lower()}: wrong arguments ({_kinds(args)})")

    async def _find_in_module(self, module: Kept | Own, name: str) -> FunctionHandle | None:
        kept: Kept | None = None
        if module is Own.SYSTEM_LIBRARY:
            kept = await self._shared.look_up(name, in_library=True)
        elif isinstance(module, Kept) and isinstance(module.one, AsyncRemoteModule):
            found = await self._board.find_in_module(module.one, name)
            kept = self._shared.keep(found) if found is not None else None
        else:
            raise RefusedError(f"{MODULE_GET_FUNCTION}: that is no module")
        return FunctionHandle(self._give(kept)) if kept is not None else None

    async def _from_client(self, value: Value) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value, value.size_bytes)
        if not isinstance(value, FunctionHandle | ModuleHandle):
            return value
        thing = self._thing(value)
        if isinstance(thing, Kept):
            return thing.one
        if thing is Own.SYSTEM_LIBRARY:
            return await self._board.system_library()
        raise RefusedError(f"{thing.name.lower()} is answered by the process that shares the board, not by the board")

    def _to_client(self, result: Any) -> Value | ArrayResult:
        if isinstance(result, AsyncRemoteArray):
            number = self._give(self._shared.keep(result))
            block = self._results[number] = self._own(result)
            visible = Tensor(block.visible, CPU, result.dtype, result.shape)
            return ArrayResult(visible, OpaqueHandle(number))
        if isinstance(result, AsyncRemoteFunction):
            return FunctionHandle(self._give(self._shared.keep(result)))
        if isinstance(result, AsyncRemoteModule):
            return ModuleHandle(self._give(self._shared.keep(result)))
        value: Value = result
        return value

    # --- handles -------------------------------------------------------------------------------

    def _thing(self, number: int) -> Kept | Own:
        thing = self._things.get(number)
        if thing is None:
            raise RefusedError(f"this client has no handle 0x{number:x}: look the function up again")
        return thing

    def _give(self, thing: Kept | Own) -> int:
        if len(self._things) >= _MOST_HANDLES:
            raise RefusedError(f"this client holds {_MOST_HANDLES} handles already: free some")
        number = self._shared.number()
        self._things[number] = thing
        return number

    def _number_of(self, own: Own) -> int:
        """Give the number of what this process answers itself, always the same."""
        if own not in self._numbers:
            self._numbers[own] = self._give(own)
        return self._numbers[own]

    def _free_handle(self, number: int, type_code: int) -> None:
        thing = self._thing(number)
        if isinstance(thing, Own):  # it costs nothing and stays, as the system library of a board does
            return
        if _TYPE_CODES[type(thing.one)] != type_code:
            raise RefusedError(f"FreeHandle: the handle 0x{number:x} is not of the type {type_code}")
        self._let_go(number)

    def _let_go(self, number: int) -> None:
        del self._things[number]
        block = self._results.pop(number, None)
        if block is not None:
            self._disown(block)

    # --- memory --------------------------------------------------------------------------------

    def _own(self, array: AsyncRemoteArray) -> Block:
        tensor = array.tensor
        block = Block(array, tensor.data, (array.epoch - self._first_epoch) << _ADDRESS_BITS)
        self._memory.add(block.visible, tensor.size_bytes, block)
        self._shared.own(self, block)
        return block

    def _disown(self, block: Block) -> None:
        self._memory.remove(block.visible)
        self._shared.disown(block)

    def _address(self, tensor: Tensor, size_bytes: int) -> int:
        """Give the board's address of the first byte of `size_bytes` in a tensor of the client.

        Memory that nobody allocated is everybody's: it may be a register, or what a function told the address of.
        """
        visible = tensor.data + tensor.byte_offset
        block = next(self._memory.overlapping(visible, 1), None)
        if block is None and visible >> _ADDRESS_BITS:
            raise RefusedError(f"there is no memory of this client at 0x{visible:x} any more: it was freed")
        # The property `tensor` raises StaleHandleError for what is from before a reset.
        address = visible - block.shift if block is not None and block.array.tensor else visible
        if not self._shared.may_use(self, address, size_bytes):
            raise RefusedError(f"{size_bytes} bytes at 0x{address:x} reach into memory of another client")
        return address

    def _tensor(self, tensor: Tensor, size_bytes: int) -> Tensor:
        address = self._address(tensor, size_bytes)
        return Tensor(address - tensor.byte_offset, tensor.device, tensor.dtype, tensor.shape, tensor.byte_offset)

    def _view(self, tensor: Tensor, size_bytes: int) -> AsyncRemoteArray:
        return self._board.array_at(self._address(tensor, size_bytes), size_bytes, _BYTE)

    async def _allocate(self, tensor: Tensor, scope: str | None) -> OpaqueHandle:
        self._check_device(tensor.device)
        # On a stock board an array without bytes has the address of the next one, which may be another client's.
        shape, dtype = (tensor.shape, tensor.dtype) if tensor.size_bytes else ((1,), _BYTE)
        return self._allocation(await self._board.empty(shape, dtype, scope=scope))

    async def _allocate_bytes(self, device: Device, size_bytes: int, *rest: Value) -> OpaqueHandle:
        self._check_device(device)
        address = await self._board.syscall(PacketCode.DEV_ALLOC_DATA, device, max(size_bytes, 1), *rest)
        if not isinstance(address, OpaqueHandle) or not address:
            raise RefusedError(f"DevAllocData: the board gave {address!r}, not an address")
        return self._allocation(AsyncRemoteArray(self._board, Tensor(address, CPU, _BYTE, (size_bytes,))))

    def _allocation(self, array: AsyncRemoteArray) -> OpaqueHandle:
        block = self._own(array)
        self._allocated[block.visible] = block
        return OpaqueHandle(block.visible)

    def _free(self, visible: int) -> None:
        block = self._allocated.pop(visible, None)
        if block is None:
            raise RefusedError(f"DevFreeData: this client allocated nothing that begins at 0x{visible:x}")
        self._disown(block)
        block.array.discard()

    def _check_device(self, device: Device) -> None:
        if device != CPU:
            raise RefusedError(f"only memory of the CPU (1, 0) can be had here, not of ({device.type}, {device.id})")

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
                return await self._allocate(tensor, scope)
            case PacketCode.DEV_ALLOC_DATA, (Device() as device, int() as size_bytes, *rest):
                return await self._allocate_bytes(device, size_bytes, *rest)
            case PacketCode.DEV_FREE_DATA, (Device() as device, OpaqueHandle() as address):
                self._check_device(device)
                self._free(address)
                await self._shared.free_garbage()
                return None
        epoch = self._board.epoch
        passed = [self._tensor(arg, arg.size_bytes) if isinstance(arg, Tensor) else arg for arg in args]
        return await self._board.syscall(code, *passed, epoch=epoch)

    async def _look_up(self, name: str) -> int:
        own = _OWN_FUNCTIONS.get(name)
        if own is Own.MAX_PACKET_SIZE:
            return self._number_of(own)
        if own is not None:
            return self._number_of(own) if await self._board.system_library() is not None else 0
        if name == LINK_FUNCTION:  # the link ends here: a client is on a stream
            return 0
        kept = await self._shared.look_up(name)
        return self._give(kept) if kept is not None else 0


def _kinds(args: tuple[Value, ...]) -> str:
    return ", ".join(type(arg).__name__ for arg in args) or "none"
