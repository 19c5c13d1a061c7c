from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from microrpc.errors import CallTimeoutError, ProtocolError, RemoteError
from microrpc.serve.local import FunctionError, LocalSession, Module
from microrpc.serve.memory import Memory
from microrpc.serve.proxy import AsyncProxySession, ProxySession
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
    UInt,
    Value,
)
from microrpc.wire.packets import (
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
from microrpc.wire.reader import ClientEndpoint

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


def test_errors_reach_the_caller_with_their_cause(client: Client, functions: Module) -> None:
    @functions.function
    def fails() -> None:
        raise FunctionError("as it is")

    @functions.function
    def breaks() -> None:
        raise ZeroDivisionError("by zero")

    @functions.function
    def ends() -> None:
        sys.exit("bye")

    functions.function(lambda: [1, 2], name="list")
    assert client.call("ends") == "SystemExit: bye"
    assert client.call("fails") == "as it is"
    assert client.call("breaks") == "ZeroDivisionError: by zero"
    assert client.call("list").startswith("UnsupportedValueError")


def test_what_is_no_request_is_refused(client: Client) -> None:
    assert client.ask(Shutdown()) == RemoteException("Shutdown is not a request")
    assert client.ask(InitServer("0.8.0", ())) == RemoteException("InitServer is not a request")


# --- handles ----------------------------------------------------------------------------------

LIBRARY = 2**63 + 2 * 2**32


def test_what_is_registered_has_a_handle_that_does_not_change(client: Client, functions: Module) -> None:
    library = client.session.system_library
    functions.update(a=lambda: 1, b=lambda: 2, same=lambda: functions["b"], own=lambda: library["x"])
    functions["library"] = lambda: library
    library.update(w=lambda: 3, x=lambda: 4)
    for index, name in enumerate(functions):
        assert client.syscall(PacketCode.GET_GLOBAL_FUNC, name) == 2**63 + index
    assert client.call("same") == FunctionHandle(2**63 + 1)
    assert client.call("own") == FunctionHandle(2**63 + 2**32 + 1)
    assert client.call("library") == ModuleHandle(LIBRARY)
    for handle, code in ((2**63 + 1, 10), (2**63 + 2**32 + 1, 10), (LIBRARY, 9)):
        assert client.syscall(PacketCode.FREE_HANDLE, OpaqueHandle(handle), code) is None
    assert (client.call(2**63 + 1), client.call(2**63 + 2**32 + 1)) == (2, 4)
    client.session.reset()
    assert client.call("library") == ModuleHandle(LIBRARY)
    assert client.session.memory.used_bytes == 0


@pytest.mark.parametrize(
    "handle", [0, 0x20000000, 2**63 - 1, 2**63 + 1, 2**63 + 2**32, LIBRARY, LIBRARY + 1, 2**63 + 3 * 2**32, 2**64 - 1]
)
def test_a_call_of_what_is_no_function_is_refused(client: Client, functions: Module, handle: int) -> None:
    functions["only"] = lambda: 1
    assert client.call(handle) == f"no function or module has the handle 0x{handle:x}; look it up again"


def test_a_function_that_is_returned_takes_64_bytes_each_time_until_it_is_freed(
    client: Client, functions: Module
) -> None:
    def same() -> int:
        return 5

    functions["f"] = lambda: same
    first, second = client.call("f"), client.call("f")
    assert client.session.memory.blocks == {first: 64, second: 64}
    assert first % 8 == 0
    assert (type(first), client.call(first), client.call(second)) == (FunctionHandle, 5, 5)
    assert client.syscall(PacketCode.DEV_FREE_DATA, CPU, OpaqueHandle(first)) == (
        f"cannot free 0x{first:x}: no block begins there"
    )
    inside = Tensor(first, CPU, U8, (1,))
    refusal = RemoteException(f"1 bytes at 0x{first:x} are not inside an allocated block")
    assert client.ask(CopyFromRemote(inside, 1)) == client.ask(CopyToRemote(inside, b"x")) == refusal
    assert client.syscall(PacketCode.FREE_HANDLE, OpaqueHandle(first), 10) is None
    assert "look it up again" in client.call(first)
    assert client.call(second) == 5


def test_objects_that_are_never_freed_fill_the_heap() -> None:
    client = Client(Module(new=lambda: lambda: 1), memory_bytes=3 * 72)
    assert all(type(client.call("new")) is FunctionHandle for _ in range(3))
    assert client.call("new") == "out of memory: 64 bytes asked for, the largest free block has 0"


def test_a_handle_is_freed_only_as_what_it_is(client: Client, functions: Module) -> None:
    functions.update(module=Module, function=lambda: lambda: 1, array=lambda: np.zeros(2))
    data = client.alloc(8)
    things = [(10, client.call("function")), (9, client.call("module")), (13, client.call("array").handle)]
    static = [(10, 2**63), (9, LIBRARY)]
    for own_code, handle in [*things, *static, (None, data), (None, 77)]:
        for code in (0, 9, 10, 13, 99, -1):
            answer = client.syscall(PacketCode.FREE_HANDLE, OpaqueHandle(handle), code)
            expected = None if code == own_code else f"no object of type {code} has the handle 0x{handle:x}"
            assert answer == expected
    assert client.session.memory.blocks == {data: 8}


def test_a_reset_loses_memory_and_what_was_returned(client: Client, functions: Module) -> None:
    functions["f"] = lambda: lambda: 1
    handle = client.call("f")
    client.alloc(10)
    client.session.reset()
    assert client.session.memory.used_bytes == 0
    assert "look it up again" in client.call(handle)
    assert type(client.call("f")) is FunctionHandle


# --- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "is_there"),
    [
        (FunctionHandle(2**63), True),
        (ModuleHandle(LIBRARY), True),
        (FunctionHandle(LIBRARY), False),
        (ModuleHandle(2**63), False),
        (FunctionHandle(5), False),
        (ModuleHandle(0), False),
    ],
)
def test_a_handle_is_an_argument_if_it_is_that_of_something_of_its_kind(
    client: Client, functions: Module, value: FunctionHandle | ModuleHandle, is_there: bool
) -> None:
    seen: list[object] = []
    functions["f"] = lambda *arguments: seen.append(arguments[1])
    refusal = f"no function or module has the handle 0x{value:x}; look it up again"
    assert client.call("f", 1, value) == (None if is_there else refusal)
    things = {2**63: functions["f"], LIBRARY: client.session.system_library}
    assert seen == ([things[value]] if is_there else [])


@pytest.mark.parametrize(
    ("dtype", "bytes_", "alignment"),
    [
        *((DataType(code, bits), bits // 8, bits // 8) for code in (0, 1) for bits in (8, 16, 32, 64)),
        *((DataType(2, bits), bits // 8, bits // 8) for bits in (16, 32, 64)),
        (DataType(1, 1), 1, 1),
        (DataType(4, 16), 2, 2),
        (DataType(2, 32, 3), 12, 4),
        (DataType(0, 8, 65535), 65535, 1),
        (DataType(0, 1), 1, 0),
        (DataType(1, 1, 2), 1, 0),
        (DataType(2, 8), 1, 0),
        (DataType(0, 4), 1, 0),
        (DataType(3, 64), 8, 0),
        (DataType(4, 32), 4, 0),
        (DataType(5, 8), 1, 0),
        (DataType(0, 32, 0), 0, 0),
        (DataType(1, 0), 0, 0),
    ],
)
def test_a_tensor_has_a_type_that_is_supported_and_is_aligned_to_a_lane(
    functions: Module, dtype: DataType, bytes_: int, alignment: int
) -> None:
    client = Client(functions, memory_bytes=1 << 17)
    functions["f"] = lambda *arguments: len(arguments)
    address = client.alloc(bytes_ + 8)
    for offset in (0, 1, 2, 4, 8):
        expected: object = "argument 1: the dtype is not supported"
        if alignment:
            expected = "argument 1: the tensor is not aligned" if offset % alignment else 2
        assert client.call("f", 0, Tensor(address, CPU, dtype, (1,), offset)) == expected
    outside = Tensor(address, CPU, dtype, (1,), bytes_ + 9)  # which is seen before the type
    assert (
        client.call("f", 0, outside)
        == f"{bytes_} bytes at 0x{address + bytes_ + 9:x} are not inside an allocated block"
    )


def test_arguments_are_checked_first_to_last(client: Client, functions: Module) -> None:
    functions["f"] = lambda *_: 1
    address = client.alloc(8)
    bad_type, bad_place = Tensor(address, CPU, DataType(3, 64), (1,)), Tensor(address, CPU, U8, (9,))
    assert client.call("f", bad_type, bad_place) == "argument 0: the dtype is not supported"
    assert client.call("f", bad_place, bad_type) == f"9 bytes at 0x{address:x} are not inside an allocated block"
    assert client.call(77, bad_place) == "no function or module has the handle 0x4d; look it up again"


@pytest.mark.parametrize(
    ("data", "offset", "shape", "text"),
    [
        (2**64 - 8, 7, (2,), "2 bytes at 0xffffffffffffffff"),
        (2**64 - 8, 16, (2,), "2 bytes at 0x8"),
        (0, 0, (2**62, 4), "4294967295 bytes at 0x0"),
        (0, 0, (2**32,), "4294967295 bytes at 0x0"),
        (0, 0, (2**16, 2**16 - 1), "4294901760 bytes at 0x0"),
        (0, 0, (2**63 - 1, 2**63 - 1), "4294967295 bytes at 0x0"),
        (0, 0, (2**63 - 1, 0), "0 bytes at 0x0"),
        (0, 0, (), "1 bytes at 0x0"),
    ],
)
def test_addresses_wrap_around_and_sizes_stop_at_the_largest(
    client: Client, functions: Module, data: int, offset: int, shape: tuple[int, ...], text: str
) -> None:
    functions["f"] = lambda _: 1
    assert client.call("f", Tensor(data, CPU, U8, shape, offset)) == f"{text} are not inside an allocated block"


def test_an_address_that_wraps_around_into_a_block_is_inside(client: Client) -> None:
    address = client.put(np.arange(8, dtype=np.uint8)).data
    assert client.get(Tensor(2**64 - 4, CPU, U8, (2,), address + 6)) == b"\x02\x03"
    assert client.get(Tensor(address, CPU, U8, (0,), 8)) == b""  # no bytes, at the end of a block


@pytest.mark.parametrize(
    ("shape", "seen"),
    [((1,) * 70, 32), ((0, 2**62, 2**62), 32), ((4,) + (1,) * 64, 32), ((1,) * 64, 64), ((2, 0, 2), 3)],
)
def test_more_or_longer_dimensions_than_numpy_has_are_left_out(
    client: Client, functions: Module, shape: tuple[int, ...], seen: int
) -> None:
    functions["f"] = lambda x: f"{x.ndim} {x.size}"
    tensor = Tensor(client.alloc(8), CPU, U8, shape)
    assert client.call("f", tensor) == f"{seen} {tensor.size_bytes}"


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
    assert refusal == "there is no such memory scope here"
    on_gpu = Tensor(0, GPU, U8, (3,))
    refusal = client.syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, on_gpu, "texture")
    assert refusal == "there is no device (2, 0) here, only the CPU (1, 0)"


def test_the_memory_of_a_tensor_that_is_too_large_for_anything_is_refused(client: Client) -> None:
    for shape in ((2**62, 4), (2**63 - 1, 2**63 - 1, 7)):
        assert client.syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, Tensor(0, CPU, U8, shape), None) == (
            "out of memory: 4294967295 bytes asked for, the largest free block has 4088"
        )


@pytest.mark.parametrize(("dtype", "alignment"), [(U8, 8), (DataType(2, 32, 3), 16), (DataType(0, 8, 17), 32)])
def test_the_memory_of_a_tensor_is_aligned_to_its_elements(client: Client, dtype: DataType, alignment: int) -> None:
    client.alloc(1)
    address = client.syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, Tensor(0, CPU, dtype, ()), None)
    assert address == client.session.memory.base_address + alignment


@pytest.mark.parametrize(
    ("size", "alignment"),
    [(-1, 8), (-(2**63), 1), (8, 0), (8, 2**31), (8, 2**62), (8, 3), (8, -8), (8, -(2**63)), (-1, -1)],
)
def test_a_senseless_alloc_is_refused(client: Client, size: int, alignment: int) -> None:
    refusal = client.syscall(PacketCode.DEV_ALLOC_DATA, CPU, size, alignment, U8)
    assert refusal == f"cannot allocate {size} bytes aligned to {alignment}"


def test_two_tensors_that_are_too_large_for_anything_have_one_size(client: Client) -> None:
    huge, larger = Tensor(0, CPU, U8, (2**33,)), Tensor(0, CPU, U8, (2**62, 4))
    refusal = client.syscall(PacketCode.COPY_AMONG_REMOTE, huge, larger, STREAM)
    assert refusal == "4294967295 bytes at 0x0 are not inside an allocated block"
    refused = client.ask(CopyFromRemote(huge, 2**64 - 1))  # which is no tensor's size
    assert refused == RemoteException("18446744073709551615 bytes at 0x0 are not inside an allocated block")


def test_a_copy_among_tensors_may_overlap(client: Client) -> None:
    address = client.put(np.arange(8, dtype=np.uint8)).data
    source, target = Tensor(address, CPU, U8, (6,)), Tensor(address, CPU, U8, (6,), 2)
    assert client.syscall(PacketCode.COPY_AMONG_REMOTE, source, target, STREAM) is None
    assert client.get(Tensor(address, CPU, U8, (8,))) == bytes([0, 1, 0, 1, 2, 3, 4, 5])


def test_a_copy_among_tensors_of_different_sizes_is_refused(client: Client) -> None:
    tensor = client.put(np.zeros(8, np.uint8))
    small = Tensor(tensor.data, CPU, U8, (7,))
    for source, target in ((tensor, small), (small, tensor)):
        refusal = client.syscall(PacketCode.COPY_AMONG_REMOTE, source, target, STREAM)
        assert refusal == "the tensors have different sizes"
    refusal = client.syscall(PacketCode.COPY_AMONG_REMOTE, small, Tensor(0, CPU, U8, (7,)), STREAM)
    assert refusal == "7 bytes at 0x0 are not inside an allocated block"


def test_only_data_can_be_freed_as_data_and_arrays_can_be_copied(client: Client, functions: Module) -> None:
    functions["f"] = lambda: np.arange(3, dtype=np.uint8)
    array = client.call("f")
    assert array.handle == array.tensor.data
    assert client.ask(CopyToRemote(array.tensor, b"abc")) == RETURN_NONE
    assert client.get(array.tensor) == b"abc"
    for address in (array.tensor.data, array.tensor.data + 1, 0):
        refusal = client.syscall(PacketCode.DEV_FREE_DATA, CPU, OpaqueHandle(address))
        assert refusal == f"cannot free 0x{address:x}: no block begins there"


def test_copies_outside_a_block_are_refused(client: Client) -> None:
    tensor = client.put(np.zeros(8, np.uint8))
    outside = Tensor(tensor.data, CPU, U8, (8,), 1)
    text = f"8 bytes at 0x{tensor.data + 1:x} are not inside an allocated block"
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


def test_there_is_one_cpu_alone(client: Client) -> None:
    refusal = client.syscall(PacketCode.DEV_SET_DEVICE, Device(CPU.type, 1))
    assert refusal == "there is no device (1, 1) here, only the CPU (1, 0)"


RIGHT: dict[PacketCode, tuple[Value, ...]] = {
    PacketCode.GET_GLOBAL_FUNC: ("f",),
    PacketCode.FREE_HANDLE: (STREAM, 10),
    PacketCode.DEV_SET_DEVICE: (CPU,),
    PacketCode.DEV_GET_ATTR: (CPU, 0),
    PacketCode.DEV_ALLOC_DATA: (CPU, 8, 8, U8),
    PacketCode.DEV_FREE_DATA: (CPU, STREAM),
    PacketCode.DEV_STREAM_SYNC: (CPU, STREAM),
    PacketCode.COPY_AMONG_REMOTE: (Tensor(0, CPU, U8, (1,)), Tensor(0, CPU, U8, (1,)), STREAM),
    PacketCode.DEV_ALLOC_DATA_WITH_SCOPE: (Tensor(0, CPU, U8, (1,)), None),
    PacketCode.DEV_CREATE_STREAM: (CPU,),
    PacketCode.DEV_FREE_STREAM: (CPU, STREAM),
    PacketCode.DEV_SET_STREAM: (CPU, STREAM),
}
ANY_VALUES: tuple[Value, ...] = (
    1, UInt(1), 1.0, OpaqueHandle(1), None, U8, GPU, Tensor(0, CPU, U8, (1,)), ModuleHandle(1), FunctionHandle(1),
    "x", b"x",
)  # fmt: skip


@pytest.mark.parametrize("code", list(RIGHT))
def test_the_arguments_of_a_syscall_are_checked_whole_and_by_exact_type(client: Client, code: PacketCode) -> None:
    right, refusal = RIGHT[code], f"wrong arguments of packet code {code.value}"
    assert client.syscall(code, *right) != refusal
    assert client.syscall(code, *right[:-1]) == refusal
    assert client.syscall(code, *right, 1) == refusal
    for index, kept in enumerate(right):
        for value in ANY_VALUES:
            args = (*right[:index], value, *right[index + 1 :])
            fits = type(value) is type(kept) or (kept is None and isinstance(value, str))
            assert (client.syscall(code, *args) == refusal) == (not fits)


@pytest.mark.parametrize("code", [21, 99, 2**31 - 1])
def test_an_unknown_code_is_refused_whatever_its_arguments(client: Client, code: int) -> None:
    for args in ((), (1,), (CPU, STREAM)):
        assert client.syscall(code, *args) == f"unknown packet code {code}"


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


def test_release_all_frees_what_clients_have_and_not_what_the_program_has(client: Client, functions: Module) -> None:
    session, memory = client.session, client.session.memory
    functions["array"] = lambda: np.zeros(3, np.uint8)
    functions["five"] = lambda: lambda: 5
    own = memory.alloc(10)
    freed = client.alloc(16)
    client.syscall(PacketCode.DEV_FREE_DATA, CPU, freed)
    assert memory.alloc(16) == freed  # the program's own now
    client.alloc(100)
    client.call("array")
    five = client.call("five")
    assert client.call(five) == 5
    assert len(memory.blocks) == 5
    assert session.release_all() == 100 + 3 + 64
    assert memory.blocks == {own: 10, freed: 16}
    assert "no function or module has the handle" in client.call(five)
    assert session.release_all() == 0
