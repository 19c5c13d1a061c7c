"""math.h and string.h for functions on boards: with zig what it brings and what is ours, with GCC its C library."""

from __future__ import annotations

import ctypes
import itertools
import pathlib
import subprocess
from collections.abc import Iterator

import needs
import numpy as np
import pytest

import microrpc
from microrpc.client.board import Board
from microrpc.errors import FirmwareError
from microrpc.firmware import c_library
from microrpc.firmware.build import Compiler, build
from microrpc.firmware.emulator import start_firmware
from microrpc.firmware.new import new_project
from microrpc.firmware.project import load_port, load_project

pytestmark = pytest.mark.boards  # they build much

FIRMWARE = pathlib.Path(__file__).resolve().parents[2] / "firmware"
UNARY = {  # how many units of the last place a float may be off, with the worst of the compilers
    **dict.fromkeys(("fabs", "floor", "ceil", "trunc", "rint", "nearbyint", "sqrt"), 0),
    **dict.fromkeys(("sin", "cos", "tan", "exp", "exp2", "log", "log2", "log10", "cbrt"), 2),
    **dict.fromkeys(("arcsin", "arccos", "arctan", "log1p", "tanh"), 4),
    **dict.fromkeys(("sinh", "cosh", "expm1", "arcsinh"), 12),
}
BINARY = {"fmod": 0, "fmax": 0, "fmin": 0, "copysign": 0, "hypot": 2, "arctan2": 4, "power": 2}
C_NAMES = {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "arcsinh": "asinh", "power": "pow"}
VALUES = np.array([-3.75, -1.0, -0.5, 0.5, 0.3, 0.999, 1.5, 2.5, 7.25, 20.125], np.float32)

FUNCTIONS = """
#include <math.h>
#include <string.h>

#include "functions.h"

static float (*const unary[])(float) = {UNARY};
static float (*const binary[])(float, float) = {BINARY};

static void one(microrpc_call_t *call) {
    microrpc_return_float(call, (double)unary[microrpc_int(call, 0)]((float)microrpc_float(call, 1)));
}

static void two(microrpc_call_t *call) {
    float x = (float)microrpc_float(call, 1), y = (float)microrpc_float(call, 2);
    microrpc_return_float(call, (double)binary[microrpc_int(call, 0)](x, y));
}

static void doubles(microrpc_call_t *call) {
    double x = microrpc_float(call, 0);
    microrpc_return_float(call, sin(x) + exp(x) + log(x) + sqrt(x) + floor(x));
}

/* Whether each function of string.h finds what it must in "key=value=3". */
static void texts(microrpc_call_t *call) {
    microrpc_bytes_t text = microrpc_text(call, 0);
    char copy[40], other[40];
    unsigned wrong = 0;
    if (text.size != 11) return;
    memcpy(copy, text.data, text.size);
    memset(copy + text.size, 0, 1);
    wrong |= (unsigned)(strlen(copy) != 11) << 0;
    wrong |= (unsigned)(memchr(copy, '=', sizeof copy) != copy + 3) << 1;
    wrong |= (unsigned)(strchr(copy, 'v') != copy + 4 || strchr(copy, 'x')) << 2;
    wrong |= (unsigned)(strrchr(copy, '=') != copy + 9) << 3;
    wrong |= (unsigned)(strstr(copy, "lue") != copy + 6) << 4;
    wrong |= (unsigned)(strcmp(strcpy(other, copy), copy) != 0) << 5;
    wrong |= (unsigned)(strncmp(copy, "key:", 3) != 0 || strncmp(copy, "key:", 4) <= 0) << 6;
    wrong |= (unsigned)(strcspn(copy, "=") != 3 || strspn(copy, "eyk") != 3) << 7;
    wrong |= (unsigned)(strcmp(strncat(strcat(other, "+"), copy, 3), "key=value=3+key") != 0) << 8;
    wrong |= (unsigned)(memcmp(strncpy(other, "ab", 4), "ab\\0\\0value=", 10) != 0) << 9;
    wrong |= (unsigned)(strpbrk(copy, "3=") != copy + 3) << 10;
    microrpc_return_int(call, (int64_t)wrong);
}

const microrpc_function_t board_functions[] = {
    MICRORPC_FUNCTION(one), MICRORPC_FUNCTION(two), MICRORPC_FUNCTION(doubles), MICRORPC_FUNCTION(texts)};
const size_t board_function_count = 4;
const microrpc_function_t board_global_functions[] = {MICRORPC_FUNCTION(texts)};
const size_t board_global_function_count = 1;
const char board_firmware_name[] = "math";
const char board_firmware_version[] = "1";
"""


def c_name(name: str) -> str:
    return C_NAMES.get(name, name) + "f"


def project_with(directory: pathlib.Path, functions: str, board: str = "qemu_mps2_an385") -> pathlib.Path:
    new_project(directory, board)
    (directory / "functions.c").write_text(functions)
    return directory


@pytest.fixture(scope="module", params=list(Compiler))
def board(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Board]:
    """A board that runs a user's own project, by each compiler."""
    needs.emulated("qemu_mps2_an385")
    if request.param is Compiler.GCC:
        needs.program("arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi")
    functions = FUNCTIONS.replace("BINARY", ", ".join(map(c_name, BINARY)))
    functions = functions.replace("UNARY", ", ".join(map(c_name, UNARY)))
    directory = project_with(tmp_path_factory.mktemp("math") / request.param, functions)
    firmware = build(load_project(directory), compiler=request.param)
    with start_firmware(firmware) as emulator, microrpc.connect(emulator.port) as connected:
        yield connected


def check(found: float, exact: float, units: int, what: str) -> None:
    if not np.isfinite(exact):
        assert np.array_equal(found, exact, equal_nan=True), what
    else:
        assert abs(found - exact) <= units * float(np.spacing(np.abs(np.float32(exact)))), what


def test_functions_of_math_h_are_right_on_a_board(board: Board) -> None:
    one, two = board.function("one"), board.function("two")
    with np.errstate(all="ignore"):
        for number, (name, units) in enumerate(UNARY.items()):
            for x in VALUES:
                exact = np.float64(getattr(np, name if name != "nearbyint" else "rint")(np.float64(x)))
                exact = exact if units else np.float64(np.float32(exact))
                check(one(number, float(x)), float(exact), units, f"{name}({x})")
        for number, (name, units) in enumerate(BINARY.items()):
            for x, y in itertools.product(VALUES[::3], VALUES[1::3]):
                exact = np.float64(getattr(np, name)(np.float64(x), np.float64(y)))
                check(two(number, float(x), float(y)), float(exact), units, f"{name}({x}, {y})")


def test_functions_of_double_are_right_on_a_board(board: Board) -> None:
    x = 2.625
    exact = np.sin(x) + np.exp(x) + np.log(x) + np.sqrt(x) + np.floor(x)
    assert abs(board.function("doubles")(x) - exact) <= 4 * np.spacing(exact)


def test_functions_of_string_h_are_right_on_a_board(board: Board) -> None:
    assert board.function("texts")("key=value=3") == 0


# --- what is not there ------------------------------------------------------------------------------


CALL = """
#include <math.h>
#include "functions.h"
static void f(microrpc_call_t *call) { microrpc_return_float(call, (double)NAME(ARGUMENTS)); }
const microrpc_function_t board_functions[] = {MICRORPC_FUNCTION(f)}, board_global_functions[] = {MICRORPC_FUNCTION(f)};
const size_t board_function_count = 1, board_global_function_count = 1;
const char board_firmware_name[] = "", board_firmware_version[] = "";
"""


@pytest.mark.parametrize(
    ("name", "arguments", "advice"),
    [
        ("pow", "microrpc_float(call, 0), 2.5", "zig has no pow for a board: use powf, or build with --compiler gcc"),
        ("tgammaf", "(float)microrpc_float(call, 0)", "zig has no tgammaf for a board: build with --compiler gcc"),
    ],
)
def test_a_function_that_zig_has_not_is_an_error_that_says_what_to_do(
    tmp_path: pathlib.Path, name: str, arguments: str, advice: str
) -> None:
    needs.zig()
    directory = project_with(tmp_path / "p", CALL.replace("NAME", name).replace("ARGUMENTS", arguments))
    with pytest.raises(FirmwareError, match=advice):
        build(load_project(directory))


def test_gcc_without_a_c_library_is_an_error_that_says_what_to_do(tmp_path: pathlib.Path) -> None:
    """Debian's GCC for RISC-V has none."""
    needs.program("riscv64-unknown-elf-gcc", "gcc-riscv64-unknown-elf")
    functions = CALL.replace("NAME", "sinf").replace("ARGUMENTS", "(float)microrpc_float(call, 0)")
    directory = project_with(tmp_path / "p", functions, "qemu_riscv32_virt")
    wanted = r"math\.h: No such file(.|\n)*riscv64-unknown-elf-gcc has no C library here, .*: build with --compiler zig"
    with pytest.raises(FirmwareError, match=wanted):
        build(load_project(directory), compiler=Compiler.GCC)


def test_the_c_library_of_gcc_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    port = load_port("qemu_mps2_an385")
    said = "ld: cannot find -lm: No such file or directory"
    monkeypatch.setattr(c_library, "_gcc_has_it", lambda *_: False)
    hint = c_library.hint_for_gcc(port, ("gcc",), said)
    assert "apt-get install --no-install-recommends libnewlib-arm-none-eabi, or build with --compiler zig" in hint
    assert c_library.hint_for_gcc(port, ("gcc",), "expected ';' before '}' token") == ""
    flags = ["-nostdlib", "-lm", "-lc", "-lgcc"]
    assert c_library.without_what_gcc_lacks(port, ("gcc",), flags, 1.0, None) == ["-nostdlib", "-lgcc"]
    monkeypatch.setattr(c_library, "_gcc_has_it", lambda *_: True)
    assert c_library.without_what_gcc_lacks(port, ("gcc",), flags, 1.0, None) == flags
    assert c_library.hint_for_gcc(port, ("gcc",), said) == ""


# --- string.c by itself -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strings(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    needs.program("gcc")
    folder = tmp_path_factory.mktemp("string")
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-O2", "-ffreestanding"]
    source = FIRMWARE / "libc" / "string.c"
    command = ["gcc", *flags, "-fno-builtin", "-fPIC", "-shared", "-Wl,-Bsymbolic", source, "-o", folder / "string.so"]
    subprocess.run(list(map(str, command)), check=True, timeout=60)
    return ctypes.CDLL(str(folder / "string.so"))


WORDS = [b"".join(letters) for size in range(4) for letters in itertools.product((b"a", b"b", b"\xe4"), repeat=size)]


def found_at(library: ctypes.CDLL, name: str, text: bytes, wanted: bytes | int) -> int:
    """Where a function finds it, -1 where it does not."""
    buffer = ctypes.create_string_buffer(text)
    function = library[name]
    function.restype = ctypes.c_void_p
    at = function(buffer, wanted)
    return -1 if at is None else int(at) - ctypes.addressof(buffer)


def test_what_string_c_finds_is_what_is_there(strings: ctypes.CDLL) -> None:
    for text, other in itertools.product(WORDS, WORDS):
        assert found_at(strings, "strstr", text, other) == text.find(other)
        order = strings.strcmp(text, other)
        assert (order > 0) - (order < 0) == (text > other) - (text < other)
        for most in range(5):
            order = strings.strncmp(text, other, ctypes.c_size_t(most))
            assert (order > 0) - (order < 0) == (text[:most] > other[:most]) - (text[:most] < other[:most])
        span = len(text) - len(text.lstrip(other)) if other else 0
        assert strings.strspn(text, other) == span
        first = min((at for at in map(text.find, (bytes([letter]) for letter in other)) if at >= 0), default=-1)
        assert strings.strcspn(text, other) == (len(text) if first < 0 else first)
        assert found_at(strings, "strpbrk", text, other) == first
    for text, letter in itertools.product(WORDS, b"ab\xe4c"):
        assert found_at(strings, "strchr", text, letter) == text.find(letter)
        assert found_at(strings, "strrchr", text, letter) == text.rfind(letter)
        assert found_at(strings, "strchr", text, 0) == found_at(strings, "strrchr", text, 0) == len(text)
    assert strings.strnlen(b"abc", ctypes.c_size_t(2)) == 2
    assert strings.strnlen(b"abc", ctypes.c_size_t(9)) == 3


def test_what_string_c_copies_is_that_and_no_more(strings: ctypes.CDLL) -> None:
    for text, before, size in itertools.product(WORDS[::3], WORDS[::7], range(5)):
        room = ctypes.create_string_buffer(before + b"\0" + b"#" * 12)
        strings.strcat(room, text)
        assert room.raw.startswith(before + text + b"\0" + b"#" * (12 - len(text)))
        room = ctypes.create_string_buffer(before + b"\0" + b"#" * 12)
        strings.strncat(room, text, ctypes.c_size_t(size))
        assert room.raw.startswith(before + text[:size] + b"\0" + b"#" * (12 - len(text[:size])))
        room = ctypes.create_string_buffer(b"#" * 12)
        strings.strncpy(room, text, ctypes.c_size_t(size))
        assert room.raw[:12] == text[:size].ljust(size, b"\0") + b"#" * (12 - size)
        room = ctypes.create_string_buffer(b"#" * 12)
        strings.strcpy(room, text)
        assert room.raw[:12] == text + b"\0" + b"#" * (11 - len(text))


@pytest.mark.parametrize("name", ["strchr", "memcpy", "sinf"])
def test_ours_are_weak(tmp_path: pathlib.Path, name: str) -> None:
    """A C library that somebody brings goes first."""
    needs.zig()
    functions = CALL.replace("NAME", "fabs").replace("ARGUMENTS", "1.0")
    own = {
        "strchr": "char *strchr(const char *text, int letter) { return letter ? 0 : (char *)(unsigned long)text; }",
        "memcpy": "void *memcpy(void *restrict to, const void *restrict from, unsigned size) "
        "{ char *t = to; for (const volatile char *f = from; size; size--) *t++ = *f++; return to; }",
        "sinf": "float sinf(float x) { return x; }",
    }
    directory = project_with(tmp_path / "p", functions + "\n")
    (directory / "own.c").write_text(f"{own[name].partition('{')[0]};\n{own[name]}\n")
    assert build(load_project(directory)).sizes.code_bytes > 1000  # two of a name would be an error
