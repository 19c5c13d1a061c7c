"""What a client of TVM may do with a board behind the gateway (docs/tvm_serve.md)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tvm_gateway
from tvm_gateway import Client, RefusedError, Serving

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from microrpc.errors import MicroRpcError
from microrpc.serve.local import BoardArray
from microrpc.wire.datatypes import (
    CPU,
    ArrayResult,
    DataType,
    FunctionHandle,
    ModuleHandle,
    ObjectHandle,
    OpaqueHandle,
    Tensor,
)
from microrpc.wire.datatypes import Device as BoardDevice
from microrpc.wire.names import TIME_EVALUATOR_FUNCTION
from microrpc.wire.packets import CallFunc, CopyFromRemote, PacketCode, RemoteException, Return, Syscall
from microrpc.wire.tvm.layout import NEW, OLD, Layout

BOOL = DataType(6, 8)


@pytest.fixture
def serving() -> Iterator[Serving]:
    yield from tvm_gateway.serving()


@pytest.fixture(params=[NEW, OLD], ids=["new", "old"])
def client(request: pytest.FixtureRequest, serving: Serving) -> Iterator[Client]:
    with serving.client(layout=request.param) as client:
        client.look_up("nothing")  # so that its layout is known
        yield client


# --- values and results -------------------------------------------------------------------------


def test_functions_take_and_give_every_kind_of_value(client: Client) -> None:
    assert client.call("add", 2, 3) == 5
    assert client.call("add", 1.5, -0.25) == 1.25
    assert client.call("echo_str", "text") == "text"
    assert client.call("echo_str", "") == ""
    assert bytes(client.call("echo_bytes", b"\x00\xff")) == b"\x00\xff"
    assert client.call("noop") is None
    adder = client.call("adder", 40)
    assert client.call(adder, 2) == 42
    assert client.call("describe", None, True, 7, 1.5, "s", b"b", CPU, DataType.parse("int8"), OpaqueHandle(5)) == (
        "9:4,0,0,2,11,12,6,5,3"
    )


def test_a_bool_is_an_int_to_a_board(client: Client) -> None:
    assert client.call("add", True, 2) == 3


def test_a_tensor_that_a_function_gives_is_freed_by_its_owner(serving: Serving, client: Client) -> None:
    result = client.call("iota", 5)
    assert isinstance(result, ArrayResult)
    assert np.frombuffer(client.copy_from(result.tensor), "float32").tolist() == [0, 1, 2, 3, 4]
    assert serving.device.memory.used_bytes > 0
    code = () if client.layout is NEW else (13,)
    assert client.syscall(PacketCode.FREE_HANDLE, result.handle, *code) is None
    client.call("add", 0, 0)
    assert serving.device.memory.used_bytes == 0


def test_results_of_todays_clients_have_the_type_indices_of_todays_tvm(serving: Serving) -> None:
    with serving.client() as client:
        replies = {
            name: client.request(CallFunc(client.look_up(name), args))
            for name, args in {
                "noop": (),
                "echo_str": ("a",),
                "echo_bytes": (b"a",),
                "iota": (2,),
                "adder": (1,),
            }.items()
        }
    indices = {name: reply.values[0] for name, reply in replies.items() if isinstance(reply, Return)}
    assert indices == {"noop": 0, "echo_str": 65, "echo_bytes": 66, "iota": 70, "adder": 68}


def test_a_tensor_of_a_client_that_asks_for_the_old_system_library_in_the_new_layout_has_the_index_of_021(
    serving: Serving,
) -> None:
    with serving.client() as client:
        assert client.look_up("runtime.SystemLib")
        reply = client.request(CallFunc(client.look_up("iota"), (2,)))
        assert isinstance(reply, Return)
        assert reply.values[0] == 72


def test_an_exception_of_the_board_is_its_text(client: Client) -> None:
    with pytest.raises(RefusedError, match=r"^fail: this function always fails$"):
        client.call("fail")
    assert client.call("add", 1, 1) == 2


def test_text_of_a_board_that_is_not_utf8_reaches_todays_client_as_utf8() -> None:
    device = Device(seed=7)

    @device.function
    def odd() -> str:
        return "caf\udce9"

    with Serving({"board": device}) as serving, serving.client() as client:
        assert client.call("odd") == "caf\ufffd"


def test_an_object_is_refused_by_name(serving: Serving) -> None:
    with serving.client() as client, pytest.raises(RefusedError, match="ObjectHandle"):
        client.call("describe", ObjectHandle(5))


# --- look-ups -------------------------------------------------------------------------------------


def test_an_unknown_name_has_the_handle_0(client: Client) -> None:
    assert client.look_up("no_such") == 0


def test_a_plain_look_up_finds_functions_of_the_registry_and_of_the_system_library(client: Client) -> None:
    assert client.call("add", 1, 2) == 3  # in both
    assert client.call("mul", 3, 4) == 12  # in the system library alone


@pytest.mark.parametrize("name", ["ffi.SystemLib", "runtime.SystemLib"])
def test_the_system_library_is_a_module_whose_functions_are_looked_up(client: Client, name: str) -> None:
    library = client.call(name)
    assert isinstance(library, ModuleHandle)
    found = client.call("tvm.rpc.server.ModuleGetFunction", library, "mul", True)
    assert client.call(found, 6, 7) == 42
    assert client.call("tvm.rpc.server.ModuleGetFunction", library, "nothing", True) is None


def test_a_function_outlives_the_handle_of_its_module(serving: Serving) -> None:
    with serving.client() as client:
        library = client.call("ffi.SystemLib")
        found = client.call("tvm.rpc.server.ModuleGetFunction", library, "mul", True)
        client.free(int(library))
        assert client.call(found, 6, 7) == 42


def test_the_board_tells_nothing_besides_its_replies(client: Client) -> None:
    for name in ("microrpc.stream", "microrpc.link", "microrpc.features"):
        assert client.look_up(name) == 0


def test_the_function_that_frees_everything_is_refused(client: Client) -> None:
    with pytest.raises(RefusedError, match="release_all"):
        client.look_up("microrpc.release_all")


# --- handles --------------------------------------------------------------------------------------


def test_each_look_up_is_a_reference_that_is_given_back_once(serving: Serving) -> None:
    with serving.client() as client:
        first, second = client.look_up("mul"), client.look_up("mul")
        assert first != second
        client.free(first)
        assert client.call(second, 2, 3) == 6
        with pytest.raises(RefusedError, match="no handle"):
            client.call(first, 2, 3)
        with pytest.raises(RefusedError, match="no handle"):
            client.free(first)
        client.free(second)


def test_functions_that_are_answered_here_may_be_freed_as_often_as_they_were_looked_up(serving: Serving) -> None:
    with serving.client() as client:
        for _ in range(3):
            handle = client.look_up("tvm.rpc.server.GetCRTMaxPacketSize")
        for _ in range(3):
            client.free(handle)
        assert client.call(handle) == 1 << 62


def test_made_up_handles_are_refused(client: Client) -> None:
    for handle in (1, 0x50000001, (1 << 64) - 1):
        with pytest.raises(RefusedError, match="no handle"):
            client.call(handle)
    code = () if client.layout is NEW else (10,)
    with pytest.raises(RefusedError, match="no handle"):
        client.syscall(PacketCode.FREE_HANDLE, OpaqueHandle(77), *code)
    with pytest.raises(RefusedError, match="no handle"):
        client.call("tvm.rpc.server.ModuleGetFunction", ModuleHandle(0), "mul", True)


def test_handles_of_an_earlier_session_are_refused(serving: Serving) -> None:
    with serving.client() as client:
        handle, tensor = client.look_up("mul"), client.empty((4,), "float32")
        client.goodbye()
    serving.wait_until_free()
    with serving.client() as client:
        client.look_up("nothing")
        with pytest.raises(RefusedError, match="no handle"):
            client.call(handle, 1, 2)
        with pytest.raises(RefusedError, match="allocated nothing"):
            client.free_data(tensor)


@pytest.mark.parametrize("layout", [NEW, OLD], ids=["new", "old"])
def test_handles_of_earlier_sessions_are_refused_wherever_they_are_given(serving: Serving, layout: Layout) -> None:
    with serving.client(layout=layout) as client:
        library = client.call("runtime.SystemLib")
        relu = client.call("tvm.rpc.server.ModuleGetFunction", library, "relu_f32", 1)
        evaluator = client.call("runtime.RPCTimeEvaluator", library, "relu_f32", 1, 0, 1, 1, 0, 100, 0, 1, 0, "")
        result = client.call("iota", 5)
        upload = client.look_up("tvm.rpc.server.upload")
        add = client.look_up("add")
    serving.wait_until_free()
    assert isinstance(result, ArrayResult)
    with serving.client(layout=layout) as client:
        client.look_up("add")
        for function in (relu, evaluator, int(result.handle), upload, add):
            with pytest.raises(RefusedError, match="no handle"):
                client.call(function)
            with pytest.raises(RefusedError, match="no handle"):
                client.call("add", FunctionHandle(function), 1)
            with pytest.raises(RefusedError, match="no handle"):
                client.syscall(PacketCode.FREE_HANDLE, OpaqueHandle(function), *((10,) if layout is OLD else ()))
        for call in (
            lambda: client.call("tvm.rpc.server.ModuleGetFunction", library, "relu_f32", 1),
            lambda: client.call("runtime.RPCTimeEvaluator", library, "relu_f32", 1, 0, 1, 1, 0, 100, 0, 1, 0, ""),
        ):
            with pytest.raises(RefusedError, match="no handle"):
                call()
        with pytest.raises(RefusedError, match="not inside an allocated block"):
            client.copy_from(result.tensor)
        assert client.call("add", 2, 3) == 5


# --- tensors --------------------------------------------------------------------------------------


def test_a_tensor_is_allocated_written_copied_there_read_and_freed(serving: Serving, client: Client) -> None:
    data = np.arange(12, dtype="float32")
    x, y = client.empty((3, 4), "float32"), client.empty((12,), "float32")
    client.write(x, data.tobytes())
    assert client.syscall(PacketCode.COPY_AMONG_REMOTE, x, y, OpaqueHandle(0)) is None
    assert client.copy_from(y) == data.tobytes()
    view = Tensor(x.data, CPU, x.dtype, (2,), 4 * 4)
    assert np.frombuffer(client.copy_from(view), "float32").tolist() == [4, 5]
    client.free_data(x)
    client.free_data(y)
    assert serving.device.memory.used_bytes == 0


def test_a_copy_of_any_size_goes_in_one_packet(client: Client) -> None:
    data = np.random.default_rng(3).bytes(100_000)
    tensor = client.empty((100_000,), "uint8")
    client.write(tensor, data)
    assert client.copy_from(tensor) == data


def test_a_tensor_without_elements_is_legal(client: Client) -> None:
    tensor = client.empty((0,), "float32")
    assert tensor.data
    assert client.syscall(PacketCode.DEV_STREAM_SYNC, CPU, OpaqueHandle(0)) is None
    client.free_data(tensor)


def test_bools_are_allocated_and_copied_as_bytes_and_passed_as_bools() -> None:
    device = Device(seed=7)
    seen: list[DataType] = []

    @device.function
    def flip(array: BoardArray) -> None:
        seen.append(array.data_type)
        array[...] = ~array

    with Serving({"board": device}) as serving, serving.client() as client:
        x, y = client.empty((3,), BOOL), client.empty((3,), BOOL)
        client.write(x, bytes([1, 0, 1]))
        client.call("flip", x)
        client.syscall(PacketCode.COPY_AMONG_REMOTE, x, y, OpaqueHandle(0))
        assert client.copy_from(y) == bytes([0, 1, 0])
    assert seen == [BOOL]


@pytest.mark.parametrize(
    ("dtype", "shown"),
    [
        (DataType(10, 8), "float8_ (code 10, 8 bits)"),
        (DataType(5, 64), "complex (code 5, 64 bits)"),
        (DataType(0, 4), "int4"),
        (DataType(2, 8), "float8"),
        (DataType(3, 64), "handle (code 3, 64 bits)"),
        (DataType(17, 4), "custom[17]4"),
    ],
    ids=str,
)
def test_types_that_no_board_has_are_refused_by_name(serving: Serving, dtype: DataType, shown: str) -> None:
    with serving.client() as client:
        before = serving.device.stats.frames_received
        with pytest.raises(RefusedError, match="a board has no tensors of the type") as refused:
            client.empty((4,), dtype)
        assert shown in str(refused.value)
        with pytest.raises(RefusedError, match="argument 0: a board has no tensors"):
            client.call(client.look_up("tvm.contrib.random.random_fill"), Tensor(0, CPU, dtype, (4,)))
        assert serving.device.stats.frames_received == before


@pytest.mark.parametrize(
    "device", [BoardDevice(2, 0), BoardDevice(1, 1), BoardDevice(0, 0), BoardDevice(-1, 5)], ids=str
)
def test_no_device_but_the_cpu_is_seen_by_a_board(serving: Serving, client: Client, device: BoardDevice) -> None:
    add, real = client.look_up("add"), client.empty((4,), "uint8")
    elsewhere = Tensor(real.data, device, real.dtype, (4,))
    before = serving.device.stats.frames_received
    requests: list[Any] = [
        Syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (elsewhere, None)),
        Syscall(PacketCode.DEV_ALLOC_DATA, (device, 4, 8, real.dtype)),
        Syscall(PacketCode.DEV_FREE_DATA, (device, OpaqueHandle(real.data))),
        Syscall(PacketCode.DEV_SET_DEVICE, (device,)),
        Syscall(PacketCode.DEV_STREAM_SYNC, (device, OpaqueHandle(0))),
        Syscall(PacketCode.DEV_CREATE_STREAM, (device,)),
        Syscall(PacketCode.COPY_AMONG_REMOTE, (real, elsewhere, OpaqueHandle(0))),
        CopyFromRemote(elsewhere, 4),
        CallFunc(add, (elsewhere, 1)),
    ]
    for request in requests:
        reply = client.request(request)
        assert isinstance(reply, RemoteException)
        assert f"no device ({device.type}, {device.id})" in reply.message
    assert client.syscall(PacketCode.DEV_GET_ATTR, device, 0) == 0
    assert client.syscall(PacketCode.DEV_GET_ATTR, device, 5) is None
    assert serving.device.stats.frames_received == before


def test_attributes_are_what_is_known_of_a_board(serving: Serving, client: Client) -> None:
    heap_bytes = serving.device.memory.size_bytes
    values = {kind: client.syscall(PacketCode.DEV_GET_ATTR, CPU, kind) for kind in range(17)}
    assert values.pop(0) == 1
    assert values.pop(14) == heap_bytes
    assert values.pop(15) == heap_bytes
    assert set(values.values()) == {None}
    client.empty((1000,), "uint8")
    assert client.syscall(PacketCode.DEV_GET_ATTR, CPU, 15) == heap_bytes - 1008
    assert {client.syscall(PacketCode.DEV_GET_ATTR, BoardDevice(2, 0), kind) for kind in range(1, 17)} == {None}


def test_there_is_one_stream_and_the_board_does_not_hear_of_it(serving: Serving, client: Client) -> None:
    before = serving.device.stats.frames_received
    stream = client.syscall(PacketCode.DEV_CREATE_STREAM, CPU)
    assert stream == 0
    for code in (PacketCode.DEV_SET_STREAM, PacketCode.DEV_STREAM_SYNC, PacketCode.DEV_FREE_STREAM):
        assert client.syscall(code, CPU, stream) is None
    assert client.syscall(PacketCode.DEV_SET_DEVICE, CPU) is None
    assert client.syscall(PacketCode.DEV_GET_CURRENT_STREAM, CPU) == 0
    assert serving.device.stats.frames_received == before


# --- what a session may hold ----------------------------------------------------------------------


def test_wrong_arguments_of_a_syscall_are_refused_and_the_session_goes_on(client: Client) -> None:
    for code in (
        PacketCode.DEV_GET_ATTR,
        PacketCode.COPY_AMONG_REMOTE,
        PacketCode.FREE_HANDLE,
        PacketCode.DEV_SET_STREAM,
    ):
        with pytest.raises(RefusedError):
            client.syscall(code, "text", "more", 1.5)
    with pytest.raises(RefusedError, match="unknown packet code 99"):
        client.value(Syscall(99, ()))
    assert client.call("add", 1, 1) == 2


def test_a_copy_from_a_board_is_no_larger_than_the_limit() -> None:
    device = Device(seed=7)
    install(device)
    with Serving({"board": device}, limit_bytes=4096) as serving, serving.client() as client:
        tensor = client.empty((8192,), "uint8")
        with pytest.raises(RefusedError, match="at most 4096 bytes are copied at once"):
            client.copy_from(tensor)


def test_a_tensor_larger_than_any_board_is_refused_without_being_asked_for(client: Client) -> None:
    with pytest.raises(RefusedError, match="no board has"):
        client.empty((1 << 40,), "float32")


# --- files ----------------------------------------------------------------------------------------


def test_files_are_kept_for_the_session_alone(serving: Serving) -> None:
    with serving.client() as client:
        assert client.call("tvm.rpc.server.upload", "../../etc/x", b"abc") is None
        client.call("tvm.rpc.server.upload", "b.tar", b"")
        assert bytes(client.call("tvm.rpc.server.download", "../../etc/x")) == b"abc"
        assert client.call("tvm.rpc.server.listdir", "") == "../../etc/x,b.tar"
        for name in ("b.tar", "b.tar.so", ""):
            assert client.call("tvm.rpc.server.remove", name) is None
        with pytest.raises(RefusedError, match=r"no file 'b.tar'"):
            client.call("tvm.rpc.server.download", "b.tar")
        client.goodbye()
    serving.wait_until_free()
    with serving.client() as client, pytest.raises(RefusedError, match="no file"):
        client.call("tvm.rpc.server.download", "../../etc/x")


# --- modules that are uploaded --------------------------------------------------------------------


def test_nothing_uploaded_is_run_where_that_was_not_allowed(client: Client) -> None:
    client.call("tvm.rpc.server.upload", "m.tar", b"abc")
    with pytest.raises(RefusedError, match="--allow-load"):
        client.call("tvm.rpc.server.load_module", "m.tar")


def test_modules_cannot_be_put_together_on_a_board(client: Client) -> None:
    library = client.call("runtime.SystemLib")
    with pytest.raises(RefusedError, match="import_module"):
        client.call("tvm.rpc.server.ImportModule", library, library)
    with pytest.raises(RefusedError, match="no linker"):
        client.call("tvm.rpc.server.download_linked_module", "m")


class Loading:
    """Puts a function into the board that has the name of what was uploaded."""

    def __init__(self, station: Any) -> None:
        self.station = station

    async def load(self, name: str, data: bytes) -> None:
        if data == b"bad":
            raise RefusedBuildError("error: expected ';'")
        device = self.station._open_board.device
        device.reset()
        device.function(lambda: f"{name}: {data.decode()}", name="main")
        await self.station.restart_with(data)


class RefusedBuildError(MicroRpcError):
    """What a compiler says."""


def test_a_module_that_was_loaded_is_the_system_library_and_what_was_before_is_stale() -> None:
    device = Device(seed=7)
    install(device)
    with Serving({"board": device}, make_loader=Loading) as serving:
        with serving.client() as client:
            mul, tensor = client.look_up("mul"), client.empty((4,), "float32")
            client.call("tvm.rpc.server.upload", "m", b"one")
            module = client.call("tvm.rpc.server.load_module", "m")
            assert isinstance(module, ModuleHandle)
            main = client.call("tvm.rpc.server.ModuleGetFunction", module, "main", True)
            assert client.call(main) == "m: one"
            with pytest.raises(RefusedError, match=r"StaleHandleError|BoardResetError"):
                client.call(mul, 1, 2)
            with pytest.raises(RefusedError, match=r"StaleHandleError|BoardResetError"):
                client.copy_from(tensor)
            again = client.empty((4,), "float32")
            assert again.data != tensor.data
            client.free_data(tensor)  # which is no more, and frees nothing of what is
            client.write(again, bytes(16))
            assert client.copy_from(again) == bytes(16)
            assert client.call("mul", 6, 7) == 42
        serving.wait_until_free()
        assert serving.opener.images == [None, b"one", None]


def test_a_time_evaluator_of_before_a_load_is_stale_and_what_was_loaded_stays() -> None:
    device = Device(seed=7)
    install(device)
    with Serving({"board": device}, comes_back=False, make_loader=Loading) as serving:
        with serving.client() as client:
            timer = client.call(TIME_EVALUATOR_FUNCTION, None, "mul", 1, 0, 1, 1, 0, 100, 0, 1, 0, "")
            client.call("tvm.rpc.server.upload", "m", b"one")
            client.call("tvm.rpc.server.load_module", "m")
            main = client.look_up("main")
            with pytest.raises(RefusedError, match="StaleHandleError"):
                client.call(timer, 2, 3)
            assert client.call(main) == "m: one"
        serving.wait_until_free()
        assert serving.opener.images == [None, b"one", None]


class LoadingForVectors(Loading):
    """Wants tensors aligned, as code of LLVM for this computer does."""

    async def load(self, name: str, data: bytes) -> int:
        await super().load(name, data)
        if data == b"no library":
            del self.station._open_board.device.functions["runtime.SystemLib"]
        return 64


def test_memory_is_aligned_as_code_that_was_loaded_wants_it() -> None:
    device = Device(seed=7)
    install(device)
    with Serving({"board": device}, make_loader=LoadingForVectors) as serving, serving.client() as client:
        client.call("tvm.rpc.server.upload", "m", b"one")
        client.call("tvm.rpc.server.load_module", "m")
        tensors = [client.empty((size,), "uint8") for size in (1, 0, 3, 65, 8)]
        assert [tensor.data % 64 for tensor in tensors] == [0] * 5
        client.write(tensors[3], bytes(range(65)))
        assert client.copy_from(tensors[3]) == bytes(range(65))


def test_firmware_without_a_system_library_is_no_module() -> None:
    device = Device(seed=7)
    install(device)
    with Serving({"board": device}, make_loader=LoadingForVectors) as serving, serving.client() as client:
        client.call("tvm.rpc.server.upload", "m", b"no library")
        with pytest.raises(RefusedError, match="the firmware that m was built into has no system library"):
            client.call("tvm.rpc.server.load_module", "m")


def test_what_a_compiler_says_is_the_exception_and_the_board_stays_as_it_was() -> None:
    device = Device(seed=7)
    install(device)
    with Serving({"board": device}, make_loader=Loading) as serving, serving.client() as client:
        mul = client.look_up("mul")
        client.call("tvm.rpc.server.upload", "m", b"bad")
        with pytest.raises(RefusedError, match="RefusedBuildError: error: expected ';'"):
            client.call("tvm.rpc.server.load_module", "m")
        assert client.call(mul, 6, 7) == 42
        assert serving.opener.images == [None]


# --- resets ---------------------------------------------------------------------------------------


def test_after_a_reset_what_was_there_is_refused_and_the_session_goes_on(serving: Serving, client: Client) -> None:
    mul, tensor = client.look_up("mul"), client.empty((4,), "float32")
    serving.do(serving.device.reset)
    for request in (CallFunc(mul, (1, 2)), CopyFromRemote(tensor, 16)):
        reply = client.request(request)
        assert isinstance(reply, RemoteException)
        assert "reset" in reply.message
    assert client.call("mul", 6, 7) == 42
    again = client.empty((4,), "float32")
    client.write(again, bytes(16))
    assert client.copy_from(again) == bytes(16)


def test_a_board_whose_cable_is_pulled_answers_exceptions_and_comes_back(client: Client, serving: Serving) -> None:
    mul = client.look_up("mul")
    serving.opener.line.is_lost = True
    with pytest.raises(RefusedError, match="PortLostError"):
        client.call(mul, 6, 7)
    assert client.call("mul", 6, 7) == 42


def test_a_board_that_is_gone_for_good_is_opened_anew(request: pytest.FixtureRequest) -> None:
    with Serving(comes_back=False) as serving:
        with serving.client() as client:
            mul = client.look_up("mul")
            serving.opener.line.is_lost = True
            with pytest.raises(RefusedError, match="PortLostError"):
                client.call(mul, 6, 7)
            with pytest.raises(RefusedError):
                client.call(mul, 6, 7)
            assert client.call("mul", 6, 7) == 42
        assert serving.opener.opened == 2
        assert any("opened anew" in note for note in serving.notes)


# --- random numbers -------------------------------------------------------------------------------


def test_an_attribute_of_a_board_that_is_gone_is_an_exception(serving: Serving, client: Client) -> None:
    serving.opener.line.is_lost = True
    with pytest.raises(RefusedError, match="PortLostError"):
        client.syscall(PacketCode.DEV_GET_ATTR, CPU, 14)
    assert client.call("add", 2, 3) == 5


@pytest.mark.parametrize("name", ["random_fill", "random_fill_for_measure"])
@pytest.mark.parametrize("dtype", ["float32", "int8", "float16"])
def test_a_tensor_is_filled_by_the_board(client: Client, name: str, dtype: str) -> None:
    x = client.empty((64,), dtype)
    client.call(f"tvm.contrib.random.{name}", x)
    numbers = np.frombuffer(client.copy_from(x), dtype)
    assert len(set(numbers.tolist())) > 16


def test_where_a_board_has_no_random_numbers_they_are_copied_to_it() -> None:
    device = Device(seed=7)
    del device.functions["tvm.contrib.random.random_fill"]
    with Serving({"board": device}) as serving, serving.client() as client:
        x, flags = client.empty((64,), "float32"), client.empty((64,), BOOL)
        client.call("tvm.contrib.random.random_fill_for_measure", x)
        numbers = np.frombuffer(client.copy_from(x), "float32")
        assert len(set(numbers.tolist())) > 16
        assert ((numbers >= 1) & (numbers <= 2)).all()
        client.call("tvm.contrib.random.random_fill", flags)
        assert set(client.copy_from(flags)) == {0, 1}


def test_no_more_is_filled_at_once_than_is_taken_from_a_client() -> None:
    device = Device(seed=7)
    del device.functions["tvm.contrib.random.random_fill"]
    with Serving({"board": device}, limit_bytes=64) as serving, serving.client() as client:
        client.call("tvm.contrib.random.random_fill", client.empty((64,), "uint8"))
        with pytest.raises(RefusedError, match="at most 64 bytes are filled at once"):
            client.call("tvm.contrib.random.random_fill", client.empty((65,), "uint8"))


# --- both layouts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [NEW, OLD], ids=["new", "old"])
def test_the_layout_is_found_by_what_a_client_asks_first(serving: Serving, layout: Layout) -> None:
    tensor = Tensor(0, CPU, DataType.parse("float32"), (4,))
    for first in (
        Syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (tensor, None)),
        Syscall(PacketCode.DEV_GET_ATTR, (CPU, 0)),
        Syscall(PacketCode.GET_GLOBAL_FUNC, ("add",)),
    ):
        with serving.client(layout=layout) as client:
            assert isinstance(client.request(first), Return)
            assert client.call("add", 2, 3) == 5
            client.goodbye()
        serving.wait_until_free()


def test_the_length_of_a_result_of_the_evaluator_is_8_bytes_a_repeat(client: Client) -> None:
    x = client.empty((64,), "float32")
    timer = client.call("runtime.RPCTimeEvaluator", None, "relu_f32", 1, 0, 3, 2, 0, 100, 0, 1, 0, "")
    seconds = client.call(timer, x)
    assert len(struct.unpack("<2d", bytes(seconds))) == 2
