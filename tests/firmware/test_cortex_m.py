"""What Cortex-M boards share, in firmware of an author's own: closed interrupts, the clock, vectors, FPU, faults."""

from __future__ import annotations

import itertools
import pathlib
import re
import time
from collections.abc import Iterator

import needs
import pytest

import microrpc
from microrpc.errors import BoardResetError
from microrpc.firmware.build import Compiler
from microrpc.firmware.emulator import build_to_run, start_firmware
from microrpc.firmware.new import new_project
from microrpc.firmware.project import load_project
from microrpc.wire.session import Timeouts

TIMEOUTS = Timeouts(retry_s=1.0, start_s=20.0, call_s=20.0)
LAST_INTERRUPT = {"qemu_mps2_an385": 31, "microbit": 25, "netduinoplus2": 81, "qemu_mps2_an500": 31}
SINGLE, DOUBLE = 4, 8  # of __ARM_FP
FPU = {"qemu_mps2_an385": 0, "microbit": 0, "netduinoplus2": SINGLE, "qemu_mps2_an500": SINGLE | DOUBLE}

FUNCTIONS = r"""
#include "cortex_m.h"
#include "functions.h"
#include "port.h"

#ifndef __ARM_FP
#define __ARM_FP 0
#endif
#if (__ARM_FP & 12) != FPU
#error "this is not compiled for the FPU that the chip has"
#endif

static uint32_t primask(void) {
    uint32_t value;
    __asm__ volatile("mrs %0, primask" : "=r"(value));
    return value;
}

/* What PRIMASK is behind each, in a section that is closed: 111; in an open one: 0. */
static void sections(microrpc_call_t *call) {
    bool is_closed = microrpc_int(call, 0) != 0;
    uint32_t before = is_closed ? cortex_m_close() : 0;
    uint32_t found = 0;
    (void)port_now_us(NULL);
    found = found * 10 + primask();
    cortex_m_restore(cortex_m_close());
    found = found * 10 + primask();
    ring_lose(&port_ring); /* so that it does not sleep */
    port_sleep();
    (void)ring_take_loss(&port_ring);
    found = found * 10 + primask();
    if (is_closed) cortex_m_restore(before);
    microrpc_return_int(call, found * 10 + primask());
}

static void now(microrpc_call_t *call) {
    microrpc_return_int(call, port_now_us(NULL));
}

/* How often the clock at most told the same, one time after the other, in so many us. */
static void stands(microrpc_call_t *call) {
    uint32_t for_us = (uint32_t)microrpc_int(call, 0), begun_us = port_now_us(NULL), last_us = begun_us, now_us;
    uint32_t same = 0, most = 0;
    for (; (now_us = port_now_us(NULL)) - begun_us < for_us; last_us = now_us) {
        same = now_us == last_us ? same + 1 : 0;
        most = same > most ? same : most;
    }
    microrpc_return_int(call, most);
}

static volatile uint32_t interrupts;

void board_interrupt(void) {
    interrupts++;
}

static void interrupt(microrpc_call_t *call) {
    volatile uint32_t *pending = (volatile uint32_t *)0xE000E200;
    cortex_m_enable(LAST_INTERRUPT);
    pending[LAST_INTERRUPT / 32] = 1u << LAST_INTERRUPT % 32;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
    microrpc_return_int(call, interrupts);
}

static void crash(microrpc_call_t *call) {
    (void)call;
    __asm__ volatile("udf #0");
}

/* Where the CPU takes the vectors from, and where they are. */
static void vectors(microrpc_call_t *call) {
    extern uint32_t text_start[];
    const volatile uint32_t *vtor = (const volatile uint32_t *)0xE000ED08;
    microrpc_return_int(call, microrpc_int(call, 0) ? (int64_t)*vtor : (int64_t)(uintptr_t)text_start);
}

static void divide(microrpc_call_t *call) {
    volatile float a = (float)microrpc_float(call, 0), b = (float)microrpc_float(call, 1);
    microrpc_return_float(call, (double)(a / b));
}

const microrpc_function_t board_functions[] = {
    MICRORPC_FUNCTION(sections), MICRORPC_FUNCTION(now),   MICRORPC_FUNCTION(stands),  MICRORPC_FUNCTION(interrupt),
    MICRORPC_FUNCTION(crash),    MICRORPC_FUNCTION(divide), MICRORPC_FUNCTION(vectors),
};
const size_t board_function_count = sizeof board_functions / sizeof board_functions[0];
const microrpc_function_t board_global_functions[] = {MICRORPC_FUNCTION(now)};
const size_t board_global_function_count = 1;
const char board_firmware_name[] = "test", board_firmware_version[] = "1";
"""


def _name_vector(sources: pathlib.Path, number: int) -> None:
    """Enter a handler of the author's own into the vector table of a project."""
    (file,) = (path for path in sources.glob("ports/*/*.c") if "CORTEX_M_VECTORS(" in path.read_text())
    table = re.compile(r"CORTEX_M_VECTORS\((\w+), ")
    text = file.read_text()
    assert len(table.findall(text)) == 1
    file.write_text("void board_interrupt(void);\n" + table.sub(rf"\g<0>[{number}] = board_interrupt, ", text, count=1))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((name, compiler), marks=() if name == "qemu_mps2_an385" else pytest.mark.boards)
        for name, compiler in itertools.product(LAST_INTERRUPT, Compiler)
    ],
    ids=lambda param: "-".join(param),
)
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The port of a board with the functions above, by either compiler."""
    name, compiler = request.param
    needs.emulated(name)
    if compiler is Compiler.GCC:
        needs.program("arm-none-eabi-gcc", "gcc-arm-none-eabi")
    project = tmp_path_factory.mktemp("cortex_m") / "project"
    new_project(project, name)
    _name_vector(project, LAST_INTERRUPT[name])
    (project / "functions.c").write_text(f"#define LAST_INTERRUPT {LAST_INTERRUPT[name]}u\n{FUNCTIONS}")
    built = build_to_run(load_project(project), compiler=compiler, defines=[f"FPU={FPU[name]}"])
    with start_firmware(built) as emulator:
        yield emulator.port


@pytest.fixture
def board(port: str) -> Iterator[microrpc.Client]:
    with microrpc.connect(port, timeouts=TIMEOUTS) as board:
        yield board


def test_what_closed_the_interrupts_finds_them_closed(board: microrpc.Client) -> None:
    sections = board.function("sections")
    assert (sections(1), sections(0)) == (1110, 0)


def test_the_clock_goes_on_with_that_of_the_computer_over_the_wraps_of_its_counter(board: microrpc.Client) -> None:
    now = board.function("now")

    def read() -> tuple[float, int, float]:
        return time.monotonic(), now(), time.monotonic()

    (before, first_us, after), last_us = read(), 0
    while True:
        begin, next_us, end = read()
        assert last_us <= next_us - first_us
        last_us = next_us - first_us
        assert (begin - after) * 0.99 <= last_us / 1e6 <= (end - before) * 1.01
        if begin - after > 1:  # SysTick has wrapped at least once, at 25 MHz
            break


def test_the_clock_does_not_stand_still_where_its_counter_wraps(board: microrpc.Client) -> None:
    """QEMU's does, until the thread that wraps it has come to that: a time that was measured meanwhile was 0."""
    assert board.function("stands")(2_000_000) < 50


def test_a_handler_of_the_authors_own_is_called_for_the_last_interrupt_of_the_chip(board: microrpc.Client) -> None:
    interrupt = board.function("interrupt")
    first = interrupt()
    assert (interrupt(), interrupt()) == (first + 1, first + 2)


def test_the_vectors_are_those_of_the_program_and_not_what_lies_at_0(board: microrpc.Client) -> None:
    vectors = board.function("vectors")
    assert vectors(1) == vectors(0)


def test_floats_are_divided_as_the_compiler_was_told(board: microrpc.Client) -> None:
    assert board.function("divide")(1.0, 3.0) == 0.3333333432674408


def test_a_fault_resets_the_board_and_its_host_is_told(board: microrpc.Client) -> None:
    with pytest.raises(BoardResetError):
        board.function("crash")()
    assert board.function("divide")(1.0, 4.0) == 0.25
