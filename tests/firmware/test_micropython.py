from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import time
from collections.abc import Iterator

import needs
import numpy as np
import pytest
from processes import computed_s

import microrpc
from microrpc.errors import FirmwareError
from microrpc.firmware.build import build
from microrpc.firmware.emulation import emulator_command
from microrpc.firmware.emulator import start_firmware
from microrpc.firmware.new import new_project
from microrpc.firmware.project import FILE_NAME, firmware_directory, load_port, load_project

FILES = firmware_directory() / "micropython"
MOST_LINES = 400


@pytest.fixture
def project(tmp_path: pathlib.Path) -> pathlib.Path:
    directory = tmp_path / "green house"
    lines = new_project(directory, "micropython")
    assert lines[0] == f"{directory} has a project for MicroPython; your functions are in {directory / 'main.py'}."
    return directory


def test_a_project_has_the_device_a_program_and_what_runs_it(project: pathlib.Path) -> None:
    found = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    assert found == {
        *("LICENSE", "README.md", "main.py", "microrpc_device.py", "microrpc_parts.py", "port.toml"),
        "emulators/micropython.mjs",
    }
    assert 'firmware="green house"' in (project / "main.py").read_text()
    assert load_project(project).script == "main.py"


def test_nothing_of_it_is_compiled(project: pathlib.Path) -> None:
    built = build(load_project(project))
    assert (built.elf, built.compiler, built.is_new, built.sizes.flash_bytes) == (project / "main.py", "", False, 0)
    with pytest.raises(FirmwareError, match="is a file for MicroPython, and not compiled: nothing can be defined"):
        build(load_project(project), defines=["A=1"])
    (project / "main.py").unlink()
    with pytest.raises(FirmwareError, match=r"port\.toml: build\.script: there is no .*main\.py"):
        build(load_project(project))


def test_a_script_is_beside_nothing_that_is_compiled(project: pathlib.Path) -> None:
    file = project / FILE_NAME
    file.write_text(file.read_text().replace("[build]", '[build]\nsources = ["*.c"]'))
    with pytest.raises(FirmwareError, match=r"build\.sources: is not for a script, which nothing compiles"):
        load_project(project)


def test_each_file_of_the_device_is_short() -> None:
    for name in ("microrpc_device.py", "microrpc_parts.py"):
        assert len((FILES / name).read_text().splitlines()) <= MOST_LINES, name


@pytest.mark.boards
def test_a_project_runs_as_it_was_laid_out(project: pathlib.Path) -> None:
    needs.emulated("micropython")
    with start_firmware(build(load_project(project))) as emulator, microrpc.connect(emulator.port) as board:
        assert board.function("add")(2, 3) == 5
        with board.array(np.array([1, 2], np.float32)) as x:
            board.function("scale")(x, 0.5)
            assert x.numpy().tolist() == [0.5, 1.0]
        assert [function.name for function in board.functions()] == ["add", "scale"]


@pytest.mark.boards
def test_an_error_in_the_program_is_told_with_its_line(project: pathlib.Path) -> None:
    needs.emulated("micropython")
    (project / "main.py").write_text("import microrpc_device\nnothing\n")
    with pytest.raises(microrpc.PortError, match=r"it ended at once, with 1: (?s:.*)line 2(?s:.*)NameError"):
        start_firmware(build(load_project(project)))


@pytest.mark.boards
@pytest.mark.parametrize("keys", [b"\3", b"\r\3\r\1"])
def test_ctrl_c_ends_the_program_and_the_emulator_with_it(keys: bytes) -> None:
    with running_demo() as process:
        assert process.stdin is not None
        assert process.stderr is not None
        time.sleep(0.3)
        os.write(process.stdin.fileno(), keys)
        assert process.wait(10) == 1
        assert process.stderr.read().rstrip().endswith(b"KeyboardInterrupt:")


@pytest.mark.boards
def test_the_emulator_sleeps_while_nothing_comes_and_ends_with_its_input() -> None:
    with running_demo() as process:
        assert process.stdin is not None
        started_s = computed_s(process)
        time.sleep(2)
        assert computed_s(process) - started_s < 0.6
        process.stdin.close()
        assert process.wait(10) != 0


@contextlib.contextmanager
def running_demo() -> Iterator[subprocess.Popen[bytes]]:
    """Run the demonstration functions as they are emulated; the board has booted."""
    needs.emulated("micropython")
    port = load_port("micropython")
    assert port.emulation is not None
    command = emulator_command(port.name, build(port).elf, port.emulation)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=port.root, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            assert process.stdout is not None
            assert os.read(process.stdout.fileno(), 1) == b"\xfe"
            yield process
        finally:
            process.kill()
