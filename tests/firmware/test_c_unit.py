"""The device library's own tests in C (firmware/tests), its fuzzer, and what its header compiles with."""

from __future__ import annotations

import itertools
import os
import pathlib
import subprocess
import sys

import needs
import pytest
from c_board import FIRMWARE, INCLUDES, SOURCES, STRICT, SWITCHED_ON, compile_c
from fuzz_seeds import seeds

TESTS = (
    *(FIRMWARE / f"tests/{name}.c" for name in ("board", "check", "host")),
    *sorted(FIRMWARE.glob("tests/test_*.c")),
    *sorted(FIRMWARE.glob("tvm/microrpc_tvm*.c")),
)
FUZZER = (FIRMWARE / "tests/board.c", FIRMWARE / "tests/fuzz.c")
SANITIZED = ("-g", "-fno-sanitize-recover=all")
FUZZED = ("-O2", "-fno-sanitize-coverage=trace-cmp")
"""Without what would take two thirds of the time: fuzz.c makes the checksums, so there is little to be guessed."""
ZIG = (sys.executable, "-m", "ziglang", "cc")
TARGET_32_BITS = "x86-linux-musl"  # static: it needs nothing of the computer but a kernel that runs it
FUZZ_RUNS = "MICRORPC_FUZZ_RUNS"
"""How many inputs the fuzzer tries, instead of some seconds' worth."""
CLANG_PACKAGES = "clang libclang-rt-dev"
PACKAGES_32_BITS = "gcc-multilib g++-multilib"
_PARTS = ("DESCRIBE=1", "EVENTS=1", "RELIABLE_EVENTS=1", "PROGRESS=1", "MEMORY=1", "MODELS=1", "HOOKS=1")
EACH_PART = [
    *((part,) for part in _PARTS),
    *((part, "LINK=0") for part in _PARTS),
    *(tuple(part for part in _PARTS if part != left_out) for left_out in _PARTS),
    (*_PARTS, "LINK=0", "RELEASE_ALL=0", "OLD_TIME_EVALUATORS=0"),
]
"""Each part of the library alone, with and without the link; all but one; and all with all else left out."""
PAIRS = list(itertools.combinations(_PARTS, 2))
SOME_PARTS = [("EVENTS=1",), ("PROGRESS=1",), ("HOOKS=1",), ("EVENTS=1", "PROGRESS=1"), (*_PARTS, "LINK=0"), _PARTS]


def _run_unit_tests(directory: pathlib.Path, *flags: str, compiler: tuple[str, ...] = ZIG) -> list[str]:
    """Build all tests into one program, run it, and give the names of what passed."""
    program = directory / "unit"
    compile_c(*TESTS, *flags, "-o", program, compiler=compiler)
    done = subprocess.run([program], capture_output=True, text=True, errors="replace", check=False, timeout=100)
    assert done.returncode == 0, _shortened(done.stdout + done.stderr)
    return [line.removeprefix("ok ") for line in done.stdout.splitlines() if line.startswith("ok ")]


def _shortened(output: str) -> str:
    """Without the tests that passed, and only so much of the rest."""
    lines = [line for line in output.splitlines() if not line.startswith("ok ")]
    return "\n".join(lines[:100])


def test_the_tests_in_c_pass_under_the_sanitizers(tmp_path: pathlib.Path) -> None:
    needs.program("clang", CLANG_PACKAGES)
    # With -O1 they compile for four times as long.
    flags = (*SWITCHED_ON, "-fsanitize=address,undefined", *SANITIZED, "-O0")
    passed = _run_unit_tests(tmp_path, *flags, compiler=("clang",))
    assert len(passed) > 100
    assert {"numbers_wrap_around", "numbers_of_reliable_events_wrap_around", "a_cancel_may_be_cut_anywhere"} <= {
        *passed
    }


@pytest.mark.long
@pytest.mark.parametrize("optimization", ["-O0", "-O2", "-Os"])
def test_the_tests_in_c_pass_with_zig(tmp_path: pathlib.Path, optimization: str) -> None:
    needs.zig()
    passed = _run_unit_tests(tmp_path, optimization)
    assert len(passed) > 100
    assert "the_description_is_left_out" in passed


@pytest.mark.long
@pytest.mark.parametrize("enums", ["-fno-short-enums", "-fshort-enums"])  # GCC for Arm has the short ones
def test_the_tests_in_c_pass_with_gcc(tmp_path: pathlib.Path, enums: str) -> None:
    needs.program("gcc")
    assert len(_run_unit_tests(tmp_path, "-O2", enums, compiler=("gcc",))) > 100


@pytest.mark.long
@pytest.mark.timeout(400)  # the first time zig builds a C library
def test_the_tests_in_c_pass_where_an_address_has_32_bits(tmp_path: pathlib.Path) -> None:
    needs.zig()
    if os.uname().machine not in ("x86_64", "i686"):
        pytest.skip("this computer runs no programs of 32 bits")
    assert len(_run_unit_tests(tmp_path, *SWITCHED_ON, "-O1", "-target", TARGET_32_BITS)) > 100


@pytest.mark.long
def test_the_tests_in_c_pass_with_all_that_can_be_switched_on(tmp_path: pathlib.Path) -> None:
    needs.program("gcc")
    passed = _run_unit_tests(tmp_path, *SWITCHED_ON, "-O2", compiler=("gcc",))
    assert "the_description_is_left_out" not in passed
    assert "the_description_is_that_of_the_tables" in passed
    assert "the_memory_report_is_left_out" not in passed
    assert "models_are_left_out" not in passed
    assert "the_port_is_told_of_the_end_of_each_frame" in passed


def test_the_tests_in_c_pass_with_what_needs_no_link_without_it(tmp_path: pathlib.Path) -> None:
    needs.program("gcc")
    parts = ("-DMICRORPC_DESCRIBE=1", "-DMICRORPC_MEMORY=1", "-DMICRORPC_HOOKS=1", "-DMICRORPC_MODELS=1")
    passed = _run_unit_tests(tmp_path, *parts, "-DMICRORPC_LINK=0", "-O1", compiler=("gcc",))
    assert {"the_link_is_left_out", "the_description_is_that_of_the_tables"} <= set(passed)
    assert {"the_memory_report_counts_what_is_used", "the_port_is_told_of_waiting"} <= set(passed)
    assert "a_model_runs" in passed


@pytest.mark.long
@pytest.mark.parametrize("flags", SOME_PARTS, ids=" ".join)
def test_the_tests_in_c_pass_with_some_of_the_parts(tmp_path: pathlib.Path, flags: tuple[str, ...]) -> None:
    needs.program("gcc")
    definitions = [f"-DMICRORPC_{flag}" for flag in flags]
    passed = _run_unit_tests(tmp_path, "-O0", *definitions, compiler=("gcc",))
    assert ("events_are_left_out" in passed) == ("EVENTS=1" not in flags or "LINK=0" in flags)
    assert ("long_calls_are_left_out" in passed) == ("PROGRESS=1" not in flags or "LINK=0" in flags)


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [
        *itertools.product(["gcc", "clang"], EACH_PART),
        *(("gcc", flags) for flags in PAIRS),
        *(pytest.param("clang", flags, marks=pytest.mark.long) for flags in PAIRS),  # which takes three times as long
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_the_library_compiles_with_any_of_its_parts(
    tmp_path: pathlib.Path, compiler: str, flags: tuple[str, ...]
) -> None:
    needs.program(compiler)
    command = [compiler, *STRICT, *INCLUDES, *(f"-DMICRORPC_{flag}" for flag in flags), "-fsyntax-only"]
    done = subprocess.run([*command, *map(str, SOURCES)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("target", ["mips-freestanding-eabi", "powerpc-freestanding-eabi", "armeb-freestanding-eabi"])
def test_a_big_endian_cpu_is_refused_in_clear_words(tmp_path: pathlib.Path, target: str) -> None:
    needs.zig()
    library = sorted(FIRMWARE.glob("src/*.c"))
    assert all('#include "microrpc_internal.h"' in source.read_text() for source in library)  # which has the check
    command = [*ZIG, "-target", target, "-ffreestanding", *STRICT, *INCLUDES, "-c", "-o", tmp_path / "o", library[0]]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'error: "microrpc is for little-endian CPUs: ' in done.stderr


@pytest.mark.long
def test_the_tests_in_c_pass_without_the_link(tmp_path: pathlib.Path) -> None:
    needs.zig()
    passed = _run_unit_tests(tmp_path, "-O1", "-DMICRORPC_LINK=0")
    assert "the_link_is_left_out" in passed
    assert "numbers_wrap_around" not in passed


@pytest.mark.long
def test_the_tests_in_c_pass_without_what_can_be_left_out(tmp_path: pathlib.Path) -> None:
    needs.program("gcc")
    flags = ("-O1", "-DMICRORPC_LINK=0", "-DMICRORPC_RELEASE_ALL=0", "-DMICRORPC_OLD_TIME_EVALUATORS=0")
    passed = _run_unit_tests(tmp_path, *flags, compiler=("gcc",))
    assert {"the_link_is_left_out", "release_all_is_left_out"} <= set(passed)
    assert "release_all_frees_whatever_was_allocated" not in passed


def test_a_test_in_c_that_fails_is_reported(tmp_path: pathlib.Path) -> None:
    needs.zig()
    checks = (FIRMWARE / "tests/check.c").read_text().split("int main(")[0]
    calls = """check_number(1, 2, "one", "here.c", 7); check_hex("a", 1, "62", "hex", "here.c", 8);"""
    source = tmp_path / "failing.c"
    source.write_text(f"{checks} int main(void) {{ {calls} return (int)failures; }}")
    compile_c(source, f"-I{FIRMWARE / 'tests'}", "-o", tmp_path / "failing")
    done = subprocess.run([tmp_path / "failing"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "here.c:7: one\n  is      1 (0x1)\n  want    2 (0x2)\n" in done.stdout
    assert "here.c:8: hex\n  is      61\n  want    62\n" in done.stdout


@pytest.mark.long
@pytest.mark.timeout(0 if FUZZ_RUNS in os.environ else 120)
@pytest.mark.parametrize("bits", [64, 32])
def test_the_fuzzer_finds_nothing(tmp_path: pathlib.Path, bits: int) -> None:
    needs.program("clang", CLANG_PACKAGES)
    if bits == 32:
        needs.file("/usr/lib/gcc/x86_64-linux-gnu/*/32/libstdc++.a", PACKAGES_32_BITS)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds()):
        (corpus / f"{number:03}").write_bytes(seed)
    sanitizers = ("-fsanitize=fuzzer,address,undefined", *SANITIZED, f"-m{bits}")
    compile_c(*FUZZER, *SWITCHED_ON, *sanitizers, *FUZZED, "-o", tmp_path / "fuzz", compiler=("clang",))
    options = [f"-runs={os.environ.get(FUZZ_RUNS, '60000')}", "-seed=1", "-max_len=2000", "-timeout=10"]
    command = [str(tmp_path / "fuzz"), *options, f"-artifact_prefix={tmp_path}/found-", str(corpus)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found = "\n".join(f"{path.name}: {path.read_bytes().hex()}" for path in tmp_path.glob("found-*"))
    assert done.returncode == 0, f"{found}\n{done.stderr[-8000:]}"


@pytest.mark.parametrize("link", [(), ("-DMICRORPC_LINK=0",), SWITCHED_ON], ids=["link", "no link", "all"])
@pytest.mark.parametrize("compiler", ["gcc", "clang", "g++", "clang++"])
def test_the_header_compiles_alone(compiler: str, link: tuple[str, ...]) -> None:
    needs.program(compiler)
    language = ("-x", "c++", "-std=c++11", "-Wold-style-cast") if compiler.endswith("++") else ("-x", "c", "-std=c99")
    command = [compiler, *language, "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", *link]
    command += [f"-I{FIRMWARE / 'include'}", "-fsyntax-only", "-"]
    done = subprocess.run(command, input='#include "microrpc.h"\n', capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


PROGRAM = """
#include "microrpc.h"
static void f(microrpc_call_t *call) { (void)call; }
extern const microrpc_function_t functions[];
const microrpc_function_t functions[] = {
    MICRORPC_FUNCTION(f), MICRORPC_FUNCTION_DOC(f, "-> None", "Does nothing."), MICRORPC_FUNCTION_DOC(f, NULL, NULL),
    MICRORPC_FUNCTION_AS("g", f, "x: int -> None", NULL)};
"""


@pytest.mark.parametrize("flags", [(), ("-DMICRORPC_DESCRIBE=1",)], ids=["off", "on"])
@pytest.mark.parametrize("compiler", ["gcc", "clang", "g++", "clang++"])
def test_a_table_of_functions_compiles_without_a_warning(compiler: str, flags: tuple[str, ...]) -> None:
    needs.program(compiler)
    language = ("-x", "c++", "-std=c++11") if compiler.endswith("++") else ("-x", "c", "-std=c99")
    command = [compiler, *language, "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", *flags]
    command += [f"-I{FIRMWARE / 'include'}", "-S", "-o", "-", "-"]
    done = subprocess.run(command, input=PROGRAM, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("Does nothing." in done.stdout) is bool(flags)
