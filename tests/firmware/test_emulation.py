"""What runs a board: what is missing of it, the command that starts it, and programs in the place of QEMU."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tty
from collections.abc import Callable
from pathlib import Path

import needs
import pytest

import microrpc.firmware.build
from microrpc.errors import FirmwareError, PortNotFoundError
from microrpc.firmware.build import build
from microrpc.firmware.emulation import check_emulation, emulation_of, emulator_command, npm_directory
from microrpc.firmware.emulator import Emulator, build_to_run, check_runnable, start_firmware
from microrpc.firmware.images import ImageFormat, make_image
from microrpc.firmware.new import Contents, new_project, write_port_file
from microrpc.firmware.project import Emulation, load_port, load_project, read_project

# A board whose UART is on the standard streams: it says one byte, and gives back what comes with a bit turned over.
BOARD = """#!{python}
import os, sys
print(os.getcwd(), *sys.argv[1:], file=sys.stderr, flush=True)
os.write(1, b"T")
while data := os.read(0, 100):
    os.write(1, bytes(byte ^ 1 for byte in data))
"""
BOARD_C = r"""
#include <stdio.h>
#include <unistd.h>
int main(int count, char **arguments) {
    unsigned char byte = 'T';
    fprintf(stderr, "%d %s", count, arguments[1]);
    do {
        if (write(1, &byte, 1) != 1) return 1;
        if (read(0, &byte, 1) != 1) return 0;
        byte ^= 1;
    } while (1);
}
"""

Setup = Callable[..., Emulation]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microrpc.firmware.build, "cache_directory", lambda: tmp_path / "cache" / "firmware")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a directory of firmware, and a program that emulates."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "board-emulator"
    program.write_text(BOARD.replace("{python}", sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "firmware").mkdir()
    return tmp_path / "firmware"


def emulation(root: Path, text: str, build_keys: str = "") -> Emulation:
    """Read an [emulator] as it stands in a port.toml."""
    (root / "port.toml").write_text(f'[build]\nsources = ["x"]\n{build_keys}\n[emulator]\n{text}\n')
    found = read_project(root / "port.toml", root, "mine").emulation
    assert found is not None
    return found


def install_npm(name: str, version: str) -> None:
    folder = microrpc.firmware.build.cache_directory().parent / "npm" / "node_modules" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text(json.dumps({"name": name, "version": version}))


def answer(emulator: Emulator, sent: bytes) -> bytes:
    """Give what a board has said since it booted, up to its answer."""
    fd = os.open(emulator.port, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(fd, sent)
        got = b""
        while len(got) < 1 + len(sent):
            got += os.read(fd, 100)
        return got
    finally:
        os.close(fd)


# --- a program with the UART on its standard streams ------------------------------------------------


def test_a_program_has_the_line_on_its_standard_streams_and_runs_where_its_files_are(root: Path) -> None:
    found = emulation(root, 'program = "board-emulator"\nargs = ["-a", "elf={elf}"]')
    with Emulator("mine", Path("/x/my.elf"), found) as emulator:
        assert answer(emulator, bytes(range(256))[:200]) == b"T" + bytes(byte ^ 1 for byte in range(200))
        assert emulator.said == f"{root} -a elf=/x/my.elf"
    assert not emulator.is_running


def test_a_relative_path_is_found_from_where_the_emulator_runs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = emulation(root, 'program = "board-emulator"\nargs = ["{elf}"]')
    assert emulator_command("mine", Path("my.elf"), found)[1:] == [str(tmp_path / "my.elf")]


def test_a_program_of_the_projects_own_is_found_from_where_it_runs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = emulation(root, 'program = "emulators/own"')
    with pytest.raises(PortNotFoundError) as caught:
        Emulator("mine", Path("my.elf"), found)
    assert str(caught.value) == (f"mine runs in emulators/own, and there is no such program that can be run in {root}")
    (root / "emulators").mkdir()
    (tmp_path / "bin" / "board-emulator").rename(root / "emulators" / "own")
    with Emulator("mine", Path("my.elf"), found) as emulator:
        assert answer(emulator, b"abc") == b"T`cb"
        assert emulator.said == str(root)


@pytest.fixture(scope="module")
def elf() -> Path:
    """Build firmware, in the cache of all tests."""
    needs.zig()
    return build(load_port("qemu_mps2_an385")).elf


def test_the_firmware_is_made_into_the_form_that_the_emulator_takes(root: Path, elf: Path) -> None:
    text = 'program = "board-emulator"\nargs = ["{elf}", "{bin}", "{hex}", "{uf2}"]'
    found = emulation(root, text, "uf2_family = 0xe48bff56")
    _, given, *images = emulator_command("mine", elf, found)
    assert given == str(elf)
    forms = (ImageFormat.BIN, ImageFormat.HEX, ImageFormat.UF2)
    for path, form in zip(map(Path, images), forms, strict=True):
        assert path.suffix == f".{form}"
        assert path.read_bytes() == make_image(elf, form, uf2_family=0xE48BFF56)
    assert emulator_command("mine", elf, found)[2:] == images
    other = emulator_command("mine", elf, dataclasses.replace(found, uf2_family=1))
    assert other[2:4] == images[:2]
    assert other[4] != images[2]


def test_images_that_nobody_used_for_long_are_removed_with_the_builds(root: Path, elf: Path) -> None:
    found = emulation(root, 'program = "board-emulator"\nargs = ["{hex}"]')
    old = Path(emulator_command("mine", elf, found)[1])
    os.utime(old, (0, 0))
    (root / "x").write_text("int main(void) { return 0; }")
    (root / "x").rename(root / "x.c")
    (root / "port.toml").write_text('[build]\nsources = ["x.c"]\n')
    build(load_project(root))
    assert not old.exists()


# --- packages of npm --------------------------------------------------------------------------


def test_packages_of_npm_are_where_the_cache_is_in_the_version_that_is_named(root: Path) -> None:
    found = emulation(root, 'program = "board-emulator"\nargs = ["{npm}"]\nnpm = ["one@1.2.3", "@a/two@1.0.0"]')
    install_npm("one", "1.2.4")
    with pytest.raises(PortNotFoundError) as caught:
        check_emulation("mine", found)
    assert str(caught.value) == (
        "mine runs in one@1.2.3 and @a/two@1.0.0 of npm, not installed: "
        f"npm install --prefix {npm_directory()} one@1.2.3 @a/two@1.0.0"
    )
    install_npm("one", "1.2.3")
    with pytest.raises(PortNotFoundError, match=r"npm install --prefix \S+ @a/two@1\.0\.0$"):
        check_emulation("mine", found)
    install_npm("@a/two", "1.0.0")
    assert emulator_command("mine", Path("x.elf"), found)[1:] == [str(npm_directory())]
    (npm_directory() / "node_modules" / "one" / "package.json").write_text("{")
    with pytest.raises(PortNotFoundError, match=r"runs in one@1\.2\.3 of npm, not installed"):
        check_emulation("mine", found)


def test_all_that_is_missing_is_one_error(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = emulation(root, 'program = "no-node"\npackage = "nodejs"\nnpm = ["one@1.2.3"]')
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    port = dataclasses.replace(load_port("posix"), emulation=found, name="mine")
    with pytest.raises(FirmwareError) as caught:
        check_runnable(port)
    assert str(caught.value) == (
        "mine runs in no-node, which is not installed: apt-get install --no-install-recommends nodejs npm; "
        f"and in one@1.2.3 of npm, not installed: npm install --prefix {npm_directory()} one@1.2.3; "
        "building firmware needs a compiler: pip install 'microrpc[firmware]' brings one (or --compiler gcc)"
    )


def test_a_compiler_that_is_missing_is_told_before_anything_is_built(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = emulation(root, 'program = "board-emulator"')
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FirmwareError, match=r"^building firmware needs a compiler"):
        build_to_run(dataclasses.replace(load_port("posix"), emulation=found))


def test_a_script_needs_no_compiler(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "main.py").touch()
    (root / "port.toml").write_text(
        '[build]\nscript = "main.py"\n[emulator]\nprogram = "board-emulator"\nargs = ["{script}"]'
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with start_firmware(build_to_run(load_project(root))) as emulator:
        assert emulator.said == f"{root} {root / 'main.py'}"


# --- an emulator of ours ----------------------------------------------------------------------


@pytest.fixture
def own_emulator(root: Path) -> Emulation:
    """Make a folder with an emulator in C."""
    folder = root / "emulators" / "own"
    folder.mkdir(parents=True)
    (folder / "own.c").write_text(BOARD_C)
    (folder / "port.toml").write_text('[build]\nsources = ["emulators/own/*.c"]\nlibraries = ["m"]\n')
    return emulation(root, 'project = "emulators/own"\nargs = ["{elf}"]\npackage = "libone-dev libtwo-dev"')


def test_an_emulator_of_ours_is_built_once_by_gcc_and_run(own_emulator: Emulation) -> None:
    needs.program("gcc")
    with Emulator("mine", Path("/x/my.elf"), own_emulator) as emulator:
        assert answer(emulator, b"abc") == b"T`cb"
        assert emulator.said == "2 /x/my.elf"
    program = Path(emulator_command("mine", Path("/x/my.elf"), own_emulator)[0])
    assert [path for path in cache_directory_files() if path.suffix == ".elf"] == [program]


def cache_directory_files() -> list[Path]:
    return list(microrpc.firmware.build.cache_directory().iterdir())


def test_what_an_emulator_of_ours_is_built_with_is_told(
    root: Path, own_emulator: Emulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.program("gcc")
    file = root / "emulators" / "own" / "port.toml"
    file.write_text('[build]\nsources = ["emulators/own/*.c"]\nlibraries = ["m", "no_such", "nor_this"]\n')
    with pytest.raises(PortNotFoundError) as caught:
        Emulator("mine", Path("my.elf"), own_emulator)
    assert str(caught.value) == (
        "mine runs in emulators/own, which needs libno_such, libnor_this: "
        "apt-get install --no-install-recommends libone-dev libtwo-dev"
    )
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PortNotFoundError) as caught:
        Emulator("mine", Path("my.elf"), own_emulator)
    assert str(caught.value) == (
        "mine runs in emulators/own, which cannot be built: there is no gcc: "
        "apt-get install --no-install-recommends gcc libone-dev libtwo-dev"
    )
    file.unlink()
    with pytest.raises(FirmwareError, match=r"^mine runs in emulators/own: there is no .*emulators/own/port\.toml$"):
        Emulator("mine", Path("my.elf"), own_emulator)


@pytest.mark.boards
@pytest.mark.parametrize("name", ["rp2040", "simavr_uno", "micropython"])
def test_an_emulator_ends_when_its_line_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the cache of all tests, and what npm has
    needs.emulated(name)
    firmware = build(load_port(name))
    command = emulator_command(name, firmware.elf, emulation_of(firmware.project))
    master, line = os.openpty()
    tty.setraw(line)
    with subprocess.Popen(command, cwd=firmware.project.root, stdin=master, stdout=master) as process:
        os.close(master)
        try:
            assert os.read(line, 1)  # it has booted
            os.close(line)
            process.wait(20)
        finally:
            process.kill()


# --- projects ---------------------------------------------------------------------------------


def test_a_project_runs_in_the_emulator_of_the_port_that_it_is_made_of(root: Path, own_emulator: Emulation) -> None:
    texts = {"args": ("{elf}", "{npm}"), "npm": ("one@1.2.3",), "uf2_family": 7}
    port = dataclasses.replace(
        load_port("posix"), emulation=dataclasses.replace(own_emulator, **texts), uf2_family=7, root=root
    )
    write_port_file(root, port, Contents())
    read = load_project(root)
    assert (read.emulation, read.uf2_family) == (port.emulation, 7)
    assert read.emulation is not None
    assert read.emulation.root == root


def test_a_new_project_has_what_of_its_emulator_is_ours(
    tmp_path: Path, own_emulator: Emulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.program("gcc")
    needs.zig()
    library = tmp_path / "firmware"
    texts = {
        "emulators/data.txt": "data",
        "LICENSE": "",
        "include/microrpc.h": "",
        "demo/functions.h": "",
        "ports/flags.toml": "",
        "ports/board/board.c": "int main(void) { return 0; }",
        "ports/board/port.toml": """
            [build]
            sources = ["ports/board/board.c"]
            includes = ["include"]
            [emulator]
            project = "emulators/own"
            args = ["emulators/data.txt", "{elf}"]
        """,
        "ports/chip/port.toml": 'same_as = "board"',
    }
    for name, text in texts.items():
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text(text)
    monkeypatch.setattr("microrpc.firmware.project.firmware_directory", lambda: library)
    project = tmp_path / "mine"
    new_project(project, "chip", Contents(functions="/* none */"))
    assert (project / "emulators" / "data.txt").read_text() == "data"
    assert (project / "ports" / "board" / "board.c").is_file()
    assert not (project / "ports" / "chip").exists()
    with start_firmware(build_to_run(load_project(project))) as emulator:
        assert answer(emulator, b"abc") == b"T`cb"
        assert emulator.said == "3 emulators/data.txt"
