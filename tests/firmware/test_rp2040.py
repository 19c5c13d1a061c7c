"""The Raspberry Pi Pico's firmware: what the boot ROM wants of it, and what only its emulator shows."""

from __future__ import annotations

import binascii
import itertools
import os
import pathlib
import re
import select
import shutil
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Iterator

import needs
import numpy as np
import pytest
from processes import computed_s

import microrpc
from microrpc.errors import MicroRpcError
from microrpc.firmware.build import Compiler, build
from microrpc.firmware.emulation import npm_directory
from microrpc.firmware.emulator import Emulator, build_to_run, start_firmware
from microrpc.firmware.images import ImageFormat, make_image
from microrpc.firmware.new import new_project
from microrpc.firmware.project import firmware_directory, load_port, load_project
from microrpc.wire.session import Timeouts

FAMILY = 0xE48BFF56
FLASH, FLASH_END, RAM, RAM_END = 0x1000_0000, 0x1020_0000, 0x2000_0000, 0x2004_2000
TIMEOUTS = Timeouts(retry_s=1.0, start_s=20.0, call_s=20.0)


def _reversed(value: int, bits: int) -> int:
    return int(f"{value:0{bits}b}"[::-1], 2)


def _boot_crc(data: bytes) -> int:
    """The checksum of the RP2040 data sheet, 2.8.1.3.1: the usual CRC-32 with all bits the other way round."""
    mirrored = bytes(_reversed(byte, 8) for byte in data)
    return _reversed(binascii.crc32(mirrored) ^ 0xFFFF_FFFF, 32)


def test_the_checksum_is_that_of_the_data_sheet() -> None:
    assert _boot_crc(b"123456789") == 0x0376E6E7  # the check value of CRC-32/MPEG-2


@pytest.mark.parametrize("compiler", Compiler)
@pytest.mark.parametrize("port", ["rpi_pico", "rpi_pico_uart"])
def test_the_boot_rom_takes_the_program(port: str, compiler: Compiler) -> None:
    needs.zig() if compiler is Compiler.ZIG else needs.program("arm-none-eabi-gcc", "gcc-arm-none-eabi")
    image = make_image(build(load_port(port), compiler=compiler).elf, ImageFormat.BIN)
    assert struct.unpack_from("<I", image, 252)[0] == _boot_crc(image[:252])
    stack, reset = struct.unpack_from("<2I", image, 256)
    assert RAM < stack <= RAM_END
    assert reset % 2 == 1
    assert FLASH + 256 < reset < FLASH + len(image)


def test_a_uf2_file_of_it_has_the_bytes_of_the_program() -> None:
    needs.zig()
    elf = build(load_port("rpi_pico")).elf
    program, uf2 = make_image(elf, ImageFormat.BIN), make_image(elf, ImageFormat.UF2, uf2_family=FAMILY)
    assert len(uf2) % 512 == 0
    count = len(uf2) // 512
    found = bytearray()
    for index in range(count):
        block = uf2[index * 512 : (index + 1) * 512]
        head = struct.unpack_from("<8I", block)
        assert head == (0x0A324655, 0x9E5D5157, 0x2000, FLASH + 256 * index, 256, index, count, FAMILY)
        assert struct.unpack_from("<I", block, 508) == (0x0AB16F30,)
        found += block[32 : 32 + 256]
    assert found == program.ljust(256 * count, b"\xff")


def test_the_usb_code_stays_small() -> None:
    files = (firmware_directory() / "ports" / "rpi_pico").glob("usb*.[ch]")
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    assert 300 < sum(bool(line.strip()) for line in code.splitlines()) < 600


# --- the emulator ---------------------------------------------------------------------------------


def _command(*arguments: str | pathlib.Path) -> list[str]:
    node = shutil.which("node")
    assert node is not None
    return [node, str(firmware_directory() / "emulators" / "rp2040.mjs"), str(npm_directory()), *map(str, arguments)]


@pytest.fixture(scope="module")
def uf2() -> bytes:
    """The image that serves over USB."""
    needs.emulated("rp2040")
    return make_image(build(load_port("rp2040")).elf, ImageFormat.UF2, uf2_family=FAMILY)


def _with_word(data: bytes, offset: int, word: int) -> bytes:
    return data[:offset] + struct.pack("<I", word) + data[offset + 4 :]


@pytest.mark.boards
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-1], "is not made of blocks of 512 bytes"),
        (lambda data: data[:-512], r"block 0: says that it is 0 of \d+, and not of \d+"),
        (lambda data: _with_word(data, 512, 0), "block 1: is none of UF2"),
        (lambda data: _with_word(data, 28, 0x55114460), "block 0: is not for this chip, family 0xe48bff56"),
        (lambda data: _with_word(data, 12, RAM), "block 0: 0x20000000 is not in the flash"),
        (lambda data: _with_word(data, 32, 0), "the boot ROM would not start it: the checksum of its first 256 bytes"),
    ],
)
def test_an_image_that_no_board_would_start_is_refused(
    uf2: bytes, tmp_path: pathlib.Path, change: object, reason: str
) -> None:
    assert callable(change)
    path = tmp_path / "x.uf2"
    path.write_bytes(change(uf2))
    run = subprocess.run(_command(path, "--usb"), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert re.search(reason, run.stderr)


@pytest.fixture
def emulator(uf2: bytes) -> Iterator[Emulator]:
    """A board of its own, over USB."""
    with start_firmware(build_to_run(load_port("rp2040"))) as running:
        yield running


def _process(emulator: Emulator) -> subprocess.Popen[bytes]:
    process = emulator._running._process
    assert process is not None
    return process


@pytest.mark.boards
def test_a_board_that_sleeps_takes_no_time_of_the_computer(emulator: Emulator) -> None:
    with microrpc.connect(emulator.port, timeouts=TIMEOUTS) as board:
        assert board.function("add")(1, 2) == 3
    time.sleep(1)
    before_s = computed_s(_process(emulator))
    time.sleep(3)
    assert computed_s(_process(emulator)) - before_s < 0.3


@pytest.mark.boards
def test_nothing_is_sent_at_the_end_of_a_frame_where_the_chip_may_hang(emulator: Emulator) -> None:
    numbers = np.arange(10_000, dtype=np.float32)
    with microrpc.connect(emulator.port, timeouts=TIMEOUTS) as board:
        add = board.function("add")
        for number in range(50):
            assert add(number, 1) == number + 1
        time.sleep(0.3)  # frames interrupt no more, and the next one has to be waited for
        np.testing.assert_array_equal(board.array(numbers).numpy(), numbers)
    assert emulator.said == ""


@pytest.mark.boards
def test_a_session_outlives_a_cable_that_is_pulled_and_plugged_in_again(emulator: Emulator) -> None:
    with microrpc.connect(emulator.port, timeouts=TIMEOUTS) as board:
        add = board.function("add")
        for number in range(5):
            assert add(number, 1) == number + 1
            _process(emulator).send_signal(signal.SIGUSR2)
        assert add(40, 2) == 42
    assert emulator.is_running
    assert emulator.said == ""


@pytest.mark.boards
def test_a_cable_is_pulled_in_the_middle_of_a_copy(emulator: Emulator) -> None:
    numbers = np.arange(4000, dtype=np.float32)
    with microrpc.connect(emulator.port, timeouts=TIMEOUTS) as board:
        array = board.array(numbers)
        for delay_s in (0.001, 0.003, 0.007, 0.015):
            pull = threading.Timer(delay_s, _process(emulator).send_signal, [signal.SIGUSR2])
            pull.start()
            np.testing.assert_array_equal(array.numpy(), numbers)
            pull.join()
    assert emulator.said == ""


@pytest.mark.boards
def test_who_opens_the_port_at_1200_baud_and_closes_it_gets_the_boot_loader(emulator: Emulator) -> None:
    with microrpc.connect(emulator.port, timeouts=TIMEOUTS) as board:
        assert board.function("add")(1, 2) == 3
    _process(emulator).send_signal(signal.SIGALRM)
    assert emulator.wait(20)
    assert (emulator.said, emulator.ending) == ("boot loader", "with 0")


TOUCH, PULL = signal.SIGALRM, signal.SIGUSR2


@pytest.mark.boards
@pytest.mark.parametrize("signals", [(TOUCH, PULL), (PULL, TOUCH), (TOUCH, TOUCH), (TOUCH, PULL, TOUCH, PULL)])
def test_it_gets_the_boot_loader_where_the_cable_is_pulled_before_and_meanwhile_too(
    emulator: Emulator, signals: tuple[signal.Signals, ...]
) -> None:
    with microrpc.connect(emulator.port, timeouts=TIMEOUTS) as board:
        assert board.function("add")(1, 2) == 3
    for number in signals:
        _process(emulator).send_signal(number)
    assert emulator.wait(20)
    assert (emulator.said, emulator.ending) == ("boot loader", "with 0")


def _obeys(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    caught = re.search(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)
    assert caught is not None
    return bool(int(caught[1], 16) >> (number - 1) & 1)


@pytest.mark.boards
def test_who_wants_the_boot_loader_while_the_board_is_being_plugged_in_waits_for_its_port(
    uf2: bytes, tmp_path: pathlib.Path
) -> None:
    image = tmp_path / "x.uf2"
    image.write_bytes(uf2)
    process = subprocess.Popen(
        _command(image, "--usb"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 60
        while not _obeys(process, PULL) or not _obeys(process, TOUCH):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.001)
        for number in (PULL, TOUCH, PULL, TOUCH):
            process.send_signal(number)
        process.wait(timeout=60)
        assert process.stderr is not None
        assert (process.stderr.read(), process.returncode) == (b"boot loader\n", 0)
    finally:
        process.kill()
        process.communicate()


FUNCTIONS = """
#include "functions.h"
#include "port.h"
{body}
const size_t board_function_count = sizeof board_functions / sizeof board_functions[0];
const microrpc_function_t board_global_functions[] = {{{{0}}}};
const size_t board_global_function_count = 0;
const char board_firmware_name[] = "test";
const char board_firmware_version[] = "1";
"""

CRASHING = """
static void crash(microrpc_call_t *call) {
    (void)call;
    __builtin_trap();
}
const microrpc_function_t board_functions[] = {MICRORPC_FUNCTION_DOC(crash, "-> None", "Fault.")};
"""

# Twice as much as the board keeps for its host, said while nothing can take it away.
SHOUTING = """
#include "cortex_m.h"
static void shout(microrpc_call_t *call) {
    uint32_t primask = cortex_m_close(), begun_us = port_now_us(NULL);
    for (int i = 0; i < 128; i++) microrpc_log(microrpc_device(call), "0123456789abcdef");
    uint32_t taken_us = port_now_us(NULL) - begun_us;
    cortex_m_restore(primask);
    microrpc_return_int(call, taken_us);
}
const microrpc_function_t board_functions[] = {MICRORPC_FUNCTION_DOC(shout, "-> int [us]", "Shout.")};
"""

# From the first byte on that it gets, it says again and again how long it was held up at most.
TALKING = """
static void put(uint8_t begin, uint32_t number, uint8_t end) {
    uint8_t text[12];
    size_t at = sizeof text;
    text[--at] = end;
    do {
        text[--at] = (uint8_t)('0' + number % 10);
    } while ((number /= 10) > 0);
    text[--at] = begin;
    port_write(NULL, text + at, sizeof text - at);
}
bool board_loop(microrpc_t *device, uint32_t now_us) {
    static uint32_t count, longest_us;
    (void)device;
    if (port_ring.put > 0) {
        put('#', count++, ' ');
        put('=', longest_us, 10);
    }
    uint32_t taken_us = port_now_us(NULL) - now_us;
    longest_us = taken_us > longest_us ? taken_us : longest_us;
    return true;
}
static void nothing(microrpc_call_t *call) { (void)call; }
const microrpc_function_t board_functions[] = {MICRORPC_FUNCTION_DOC(nothing, "-> None", "Nothing.")};
"""


def _lay_out(directory: pathlib.Path, board: str, body: str) -> None:
    new_project(directory, board)
    (directory / "functions.c").write_text(FUNCTIONS.format(body=body))


@pytest.mark.boards
@pytest.mark.parametrize("port", ["rpi_pico", "rpi_pico_uart"])
def test_a_fault_starts_the_board_again(tmp_path: pathlib.Path, port: str) -> None:
    needs.emulated(port)
    _lay_out(tmp_path / "project", port, CRASHING)
    with start_firmware(build_to_run(load_project(tmp_path / "project"))) as emulator:
        for _ in range(2):
            with microrpc.connect(emulator.port, timeouts=TIMEOUTS) as board, pytest.raises(MicroRpcError):
                board.function("crash")()
        assert emulator.said.count("fault at") == 2
        with microrpc.connect(emulator.port, timeouts=TIMEOUTS) as board:
            assert [function.name for function in board.functions()] == ["crash"]


@pytest.mark.boards
def test_what_is_said_where_interrupts_are_closed_does_not_wait_for_one(tmp_path: pathlib.Path) -> None:
    needs.emulated("rp2040")
    _lay_out(tmp_path / "project", "rpi_pico", SHOUTING)
    with (
        start_firmware(build_to_run(load_project(tmp_path / "project"))) as emulator,
        microrpc.connect(emulator.port, timeouts=TIMEOUTS) as board,
    ):
        assert 0 < board.function("shout")() < 500_000
        assert 0 < board.function("shout")() < 500_000


def _read_for(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    assert process.stdout is not None
    data, end = b"", time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and select.select([process.stdout], [], [], left)[0]:
        data += os.read(process.stdout.fileno(), 1 << 16)
    return data


@pytest.mark.boards
def test_a_host_that_does_not_read_holds_the_board_up_for_a_second_once(tmp_path: pathlib.Path) -> None:
    needs.emulated("rp2040")
    _lay_out(tmp_path / "project", "rpi_pico", TALKING)
    image = tmp_path / "x.uf2"
    elf = build(load_project(tmp_path / "project")).elf
    image.write_bytes(make_image(elf, ImageFormat.UF2, uf2_family=FAMILY))
    process = subprocess.Popen(
        _command(image, "--usb"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, pipesize=4096
    )
    deadline = time.monotonic() + 100
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 60)[0]  # it has booted
        process.stdin.write(b"x")
        # Nobody reads: the pipe, the emulator and the board fill, and a second of the board goes by. Its clock is never
        # far behind that of the computer where the emulator may compute, and 2 s take at least as long.
        begun_s = computed_s(process)
        while computed_s(process) - begun_s < 2:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        text = _read_for(process, 5).decode(errors="replace")
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    lines = [(int(count), int(us)) for count, us in re.findall(r"^#(\d+) =(\d+)$", text, flags=re.MULTILINE)]
    gaps = [(before, after) for before, after in itertools.pairwise(lines) if after[0] != before[0] + 1]
    assert len(gaps) == 1, (len(text), text[:60], text[-60:], lines[-1:])
    (((before, longest_before_us), (after, longest_us)),) = gaps
    assert before < after
    assert longest_before_us < 1_000_000 <= longest_us < 1_500_000
