"""Zephyr: the sample and a new application, by their own Kconfig and CMake files, on a stub; the clock; the module."""

from __future__ import annotations

import os
import pathlib
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

import kconfiglib
import needs
import numpy as np
import pytest
from on_stubs import FIRMWARE, WARNINGS, compile_strictly, running, serving

from microrpc.errors import FirmwareError
from microrpc.firmware.new import new_project
from microrpc.firmware.project import load_project
from microrpc.wire.frames import FrameDecoder, FrameEncoder
from microrpc.wire.link import RequestKind, encode_with_kind
from microrpc.wire.packets import PacketCode, Syscall, encode_packet
from microrpc.wire.session import MessageType, encode_message

pytestmark = pytest.mark.boards  # they build much

ROOT = FIRMWARE.parent
STUB = FIRMWARE / "tests/zephyr_stub"
SAMPLE = FIRMWARE / "ports/zephyr/samples/microrpc"
ZIG = "zig"


@dataclass(frozen=True)
class Configuration:
    """What Kconfig makes of an application's files."""

    settings: dict[str, str] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)


def configure(application: pathlib.Path, board: str, extra: str = "") -> Configuration:
    """Do as Zephyr's kconfig.py: prj.conf, the board's file, more lines; what was set and did not come about counts."""
    module = application / "microrpc" if (application / "microrpc").is_dir() else ROOT
    (kconfig,) = re.findall(r"^  kconfig: (.*)$", (module / "zephyr/module.yml").read_text(), flags=re.MULTILINE)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("srctree", STUB), ("BOARD", board), ("MODULE_KCONFIG", module / kconfig)):
            patch.setenv(name, str(value))
        options = kconfiglib.Kconfig(str(application / "Kconfig"), warn_to_stderr=False)
        lines = [(application / "prj.conf").read_text()]
        if (conf := application / f"boards/{board}.conf").is_file():
            lines.append(conf.read_text())
        assigned = dict(re.findall(r"^CONFIG_(\w+)=(.*)$", "\n".join([*lines, extra]), flags=re.MULTILINE))
        for name, value in assigned.items():
            if name in options.syms:
                options.syms[name].set_value(value.strip('"'))
    unknown = [f"{name}: there is none" for name in assigned if name not in options.syms]
    got = {name: symbol.str_value for name, symbol in options.syms.items() if symbol.nodes}
    differs = [f"{name}={value}: is {got[name]}" for name, value in assigned.items() if got.get(name, value) != value]
    return Configuration(got, [*options.warnings, *unknown, *differs])


def build(
    application: pathlib.Path,
    board: str,
    directory: pathlib.Path,
    compiler: str = "gcc",
    extra: str = "",
    flags: str = "",
) -> pathlib.Path:
    """Build an application as west does, with the stub in Zephyr's place; give the program."""
    for program in ("cmake", "make"):
        needs.program(program)
    if compiler == ZIG:
        needs.zig()
        compiler = str(directory / "zig-cc")
        pathlib.Path(compiler).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ziglang cc "$@"\n')
        pathlib.Path(compiler).chmod(0o755)
    else:
        needs.program(compiler)
    configuration = configure(application, board, extra)
    assert configuration.complaints == []
    variables = [f'set(CONFIG_{name} "{value}")' for name, value in configuration.settings.items() if value != "n"]
    (directory / "config.cmake").write_text("\n".join(variables) + "\n")
    settings = {
        "Zephyr_DIR": STUB,
        "CONFIGURATION": directory / "config.cmake",
        "AUTOCONF": write_autoconf(configuration, directory),
        "CMAKE_C_COMPILER": compiler,
        "CMAKE_C_FLAGS": " ".join(("-std=c99", *WARNINGS, flags)),
    }
    run(
        "cmake",
        "-G",
        "Unix Makefiles",
        "-S",
        application,
        "-B",
        directory / "build",
        *(f"-D{key}={value}" for key, value in settings.items()),
    )
    run("cmake", "--build", directory / "build", "--parallel", "2")
    return directory / "build/app"


def write_autoconf(configuration: Configuration, directory: pathlib.Path) -> pathlib.Path:
    """Write the header in which C finds the settings."""
    lines = []
    for name, value in configuration.settings.items():
        if value not in ("n", ""):
            literal = "1" if value == "y" else value if re.fullmatch(r"-?\d+", value) else f'"{value}"'
            lines.append(f"#define CONFIG_{name} {literal}\n")
    file = directory / "autoconf.h"
    file.write_text("".join(lines))
    return file


def run(*command: str | pathlib.Path) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("compiler", "board", "extra", "flags"),
    [
        ("gcc", "qemu_cortex_m3", "CONFIG_MICRORPC_MODELS=y\nCONFIG_MICRORPC_RELIABLE_EVENTS=y", ""),
        ("clang", "native_sim", "CONFIG_MICRORPC_MODELS=y", ""),
        (ZIG, "another_board", "CONFIG_MICRORPC_MODELS=y", "-DSTUB_HAS_microrpc_uart=1"),
    ],
)
def test_the_sample_serves_the_functions_of_the_demonstration(
    tmp_path: pathlib.Path, compiler: str, board: str, extra: str, flags: str
) -> None:
    data = np.arange(12000, dtype=np.uint8)
    with serving(build(SAMPLE, board, tmp_path, compiler, extra, flags)) as client:
        assert client.function("add")(2, 3) == 5
        assert client.identity.board == board
        assert [table.name for table in client.models()] == ["mlp", "quantised"]
        np.testing.assert_array_equal(client.array(data).numpy(), data)
        assert client.memory().heap_bytes > 8192
        assert (client.stats.frames_damaged, client.stats.repeats) == (0, 0)
        timing = client.time_evaluator("add", number=1000, repeat=3)(2, 3)
        assert all(0 < result < 1e-3 for result in timing.results)


@pytest.mark.parametrize("board", ["qemu_cortex_m3", "native_sim"])
def test_the_sample_has_no_warning_where_pointers_have_32_bits(tmp_path: pathlib.Path, board: str) -> None:
    needs.zig()
    configuration = configure(SAMPLE, board, "CONFIG_MICRORPC_MODELS=y\nCONFIG_MICRORPC_RELIABLE_EVENTS=y")
    autoconf = write_autoconf(configuration, tmp_path)
    parts = [f"-D{name}=1" for name, value in configuration.settings.items() if (name[:9], value) == ("MICRORPC_", "y")]
    includes = [f"-I{folder}" for folder in (STUB, "include", "demo", "ports/common")]
    options = (
        "-target",
        "arm-linux-musleabi",
        "-std=c99",
        "-imacros",
        autoconf,
        *parts,
        "-DRING_BYTES=8192",
        *includes,
    )
    zig = (sys.executable, "-m", "ziglang", "cc")
    compile_strictly(*zig, *options, *includes, "-c", SAMPLE / "src/main.c", "-o", tmp_path / "main.o")


@pytest.mark.parametrize("board", ["qemu_cortex_m3", "native_sim"])
def test_a_byte_that_the_uart_lost_is_told_to_the_host_at_once(tmp_path: pathlib.Path, board: str) -> None:
    """It is the last one of a frame, so nothing else would tell of it."""
    encoder, decoder = FrameEncoder(), FrameDecoder(1 << 16)
    heard: list[int] = []
    with running(build(SAMPLE, board, tmp_path)) as (port, process_id):
        line = os.open(port, os.O_RDWR | os.O_NOCTTY)
        try:
            os.write(line, encoder.encode(encode_message(0x11, MessageType.START_SESSION_INIT, b"\x01")))
            while MessageType.LINK_NAK not in heard:
                assert select.select([line], [], [], 20)[0], f"only {heard} came"
                for payload in decoder.feed(os.read(line, 4096)):
                    assert isinstance(payload, bytes)
                    heard.append(payload[2])
                    if payload[2] == MessageType.START_SESSION_REPLY:
                        session_id = int.from_bytes(payload[:2], "little")
                        look_up = encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("add",)))
                        message = encode_with_kind(session_id, MessageType.LINK_REQUEST, 0, RequestKind.PACKET, look_up)
                        os.write(line, encoder.encode(message))
                    elif payload[2] == MessageType.LINK_REPLY:
                        os.write(line, encoder.encode(message)[:-1])
                        time.sleep(0.1)  # until it has them
                        os.kill(process_id, signal.SIGUSR1)
        finally:
            os.close(line)


def test_a_small_build_has_no_link_and_goes_on(tmp_path: pathlib.Path) -> None:
    parts = ("LINK", "EVENTS", "PROGRESS", "RELEASE_ALL", "OLD_TIME_EVALUATORS", "HOOKS", "MEMORY", "DESCRIBE")
    extra = "\n".join(f"CONFIG_MICRORPC_{part}=n" for part in parts)
    with serving(build(SAMPLE, "qemu_cortex_m3", tmp_path, extra=extra)) as client:
        assert client.function("add")(2, 3) == 5
        assert client.link is None


def test_a_new_application_is_built_from_what_it_has_alone(tmp_path: pathlib.Path) -> None:
    application = tmp_path / "my app"
    said = new_project(application, "zephyr")
    assert said[-1].endswith(f"west build -b BOARD '{application}'")
    (tmp_path / "out").mkdir()
    with serving(build(application, "native_sim", tmp_path / "out")) as client:
        assert client.function("add")(2, 3) == 5
        assert client.identity.firmware == "my app"
        array = client.array(np.arange(4, dtype="float32"))
        client.function("scale")(array, 0.5)
        assert array.numpy().tolist() == [0, 0.5, 1, 1.5]
    dependencies = subprocess.run(
        ["grep", "-rlF", str(FIRMWARE / "src"), tmp_path / "out" / "build"], capture_output=True, text=True, timeout=60
    )
    assert dependencies.stdout == ""


def test_microrpc_builds_no_application_for_zephyr_and_says_what_does(tmp_path: pathlib.Path) -> None:
    new_project(tmp_path / "app", "zephyr")
    with pytest.raises(FirmwareError, match="is an application for Zephyr, which west builds: west build -b BOARD "):
        load_project(tmp_path / "app")


def test_every_part_of_the_library_can_be_chosen_in_kconfig() -> None:
    text = (FIRMWARE / "include/microrpc_parts.h").read_text()
    defaults_in_c = r"^#ifndef (MICRORPC_\w+)\n#define \1 ([01]|MICRORPC_BY_DEFAULT)$"
    parts = dict(re.findall(defaults_in_c, text, flags=re.MULTILINE))
    assert len(parts) >= 10
    settings = configure(SAMPLE, "qemu_cortex_m3", "\n".join(f"CONFIG_{part}=y" for part in parts)).settings
    assert [part for part in parts if settings.get(part) != "y"] == []
    defaults = configure_defaults()
    assert {part: defaults[part] for part in parts} == {part: "y" if on == "1" else "n" for part, on in parts.items()}
    cmake = (FIRMWARE / "ports/zephyr/CMakeLists.txt").read_text()
    switched = {f"MICRORPC_{part}" for group in re.findall(r"foreach\(part (.*?)\)", cmake) for part in group.split()}
    assert switched == set(parts)


def configure_defaults() -> dict[str, str]:
    """Give what Kconfig has where an application says CONFIG_MICRORPC=y and no more."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("srctree", STUB), ("BOARD", "b"), ("MODULE_KCONFIG", FIRMWARE / "ports/zephyr/Kconfig")):
            patch.setenv(name, str(value))
        options = kconfiglib.Kconfig(str(STUB / "Kconfig.zephyr"), warn_to_stderr=False)
        options.syms["MICRORPC"].set_value("y")
    return {name: symbol.str_value for name, symbol in options.syms.items()}


def test_the_variants_that_twister_builds_can_be() -> None:
    text = (SAMPLE / "sample.yaml").read_text()
    variants = re.split(r"^  (?=sample\.)", text.partition("tests:\n")[2], flags=re.MULTILINE)[1:]
    assert len(variants) == 3
    for variant in variants:
        extra = "\n".join(re.findall(r"- (CONFIG_\w+=\w+)", variant))
        (boards,) = re.findall(r"platform_allow:\n((?: +- \w+\n)+)", variant)
        for board in re.findall(r"\w+", boards):
            assert configure(SAMPLE, board, extra).complaints == []


@pytest.mark.parametrize("setting", ["PACKET_BYTES=64", "RING_BYTES=100", "MEMORY_BYTES=1000"])
def test_a_size_that_no_device_can_have_is_refused_by_kconfig(setting: str) -> None:
    complaints = configure(SAMPLE, "another_board", f"CONFIG_SAMPLE_{setting}").complaints
    assert any(f"SAMPLE_{setting.partition('=')[0]}" in complaint for complaint in complaints)


def test_memory_without_room_for_the_largest_message_does_not_compile(tmp_path: pathlib.Path) -> None:
    with pytest.raises(AssertionError, match="there_is_memory_for_the_largest_message"):
        build(SAMPLE, "another_board", tmp_path, extra="CONFIG_SAMPLE_PACKET_BYTES=16000")


def test_a_setting_that_does_not_come_about_is_noticed() -> None:
    extra = "CONFIG_UART_INTERRUPT_DRIVEN=y\nCONFIG_MICRORPC_LINC=y\nCONFIG_CONSOLE=n"
    selected, *complaints = configure(SAMPLE, "native_sim", extra).complaints
    assert "POSIX_ARCH_CONSOLE" in selected
    assert "has direct dependencies CONSOLE with value n" in selected
    assert complaints == ["MICRORPC_LINC: there is none", "UART_INTERRUPT_DRIVEN=y: is n"]


# --- the clock ------------------------------------------------------------------------------------

CLOCK_TEST = r"""
#include <assert.h>
#include <stdlib.h>

#include "clock.h"

static uint64_t now, hz, ticks_hz; /* in cycles since the boot */
static uint32_t first_cycles;
static int64_t first_ticks;
static int64_t ppm; /* by how much the ticks go faster */

int64_t k_uptime_ticks(void) {
    int64_t cycles = (int64_t)now + (int64_t)(now / 1000000) * ppm;
    return first_ticks + (int64_t)((uint64_t)cycles / hz * ticks_hz + (uint64_t)cycles % hz * ticks_hz / hz);
}

uint64_t k_ticks_to_cyc_floor64(uint64_t ticks) { return ticks / ticks_hz * hz + ticks % ticks_hz * hz / ticks_hz; }

uint32_t k_cycle_get_32(void) { return first_cycles + (uint32_t)now; }

int sys_clock_hw_cycles_per_sec(void) { return (int)hz; }

static uint64_t us_of(uint64_t cycles) { return cycles / hz * 1000000 + cycles % hz * 1000000 / hz; }

static uint64_t random_below(uint64_t limit) {
    uint64_t number = 0;
    for (int i = 0; i < 5; i++) number = number << 15 ^ (uint64_t)(rand() & 0x7FFF);
    return number % limit;
}

/* However long nobody asks, each answer is exact. */
static void check(uint64_t longest) {
    board_clock_t clock = {0};
    now = random_below(hz * 100);
    uint64_t began = now;
    assert(clock_read_us(&clock) == 0);
    for (int i = 0; i < 2000; i++) {
        now += random_below(i % 2 ? longest : 1000);
        assert(clock_read_us(&clock) == us_of(now - began));
    }
}

int main(void) {
    static const uint64_t rates[][2] = {
        {12000000, 100}, {12000000, 10000}, {32768, 32768}, {32768, 100}, {216000000, 10000}, {480000000, 100},
        {1000000000, 1000000}, {2000000000, 100}, {133333333, 10000},
    };
    static const uint32_t firsts[] = {0, 1, 0x7FFFFFFFu, 0x80000000u, 0xFFFFFFFFu, 0xFFFF0000u};
    srand(1);
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        for (size_t k = 0; k < sizeof firsts / sizeof *firsts; k++) {
            hz = rates[i][0];
            ticks_hz = rates[i][1];
            first_cycles = firsts[k];
            first_ticks = (int64_t)k * 12345;
            ppm = 0;
            check(hz / 50);                    /* within a few ticks */
            check(hz * 100);                   /* over wraps of the counter, up to 46 */
            check(hz * 86400);                 /* over days */
            ppm = k % 2 ? 100 : -100;          /* as two crystals may differ */
            check(hz * 1000);
        }
    }

    /* The 32 bits that the library has of it wrap, too. */
    board_clock_t clock = {0};
    hz = 12000000, ticks_hz = 100, ppm = 0, now = 0;
    clock_read_us(&clock);
    now = hz / 1000000 * UINT64_C(0xFFFFFFFF);
    assert((uint32_t)clock_read_us(&clock) == 0xFFFFFFFFu);
    now += 12;
    assert((uint32_t)clock_read_us(&clock) == 0);

    /* The counter of another core, a little behind: the time stands still until it has come so far. */
    uint64_t before = clock_read_us(&clock);
    now -= 240;
    assert(clock_read_us(&clock) == before);
    now += 252;
    assert(clock_read_us(&clock) == before + 1);
    return 0;
}
"""


def test_the_clock_is_exact_over_wraps_of_the_counter_however_long_nobody_asks(tmp_path: pathlib.Path) -> None:
    needs.program("gcc")
    (tmp_path / "clock_test.c").write_text(CLOCK_TEST)
    includes = (f"-I{SAMPLE / 'src'}", f"-I{STUB}")
    compile_strictly("gcc", "-std=c99", "-O1", *includes, tmp_path / "clock_test.c", "-o", tmp_path / "clock_test")
    subprocess.run([tmp_path / "clock_test"], check=True, timeout=60)
