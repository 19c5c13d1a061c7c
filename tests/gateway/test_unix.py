"""One board for several clients: each has its own handles and memory, and none harms another (docs/sharing.md)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import describing
import numpy as np
import pytest
from apis import Api, AsyncioApi, BlockingApi
from forks import Fork
from hypothesis import given
from hypothesis import strategies as st

import microrpc
from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from microrpc import aio
from microrpc.errors import (
    ArgumentError,
    ClosedError,
    FunctionNotFoundError,
    PortBusyError,
    PortError,
    PortLostError,
    PortNotFoundError,
    RemoteError,
    RequestError,
)
from microrpc.gateway.regions import Regions
from microrpc.gateway.unix import Share, default_path, turn_bytes
from microrpc.ports.sockets import open_unix
from microrpc.wire.datatypes import (
    CPU,
    ArrayResult,
    DataType,
    FunctionHandle,
    ModuleHandle,
    OpaqueHandle,
    Tensor,
    TypeCode,
)
from microrpc.wire.datatypes import Device as BoardDevice
from microrpc.wire.packets import (
    CallFunc,
    CopyFromRemote,
    CopyToRemote,
    PacketCode,
    RemoteException,
    Shutdown,
    Syscall,
    encode_packet,
)
from microrpc.wire.session import Timeouts

FIRMWARES = ("robust", "stock")
TIMEOUTS = Timeouts(retry_s=0.5, start_s=5.0, call_s=2.0)
LIMIT_S = 20.0  # of what must end at once: a failed test ends too
FAST_BAUD = 3_000_000


class Line(LoopbackChannel):
    """A board in memory whose cable can be pulled."""

    is_lost = False
    is_silent = False

    def read(self, deadline: float) -> bytes:
        if self.is_silent:
            self.device.clock.sleep(max(deadline - self.now(), 0.0))
            super().read(self.now())
            return b""
        if self.is_lost:
            raise PortLostError(self.name, "the cable was pulled")
        return super().read(deadline)


class Sharing:
    """A board in memory that a thread shares on a socket."""

    def __init__(self, path: Path, firmware: str = "robust", *, comes_back: bool = False, **options: Any) -> None:
        self.device = Device(firmware=firmware, seed=7)  # type: ignore[arg-type]
        install(self.device)
        self.url = f"unix://{path}"
        self.logs: list[str] = []
        self.failures: list[dict[str, Any]] = []
        self.ended_by: BaseException | None = None
        self._path = path
        self._options = {"baud": FAST_BAUD, **options}
        self._line = Line(self.device)
        self._comes_back = comes_back
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(lambda loop, context: self.failures.append(context))
        try:
            channel, reopen = aio.InMemoryChannel(self._line), self._plug_in if self._comes_back else None
            opening = aio.open_board(channel, TIMEOUTS, self.logs.append, seed=1, reopen=reopen)
            async with opening as board, Share(board, self._path, **self._options) as self.share:
                self._is_up.set()
                waits = [asyncio.ensure_future(self.share.wait()), asyncio.ensure_future(self._stopped.wait())]
                done, others = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for task in others:
                    task.cancel()
                for task in done:
                    task.result()
        except Exception as error:
            self.ended_by = error
        finally:
            self._is_up.set()

    async def _plug_in(self) -> aio.AsyncChannel:
        self._line = Line(self.device)
        return aio.InMemoryChannel(self._line)

    def do(self, order: Callable[[], object]) -> None:
        """Have the thread do something, and wait until it is done."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (order(), done.set()))
        assert done.wait(LIMIT_S)

    def pull_the_cable(self) -> None:
        self._line.is_lost = True

    def join(self) -> None:
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()

    def holds(self, thing: object) -> bool:
        """Whether the board has given out a handle of it and not got it back."""
        return any(each is thing for each in list(self.device._session._objects.values()))

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not is_so():
            assert time.monotonic() < deadline, "it did not come true"
            time.sleep(0.002)

    def wait_until_free(self) -> None:
        """Wait until all clients are gone and the board has its memory back."""
        self.wait_until(lambda: self.share.clients == 0 and self.device.memory.used_bytes == 0)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_up.wait(LIMIT_S)
        if self.ended_by is not None:
            raise self.ended_by
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
        self.join()
        gc.collect()  # tasks whose failure nobody looked at tell it then
        assert self.failures == []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "b.sock"


@pytest.fixture(params=FIRMWARES)
def sharing(request: pytest.FixtureRequest, path: Path) -> Iterator[Sharing]:
    with Sharing(path, request.param) as sharing:
        yield sharing
        sharing.wait_until_free()


# --- what clients can do ----------------------------------------------------------------------


def test_an_array_without_bytes_has_an_address_that_is_no_other_clients(path: Path) -> None:
    # On a stock board it would have that of the next block.
    with Sharing(path, "stock") as sharing:
        with microrpc.connect(sharing.url) as one, microrpc.connect(sharing.url) as another:
            empty, array = one.empty((0,), "float32"), another.array([1, 2, 3])
            assert empty.tensor.data != array.tensor.data
        sharing.wait_until_free()


def test_everything_works_as_on_a_board_of_ones_own(api: Api, sharing: Sharing) -> None:
    with api.connect(sharing.url) as board:
        assert board.function("add")(2, 3) == 5
        assert board.function("mul")(2, 3) == 6
        assert board.function("adder")(40)(2) == 42
        assert board.function("echo_bytes")(b"\xff\x00") == b"\xff\x00"
        x = board.array(np.arange(-4, 4, dtype="float32"))
        board.function("relu_f32")(x)
        assert x.numpy().tolist() == [0, 0, 0, 0, 0, 1, 2, 3]
        copy = board.empty(x.shape, "float32")
        x.copy_to(copy)
        assert copy.numpy().tolist() == x.numpy().tolist()
        assert len(board.time_evaluator("noop", number=2, repeat=3)().results) == 3
        assert board.function("iota")(5).numpy().tolist() == [0, 1, 2, 3, 4]
        assert board.empty((0,), "float32").numpy().shape == (0,)
        with pytest.raises(FunctionNotFoundError):
            board.function("no_such_function")
        with pytest.raises(RemoteError, match="fail: this function always fails"):
            board.function("fail")()
        with pytest.raises(RemoteError, match="GetAttr not supported"):
            board.attribute(0)
        board.syscall(PacketCode.DEV_STREAM_SYNC, CPU, OpaqueHandle(0))


def test_what_the_board_tells_of_itself_comes_through(api: Api, sharing: Sharing) -> None:
    telling = describing.install(sharing.device, page_bytes=100)
    with api.connect(sharing.url) as board:
        assert [told.name for told in board.functions()] == [name for name, _, _ in describing.FUNCTIONS]
        assert board.identity.firmware == "meter"
        assert telling.offsets == list(range(0, len(telling.data), 100))
        with pytest.raises(ArgumentError):
            board.function("voltage")(8)
        with api.connect(sharing.url) as second:
            second.functions()
        assert telling.offsets.count(0) == 2


def test_memory_is_allocated_by_its_size_too(api: Api, sharing: Sharing) -> None:
    with api.connect(sharing.url) as board:
        address = board.syscall(PacketCode.DEV_ALLOC_DATA, CPU, 100, 8, DataType.parse("uint8"))
        array = board.array_at(address, 100, "uint8")
        array.write(np.arange(100, dtype="uint8"))
        assert array.numpy().tolist() == list(range(100))
        assert sharing.device.memory.used_bytes == 100
        board.syscall(PacketCode.DEV_FREE_DATA, CPU, address)
        assert sharing.device.memory.used_bytes == 0


def test_a_copy_goes_in_requests_larger_than_the_boards_packets(api: Api, sharing: Sharing) -> None:
    data = np.random.default_rng(3).integers(0, 256, 150_000, dtype="uint8")
    blocks: list[int] = []
    with api.connect(sharing.url) as board:
        assert board.max_packet_bytes() == 65536
        array = board.array(data, on_progress=lambda done, total: blocks.append(done))
        assert len(blocks) == 3
        assert (array.numpy() == data).all()


def test_the_size_of_a_turn_is_bounded_by_the_line_and_is_at_least_one_packet() -> None:
    assert turn_bytes(2037, 115200) == 2880
    assert turn_bytes(8181, 115200) == 8181
    assert turn_bytes(2037, 12_000_000) == 65536
    assert turn_bytes(2**64 - 1, 115200) == 1 << 20


def test_the_log_of_the_board_stays_with_the_one_who_shares_it(sharing: Sharing) -> None:
    heard: list[str] = []
    with microrpc.connect(sharing.url, on_log=heard.append) as board:
        board.function("log")("hello")
    assert sharing.logs == ["hello"]
    assert heard == []


# --- each client its own ------------------------------------------------------------------------


def refused(board: Any, request: Any) -> str:
    reply = board.request(request)
    assert isinstance(reply, RemoteException), reply
    return reply.message


def test_a_handle_of_another_client_is_none_of_ones_own(api: Api, sharing: Sharing) -> None:
    with api.connect(sharing.url) as ours, api.connect(sharing.url) as theirs:
        add, adder = theirs.function("add"), theirs.function("adder")
        closure = adder(1)
        module = theirs.system_library()
        for function in (add, adder, closure):
            assert "this client has no handle" in refused(ours, CallFunc(function.handle, (1, 2)))
        free = Syscall(PacketCode.FREE_HANDLE, (OpaqueHandle(add.handle), int(TypeCode.FUNCTION)))
        assert "this client has no handle" in refused(ours, free)
        echo = ours.function("describe")
        for value in (FunctionHandle(add.handle), ModuleHandle(module.handle)):
            assert "this client has no handle" in refused(ours, CallFunc(echo.handle, (value,)))
        assert add(2, 3) == 5
        assert closure(1) == 2


def test_memory_of_another_client_is_neither_read_nor_written_nor_freed(api: Api, sharing: Sharing) -> None:
    with api.connect(sharing.url) as ours, api.connect(sharing.url) as theirs:
        array = theirs.array(np.arange(8, dtype="float32"))
        result = theirs.function("iota")(4)
        relu = ours.function("relu_f32")
        for other in (array, result):
            spy = ours.array_at(other.tensor.data, other.shape, "float32")
            mine = ours.empty(other.shape, "float32")
            for attempt in (
                spy.numpy,
                lambda spy=spy: spy.write(np.ones(spy.shape, "float32")),
                lambda spy=spy: relu(spy),
                lambda spy=spy, mine=mine: spy.copy_to(mine),
                lambda spy=spy: ours.array_at(spy.tensor.data - 4, 2, "float32").numpy(),
            ):
                with pytest.raises(RemoteError, match="memory of another client"):
                    attempt()
            free = Syscall(PacketCode.DEV_FREE_DATA, (CPU, OpaqueHandle(other.tensor.data)))
            assert "this client allocated nothing that begins at" in refused(ours, free)
        assert array.numpy().tolist() == list(range(8))
        assert result.numpy().tolist() == [0, 1, 2, 3]


def test_memory_that_no_client_owns_is_passed_on(api: Api, sharing: Sharing) -> None:
    sharing.do(lambda: sharing.device.memory.alloc(16))  # as firmware with a buffer at a fixed address
    address = next(iter(sharing.device.memory.blocks))
    with api.connect(sharing.url) as board:
        board.array_at(address, 16, "uint8").write(np.arange(16, dtype="uint8"))
        assert board.array_at(address + 4, 2, "uint8").numpy().tolist() == [4, 5]
    sharing.do(lambda: sharing.device.memory.free(address))


def test_a_function_that_two_clients_hold_stays_until_both_let_go(api: Api, sharing: Sharing) -> None:
    with api.connect(sharing.url) as first:
        add, mul = first.function("add"), first.function("mul")
        with api.connect(sharing.url) as second:
            assert second.function("add")(1, 1) == 2
            second.function("mul").free()
            assert mul(2, 3) == 6
            kept = second.function("mul")
            mul.free()
            assert kept(2, 3) == 6
        sharing.wait_until(lambda: sharing.share.clients == 1)
        assert add(1, 1) == 2
        add.free()
        sharing.wait_until(lambda: not sharing.holds(sharing.device.functions["add"]))
        sharing.wait_until(lambda: not sharing.holds(sharing.device.system_library["mul"]))
        assert first.function("add")(1, 2) == 3


def test_a_result_that_two_clients_were_given_stays_until_both_let_go(api: Api, sharing: Sharing) -> None:
    callback = lambda: 7  # noqa: E731
    sharing.do(lambda: sharing.device.function(lambda: callback, name="callback"))
    with api.connect(sharing.url) as first, api.connect(sharing.url) as second:
        ours, theirs = first.function("callback")(), second.function("callback")()
        theirs.free()
        assert ours() == 7
        ours.free()
        sharing.wait_until(lambda: not sharing.holds(callback))


# --- clients that go ------------------------------------------------------------------------------


def test_what_a_client_had_is_freed_when_it_goes(api: Api, sharing: Sharing) -> None:
    with api.connect(sharing.url) as stays:
        array = stays.array(np.arange(4))
        goes = api.connect(sharing.url)
        held = [goes.array(np.zeros(100)), goes.function("iota")(3), goes.function("adder")(2)]
        assert sharing.device.memory.used_bytes > array.size_bytes
        goes.close()
        sharing.wait_until(lambda: sharing.device.memory.used_bytes == array.size_bytes)
        assert array.numpy().tolist() == [0, 1, 2, 3]
        del held


@pytest.mark.parametrize("last_words", [b"", struct.pack("<Qi", 100, 3), b"\x01", encode_packet(Shutdown())])
def test_a_client_that_breaks_off_loses_what_it_had_and_harms_nobody(sharing: Sharing, last_words: bytes) -> None:
    with microrpc.connect(sharing.url) as stays:
        array = stays.array(np.arange(4))
        breaks = open_unix(sharing.url.removeprefix("unix://"), LIMIT_S)
        uint8 = DataType.parse("uint8")
        alloc = Syscall(PacketCode.DEV_ALLOC_DATA, (CPU, 1000, 8, uint8))
        breaks.write(encode_packet(alloc), time.monotonic() + LIMIT_S)
        assert breaks.read(time.monotonic() + LIMIT_S)
        assert sharing.device.memory.used_bytes == array.size_bytes + 1000
        breaks.write(last_words, time.monotonic() + LIMIT_S)
        breaks.close()
        sharing.wait_until(lambda: sharing.device.memory.used_bytes == array.size_bytes)
        assert array.numpy().tolist() == [0, 1, 2, 3]


def test_a_client_that_leaves_much_behind_holds_up_no_other(path: Path) -> None:
    device, left = Device(seed=7), 300
    seen: list[int] = []
    install(device)
    device.function(lambda: len(device.memory._blocks), name="blocks")

    async def play() -> None:
        opening = aio.open_board(aio.InMemoryChannel(LoopbackChannel(device)), TIMEOUTS, seed=1)
        async with opening as board, Share(board, path) as share, aio.connect(share.url) as other:
            blocks = await other.function("blocks")
            async with aio.connect(share.url) as leaving:
                for _ in range(left):
                    (await leaving.empty(4, "uint8")).detach()  # so that it is the sharing that has to free it
            while device.memory.used_bytes:
                seen.append(await blocks())

    asyncio.run(play())
    assert len({count for count in seen if 0 < count < left}) > 3  # its requests come between those that free
    assert seen == sorted(seen, reverse=True)


def test_clients_that_left_take_turns_in_being_cleared_away(path: Path) -> None:
    device, left = Device(seed=7), {"first": 120, "second": 40, "third": 40}
    owners: dict[int, str] = {}
    install(device)
    freed: list[str] = []
    free = device.memory.free

    def note(address: int) -> None:
        freed.append(owners[address])
        free(address)

    async def play() -> None:
        opening = aio.open_board(aio.InMemoryChannel(LoopbackChannel(device)), TIMEOUTS, seed=1)
        async with opening as board, Share(board, path, baud=FAST_BAUD) as share:
            clients = {name: await aio.connect(share.url) for name in left}
            for name, client in clients.items():
                for _ in range(left[name]):
                    owners[(await client.empty(4, "uint8")).detach()] = name
            device.memory.free = note  # type: ignore[method-assign]
            await asyncio.gather(*[client.close() for client in clients.values()])
            while device.memory.used_bytes:
                await asyncio.sleep(0.01)

    asyncio.run(play())
    portions = [freed[at : at + 8] for at in range(0, len(freed), 8)]
    assert all(len(set(portion)) == 1 for portion in portions)
    order = [portion[0] for portion in portions]
    assert set(order[:5]) == set(left)  # they do not go in the same instant
    assert order[17:] == ["first"] * 8  # the others had 5 portions each, and did not wait for its 15


def test_what_could_not_be_freed_is_freed_when_the_board_answers_again(sharing: Sharing) -> None:
    client = microrpc.connect(sharing.url)
    for _ in range(20):
        client.empty(4, "uint8").detach()  # so that it is the sharing that has to free it
    sharing._line.is_silent = True
    client.close()
    sharing.wait_until(lambda: sharing.share.clients == 0)
    assert sharing.device.memory.used_bytes
    sharing._line.is_silent = False
    sharing.wait_until(lambda: not sharing.device.memory.used_bytes)


def test_a_request_whose_client_went_runs_to_its_end_and_its_memory_is_freed(sharing: Sharing) -> None:
    with microrpc.connect(sharing.url) as stays:
        add = stays.function("add")
        for _ in range(20):
            goes = open_unix(sharing.url.removeprefix("unix://"), LIMIT_S)
            alloc = encode_packet(Syscall(PacketCode.DEV_ALLOC_DATA, (CPU, 64, 8, DataType.parse("uint8"))))
            goes.write(alloc * 5, time.monotonic() + LIMIT_S)
            goes.close()
            assert add(1, 2) == 3


def test_the_requests_of_one_client_do_not_hold_up_those_of_another(path: Path) -> None:
    order: list[int] = []
    sharing = Sharing(path, baud=115200)

    def mark_slowly(who: int) -> None:
        order.append(who)
        time.sleep(0.001)

    sharing.device.function(mark_slowly, name="mark")
    with sharing, microrpc.connect(sharing.url) as ours, microrpc.connect(sharing.url) as theirs:
        mark, theirs_mark = ours.function("mark"), theirs.function("mark")
        # A client of this package waits for each reply; others may send as much as they like at once.
        theirs.pump._channel.write(encode_packet(CallFunc(theirs_mark.handle, (2,))) * 2000, time.monotonic() + LIMIT_S)
        sharing.wait_until(lambda: len(order) > 0)
        mark(1)
        assert order.index(1) < 1900, "it waited for all of the other's"
        theirs.pump._channel.close()


# --- resets and errors ------------------------------------------------------------------------------


def test_after_a_reset_old_handles_are_refused_and_new_ones_work(api: Api, sharing: Sharing) -> None:
    with api.connect(sharing.url) as board, api.connect(sharing.url) as other:
        add, mul, array = board.function("add"), board.function("mul"), board.array(np.arange(4, dtype="uint8"))
        others_add, others_array = other.function("add"), other.array(np.zeros(4, "uint8"))
        sharing.do(sharing.device.reset)
        for use in (
            lambda: add(1, 2),
            lambda: mul(1, 2),
            array.numpy,
            lambda: others_add(1, 2),
            others_array.numpy,
            lambda: others_array.write(np.ones(4, "uint8")),
        ):
            with pytest.raises(RemoteError, match=r"BoardResetError: the board was reset|StaleHandleError: .*a reset"):
                use()
        assert board.function("add")(1, 2) == 3
        assert board.function("mul")(2, 3) == 6
        fresh = board.array(np.arange(4, dtype="uint8") + 10)
        for old in (array, others_array):
            with pytest.raises(RemoteError, match="from before a reset"):
                old.numpy()
            old.free()
        assert sharing.device.memory.used_bytes == fresh.size_bytes, "the old array's address is the new one's"
        assert fresh.numpy().tolist() == [10, 11, 12, 13]
        with pytest.raises(RemoteError, match="memory of another client"):
            other.array_at(next(iter(sharing.device.memory.blocks)), 4, "uint8").numpy()
        board.function("inc_tensor")(fresh)
        assert fresh.numpy().tolist() == [11, 12, 13, 14]
        freed = fresh.tensor.data
        fresh.free()
        with pytest.raises(RemoteError, match="it was freed"):
            board.array_at(freed, 4, "uint8").numpy()


@pytest.mark.parametrize("sharing", ["robust"], indirect=True)
def test_after_a_reset_models_are_asked_for_again(api: Api, sharing: Sharing) -> None:
    with api.connect(sharing.url) as board:
        model, x = board.model("mlp"), np.array([[1, 2, 3, 4]], np.float32)
        y = model(x).tolist()
        sharing.do(sharing.device.reset)
        with pytest.raises(RemoteError, match=r"BoardResetError: the board was reset|StaleHandleError: .*a reset"):
            model(x), model(x)
        assert model(x).tolist() == y
        sharing.device.models[:] = sharing.device.models[1:]
        sharing.do(sharing.device.reset)
        with pytest.raises(RemoteError, match=r"BoardResetError: the board was reset|StaleHandleError: .*a reset"):
            model(x), model(x)
        with pytest.raises(RequestError, match="has other firmware now"):
            model(x)
        assert board.model().name == "quantised"


def test_a_board_that_hangs_is_an_error_of_its_name_until_it_is_reset(api: Api, sharing: Sharing) -> None:
    with api.connect(sharing.url) as board, api.connect(sharing.url) as other:
        add, others_add = board.function("add"), other.function("add")
        sharing.do(sharing.device.wedge)
        with pytest.raises(RemoteError, match="CallTimeoutError: no reply of CallFunc within 2 s"):
            add(1, 2)
        with pytest.raises(RemoteError, match="HandshakeTimeoutError: no session"):
            others_add(1, 2)
        sharing.do(sharing.device.reset)
        with pytest.raises(RemoteError, match=r"BoardResetError|StaleHandleError"):
            others_add(1, 2)
        assert board.function("add")(1, 2) == 3


def test_a_port_that_goes_away_ends_the_sharing_and_says_so(path: Path) -> None:
    sharing = Sharing(path)
    with sharing, microrpc.connect(sharing.url) as board:
        add = board.function("add")
        sharing.pull_the_cable()
        with pytest.raises((RemoteError, PortLostError), match=r"PortLostError: the cable was pulled|went away"):
            add(1, 2)
        sharing.join()
    assert isinstance(sharing.ended_by, PortLostError)
    assert not path.exists()


def test_a_port_that_goes_away_unused_ends_the_sharing_too(path: Path) -> None:
    sharing = Sharing(path)
    with sharing, microrpc.connect(sharing.url) as board:
        sharing.pull_the_cable()
        sharing.join()
        with pytest.raises((PortLostError, ClosedError)):
            board.function("add")
    assert isinstance(sharing.ended_by, PortLostError)


# --- requests that are refused ----------------------------------------------------------------------


def test_no_client_frees_the_memory_of_the_others(sharing: Sharing) -> None:
    with microrpc.connect(sharing.url) as ours, microrpc.connect(sharing.url) as theirs:
        array = theirs.array(np.arange(10, dtype="uint8"))
        with pytest.raises(RemoteError, match="would free the memory of every client"):
            ours.release_all()
        with pytest.raises(RemoteError, match="would free the memory of every client"):
            microrpc.connect(sharing.url, release=True)
        assert "would free" in refused(ours, Syscall(PacketCode.GET_GLOBAL_FUNC, ("microrpc.release_all",)))
        make = ours.global_function("runtime.RPCTimeEvaluator")
        assert make is not None
        with pytest.raises(RemoteError, match=r"no function has that name|invalid arg types"):  # nor does it prepare
            make(ours.system_library(), "add", 1, 0, 1, 1, 0, 100, 0, 1, 0, "microrpc.release_all")
        assert ours.function("add")(1, 2) == 3
        assert array.numpy().tolist() == list(range(10))


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (Syscall(PacketCode.GET_GLOBAL_FUNC, (1,)), "GetGlobalFunc: wrong arguments (int)"),
        (Syscall(PacketCode.DEV_FREE_DATA, ()), "DevFreeData: wrong arguments (none)"),
        (Syscall(99, ("x",)), "unknown packet code 99"),
        (CopyFromRemote(Tensor(0x2000_0000, CPU, DataType.parse("uint8"), (2**40,)), 2**40), "at most 65536 bytes"),
        (CopyFromRemote(Tensor(2**60, CPU, DataType.parse("uint8"), (4,)), 4), "no memory of this client"),
        (
            Syscall(PacketCode.DEV_ALLOC_DATA, (BoardDevice(2, 0), 4, 8, DataType.parse("uint8"))),
            "only memory of the CPU",
        ),
        (Syscall(PacketCode.DEV_ALLOC_DATA, (CPU, -5, 8, DataType.parse("uint8"))), "no board has -5 bytes"),
        (Syscall(PacketCode.DEV_ALLOC_DATA, (CPU, 10**14, 8, DataType.parse("uint8"))), "no board has 100000000000000"),
        (Syscall(PacketCode.DEV_ALLOC_DATA, (CPU, 4, 1 << 62, DataType.parse("uint8"))), "an alignment is from 0 to"),
        (Syscall(PacketCode.DEV_ALLOC_DATA, (CPU, 4, -8, DataType.parse("uint8"))), "an alignment is from 0 to"),
        (
            Syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (Tensor(0, CPU, DataType.parse("uint8"), (2,) * 70), None)),
            "DevAllocDataWithScope: no board has 1180591620717411303424 bytes",
        ),
        (
            Syscall(
                PacketCode.COPY_AMONG_REMOTE,
                (*[Tensor(0x2000_0000, CPU, DataType.parse("uint8"), (2**40,))] * 2, OpaqueHandle(0)),
            ),
            "a tensor: no board has 1099511627776 bytes",
        ),
    ],
)
def test_what_would_harm_the_board_is_not_passed_on(
    sharing: Sharing, monkeypatch: pytest.MonkeyPatch, request_: Any, text: str
) -> None:
    monkeypatch.setattr("microrpc.host.requests.check_signature", lambda request: None)  # clients may not be ours
    before = bytes(sharing.device.memory._storage[:64]), sharing.device.memory.used_bytes
    with microrpc.connect(sharing.url) as board:
        assert text in refused(board, request_)
        assert (bytes(sharing.device.memory._storage[:64]), sharing.device.memory.used_bytes) == before
        assert board.function("add")(1, 2) == 3


@pytest.mark.parametrize(("address", "size"), [(0x2000_0000, 2**40), ((1 << 48) - 4, 8)])
def test_a_result_that_no_board_can_give_takes_no_memory_of_others(path: Path, address: int, size: int) -> None:
    with Sharing(path) as sharing:
        result = ArrayResult(Tensor(address, CPU, DataType.parse("uint8"), (size,)), OpaqueHandle(1))
        sharing.device.function(lambda: result, name="absurd")
        with microrpc.connect(sharing.url) as one, microrpc.connect(sharing.url) as another:
            with pytest.raises(RemoteError, match="a result: "):
                one.function("absurd")()
            assert another.array([1, 2, 3]).numpy().tolist() == [1, 2, 3]


def test_what_the_process_answers_itself_is_checked_too(sharing: Sharing) -> None:
    with microrpc.connect(sharing.url) as board:
        find = board.global_function("tvm.rpc.server.ModuleGetFunction")
        library, add, adder = board.system_library(), board.function("add"), board.function("adder")
        assert find is not None
        assert library is not None
        assert "get_function: wrong arguments (int)" in refused(board, CallFunc(find.handle, (1,)))
        no_module = CallFunc(find.handle, (ModuleHandle(add.handle), "add", 1))
        assert "that is no module" in refused(board, no_module)
        assert "system_library: wrong arguments (none)" in refused(board, CallFunc(library.handle, ()))
        module = board.function("runtime.SystemLib")()
        assert "answered by the process" in refused(board, CallFunc(add.handle, (FunctionHandle(find.handle),)))
        wrong_type = Syscall(PacketCode.FREE_HANDLE, (OpaqueHandle(add.handle), int(TypeCode.MODULE)))
        assert "is not of the type 9" in refused(board, wrong_type)
        library.free()
        assert adder(1)(2) == 3
        assert module.find("no_such_function") is None


def test_a_request_that_the_board_cannot_hold_is_refused_by_its_size(sharing: Sharing) -> None:
    with microrpc.connect(sharing.url) as board:
        echo = board.function("echo_str")
        with pytest.raises(RemoteError, match="RequestTooLargeError: echo_str is a packet of"):
            echo("x" * 5000)
        assert echo("x" * 100) == "x" * 100


def test_a_packet_beyond_all_bounds_ends_the_connection_of_its_client_only(sharing: Sharing) -> None:
    deadline = time.monotonic() + LIMIT_S
    with microrpc.connect(sharing.url) as other:
        wild = open_unix(sharing.url.removeprefix("unix://"), LIMIT_S)
        wild.write(struct.pack("<Q", 1 << 40), deadline)
        assert b"a packet of 1099511627776 bytes is announced" in wild.read(deadline)
        with pytest.raises(PortLostError):
            wild.read(deadline)
        wild.close()
        assert other.function("add")(1, 2) == 3


def test_a_client_holds_so_many_handles_and_no_more(path: Path) -> None:
    with Sharing(path) as sharing, microrpc.connect(sharing.url) as board:
        look_up = Syscall(PacketCode.GET_GLOBAL_FUNC, ("add",))
        for _ in range(4096):
            assert not isinstance(board.request(look_up), RemoteException)
        assert "holds 4096 handles already" in refused(board, look_up)
        with microrpc.connect(sharing.url) as other:
            assert other.function("add")(1, 2) == 3


def test_there_are_so_many_clients_and_no_more(api: Api, path: Path) -> None:
    with Sharing(path, max_clients=2) as sharing, contextlib.ExitStack() as stack:
        first, _ = (stack.enter_context(api.connect(sharing.url)) for _ in range(2))
        with pytest.raises(RemoteError, match="has 2 clients already, and takes no more"):
            api.connect(sharing.url)
        first.close()
        sharing.wait_until(lambda: sharing.share.clients == 1)
        assert stack.enter_context(api.connect(sharing.url)).function("add")(1, 2) == 3


def test_those_who_wait_to_be_refused_are_bounded_too(path: Path) -> None:
    with Sharing(path, max_clients=1), contextlib.ExitStack() as stack:
        kept, refused_, turned_away = (stack.enter_context(contextlib.closing(open_unix(str(path), 1))) for _ in "123")
        with pytest.raises(PortLostError):
            turned_away.read(time.monotonic() + LIMIT_S)
        refused_.write(b"?", time.monotonic() + LIMIT_S)
        assert b"takes no more" in refused_.read(time.monotonic() + LIMIT_S)
        assert kept.read(time.monotonic()) == b""


def test_a_client_that_does_not_read_its_replies_is_dropped(path: Path) -> None:
    with Sharing(path, take_s=0.05) as sharing, microrpc.connect(sharing.url) as other:
        lazy = open_unix(str(path), LIMIT_S)
        requests = encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("no_such_function",))) * 100_000
        with pytest.raises(PortLostError):
            lazy.write(requests, time.monotonic() + LIMIT_S)
        assert other.function("add")(1, 2) == 3
        lazy.close()


# --- the socket -------------------------------------------------------------------------------------


def test_the_socket_is_this_users_alone_and_is_removed_at_the_end(path: Path) -> None:
    with Sharing(path):
        status = path.stat()
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o600
    assert not path.exists()


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with Sharing(path) as sharing:
        with pytest.raises(PortBusyError, match="a board is shared there already"), Sharing(path):
            pass
        with microrpc.connect(sharing.url) as board:
            assert board.function("add")(1, 2) == 3


def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(PortError, match="is no socket"), Sharing(path):
        pass
    assert path.read_text() == "precious"


def test_a_socket_that_is_another_programs_by_now_is_left_alone(path: Path) -> None:
    with Sharing(path), socket.socket(socket.AF_UNIX) as other:
        path.unlink()
        path.with_name("spare").touch()  # so that the inode is not used again
        other.bind(str(path))
    assert path.exists()


def test_the_error_has_the_systems_reason_without_its_number(path: Path) -> None:
    text = f"no socket can be made at {path / 'in' / 'b.sock'}: No such file or directory; name a --socket elsewhere"
    with pytest.raises(PortError, match=f"^{text}$"), Sharing(path / "in" / "b.sock"):
        pass
    with pytest.raises(PortError, match=r"^unix://: the address of a shared board is unix:///PATH$"):
        microrpc.connect("unix://")


def test_a_board_that_comes_back_is_still_shared(api: Api, path: Path) -> None:
    with Sharing(path, comes_back=True) as sharing, api.connect(sharing.url) as board:
        add = board.function("add")
        sharing.pull_the_cable()
        with pytest.raises(RemoteError, match=r"PortLostError: the cable was pulled \(the next request looks for it\)"):
            add(1, 2)
        assert add(1, 2) == 3
        assert sharing.share.clients == 1
    assert sharing.ended_by is None


def test_a_fork_leaves_the_socket_to_its_parent_and_does_not_outlast_it_there(path: Path) -> None:
    with Sharing(path) as sharing:
        fork = Fork(sharing.share._remove)
        with microrpc.connect(sharing.url) as board:
            assert board.function("add")(1, 2) == 3
    assert fork.said == "None"
    assert not path.exists()
    with Sharing(path) as sharing, microrpc.connect(sharing.url) as board:  # while the fork lives
        assert board.function("add")(1, 2) == 3
    fork.end()


def test_a_socket_of_which_only_a_fork_has_a_copy_is_stale(path: Path) -> None:
    sharing = Sharing(path)
    with sharing:
        fork = Fork(lambda: "lives")
        path.rename(path.with_name("kept"))  # as if this program were killed before it removes it
    path.with_name("kept").rename(path)
    with Sharing(path) as other, microrpc.connect(other.url) as board:
        assert board.function("add")(1, 2) == 3
    fork.end()


def test_where_no_socket_can_be_made_the_error_says_so(tmp_path: Path) -> None:
    for wrong in (tmp_path / "missing" / "b.sock", tmp_path / ("x" * 200)):
        with (
            pytest.raises(PortError, match=r"no socket can be made at [^:]*: [^\[:]*; name a --socket"),
            Sharing(wrong),
        ):
            pass


def test_opening_what_is_not_shared_says_what_to_do(api: Api, path: Path) -> None:
    with pytest.raises(PortNotFoundError, match="start `microrpc share PORT"):
        api.connect(f"unix://{path}")
    with pytest.raises(PortError, match="cannot be opened"):
        api.connect("unix:///" + "x" * 200)
    with pytest.raises(PortError, match="cannot be reset from here"):
        api.connect(f"unix://{path}", reset=True)
    path.write_text("no socket")
    with pytest.raises(PortNotFoundError):
        api.connect(f"unix://{path}")


def test_a_system_without_unix_sockets_says_so(api: Api, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(PortError, match="this system has no Unix sockets"):
        default_path("COM3")
    with pytest.raises(PortError, match="this system has no Unix sockets"):
        api.connect(f"unix://{path}")


def test_the_default_path_is_in_a_directory_of_this_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_path("/dev/ttyACM0") == tmp_path / "microrpc" / "ttyACM0.sock"
    assert default_path("sim://nucleo_f746zg").name == "sim-nucleo_f746zg.sock"
    assert default_path("socket://lab-pi:5000").name == "socket-lab-pi-5000.sock"
    assert default_path("..").name == "board.sock"
    assert stat.S_IMODE((tmp_path / "microrpc").stat().st_mode) == 0o700
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert default_path("COM3") == tmp_path / f"microrpc-{os.getuid()}" / "COM3.sock"
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    (tmp_path / "microrpc-4711").mkdir()
    with pytest.raises(PortError, match="is not this user's"):
        default_path("COM3")


# --- many at once -----------------------------------------------------------------------------------


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_many_clients_at_once_each_get_their_own_answers(path: Path, firmware: str) -> None:
    def work(number: int) -> int:
        api: Api = BlockingApi() if number % 2 else AsyncioApi()
        rng = np.random.default_rng(number)
        wrong = 0
        with contextlib.closing(api), api.connect(sharing.url) as board:
            add, adder, inc = board.function("add"), board.function("adder"), board.function("inc_tensor")
            mine = adder(number)
            for turn in range(200):
                wrong += add(number, turn) != number + turn
                wrong += mine(turn) != number + turn
                if turn % 20 == 0:
                    data = rng.integers(0, 200, int(rng.integers(1, 10_000)), dtype="uint8")
                    with board.array(data) as array:
                        inc(array)
                        wrong += not (array.numpy() == data + 1).all()
        return wrong

    with Sharing(path, firmware) as sharing:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(work, range(8))) == [0] * 8
        sharing.wait_until_free()


@pytest.mark.long
@pytest.mark.parametrize("firmware", FIRMWARES)
def test_whatever_a_client_sends_harms_no_other(path: Path, firmware: str) -> None:
    rng = np.random.default_rng(11)
    uint8 = DataType.parse("uint8")
    tensor = Tensor(0x2000_0000, CPU, uint8, (4,))
    with Sharing(path, firmware) as sharing, microrpc.connect(sharing.url) as other:
        add, array = other.function("add"), other.array(np.arange(64, dtype="uint8"))
        wild = microrpc.connect(sharing.url)
        handle = wild.function("describe").handle
        patterns = [
            encode_packet(request)
            for request in (
                CallFunc(handle, (1, 2.5, "text", b"bytes", tensor, FunctionHandle(handle), uint8, CPU, None)),
                Syscall(PacketCode.GET_GLOBAL_FUNC, ("add",)),
                Syscall(PacketCode.FREE_HANDLE, (OpaqueHandle(handle), 10)),
                Syscall(PacketCode.DEV_ALLOC_DATA, (CPU, 64, 8, uint8)),
                Syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (tensor, None)),
                Syscall(PacketCode.DEV_FREE_DATA, (CPU, OpaqueHandle(0x2000_0000))),
                Syscall(PacketCode.COPY_AMONG_REMOTE, (tensor, tensor, OpaqueHandle(0))),
                CopyFromRemote(tensor, 4),
                CopyToRemote(tensor, b"four"),
            )
        ]
        for turn in range(300):
            deadline = time.monotonic() + LIMIT_S
            packet = bytearray(patterns[turn % len(patterns)])
            for at in rng.integers(8, len(packet), int(rng.integers(0, 4))):
                packet[at] = rng.integers(0, 256)
            with contextlib.suppress(PortLostError):
                wild.pump._channel.write(bytes(packet), deadline)
                wild.pump._channel.read(deadline)
            if turn % 10 == 0:
                wild.pump._channel.close()
                wild = microrpc.connect(sharing.url)
            assert add(turn, 1) == turn + 1
        wild.pump._channel.close()
        assert array.numpy().tolist() == list(range(64))
        array.free()
        sharing.wait_until(lambda: sharing.device.memory.used_bytes == 0)


# --- ranges of addresses ----------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(0, 9))), st.integers(0, 60), st.integers(0, 9))
def test_regions_find_what_a_search_through_all_of_them_finds(
    steps: list[tuple[bool, int, int]], start: int, size: int
) -> None:
    regions: Regions[int] = Regions()
    model: dict[int, int] = {}
    for is_new, at, bytes_ in steps:
        taken = {byte for first, count in model.items() for byte in range(first, first + count)}
        if not is_new:
            regions.remove(at)
            model.pop(at, None)
        elif not taken & set(range(at, at + max(bytes_, 1))):
            regions.add(at, bytes_, at)
            model[at] = max(bytes_, 1)
    assert len(regions) == len(model)
    wanted = range(start, start + max(size, 1))
    expected = [first for first in sorted(model) if set(range(first, first + model[first])) & set(wanted)]
    assert list(regions.overlapping(start, size)) == expected
    assert all((at in regions) == (at in model) for at in range(61))
