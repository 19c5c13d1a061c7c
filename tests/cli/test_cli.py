"""The commands, in this process, on simulated boards."""

from __future__ import annotations

import json
import os
import re
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import change_board, run, run_json
from serial.tools.list_ports_common import ListPortInfo
from typer.core import TyperGroup
from typer.main import get_command

import microrpc.connecting.blocking
from firmware_sim.board.device import Device
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc import errors
from microrpc.boards.catalogue import profile
from microrpc.cli import files
from microrpc.cli.commands import app
from microrpc.cli.common import exit_code, format_size, format_time
from microrpc.cli.files import _what_becomes_of_it


def commands_of(group: TyperGroup, *before: str) -> Iterator[tuple[str, ...]]:
    """Give every command there is, and every one below it, as the words that call it."""
    for name, command in group.commands.items():
        yield (*before, name)
        if isinstance(command, TyperGroup):
            yield from commands_of(command, *before, name)


ROOT = get_command(app)
assert isinstance(ROOT, TyperGroup)
COMMANDS = [" ".join(words) for words in commands_of(ROOT)]


@pytest.fixture
def port() -> Iterator[str]:
    """A board that stays."""
    with PtyServer(simulate(profile("loopback"))) as server:
        yield server.path


@pytest.fixture
def impatient(tmp_path: Path) -> Path:
    """A profile with short timeouts."""
    path = tmp_path / "impatient.toml"
    path.write_text(
        'name = "impatient"\ndescription = "d"\nbaud = 115200\npacket_size_bytes = 2048\nheap_bytes = 4096\n'
        "[timeouts]\nstart_retry_s = 0.1\nstart_s = 0.3\ncall_s = 0.3\n"
    )
    return path


# --- help ---------------------------------------------------------------------------------------


def test_the_help_lists_every_command_and_the_exit_codes() -> None:
    result = run("--help")
    assert result.code == 0
    assert {"model profile", "tvm serve", "tvm build"} <= set(COMMANDS)
    listed = re.findall(r"^  (\w+)  ", result.out.partition("Commands:")[2], flags=re.MULTILINE)
    assert listed == [name for name in COMMANDS if " " not in name]
    headings = ["Commands", "What crosses the line", "Boards for other programs", "Firmware and models"]
    assert re.findall(r"^(\w.*):$", result.out, flags=re.MULTILINE) == ["Options", *headings]
    for expected in ("Exit codes:", "130  interrupted", "sim://", "qemu://"):
        assert expected in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_examples_and_fits_into_80_columns(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = run(*command.split(), "--help")
    assert result.code == 0
    assert f"Examples:\n    microrpc {command}" in result.out
    assert [line for line in result.out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("group", ["", "model", "firmware", "tvm"])
def test_what_a_list_says_of_a_command_is_a_whole_sentence(monkeypatch: pytest.MonkeyPatch, group: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = run(*group.split(), "--help").out.partition("Commands:")[2].partition("Examples:")[0]
    said = re.findall(r"^  (\w+) +([A-Z].*)$", listed.partition("What a PORT is:")[0], re.MULTILINE)
    assert len(said) >= 2
    assert [line for line in said if not line[1].endswith(".") or line[1].endswith("...")] == []


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").out == f"microrpc {microrpc.__version__}\n"


# --- info, ports, boards ------------------------------------------------------------------------


def test_info_shows_what_the_board_is() -> None:
    shown = run_json("info", "sim://nucleo_f746zg")
    assert shown["profile"] == "nucleo_f746zg"
    assert (shown["max_packet_bytes"], shown["receive_buffer_bytes"]) == (2037, 2048)
    assert shown["session_id"] & 0xFF
    assert 0 < shown["round_trip_s"] < 1
    assert shown["system_library"] is shown["time_evaluator"] is shown["random_fill"] is True
    text = run("info", "sim://").out
    assert "largest packet  2037 bytes (its receive buffer has 2048)\n" in text
    assert "system library  yes\n" in text


def test_info_shows_the_memory_of_a_board_that_tells_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    change_board(monkeypatch, lambda device: device.memory.alloc(100))
    assert run_json("info", "sim://")["memory"] == {
        "heap_bytes": 262144,
        "used_bytes": 108,
        "free_bytes": 262036,
        "largest_free_bytes": 262024,
        "most_used_bytes": 108,
        "stack_bytes": None,
        "most_stack_bytes": None,
    }
    text = run("info", "sim://").out
    assert "heap            108 of 262144 bytes used, 108 at most; the largest free block has 262024\n" in text
    assert "stack" not in text
    change_board(monkeypatch, lambda device: device.functions.pop("microrpc.memory"))
    assert run_json("info", "sim://")["memory"] is None
    assert "heap" not in run("info", "sim://").out


def test_info_shows_the_stack_of_a_board_that_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(device: Device) -> None:
        device.functions["microrpc.memory"] = lambda: bytes(16) + b"\x00\x10\0\0\xbc\x02\0\0"

    change_board(monkeypatch, change)
    assert "stack           700 of 4096 bytes used at most\n" in run("info", "sim://").out


def test_ports_lists_what_pyserial_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    usb, plain = ListPortInfo("/dev/ttyACM0"), ListPortInfo("/dev/ttyS0")
    usb.description, usb.vid, usb.pid, usb.serial_number = "STLink", 0x483, 0x374B, "066F"
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: [plain, usb])
    assert run_json("ports")["ports"][0] == {
        "device": "/dev/ttyACM0",
        "description": "STLink",
        "usb_id": "0483:374b",
        "serial_number": "066F",
        "boards": ["nucleo_f746zg", "nucleo_l4r5zi", "stm32f746g_disco"],
    }
    assert run("ports").out.splitlines() == [
        "DEVICE        USB ID     SERIAL NUMBER  DESCRIPTION  BOARD",
        "/dev/ttyACM0  0483:374b  066F           STLink       nucleo_f746zg or nucleo_l4r5zi or stm32f746g_disco",
        "/dev/ttyS0    -          -              -            -",
    ]


def test_without_a_port_ports_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serial.tools.list_ports.comports", list)
    result = run("ports")
    assert result.code == 0
    assert "microrpc info sim://" in result.out
    assert run_json("ports") == {"ports": []}


def test_boards_lists_the_profiles() -> None:
    assert "nucleo_f746zg" in run("boards").out
    assert "loopback" in [board["name"] for board in run_json("boards")["boards"]]


# --- call ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "out"),
    [
        (("add", "2", "3"), "5\n"),
        (("add", "-2", "3"), "1\n"),
        (("add", "--", "-2", "3"), "1\n"),
        (("fadd", "1e3", "-.5"), "999.5\n"),
        (("reverse", "hello"), "olleh\n"),
        (("reverse", "bytes:0102ff"), "bytes:ff0201\n"),
        (("echo_str", "str:123"), "123\n"),
        (("noop",), "none\n"),
        (("adder", "1"), "a function on the board\n"),
        (("describe", "1", "2.5", "none", "x", "bytes:00"), "5:0,2,4,11,12\n"),
        (("sum_f32", "tensor:float32[8]"), "0.0\nargument 1: float32[8] 0 0 0 0 0 0 ...  (min 0, max 0, mean 0)\n"),
        (("iota", "3"), "float32[3] 0 1 2  (min 0, max 2, mean 1)\n"),
    ],
)
def test_call_prints_the_result(args: tuple[str, ...], out: str) -> None:
    result = run("call", "sim://", *args)
    assert (result.code, result.out, result.err) == (0, out, "")


@pytest.mark.parametrize(
    ("args", "result", "kind"),
    [
        (("add", "2", "3"), 5, "int"),
        (("fadd", "2", "inf"), "inf", "float"),
        (("reverse", "abc"), "cba", "str"),
        (("reverse", "bytes:0aff"), "ff0a", "bytes"),
        (("noop",), None, "none"),
        (("adder", "1"), None, "function"),
        (("iota", "2"), [0.0, 1.0], "array"),
    ],
)
def test_call_gives_the_result_as_json(args: tuple[str, ...], result: object, kind: str) -> None:
    answer = run_json("call", "sim://", *args)
    assert (answer["result"], answer["type"]) == (result, kind)


def test_call_copies_arrays_there_and_back_into_files(tmp_path: Path) -> None:
    array = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
    np.save(tmp_path / "x.npy", array)
    args = ("call", "sim://", "relu_f32", f"@{tmp_path}/x.npy")
    answer = run_json(*args, "--out", f"1={tmp_path}/y.npy", "--save", tmp_path)
    for name in ("y.npy", "arg1.npy"):
        assert np.array_equal(np.load(tmp_path / name), np.maximum(array, 0))
    assert not (tmp_path / "result.npy").exists()
    assert answer["arrays"]["1"]["shape"] == [3, 4]
    assert np.allclose(answer["arrays"]["1"]["data"], np.maximum(array, 0))
    assert run("call", "sim://", "iota", "4", "--out", f"result={tmp_path}/i.npy").code == 0
    assert np.load(tmp_path / "i.npy").tolist() == [0, 1, 2, 3]


def test_the_log_of_the_board_goes_to_stderr() -> None:
    result = run("call", "sim://", "log", "hello there")
    assert (result.code, result.out, result.err) == (0, "none\n", "board: hello there\n")


# --- put, get -----------------------------------------------------------------------------------


def test_what_put_leaves_there_can_be_used_and_got_back(port: str, tmp_path: Path) -> None:
    array = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.save(tmp_path / "x.npy", array)
    put = run("put", port, tmp_path / "x.npy")
    address, size, kind = put.out.split()
    assert (put.code, size, kind) == (0, "32", "float32[2,4]")
    assert run("call", port, "scale_f32", f"addr:{address}:{kind}", "2").code == 0
    got = run("get", port, address, size, tmp_path / "y.npy", "--dtype", "float32", "--shape", "2,4")
    assert (got.code, got.out) == (0, f"{tmp_path}/y.npy 32 float32[2,4]\n")
    assert np.array_equal(np.load(tmp_path / "y.npy"), array * 2)


def test_any_bytes_come_back_as_they_went(port: str, tmp_path: Path) -> None:
    data = os.urandom(10_001)
    (tmp_path / "data").write_bytes(data)
    put = run_json("put", port, tmp_path / "data")
    assert (put["size_bytes"], put["dtype"], put["shape"]) == (len(data), "uint8", [len(data)])
    assert run_json("get", port, put["address"], len(data), tmp_path / "back")["size_bytes"] == len(data)
    assert (tmp_path / "back").read_bytes() == data


@pytest.mark.parametrize(("dtype", "shape"), [("int16", "2,3"), ("int16x3", "2"), ("bfloat16", "6")])
def test_put_takes_type_and_shape_for_raw_bytes(port: str, tmp_path: Path, dtype: str, shape: str) -> None:
    data = np.arange(6, dtype=np.int16).tobytes()
    (tmp_path / "raw").write_bytes(data)
    put = run_json("put", port, tmp_path / "raw", "--dtype", dtype, "--shape", shape)
    assert (put["dtype"], ",".join(map(str, put["shape"]))) == (dtype, shape)
    back = ("get", port, put["address"], 12, tmp_path / "back", "--dtype", dtype, "--shape", shape)
    assert run(*back).code == 0
    assert (tmp_path / "back").read_bytes() == data


def test_put_tells_that_a_board_of_sim_ends_with_it(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"123")
    result = run("put", "sim://", tmp_path / "data")
    assert (result.code, result.out) == (0, "0x20000000 3 uint8[3]\n")
    assert "microrpc sim" in result.err


def test_put_tells_where_what_it_put_does_not_stay() -> None:
    assert "microrpc sim" in _what_becomes_of_it("sim://rpi_pico")
    assert "microrpc firmware run" in _what_becomes_of_it("qemu://mps2_an385")
    assert "microrpc firmware run" in _what_becomes_of_it("emulated://posix")
    assert "the board's own port" in _what_becomes_of_it("unix:///tmp/board.sock")
    assert "the board's own port" in _what_becomes_of_it("tcp://127.0.0.1:9090")
    for stays in ("/dev/ttyACM0", "COM3", "socket://lab:5000", "rfc2217://lab:5000"):
        assert _what_becomes_of_it(stays) == ""


@pytest.mark.parametrize("is_terminal", [True, False])
def test_put_advises_no_address_that_ends_with_it(
    tmp_path: Path, port: str, is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "is_terminal", lambda stream: is_terminal)
    (tmp_path / "data").write_bytes(b"123")
    assert "use it" not in run("put", "sim://", tmp_path / "data").err
    assert ("use it: microrpc call" in run("put", port, tmp_path / "data").err) is is_terminal


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RemoteError("no"), 1),
        (errors.PortError("p", "no"), 3),
        (errors.PortLostError("p", "gone"), 3),
        (errors.HandshakeTimeoutError("no"), 4),
        (errors.CallTimeoutError("no"), 4),
        (errors.BoardResetError("no"), 4),
        (errors.ProtocolError("3", "no"), 4),
        (errors.FunctionNotFoundError("no"), 5),
        (errors.ProfileError("no"), 5),
        (errors.RequestTooLargeError("no", size_bytes=2, limit_bytes=1), 5),
    ],
)
def test_every_family_of_errors_has_its_exit_code(
    error: errors.MicroRpcError, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exit_code(error) == code

    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(microrpc.connecting.blocking, "connect", fail)
    result = run("info", "/dev/ttyACM0")
    assert (result.code, result.out, result.err) == (code, "", f"error: {error}\n")
    result = run("info", "/dev/ttyACM0", "--json")
    assert (result.code, result.err) == (code, "")
    assert json.loads(result.out) == {"error": {"type": type(error).__name__, "message": str(error)}}


def test_what_cannot_be_saved_is_known_before_the_call(tmp_path: Path) -> None:
    (tmp_path / "result.npy").mkdir()
    result = run("call", "no such port", "iota", "1", "--save", tmp_path)
    assert (result.code, result.err) == (6, f"error: cannot write {tmp_path}/result.npy: it is a directory\n")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("call", "sim://", "fail"), 1, "this function always fails"),
        (("call", "sim://", "add", "1", "--jsn"), 2, "no option --jsn"),
        (("call", "sim://", "add", "1", "--out", "1=x.npy"), 2, "argument 1 is no array"),
        (("call", "sim://", "iota", "1", "--out", "x.npy"), 2, "write --out N=FILE"),
        (("call", "sim://", "iota", "1", "--out", "result=/no/such/x.npy"), 6, "no directory /no/such"),
        (("call", "sim://", "iota", "1", "--save", "/no/such"), 6, "no such directory"),
        (("call", "sim://", "fail"), 1, "fail"),
        (("call", "sim://", "add"), 5, "a: any, b: any"),
        (("call", "/dev/no-such-port", "add"), 3, "no port /dev/no-such-port"),
        (("call", "sim://", "sleep_ms", "1000", "--timeout", "0.3"), 4, "no reply"),
        (("call", "sim://", "no_such_function"), 5, "neither its global registry nor its system library"),
        (("call", "sim://", "add", str(2**80), "1"), 5, "int out of range"),
        (("call", "sim://", "add", "1", "2", "--timeout", "nan"), 2, "--timeout nan"),
        (("info", "sim://no_such_board"), 5, "no board profile 'no_such_board'"),
        (("info", "sim://", "--board-file", "/no/such.toml"), 6, "cannot be read"),
        (("info", "sim://", "--board-file", "/dev/null"), 5, "/dev/null: "),
        (("info", "sim://", "--capture", "/no/such/x"), 6, "cannot write the capture /no/such/x"),
        (("info", "sim://", "--trace=/no/such/x"), 6, "--trace: cannot write /no/such/x"),
        (("sim", "--faults", "/no/such.toml"), 6, "cannot be read"),
        (("decode", "/no/such"), 6, "/no/such: No such file"),
        (("decode", "/dev/null"), 5, "/dev/null: it is empty"),
        (("put", "sim://", "/no/such/file"), 6, "cannot read /no/such/file"),
        (("get", "sim://", "there", "4", "x"), 2, "'there' is not an address"),
        (("get", "sim://", "0x20000000", "4", "/no/such/x"), 6, "cannot write /no/such/x"),
        (("get", "sim://", "0x20000000", "4", "x", "--dtype", "float32", "--shape", "2"), 2, "has 8"),
        (("get", "sim://", "0x20000000", "4", "/tmp/never-written"), 1, "not inside an allocated block"),
        (("get", "sim://", "0x20000000", str(10**17), "/tmp/never-written"), 5, "cannot be copied to this computer"),
        (("get", "sim://", str(2**64 - 1), "4", "/tmp/never-written"), 5, "are no memory"),
        (("call", "sim://", "add", "9" * 5000), 2, "a number of 5000 digits"),
        (("info", "sim://", "--baud", str(2**40)), 5, "a baud rate is a whole number"),
        (("info", f"tcp://localhost:{'9' * 5000}"), 3, "write tcp://HOST:PORT"),
        (("info", f"socket://localhost:{'9' * 5000}"), 3, "write socket://HOST:PORT"),
        (("sim", "--tcp", "9" * 5000), 2, "write HOST:PORT, or PORT alone"),
    ],
)
def test_what_goes_wrong_is_one_message_and_an_exit_code(args: tuple[str, ...], code: int, message: str) -> None:
    result = run(*args)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert message in result.err
    assert not Path("/tmp/never-written").exists()


@pytest.mark.parametrize("args", [("-h",), ("sim://", "-h"), ("--help",)])
def test_the_help_of_call_comes_by_both_names(args: tuple[str, ...]) -> None:
    result = run("call", *args)
    assert result.code == 0
    assert "Examples:\n    microrpc call" in result.out
    assert run("call", "sim://", "echo_str", "-h").out == "-h\n"


def test_an_error_speaks_of_the_port_and_the_options_as_they_were_typed() -> None:
    slow = run("call", "sim://", "sleep_ms", "1500", "--timeout", "1")
    assert "longer timeout," in slow.err
    assert "timeout_s" not in slow.err
    unknown = run("call", "sim://rpi_pico", "nothing")
    assert unknown.err.startswith("error: sim://rpi_pico has no function 'nothing'")


def test_a_missing_argument_is_wrong_usage() -> None:
    assert run("call", "sim://").code == 2
    assert run("no-such-command").code == 2


def test_a_port_without_a_board_ends_in_time(impatient: Path) -> None:
    board_fd, host_fd = os.openpty()
    tty.setraw(host_fd)
    try:
        result = run("info", os.ttyname(host_fd), "--board-file", impatient)
        assert (result.code, result.out) == (4, "")
        assert f"no session with the board on {os.ttyname(host_fd)} at 115200 baud within 0.3 s" in result.err
        assert "Nothing came from it." in result.err
        start = time.monotonic()
        result = run("call", os.ttyname(host_fd), "add", "1", "2", "--timeout", "0.2")
        assert result.code == 4
        assert "at 115200 baud within 0.2 s. Nothing came from it." in result.err
        assert time.monotonic() - start < 3
    finally:
        os.close(board_fd)
        os.close(host_fd)


def test_ctrl_c_ends_a_command_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(microrpc.connecting.blocking, "connect", interrupt)
    result = run("info", "sim://")
    assert (result.code, result.out, result.err) == (130, "", "")


# --- figures ------------------------------------------------------------------------------------


def test_sizes_and_times_have_fitting_units() -> None:
    assert [format_size(size) for size in (0, 999, 65536, 1.55e6, 2e9)] == [
        "0 B",
        "999 B",
        "65.5 kB",
        "1.55 MB",
        "2 GB",
    ]
    assert [format_time(t) for t in (2.0, 0.0422, 4.3e-6, 5e-9)] == ["2 s", "42.2 ms", "4.3 us", "5 ns"]
