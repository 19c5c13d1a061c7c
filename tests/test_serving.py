from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from microrpc.codec import (
    RETURN_NONE,
    CallFunc,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    InitServer,
    PacketCode,
    RemoteException,
    Reply,
    Request,
    Return,
    Shutdown,
    Syscall,
    decode_packet,
    decode_result,
    encode_packet,
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
from microrpc.errors import CallTimeoutError, ProtocolError, RemoteError
from microrpc.memory import Memory
from microrpc.serving import AsyncProxySession, FunctionError, LocalSession, Module, ProxySession

U8 = DataType(1, 8)
F32 = DataType(2, 32)
STREAM = OpaqueHandle(0)
GPU = Device(2, 0)


class Client:
    """Asks a `LocalSession`; what passes either way is what the wire would make of it."""

    def __init__(self, functions: Module | None = None, memory_bytes: int = 4096) -> None:
        self.session = LocalSession(functions, Memory(memory_bytes))

    def ask(self, request: Request) -> Reply:
        replies: list[Reply] = []
        self.session.submit(decode_packet(encode_packet(request)[8:]), replies.append)  # type: ignore[arg-type]
        [reply] = replies
        return decode_packet(encode_packet(reply)[8:])  # type: ignore[return-value]

    def syscall(self, code: PacketCode | int, *args: Value) -> Any:
        """The value returned, or the exception's text."""
        reply = self.ask(Syscall(code, args))
        if isinstance(reply, RemoteException):
            return reply.message
        assert isinstance(reply, Return)
        [value] = reply.values
        return value

    def call(self, name_or_handle: str | int, *args: Value) -> Any:
        handle = name_or_handle
        if isinstance(handle, str):
            handle = self.syscall(PacketCode.GET_GLOBAL_FUNC, handle)
        reply = self.ask(CallFunc(int(handle), args))
        if isinstance(reply, RemoteException):
            return reply.message
        assert isinstance(reply, Return)
        return decode_result(reply.values)

    def alloc(self, size_bytes: int) -> Any:
        return self.syscall(PacketCode.DEV_ALLOC_DATA, CPU, size_bytes, 8, U8)

    def put(self, array: np.ndarray[Any, Any]) -> Tensor:
        tensor = Tensor(self.alloc(array.nbytes), CPU, DataType.from_numpy(array.dtype), array.shape)
        assert self.ask(CopyToRemote(tensor, array.tobytes())) == RETURN_NONE
        return tensor

    def get(self, tensor: Tensor) -> bytes:
        reply = self.ask(CopyFromRemote(tensor, tensor.size_bytes))
        assert isinstance(reply, CopyAck)
        return reply.data


@pytest.fixture
def functions() -> Module:
    return Module()


@pytest.fixture
def client(functions: Module) -> Client:
    return Client(functions)


# --- functions --------------------------------------------------------------------------------


def test_functions_are_registered_under_their_own_name_or_another(functions: Module) -> None:
    @functions.function
    def own() -> int:
        return 1

    @functions.function(name="another")
    def ignored() -> int:
        return 2

    assert functions == {"own": own, "another": ignored}
    assert (own(), ignored()) == (1, 2)


def test_a_function_that_is_not_there_has_handle_0(client: Client) -> None:
    assert client.syscall(PacketCode.GET_GLOBAL_FUNC, "nothing") == OpaqueHandle(0)


@pytest.mark.parametrize("value", [1, -(2**63), 2.5, "text", b"\x00bytes", None, U8, CPU, OpaqueHandle(2**64 - 1)])
def test_a_value_passes_as_it_is(client: Client, functions: Module, value: Value) -> None:
    functions.function(lambda x: x, name="echo")
    assert client.call("echo", value) == value
    assert type(client.call("echo", value)) is type(value)


def test_numpy_scalars_and_bools_may_be_returned(client: Client, functions: Module) -> None:
    functions.update(i=lambda: np.int32(5), f=lambda: np.float32(0.5), b=lambda: True)
    assert (client.call("i"), client.call("f"), client.call("b")) == (5, 0.5, 1)


def test_an_array_argument_aliases_the_memory(client: Client, functions: Module) -> None:
    @functions.function
    def double(x: np.ndarray[Any, Any]) -> None:
        x *= 2

    tensor = client.put(np.array([[1, 2], [3, 4]], np.int16))
    assert client.call("double", tensor) is None
    assert np.frombuffer(client.get(tensor), np.int16).tolist() == [2, 4, 6, 8]
    tail = Tensor(tensor.data, CPU, tensor.dtype, (1,), byte_offset=6)
    client.call("double", tail)
    assert np.frombuffer(client.get(tensor), np.int16).tolist() == [2, 4, 6, 16]


@pytest.mark.parametrize(
    ("dtype", "shape", "seen"),
    [
        (F32, (), "float32 ()"),
        (F32, (0, 3), "float32 (0, 3)"),
        (DataType(2, 32, 4), (3,), "float32 (3, 4)"),
        (DataType(1, 1), (5,), "bool (5,)"),
        (DataType(4, 16), (2,), "uint16 (2,)"),
    ],
)
def test_an_array_has_the_dtype_and_shape_of_its_tensor(
    client: Client, functions: Module, dtype: DataType, shape: tuple[int, ...], seen: str
) -> None:
    functions.function(lambda x: f"{x.dtype} {x.shape}", name="look")
    address = client.alloc(64)
    assert client.call("look", Tensor(address, CPU, dtype, shape)) == seen


def test_an_array_result_lives_in_memory_until_its_handle_is_freed(client: Client, functions: Module) -> None:
    functions.function(lambda: np.arange(6, dtype=np.float32).reshape(2, 3).T, name="transposed")
    result = client.call("transposed")
    assert isinstance(result, ArrayResult)
    assert (result.tensor.shape, result.tensor.dtype) == ((3, 2), F32)
    assert np.frombuffer(client.get(result.tensor), np.float32).tolist() == [0, 3, 1, 4, 2, 5]
    assert client.syscall(PacketCode.FREE_HANDLE, result.handle, int(TypeCode.NDARRAY)) is None
    assert client.session.memory.used_bytes == 0


def test_functions_and_modules_may_be_returned_and_passed_on(client: Client, functions: Module) -> None:
    module = Module()
    functions.update(
        library=lambda: module,
        adder=lambda n: lambda a: a + n,
        apply=lambda f, x: f(x),
        size=len,
    )
    module["unused"] = len
    add_2 = client.call("adder", 2)
    library = client.call("library")
    assert (type(add_2), type(library)) == (FunctionHandle, ModuleHandle)
    assert client.call("apply", add_2, 40) == 42
    assert client.call("size", library) == 1
    assert client.call("size", FunctionHandle(5)) == "no module or function has the handle 0x5"


def test_errors_reach_the_caller_with_their_cause(client: Client, functions: Module) -> None:
    @functions.function
    def fails() -> None:
        raise FunctionError("as it is")

    @functions.function
    def breaks() -> None:
        raise ZeroDivisionError("by zero")

    functions.function(lambda: [1, 2], name="list")
    assert client.call("fails") == "as it is"
    assert client.call("breaks") == "ZeroDivisionError: by zero"
    assert client.call("list").startswith("UnsupportedValueError")
    assert client.call(77) == "no function has the handle 0x4d; look it up again"


def test_what_is_no_request_is_refused(client: Client) -> None:
    assert client.ask(Shutdown()) == RemoteException("Shutdown is not a request")
    assert client.ask(InitServer("0.8.0", ())) == RemoteException("InitServer is not a request")


# --- handles ----------------------------------------------------------------------------------


def test_a_handle_is_shared_and_counted(client: Client, functions: Module) -> None:
    functions["f"] = lambda: 1
    first = client.syscall(PacketCode.GET_GLOBAL_FUNC, "f")
    assert client.syscall(PacketCode.GET_GLOBAL_FUNC, "f") == first
    for result in (1, 1, f"no function has the handle 0x{first:x}; look it up again"):
        assert client.call(first) == result
        client.syscall(PacketCode.FREE_HANDLE, first, int(TypeCode.FUNCTION))
    assert client.syscall(PacketCode.GET_GLOBAL_FUNC, "f") != first


def test_a_handle_is_freed_only_as_what_it_is(client: Client, functions: Module) -> None:
    functions["f"] = lambda: Module()
    function = client.syscall(PacketCode.GET_GLOBAL_FUNC, "f")
    module = client.call("f")
    text = f"FreeHandle: no object of type MODULE has the handle 0x{function:x}"
    assert client.syscall(PacketCode.FREE_HANDLE, function, int(TypeCode.MODULE)) == text
    text = f"FreeHandle: no object of type NDARRAY has the handle 0x{function:x}"
    assert client.syscall(PacketCode.FREE_HANDLE, function, int(TypeCode.NDARRAY)) == text
    assert client.syscall(PacketCode.FREE_HANDLE, OpaqueHandle(module), int(TypeCode.MODULE)) is None
    assert "is not a valid TypeCode" in client.syscall(PacketCode.FREE_HANDLE, function, 99)


def test_handles_that_are_never_freed_have_a_bound(
    client: Client, functions: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microrpc.serving._MAX_OBJECTS", 3)
    functions["new"] = lambda: lambda: 1
    assert all(type(client.call("new")) is FunctionHandle for _ in range(2))
    assert client.call("new") == "3 handles are in use; free some"


def test_a_reset_loses_memory_and_handles(client: Client, functions: Module) -> None:
    functions["f"] = lambda: 1
    handle = client.syscall(PacketCode.GET_GLOBAL_FUNC, "f")
    client.alloc(10)
    client.session.reset()
    assert client.session.memory.used_bytes == 0
    assert "look it up again" in client.call(handle)


# --- syscalls ---------------------------------------------------------------------------------


def test_memory_is_allocated_with_its_alignment_and_freed(client: Client) -> None:
    client.alloc(1)
    address = client.syscall(PacketCode.DEV_ALLOC_DATA, CPU, 10, 64, U8)
    assert address % 64 == 0
    assert client.syscall(PacketCode.DEV_FREE_DATA, CPU, address) is None
    assert client.session.memory.used_bytes == 1


@pytest.mark.parametrize("scope", [None, "", "global"])
def test_memory_may_be_allocated_for_a_tensor(client: Client, scope: str | None) -> None:
    client.alloc(1)
    tensor = Tensor(0, CPU, DataType(2, 32, 4), (3,))
    address = client.syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, tensor, scope)
    assert address % 16 == 0
    assert client.session.memory.blocks[address] == 48


def test_there_are_no_other_memory_scopes(client: Client) -> None:
    tensor = Tensor(0, CPU, U8, (3,))
    refusal = client.syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, tensor, "texture")
    assert refusal == "there is no memory scope 'texture' here"


def test_a_copy_among_tensors_may_overlap(client: Client) -> None:
    address = client.put(np.arange(8, dtype=np.uint8)).data
    source, target = Tensor(address, CPU, U8, (6,)), Tensor(address, CPU, U8, (6,), 2)
    assert client.syscall(PacketCode.COPY_AMONG_REMOTE, source, target, STREAM) is None
    assert client.get(Tensor(address, CPU, U8, (8,))) == bytes([0, 1, 0, 1, 2, 3, 4, 5])


def test_a_copy_among_tensors_of_different_sizes_is_refused(client: Client) -> None:
    tensor = client.put(np.zeros(8, np.uint8))
    small = Tensor(tensor.data, CPU, U8, (7,))
    refusal = client.syscall(PacketCode.COPY_AMONG_REMOTE, tensor, small, STREAM)
    assert refusal == "CopyAmongRemote: 8 bytes do not fit 7"


def test_copies_outside_a_block_are_refused(client: Client) -> None:
    tensor = client.put(np.zeros(8, np.uint8))
    outside = Tensor(tensor.data, CPU, U8, (8,), 1)
    text = f"MemoryAccessError: 8 bytes at 0x{tensor.data + 1:x} are not inside an allocated block"
    assert client.ask(CopyToRemote(outside, bytes(8))) == RemoteException(text)
    assert client.ask(CopyFromRemote(outside, 8)) == RemoteException(text)


def test_streams_are_all_the_default_one(client: Client) -> None:
    assert client.syscall(PacketCode.DEV_CREATE_STREAM, CPU) == STREAM
    for code in (PacketCode.DEV_STREAM_SYNC, PacketCode.DEV_SET_STREAM, PacketCode.DEV_FREE_STREAM):
        assert client.syscall(code, CPU, STREAM) is None


def test_a_device_may_be_set_and_asked_whether_it_exists(client: Client) -> None:
    assert client.syscall(PacketCode.DEV_SET_DEVICE, CPU) is None
    assert client.syscall(PacketCode.DEV_GET_ATTR, CPU, 0) == 1
    assert client.syscall(PacketCode.DEV_GET_ATTR, GPU, 0) == 0
    assert client.syscall(PacketCode.DEV_GET_ATTR, CPU, 1) is None


@pytest.mark.parametrize(
    ("code", "args"),
    [
        (PacketCode.DEV_SET_DEVICE, (GPU,)),
        (PacketCode.DEV_ALLOC_DATA, (GPU, 1, 1, U8)),
        (PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (Tensor(0, GPU, U8, (1,)), None)),
        (PacketCode.DEV_FREE_DATA, (GPU, OpaqueHandle(0))),
        (PacketCode.DEV_CREATE_STREAM, (GPU,)),
        (PacketCode.DEV_STREAM_SYNC, (GPU, STREAM)),
    ],
)
def test_there_is_no_device_but_the_cpu(client: Client, code: PacketCode, args: tuple[Value, ...]) -> None:
    assert client.syscall(code, *args) == "there is no device (2, 0) here, only the CPU (1, 0)"


@pytest.mark.parametrize(
    ("code", "args", "text"),
    [
        (PacketCode.GET_GLOBAL_FUNC, (), "GetGlobalFunc: a name expected, got nothing"),
        (PacketCode.GET_GLOBAL_FUNC, (5,), "GetGlobalFunc: a name expected, got int"),
        (PacketCode.GET_GLOBAL_FUNC, ("a", "b"), "GetGlobalFunc: too many arguments"),
        (PacketCode.DEV_FREE_DATA, (CPU, 5), "DevFreeData: an address expected, got int"),
        (PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (CPU,), "DevAllocDataWithScope: a tensor expected, got Device"),
        (PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (Tensor(0, CPU, U8, (1,)), 1),
         "DevAllocDataWithScope: a scope or nothing expected, got int"),
        (99, (), "unknown packet code 99"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(
    client: Client, code: PacketCode | int, args: tuple[Value, ...], text: str
) -> None:
    assert client.syscall(code, *args) == text


# --- proxies ----------------------------------------------------------------------------------

LOOK_UP = Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",))


def test_a_proxy_passes_on_requests_and_replies() -> None:
    seen: list[Request] = []

    def call(request: Request) -> Reply:
        seen.append(request)
        return CopyAck(b"data")

    proxy = ProxySession(call)
    replies: list[Reply] = []
    proxy.submit(LOOK_UP, replies.append)
    assert (proxy.is_async, seen, replies) == (False, [LOOK_UP], [CopyAck(b"data")])


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RemoteError("the board's own text", function="f"), "the board's own text"),
        (CallTimeoutError("no answer"), "CallTimeoutError: no answer"),
    ],
)
def test_a_proxy_answers_with_an_exception_where_the_other_end_fails(error: Exception, text: str) -> None:
    def call(request: Request) -> Reply:
        raise error

    replies: list[Reply] = []
    ProxySession(call).submit(LOOK_UP, replies.append)
    assert replies == [RemoteException(text)]


class AsyncProxy:
    """An `AsyncProxySession` and what went through it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.replies: list[Reply] = []
        self.session = AsyncProxySession(ClientEndpoint(), self.sent.append)

    def submit(self, request: Request = LOOK_UP) -> None:
        self.session.submit(request, self.replies.append)


def test_an_async_proxy_answers_when_the_reply_has_come() -> None:
    proxy = AsyncProxy()
    assert proxy.session.is_async
    proxy.submit()
    assert (proxy.sent, proxy.replies) == ([encode_packet(LOOK_UP)], [])
    reply = encode_packet(Return((OpaqueHandle(5),)))
    proxy.session.feed(reply[:9])
    assert proxy.replies == []
    proxy.session.feed(reply[9:])
    assert proxy.replies == [Return((OpaqueHandle(5),))]
    proxy.submit(CopyFromRemote(Tensor(0, CPU, U8, (2,)), 2))
    proxy.session.feed(encode_packet(CopyAck(b"ab")))
    proxy.submit()
    proxy.session.feed(encode_packet(RemoteException("no")))
    assert proxy.replies[1:] == [CopyAck(b"ab"), RemoteException("no")]


def test_an_async_proxy_refuses_a_second_request_and_still_answers_the_first() -> None:
    proxy = AsyncProxy()
    proxy.submit()
    proxy.submit()
    assert "a request is in flight" in str(proxy.replies)
    proxy.session.feed(encode_packet(Return((None,))))
    assert proxy.replies[1:] == [RETURN_NONE]


def test_an_async_proxy_answers_with_an_exception_for_a_wrong_reply_and_says_so_to_its_owner() -> None:
    proxy = AsyncProxy()
    proxy.submit()
    with pytest.raises(ProtocolError):
        proxy.session.feed(encode_packet(CopyAck(b"unasked")))
    assert "CopyAck of 7 bytes arrived as the reply of GetGlobalFunc" in str(proxy.replies)


def test_an_async_proxy_answers_with_an_exception_when_the_other_end_goes() -> None:
    proxy = AsyncProxy()
    proxy.session.closed()
    proxy.submit()
    proxy.session.closed()
    proxy.session.closed()
    assert proxy.replies == [RemoteException("the connection to the served endpoint was closed")]
