"""Serving sessions: who executes the requests that a server endpoint receives (docs/protocol.md 5).

`LocalSession` runs Python functions on a `Memory` of its own. `ProxySession` and `AsyncProxySession` pass each
request on to another endpoint, so that a host can serve a board again to other hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Any, TypeVar, overload

import numpy as np

from microrpc.codec import (
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
from microrpc.datatypes import (
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
from microrpc.endpoint import ClientEndpoint
from microrpc.errors import MicroRpcError, RemoteError
from microrpc.memory import Memory
from microrpc.server import Done

RemoteCallable = Callable[..., Any]
FunctionT = TypeVar("FunctionT", bound=RemoteCallable)
_FIRST_HANDLE = 0x8000_0000
_MAX_OBJECTS = 65536
DEFAULT_MEMORY_BYTES = 1 << 24
DEVICE_ATTR_EXIST = 0


class FunctionError(Exception):
    """Raised by a served function whose text must reach the caller as it is, with no exception's name before it."""


class Module(dict[str, RemoteCallable]):
    """A named set of functions that a client can look up in, such as the system library."""

    @overload
    def function(self, function: FunctionT, *, name: str | None = None) -> FunctionT: ...

    @overload
    def function(self, function: None = None, *, name: str | None = None) -> Callable[[FunctionT], FunctionT]: ...

    def function(self, function: RemoteCallable | None = None, *, name: str | None = None) -> RemoteCallable:
        """Decorate a Python function to put it in this module, under its own name or `name`."""

        def register(function: RemoteCallable) -> RemoteCallable:
            self[name or function.__name__] = function
            return function

        return register if function is None else register(function)


class LocalSession:
    """Executes requests here: `functions` are what GetGlobalFunc finds, `memory` holds the tensors.

    A function gets tensors as numpy arrays that alias the memory, functions as callables and modules as `Module`;
    everything else as docs/protocol.md 3 decodes it. It may return any of these, and a numpy array, which is put
    into the memory. What it raises reaches the caller as an exception.
    """

    is_async = False

    def __init__(self, functions: Mapping[str, RemoteCallable] | None = None, memory: Memory | None = None) -> None:
        self.functions = functions if functions is not None else {}
        self.memory = memory or Memory(DEFAULT_MEMORY_BYTES)
        self._objects: dict[int, object] = {}
        self._handles: dict[int, int] = {}
        self._uses: dict[int, int] = {}
        self._next_handle = _FIRST_HANDLE

    def submit(self, request: Request, done: Done) -> None:
        """Execute `request` at once."""
        done(self.serve(request))

    def serve(self, request: Request) -> Reply:
        """Execute `request` and give the reply; whatever goes wrong becomes an exception packet."""
        try:
            if isinstance(request, CallFunc):
                return encode_result(self._call(request))
            if isinstance(request, CopyToRemote):
                self._tensor_bytes(request.tensor, len(request.data))[:] = request.data
                return RETURN_NONE
            if isinstance(request, CopyFromRemote):
                return CopyAck(bytes(self._tensor_bytes(request.tensor, request.size_bytes)))
            if isinstance(request, Syscall):
                return Return((self._syscall(request),))
            return RemoteException(f"{type(request).__name__} is not a request")
        except FunctionError as error:
            return RemoteException(str(error))
        except Exception as error:  # a served function may raise anything; the caller must learn of it
            return RemoteException(f"{type(error).__name__}: {error}")

    def reset(self) -> None:
        """Lose memory and handles."""
        self.memory.clear()
        self._objects.clear()
        self._handles.clear()
        self._uses.clear()
        self._next_handle = _FIRST_HANDLE

    # --- calls ---------------------------------------------------------------------------------

    def _call(self, request: CallFunc) -> Value | ArrayResult:
        function = self._objects.get(request.handle)
        if not callable(function):
            raise FunctionError(f"no function has the handle 0x{request.handle:x}; look it up again")
        return self._to_value(self.invoke(function, [self._from_value(value) for value in request.args]))

    def invoke(self, function: RemoteCallable, arguments: list[object]) -> Any:
        """Run a function that was called by its handle."""
        return function(*arguments)

    def _from_value(self, value: Value) -> object:
        if isinstance(value, Tensor):
            return self.array(value)
        if isinstance(value, ModuleHandle | FunctionHandle):
            if int(value) not in self._objects:
                raise FunctionError(f"no module or function has the handle 0x{int(value):x}")
            return self._objects[int(value)]
        return value

    def _to_value(self, result: Any) -> Value | ArrayResult:
        if isinstance(result, np.ndarray):
            return self._array_result(result)
        if isinstance(result, Module):
            return ModuleHandle(self._handle_of(result))
        if callable(result):
            return FunctionHandle(self._handle_of(result))
        value: Value = result
        return value

    def _array_result(self, array: np.ndarray[Any, Any]) -> ArrayResult:
        dtype = DataType.from_numpy(array.dtype)
        address = self.memory.alloc(array.nbytes)
        self.memory.view(address, array.nbytes)[:] = np.ascontiguousarray(array).tobytes()
        tensor = Tensor(address, CPU, dtype, array.shape)
        return ArrayResult(tensor, OpaqueHandle(self._handle_of(tensor)))

    def _handle_of(self, thing: object) -> int:
        """The same object has the same handle, until it was freed as often as it was given out."""
        handle = self._handles.get(id(thing))
        if handle is None:
            if len(self._objects) >= _MAX_OBJECTS:
                raise FunctionError(f"{_MAX_OBJECTS} handles are in use; free some")
            handle = self._next_handle
            self._next_handle += 1
            self._objects[handle] = thing
            self._handles[id(thing)] = handle
            self._uses[handle] = 0
        self._uses[handle] += 1
        return handle

    # --- memory --------------------------------------------------------------------------------

    def array(self, tensor: Tensor) -> np.ndarray[Any, Any]:
        """Give a numpy array that aliases the memory of `tensor`."""
        data = self._tensor_bytes(tensor, tensor.size_bytes)
        dtype = tensor.dtype.numpy
        return np.frombuffer(data, dtype).reshape(tensor.shape + dtype.shape)  # lanes are a dimension of their own

    def _tensor_bytes(self, tensor: Tensor, size_bytes: int) -> memoryview:
        return self.memory.view(tensor.data + tensor.byte_offset, size_bytes)

    def _alloc_tensor(self, tensor: Tensor, scope: object) -> OpaqueHandle:
        if scope not in (None, "", "global"):
            raise FunctionError(f"there is no memory scope {scope!r} here")
        alignment = 1 << max(3, (tensor.dtype.itemsize_bytes - 1).bit_length())
        return OpaqueHandle(self.memory.alloc(tensor.size_bytes, alignment))

    # --- syscalls ------------------------------------------------------------------------------

    def _syscall(self, request: Syscall) -> Value:
        name = request.code.label if isinstance(request.code, PacketCode) else str(request.code)
        arguments = iter(request.args)
        result = self._run_syscall(request.code, name, arguments)
        if len(list(arguments)):
            raise FunctionError(f"{name}: too many arguments")
        return result

    def _run_syscall(self, code: PacketCode | int, name: str, arguments: Iterator[Value]) -> Value:
        def take(kind: type | UnionType, what: str) -> Any:
            try:
                value = next(arguments)
            except StopIteration:
                raise FunctionError(f"{name}: {what} expected, got nothing") from None
            if not isinstance(value, kind):
                raise FunctionError(f"{name}: {what} expected, got {type(value).__name__}")
            return value

        match code:
            case PacketCode.GET_GLOBAL_FUNC:
                function = self.functions.get(take(str, "a name"))
                return OpaqueHandle(self._handle_of(function) if function is not None else 0)
            case PacketCode.FREE_HANDLE:
                self._free_handle(take(OpaqueHandle, "a handle"), take(int, "a type code"))
                return None
            case PacketCode.DEV_SET_DEVICE:
                self.set_device(take(Device, "a device"))
                return None
            case PacketCode.DEV_GET_ATTR:
                return self.get_attr(take(Device, "a device"), take(int, "an attribute kind"))
            case PacketCode.DEV_ALLOC_DATA:
                self._check_device(take(Device, "a device"))
                size_bytes, alignment = take(int, "a size in bytes"), take(int, "an alignment in bytes")
                take(DataType, "a data type")
                return OpaqueHandle(self.memory.alloc(size_bytes, alignment))
            case PacketCode.DEV_ALLOC_DATA_WITH_SCOPE:
                tensor = take(Tensor, "a tensor")
                self._check_device(tensor.device)
                return self._alloc_tensor(tensor, take(str | None, "a scope or nothing"))
            case PacketCode.DEV_FREE_DATA:
                self._check_device(take(Device, "a device"))
                self.memory.free(take(OpaqueHandle, "an address"))
                return None
            case PacketCode.COPY_AMONG_REMOTE:
                source, target = take(Tensor, "a tensor"), take(Tensor, "a tensor")
                take(OpaqueHandle, "a stream")
                if source.size_bytes != target.size_bytes:
                    raise FunctionError(f"{name}: {source.size_bytes} bytes do not fit {target.size_bytes}")
                data = bytes(self._tensor_bytes(source, source.size_bytes))
                self._tensor_bytes(target, target.size_bytes)[:] = data
                return None
            case PacketCode.DEV_CREATE_STREAM:
                self._check_device(take(Device, "a device"))
                return OpaqueHandle(0)  # everything here runs in order: there is one stream, the default one
            case PacketCode.DEV_STREAM_SYNC | PacketCode.DEV_FREE_STREAM | PacketCode.DEV_SET_STREAM:
                self._check_device(take(Device, "a device"))
                take(OpaqueHandle, "a stream")
                return None
        raise FunctionError(f"unknown packet code {name}")

    def _check_device(self, device: Device) -> None:
        if device != CPU:
            raise FunctionError(f"there is no device ({device.type}, {device.id}) here, only the CPU (1, 0)")

    def set_device(self, device: Device) -> None:
        """DevSetDevice."""
        self._check_device(device)

    def get_attr(self, device: Device, kind: int) -> Value:
        """DevGetAttr: whether the device exists (kind 0); nothing else is known."""
        return int(device == CPU) if kind == DEVICE_ATTR_EXIST else None

    def _free_handle(self, handle: int, type_code: int) -> None:
        thing = self._objects.get(handle)
        known = {TypeCode.FUNCTION: callable(thing), TypeCode.MODULE: isinstance(thing, Module)}
        if not known.get(TypeCode(type_code), isinstance(thing, Tensor)):
            raise FunctionError(f"FreeHandle: no object of type {TypeCode(type_code).name} has the handle 0x{handle:x}")
        self._uses[handle] -= 1
        if self._uses[handle]:
            return
        del self._uses[handle]
        del self._objects[handle]
        del self._handles[id(thing)]
        if isinstance(thing, Tensor):
            self.memory.free(thing.data)


class ProxySession:
    """Passes each request on by a call that waits for the reply, for instance `Board.request`."""

    is_async = False

    def __init__(self, call: Callable[[Request], Reply]) -> None:
        self._call = call

    def submit(self, request: Request, done: Done) -> None:
        """Pass `request` on and wait."""
        try:
            reply = self._call(request)
        except RemoteError as error:
            reply = RemoteException(error.message)
        except MicroRpcError as error:
            reply = RemoteException(f"{type(error).__name__}: {error}")
        done(reply)


class AsyncProxySession:
    """Passes each request on to a client endpoint without waiting; an event loop brings the bytes of its replies.

    send: takes the bytes of a request to the other endpoint.
    """

    is_async = True

    def __init__(self, endpoint: ClientEndpoint, send: Callable[[bytes], None]) -> None:
        self._endpoint = endpoint
        self._send = send
        self._done: Done | None = None

    def submit(self, request: Request, done: Done) -> None:
        """Pass `request` on; `done` is called when its reply has come."""
        try:
            data = self._endpoint.request(request)
        except MicroRpcError as error:
            done(RemoteException(f"{type(error).__name__}: {error}"))
            return
        self._done = done
        self._send(data)

    def feed(self, data: bytes) -> None:
        """Take bytes that came from the other endpoint."""
        try:
            reply = self._endpoint.feed(data)
        except MicroRpcError as error:
            self._finish(RemoteException(f"{type(error).__name__}: {error}"))
            raise
        if isinstance(reply, Return | RemoteException | CopyAck):
            self._finish(reply)

    def closed(self) -> None:
        """Take note that the other endpoint is gone."""
        self._finish(RemoteException("the connection to the served endpoint was closed"))

    def _finish(self, reply: Reply) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(reply)
