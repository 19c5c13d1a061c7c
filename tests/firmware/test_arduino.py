"""Sketches that Arduino's own tools build, and AVR boards in simavr."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import time
from collections.abc import Iterator

import needs
import numpy as np
import pytest
from processes import computed_s

import microrpc
from microrpc.errors import FirmwareError, RemoteError
from microrpc.firmware import arduino
from microrpc.firmware.build import Firmware, build
from microrpc.firmware.emulation import emulator_command
from microrpc.firmware.emulator import build_to_run, start_emulated, start_firmware
from microrpc.firmware.new import new_project
from microrpc.firmware.project import Project, firmware_directory, load_port, load_project, read_project
from microrpc.wire.session import Timeouts

FIRMWARE = firmware_directory()
LIBRARY = FIRMWARE / "ports" / "arduino"
UNO, MEGA = "arduino:avr:uno", "arduino:avr:mega:cpu=atmega2560"
TIMEOUTS = Timeouts(retry_s=1.0, start_s=20.0, call_s=20.0)  # an emulator on a busy computer


def _sketch(directory: pathlib.Path, text: str, fqbn: str = UNO, name: str = "mine") -> Project:
    """A sketch beside the library, as a project that simavr runs."""
    root = directory / "firmware"
    for part in ("emulators", "include", "ports", "src"):
        shutil.copytree(FIRMWARE / part, root / part)
    (root / name).mkdir()
    (root / name / f"{name}.ino").write_text(text)
    emulator = (LIBRARY.parent / ("arduino_uno" if fqbn == UNO else "arduino_mega") / "port.toml").read_text()
    emulator = emulator[emulator.index("[emulator]") :]
    (root / "port.toml").write_text(f'[build]\nsketch = "{name}/{name}.ino"\nfqbn = "{fqbn}"\n{emulator}')
    return read_project(root / "port.toml", root, name)


# --- sketches -------------------------------------------------------------------------------------

FITTING = [(name, UNO) for name in ("Add", "Sensor")] + [
    (name, MEGA) for name in ("Add", "Sensor", "Events", "Interrupt")
]


@pytest.mark.boards
@pytest.mark.parametrize(("example", "fqbn"), FITTING, ids=[f"{name} {fqbn.split(':')[2]}" for name, fqbn in FITTING])
def test_an_example_is_built_by_arduinos_own_tools_without_a_warning(
    tmp_path: pathlib.Path, example: str, fqbn: str
) -> None:
    needs.emulated("simavr_uno")
    project = _sketch(tmp_path, (LIBRARY / "examples" / example / f"{example}.ino").read_text(), fqbn)
    made_in = tmp_path / "made"
    made_in.mkdir()
    builder, _ = arduino.find_builder(project)
    command, elf = arduino.prepare_sketch(project, builder, (), made_in)
    command[command.index("default")] = "all"
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert elf.is_file()
    warnings = [line for line in done.stderr.splitlines() if "warning" in line]
    assert [line for line in warnings if "/cores/arduino/" not in line] == []


@pytest.mark.boards
def test_events_on_a_board_without_room_for_them_are_an_error_that_says_so(tmp_path: pathlib.Path) -> None:
    needs.emulated("simavr_uno")
    with pytest.raises(FirmwareError, match="this board has no events: too little RAM"):
        build(_sketch(tmp_path, (LIBRARY / "examples" / "Events" / "Events.ino").read_text()))


TWO_FUNCTIONS = """
#include <MicroRPCDevice.h>

static void add(microrpc_call_t *call) {
    microrpc_return_int(call, microrpc_int(call, 0) + microrpc_int(call, 1));
}
static void half(microrpc_call_t *call) { microrpc_return_float(call, microrpc_float(call, 0) / 2); }

static const microrpc_function_t functions[] = {MICRORPC_FUNCTION(add), MICRORPC_FUNCTION(half)};
static MicroRPCDevice<> device(Serial, functions);

void setup() {
    Serial.begin(115200);
    device.begin(1);
}
void loop() { device.poll(); }
"""


@pytest.fixture
def two_functions(tmp_path: pathlib.Path) -> Firmware:
    """A sketch with two functions, for a Uno."""
    needs.emulated("simavr_uno")
    return build(_sketch(tmp_path, TWO_FUNCTIONS), defines=["MICRORPC_MEMORY=1"])


@pytest.mark.boards
def test_two_functions_leave_a_uno_half_of_its_ram(two_functions: Firmware) -> None:
    assert two_functions.sizes.ram_bytes <= 1010
    assert two_functions.sizes.data_bytes <= 32  # texts and tables are in flash
    assert two_functions.sizes.flash_bytes <= 26_500
    with start_firmware(two_functions) as emulator, microrpc.connect(emulator.port, timeouts=TIMEOUTS) as board:
        add, half = board.function("add"), board.function("half")
        for number in range(500):
            assert add(number, -(1 << 40)) == number - (1 << 40)
        assert half(0.1) == float(np.float32(0.1) / 2)
        for seed in range(10):
            data = np.random.default_rng(seed).integers(0, 256, 200, np.uint8)
            with board.array(data) as array:
                assert (array.numpy() == data).all()
        memory = board.memory()
        end_s = time.monotonic() + 10
        while (stats := board.stats).frames_received != stats.frames_sent and time.monotonic() < end_s:
            add(0, 0)  # where a busy computer was late, the host asked again: both answers come
    assert (stats.frames_damaged, stats.bytes_skipped) == (0, 0)
    assert stats.frames_received == stats.frames_sent  # no request was lost, however often it was sent
    assert memory.stack_bytes == 2048 - two_functions.sizes.ram_bytes
    assert memory.most_stack_bytes is not None
    assert 300 < memory.most_stack_bytes < 640


@pytest.mark.boards
@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (f'MICRORPC_FUNCTION_AS("{"x" * 36}", half, "", "")', r"size of (unnamed )?array is negative"),
        ('MICRORPC_FUNCTION_AS("half", [](microrpc_call_t *) {}, "", "")', "lambda-expression in unevaluated context"),
    ],
    ids=["a name that is too long", "a lambda"],
)
def test_what_a_table_in_flash_has_no_room_for_does_not_compile(
    tmp_path: pathlib.Path, entry: str, reason: str
) -> None:
    needs.emulated("simavr_uno")
    with pytest.raises(FirmwareError, match=f"error: {reason}"):
        build(_sketch(tmp_path, TWO_FUNCTIONS.replace("MICRORPC_FUNCTION(half)", entry)))


@pytest.mark.boards
def test_a_mega_describes_its_functions_as_another_board_does() -> None:
    needs.emulated("simavr_mega")
    with microrpc.connect("sim://") as simulator:
        wanted = {one.name: (one.signature, one.doc) for one in simulator.functions()}
    with start_emulated("simavr_mega") as emulator, microrpc.connect(emulator.port, timeouts=TIMEOUTS) as board:
        told = {one.name: (one.signature, one.doc) for one in board.functions()}
    assert told.items() <= wanted.items()
    assert len(told) > 20


@pytest.fixture
def mega() -> Iterator[microrpc.Board]:
    """A Mega with the demonstration."""
    needs.emulated("simavr_mega")
    with start_emulated("simavr_mega") as emulator, microrpc.connect(emulator.port, timeouts=TIMEOUTS) as board:
        yield board


@pytest.mark.boards
def test_the_deepest_calls_leave_stack_on_a_uno() -> None:
    needs.emulated("simavr_uno")
    with start_emulated("simavr_uno") as emulator, microrpc.connect(emulator.port, timeouts=TIMEOUTS) as board:
        board.time_evaluator("log", repeat=2, min_repeat_ms=3)("a line")
        with pytest.raises(RemoteError, match="out of memory"), board.empty((200,), "uint8"):
            board.time_evaluator("log")
        memory = board.memory()
    assert memory.most_stack_bytes is not None
    assert memory.stack_bytes is not None
    assert 450 < memory.most_stack_bytes < 600 < memory.stack_bytes - 128


@pytest.mark.boards
def test_the_deepest_calls_leave_stack_on_a_mega(mega: microrpc.Board) -> None:
    with mega.events():
        mega.time_evaluator("emit", repeat=2, min_repeat_ms=3)("name", 3, 20, 1)
        memory = mega.memory()
    assert memory.most_stack_bytes is not None
    assert memory.stack_bytes is not None
    assert 900 < memory.most_stack_bytes < 1024 < memory.stack_bytes - 1024


@pytest.mark.boards
@pytest.mark.parametrize("count", [65_535, 65_536, 70_000, 1 << 20])
def test_a_result_of_more_elements_than_a_size_counts_is_refused(mega: microrpc.Board, count: int) -> None:
    with pytest.raises(RemoteError, match="out of memory: 262140 bytes asked for"):
        mega.function("iota")(count)


@pytest.mark.boards
def test_tensors_of_every_width_are_filled_at_random(mega: microrpc.Board) -> None:
    for dtype in ("bool", "int16", "float32", "float64"):
        with mega.empty((100,), dtype) as array:
            mega.global_function("tvm.contrib.random.random_fill")(array)
            found = array.numpy()
        assert len(set(found.tolist())) > (1 if dtype == "bool" else 90)
        if found.dtype.kind == "f":
            assert ((found >= 1) & (found < 2)).all()


@pytest.mark.boards
@pytest.mark.parametrize("name", ["arduino_uno", "simavr_mega"])
def test_a_new_sketch_for_a_board_is_built_and_its_function_called(tmp_path: pathlib.Path, name: str) -> None:
    needs.emulated(name)
    directory = tmp_path / "my_sketch"
    told = new_project(directory, name)
    assert f"Try: microrpc firmware build {directory}" in told
    assert load_port(name).fqbn in (directory / "README.md").read_text()
    firmware = build_to_run(load_project(directory))
    with start_firmware(firmware) as emulator, microrpc.connect(emulator.port, timeouts=TIMEOUTS) as board:
        assert board.function("add")(2, 3) == 5


@pytest.mark.boards
def test_what_the_compiler_complains_of_is_named_with_its_line(tmp_path: pathlib.Path) -> None:
    needs.emulated("simavr_uno")
    with pytest.raises(
        FirmwareError, match=r"mine cannot be built, the compiler says:\n(.*\n)*.*mine/mine.ino:2:1: error"
    ):
        build(_sketch(tmp_path, "void setup() {}\nnonsense\nvoid loop() {}\n"))


def test_a_define_is_one_of_the_sketch(tmp_path: pathlib.Path) -> None:
    project = _sketch(tmp_path, "")
    (tmp_path / "made").mkdir()
    command, _ = arduino.prepare_sketch(project, "arduino-builder", ["A=1", "B"], tmp_path / "made")
    for language in ("c", "cpp"):
        assert f"compiler.{language}.extra_flags=-DDECIMAL_DIG=9 -DA=1 -DB" in command


# --- what is refused ------------------------------------------------------------------------------


def test_tools_that_are_missing_are_named_with_what_to_install(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = load_port("arduino_uno")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(arduino, "_PLATFORMS", (tmp_path, tmp_path))
    with pytest.raises(
        FirmwareError,
        match=r"arduino_uno is a sketch, which is built with arduino-builder and arduino-core-avr: "
        r"apt-get install --no-install-recommends arduino-builder arduino-core-avr$",
    ):
        build(project)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ('sketch = "a.ino"', r"build\.fqbn: is missing"),
        ('fqbn = "arduino:avr:uno"', r"build\.sketch: is missing"),
        ("flags = []", r"build\.sources: is missing"),
        ('sketch = "a.ino"\nfqbn = "uno"', "'uno' is no board of Arduino's: write VENDOR:ARCHITECTURE:BOARD"),
        ('sketch = "a.ino"\nfqbn = "a:b:c"\ntarget = "avr"', r"build\.target: is not for a sketch"),
        ('sketch = "a.ino"\nfqbn = "a:b:c"\nlibraries = ["m"]', r"build\.libraries: is not for a sketch"),
    ],
)
def test_a_port_toml_that_makes_no_sense_is_refused(tmp_path: pathlib.Path, lines: str, reason: str) -> None:
    (tmp_path / "port.toml").write_text(f"[build]\n{lines}\n")
    with pytest.raises(FirmwareError, match=reason):
        load_project(tmp_path)


def test_a_sketch_that_is_not_there_is_named(tmp_path: pathlib.Path) -> None:
    needs.program("arduino-builder")
    (tmp_path / "port.toml").write_text(f'[build]\nsketch = "a.ino"\nfqbn = "{UNO}"\n')
    with pytest.raises(FirmwareError, match=r"port\.toml: build\.sketch: there is no .*a\.ino"):
        build(load_project(tmp_path))


def test_nothing_is_added_to_a_sketch() -> None:
    with pytest.raises(FirmwareError, match=r"arduino_uno is a sketch, .* nothing can be added to it"):
        build(load_port("arduino_uno"), more={"x.c": b""})


# --- simavr ---------------------------------------------------------------------------------------


@pytest.fixture
def simavr() -> list[str]:
    """The command that runs the demonstration on a Uno."""
    needs.emulated("simavr_uno")
    firmware = build_to_run(load_port("simavr_uno"))
    assert firmware.project.emulation is not None
    return emulator_command("simavr_uno", firmware.elf, firmware.project.emulation)


@pytest.mark.boards
def test_simavr_says_what_the_board_says_leaves_the_computer_alone_and_ends_with_its_input(simavr: list[str]) -> None:
    with subprocess.Popen(simavr, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.read(3) == b"\xfe\xff\xfd"
            start_s = time.monotonic()
            time.sleep(1)
            assert computed_s(process) < 0.7 * (time.monotonic() - start_s) + 0.3
            process.stdin.close()
            assert process.wait(10) == 0
        finally:
            process.kill()


@pytest.mark.boards
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "usage: simavr MCU FREQUENCY FILE.elf"),
        (("atmega328p", "fast", "x.elf"), "usage: simavr MCU FREQUENCY FILE.elf"),
        (("atmega328p", "16000000", "/nowhere.elf"), "simavr: cannot be read: /nowhere.elf"),
        (("z80", "16000000", "ELF"), "simavr: does not know z80"),
    ],
)
def test_simavr_refuses_what_it_does_not_know(simavr: list[str], arguments: tuple[str, ...], said: str) -> None:
    given = [simavr[-1] if argument == "ELF" else argument for argument in arguments]
    done = subprocess.run([simavr[0], *given], capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode in {1, 2}
    assert said in done.stderr
