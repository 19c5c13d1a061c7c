"""What a stock client of TVM does with a board, check by check. Run by the Python that has apache-tvm, not by pytest.

    python client_checks.py HOST:PORT [--key KEY] [--tracker HOST:PORT] [--largest BYTES] [--copy BYTES]

It prints a line for each check and exits with 1 where one fails. It does not import microrpc: what it expects is what a
client of TVM's own server may expect, and what docs/tvm_serve.md says of boards.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import gc
import math
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import rpc

DEADLINE_S = 60.0  # of one check; a client that waits cannot be interrupted otherwise
DTYPES = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "bool"),
)


class Remote:
    """The board: where it is, and the session that most checks share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.host, _, port = options.server.rpartition(":")
        self.port = int(port)
        self._session: Any = None

    def open(self, **options: Any) -> Any:
        """Open a session: through the tracker where there is one."""
        if self.options.tracker:
            return self.tracker().request(self.options.key, **options)
        return rpc.connect(self.host, self.port, self.options.key, **options)

    def tracker(self) -> Any:
        host, _, port = self.options.tracker.rpartition(":")
        return rpc.connect_tracker(host, int(port))

    @property
    def session(self) -> Any:
        if self._session is None:
            self._session = self.open()
        return self._session

    def close(self) -> None:
        """End the session that is shared: a board has one at a time."""
        self._session = None
        gc.collect()

    @property
    def device(self) -> Any:
        return self.session.cpu(0)

    def __getattr__(self, name: str) -> Any:
        """A function of the board's system library."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self.session.system_lib()[name]

    def tensor(self, array: Any) -> Any:
        return tvm.runtime.tensor(np.asarray(array), self.device)

    def empty(self, shape: Any, dtype: str = "float32", **options: Any) -> Any:
        return tvm.runtime.empty(shape, dtype, self.device, **options)


@dataclass(frozen=True)
class Check:
    name: str
    function: Callable[[Remote], None]
    needs: str = ""
    """An option without which there is nothing to check."""


CHECKS: list[Check] = []


def check(function: Callable[[Remote], None]) -> Callable[[Remote], None]:
    CHECKS.append(Check(function.__name__.replace("_", " "), function))
    return function


def check_with(option: str) -> Callable[[Callable[[Remote], None]], None]:
    """A check that is made where an option was given."""
    return lambda function: CHECKS.append(Check(function.__name__.replace("_", " "), function, option))


def check_each(what: str, values: Any) -> Callable[[Callable[[Remote, Any], None]], Callable[[Remote, Any], None]]:
    """A check for each of the values."""

    def add(function: Callable[[Remote, Any], None]) -> Callable[[Remote, Any], None]:
        for value in values:
            name = f"{function.__name__.replace('_', ' ')}: {what} {value}"
            CHECKS.append(Check(name, lambda remote, value=value: function(remote, value)))
        return function

    return add


@contextmanager
def raises(*words: str, kind: type[BaseException] = Exception) -> Iterator[None]:
    """Want an error with these words; the session has to go on after it."""
    try:
        yield
    except kind as caught:
        error = caught
    else:
        raise AssertionError(f"no error; {words} was expected")
    missing = [word for word in words if word not in str(error)]
    assert not missing, f"{type(error).__name__} without {missing}: {error}"


def goes_on(remote: Remote) -> None:
    assert remote.session.get_function("add")(20, 22) == 42


# --- look-ups -----------------------------------------------------------------------------------------------


@check
def a_function_of_the_global_registry_is_found_and_called(remote: Remote) -> None:
    assert remote.session.get_function("add")(2, 3) == 5


@check
def a_missing_function_is_an_attribute_error(remote: Remote) -> None:
    with raises("no.such.function", kind=AttributeError):
        remote.session.get_function("no.such.function")


@check_each("name", ["", "é€\U0001f600", "x" * 1000, "a b", "-timeout=1"])
def odd_names_are_missing_too(remote: Remote, name: str) -> None:
    with raises(kind=AttributeError):
        remote.session.get_function(name)
    goes_on(remote)


@check
def a_function_of_the_system_library_is_found(remote: Remote) -> None:
    library = remote.session.system_lib()
    assert library.get_function("mul")(6, 7) == 42
    assert library["mul"](2.5, 4) == 10.0


@check
def a_function_that_the_library_does_not_have_is_an_attribute_error(remote: Remote) -> None:
    with raises("no_such", kind=AttributeError):
        remote.session.system_lib().get_function("no_such")


@check
def a_function_outlives_its_module(remote: Remote) -> None:
    library = remote.session.system_lib()
    mul = library.get_function("mul")
    del library
    gc.collect()
    assert mul(3, 4) == 12


@check
def a_function_that_was_looked_up_twice_survives_one_of_the_two(remote: Remote) -> None:
    one, other = (remote.session.get_function("add") for _ in range(2))
    del one
    gc.collect()
    assert other(1, 1) == 2


@check
def hundreds_of_handles_are_freed_in_any_order(remote: Remote) -> None:
    adder = remote.adder
    held = [adder(n) for n in range(300)]
    order = list(range(300))
    random.Random(7).shuffle(order)
    for n in order[:200]:
        held[n] = None
    for n in order[200:]:
        assert held[n](1) == n + 1
    held.clear()
    goes_on(remote)


# --- values there and back ----------------------------------------------------------------------------------


@check_each("of", [(-(2**63), 1), (2**62, 2**62 - 1), (2**31, -1), (0, 0)])
def whole_numbers_are_exact(remote: Remote, pair: tuple[int, int]) -> None:
    result = remote.session.get_function("add")(*pair)
    assert type(result) is int
    assert result == sum(pair)


@check
def whole_numbers_wrap_around_at_64_bits(remote: Remote) -> None:
    assert remote.session.get_function("add")(2**63 - 1, 1) == -(2**63)


@check_each("of", [(0.1, 0.2), (1e300, 1e300), (math.inf, 1.0), (-0.0, -0.0), (5e-324, 0.0)])
def floats_are_exact(remote: Remote, pair: tuple[float, float]) -> None:
    result = remote.fadd(*pair)
    assert type(result) is float
    assert np.float64(result).tobytes() == np.float64(pair[0] + pair[1]).tobytes()


@check
def nan_stays_nan(remote: Remote) -> None:
    assert math.isnan(remote.fadd(math.nan, 1.0))


@check
def a_bool_is_a_number_there(remote: Remote) -> None:
    assert remote.session.get_function("add")(True, 2) == 3
    assert remote.session.get_function("add")(False, 0) == 0


@check
def nothing_is_none(remote: Remote) -> None:
    assert remote.noop() is None
    assert remote.describe(None, None) == "2:4,4"


@check_each("with characters", [0, 1, 7, 8, 300])
def texts_come_back(remote: Remote, count: int) -> None:
    text = "abcdefghij"[: count % 10] + "0123456789" * (count // 10)
    assert remote.echo_str(text) == text


@check
def texts_of_every_alphabet_come_back(remote: Remote) -> None:
    assert remote.echo_str("héllo €5 \U0001f600") == "héllo €5 \U0001f600"
    assert remote.reverse("a€\U0001f600b") == "b\U0001f600€a"


@check
def a_text_ends_at_the_first_nul(remote: Remote) -> None:
    assert remote.echo_str("ab\0cd") == "ab"


@check_each("with bytes", [0, 1, 7, 8, 256, 700])
def bytes_come_back(remote: Remote, count: int) -> None:
    data = bytes(n % 256 for n in range(count))
    assert bytes(remote.echo_bytes(data)) == data
    assert bytes(remote.reverse(bytearray(data))) == data[::-1]


@check
def every_kind_of_argument_arrives_as_what_it_is(remote: Remote) -> None:
    kinds = remote.describe(
        1, 2.0, None, "s", b"b", remote.empty((2,)), tvm.DataType("int8"), remote.device, ctypes.c_void_p(1)
    )
    assert kinds == "9:0,2,4,11,12,7,5,6,3", kinds


@check
def a_module_is_an_argument(remote: Remote) -> None:
    assert remote.describe(remote.session.system_lib()) == "1:9"


@check
def no_arguments_and_many_of_them(remote: Remote) -> None:
    assert remote.describe() == "0:"
    assert remote.describe(*range(40)) == "40:" + ",".join("0" * 40)


@check
def a_function_is_a_result(remote: Remote) -> None:
    add_40, add_half = remote.adder(40), remote.adder(0.5)
    assert (add_40(2), add_half(1)) == (42, 1.5)
    del add_40
    gc.collect()
    assert add_half(2) == 2.5


@check_each("with elements", [0, 1, 5, 1000])
def a_tensor_is_a_result(remote: Remote, count: int) -> None:
    result = remote.iota(count)
    assert result.shape == (count,)
    if count:
        assert np.array_equal(result.numpy(), np.arange(count, dtype="float32"))


@check
def tensors_that_were_results_are_given_back(remote: Remote) -> None:
    iota = remote.iota
    for _ in range(300):
        result = iota(1000)  # 1.2 MB in all: more than small boards have
    assert result.numpy()[-1] == 999
    assert remote.sum_f32(result) == 499500.0


# --- exceptions ---------------------------------------------------------------------------------------------


@check
def what_fails_on_the_board_is_an_error_with_its_words(remote: Remote) -> None:
    with raises("fail: this function always fails"):
        remote.fail()
    goes_on(remote)


@check
def an_error_without_words_is_one_too(remote: Remote) -> None:
    with raises():
        remote.fail_silent()
    goes_on(remote)


@check
def a_wrong_argument_is_an_error(remote: Remote) -> None:
    with raises("argument 0: Str expected"):
        remote.echo_str(1)
    with raises("add: want (int, int)"):
        remote.session.get_function("add")("a", 1)
    with raises("add: want (int, int)"):
        remote.session.get_function("add")(1)
    goes_on(remote)


@check
def tensors_of_the_wrong_shape_and_type_are_errors(remote: Remote) -> None:
    a, b = remote.tensor(np.zeros((2, 3), "float32")), remote.tensor(np.zeros((2, 3), "float32"))
    with raises("matmul_f32: the shapes do not match"):
        remote.matmul_f32(a, b, a)
    with raises():
        remote.relu_f32(remote.tensor(np.zeros(4, "int32")))
    goes_on(remote)


@check
def what_a_client_cannot_pass_does_not_harm_the_session(remote: Remote) -> None:
    add = remote.session.get_function("add")
    for argument in ([1, 2], {"a": 1}, np.zeros(2), tvm.runtime.tensor(np.zeros(2)), tvm.cpu(0), add):
        with raises():
            add(argument, 1)
    goes_on(remote)


@check
def more_than_a_board_takes_in_a_request_is_an_error(remote: Remote) -> None:
    with raises():
        remote.echo_bytes(bytes(1 << 20))
    with raises():
        remote.echo_str("x" * (1 << 20))
    goes_on(remote)


@check
def a_null_pointer_called_as_a_tensor_is_an_error(remote: Remote) -> None:
    with raises():
        remote.relu_f32(ctypes.c_void_p(0))
    with raises():
        remote.relu_f32(None)
    goes_on(remote)


# --- tensors ------------------------------------------------------------------------------------------------


@check_each("dtype", DTYPES)
def tensors_come_back(remote: Remote, dtype: str) -> None:
    chance = np.random.default_rng(3)
    array = chance.integers(0, 2 if dtype == "bool" else 100, (3, 5, 7)).astype(dtype)
    x = remote.tensor(array)
    assert (x.shape, str(x.dtype)) == ((3, 5, 7), dtype)
    back = x.numpy()
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


@check_each("shape", [(), (1,), (0,), (3, 0, 2), (1, 2, 3, 4, 5, 6)])
def tensors_of_every_shape_come_back(remote: Remote, shape: tuple[int, ...]) -> None:
    array = np.arange(math.prod(shape), dtype="int32").reshape(shape)
    x = remote.tensor(array) if array.size else remote.empty(shape, "int32")
    assert x.shape == shape
    if array.size:
        assert np.array_equal(x.numpy(), array)


@check
def a_large_tensor_comes_back(remote: Remote) -> None:
    array = np.random.default_rng(1).integers(0, 256, remote.options.copy).astype("uint8")
    assert np.array_equal(remote.tensor(array).numpy(), array)


@check
def memory_is_given_back(remote: Remote) -> None:
    for _ in range(40):
        x = remote.empty((remote.options.largest // 2,), "uint8")
        del x
    goes_on(remote)


@check
def more_memory_than_there_is_is_an_error(remote: Remote) -> None:
    with raises():
        remote.empty((1 << 40,), "uint8")
    with raises():
        remote.empty((1 << 31, 1 << 31), "float64")
    goes_on(remote)


@check
def many_tensors_are_freed_in_any_order(remote: Remote) -> None:
    held = [remote.tensor(np.full(4, n, "int32")) for n in range(60)]
    order = list(range(60))
    random.Random(5).shuffle(order)
    for n in order[:40]:
        held[n] = None
    assert all((held[n].numpy() == n).all() for n in order[40:])


@check
def a_function_changes_a_tensor_in_place(remote: Remote) -> None:
    x = remote.tensor(np.array([-1.5, 0.0, 2.5], "float32"))
    remote.relu_f32(x)
    assert x.numpy().tolist() == [0.0, 0.0, 2.5]
    remote.scale_f32(x, 2.0)
    assert x.numpy().tolist() == [0.0, 0.0, 5.0]
    assert remote.sum_f32(x) == 5.0


@check_each("dtype", ["int8", "uint16", "int32", "float32", "float64"])
def a_function_takes_tensors(remote: Remote, dtype: str) -> None:
    array = np.arange(50).astype(dtype)
    x = remote.tensor(array)
    remote.inc_tensor(x)
    assert np.array_equal(x.numpy(), array + 1)


@check
def a_product_of_matrices_is_exact(remote: Remote) -> None:
    chance = np.random.default_rng(2)
    a, b = chance.integers(-9, 9, (5, 7)).astype("float32"), chance.integers(-9, 9, (7, 3)).astype("float32")
    out = remote.empty((5, 3))
    remote.matmul_f32(remote.tensor(a), remote.tensor(b), out)
    assert np.array_equal(out.numpy(), a @ b)


@check
def a_bool_tensor_as_an_argument_is_taken_or_refused(remote: Remote) -> None:
    x = remote.tensor(np.array([True, False]))
    try:
        answer = remote.describe(x)
    except Exception as error:
        answer = str(error)
    assert answer == "1:7" or "dtype" in answer, answer
    assert x.numpy().tolist() == [True, False]
    goes_on(remote)


@check
def a_view_has_the_same_memory(remote: Remote) -> None:
    x = remote.tensor(np.arange(6, dtype="float32"))
    view = x._create_view((2, 3))
    assert view.numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    remote.scale_f32(view, 2.0)
    assert x.numpy().tolist() == [0, 2, 4, 6, 8, 10]


@check
def a_tensor_is_overwritten(remote: Remote) -> None:
    x = remote.empty((4,), "int16")
    x.copyfrom(np.array([1, 2, 3, 4], "int16"))
    assert x.numpy().tolist() == [1, 2, 3, 4]
    x[:] = np.array([5, 6, 7, 8], "int16")
    assert x.numpy().tolist() == [5, 6, 7, 8]


@check
def a_tensor_is_copied_to_this_computer(remote: Remote) -> None:
    array = np.arange(12, dtype="float64").reshape(3, 4)
    assert np.array_equal(remote.tensor(array).copyto(tvm.cpu()).numpy(), array)


@check
def a_tensor_is_copied_on_the_board(remote: Remote) -> None:
    x, y = remote.tensor(np.arange(1000, dtype="int32")), remote.empty((1000,), "int32")
    x.copyto(y)
    z = y.copyto(remote.device)
    del x, y
    gc.collect()
    assert np.array_equal(z.numpy(), np.arange(1000))


@check
def a_tensor_is_printed(remote: Remote) -> None:
    text = str(remote.tensor(np.array([1, 2, 3], "int32")))
    assert "1 2 3" in text, text


@check
def memory_with_a_scope_is_had(remote: Remote) -> None:
    x = remote.empty((2, 2), "float32", mem_scope="global")
    x.copyfrom(np.eye(2, dtype="float32"))
    assert np.array_equal(x.numpy(), np.eye(2))


@check
def a_type_that_boards_do_not_have_is_an_error(remote: Remote) -> None:
    with raises():
        remote.describe(remote.empty((4,), "float8_e4m3fn"))
    goes_on(remote)


# --- devices ------------------------------------------------------------------------------------------------


@check
def the_cpu_exists_and_others_do_not(remote: Remote) -> None:
    assert remote.device.exist
    assert not remote.session.cuda(0).exist
    assert not remote.session.ext_dev(0).exist


@check
def attributes_of_the_cpu_are_none_or_numbers(remote: Remote) -> None:
    names = (
        *("max_threads_per_block", "warp_size", "max_shared_memory_per_block", "compute_version", "max_clock_rate"),
        *("multi_processor_count", "api_version", "driver_version", "l2_cache_size_bytes", "total_global_memory"),
        *("available_global_memory", "device_name"),
    )
    for name in names:
        value = getattr(remote.device, name)
        assert value is None or isinstance(value, int | str), (name, value)
    goes_on(remote)


@check
def synchronising_does_no_harm(remote: Remote) -> None:
    remote.device.sync()
    goes_on(remote)


@check
def streams_can_be_made_set_and_freed(remote: Remote) -> None:
    stream = remote.device.create_raw_stream()
    remote.device.set_raw_stream(stream)
    remote.device.sync(stream)
    remote.device.free_raw_stream(stream)
    goes_on(remote)


@check
def memory_of_a_device_that_is_not_there_is_an_error(remote: Remote) -> None:
    with raises():
        tvm.runtime.empty((4,), "float32", remote.session.cuda(0))
    with raises():
        tvm.runtime.empty((4,), "float32", remote.session.cpu(1))
    goes_on(remote)


# --- time evaluators ----------------------------------------------------------------------------------------


@check
def a_function_of_a_module_is_timed(remote: Remote) -> None:
    evaluator = remote.session.system_lib().time_evaluator("sleep_ms", remote.device, number=2, repeat=3)
    results = evaluator(5).results
    assert len(results) == 3
    assert all(0.0049 < seconds < 5 for seconds in results), results


@check
def a_function_is_timed_with_tensors(remote: Remote) -> None:
    x = remote.tensor(np.ones(64, "float32"))
    library, options = remote.session.system_lib(), {"number": 3, "repeat": 2, "limit_zero_time_iterations": 0}
    evaluator = library.time_evaluator("scale_f32", remote.device, **options)
    assert len(evaluator(x, 2.0).results) == 2
    assert x.numpy()[0] in (2.0**6, 2.0**7), x.numpy()[0]  # TVM's server runs it once more than is timed


@check
def a_repeat_lasts_as_long_as_is_asked(remote: Remote) -> None:
    library, begun = remote.session.system_lib(), time.monotonic()
    evaluator = library.time_evaluator("sleep_ms", remote.device, number=1, repeat=2, min_repeat_ms=40)
    (first, second) = evaluator(4).results
    assert min(first, second) > 0.0039
    assert time.monotonic() - begun < 30


@check
def a_session_times_by_name(remote: Remote) -> None:
    evaluator = remote.session._sess.time_evaluator("sleep_ms", remote.device, number=1, repeat=2)
    results = evaluator(2).results
    assert len(results) == 2
    assert min(results) > 0.0019


@check
def timing_what_is_missing_is_an_error(remote: Remote) -> None:
    with raises():
        remote.session.system_lib().time_evaluator("no_such", remote.device)(1)
    goes_on(remote)


@check
def timing_what_fails_is_an_error(remote: Remote) -> None:
    with raises("always fails"):
        remote.session.system_lib().time_evaluator("fail", remote.device, number=1)()
    goes_on(remote)


# --- files --------------------------------------------------------------------------------------------------


@check_each("of bytes", [0, 5, 1 << 20])
def a_file_is_uploaded_and_downloaded(remote: Remote, count: int) -> None:
    data = bytearray(random.Random(1).randbytes(count))
    remote.session.upload(data, "some.bin")
    assert bytes(remote.session.download("some.bin")) == bytes(data)
    remote.session.remove("some.bin")


@check
def a_file_of_this_computer_is_uploaded(remote: Remote) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "there.txt"
        path.write_bytes(b"text")
        remote.session.upload(str(path))
    assert bytes(remote.session.download("there.txt")) == b"text"


@check
def a_file_that_was_removed_is_gone(remote: Remote) -> None:
    remote.session.upload(bytearray(b"x"), "gone.bin")
    remote.session.remove("gone.bin")
    with raises():
        remote.session.download("gone.bin")
    goes_on(remote)


@check
def removing_what_is_not_there_does_no_harm(remote: Remote) -> None:
    for name in ("none.tar", "none.tar.so", ""):
        remote.session.remove(name)
    goes_on(remote)


@check
def a_file_of_the_server_is_not_handed_out(remote: Remote) -> None:
    for name in ("/etc/hostname", "../../../../../../etc/hostname"):
        with raises():
            remote.session.download(name)
    goes_on(remote)


@check
def a_module_is_not_loaded_without_leave(remote: Remote) -> None:
    remote.session.upload(bytearray(b"int x;"), "lib.c")
    with raises("--allow-load"):
        remote.session.load_module("lib.c")
    goes_on(remote)


# --- random numbers -----------------------------------------------------------------------------------------


@check_each("function", ["random_fill", "random_fill_for_measure"])
def a_tensor_is_filled_with_random_numbers(remote: Remote, name: str) -> None:
    x = remote.tensor(np.zeros(1000, "float32"))
    remote.session.get_function(f"tvm.contrib.random.{name}")(x)
    values = x.numpy()
    assert np.isfinite(values).all()
    assert len(np.unique(values)) > 5


# --- sessions -----------------------------------------------------------------------------------------------


@check
def sessions_take_turns(remote: Remote) -> None:
    for n in range(3):
        remote.close()
        session = remote.open()
        assert session.get_function("add")(n, 1) == n + 1
        del session
    goes_on(remote)


@check
def a_second_session_waits_for_the_first(remote: Remote) -> None:
    goes_on(remote)
    other = subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--one-call"], stdout=subprocess.PIPE)
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == b"it asks now\n"  # which takes a while, to import tvm
        time.sleep(1)
        assert other.poll() is None, "the board was had by two at a time"
        goes_on(remote)
        remote.close()
        said, _ = other.communicate(timeout=DEADLINE_S / 2)
        assert (said.strip(), other.returncode) == (b"3", 0)
    finally:
        other.kill()
        other.wait()
    goes_on(remote)


@check
def all_that_a_client_held_is_freed_when_it_goes(remote: Remote) -> None:
    for _ in range(4):
        remote.close()
        held = remote.empty((remote.options.largest // 2,), "uint8")  # a leak of this size is an error before the end
        assert held.shape[0]
        del held
    goes_on(remote)


@check
def a_session_ends_after_the_time_that_was_asked_for(remote: Remote) -> None:
    remote.close()
    session = remote.open(session_timeout=1.5)
    add = session.get_function("add")
    assert add(1, 1) == 2
    time.sleep(2.5)
    with raises("RPCSessionTimeoutError"):
        add(1, 1)
    with raises():
        add(1, 1)
    del add, session
    goes_on(remote)


@check
def a_session_constructor_is_refused(remote: Remote) -> None:
    remote.close()
    with raises("Cannot find session constructor no.such"):
        remote.open(session_constructor_args=["no.such", 1, "text", False])
    with raises():
        remote.open(session_constructor_args=["rpc.Connect", "127.0.0.1", 1, "", False])
    goes_on(remote)


@check
def another_key_is_refused(remote: Remote) -> None:
    remote.close()
    with raises("cannot find server that matches key"):
        rpc.connect(remote.host, remote.port, "another")
    goes_on(remote)


@check_with("tracker")
def a_tracker_lists_the_board(remote: Remote) -> None:
    summary = remote.tracker().summary()
    assert f"server:{remote.options.key}" in [server["key"] for server in summary["server_info"]], summary
    assert remote.options.key in remote.tracker().text_summary()


# --- boards that have more: tests/tvm/extra_board.py ---------------------------------------------------------


@check_with("extra")
def texts_that_are_no_utf8_are_mended(remote: Remote) -> None:
    assert remote.bad_text() == "caf\ufffd"


@check_with("extra")
def errors_that_are_no_utf8_are_mended(remote: Remote) -> None:
    with raises("caf\ufffd"):
        remote.bad_error()
    goes_on(remote)


# ------------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", metavar="HOST:PORT")
    parser.add_argument("--key", default="")
    parser.add_argument("--tracker", metavar="HOST:PORT")
    parser.add_argument("--largest", type=int, default=1 << 20, metavar="BYTES", help="what fits into the board")
    parser.add_argument("--copy", type=int, default=1 << 20, metavar="BYTES", help="what is copied there and back")
    parser.add_argument("--extra", action="store_true", help="the board has functions that give no UTF-8")
    parser.add_argument("--one-call", action="store_true", help="only add two numbers")
    parser.add_argument("-k", default="", metavar="WORDS", help="only the checks with these words")
    options = parser.parse_args()
    faulthandler.enable()
    faulthandler.dump_traceback_later(DEADLINE_S, exit=True)
    if options.one_call:
        print("it asks now", flush=True)
    remote = Remote(options)
    if options.one_call:
        print(remote.session.get_function("add")(1, 2))
        return 0
    chosen = [check for check in CHECKS if options.k in check.name and (not check.needs or vars(options)[check.needs])]
    failed = 0
    for check in chosen:
        faulthandler.dump_traceback_later(DEADLINE_S, exit=True)
        begun = time.monotonic()
        try:
            check.function(remote)
        except Exception as error:
            failed += 1
            where = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
            print(
                f"FAILED  {check.name}: lines {where[1:]}: {type(error).__name__}: {str(error).strip()[-500:]}",
                flush=True,
            )
        else:
            print(f"ok      {check.name} ({time.monotonic() - begun:.2f} s)", flush=True)
        gc.collect()
    remote.close()
    print(f"tvm {tvm.__version__}: {len(chosen)} checks, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
