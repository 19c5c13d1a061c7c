"""A section of a user's that closed interrupts stays closed, whatever of the port it calls."""

from __future__ import annotations

import pathlib

import needs
import pytest

import microrpc
from microrpc.firmware.build import build
from microrpc.firmware.emulator import start_firmware
from microrpc.firmware.new import new_project
from microrpc.firmware.project import load_project

FUNCTIONS = """
#include "functions.h"
#include "port.h"

static uint32_t close_all(void) {
    uint32_t was;
    __asm__ volatile(CLOSE : "=r"(was)::"memory");
    return was;
}

static uint32_t look(void) {
    uint32_t is;
    __asm__ volatile(LOOK : "=r"(is));
    return is & MASK;
}

/* 1 if the clock and a line of the log leave interrupts as they were, closed and open. */
static void keeps(microrpc_call_t *call) {
    uint32_t open = look(), closed;
    close_all();
    closed = look();
    port_now_us(NULL);
    microrpc_log(microrpc_device(call), "from a critical section");
    microrpc_return_int(call, look() == closed && closed != open);
    __asm__ volatile(OPEN ::: "memory");
    port_now_us(NULL);
    if (look() != open) microrpc_fail(call, "they were open");
}

const microrpc_function_t board_functions[] = {MICRORPC_FUNCTION(keeps)};
const size_t board_function_count = 1;
const microrpc_function_t board_global_functions[] = {MICRORPC_FUNCTION(keeps)};
const size_t board_global_function_count = 1;
const char board_firmware_name[] = "interrupts";
const char board_firmware_version[] = "1";
"""
CORTEX_M = ("mrs %0, primask\\n\\tcpsid i", "mrs %0, primask", "cpsie i", "1")
RISCV = ("csrrci %0, mstatus, 8", "csrr %0, mstatus", "csrsi mstatus, 8", "8")


@pytest.mark.parametrize(
    ("board", "instructions"),
    [
        ("qemu_mps2_an385", CORTEX_M),
        pytest.param("qemu_lm3s6965evb", CORTEX_M, marks=pytest.mark.boards),
        pytest.param("qemu_riscv32_virt", RISCV, marks=pytest.mark.boards),
    ],
)
def test_a_critical_section_stays_closed(tmp_path: pathlib.Path, board: str, instructions: tuple[str, ...]) -> None:
    needs.emulated(board)
    functions = FUNCTIONS
    for place, text in zip(("CLOSE", "LOOK", "OPEN", "MASK"), instructions, strict=True):
        functions = functions.replace(place, text if place == "MASK" else f'"{text}"')
    new_project(tmp_path / "p", board)
    (tmp_path / "p" / "functions.c").write_text(functions)
    with start_firmware(build(load_project(tmp_path / "p"))) as emulator, microrpc.connect(emulator.port) as connected:
        assert connected.function("keeps")() == 1
