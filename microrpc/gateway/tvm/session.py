"""What a client of TVM may do with a board: its requests, as a board can answer them (docs/tvm_serve.md).

`ClientSession` has its handles, its memory and its look-ups. This adds what TVM's clients want and no board has: files,
the forms of the time evaluator, streams and attributes, and refuses what a board must not see.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from microrpc.errors import FunctionNotFoundError, MicroRpcError
from microrpc.gateway.hub import EventHub
from microrpc.gateway.session import OWN_FUNCTIONS, ClientSession, Own, OwnFunction
from microrpc.gateway.shared import Kept, RefusedError, SharedBoard
from microrpc.gateway.tvm.evaluator import Measurement
from microrpc.gateway.tvm.files import Files
from microrpc.gateway.tvm.random import random_bytes
from microrpc.serve.endpoint import Done
from microrpc.wire.datatypes import (
    CPU,
    NUMBER_BITS,
    ArrayResult,
    DataType,
    DataTypeCode,
    Device,
    ModuleHandle,
    OpaqueHandle,
    Tensor,
    Value,
)
from microrpc.wire.names import (
    MAX_PACKET_SIZE_FUNCTION,
    RANDOM_FILL_FUNCTION,
    STREAM_FUNCTION,
    SYSTEM_LIBRARY_FUNCTION,
    TIME_EVALUATOR_FUNCTION,
)
from microrpc.wire.packets import (
    RETURN_NONE,
    CallFunc,
    CopyFromRemote,
    CopyToRemote,
    PacketCode,
    Reply,
    Request,
    Return,
    Syscall,
)
from microrpc.wire.signatures import fits_signature
from microrpc.wire.tvm import packets as new
from microrpc.wire.tvm.layout import NEW, LayoutFinder
from microrpc.wire.tvm.values import TypeIndex

_NO_LIMIT = 1 << 62  # copies come whole, and are cut for the board here
_NEW_SYSTEM_LIBRARY = "ffi.SystemLib"
_FILL_FOR_MEASURE = "tvm.contrib.random.random_fill_for_measure"
_SERVER = "tvm.rpc.server."
_BYTE = DataType.parse("uint8")
_BITS = {**NUMBER_BITS, DataTypeCode.BOOL: (8,)}
_OTHER_NAMES = {3: "handle", 5: "complex", **dict.fromkeys(range(7, 15), "float8_"), 15: "float6_", 16: "float6_"}


class _Attribute(enum.IntEnum):
    """Kinds of DevGetAttr that are answered; of the rest a board knows nothing."""

    EXIST = 0
    TOTAL_GLOBAL_MEMORY = 14
    AVAILABLE_GLOBAL_MEMORY = 15


class Loader(Protocol):
    """Makes firmware of what a client uploaded, and starts the board with it."""

    async def load(self, name: str, data: bytes) -> int:
        """Build `data`, the file `name`, and start the board anew with it; give what that needs tensors to be aligned
        to, in bytes, 0 where any will do. Raises RefusedError, which says why not.
        """


class TvmSession:
    """Executes the requests of one client of TVM: a serving session, as `ClientSession` is.

    finder: knows the client's layout. call_s: how long one call may take, in seconds. loader: of what it uploads; None
    where nothing is to be loaded.
    """

    is_async = True
    """It is: `execute` gives the reply when the board has given it."""

    def __init__(
        self, shared: SharedBoard, hub: EventHub, finder: LayoutFinder, *, call_s: float, loader: Loader | None
    ) -> None:
        self._shared = shared
        self._finder = finder
        self._call_s = call_s
        self._loader = loader
        self._alignment_bytes = 0  # of what is allocated for code that was loaded
        self._files = Files()
        self._fill: Kept | None = None
        self._is_of_021 = False
        self._inner = ClientSession(shared, hub, None, functions=self._functions(), finds_all=True, encode=self._encode)
        self.submit: Callable[[Request, Done], None] = self._inner.submit
        """See `ClientSession.submit`."""
        self.take: Callable[[], tuple[Request, Done] | None] = self._inner.take
        """See `ClientSession.take`."""

    def move(self, hub: EventHub) -> None:
        """See `ClientSession.move`."""
        self._fill = None
        self._inner.move(hub)

    def release(self) -> None:
        """See `ClientSession.release`."""
        self._fill = None
        self._files = Files()
        self._inner.release()

    async def settle(self) -> None:
        """See `ClientMemory.settle`."""
        await self._inner.memory.settle()

    async def execute(self, request: Request) -> Reply:
        """Execute a request; whatever goes wrong becomes an exception packet."""
        try:
            if isinstance(request, Syscall):
                answered = await self._syscall(request)
                if isinstance(answered, Return):
                    return answered
                request = answered
            elif isinstance(request, CallFunc):
                for index, value in enumerate(request.args):
                    if isinstance(value, Tensor):
                        _check_device(value.device)
                        _check_type(value.dtype, f"argument {index}")
            elif isinstance(request, CopyFromRemote | CopyToRemote):
                _check_device(request.tensor.device)
        except (RefusedError, MicroRpcError) as error:
            return self._inner.explain(error)
        return await self._inner.execute(request)

    def _encode(self, result: Value | ArrayResult) -> Return:
        layout = self._finder.layout
        if self._is_of_021 and layout is NEW and isinstance(result, ArrayResult):
            return new.encode_result(result, tensor_index=TypeIndex.MAP)  # which is what 0.21 calls a tensor
        return layout.encode_result(result)

    # --- syscalls ------------------------------------------------------------------------------

    async def _syscall(self, request: Syscall) -> Syscall | Return:
        """Answer what a board is not asked; give what it can be asked otherwise."""
        code, args = request.code, request.args
        if code == PacketCode.FREE_HANDLE and len(args) == 1:
            (number,) = args
            if not isinstance(number, OpaqueHandle):
                raise RefusedError("FreeHandle: its argument is no handle")
            return Syscall(code, (number, int(self._inner.type_code(number))))
        if code == PacketCode.DEV_GET_CURRENT_STREAM:
            request = Syscall(PacketCode.DEV_CREATE_STREAM, args)  # there is one stream: both are told that
        if not isinstance(code, PacketCode) or not fits_signature(request):
            return request  # which is refused as it is
        if code == PacketCode.GET_GLOBAL_FUNC:
            if args[0] == STREAM_FUNCTION:  # a client of TVM is told nothing besides its replies
                return Return((OpaqueHandle(0),))
            self._is_of_021 = self._is_of_021 or args[0] == SYSTEM_LIBRARY_FUNCTION
            return request
        for arg in args:
            if isinstance(arg, Tensor):
                _check_type(arg.dtype, PacketCode(code).label)
        match code, args:
            case PacketCode.DEV_GET_ATTR, (Device() as device, int() as kind):
                return Return((await self._attribute(device, kind),))
        for arg in args:
            if isinstance(arg, Device | Tensor):
                _check_device(arg.device if isinstance(arg, Tensor) else arg)
        if code in _STREAM_CALLS:
            return Return((OpaqueHandle(0),)) if code in _STREAM_GIVERS else RETURN_NONE
        match code, args:
            case PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (Tensor() as tensor, None) if self._alignment_bytes:
                size_bytes = max(tensor.size_bytes, 1)
                return Syscall(PacketCode.DEV_ALLOC_DATA, (tensor.device, size_bytes, self._alignment_bytes, _BYTE))
        return Syscall(code, tuple(_as_bytes(arg) for arg in args))

    async def _attribute(self, device: Device, kind: int) -> Value:
        if kind == _Attribute.EXIST:
            return int(device == CPU)
        if device != CPU or kind not in (_Attribute.TOTAL_GLOBAL_MEMORY, _Attribute.AVAILABLE_GLOBAL_MEMORY):
            return None
        try:
            memory = await self._shared.board.memory()
        except FunctionNotFoundError:
            return None
        return memory.heap_bytes if kind == _Attribute.TOTAL_GLOBAL_MEMORY else memory.free_bytes

    # --- functions that are answered here ----------------------------------------------------------

    def _functions(self) -> dict[str, Own | OwnFunction]:
        server: dict[str, _Answer] = {
            "upload": self._upload,
            "download": self._download,
            "remove": self._remove,
            "listdir": self._list,
            "load_module": self._load_module,
            "ImportModule": partial(_refuse, "import_module: modules are linked when firmware is built, not later"),
            "download_linked_module": partial(
                _refuse, "download_linked_module: the board has no linker: build firmware with `microrpc tvm build`"
            ),
        }
        answers: dict[str, _Answer] = {
            **{_SERVER + name: answer for name, answer in server.items()},
            MAX_PACKET_SIZE_FUNCTION: _give_no_limit,
            TIME_EVALUATOR_FUNCTION: self._make_evaluator,
            RANDOM_FILL_FUNCTION: self._random_fill,
            _FILL_FOR_MEASURE: self._random_fill,
        }
        return {
            **OWN_FUNCTIONS,
            _NEW_SYSTEM_LIBRARY: Own.GET_SYSTEM_LIBRARY,
            **{name: OwnFunction(name, answer) for name, answer in answers.items()},
        }

    async def _upload(self, args: tuple[Value, ...]) -> None:
        match args:
            case (str(name), bytes(data)):
                self._files.put(name, data)
            case _:
                raise RefusedError("upload: a name and bytes are wanted")

    async def _download(self, args: tuple[Value, ...]) -> bytes:
        return self._files.get(_one_name("download", args), "download")

    async def _remove(self, args: tuple[Value, ...]) -> None:
        self._files.remove(_one_name("remove", args))

    async def _list(self, args: tuple[Value, ...]) -> str:
        _one_name("listdir", args)  # there is one folder, whatever it is called
        return ",".join(self._files.names())

    async def _load_module(self, args: tuple[Value, ...]) -> Own:
        name = _one_name("load_module", args)
        data = self._files.get(name, "load_module")
        if self._loader is None:
            raise RefusedError(
                "load_module: this gateway runs no uploaded code: start it with --allow-load, or build firmware with "
                "`microrpc tvm build` and use system_lib()"
            )
        self._alignment_bytes = await self._loader.load(name, data)
        if await self._shared.board.system_library() is None:
            raise RefusedError(f"load_module: the firmware that {name} was built into has no system library")
        return Own.SYSTEM_LIBRARY

    async def _make_evaluator(self, args: tuple[Value, ...]) -> OwnFunction:
        wanted = Measurement.parse(args)
        module = args[0]
        if not isinstance(module, ModuleHandle | None):
            raise RefusedError(f"{TIME_EVALUATOR_FUNCTION}: the first argument is a module or None")
        # A board times functions of its system library alone, where TVM means the global registry by None.
        of = await self._inner.from_client(module) if module is not None else None
        timed = await wanted.make(self._shared.board, of)

        async def run(args: tuple[Value, ...]) -> bytes:
            values = [await self._inner.from_client(value) for value in args]
            return await wanted.run(self._shared.board, timed, values, wanted.deadline_s(self._call_s))

        return OwnFunction(f"time evaluator of {wanted.name}", run)

    async def _random_fill(self, args: tuple[Value, ...]) -> None:
        match args:
            case (Tensor() as tensor,):
                pass
            case _:
                raise RefusedError("random_fill: a tensor is wanted")
        board, is_bool = self._shared.board, tensor.dtype.code == DataTypeCode.BOOL
        if not is_bool and (self._fill is None or not self._fill.one.is_live):
            self._fill = await self._shared.look_up(RANDOM_FILL_FUNCTION)
        if self._fill is not None and not is_bool:
            await board.call(self._fill.one, [await self._inner.from_client(tensor)])  # type: ignore[arg-type]
            return
        size_bytes = tensor.size_bytes
        if size_bytes > self._shared.limit_bytes:
            raise RefusedError(f"random_fill: at most {self._shared.limit_bytes} bytes are filled at once here")
        view = self._inner.memory.view(tensor, size_bytes)
        await board.write_bytes(memoryview(random_bytes(tensor.dtype, size_bytes)), view, on_progress=None)


_Answer = Callable[[tuple[Value, ...]], Awaitable[Any]]
_STREAM_GIVERS = (PacketCode.DEV_CREATE_STREAM, PacketCode.DEV_GET_CURRENT_STREAM)
_STREAM_CALLS = (
    *_STREAM_GIVERS,
    PacketCode.DEV_SET_DEVICE,
    PacketCode.DEV_STREAM_SYNC,
    PacketCode.DEV_FREE_STREAM,
    PacketCode.DEV_SET_STREAM,
)


async def _refuse(text: str, args: tuple[Value, ...]) -> None:
    raise RefusedError(text)


async def _give_no_limit(args: tuple[Value, ...]) -> int:
    return _NO_LIMIT


def _one_name(what: str, args: tuple[Value, ...]) -> str:
    match args:
        case (str(name),):
            return name
    raise RefusedError(f"{what}: one name is wanted")


def _check_device(device: Device) -> None:
    if device != CPU:
        raise RefusedError(f"a board has the CPU (1, 0) alone, no device ({device.type}, {device.id})")


def _check_type(dtype: DataType, what: str) -> None:
    if dtype.lanes < 1 or dtype.bits not in _BITS.get(dtype.code, ()) or (dtype.bits == 1 and dtype.lanes > 1):
        name = _OTHER_NAMES.get(dtype.code)
        shown = f"{name} (code {dtype.code}, {dtype.bits} bits)" if name else str(dtype)
        raise RefusedError(
            f"{what}: a board has no tensors of the type {shown}: int, uint, float, bfloat16 and bool are what there is"
        )


def _as_bytes(arg: Value) -> Value:
    """Give a bool tensor as one of bytes, which are allocated and copied alike."""
    if isinstance(arg, Tensor) and arg.dtype.code == DataTypeCode.BOOL:
        return replace(arg, dtype=replace(_BYTE, lanes=arg.dtype.lanes))
    return arg
