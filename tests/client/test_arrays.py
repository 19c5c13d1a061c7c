"""Arrays on the board, used as numpy's are: both clients."""

from __future__ import annotations

import dataclasses
import gc
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from apis import Api, AsyncioApi

import microrpc
from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from firmware_sim.running.simulate import SimBoard
from microrpc.errors import (
    BoardResetError,
    CopyRangeError,
    RemoteError,
    RequestError,
    StaleHandleError,
    UnsupportedValueError,
)
from microrpc.wire.datatypes import CPU, ArrayResult, DataType, OpaqueHandle, Tensor
from microrpc.wire.session import Timeouts


def make(api: Api) -> tuple[Any, Device]:
    device = Device()
    install(device)
    return api.open_board(LoopbackChannel(device), Timeouts()), device


def target(thing: Any) -> Any:
    """Give what the asyncio client is behind its face for tests."""
    return getattr(thing, "target", thing)


# --- numpy takes them ---------------------------------------------------------------------------------


def test_numpy_takes_a_copy_of_an_array_of_the_blocking_client_and_of_no_other(api: Api) -> None:
    board, _ = make(api)
    data = np.arange(6, dtype="float32").reshape(2, 3)
    x = target(board.array(data))
    if isinstance(api, AsyncioApi):
        for convert in (np.asarray, np.array, np.atleast_1d, lambda x: np.allclose(x, data)):
            with pytest.raises(TypeError, match=r"lies on the board: `await x.numpy\(\)` copies it back"):
                convert(x)
        return
    for copied in (np.asarray(x), np.array(x), np.asarray(x, dtype="float32")):
        assert (copied.dtype, copied.shape) == (np.dtype("float32"), (2, 3))
        assert np.array_equal(copied, data)
    assert np.asarray(x, dtype="int16").dtype == np.int16
    assert np.allclose(x, data)
    assert np.concatenate([x, data]).shape == (4, 3)
    assert (x == data).all()
    assert (data == x).all()
    with pytest.raises(ValueError, match="lies on the board: numpy gets a copy of it, or nothing"):
        x.__array__(copy=False)
    with pytest.raises(TypeError, match=r"numpy has no bfloat16: x.numpy\(\) gives its raw bits"):
        np.asarray(board.empty(3, "bfloat16"))


def test_an_array_of_one_board_goes_to_another_and_to_its_own() -> None:
    device = Device()
    board = microrpc.open_board(LoopbackChannel(device), Timeouts())
    other = microrpc.open_board(LoopbackChannel(Device()), Timeouts())
    data = np.arange(5, dtype="int16")
    x = board.array(data)
    assert np.array_equal(other.array(x).numpy(), data)
    again = board.array(x)
    again.write(x[:])
    assert np.array_equal(again.numpy(), data)


@pytest.mark.parametrize("dtype", [">f4", ">i2", ">u8", "=f8", "?"])
def test_what_is_big_endian_is_converted(api: Api, dtype: str) -> None:
    board, _ = make(api)
    data = np.array([0, 1, 2, 1], dtype=dtype)
    x = board.array(data)
    assert x.numpy().tolist() == data.tolist()
    assert x.numpy().dtype == np.dtype(dtype).newbyteorder("<")
    x.write(data[::-1])
    assert x.numpy().tolist() == data[::-1].tolist()
    assert board.empty(3, np.dtype(dtype)).dtype == x.dtype


def test_a_big_endian_result_of_a_served_function_is_converted(api: Api) -> None:
    board, device = make(api)
    device.functions["big"] = lambda: np.array([1, 2], dtype=">i4")
    assert board.function("big")().numpy().tolist() == [1, 2]


def test_shapes_may_be_made_of_numbers_of_numpy(api: Api) -> None:
    board, _ = make(api)
    for shape in (np.int64(4), (np.int32(4),), np.array([4]), [np.uint8(4)]):
        x = board.empty(shape, "uint8")
        assert x.shape == (4,)
        assert type(x.shape[0]) is int
    assert board.empty((), "uint8").shape == ()


HUGE = 10**5000
BAD_SHAPES: dict[str, Callable[[Any], object]] = {
    "a shape is one size or several, not 2.5": lambda board: board.empty(2.5, "uint8"),
    "a size in a shape is a whole number of 0 or more, not 2.5": lambda board: board.empty((2.5,), "uint8"),
    "a size in a shape is a whole number of 0 or more, not '4'": lambda board: board.empty(["4"], "uint8"),
    "a size in a shape is a whole number of 0 or more, not True": lambda board: board.empty((2, True), "uint8"),
    "a shape is a whole number of 0 or more, not True": lambda board: board.empty(True, "uint8"),
    "a shape is one size or several, not '4'": lambda board: board.empty("4", "uint8"),
    "a shape is one size or several, not ''": lambda board: board.empty("", "uint8"),
    "a shape is one size or several, not b'4'": lambda board: board.empty(b"4", "uint8"),
    "a shape is one size or several, not {2, 3}": lambda board: board.empty({2, 3}, "uint8"),
    "a shape is one size or several, not {}": lambda board: board.array_at(8, {}, "uint8"),
    "a size in a shape is a whole number of 0 or more, not -1": lambda board: board.empty((3, -1), "uint8"),
    "a shape is a whole number of 0 or more, not -1": lambda board: board.empty(-1, "uint8"),
    "a number of very many digits bytes at 0x0 are no memory": lambda board: board.empty(HUGE, "uint8"),
    "an address is a whole number from 0 to 18446744073709551615, not a number": lambda board: board.array_at(
        HUGE, 1, "uint8"
    ),
    "an address is a whole number from 0 to 18446744073709551615, not 1.5": lambda board: board.array_at(
        1.5, 1, "uint8"
    ),
    "8 bytes at 0xffffffffffffffff are no memory": lambda board: board.array_at(2**64 - 1, 8, "uint8"),
    "None is not a numpy dtype": lambda board: board.empty(4, None),
    "'float' is not a data type": lambda board: board.empty(4, "float"),
    "what is to be copied is no array": lambda board: board.array([[1, 2], [3]]),
}


@pytest.mark.parametrize("text", BAD_SHAPES)
def test_what_no_array_can_be_is_refused_before_anything_is_sent(api: Api, text: str) -> None:
    board, device = make(api)
    board.max_packet_bytes()
    asked = device.stats.frames_received
    with pytest.raises(RequestError) as caught:
        BAD_SHAPES[text](board)
    assert text in str(caught.value)
    assert device.stats.frames_received == asked


# --- parts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("firmware", ["robust", "stock"])
def test_a_slice_is_a_view_of_the_same_memory_and_copies_nothing(api: Api, firmware: str) -> None:
    sim = SimBoard(microrpc.profile("loopback"), firmware=firmware)  # type: ignore[arg-type]
    board = api.open_board(sim.open_channel(), sim.profile.timeouts, seed=1)
    data = np.arange(24, dtype="float32").reshape(6, 4) - 12
    x = target(board.array(data))
    asked = sim.device.stats.frames_received
    part = x[2:5]
    assert (part.shape, part.tensor.data, part.tensor.byte_offset) == ((3, 4), x.tensor.data, 2 * 16)
    assert (len(x), len(part), part.size_bytes, x[-1].tensor.byte_offset) == (6, 3, 48, 5 * 16)
    assert sim.device.stats.frames_received == asked

    def numpy(array: Any) -> Any:
        return api.wait(array.numpy()) if isinstance(api, AsyncioApi) else array.numpy()

    for key in (slice(2, 5), slice(None), slice(-2, None), slice(4, 2), slice(3, 100), 0, 3, -1, np.int64(2)):
        assert np.array_equal(numpy(x[key]), data[key]), key
    assert np.array_equal(numpy(x[1:5][1:3][1]), data[1:5][1:3][1])
    api_call = api.wait if isinstance(api, AsyncioApi) else (lambda value: value)
    api_call(part.write(data[2:5] * 2))
    data[2:5] *= 2
    board.function("relu_f32")(x[1:3])
    data[1:3] = np.maximum(data[1:3], 0)
    assert np.array_equal(numpy(x), data)
    api_call(x[0:2].copy_to(x[4:6]))
    data[4:6] = data[0:2]
    assert np.array_equal(api_call(x.numpy(verify=True)), data)
    api_call(x[5].write(np.zeros(4, "float32"), verify=True))
    assert numpy(x[5]).tolist() == [0, 0, 0, 0]
    with pytest.raises(CopyRangeError):
        api_call(part.write(data[2:4]))
    board.close()


def test_a_view_keeps_the_memory_and_goes_with_it(api: Api) -> None:
    board, device = make(api)
    part = target(board.array(np.arange(6, dtype="uint8")))[2:4]
    gc.collect()
    board.function("noop")()
    assert device.memory.used_bytes == 6
    assert api_numpy(api, part).tolist() == [2, 3]
    base = part._base
    part.discard()
    board.function("noop")()
    assert (part.is_live, base.is_live, device.memory.used_bytes) == (False, True, 6)  # a view owns nothing
    part = base[1:]
    base.discard()
    assert not part.is_live
    assert "of no use any more" in repr(part)
    with pytest.raises(StaleHandleError, match="was freed"):
        api_numpy(api, part)
    with pytest.raises(StaleHandleError, match="was freed"):
        part[0:1]
    board.function("noop")()
    assert device.memory.used_bytes == 0
    owner = target(board.empty(4, "uint8"))
    with pytest.raises(RequestError, match="which owns its memory: detach that"):
        owner[1:].detach()


def api_numpy(api: Api, array: Any) -> Any:
    return api.wait(array.numpy()) if isinstance(api, AsyncioApi) else array.numpy()


def test_what_is_no_part_is_refused(api: Api) -> None:
    board, _ = make(api)
    x = target(board.empty((6, 2), "int16"))
    with pytest.raises(RequestError, match="no gaps: step 1, not 2"):
        x[::2]
    with pytest.raises(RequestError, match="no gaps: step 1, not -1"):
        x[::-1]
    for index in (6, -7, 10**5000):
        with pytest.raises(IndexError, match="has no row"):
            x[index]
    for key in ((1, 1), "a", None, 1.0, ..., True, np.bool_(True)):
        with pytest.raises(TypeError, match=r"is none: x.numpy"):
            x[key]
    scalar = target(board.empty((), "int16"))
    with pytest.raises(IndexError, match="is a scalar"):
        scalar[0]
    with pytest.raises(TypeError, match="is a scalar"):
        len(scalar)
    with pytest.raises(TypeError, match="is a scalar"):
        list(scalar)
    assert scalar
    assert x[0:0]  # as before: it is there


def test_the_rows_of_an_array_are_counted_from_its_first(api: Api) -> None:
    board, _ = make(api)
    x = target(board.array(np.arange(6, dtype="uint8").reshape(3, 2)))
    assert [api_numpy(api, row).tolist() for row in x] == [[0, 1], [2, 3], [4, 5]]
    assert [api_numpy(api, row).tolist() for row in reversed(x)] == [[4, 5], [2, 3], [0, 1]]
    assert x.base is None
    assert x[1].base is x


def test_what_numpy_would_compute_here_leaves_the_name_to_the_board(api: Api) -> None:
    board, _ = make(api)
    x = kept = target(board.array(np.arange(3, dtype="uint8")))
    for other in (np.ones(3), 1, x):
        for operation in (operator.iadd, operator.imul, operator.ixor, operator.imatmul):
            with pytest.raises(TypeError, match=r"where numpy does not compute: x.write\(x.numpy"):
                x = operation(x, other)
    with pytest.raises(TypeError, match=r"x\[1\].write"):
        x[1] = 5
    assert x is kept
    assert api_numpy(api, x).tolist() == [0, 1, 2]


def test_memory_at_address_0_is_memory(api: Api) -> None:
    board, _ = make(api)
    with pytest.raises(RemoteError, match="4 bytes at 0x0 are not inside an allocated block"):
        board.array_at(0, 4, "uint8").numpy()


# --- what they are ------------------------------------------------------------------------------------


def test_a_data_type_equals_numpys_and_its_name(api: Api) -> None:
    board, _ = make(api)
    x = board.empty(4, "float32")
    assert x.dtype == np.float32
    assert x.dtype == np.dtype("float32") == x.dtype
    assert x.dtype != np.float64
    assert x.dtype == "float32"
    assert repr(x.dtype) == "float32"


def test_arrays_are_not_compared_by_what_they_are(api: Api) -> None:
    board, _ = make(api)
    x, y = target(board.empty(4, "uint8")), target(board.empty(4, "uint8"))
    for other in (y, None, 3, [0, 0, 0, 0]):
        with pytest.raises(TypeError, match="is compared by what is in it"):
            x == other  # noqa: B015
        with pytest.raises(TypeError, match="is compared by what is in it"):
            x != other  # noqa: B015
    assert len({x, y, x}) == 2
    assert x == x


def test_what_was_freed_says_so(api: Api) -> None:
    board, device = make(api)
    x, add = board.empty(4, "uint8"), board.function("add")
    assert repr(x).endswith("Array uint8[4] at 0x20000000>")
    x.free()
    add.free()
    assert repr(x).endswith("Array uint8[4] at 0x20000000, freed>")
    assert repr(add).endswith(", freed>")
    with pytest.raises(StaleHandleError, match=r"Array uint8\[4\] at 0x20000000> was freed$"):
        x.numpy()
    y = board.empty(4, "uint8")
    device.reset()
    with pytest.raises(BoardResetError):
        board.function("add")
    assert repr(y).endswith("Array uint8[4] at 0x20000000, of no use any more>")


def test_completion_shows_what_users_use(api: Api) -> None:
    board, _ = make(api)
    shown = {name for name in dir(target(board)) if not name.startswith("__")}
    assert shown == {
        *("name", "function", "global_function", "system_library", "time_evaluator", "array", "empty", "array_at"),
        *("copy", "max_packet_bytes", "create_stream", "set_device", "attribute", "syscall", "request", "close"),
        *(
            "session_id",
            "link",
            "stats",
            "epoch",
            "release_all",
            "f",
            "functions",
            "identity",
            "memory",
            "model",
            "models",
        ),
        *("on_event", "events", "poll", "model", "models"),
    }


# --- what a board says of them ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((2**40,), "cannot be copied to this computer"),
        ((1,) * 70, "cannot be copied to this computer: maximum supported dimension"),
        ((2**62, 4), "cannot be copied to this computer"),
        ((2**62,) * 900, "cannot be copied to this computer"),
    ],
)
@pytest.mark.parametrize("link", [False, True])
def test_a_result_that_nobody_can_have_is_one_error_and_is_given_back(
    api: Api, shape: tuple[int, ...], text: str, link: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = SimBoard(dataclasses.replace(microrpc.profile("loopback"), packet_size_bytes=65535))
    board = api.open_board(sim.open_channel(), sim.profile.timeouts, seed=1, link=link)
    device = sim.device
    dtype = DataType.parse("float32")
    device.function(lambda: np.zeros(4, "float32"), name="boast")

    def boast(array: Any) -> ArrayResult:
        address = OpaqueHandle(boasted(array).tensor.data)
        return ArrayResult(Tensor(address, CPU, dtype, shape), address)

    boasted = device._session._array_result
    monkeypatch.setattr(device._session, "_array_result", boast)
    result = board.function("boast")()
    assert result.shape == shape
    monkeypatch.setattr(np, "empty", no_memory(np.empty))
    with pytest.raises(RequestError, match=text):
        result.numpy()
    if result.size_bytes > 2**64:
        with pytest.raises(RequestError, match="are no memory: addresses are from 0 to"):
            board.read_bytes(target(result), memoryview(bytearray(4)), on_progress=None)
    result.free()
    assert device.memory.used_bytes == 0
    assert board.function("add")(2, 3) == 5
    board.close()


def no_memory(empty: Callable[..., Any]) -> Callable[..., Any]:
    """Give numpy's `empty` on a computer with 1 GiB, whatever this one lets a program ask for."""

    def make(shape: Any, dtype: Any = float) -> Any:
        if len(shape) <= 32 and np.dtype(dtype).itemsize * int(np.prod(shape, dtype=object)) > 1 << 30:
            raise MemoryError("Unable to allocate")
        return empty(shape, dtype=dtype)

    return make


def test_an_array_that_numpy_cannot_have_is_refused_here(api: Api) -> None:
    board, _ = make(api)
    x = board.empty((0,) + (1,) * 69, "uint8")
    with pytest.raises(RequestError, match="cannot be copied to this computer"):
        x.numpy()
    with pytest.raises(CopyRangeError, match="takes data of shape"):
        x.write(np.zeros(0, "uint8"))
    with pytest.raises(UnsupportedValueError):
        board.empty(4, "handle").numpy()
