"""Boards with chips of ST, against a model of clocks, pins and UART by the reference manuals: two of them never ran."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import needs
import pytest

pytestmark = pytest.mark.boards  # they build much

FIRMWARE = pathlib.Path(__file__).parent.parent.parent / "firmware"
REGISTER = "#define STM32_REGISTER(base, offset) (*(volatile uint32_t *)((base) + (offset)))"
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")

# In the place of cortex_m.h and systick.h.
CORTEX_M = """
#include <stdint.h>
#define CORTEX_M_VECTORS(count, ...) static void (*const vectors[count])(void) = {__VA_ARGS__}
void cortex_m_enable(uint32_t number);
"""
SYSTICK = """
#include <stdint.h>
void systick_start(uint32_t mhz);
"""

# A word for each register, by its address. What the chip does by itself is done at each access, before it.
MODEL = r"""
#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include "board.c"

enum { HAS_RCC = 1, HAS_HSE = 2, HAS_HSI = 4, HAS_PLL = 8, HAS_LOADER = 16 };
static unsigned has;
static bool was_pll_on;
static uint32_t pll_numbers;
static struct { uint32_t address; uint32_t value; } words[64];
static uint32_t enabled = 1000, systick_mhz;
ring_t port_ring;

static uint32_t *word(uint32_t address) {
    for (size_t i = 0; i < 64; i++) {
        if (words[i].address == 0 || words[i].address == address) {
            words[i].address = address;
            return &words[i].value;
        }
    }
    abort();
}

static void copy_bit(uint32_t *to, unsigned bit, bool is_set) {
    *to = (*to & ~(1u << bit)) | (is_set ? 1u : 0u) << bit;
}

#if IS_L4
#define RCC_AT 0x40021000u
#define ACR_AT 0x40022000u
#define WAIT_STATES 3u
#define SW_PLL 3u
#define PLL_NUMBERS_AT (RCC_AT + 12)
#define LOADER_CR (1u << 8 | 1u << 10 | 1u << 24)
#define LOADER_PLL (2u | 1u << 4 | 18u << 8 | 1u << 24) /* 72 MHz */
#else
#define RCC_AT 0x40023800u
#define ACR_AT 0x40023C00u
#define WAIT_STATES 5u
#define SW_PLL 2u
#define PLL_NUMBERS_AT (RCC_AT + 4)
#define LOADER_CR (0x83u | 1u << 16 | 1u << 24)
#define LOADER_PLL (1u << 29 | 1u << 22 | HSE | 240u << 6 | 1u << 16 | 5u << 24) /* 60 MHz */
#endif

static void follow(void) {
    uint32_t *cr = word(RCC_AT), *cfgr = word(RCC_AT + 8);
    if ((*cfgr >> 2 & 3) == SW_PLL) *cr |= 1u << 24; /* it is not switched off while it is what the chip runs by */
    if (was_pll_on) *word(PLL_NUMBERS_AT) = pll_numbers;
    was_pll_on = *cr >> 24 & 1;
    pll_numbers = *word(PLL_NUMBERS_AT);
#if IS_L4
    bool is_on = *cr >> 8 & 1, is_hsi = is_on && has & HAS_HSI;
    copy_bit(cr, 10, is_hsi);
    copy_bit(cr, 25, (*cr >> 24 & 1) && has & HAS_PLL && (*word(RCC_AT + 12) & 3) == 2 && is_hsi);
#else
    copy_bit(cr, 17, (*cr >> 16 & 1) && has & HAS_HSE);
    bool has_source = *word(RCC_AT + 4) >> 22 & 1 ? *cr >> 17 & 1 : *cr >> 1 & 1;
    copy_bit(cr, 25, (*cr >> 24 & 1) && has & HAS_PLL && has_source);
#endif
    uint32_t used = *cfgr & 3;
    if (used == SW_PLL) assert(*cr >> 25 & 1 && (*word(ACR_AT) & 15) >= WAIT_STATES);
    *cfgr = (*cfgr & ~12u) | used << 2;
}

volatile uint32_t *model_register(uint32_t address) {
    if (has & HAS_RCC) follow();
    if (address >> 8 == UART_AT >> 8) assert(*word(UART_CLOCK_AT) & UART_CLOCK);
    if (address >> 8 == GPIO_AT >> 8) assert(*word(GPIO_CLOCK_AT) & GPIO_CLOCK);
    return word(address);
}

void cortex_m_enable(uint32_t number) { enabled = number; }
void systick_start(uint32_t mhz) { systick_mhz = mhz; }

/* What the CPU runs at, by the registers, in MHz. */
static double cpu_mhz(void) {
    uint32_t used = *word(RCC_AT + 8) & 3;
#if IS_L4
    uint32_t pll = *word(RCC_AT + 12);
    double vco_mhz = 16.0 / ((pll >> 4 & 15) + 1) * (pll >> 8 & 127);
    if (used == SW_PLL) assert(pll >> 24 & 1 && vco_mhz >= 64 && vco_mhz <= 344);
    return used == 0 ? 4 : used == 1 ? 16 : vco_mhz / (2 * (pll >> 25 & 3) + 2);
#else
    uint32_t pll = *word(RCC_AT + 4);
    assert(pll >> 28 == 2 || !(has & HAS_RCC)); /* reserved, as after a reset */
    if (!(has & HAS_RCC)) return 168;
    double in_mhz = (pll >> 22 & 1 ? HSE : 16.0) / (pll & 63), vco_mhz = in_mhz * (pll >> 6 & 511);
    if (used == SW_PLL) assert(in_mhz >= 0.95 && in_mhz <= 2.1 && vco_mhz >= 100 && vco_mhz <= 432);
    if (used == SW_PLL) assert(vco_mhz / (pll >> 24 & 15) == 48);
    return used == 0 ? 16 : vco_mhz / (2 * (pll >> 16 & 3) + 2);
#endif
}

static double bus_mhz(unsigned bits_at, double most_mhz) {
    uint32_t bits = *word(RCC_AT + 8) >> bits_at & 7;
    double mhz = cpu_mhz() / (bits < 4 ? 1 : 2 << (bits - 4));
    if (has & HAS_RCC) assert(mhz <= most_mhz);
    return has & HAS_RCC ? mhz : 168.0 / (bits_at == 10 ? 4 : 2);
}

static void check_pin(unsigned pin, uint32_t function) {
    assert((*word(GPIO_AT) >> 2 * pin & 3) == 2);
    assert((*word(GPIO_AT + 0x20 + 4 * (pin / 8)) >> 4 * (pin % 8) & 15) == function);
}

int main(int count, char **arguments) {
    assert(count == 2);
    has = (unsigned)atoi(arguments[1]);
    if (has & HAS_RCC) {
        *word(RCC_AT) = IS_L4 ? 0x63 : 0x83;
        if (!IS_L4) *word(RCC_AT + 4) = 0x24003010;
    }
    if (has & HAS_LOADER) {
        *word(RCC_AT) = LOADER_CR;
        *word(PLL_NUMBERS_AT) = LOADER_PLL;
        *word(ACR_AT) = WAIT_STATES;
        *word(RCC_AT + 8) = SW_PLL | SW_PLL << 2;
    }
    *word(GPIO_AT) = IS_L4 ? 0xFFFFFFFF : 0;
    port_start();
    double mhz = cpu_mhz();
    assert(systick_mhz == (uint32_t)mhz);
    double apb1_mhz = IS_L4 ? mhz : bus_mhz(10, 45), apb2_mhz = IS_L4 ? mhz : bus_mhz(13, 90);
    double uart_mhz = IS_ON_APB2 ? apb2_mhz : apb1_mhz;
    double baud = uart_mhz * 1e6 * (IS_L4 ? 256 : 1) / *word(UART_AT + BRR);
    assert(baud > 115200 * 0.997 && baud < 115200 * 1.003);
    check_pin(TX, FUNCTION);
    check_pin(RX, FUNCTION);
    if (IS_L4) assert(*word(0x40007004) == 1u << 9);
    assert(enabled == INTERRUPT && vectors[enabled] != NULL && sizeof vectors / sizeof vectors[0] == INTERRUPTS);

    *word(UART_AT + STATUS) = 1u << 5; /* a byte */
    *word(UART_AT + RECEIVED) = 'a';
    vectors[enabled]();
    *word(UART_AT + STATUS) = 1u << 5 | 1u << 3; /* another one, behind which one was lost */
    *word(UART_AT + RECEIVED) = 'b';
    vectors[enabled]();
    *word(UART_AT + STATUS) = 0; /* and one for nothing */
    vectors[enabled]();
    uint8_t bytes[4];
    assert(ring_take(&port_ring, bytes, 4) == 2 && bytes[0] == 'a' && bytes[1] == 'b');
    assert(ring_take_loss(&port_ring) && ring_is_idle(&port_ring));
    if (STATUS != 0) assert(*word(UART_AT + 0x20) == 1u << 3); /* which forgets it */

    *word(UART_AT + STATUS) = 1u << 7;
    port_write(NULL, (const uint8_t *)"xyz", 3);
    assert(*word(UART_AT + SENT) == 'z');
    printf("%.0f\n", mhz);
    return 0;
}
"""

RCC, HSE, HSI, PLL, LOADER = 1, 2, 4, 8, 16
OLD_UART = {"BRR": 8, "STATUS": 0, "RECEIVED": 4, "SENT": 4}
NEW_UART = {"BRR": 12, "STATUS": 0x1C, "RECEIVED": 0x24, "SENT": 0x28}
FACTS = {
    "netduinoplus2": {
        "IS_L4": 0,
        "HSE": 25,
        "IS_ON_APB2": 1,
        **OLD_UART,
        "INTERRUPT": 71,
        "INTERRUPTS": 82,
        "UART_AT": 0x40011400,
        "UART_CLOCK_AT": 0x40023844,
        "UART_CLOCK": 1 << 5,
        "TX": 6,
        "RX": 7,
        "FUNCTION": 8,
        "GPIO_AT": 0x40020800,
        "GPIO_CLOCK_AT": 0x40023830,
        "GPIO_CLOCK": 1 << 2,
    },
    "nucleo_f746zg": {
        "IS_L4": 0,
        "HSE": 8,
        "IS_ON_APB2": 0,
        **NEW_UART,
        "INTERRUPT": 39,
        "INTERRUPTS": 98,
        "UART_AT": 0x40004800,
        "UART_CLOCK_AT": 0x40023840,
        "UART_CLOCK": 1 << 18,
        "TX": 8,
        "RX": 9,
        "FUNCTION": 7,
        "GPIO_AT": 0x40020C00,
        "GPIO_CLOCK_AT": 0x40023830,
        "GPIO_CLOCK": 1 << 3,
    },
    "nucleo_l4r5zi": {
        "IS_L4": 1,
        "HSE": 0,
        "IS_ON_APB2": 0,
        **NEW_UART,
        "INTERRUPT": 70,
        "INTERRUPTS": 95,
        "UART_AT": 0x40008000,
        "UART_CLOCK_AT": 0x4002105C,
        "UART_CLOCK": 1,
        "TX": 7,
        "RX": 8,
        "FUNCTION": 8,
        "GPIO_AT": 0x48001800,
        "GPIO_CLOCK_AT": 0x4002104C,
        "GPIO_CLOCK": 1 << 6,
    },
}


@pytest.fixture(
    scope="module", params=[(name, compiler) for name in FACTS for compiler in ("gcc", "clang")], ids="-".join
)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pathlib.Path]:
    """A board's code on the model of its chip."""
    name, compiler = request.param
    needs.program(compiler)
    directory = tmp_path_factory.mktemp(name)
    for source in (FIRMWARE / "ports" / "stm32").glob("*.[ch]"):
        shutil.copyfile(source, directory / source.name)
    shutil.copyfile(FIRMWARE / "ports" / name / "board.c", directory / "board.c")
    header = (directory / "stm32.h").read_text()
    assert header.count(REGISTER) == 1
    modelled = (
        "volatile uint32_t *model_register(uint32_t address);\n"
        "#define STM32_REGISTER(base, offset) (*model_register((base) + (offset)))"
    )
    (directory / "stm32.h").write_text(header.replace(REGISTER, modelled))
    (directory / "cortex_m.h").write_text(CORTEX_M)
    (directory / "systick.h").write_text(SYSTICK)
    defines = "".join(f"#define {key} {value}u\n" for key, value in FACTS[name].items())
    (directory / "test.c").write_text(MODEL.replace('#include "board.c"\n', f'#include "board.c"\n{defines}'))
    sources = ["test.c", "stm32.c"]
    sources += ["stm32_168mhz.c"] if not FACTS[name]["IS_L4"] else []
    sources += ["stm32_usart.c"] if FACTS[name]["BRR"] == NEW_UART["BRR"] else []
    command = [compiler, *WARNINGS, "-g", f"-I{FIRMWARE / 'ports' / 'common'}", *sources, "-o", "test"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=directory)
    assert (run.returncode, run.stderr) == (0, "")
    return name, directory / "test"


@pytest.mark.parametrize(
    ("has", "f_mhz", "l4_mhz"),
    [
        (RCC | HSE | HSI | PLL, 168, 80),
        (RCC | HSE | HSI | PLL | LOADER, 168, 80),  # by other numbers, as a boot loader has left it
        (RCC | HSI | PLL, 168, 80),  # no crystal, no signal
        (RCC | HSE | HSI, 16, 16),  # no PLL
        (RCC | HSE, 16, 4),
        (0, 168, 4),  # an emulator without clock control
    ],
)
def test_the_clocks_the_pins_and_the_uart_are_right_with_whatever_starts(
    program: tuple[str, pathlib.Path], has: int, f_mhz: int, l4_mhz: int
) -> None:
    name, path = program
    run = subprocess.run([path, str(has)], capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.stderr, run.returncode) == (f"{l4_mhz if FACTS[name]['IS_L4'] else f_mhz}\n", "", 0)
