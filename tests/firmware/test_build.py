"""Building firmware: port.toml, compilers, the cache, sizes."""

from __future__ import annotations

import dataclasses
import os
import struct
import subprocess
import threading
import tomllib
from pathlib import Path

import devices
import needs
import pytest

import microrpc.firmware.build
import microrpc.firmware.project
from microrpc.errors import FirmwareError
from microrpc.firmware.build import Compiler, build
from microrpc.firmware.elf import Sizes, read_sizes
from microrpc.firmware.new import DEFINES, new_project
from microrpc.firmware.project import (
    Emulation,
    Gcc,
    firmware_directory,
    load_port,
    load_project,
    port_names,
    read_project,
)

pytestmark = pytest.mark.usefixtures("own_cache")

MAIN = """
#ifndef SIZE
#define SIZE 1000
#endif
static volatile char zeros[SIZE];
static volatile char initialized[64] = {1};
int main(void) { return zeros[1] + initialized[2]; }
"""
CORTEX_M3 = """
[build]
target = "thumb-freestanding-eabi"
cpu = "cortex_m3"
flags = ["-Os", "-ffreestanding", "-nostdlib", "-Wl,-e,main"]
sources = ["*.c"]
linker_script = "all.ld"
"""
LINKER_SCRIPT = """
SECTIONS {
    . = 0;
    .text : { *(.text .text.* .rodata .rodata.*) }
    . = 0x20000000;
    .data : { *(.data .data.*) }
    .bss : { *(.bss .bss.*) }
    /DISCARD/ : { *(.ARM.*) }
}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A project that builds for a Cortex-M3."""
    path = tmp_path / "mine"
    path.mkdir()
    (path / "port.toml").write_text(CORTEX_M3)
    (path / "main.c").write_text(MAIN)
    (path / "all.ld").write_text(LINKER_SCRIPT)
    return path


# --- port.toml --------------------------------------------------------------------------------


def test_a_port_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "port.toml").write_text("""
[build]
target = "riscv32-freestanding-none"
cpu = "generic_rv32+m"
flags = ["-DX=1"]
sources = ["b.c", "*.c"]
includes = ["include"]
defines = ["A", "B=2"]
linker_script = "l.ld"
[build.gcc]
prefix = "riscv64-unknown-elf-"
flags = ["-mabi=ilp32"]
[emulator]
program = "qemu-system-riscv32"
machine = "virt"
args = ["-bios", "none"]
package = "qemu-system-misc"
""")
    for name in ("a.c", "b.c", "c.h"):
        (tmp_path / name).touch()
    project = load_project(tmp_path)
    assert (project.name, project.root, project.target) == (tmp_path.name, tmp_path, "riscv32-freestanding-none")
    assert project.source_files() == ["b.c", "a.c"]
    assert project.defines == ("A", "B=2")
    assert project.gcc == Gcc("riscv64-unknown-elf-", ("-mabi=ilp32",))
    assert project.emulation == Emulation("qemu-system-riscv32", "virt", ("-bios", "none"), "qemu-system-misc")


def test_what_is_built_for_this_computer_runs_on_it(tmp_path: Path) -> None:
    (tmp_path / "port.toml").write_text('[build]\nsources = ["*.c"]\n')
    assert load_project(tmp_path).emulation == Emulation()
    (tmp_path / "port.toml").write_text(CORTEX_M3)
    assert load_project(tmp_path).emulation is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "build: is missing"),
        ("[build]", "build: is missing"),
        ('[build]\nflags = ["x"]', "build.sources: is missing"),
        ('[build]\nsources = ["x"]\nflag = ["x"]', "build.flag: unknown key; did you mean 'flags'?"),
        ("[build]\nsources = [1]", "build.sources: must be a list of texts, not [1]"),
        ('[build]\nsources = "x"', "build.sources: must be a list of texts, not 'x'"),
        ('[build]\nsources = ["x"]\ntarget = 3', "build.target: must be a text, not 3"),
        ('[build]\nsources = ["x"]\ngcc = "arm"', "build.gcc: must be a table, not 'arm'"),
        ('[build]\nsources = ["x"]\n[build.gcc]\nprefx = ""', "build.gcc.prefx: unknown key; did you mean 'prefix'?"),
        ('[build]\nsources = ["x"]\nuf2_family = -1', "build.uf2_family: must be from 0 to 4294967295, not -1"),
        ('[build]\nsources = ["x"]\n[emulator]\nmachine = "q"', "emulator.program: is missing"),
        (
            '[build]\nsources = ["x"]\n[emulator]\nproject = "e"\nmachine = "q"',
            "emulator.machine: is for QEMU, which emulator.program names: there is none",
        ),
        (
            '[build]\nsources = ["x"]\n[emulator]\nproject = "e"\nprogram = "q"',
            "emulator.project: cannot be beside emulator.program: one of them runs it",
        ),
        (
            '[build]\nsources = ["x"]\n[emulator]\nprogram = "q"\nargs = ["a={elff}"]',
            "emulator.args: there is no {elff}; did you mean 'elf'?; there are {elf}, {bin}, {hex}, {uf2}, ",
        ),
        (
            '[build]\nsources = ["x"]\n[emulator]\nprogram = "q"\nnpm = ["a@1.0", "b"]',
            "emulator.npm: 'b' is no package of npm with its version: write NAME@1.2.3",
        ),
        ('same_as = "other"\n[build]', "build: unknown key"),
        ('same_as = "other"', "same_as: there is no port 'other': "),
        ('[build]\nsources = ["x"]\n[emulate]', "emulate: unknown key; did you mean 'emulator'?"),
        ('[build]\nsources = ["x"]\ndefines = ["-DX"]', "build.defines: '-DX' cannot be defined: write NAME=VALUE"),
        ("[build", "not valid TOML: "),
    ],
)
def test_a_wrong_port_file_names_file_key_and_reason(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "port.toml"
    file.write_text(text)
    with pytest.raises(FirmwareError) as caught:
        read_project(file, tmp_path, "mine")
    assert str(caught.value).startswith(f"{file}: {message}")


def test_a_port_may_be_the_same_as_another_one_under_its_own_name(tmp_path: Path) -> None:
    texts = {
        "pico": '[build]\nsources = ["*.c"]\ntarget = "thumb"\nuf2_family = 0xe48bff56\n',
        "chip": 'same_as = "pico"',
    }
    texts["third"] = 'same_as = "chip"'
    for name, text in texts.items():
        (tmp_path / "ports" / name).mkdir(parents=True)
        (tmp_path / "ports" / name / "port.toml").write_text(text)
    pico, chip = (read_project(tmp_path / "ports" / name / "port.toml", tmp_path, name) for name in ("pico", "chip"))
    assert (chip.name, pico.name, chip.uf2_family) == ("chip", "pico", 0xE48BFF56)
    assert dataclasses.replace(chip, name="pico") == pico
    with pytest.raises(FirmwareError, match=r"third/port\.toml: same_as: 'chip' is itself the same as another one"):
        read_project(tmp_path / "ports" / "third" / "port.toml", tmp_path, "third")


def test_a_port_file_must_be_readable_text(tmp_path: Path) -> None:
    (tmp_path / "port.toml").write_bytes(b"\xff")
    with pytest.raises(FirmwareError, match="is not UTF-8 text, at byte 0"):
        load_project(tmp_path)
    with pytest.raises(FirmwareError, match=r"x\.toml: cannot be read: No such file"):
        read_project(tmp_path / "x.toml", tmp_path, "x")


def test_sources_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "port.toml").write_text('[build]\nsources = ["src/*.c"]\n')
    with pytest.raises(FirmwareError, match=r"port\.toml: build\.sources: there is no src/\*\.c in "):
        load_project(tmp_path).source_files()


def test_a_name_is_a_port_and_a_directory_a_project(directory: Path, tmp_path: Path) -> None:
    assert load_project(directory).root == directory
    with pytest.raises(FirmwareError, match=r"has no port\.toml: `microrpc firmware new` makes"):
        load_project(tmp_path)
    with pytest.raises(
        FirmwareError, match=r"there is no firmware for 'metro_m4' and no such directory\. There is for: "
    ):
        load_project("metro_m4")


def test_a_ports_directory_is_no_project_and_no_path_is_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FirmwareError, match=r"ports/posix: is a port, and no project: give its name, posix"):
        load_project(firmware_directory() / "ports" / "posix")
    monkeypatch.chdir(firmware_directory() / "ports")
    assert load_project("../ports/arduino/../../tests/size").name == "size"
    for name in ("../ports/posix", "posix/", ".", ""):
        assert not microrpc.firmware.project.has_port(name)
    assert microrpc.firmware.project.has_port("posix")


NOT_RUN = ("nucleo_f746zg", "nucleo_l4r5zi")  # by no emulator


@pytest.mark.parametrize("name", port_names())
def test_the_ports_in_the_package_can_be_read(name: str) -> None:
    project = load_port(name)
    assert project.root == firmware_directory()
    assert (project.emulation is None) is (name in NOT_RUN)
    assert (project.root / "include" / "microrpc.h").is_file()
    for include in project.includes:
        assert (project.root / include).is_dir(), include
    assert project.linker_script is None or (project.root / project.linker_script).is_file()


def test_a_project_keeps_the_sizes_that_its_board_has_ram_for(tmp_path: Path) -> None:
    new_project(tmp_path / "x", "microbit")
    sizes = ("RING_BYTES=2048", "EVENT_RING_BYTES=256")
    assert load_project(tmp_path / "x").defines == (*sizes, *DEFINES)


def test_a_wheel_has_the_library_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "microrpc"
    monkeypatch.setattr(microrpc.firmware.project, "__file__", str(package / "firmware" / "project.py"))
    assert firmware_directory() == tmp_path / "firmware"
    (package / "_firmware" / "ports" / "one").mkdir(parents=True)
    (package / "_firmware" / "ports" / "one" / "port.toml").write_text('[build]\nsources = ["*.c"]\n')
    assert firmware_directory() == package / "_firmware"
    assert port_names() == ["one"]
    assert load_port("one").root == package / "_firmware"
    assert microrpc.firmware.project.license_file() == package / "LICENSE"
    (package / "_firmware" / "LICENSE").touch()
    assert microrpc.firmware.project.license_file() == package / "_firmware" / "LICENSE"


def test_a_wheel_gets_every_folder_of_the_library_but_its_tests() -> None:
    root = Path(__file__).parent.parent.parent
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    included = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    folders = {path.name for path in (root / "firmware").iterdir() if path.is_dir()}
    assert {name.partition("/")[2] for name in included if name.startswith("firmware/")} == folders - {"tests"}


# --- building ---------------------------------------------------------------------------------


def test_what_is_built_is_as_large_as_it_should_be_and_is_kept(directory: Path, own_cache: Path) -> None:
    needs.zig()
    built = build(load_project(directory))
    assert built.is_new
    assert built.elf.parent == own_cache
    assert built.compiler.startswith("zig ")
    sizes = built.sizes
    assert 8 <= sizes.code_bytes <= 200
    assert (sizes.data_bytes, sizes.bss_bytes) == (64, 1000)
    assert (sizes.flash_bytes, sizes.ram_bytes) == (sizes.code_bytes + 64, 1064)
    again = build(load_project(directory))
    assert (again.is_new, again.elf, again.sizes) == (False, built.elf, sizes)


def test_whatever_changes_is_built_again(directory: Path) -> None:
    needs.zig()
    first = build(load_project(directory)).elf
    defined = build(load_project(directory), defines=["SIZE=3000"])
    assert defined.sizes.bss_bytes == 3000
    (directory / "sub").mkdir()
    (directory / "sub" / "late.h").write_text("#define SIZE 2000\n")
    (directory / "main.c").write_text('#include "sub/late.h"\n' + MAIN)
    assert build(load_project(directory)).sizes.bss_bytes == 2000
    (directory / "sub" / "late.h").write_text("#define SIZE 4000\n")
    changed = build(load_project(directory))
    assert (changed.is_new, changed.sizes.bss_bytes) == (True, 4000)
    (directory / "main.c").write_text(MAIN)
    (directory / "sub" / "late.h").unlink()
    assert build(load_project(directory)).elf == first


@pytest.mark.parametrize("name", ["sizes.hpp", "sizes.hh", "sizes.def", "sizes.inl", "sizes.tpp", "sizes.inc"])
def test_whatever_is_included_is_looked_at(directory: Path, name: str) -> None:
    needs.zig()
    (directory / "main.c").write_text(f'#include "{name}"\n{MAIN}')
    for size in (2000, 4000):
        (directory / name).write_text(f"#define SIZE {size}\n")
        assert build(load_project(directory)).sizes.bss_bytes == size


def test_a_define_of_the_command_goes_before_that_of_the_project(directory: Path) -> None:
    needs.zig()
    flags = 'flags = ["-Os", "-ffreestanding", "-nostdlib", "-Wl,-e,main"]\n'
    (directory / "port.toml").write_text(CORTEX_M3.replace(flags, flags + 'defines = ["SIZE=3000", "OTHER"]\n'))
    assert build(load_project(directory)).sizes.bss_bytes == 3000
    assert build(load_project(directory), defines=["SIZE=2000"]).sizes.bss_bytes == 2000
    assert build(load_project(directory), defines=["SIZE=2000", "SIZE=5000"]).sizes.bss_bytes == 5000


def test_a_header_outside_of_the_project_belongs_to_it_where_an_include_directory_leads_there(
    directory: Path, tmp_path: Path
) -> None:
    needs.zig()
    (tmp_path / "shared").mkdir()
    header = tmp_path / "shared" / "size.h"
    header.write_text("#define SIZE 2000\n")
    (directory / "main.c").write_text('#include "size.h"\n' + MAIN)
    includes = ('includes = ["../shared"]\n', f'flags = ["-I{tmp_path}/shared"]\n')
    for number, line in enumerate(includes, 1):
        flags = 'flags = ["-Os", "-ffreestanding", "-nostdlib", "-Wl,-e,main"]\n'
        added = line.replace("]", ", " + flags.partition("[")[2].rstrip()) if "flags" in line else flags + line
        (directory / "port.toml").write_text(CORTEX_M3.replace(flags, added))
        header.write_text(f"#define SIZE {number}000\n")
        assert build(load_project(directory)).sizes.bss_bytes == number * 1000
        header.write_text(f"#define SIZE {number}008\n")
        assert build(load_project(directory)).sizes.bss_bytes == number * 1000 + 8


def test_what_is_built_for_this_computer_runs_on_others_of_its_kind(tmp_path: Path) -> None:
    (tmp_path / "port.toml").write_text('[build]\nsources = ["*.c"]\n')
    assert "-mcpu=baseline" in microrpc.firmware.build._flags(load_project(tmp_path), Compiler.ZIG)
    assert "-mcpu=baseline" not in microrpc.firmware.build._flags(load_project(tmp_path), Compiler.GCC)


@pytest.mark.parametrize("left_bytes", [0, 100, -1])
def test_what_was_damaged_in_the_cache_is_built_anew(directory: Path, left_bytes: int) -> None:
    needs.zig()
    project = load_project(directory)
    built = build(project)
    whole = built.elf.read_bytes()
    built.elf.write_bytes(whole[:left_bytes])
    again = build(project)
    assert (again.is_new, again.elf, again.sizes) == (True, built.elf, built.sizes)
    assert again.elf.read_bytes() == whole


def test_many_may_build_the_same_at_once(directory: Path, own_cache: Path) -> None:
    needs.zig()
    results: list[Sizes] = []
    threads = [threading.Thread(target=lambda: results.append(build(load_project(directory)).sizes)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len(set(results)) == 1
    assert [path.suffix for path in own_cache.iterdir()] == [".elf"]


def test_what_was_not_used_for_long_is_removed(directory: Path, own_cache: Path) -> None:
    needs.zig()
    used = build(load_project(directory), defines=["SIZE=1001"]).elf
    old = build(load_project(directory), defines=["SIZE=1002"]).elf
    left = own_cache / ".building-1"
    left.mkdir()
    for path in (old, used, left):
        os.utime(path, (0, 0))
    build(load_project(directory), defines=["SIZE=1001"])
    build(load_project(directory), defines=["SIZE=1003"])
    assert used.exists()
    assert not old.exists()
    assert not left.exists()


def test_an_error_and_a_warning_are_shown_as_the_compiler_says_them(directory: Path, own_cache: Path) -> None:
    needs.zig()
    (directory / "main.c").write_text("int main(void) { int unused; return 0; }\n")
    said = r"(?s)mine cannot be built, the compiler says:\nmain\.c:1:22: error: .*unused"
    with pytest.raises(FirmwareError, match=said):
        build(load_project(directory))
    assert list(own_cache.iterdir()) == []


def test_a_define_must_be_one(directory: Path) -> None:
    with pytest.raises(FirmwareError, match="'-DX' cannot be defined: write NAME=VALUE"):
        build(load_project(directory), defines=["-DX"])


def test_a_define_that_no_source_reads_is_refused(directory: Path) -> None:
    needs.zig()
    with pytest.raises(FirmwareError, match=r"SIZES is defined, but no source of mine reads it; did you mean 'SIZE'\?"):
        build(load_project(directory), defines=["SIZES=3000"])
    build(load_project(directory), defines=["NDEBUG", "_GNU_SOURCE=1"])  # for a C library


def test_a_cache_that_cannot_be_written_is_one_error(directory: Path, own_cache: Path) -> None:
    needs.zig()
    own_cache.write_text("in the way")
    said = r"cache: cannot be written: (File exists|Not a directory)\. .* name another directory in XDG_CACHE_HOME"
    with pytest.raises(FirmwareError, match=said):
        build(load_project(directory))


def test_a_build_that_another_process_removed_at_this_moment_is_made_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.zig()
    elf = build(load_project(directory)).elf

    def remove(path: Path) -> None:
        path.unlink()
        raise FileNotFoundError

    with monkeypatch.context() as context:
        context.setattr(os, "utime", remove)
        again = build(load_project(directory))
    assert (again.is_new, again.elf) == (True, elf)
    assert elf.exists()


def test_a_build_of_another_user_is_taken_too(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.zig()

    def refuse(path: Path) -> None:
        raise PermissionError

    build(load_project(directory))
    monkeypatch.setattr(os, "utime", refuse)
    assert not build(load_project(directory)).is_new


def test_a_build_is_announced_where_one_takes_place(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    needs.zig()
    caplog.set_level("INFO", "microrpc.firmware")
    version = build(load_project(directory)).compiler
    build(load_project(directory))
    assert caplog.messages == [f"building mine with {version} ..."]


def test_a_compiler_that_hangs_is_ended(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "port.toml").write_text(f'{CORTEX_M3}[build.gcc]\nprefix = "hanging-"\n')
    compiler = tmp_path / "hanging-gcc"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] || exec sleep 100\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(microrpc.firmware.build, "_BUILD_S", 1.0)
    with pytest.raises(FirmwareError, match=r"hanging-gcc .* was ended: it took longer than 1 s"):
        build(load_project(directory), compiler=Compiler.GCC)


@pytest.mark.parametrize("said", ["warning: cannot write z/5: NoSpaceLeft", "fatal: x.o: No space left on device"])
def test_a_disk_that_is_full_is_told_as_that(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    (directory / "port.toml").write_text(f'{CORTEX_M3}[build.gcc]\nprefix = "full-"\n')
    compiler = tmp_path / "full-gcc"
    compiler.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exit\necho "{said}" >&2\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(FirmwareError, match=r"cache: cannot be written: No space left on device\. What is built is"):
        build(load_project(directory), compiler=Compiler.GCC)


def test_flags_that_all_ports_share_lie_beside_them(directory: Path) -> None:
    needs.zig()
    (directory / "ports").mkdir()
    shared = directory / "ports" / "flags.toml"
    shared.write_text('all = ["-DSIZE=5000"]\nzig = ["-DZIG"]\nfreestanding = ["-DFREE"]\n')
    (directory / "main.c").write_text("#if !defined(ZIG) || !defined(FREE)\n#error flags\n#endif\n" + MAIN)
    assert build(load_project(directory)).sizes.bss_bytes == 5000
    shared.write_text('al = ["-DSIZE=5000"]\n')
    with pytest.raises(FirmwareError, match=r"flags\.toml: al: unknown key; did you mean 'all'\?"):
        load_project(directory)


# --- compilers --------------------------------------------------------------------------------


def test_gcc_builds_for_this_computer(tmp_path: Path) -> None:
    needs.program("gcc")
    (tmp_path / "port.toml").write_text('[build]\nsources = ["main.c"]\n')
    (tmp_path / "main.c").write_text(MAIN)
    built = build(load_project(tmp_path), compiler=Compiler.GCC)
    assert "gcc" in built.compiler.lower()
    assert built.sizes.bss_bytes >= 1000
    assert subprocess.run([built.elf], check=False).returncode == 0


def test_without_the_compiler_one_error_says_what_to_install(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FirmwareError, match=r"needs a compiler: pip install 'microrpc\[firmware\]'"):
        build(load_project(directory))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FirmwareError, match=r"mine cannot be built with gcc: .*port\.toml has no \[build\.gcc\]"):
        build(load_project(directory), compiler=Compiler.GCC)
    (directory / "port.toml").write_text(f'{CORTEX_M3}[build.gcc]\nprefix = "arm-none-eabi-"\n')
    remedy = "there is no arm-none-eabi-gcc: apt-get install --no-install-recommends gcc-arm-none-eabi"
    with pytest.raises(FirmwareError, match=remedy):
        build(load_project(directory), compiler=Compiler.GCC)


@pytest.mark.parametrize("name", devices.port_params())
def test_every_port_builds_with_zig_without_a_warning(name: str) -> None:
    needs.zig()
    built = build(load_port(name))
    assert built.sizes.code_bytes > 4000
    assert built.sizes.ram_bytes > 0


@pytest.mark.parametrize("name", devices.port_params())
def test_every_port_builds_with_gcc_where_that_is_installed(name: str) -> None:
    project = load_port(name)
    if project.gcc is None and project.target:
        pytest.skip("it is for zig alone")
    needs.gcc(project.gcc.prefix if project.gcc is not None else "")
    assert build(project, compiler=Compiler.GCC).sizes.code_bytes > 4000


# --- ELF files --------------------------------------------------------------------------------


def elf(bits: int, order: str, sections: list[tuple[int, int, int]]) -> bytes:
    """Make an ELF file with nothing but a table of sections: type, flags, size."""
    is_32 = bits == 32
    header = bytearray(52 if is_32 else 64)
    header[:6] = b"\x7fELF" + bytes([1 if is_32 else 2, 1 if order == "<" else 2])
    struct.pack_into(order + ("I" if is_32 else "Q"), header, 32 if is_32 else 40, len(header))
    struct.pack_into(order + "HH", header, 46 if is_32 else 58, 40 if is_32 else 64, len(sections))
    layout = order + ("10I" if is_32 else "IIQQQQIIQQ")
    return bytes(header) + b"".join(
        struct.pack(layout, 7, kind, flags, 0x1000, 0, size, 0, 0, 0, 0) for kind, flags, size in sections
    )


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_sizes_are_those_of_the_sections_in_memory(tmp_path: Path, bits: int, order: str) -> None:
    sections = [(0, 0, 0), (1, 6, 100), (1, 2, 20), (1, 3, 8), (8, 3, 4000), (1, 0, 9999), (0x70000001, 2, 1)]
    (tmp_path / "x.elf").write_bytes(elf(bits, order, sections))
    sizes = read_sizes(tmp_path / "x.elf")
    assert sizes == Sizes(code_bytes=121, data_bytes=8, bss_bytes=4000)
    assert (sizes.flash_bytes, sizes.ram_bytes) == (129, 4008)


@pytest.mark.parametrize("data", [b"", b"MZ", b"\x7fELF", b"\x7fELF\x01\x01", b"\x7fELF\x03\x01" + bytes(60)])
def test_what_is_no_elf_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.elf").write_bytes(data)
    with pytest.raises(FirmwareError, match=r"x\.elf: is no ELF file, or a damaged one: "):
        read_sizes(tmp_path / "x.elf")


def test_an_elf_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    whole = elf(32, "<", [(1, 6, 100)])
    for size in range(len(whole)):
        (tmp_path / "x.elf").write_bytes(whole[:size])
        with pytest.raises(FirmwareError, match="is no ELF file"):
            read_sizes(tmp_path / "x.elf")
    with pytest.raises(FirmwareError, match=r"y\.elf: cannot be read: No such file"):
        read_sizes(tmp_path / "y.elf")
