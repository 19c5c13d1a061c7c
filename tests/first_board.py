"""Boards for docs/first_board.md: emulators that are flashed and plugged in as a Pico and an Uno are.

The drive of the Pico's boot loader is a directory; what is copied there is what the emulator then runs. In the place of
avrdude a program stands that keeps what it is given; the emulator runs that.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from microrpc.boards import strategies
from microrpc.firmware import drives
from microrpc.firmware.build import build, cache_directory
from microrpc.firmware.emulation import npm_directory
from microrpc.firmware.emulator import Emulator
from microrpc.firmware.images import ImageFormat, make_image
from microrpc.firmware.project import load_port

_START_S = 30.0
_POLL_S = 0.02
_INFO = "UF2 Bootloader v3.0\nModel: Raspberry Pi RP2\nBoard-ID: RPI-RP2\n"

_AVRDUDE = """\
#!{python}
import os, shutil, sys, time

words = sys.argv[1:]
assert words[words.index("-p") + 1] == "atmega328p" and words[words.index("-P") + 1] == {port!r}, words
memory, operation, file = words[words.index("-U") + 1].split(":", 2)
assert (memory, operation) == ("flash", "w"), words
file, _, form = file.rpartition(":")
assert form == "i", words
shutil.copyfile(file, {hex_file!r} + ".part")
os.rename({hex_file!r} + ".part", {hex_file!r})
deadline = time.monotonic() + 60
while os.path.exists({hex_file!r}):  # until the board has it
    assert time.monotonic() < deadline
    time.sleep(0.02)
"""


_MPREMOTE = """\
#!{python}
import os, pathlib, shutil, sys, time

words = sys.argv[1:]
assert words[:2] == ["connect", {port!r}] and words[-1] == "reset", words
files = pathlib.Path({files!r})
files.mkdir()
for command in " ".join(words[2:-2]).split(" + "):
    group, verb, *sources, target = command.split()
    assert (group, verb) == ("fs", "cp"), words
    for source in sources:
        shutil.copyfile(source, files / (target[1:] or os.path.basename(source)))
(files / "reset").touch()
deadline = time.monotonic() + 60
while (files / "reset").exists():  # until the board has them
    assert time.monotonic() < deadline
    time.sleep(0.02)
"""


class Pico:
    """A Raspberry Pi Pico whose button is held while it is plugged in."""

    def __init__(self, directory: pathlib.Path, port: pathlib.Path, patch: pytest.MonkeyPatch) -> None:
        self._port = port
        self._drive = directory / "media" / "RPI-RP2"
        self._uf2 = directory / "flash.uf2"
        self._process: subprocess.Popen[bytes] | None = None
        self.flashed = 0
        patch.setattr(drives, "_MOUNTS", (str(directory / "media" / "*"),))
        patch.setattr(strategies, "touch_only", lambda name, tools: self._touch(name))
        self._show_drive()

    def ports(self) -> list[ListPortInfo]:
        """Give what the system would list."""
        if not self._port.is_symlink():
            return []
        info = ListPortInfo(str(self._port))
        info.vid, info.pid = 0x2E8A, 0x000A
        return [info]

    def look(self) -> None:
        """Run what was copied to the drive, once it is whole."""
        file = next(self._drive.glob("*.uf2"), None) if self._drive.is_dir() else None
        if file is None or not _is_whole(file):
            return
        shutil.copyfile(file, self._uf2)
        shutil.rmtree(self._drive)
        port = load_port("rp2040")
        assert port.emulation is not None
        places = {"{npm}": str(npm_directory()), "{uf2}": str(self._uf2)}
        words = [places.get(word, word) for word in port.emulation.args]
        master, self._line = os.openpty()
        tty.setraw(self._line)
        command = [port.emulation.program, *words]
        self._process = subprocess.Popen(command, stdin=master, stdout=master, stderr=subprocess.PIPE, cwd=port.root)
        os.close(master)
        line = os.ttyname(self._line)
        self._port.symlink_to(line)
        self.flashed += 1

    def end(self) -> None:
        """Pull the cable."""
        self._port.unlink(missing_ok=True)
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            os.close(self._line)
            self._process = None

    def _show_drive(self) -> None:
        self._drive.mkdir(parents=True)
        (self._drive / "INFO_UF2.TXT").write_text(_INFO)

    def _touch(self, name: str) -> None:
        """The port is opened at 1200 baud and closed: the firmware itself starts the boot loader."""
        assert name == str(self._port)
        assert self._process is not None
        self._process.send_signal(signal.SIGALRM)
        _, said = self._process.communicate(timeout=_START_S)
        assert (self._process.returncode, b"boot loader" in said) == (0, True), said
        self.end()
        self._show_drive()


class _WithTool:
    """A board that has one port all the time, and that a tool in the path flashes: it hands over what is to be run."""

    def __init__(self, board: str, usb: tuple[int, int], port: pathlib.Path) -> None:
        self._board = board
        self._usb = usb
        self._port = port
        self._emulator: Emulator | None = None
        self.flashed = 0

    def ports(self) -> list[ListPortInfo]:
        """Give what the system would list."""
        info = ListPortInfo(str(self._port))
        info.vid, info.pid = self._usb
        return [info]

    def end(self) -> None:
        """Pull the cable."""
        if self._emulator is not None:
            self._emulator.close()

    def _put_into_path(self, directory: pathlib.Path, name: str, text: str, patch: pytest.MonkeyPatch) -> None:
        program = directory / "bin" / name
        program.parent.mkdir()
        program.write_text(text)
        program.chmod(0o755)
        patch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    def _run(self, file: pathlib.Path) -> None:
        emulation = load_port(self._board).emulation
        assert emulation is not None
        self.end()
        self._emulator = Emulator(self._board, file, emulation, start_s=_START_S)
        link = self._port.with_suffix(".new")
        link.symlink_to(self._emulator.port)
        link.replace(self._port)


class Uno(_WithTool):
    """An Arduino Uno; the emulator runs the program that has the very image which avrdude was given."""

    def __init__(self, directory: pathlib.Path, port: pathlib.Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__("simavr_uno", (0x2341, 0x0043), port)
        self._hex = directory / "uploaded.hex"
        text = _AVRDUDE.format(python=sys.executable, port=str(port), hex_file=str(self._hex))
        self._put_into_path(directory, "avrdude", text, patch)
        self._run(build(load_port(self._board)).elf)  # as somebody has left it

    def look(self) -> None:
        """Run what was uploaded."""
        if self._hex.exists():
            self._run(_elf_with(self._hex.read_bytes()))
            self._hex.unlink()
            self.flashed += 1


class Interpreter(_WithTool):
    """A board with MicroPython; it runs the files that mpremote was given."""

    def __init__(self, directory: pathlib.Path, port: pathlib.Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__("micropython", (0x2E8A, 0x0005), port)
        self._files = directory / "files"
        text = _MPREMOTE.format(python=sys.executable, port=str(port), files=str(self._files))
        self._put_into_path(directory, "mpremote", text, patch)
        self._run(build(load_port(self._board)).elf)  # as somebody has left it

    def look(self) -> None:
        """Run what was copied."""
        if (self._files / "reset").exists():
            self._run(self._files / "main.py")
            (self._files / "reset").unlink()
            self.flashed += 1


def _is_whole(file: pathlib.Path) -> bool:
    """Whether all blocks of a UF2 file are there, as a boot loader sees it."""
    data = file.read_bytes()
    return len(data) >= 512 and len(data) == 512 * int.from_bytes(data[24:28], "little")


def _elf_with(image: bytes) -> pathlib.Path:
    """Give the program, of those that were built, that has this image."""
    for elf in sorted(cache_directory().glob("*.elf"), key=lambda path: path.stat().st_mtime, reverse=True):
        with contextlib.suppress(Exception):  # firmware of other kinds
            if make_image(elf, ImageFormat.HEX) == image:
                return elf
    raise AssertionError("what was uploaded is no program that was built")


@contextmanager
def plugged_in(board: Pico | Uno | Interpreter) -> Iterator[None]:
    """Have the board do what it does by itself meanwhile."""
    failures: list[BaseException] = []
    is_over = threading.Event()

    def live() -> None:
        while not is_over.wait(_POLL_S):
            try:
                board.look()
            except BaseException as error:
                failures.append(error)
                return

    thread = threading.Thread(target=live)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(list_ports, "comports", lambda *args, **options: board.ports())
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
            board.end()
    assert failures == []
