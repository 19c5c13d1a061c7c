"""`microrpc firmware`, and commands on emulated boards."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import devices
import needs
import pytest
from commands import run, run_json
from processes import COMMAND, first_line
from processes import run as run_process

import microrpc
from microrpc.boards.catalogue import profile
from microrpc.errors import FirmwareError
from microrpc.firmware.build import build
from microrpc.firmware.elf import read_sizes
from microrpc.firmware.images import ImageFormat, make_image
from microrpc.firmware.new import _port_file, new_project
from microrpc.firmware.project import firmware_directory, load_port, port_names, read_project

POSIX = firmware_directory() / "ports" / "posix"


@contextlib.contextmanager
def running(*args: object) -> Iterator[subprocess.Popen[str]]:
    """Run `microrpc firmware run`."""
    process = subprocess.Popen(
        [*COMMAND, "firmware", "run", *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


# --- list and build ---------------------------------------------------------------------------


def test_the_boards_that_firmware_can_be_built_for_are_listed() -> None:
    assert [board["name"] for board in run_json("firmware", "list")["boards"]] == port_names()
    lines = run("firmware", "list").out.splitlines()
    assert lines[0].split() == ["BOARD", "TARGET", "FLASHED", "BY", "DESCRIPTION"]
    assert any(line.startswith("posix ") and "this computer" in line for line in lines)


def test_the_list_says_how_each_board_is_flashed() -> None:
    for board in run_json("firmware", "list")["boards"]:
        ways = [way.tool for way in profile(board["name"]).ways_to_flash]
        assert board["flashed_by"] == (["mpremote"] if board["name"] == "micropython" else ways)


def test_a_build_shows_sizes_and_gives_the_file(tmp_path: Path) -> None:
    needs.zig()
    out = tmp_path / "firmware.elf"
    shown = run_json("firmware", "build", "qemu_mps2_an385", "--out", out)
    sizes = read_sizes(out)
    assert shown["elf"] == str(out)
    assert (shown["flash_bytes"], shown["ram_bytes"]) == (sizes.flash_bytes, sizes.ram_bytes)
    assert run_json("firmware", "build", "qemu_mps2_an385")["is_new"] is False
    text = run("firmware", "build", "qemu_mps2_an385").out
    assert [line.split()[0] for line in text.splitlines()] == ["board", "compiler", "flash", "RAM", "ELF"]
    assert "built before" in text
    assert f"{sizes.flash_bytes} bytes" in text


def test_a_build_is_written_in_the_form_that_the_name_of_the_file_ends_with(tmp_path: Path) -> None:
    needs.zig()
    shown = run_json("firmware", "build", "rpi_pico", "--out", tmp_path / "x.UF2")
    assert shown["image"] == str(tmp_path / "x.UF2")
    elf = Path(shown["elf"])
    assert (tmp_path / "x.UF2").read_bytes() == make_image(elf, ImageFormat.UF2, uf2_family=0xE48BFF56)
    text = run("firmware", "build", "rpi_pico", "--out", tmp_path / "x.bin").out
    assert [line.split()[0] for line in text.splitlines()] == ["board", "compiler", "flash", "RAM", "ELF", "image"]
    assert (tmp_path / "x.bin").read_bytes() == make_image(elf, ImageFormat.BIN)


def test_a_build_that_takes_place_is_told_at_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.emulated("qemu_mps2_an385")
    monkeypatch.setattr("microrpc.firmware.build.cache_directory", lambda: tmp_path)
    for said in (r"building qemu_mps2_an385 with zig \S+ \.\.\.\n", ""):
        result = run("call", "qemu://mps2_an385", "add", 2, 3)
        assert (result.code, result.out) == (0, "5\n")
        assert re.fullmatch(said, result.err)


def test_a_define_makes_another_firmware() -> None:
    needs.zig()
    usual = run_json("firmware", "build", "qemu_mps2_an385")["code_bytes"]
    assert run_json("firmware", "build", "qemu_mps2_an385", "--define", "MICRORPC_LINK=0")["code_bytes"] < usual


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("build", "arduino_due"), 5, "there is no firmware for 'arduino_due'"),
        (("build", "."), 5, "has no port.toml"),
        (("build", str(POSIX)), 5, "posix: is a port, and no project: give its name, posix"),
        (("new", "my sketch", "--board", "arduino"), 5, "Arduino takes no 'my sketch'"),
        (("new", "./-x", "--board", "arduino"), 5, "Arduino takes no '-x'"),
        (("new", "x" * 64, "--board", "arduino"), 5, "Arduino takes no 'xxxx"),
        (("build", "posix", "--compiler", "cc"), 2, "--compiler cc: must be zig or gcc"),
        (
            ("build", "arduino_uno", "--compiler", "gcc"),
            5,
            "arduino_uno is a sketch, which Arduino's own tools build: leave",
        ),
        (("build", "micropython", "--compiler", "gcc"), 5, "micropython is a script, which nothing compiles: leave"),
        (("build", "posix", "--define", "1"), 5, "'1' cannot be defined: write NAME=VALUE"),
        (("run", "loopback"), 5, "there is no firmware for 'loopback'"),
        (("new", "x", "--board", "loopback"), 5, "there is no firmware for 'loopback'. There is for: "),
        (("new", "x", "--board", "uno"), 5, "there is no firmware for 'uno'; did you mean 'arduino_uno'? There is "),
        (
            ("new", "x", "--board", "esp32"),
            5,
            ". For another board: `new DIR --board arduino`, where Arduino's tools know it, zephyr",
        ),
        (("run", "no_such"), 5, "there is no firmware for 'no_such' and no such directory. There is for: "),
        (("new", "in_the_way"), 5, "in_the_way: is there already, and not empty: nothing was changed"),
        (("new", "in_the_way/file"), 5, "file: is there already, and not empty: nothing was changed"),
        (("new", "in_the_way/file/x"), 6, "x: cannot be written: Not a directory"),
    ],
)
def test_what_cannot_be_is_one_message(
    args: tuple[str, ...], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in_the_way").mkdir()
    (tmp_path / "in_the_way" / "file").touch()
    result = run("firmware", *args)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert message in result.err
    assert [path.name for path in tmp_path.rglob("*")] == ["in_the_way", "file"]


def test_what_is_missing_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    needs.zig()
    monkeypatch.setenv("PATH", "")
    result = run("info", "qemu://mps2_an385")
    remedy = "apt-get install --no-install-recommends qemu-system-arm"
    assert (result.code, result.out) == (3, "")
    assert result.err == (f"error: qemu_mps2_an385 runs in qemu-system-arm, which is not installed: {remedy}\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run("demo", "--board", "posix")
    assert (result.code, result.out) == (5, "")
    assert "pip install 'microrpc[firmware]'" in result.err


# --- commands on emulated boards --------------------------------------------------------------


def test_commands_start_an_emulated_board(tmp_path: Path) -> None:
    needs.emulated("qemu_mps2_an385")
    assert run("call", "qemu://mps2_an385", "add", 2, 3).out == "5\n"
    shown = run_json("info", "--board", "qemu_mps2_an385")
    assert (shown["port"], shown["profile"]) == ("qemu://mps2_an385", "qemu_mps2_an385")
    assert shown["receive_buffer_bytes"] == 2048
    (tmp_path / "data").write_bytes(b"123")
    assert run("put", "qemu://mps2_an385", tmp_path / "data").code == 0


def test_an_emulated_board_is_shared(tmp_path: Path) -> None:
    needs.emulated("qemu_mps2_an385")
    command = [*COMMAND, "share", "qemu://mps2_an385", "--socket", str(tmp_path / "s")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sharing:
        try:
            url = first_line(sharing)
            assert run("call", url, "add", 2, 3).out == "5\n"
            sharing.send_signal(signal.SIGINT)
            assert sharing.wait(20) == 0
        finally:
            sharing.kill()


# --- run --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_firmware_runs_until_a_signal(number: signal.Signals) -> None:
    needs.emulated("posix")
    build(load_port("posix"))  # or the command says that it builds
    with running("posix") as process:
        port = first_line(process)
        for _ in range(2):
            assert run("call", port, "add", 2, 3).out == "5\n"
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_firmware_that_ends_by_itself_is_an_error(tmp_path: Path) -> None:
    needs.zig()
    (tmp_path / "port.toml").write_text('[build]\nsources = ["main.c"]\n')
    (tmp_path / "main.c").write_text("int main(void) { return 3; }\n")
    result = run("firmware", "run", tmp_path)
    assert (result.code, result.out) == (3, "")
    assert f"the emulator of {tmp_path.name} does not run: it ended at once, with 3" in result.err


def test_how_a_firmware_ended_by_itself_is_told(tmp_path: Path) -> None:
    needs.emulated("posix")
    directory = tmp_path / "mine"
    run("firmware", "new", directory, "--board", "posix")
    functions = directory / "functions.c"
    ends = "(void)call;\n    exit(7);\n    int64_t a ="
    functions.write_text("#include <stdlib.h>\n" + functions.read_text().replace("int64_t a =", ends, 1))
    with running(directory) as process:
        assert run("call", first_line(process), "add", 2, 3).code == 3
        assert process.wait(20) == 3
        assert process.stderr is not None
        assert process.stderr.read().splitlines()[-1] == "error: the emulator of mine has ended, with 7"


@pytest.mark.parametrize("words", [("build",), ("run",), ("flash", "rpi_pico")])
def test_a_sketch_for_the_arduino_ide_is_told_who_builds_it(tmp_path: Path, words: tuple[str, ...]) -> None:
    sketch = tmp_path / "my_sketch"
    assert run("firmware", "new", sketch, "--board", "arduino").code == 0
    result = run("firmware", *words, sketch)
    told = f"error: {sketch}: is a sketch, which the Arduino IDE or arduino-cli builds and uploads\n"
    assert (result.code, result.out, result.err) == (5, "", told)


# --- new --------------------------------------------------------------------------------------


@pytest.mark.parametrize("board", devices.port_params(are_run=True))
def test_a_new_project_is_built_and_its_functions_called(tmp_path: Path, board: str) -> None:
    needs.emulated(board)
    directory = tmp_path / "my_project"
    made = run("firmware", "new", directory, "--board", board)
    assert (made.code, made.err) == (0, "")
    assert f"Try: microrpc firmware build {directory}" in made.out
    built = run("firmware", "build", directory)
    assert built.code == 0, built.err
    with running(directory) as process:
        port = first_line(process)
        (example,) = re.findall(r"```python\n(.*?)```", (directory / "README.md").read_text(), flags=re.DOTALL)
        assert f'board="{board}"' in example
        done = subprocess.run(
            [COMMAND[0], "-c", re.sub(r"/dev/(pts/7|ttyACM0)", port, example)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.stdout, done.stderr) == ("5\n[0.  0.5 1.  1.5]\n", "")
        with microrpc.connect(port, board=board) as connected:
            with pytest.raises(microrpc.RemoteError):
                connected.function("scale")(connected.empty((4,), "int32"), 0.5)
            with pytest.raises(microrpc.FunctionNotFoundError):
                connected.function("relu_f32")
            described = connected.function("microrpc.describe")(0)
            name = load_port(board).file.parent.name.encode()  # that of the port it is the same as
            assert described.split(b"\t", 4)[4] == (
                name + b"\tmy_project\t0.1\n"
                b"add\ta: int, b: int -> int\tThe sum of two ints.\n"
                b"scale\tx: float32[...], factor: float -> None\tMultiply a tensor where it lies.\n"
                b"add\ta: int, b: int -> int\tThe sum of two ints.\n"
            )


@pytest.mark.parametrize("board", devices.port_params(are_run=True))
def test_the_example_of_a_sensor_reports_in_the_main_loop_of_a_new_project(tmp_path: Path, board: str) -> None:
    needs.emulated(board)
    directory = tmp_path / "my_sensor"
    assert run("firmware", "new", directory, "--board", board).code == 0
    example = directory / "ports" / "common" / "examples" / "sensor.c"
    (directory / "functions.c").write_text(example.read_text())
    with running(directory) as process, microrpc.connect(first_line(process), board=board) as connected:
        (described,) = [function for function in connected.functions() if function.name == "set_threshold"]
        assert described.doc == "Report what differs by so much."
        connected.function("set_threshold")(1)
        events = iter(connected.events("sample", timeout_s=60))
        first, second = next(events), next(events)
    assert (first.values[1], second.values[1]) == ("A0", "A0")
    assert (second.values[0] - first.values[0]) % 1000 == 100
    assert 0.8 < (second.time_us - first.time_us) / 1e6 < 1.5


@pytest.mark.parametrize(
    ("memory", "has_them"),
    [
        ("ROM : ORIGIN = 0x00000000, LENGTH = 64K", True),
        ("ROM (rx) : ORIGIN = 0, LENGTH = 65536", True),
        ("ROM : ORIGIN = 0, LENGTH = 1M", True),
        ("ROM : ORIGIN = 0, LENGTH = 63K", False),
        ("ROM : ORIGIN = 0, LENGTH = 65535", False),
        ("RAM : ORIGIN = 0, LENGTH = 64K", False),
        (None, True),  # a computer
    ],
)
def test_a_new_project_has_what_there_is_flash_for(tmp_path: Path, memory: str | None, has_them: bool) -> None:
    if memory is not None:
        (tmp_path / "memory.ld").write_text(f"MEMORY {{\n    {memory}\n}}\n")
    name = "memory.ld" if memory is not None else None
    port = dataclasses.replace(load_port("posix"), root=tmp_path, linker_script=name)
    (tmp_path / "port.toml").write_text("\n".join(_port_file(port)))
    wanted = ("MICRORPC_DESCRIBE=1", "MICRORPC_EVENTS=1", "MICRORPC_PROGRESS=1")
    assert read_project(tmp_path / "port.toml", tmp_path, "x").defines == (wanted if has_them else ())


def test_the_boards_to_try_out_have_all_that_can_be_switched_on() -> None:
    header = (firmware_directory() / "include" / "microrpc_parts.h").read_text()
    off = re.findall(r"^#define (MICRORPC_\w+) (?:0|MICRORPC_BY_DEFAULT)$", header, flags=re.MULTILINE)
    off = [flag for flag in dict.fromkeys(off) if flag != "MICRORPC_BY_DEFAULT"]
    for name, device in devices.DEVICES.items():
        if device.parts == devices.EVERY_PART and name != devices.SIMULATOR and load_port(name).sources:
            on = [define for define in load_port(name).defines if define.partition("=")[0] in off]
            assert on == [f"{flag}=1" for flag in off], name


def test_a_new_sketch_has_all_that_arduino_compiles(tmp_path: Path) -> None:
    directory = tmp_path / "my_sketch"
    made = run("firmware", "new", directory, "--board", "arduino")
    assert (made.code, made.err) == (0, "")
    sketch = (directory / "my_sketch.ino").read_text()
    assert '#include "src/MicroRPCDevice.h"' in sketch
    there = {path.name for path in (directory / "src").iterdir()}
    included = {
        name
        for path in (directory / "src").iterdir()
        for name in re.findall(r'^#include "(.*)"', path.read_text(), re.MULTILINE)
    }
    assert included <= there
    assert {"microrpc.h", "MicroRPCDevice.h"} <= there


@pytest.mark.parametrize("board", ["qemu_mps2_an385", "arduino"])
def test_a_new_project_has_the_license_of_the_library(tmp_path: Path, board: str) -> None:
    run("firmware", "new", tmp_path / "x", "--board", board)
    assert (tmp_path / "x" / "LICENSE").read_text().strip().startswith("Apache License")


@pytest.mark.parametrize("board", ["qemu_mps2_an385", "arduino"])
@pytest.mark.parametrize("where", [".", "mine", "a/b/mine"])
def test_a_project_that_cannot_be_laid_out_leaves_nothing_behind(
    tmp_path: Path, where: str, board: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def fail(path: Path, *args: Any, **options: Any) -> int:
        if path.name == "README.md":
            raise OSError(28, "No space left on device")
        return write(path, *args, **options)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(FirmwareError, match="cannot be written: No space left on device"):
        new_project(Path(where), board)
    assert list(tmp_path.iterdir()) == []


GUIDE = (Path(__file__).parent.parent.parent / "docs" / "firmware.md").read_text(encoding="utf-8")


def test_the_examples_of_the_guide_run() -> None:
    needs.emulated("qemu_mps2_an385")
    examples = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        done = subprocess.run([COMMAND[0], "-c", example], capture_output=True, text=True, timeout=60)
        said = "".join(f"{line}\n" for line in re.findall(r"^# prints (.*)$", example, flags=re.MULTILINE))
        assert (done.stdout, done.stderr) == (said, "")


def test_the_guide_has_the_first_function_as_a_new_project_has_it_and_the_headers_own_example(tmp_path: Path) -> None:
    first, *others = re.findall(r"```c\n(.*?)```", GUIDE, flags=re.DOTALL)
    program = next(block for block in others if "microrpc_start" in block)
    run("firmware", "new", tmp_path / "x")
    assert first in (tmp_path / "x" / "functions.c").read_text()
    header = re.sub(r"^ \* {0,5}", "", (tmp_path / "x" / "include" / "microrpc.h").read_text(), flags=re.MULTILINE)
    assert " ".join(program.split()) in " ".join(header.split())


def test_the_guide_has_every_board_that_can_be_built() -> None:
    for name in port_names():
        assert f"`{name}`" in GUIDE


def test_the_help_of_each_command_has_an_example() -> None:
    for command in ("list", "build", "run", "new", "flash"):
        text = run("firmware", command, "--help").out
        assert f"microrpc firmware {command}" in text.partition("Examples:")[2]


def test_the_commands_of_a_shell_find_the_firmware() -> None:
    assert run_process("firmware", "list").returncode == 0
