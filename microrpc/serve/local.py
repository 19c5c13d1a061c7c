"""Serving sessions: who executes the requests that a server endpoint receives (docs/protocol.md 5).

`LocalSession` runs Python functions on a `Memory` of its own. `ProxySession` and `AsyncProxySession` pass each
request on to another endpoint, so that a host can serve a board again to other hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, TypeVar, overload

import numpy as np

from microrpc.errors import UnsupportedValueError
from microrpc.serve.endpoint import ENDINGS, Done
from microrpc.serve.memory import BlockKind, Memory, MemoryAccessError, OutOfMemoryError
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

RemoteCallable = Callable[..., Any]
"""A function that is served."""
FunctionT = TypeVar("FunctionT", bound=RemoteCallable)
AnswerT = TypeVar("AnswerT")
_U64_MASK = (1 << 64) - 1
_MOST_BYTES = (1 << 32) - 1  # that a tensor has: one that would have more has these, which is too many as well
_REGISTERED = 1 << 63  # handles of what is registered: this, the registry from bit 32 on, and the index in it
_LIBRARY_HANDLE = _REGISTERED + (2 << 32)
_OBJECT_BYTES = 64
_MANY_DIMENSIONS = 32  # numpy has a bound, a tensor has none
DEFAULT_MEMORY_BYTES = 1 << 24
"""The memory of a session that was given none: 16 MiB."""
DEVICE_ATTR_EXIST = 0
"""The kind of DevGetAttr that asks whether a device exists."""


class FunctionError(Exception):
    """Raised by a served function whose text must reach the caller as it is, with no exception's name before it."""


class Module(dict[str, RemoteCallable]):
    """A named set of functions that a client can look up in, such as the system library."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._texts: dict[str, tuple[RemoteCallable, str | None, str | None]] = {}

    @overload
    def function(
        self, function: FunctionT, *, name: str | None = None, signature: str | None = None, doc: str | None = None
    ) -> FunctionT: ...

    @overload
    def function(
        self, function: None = None, *, name: str | None = None, signature: str | None = None, doc: str | None = None
    ) -> Callable[[FunctionT], FunctionT]: ...

    def function(
        self,
        function: RemoteCallable | None = None,
        *,
        name: str | None = None,
        signature: str | None = None,
        doc: str | None = None,
    ) -> RemoteCallable:
        """Decorate a Python function to put it in this module, under its own name or `name`.

        signature, doc: what is told of it (docs/description.md); else its annotations and its docstring tell.
        """

        def register(function: RemoteCallable) -> RemoteCallable:
            key = name or function.__name__
            self[key] = function
            self._texts[key] = (function, signature, doc)
            return function

        return register if function is None else register(function)

    def texts_of(self, name: str) -> tuple[str | None, str | None]:
        """Give the signature and the doc that a function was registered with, None for what was not said."""
        known = self._texts.get(name)
        return known[1:] if known is not None and known[0] is self.get(name) else (None, None)


class BoardArray(np.ndarray[Any, Any]):
    """A tensor argument: an array that aliases the memory.

    Lanes are a dimension of their own, and bfloat16 comes as uint16; `data_type` is what the tensor says. What is
    computed from the array has none.
    """

    data_type: DataType


class LocalSession:
    """Executes requests here, as docs/device.md has it.

    `functions` are what GetGlobalFunc finds, `memory` holds the tensors. `system_library` is a module whose functions
    have fixed handles too. A function gets tensors as `BoardArray`, functions as callables and modules as `Module`;
    everything else as docs/protocol.md 3 decodes it. It may return any of these, and a numpy array, which is put into
    the memory. What it raises reaches the caller as an exception.
    """

    is_async = False
    """It answers before `submit` returns."""

    def __init__(
        self,
        functions: Mapping[str, RemoteCallable] | None = None,
        memory: Memory | None = None,
        system_library: Module | None = None,
    ) -> None:
        self.functions = functions if functions is not None else {}
        self.memory = memory or Memory(DEFAULT_MEMORY_BYTES)
        self.system_library = Module() if system_library is None else system_library
        self._registries = (self.functions, self.system_library)
        self._objects: dict[int, object] = {}
        self._given: dict[int, BlockKind] = {}  # the blocks that clients have; others may be the program's own
        self._syscalls: dict[int, Callable[..., Value]] = {
            PacketCode.GET_GLOBAL_FUNC: self._look_up,
            PacketCode.FREE_HANDLE: self._free_handle,
            PacketCode.DEV_SET_DEVICE: self.set_device,
            PacketCode.DEV_GET_ATTR: self.get_attr,
            PacketCode.DEV_ALLOC_DATA: self._alloc,
            PacketCode.DEV_ALLOC_DATA_WITH_SCOPE: self._alloc_tensor,
            PacketCode.DEV_FREE_DATA: self._free,
            PacketCode.COPY_AMONG_REMOTE: self._copy,
            PacketCode.DEV_CREATE_STREAM: self._create_stream,
            PacketCode.DEV_STREAM_SYNC: self._use_stream,
            PacketCode.DEV_FREE_STREAM: self._use_stream,
            PacketCode.DEV_SET_STREAM: self._use_stream,
        }

    def submit(self, request: Request, done: Done) -> None:
        """Execute `request`, and call `done` with its reply before this returns."""
        done(self.serve(request))

    def serve(self, request: Request) -> Reply:
        """Execute `request` and give the reply; whatever goes wrong becomes an exception packet."""
        return self.answer(lambda: self._serve(request))

    def answer(self, run: Callable[[], AnswerT]) -> AnswerT | RemoteException:
        """Give what `run` gives, an exception packet for whatever goes wrong there."""
        try:
            return run()
        except (FunctionError, MemoryAccessError, OutOfMemoryError) as error:
            return RemoteException(str(error))
        except (Exception, *ENDINGS) as error:  # a served function may raise anything; the caller must learn of it
            return RemoteException(f"{type(error).__name__}: {error}")

    def _serve(self, request: Request) -> Reply:
        if isinstance(request, CallFunc):
            return self.conclude(self._call(request))
        if isinstance(request, CopyToRemote):
            self._tensor_bytes(request.tensor, len(request.data))[:] = request.data
            return RETURN_NONE
        if isinstance(request, CopyFromRemote):
            return CopyAck(bytes(self._tensor_bytes(request.tensor, request.size_bytes)))
        if isinstance(request, Syscall):
            return Return((self._syscall(request),))
        return RemoteException(f"{type(request).__name__} is not a request")

    def conclude(self, result: Any) -> Reply:
        """Give the reply of a call whose function returned `result`. Raises what `answer` makes an exception of."""
        return encode_result(self._to_value(result))

    def reset(self) -> None:
        """Lose memory, and the handles of what is in it."""
        self.memory.clear()
        self._objects.clear()
        self._given.clear()

    def release_all(self) -> int:
        """Free what clients allocated and were given, of all of them, and nothing else; give how many bytes."""
        blocks = self.memory.blocks
        held = {address: kind for address, kind in self._given.items() if self.memory.holds(address, kind)}
        for address, kind in held.items():
            self.memory.free(address, kind)
        self._given.clear()
        self._objects.clear()
        return sum(blocks.get(address, 0) for address in held)

    # --- calls ---------------------------------------------------------------------------------

    def _call(self, request: CallFunc) -> Any:
        function = self._find(request.handle)
        if not callable(function):
            raise _unknown_handle(request.handle)
        arguments = [self._from_value(index, value) for index, value in enumerate(request.args)]
        return self.invoke(function, arguments)

    def invoke(self, function: RemoteCallable, arguments: list[object]) -> Any:
        """Run a function that was called by its handle; subclasses may do more. What it raises reaches the client."""
        return function(*arguments)

    def _from_value(self, index: int, value: Value) -> object:
        if isinstance(value, Tensor):
            return self._array(index, value)
        if isinstance(value, ModuleHandle | FunctionHandle):
            thing = self._find(value)
            if thing is None or isinstance(thing, Module) != isinstance(value, ModuleHandle):
                raise _unknown_handle(value)
            return thing
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
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        address = self._allocate(array.nbytes, kind=BlockKind.ARRAY)
        self.memory.view(address, array.nbytes)[:] = np.ascontiguousarray(array).tobytes()
        return ArrayResult(Tensor(address, CPU, dtype, array.shape), OpaqueHandle(address))

    # --- handles (docs/device.md 4) --------------------------------------------------------------

    def _find(self, handle: int) -> object:
        """Give the function or module that has this handle, None where there is none."""
        if handle < _REGISTERED:
            return self._objects.get(handle)
        registry, index = divmod(handle - _REGISTERED, 1 << 32)
        if registry < len(self._registries):
            return next(islice(self._registries[registry].values(), index, None), None)
        return self.system_library if handle == _LIBRARY_HANDLE else None

    def _handle_of(self, thing: object) -> int:
        """What is registered has one handle for ever; all else gets a block of memory, and its address."""
        if thing is self.system_library:
            return _LIBRARY_HANDLE
        for registry in (1, 0):  # most functions are returned by ModuleGetFunction
            for index, known in enumerate(self._registries[registry].values()):
                if known is thing:
                    return _REGISTERED + (registry << 32) + index
        address = self._allocate(_OBJECT_BYTES, kind=BlockKind.OBJECT)
        self._objects[address] = thing
        return address

    def _free_handle(self, handle: OpaqueHandle, type_code: int) -> None:
        thing = self._find(handle)
        known: dict[int, bool] = {
            TypeCode.FUNCTION: callable(thing),
            TypeCode.MODULE: isinstance(thing, Module),
            TypeCode.NDARRAY: self.memory.holds(handle, BlockKind.ARRAY),
        }
        if not known.get(type_code):
            raise FunctionError(f"no object of type {type_code} has the handle 0x{handle:x}")
        if handle < _REGISTERED:
            self._objects.pop(handle, None)
            self._given.pop(handle, None)
            self.memory.free(handle, BlockKind.ARRAY if thing is None else BlockKind.OBJECT)

    # --- memory --------------------------------------------------------------------------------

    def _allocate(self, size_bytes: int, alignment_bytes: int = 8, kind: BlockKind = BlockKind.DATA) -> int:
        """Give the address of a new block that a client is given."""
        address = self.memory.alloc(size_bytes, alignment_bytes, kind)
        self._given[address] = kind
        return address

    def _array(self, index: int, tensor: Tensor) -> BoardArray:
        """Give argument `index`, a tensor, as an array that aliases the memory."""
        data = self._tensor_bytes(tensor, _size_bytes(tensor))
        try:
            dtype = tensor.dtype.numpy
        except UnsupportedValueError:
            raise FunctionError(f"argument {index}: the dtype is not supported") from None
        if _address(tensor) % dtype.base.itemsize:
            raise FunctionError(f"argument {index}: the tensor is not aligned")
        try:
            array = BoardArray(tensor.shape + dtype.shape, dtype.base, data)
        except ValueError:  # more dimensions, or longer ones of an empty tensor, than numpy has
            shape = (data.nbytes // dtype.itemsize,) + (1,) * (_MANY_DIMENSIONS - 1)
            array = BoardArray(shape + dtype.shape, dtype.base, data)
        array.data_type = tensor.dtype
        return array

    def _tensor_bytes(self, tensor: Tensor, size_bytes: int) -> memoryview:
        return self.memory.view(_address(tensor), size_bytes)

    # --- syscalls ------------------------------------------------------------------------------

    def _syscall(self, request: Syscall) -> Value:
        run = self._syscalls.get(request.code)
        if run is None:
            raise FunctionError(f"unknown packet code {int(request.code)}")
        if not fits_signature(request):
            raise FunctionError(f"wrong arguments of packet code {int(request.code)}")
        return run(*request.args)

    def _look_up(self, name: str) -> OpaqueHandle:
        index = next((index for index, known in enumerate(self.functions) if known == name), None)
        return OpaqueHandle(0 if index is None else _REGISTERED + index)

    def _alloc(self, device: Device, size_bytes: int, alignment_bytes: int, _: DataType) -> OpaqueHandle:
        self._check_device(device)
        return OpaqueHandle(self._allocate(size_bytes, alignment_bytes))

    def _alloc_tensor(self, tensor: Tensor, scope: str | None) -> OpaqueHandle:
        self._check_device(tensor.device)
        if scope not in (None, "", "global"):
            raise FunctionError("there is no such memory scope here")
        alignment = 1 << max(3, (tensor.dtype.itemsize_bytes - 1).bit_length())
        return OpaqueHandle(self._allocate(_size_bytes(tensor), alignment))

    def _free(self, device: Device, address: OpaqueHandle) -> None:
        self._check_device(device)
        self.memory.free(address)
        self._given.pop(address, None)

    def _copy(self, source: Tensor, target: Tensor, _: OpaqueHandle) -> None:
        size_bytes = _size_bytes(source)
        if size_bytes != _size_bytes(target):
            raise FunctionError("the tensors have different sizes")
        data = bytes(self._tensor_bytes(source, size_bytes))
        self._tensor_bytes(target, size_bytes)[:] = data

    def _create_stream(self, device: Device) -> OpaqueHandle:
        self._check_device(device)
        return OpaqueHandle(0)  # everything here runs in order: there is one stream, the default one

    def _use_stream(self, device: Device, _: OpaqueHandle) -> None:
        self._check_device(device)

    def _check_device(self, device: Device) -> None:
        if device != CPU:
            raise FunctionError(f"there is no device ({device.type}, {device.id}) here, only the CPU (1, 0)")

    def set_device(self, device: Device) -> None:
        """DevSetDevice. Raises FunctionError for what is not the CPU."""
        self._check_device(device)

    def get_attr(self, device: Device, kind: int) -> Value:
        """DevGetAttr: whether the device exists (kind 0); nothing else is known."""
        return int(device == CPU) if kind == DEVICE_ATTR_EXIST else None


def _unknown_handle(handle: int) -> FunctionError:
    return FunctionError(f"no function or module has the handle 0x{handle:x}; look it up again")


def _address(tensor: Tensor) -> int:
    return tensor.data + tensor.byte_offset & _U64_MASK


def _size_bytes(tensor: Tensor) -> int:
    return min(tensor.size_bytes, _MOST_BYTES)
