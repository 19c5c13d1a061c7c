"""Both clients: functions, modules, arrays and streams as values, in memory and through a real pty."""

from __future__ import annotations

import dataclasses
import gc
import logging
import math
import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from apis import Api

import microrpc
from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.line.faults import Direction, Faults, Flip, Stuck
from firmware_sim.running.loopback import LoopbackChannel
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import SimBoard, simulate
from microrpc.errors import (
    BoardResetError,
    CallTimeoutError,
    ClosedError,
    CopyRangeError,
    DamagedReplyError,
    FunctionNotFoundError,
    HandshakeTimeoutError,
    PortError,
    PortLostError,
    ProfileError,
    ProtocolError,
    RemoteError,
    RequestError,
    RequestTooLargeError,
    StaleHandleError,
    UnsupportedValueError,
)
from microrpc.host.handles import Timing
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.wire.datatypes import CPU, DataType, OpaqueHandle
from microrpc.wire.datatypes import Device as BoardDevice
from microrpc.wire.frames import FrameDecoder
from microrpc.wire.memory import BoardMemory
from microrpc.wire.packets import (
    CallFunc,
    CopyFromRemote,
    CopyToRemote,
    InitServer,
    PacketCode,
    RemoteException,
    Return,
    Shutdown,
    Syscall,
)
from microrpc.wire.session import MessageType, Timeouts, encode_message


def make(api: Api, **device_args: Any) -> tuple[Any, Device]:
    device = Device(**device_args)
    install(device)
    return api.open_board(LoopbackChannel(device), Timeouts()), device


def test_a_function_is_looked_up_globally_first_and_then_in_the_system_library(api: Api) -> None:
    board, device = make(api)
    device.functions["only_global"] = lambda: "global"
    device.functions["both"] = lambda: "global"
    device.system_library["both"] = lambda: "library"
    device.system_library["only_library"] = lambda: "library"
    assert [board.function(name)() for name in ("only_global", "both", "only_library")] == [
        "global",
        "global",
        "library",
    ]


def test_a_missing_function_says_where_it_was_looked_for(api: Api) -> None:
    board, device = make(api)
    with pytest.raises(FunctionNotFoundError, match=r"'nope'.*global registry.*system library"):
        board.function("nope")
    del device.functions["runtime.SystemLib"]
    board, _ = api.open_board(LoopbackChannel(device), Timeouts()), device
    with pytest.raises(FunctionNotFoundError, match="'nope'"):
        board.function("nope")


@pytest.mark.parametrize("value", [0, -1, 2**63 - 1, -(2**63), 1.5, "", "grüße", b"", b"\xff\xfd\x00", None])
def test_a_value_comes_back_as_it_went(api: Api, value: object) -> None:
    board, device = make(api)
    device.system_library["echo"] = lambda x: x
    result = board.function("echo")(value)
    assert result == value
    assert type(result) is type(value)


DTYPES = [
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (7, 11), (2, 3, 4, 5), (3000,)])
def test_an_array_of_any_dtype_and_shape_comes_back_as_it_went(api: Api, dtype: str, shape: tuple[int, ...]) -> None:
    board, _ = make(api)
    data = np.random.default_rng(3).integers(0, 2, shape).astype(dtype)
    with board.array(data) as array:
        back = array.numpy()
        assert back.dtype == data.dtype
        assert back.shape == data.shape
        assert np.array_equal(back, data)


@pytest.mark.parametrize(("dtype", "parts", "lanes"), [("bfloat16", "uint16", ()), ("float32x4", "float32", (4,))])
def test_what_numpy_has_no_dtype_for_comes_as_its_parts(
    api: Api, dtype: str, parts: str, lanes: tuple[int, ...]
) -> None:
    board, _ = make(api)
    array = board.empty((5, 6), dtype)
    data = np.arange(30 * (lanes[0] if lanes else 1)).astype(parts).reshape(5, 6, *lanes)
    array.write(data)
    assert np.array_equal(array.numpy(), data)
    assert array.dtype == DataType.parse(dtype)


def test_an_array_with_gaps_is_made_compact(api: Api) -> None:
    board, _ = make(api)
    data = np.arange(4000, dtype="int32").reshape(40, 100)
    for view in (data.T, data[::2, ::3], data[::-1], np.asfortranarray(data), np.broadcast_to(data[0], (3, 100))):
        assert np.array_equal(board.array(view).numpy(), view)


def test_writing_what_does_not_fit_is_refused(api: Api) -> None:
    board, _ = make(api)
    array = board.empty((4,), "int32")
    for wrong in (np.zeros(5, "int32"), np.zeros((4, 1), "int32"), np.zeros(4, "float32")):
        with pytest.raises(CopyRangeError, match="takes data of shape"):
            array.write(wrong)
    with pytest.raises(UnsupportedValueError):
        board.array(np.array(["text"]))


def test_progress_is_told_after_each_block(api: Api) -> None:
    board, _ = make(api)
    told: list[tuple[int, int]] = []
    data = np.zeros(5000, dtype="uint8")
    array = board.array(data, on_progress=lambda done, total: told.append((done, total)))
    block = 2048 - 18
    assert told == [(block, 5000), (2 * block, 5000), (5000, 5000)]
    told.clear()
    array.numpy(on_progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (5000, 5000)


def test_memory_scopes_and_copies_on_the_board(api: Api) -> None:
    board, _ = make(api)
    source = board.array(np.arange(10, dtype="int16"))
    target = board.empty(10, "int16", scope="global")
    source.copy_to(target)
    assert np.array_equal(target.numpy(), np.arange(10))
    with pytest.raises(RemoteError, match="no such memory scope"):
        board.empty(10, "int16", scope="texture")
    for other in (board.empty(9, "int16"), board.empty(10, "uint16"), board.empty((2, 5), "int16")):
        with pytest.raises(CopyRangeError, match="their shapes and data types must be the same"):
            source.copy_to(other)
    with pytest.raises(RequestError, match="is no array on the board"):
        source.copy_to(np.zeros(10, "int16"))


def test_running_out_of_memory_is_a_remote_error_and_harms_nothing(api: Api) -> None:
    board, device = make(api, heap_bytes=1000)
    with pytest.raises(RemoteError, match="out of memory"):
        board.empty(1001, "uint8")
    assert board.function("add")(1, 1) == 2
    assert not device.memory.blocks


def test_functions_modules_and_arrays_come_back_as_results(api: Api) -> None:
    board, _ = make(api)
    assert board.function("adder")(40)(2) == 42
    assert np.array_equal(board.function("iota")(5).numpy(), np.arange(5))
    with pytest.raises(RemoteError, match="want 0 to"):
        board.function("iota")(10**12)
    library = board.global_function("runtime.SystemLib")
    assert library is not None
    found = library().find("add")
    assert found(2, 2) == 4


def test_handles_are_freed_when_their_owners_are_gone(api: Api) -> None:
    board, device = make(api)
    kept = board.array([1, 2, 3])
    board.array([4, 5, 6])
    board.function("iota")(7)
    gc.collect()
    assert len(device.memory.blocks) == 2  # a finalizer must not do I/O: the last result goes with the next request
    board.function("add")(1, 1)
    assert list(device.memory.blocks) == [kept.tensor.data]
    kept.free()
    kept.free()
    assert not device.memory.blocks
    with pytest.raises(StaleHandleError, match="freed"):
        kept.numpy()


def test_closing_frees_everything_and_ends_the_session(api: Api) -> None:
    device = Device()
    install(device)
    sent: list[bytes] = []

    def note(data: bytes) -> bytes:
        sent.append(data)
        return data

    with api.open_board(LoopbackChannel(device, to_device=note), Timeouts()) as board:
        arrays = [board.array([1.0]), board.function("iota")(3)]
        detached = board.array([2.0]).detach()
    assert list(device.memory.blocks) == [detached]
    assert FrameDecoder().feed(sent[-1]) == [encode_message(board.session_id, MessageType.TERMINATE_SESSION)]
    with pytest.raises(ClosedError, match="closed here"):
        board.function("add")
    board.close()
    with api.open_board(LoopbackChannel(device), Timeouts()) as again:
        assert again.array_at(detached, 1, "float64").numpy() == [2.0]
    assert list(device.memory.blocks) == [detached]
    del arrays


def test_closing_a_board_that_does_not_answer_waits_for_one_reply_only(api: Api) -> None:
    device = Device()
    channel = LoopbackChannel(device)
    board = api.open_board(channel, Timeouts(call_s=2.0))
    arrays = [board.array([n]) for n in range(10)]
    channel.to_device = lambda data: b""
    before = channel.now()
    board.close()
    assert channel.now() - before == pytest.approx(2.0)
    del arrays


def test_a_closing_that_is_interrupted_releases_the_port(api: Api) -> None:
    def interrupt(data: bytes) -> bytes:
        raise KeyboardInterrupt

    device = Device()
    channel = LoopbackChannel(device)
    closed: list[bool] = []
    board = api.open_board(channel, Timeouts(), on_close=lambda: closed.append(True))
    array = board.array([1])
    channel.to_host = interrupt
    with pytest.raises(KeyboardInterrupt):
        board.close()
    assert closed == [True]
    with pytest.raises(PortLostError, match="closed by this program"):
        channel.read(0.0)
    board.close()
    assert closed == [True]
    del array


def test_what_belongs_to_another_board_is_refused(api: Api) -> None:
    board, other = make(api)[0], make(api)[0]
    with pytest.raises(RequestError, match="another board"):
        board.function("sum_f32")(other.array(np.zeros(3, "float32")))
    with pytest.raises(RequestError, match="another board"):
        board.array([1]).copy_to(other.array([1]))


def test_a_numpy_array_as_argument_says_what_to_do(api: Api) -> None:
    board, _ = make(api)
    with pytest.raises(UnsupportedValueError, match=r"board\.array\(x\)"):
        board.function("sum_f32")(np.zeros(3, "float32"))


def test_a_remote_error_has_message_function_and_code(api: Api) -> None:
    board, _ = make(api)
    with pytest.raises(RemoteError) as caught:
        board.function("add")("x")
    assert caught.value.function == "add"
    assert caught.value.code == "CallFunc"
    assert caught.value.message == "add: want (int, int)"


def test_the_time_evaluator_gives_seconds_a_run(api: Api) -> None:
    board, _ = make(api)
    timing = board.time_evaluator("sleep_ms", number=4, repeat=3)(250)
    assert timing.results == pytest.approx((0.25, 0.25, 0.25))
    assert timing.mean == timing.min == timing.max == pytest.approx(0.25)


EVALUATOR = "runtime.RPCTimeEvaluator"


def note_evaluators(device: Device) -> list[int]:
    """Give a list that gets the number of arguments of each evaluator that is asked for."""
    counts: list[int] = []
    make_evaluator = device.functions[EVALUATOR]

    def noting(*args: object) -> object:
        counts.append(len(args))
        return make_evaluator(*args)

    device.functions[EVALUATOR] = noting
    return counts


@pytest.mark.parametrize(("taken", "tried"), [(8, [12, 11, 10, 8]), (10, [12, 11, 10]), (11, [12, 11]), (12, [12])])
def test_the_time_evaluator_finds_the_arguments_of_the_board_and_remembers_them(
    api: Api, taken: int, tried: list[int]
) -> None:
    board, device = make(api, firmware="stock", time_evaluator_arguments=taken)
    counts = note_evaluators(device)
    for _ in range(2):
        assert board.time_evaluator("sleep_ms", number=2, repeat=2)(250).results == pytest.approx((0.25, 0.25))
    assert counts == [*tried, taken]
    device.reset()  # it may have other firmware now
    with pytest.raises(BoardResetError):
        board.global_function("nothing")
    assert board.time_evaluator("sleep_ms", number=2)(250).mean == pytest.approx(0.25)
    assert counts == [*tried, taken, *tried]


def test_the_time_evaluator_asks_our_own_firmware_once(api: Api) -> None:
    board, device = make(api)
    counts = note_evaluators(device)
    assert board.time_evaluator("sleep_ms", number=2)(250).mean == pytest.approx(0.25)
    assert counts == [12]


@pytest.mark.parametrize("firmware", ["robust", "stock"])
def test_a_failure_of_what_is_timed_is_no_refusal_of_the_arguments(api: Api, firmware: str) -> None:
    board, device = make(api, firmware=firmware)
    counts = note_evaluators(device)
    evaluate = board.time_evaluator("fadd")
    before = list(counts)
    with pytest.raises(RemoteError, match="argument 0: Float expected"):
        evaluate("x")
    assert counts == before


@pytest.mark.parametrize("firmware", ["robust", "stock"])
@pytest.mark.parametrize("is_known", [False, True], ids=["first", "after another"])
def test_a_time_evaluator_of_what_is_not_there_says_so(api: Api, firmware: str, is_known: bool) -> None:
    board, _ = make(api, firmware=firmware)
    if is_known:
        board.time_evaluator("noop")
    with pytest.raises(FunctionNotFoundError, match=r"has no function 'runtime\.SystemLib' in its system library"):
        board.time_evaluator("runtime.SystemLib")


def test_what_else_is_wrong_with_a_time_evaluator_is_the_boards_word(api: Api) -> None:
    board, _ = make(api, heap_bytes=64)
    with pytest.raises(RemoteError, match="out of memory"):
        board.time_evaluator("noop")


@pytest.mark.parametrize("firmware", ["robust", "stock"])
def test_min_repeat_ms_asks_for_more_runs(api: Api, firmware: str) -> None:
    board, device = make(api, firmware=firmware)
    runs: list[None] = []
    device.function(lambda: runs.append(device.clock.sleep(0.25)), name="quarter")
    timing = board.time_evaluator("quarter", number=2, repeat=3, min_repeat_ms=2000, timeout_s=60)()
    assert timing.results == pytest.approx((0.25, 0.25, 0.25))
    assert len(runs) == 2 + 9 + 9 + 9
    device.function(lambda: runs.append(None), name="nothing")
    runs.clear()
    assert board.time_evaluator("nothing", number=2, min_repeat_ms=2000)().results == (0.0,)
    assert len(runs) == 2 * 100


def test_release_all_frees_what_earlier_programs_left_and_makes_every_handle_stale(api: Api) -> None:
    board, device = make(api)
    board.array(np.zeros(100, "uint8")).detach()
    array, function, add = board.array(np.arange(10, dtype="uint8")), board.function("adder")(5), board.function("add")
    own = device.memory.alloc(1000)
    assert board.release_all() == 100 + 10 + 64
    assert device.memory.blocks == {own: 1000}
    for stale in (array.numpy, lambda: function(1), lambda: add(1, 2), lambda: board.function("sum_f32")(array)):
        with pytest.raises(StaleHandleError, match="a reset of the board or a release of its memory"):
            stale()
    assert board.function("add")(1, 2) == 3
    later = board.array(np.arange(10, dtype="uint8"))
    array.free()  # must not free the later one, which has its address
    array = function = None
    gc.collect()
    assert later.numpy().tolist() == list(range(10))
    assert board.stats.resets == 0
    board.close()
    assert device.memory.blocks == {own: 1000}


def test_release_all_over_a_damaged_line_makes_handles_stale_even_where_it_fails(api: Api) -> None:
    board, device = make(api, link=False)
    array = board.array(np.zeros(100, "uint8"))
    release = device.functions["microrpc.release_all"]

    def release_and_die() -> object:
        device.wedge()
        return release()

    device.functions["microrpc.release_all"] = release_and_die
    with pytest.raises((CallTimeoutError, HandshakeTimeoutError)):
        board.release_all()
    assert not array.is_live


def test_release_all_is_not_repeated_whose_second_answer_would_be_0(api: Api) -> None:
    sim = SimBoard(microrpc.profile("loopback"))
    with api.open_board(sim.open_channel(), Timeouts(), link=False) as board:
        board.release_all()
        before = board.stats.bytes_received
        board.release_all()
        reply_end = board.stats.bytes_received - before
        board.empty(100, "uint8").detach()
        sim.inject(Flip(at=(reply_end - 12,), direction=Direction.TO_HOST))
        with pytest.raises(DamagedReplyError) as caught:
            board.release_all()
        assert caught.value.may_have_run
        assert sim.device.memory.used_bytes == 0


def test_release_all_is_not_called_as_a_function(api: Api) -> None:
    board, _ = make(api)
    for look_up in (board.function, board.global_function):
        with pytest.raises(RequestError, match=r"use `release_all\(\)` of the board"):
            look_up("microrpc.release_all")


def test_stock_firmware_cannot_release_all_and_keeps_its_handles(api: Api) -> None:
    board, _ = make(api, firmware="stock")
    array = board.array(np.arange(10, dtype="uint8"))
    with pytest.raises(FunctionNotFoundError, match=r"stock firmware has none: reset the board"):
        board.release_all()
    assert array.numpy().tolist() == list(range(10))


def test_a_connection_releases_what_a_killed_program_left(api: Api) -> None:
    device = simulate(microrpc.profile("loopback"))
    with PtyServer(device) as server:
        with api.connect(server.path) as board:
            for _ in range(4):
                board.array(np.zeros(60000, "uint8")).detach()
            with pytest.raises(RemoteError, match="out of memory"):
                board.array(np.zeros(60000, "uint8"))
        assert device.memory.used_bytes == 4 * 60000
        with api.connect(server.path, release=True) as board:
            assert device.memory.used_bytes == 0
            assert board.array(np.ones(60000, "uint8")).numpy().all()


def test_a_connection_that_cannot_release_is_none(api: Api) -> None:
    with PtyServer(simulate(microrpc.profile("loopback"), firmware="stock")) as server:
        with pytest.raises(FunctionNotFoundError, match=r"microrpc\.release_all"):
            api.connect(server.path, release=True)
        with api.connect(server.path) as board:  # the port was given back
            assert board.function("add")(1, 2) == 3


def test_any_request_can_be_sent_and_its_reply_is_given_as_it_is(api: Api) -> None:
    board, device = make(api, packet_size_bytes=512)
    assert board.max_packet_bytes() == 512 - 11
    found = board.request(Syscall(PacketCode.GET_GLOBAL_FUNC, ("runtime.SystemLib",)))
    assert isinstance(found, Return)
    assert isinstance(board.request(CallFunc(1, ())), RemoteException)
    assert board.syscall(PacketCode.GET_GLOBAL_FUNC, "nothing") == OpaqueHandle(0)
    assert board.session_id != 0
    before = board.epoch
    device.reset()
    with pytest.raises(microrpc.BoardResetError, match="nothing of this request was sent"):
        board.system_library()
    assert board.system_library().find("nothing") is None
    assert board.epoch == board.reply_epoch == before + 1


def test_streams_and_devices(api: Api) -> None:
    board, _ = make(api)
    stream = board.create_stream()
    stream.use()
    stream.sync()
    stream.free()
    with pytest.raises(RemoteError, match="SetDevice not supported"):
        board.set_device()
    with pytest.raises(RemoteError, match="GetAttr not supported"):
        board.attribute(1)


def test_logs_go_to_logging_and_to_the_callback_which_may_fail(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    device = Device()
    install(device)
    heard: list[str] = []

    def on_log(text: str) -> None:
        heard.append(text)
        raise ValueError("the caller's own fault")

    with caplog.at_level(logging.INFO, "microrpc.board"):
        board = api.open_board(LoopbackChannel(device), Timeouts(), on_log=on_log)
        assert board.function("log")("one line") is None
    assert heard == ["one line"]
    assert "loopback: one line" in caplog.messages


def test_a_level_and_a_time_before_a_line_go_to_logging_and_the_text_alone_to_the_callback(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    device = Device()
    install(device)
    heard: list[str] = []
    with caplog.at_level(logging.DEBUG, "microrpc"):
        device.log("[E ----.------] \x1bno clock")
        device._output += b"[W 0000.000001] beside\n"
        board = api.open_board(LoopbackChannel(device), Timeouts(), on_log=heard.append)
        board.function("log")("[D 0012.345678] one line")
        board.function("log")("[W 12.3] no level")
    assert heard == ["\x1bno clock", "[W 0000.000001] beside", "one line", "[W 12.3] no level"]
    told = [
        (record.name, record.levelno, record.getMessage(), vars(record)["board_text"], vars(record)["board_time_us"])
        for record in caplog.records
        if record.name not in ("microrpc.connection", "microrpc.wire")  # of what the board said are the others
    ]
    assert told == [
        ("microrpc.board", logging.ERROR, "loopback: \\x1bno clock", "\x1bno clock", None),
        ("microrpc.text", logging.INFO, "loopback: [W 0000.000001] beside", "[W 0000.000001] beside", None),
        ("microrpc.board", logging.DEBUG, "loopback: one line", "one line", 12_345_678),
        ("microrpc.board", logging.INFO, "loopback: [W 12.3] no level", "[W 12.3] no level", None),
    ]


def test_python_prints_nothing_of_a_boards_warnings_where_nobody_logs(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device = Device()
    install(device)
    monkeypatch.setattr(logging.getLogger("microrpc.board"), "propagate", False)  # as in a program without handlers
    board = api.open_board(LoopbackChannel(device), Timeouts())
    board.function("log")("[E ----.------] fire")
    assert capsys.readouterr().err == ""


# --- what a board tells of its memory ---------------------------------------------------------


def test_a_board_tells_what_is_used_of_its_memory(api: Api) -> None:
    board, device = make(api, packet_size_bytes=128)
    heap_bytes = device.memory.size_bytes
    array = board.array(np.zeros(100, "uint8"))
    assert board.memory() == BoardMemory(heap_bytes, 108, heap_bytes - 108, heap_bytes - 16 - 104, 108, None, None)
    array.free()
    board.max_packet_bytes()
    board.collect()
    memory = board.memory()
    assert (memory.used_bytes, memory.largest_free_bytes, memory.most_used_bytes) == (0, heap_bytes - 8, 108)


def test_stock_firmware_tells_nothing_of_its_memory(api: Api) -> None:
    board, _ = make(api, firmware="stock")
    with pytest.raises(FunctionNotFoundError, match=r"it is built with MICRORPC_MEMORY=1, and stock firmware never"):
        board.memory()
    assert board.function("add")(1, 2) == 3


def test_a_memory_report_that_is_none_is_a_protocol_error(api: Api) -> None:
    board, device = make(api)
    device.functions["microrpc.memory"] = lambda: 5
    with pytest.raises(ProtocolError, match=r"microrpc\.memory returned 5, not 24 bytes"):
        board.memory()


def test_a_memory_report_whose_reply_was_damaged_is_asked_for_again(api: Api) -> None:
    sim = SimBoard(microrpc.profile("loopback"))
    with api.open_board(sim.open_channel(), Timeouts(), link=False) as board:
        board.memory()
        before = board.stats.bytes_received
        expected = board.memory()
        reply_end = board.stats.bytes_received - before
        sim.inject(Flip(at=(reply_end - 12,), direction=Direction.TO_HOST))
        assert board.memory() == expected
        assert board.stats.repeats == 1


# --- through a real pty -----------------------------------------------------------------------


def test_the_whole_stack_through_a_pty(api: Api) -> None:
    with api.connect("sim://nucleo_f746zg") as board:
        assert board.name == "sim://nucleo_f746zg"
        data = np.random.default_rng(0).integers(0, 256, 20_000, dtype="uint8")
        assert np.array_equal(board.array(data).numpy(), data)


def test_threads_take_turns_on_a_blocking_board() -> None:
    with microrpc.connect("sim://") as board:
        threads = 4
        results: list[int] = []

        def work(n: int) -> None:
            add = board.function("add")
            results.extend(add(n, i) - n - i for i in range(50))

        workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(30)
        assert results == [0] * 200


def test_a_board_can_be_opened_again_after_it_was_closed(api: Api) -> None:
    with PtyServer(simulate(microrpc.profile("loopback"))) as server:
        for _ in range(3):
            with api.connect(server.path) as board:
                assert board.function("add")(2, 3) == 5


def test_a_reset_of_a_board_on_a_pty_is_noticed(api: Api) -> None:
    with PtyServer(simulate(microrpc.profile("loopback"))) as server, api.connect(server.path) as board:
        add = board.function("add")
        server.reset()

        def call_until_the_reset() -> None:
            for _ in range(10_000):
                add(1, 1)

        with pytest.raises((microrpc.BoardResetError, StaleHandleError)):
            call_until_the_reset()
        assert board.function("add")(1, 1) == 2


def test_a_port_that_goes_away_is_reported_once_and_then_closed(api: Api) -> None:
    server = PtyServer(simulate(microrpc.profile("loopback")))
    server.start()
    board = api.connect(server.path)
    add = board.function("add")
    server.close()
    with pytest.raises(PortLostError):
        add(1, 1)
    with pytest.raises(ClosedError, match="port went away"):
        add(1, 1)
    board.close()


def test_bad_targets_have_one_clear_error(api: Api) -> None:
    with pytest.raises(microrpc.PortNotFoundError, match="no-such-tty"):
        api.connect("/dev/no-such-tty")
    with pytest.raises(ProfileError, match="nucleo"):
        api.connect("sim://nucleo")
    with pytest.raises(PortError, match="tcp://HOST:PORT"):
        api.connect("tcp://nowhere")


def test_a_port_that_goes_away_with_the_last_word_of_a_request_is_lost_all_the_same(api: Api) -> None:
    class Unplugged(LoopbackChannel):
        def write(self, data: bytes, deadline: float) -> None:
            if data == b"the last word":
                raise PortLostError(self.name, f"{self.name} went away")
            super().write(data, deadline)

    device = Device()
    board = api.open_board(Unplugged(device), Timeouts(), seed=1)
    connection = board.operations.connection

    def say_last_word() -> Operation[str]:
        yield AT_ONCE
        connection.output.pieces.append(b"the last word")
        return "done"

    with pytest.raises(PortLostError, match="went away") as caught:
        board.pump.run(say_last_word)
    assert not caught.value.may_have_run  # nothing that could run was sent
    with pytest.raises(ClosedError, match="the port went away"):
        board.function("add")


@pytest.mark.parametrize(("address", "size"), [(-1, 1), (1 << 64, 1), ((1 << 64) - 8, 9)])
def test_memory_past_the_last_address_is_refused(api: Api, address: int, size: int) -> None:
    board = api.open_board(LoopbackChannel(Device()), Timeouts(), seed=1)
    with pytest.raises(RequestError, match=r"are no memory: addresses are|an address is a whole number from 0 to 1844"):
        board.array_at(address, size, "uint8")
    board.array_at(address % (1 << 64), 0, "uint8")


# --- slips --------------------------------------------------------------------------------------------


def make_stock(api: Api, **options: Any) -> tuple[Any, SimBoard]:
    sim = SimBoard(microrpc.profile("loopback"), firmware="stock")
    return api.open_board(sim.open_channel(), sim.profile.timeouts, seed=1, **options), sim


SLIPS: dict[str, Callable[[Any], object]] = {
    "the name of a function is a str, not None": lambda board: board.function(None),
    "the name of a function is a str, not b'add'": lambda board: board.function(b"add"),
    "the name of a function is a str, not 5": lambda board: board.global_function(5),
    "the name of a function is a str, not 7": lambda board: board.system_library().find(7),
    "the name of a function is a str, not ()": lambda board: board.time_evaluator(()),
    "number is a whole number from 1 to 2147483647, not 0": lambda board: board.time_evaluator("add", number=0),
    "repeat is a whole number from 1 to 2147483647, not 1.5": lambda board: board.time_evaluator("add", repeat=1.5),
    "min_repeat_ms is a whole number": lambda board: board.time_evaluator("add", min_repeat_ms=-1),
    "looked up in a module of the board, not in 'add'": lambda board: board.find_in_module("add", "add"),
    "DevAllocDataWithScope takes (Tensor, str or None), not (Tensor, int)": lambda board: board.empty(
        4, "int8", scope=5
    ),
    "DevSetDevice takes (Device), not (str)": lambda board: board.set_device("cpu"),
    "the type of a device is a number (`DeviceType`), not 'cpu'": lambda board: board.set_device(BoardDevice("cpu")),
    "None is no function of the board": lambda board: board.call(None, ()),
    "DevGetAttr takes (Device, int), not (Device, str)": lambda board: board.attribute("3"),
    "DevFreeData takes (Device, OpaqueHandle), not (Device, int)": lambda board: board.syscall(
        PacketCode.DEV_FREE_DATA, CPU, 5
    ),
    "the code of a syscall is a number": lambda board: board.syscall("GetGlobalFunc", "add"),
    "GetGlobalFunc takes (str), not ()": lambda board: board.request(Syscall(PacketCode.GET_GLOBAL_FUNC, ())),
    "CopyToRemote: a field is of the wrong type": lambda board: board.request(CopyToRemote(None, b"")),  # type: ignore[arg-type]
    "CopyFromRemote: a field is of the wrong type": lambda board: board.request(CopyFromRemote("x", 5)),  # type: ignore[arg-type]
    "CallFunc: a field is of the wrong type": lambda board: board.request(CallFunc(1, None)),  # type: ignore[arg-type]
    "InitServer: a field is of the wrong type": lambda board: board.request(InitServer(8, ())),  # type: ignore[arg-type]
    "is no request that is answered (`close(shutdown=True)` sends it)": lambda board: board.request(Shutdown()),
    "is no request that is answered; nothing was sent": lambda board: board.request(Return((None,))),
}


@pytest.mark.parametrize("text", SLIPS)
def test_a_slip_is_one_clear_error_and_leaves_a_stock_board_as_it_was(api: Api, text: str) -> None:
    board, sim = make_stock(api, link=False)
    add = board.function("add")
    mul = board.system_library().find("mul")
    asked = sim.device.stats.frames_received
    with pytest.raises(RequestError, match=re.escape(text)):
        SLIPS[text](board)
    assert sim.device.stats.frames_received == asked
    assert (add(2, 3), mul(2, 3)) == (5, 6)
    board.close()


def test_numbers_of_numpy_are_numbers_to_a_syscall_too(api: Api) -> None:
    board, _ = make_stock(api)
    with pytest.raises(RemoteError, match="GetAttr not supported"):
        board.attribute(np.int64(3))
    assert isinstance(board.time_evaluator("add", number=np.int32(2))(1, 2), Timing)
    board.close()


@pytest.mark.parametrize("link", [False, True])
def test_a_request_that_the_smallest_board_cannot_hold_is_refused_and_not_sent(api: Api, link: bool) -> None:
    small = dataclasses.replace(microrpc.profile("loopback"), packet_size_bytes=128)
    sim = SimBoard(small, firmware="robust" if link else "stock")
    board = api.open_board(sim.open_channel(), Timeouts(call_s=0.5), seed=1, link=link)
    describe = board.function("describe")
    assert (board.link is not None) is link
    assert describe(*range(8)) == "8:0,0,0,0,0,0,0,0"  # 112 bytes, which every board takes
    for too_large in (lambda: describe(*range(9)), lambda: board.time_evaluator("describe_at_length")):
        with pytest.raises(RequestTooLargeError, match="and the board takes 117") as caught:
            too_large()
        assert caught.value.size_bytes > caught.value.limit_bytes == 117
    assert board.empty((2,) * 8, "uint8", scope=None).numpy().shape == (2,) * 8  # allocated with 112 bytes
    with pytest.raises(RequestTooLargeError):
        board.empty((2,) * 9, "uint8")
    with pytest.raises(RequestTooLargeError):
        board.function("f" * 100)
    assert (describe(1), board.stats.repeats, sim.state.bytes_overrun) == ("1:0", 0, 0)
    board.close()


def test_the_first_request_of_a_session_leaves_room_for_what_is_left_of_the_handshakes(api: Api) -> None:
    small = dataclasses.replace(microrpc.profile("loopback"), packet_size_bytes=128)
    sim = SimBoard(small, firmware="stock", faults=Faults([Stuck(0.0, 3.0, Direction.TO_HOST)]))
    # Six INITs that were received and not answered in time lie in the buffer.
    board = api.open_board(sim.open_channel(), Timeouts(retry_s=0.5, start_s=5.0), seed=1, link=False)
    with pytest.raises(FunctionNotFoundError):
        board.function("f" * 60)
    assert board.function("add")(2, 3) == 5
    board.close()


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 0, 10**400, True, "5"])
def test_a_call_is_given_a_duration_that_can_be(api: Api, value: Any) -> None:
    board, sim = make_stock(api)
    add = board.function("add")
    asked = sim.device.stats.frames_received
    for call in (
        lambda: add(2, 3, timeout_s=value),
        lambda: board.call(getattr(add, "target", add), (2, 3), timeout_s=value),
        lambda: board.time_evaluator("add", timeout_s=value),
    ):
        with pytest.raises(RequestError, match="timeout_s is a number of seconds, more than 0"):
            call()
    assert sim.device.stats.frames_received == asked
    assert add(2, 3, timeout_s=np.float32(2)) == 5
    board.close()


def test_reconnecting_is_given_a_duration_that_can_be(api: Api) -> None:
    with pytest.raises(RequestError, match="reconnect_s is a number of seconds, 0 or more"):
        api.connect("sim://", reconnect_s=math.nan)
    with pytest.raises(RequestError, match="a baud rate is a whole number"):
        api.connect("sim://", baud=0)
    sim = SimBoard(microrpc.profile("loopback"))
    with pytest.raises(RequestError, match="a baud rate is a whole number"):
        api.open_board(sim.open_channel(), Timeouts(), baud=9600.5)
    with pytest.raises(RequestError, match="ring_bytes is a whole number of 0 or more, not -1"):
        api.open_board(sim.open_channel(), Timeouts(), ring_bytes=-1)


def test_a_board_without_memory_says_so_even_where_it_has_no_text_or_an_older_one(api: Api) -> None:
    board, _ = make_stock(api)
    add = board.function("add")
    for older in ("", "add: want (int, int)"):
        if older:
            with pytest.raises(RemoteError):
                add(None)
        with pytest.raises(RemoteError) as caught:
            board.array(np.zeros(1_000_000, "uint8"))
        assert (caught.value.message, caught.value.code) == (older, "DevAllocDataWithScope")
        assert str(caught.value) == (
            f"DevAllocDataWithScope: {older or '(the board gave no text)'}; 1000000 bytes were asked for; most likely "
            "its memory is full, perhaps of what an earlier program left there: free arrays, or reset the board. "
            "Stock firmware has no text for this: if there is one, it may be an older error's"
        )
    board.close()


def test_the_text_of_our_own_firmware_is_not_doubted(api: Api) -> None:
    board, _ = make(api, heap_bytes=1000)
    with pytest.raises(RemoteError, match=r"out of memory: 2000 bytes asked for.*`microrpc reset --memory`$"):
        board.empty(1000, "int16")
    with pytest.raises(RemoteError, match=r"no such memory scope.*; 8 bytes were asked for$"):
        board.empty(4, "int16", scope="texture")
    board.close()


def test_every_way_to_ask_for_memory_tells_what_was_asked_for(api: Api) -> None:
    advice = "most likely its memory is full, perhaps of what an earlier program left there: free arrays, or "
    byte, code = DataType.parse("uint8"), PacketCode.DEV_ALLOC_DATA
    for stock in (False, True):
        board, _ = make_stock(api) if stock else make(api)
        with pytest.raises(RemoteError) as caught:
            board.syscall(code, CPU, 2**40, 8, byte)
        if stock:
            assert f"; 1099511627776 bytes were asked for; {advice}" in str(caught.value)
        else:  # its text says so itself
            text = "out of memory: 1099511627776 bytes asked for, the largest free block has "
            assert re.search(f"{text}[0-9]+; {advice}", str(caught.value))
        with pytest.raises(RemoteError) as caught:
            board.syscall(code, CPU, -5, 8, byte)
        assert str(caught.value).startswith(
            "DevAllocData: cannot allocate -5 bytes aligned to 8; -5 bytes were asked for"
        )
        assert ("most likely" in str(caught.value)) == stock  # whose text may be an older error's
        board.close()


def test_firmware_of_ours_is_believed_without_the_link_too_and_in_a_function(api: Api) -> None:
    likely = "most likely its memory is full, perhaps of what an earlier program left there: free arrays, or "
    text = "out of memory: 4000000 bytes asked for, the largest free block has 992"
    for link, end in (
        (True, "all that is left over with `connect(..., release=True)` or `microrpc reset --memory`"),
        (False, "reset the board"),
    ):
        device = Device(heap_bytes=1000)
        install(device)
        board = api.open_board(LoopbackChannel(device), Timeouts(), link=link)
        with pytest.raises(RemoteError) as caught:
            board.empty(1_000_000, "int32")
        assert str(caught.value) == f"DevAllocDataWithScope: {text}; {likely}{end}"
        with pytest.raises(RemoteError) as caught:
            board.function("iota")(1_000_000)
        assert str(caught.value) == f"iota: {text}; {likely}{end}"
        with pytest.raises(RemoteError, match=r"no such memory scope.*; 8 bytes were asked for$"):
            board.empty(4, "int16", scope="texture")
        board.close()


def test_an_address_of_0_is_no_memory_and_says_what_was_asked_for(api: Api) -> None:
    board, device = make(api)
    device.memory.alloc = lambda *args: 0  # type: ignore[method-assign,assignment]
    with pytest.raises(RemoteError, match="it gave address 0; 8 bytes were asked for"):
        board.empty(4, "int16")
    board.close()
