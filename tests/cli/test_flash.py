"""`microrpc firmware flash`: which board is meant, what is built, what is shown, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import needs
import pytest
from commands import run, run_json
from fake_flashers import FAIL, HANG_WITH_ANOTHER, FakeTools, is_running, wait_until_gone
from firmware.test_elf import make_program
from processes import COMMAND
from serial.tools.list_ports_common import ListPortInfo

from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards import booting
from microrpc.boards.catalogue import profile
from microrpc.capture.pcapng import read_blocks
from microrpc.firmware import drives
from microrpc.firmware.build import build as build_firmware
from microrpc.firmware.emulation import emulator_command
from microrpc.firmware.emulator_process import EmulatorProcess
from microrpc.firmware.project import load_port

REAL_PATH = os.environ["PATH"]
NAMES = b"nucleo_f746zg\0microrpc demonstration\0"  # those of the board that answers
INFO = "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n"


@pytest.fixture(autouse=True)
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTools:
    """No tool is installed but those that a test adds, and no drive and no port is there."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(drives, "mounted", lambda: iter(()))
    monkeypatch.setattr(booting, "BACK_S", 0.5)
    monkeypatch.setattr("serial.tools.list_ports.comports", list)
    return FakeTools(tmp_path / "bin")


@pytest.fixture
def elf(tmp_path: Path, own_cache: Path) -> Path:
    """A program, and a cache of its own for what is made of it."""
    path = tmp_path / "firmware.elf"
    path.write_bytes(make_program([(1, 0x10000000, b"abcde"), (1, 0x10000010, NAMES)]))
    return path


@pytest.fixture
def port() -> Iterator[str]:
    """The port of a board that has booted."""
    with PtyServer(simulate(profile("nucleo_f746zg"))) as server:
        yield server.path


def plug_in(monkeypatch: pytest.MonkeyPatch, *ports: tuple[str, int, int]) -> None:
    infos = []
    for device, vendor, product in ports:
        info = ListPortInfo(device)
        info.vid, info.pid, info.location = vendor, product, f"1-{len(infos)}"
        infos.append(info)
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: infos)


class Bootloader:
    """A drive that takes a UF2 file, and then goes away and starts a board."""

    def __init__(self, drive: Path) -> None:
        self.drive = drive
        drive.mkdir()
        (drive / "INFO_UF2.TXT").write_text(INFO)
        self.taken = b""
        self.on_taken: Callable[[bytes], None] = lambda data: None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        file = self.drive / "firmware.uf2"
        while not self._stop.wait(0.02):
            data = file.read_bytes() if file.exists() else b""
            if len(data) >= 512 and len(data) == 512 * int.from_bytes(data[24:28], "little"):
                self.taken = data
                (self.drive / "INFO_UF2.TXT").unlink()
                self.on_taken(data)
                return

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def bootloader(tmp_path: Path) -> Iterator[Bootloader]:
    bootloader = Bootloader(tmp_path / "RPI-RP2")
    yield bootloader
    bootloader.close()


# --- to a board that answers ----------------------------------------------------------------------


def test_a_board_is_flashed_and_shows_what_it_is(elf: Path, fakes: FakeTools, port: str) -> None:
    fakes.add("openocd")
    result = run("firmware", "flash", "nucleo_f746zg", elf, "--port", port)
    assert (result.code, result.err) == (0, "flashing nucleo_f746zg with openocd ...\nwaiting for it to boot ...\n")
    assert fakes.words("openocd") == ["-f", "board/st_nucleo_f7.cfg", "-c", f"program {{{elf}}} verify reset exit"]
    lines = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    assert lines["port"] == port
    assert lines["profile"].startswith("nucleo_f746zg: ")
    assert "largest packet  2037 bytes" in result.out


def test_what_the_board_then_says_is_shown_and_captured(elf: Path, fakes: FakeTools, port: str, tmp_path: Path) -> None:
    fakes.add("openocd")
    file = tmp_path / "x.pcapng"
    other = tmp_path / "no capture"
    other.write_text("mine")
    words = ("firmware", "flash", "nucleo_f746zg", elf, "--port", port, "--trace", "-v", "--capture")
    assert run(*words, other).code == 6
    assert (other.read_text(), fakes.was_run("openocd")) == ("mine", False)
    result = run(*words, file)
    assert result.code == 0
    assert "INIT            open a session" in result.err
    assert f"{port}: closed; " in result.err
    with file.open("rb") as stream:
        packets = list(read_blocks(stream))
    assert {packet.interface for packet in packets} == {port}
    assert {packet.to_board for packet in packets} == {True, False}


def test_a_port_and_the_board_behind_it_may_be_named(elf: Path, fakes: FakeTools, port: str) -> None:
    fakes.add("st-flash")
    elf.write_bytes(make_program([(1, 0x08000000, NAMES)]))
    shown = run_json("firmware", "flash", port, elf, "--board", "nucleo_f746zg")
    assert (shown["board"], shown["tool"], shown["file"]) == ("nucleo_f746zg", "st-flash", str(elf))
    assert (shown["info"]["port"], shown["info"]["max_packet_bytes"]) == (port, 2037)


def test_a_board_is_found_by_the_usb_ids_of_its_port(
    elf: Path, fakes: FakeTools, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in(monkeypatch, (port, 0x2E8A, 0x000A))
    fakes.add("picotool")
    for target in (port, "rpi_pico"):
        shown = run_json("firmware", "flash", target, elf, "--tool", "picotool")
        assert (shown["board"], shown["info"]["port"]) == ("rpi_pico", port)


def test_an_own_profile_tells_how(elf: Path, fakes: FakeTools, port: str, tmp_path: Path) -> None:
    fakes.add("mine")
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\ndescription = "d"\nbaud = 115200\npacket_size_bytes = 2048\nheap_bytes = 4096\n'
        'flash = ["mine", "{port}", "{elf}"]\n'
    )
    for args in ((port,), ("mine", "--port", port)):
        shown = run_json("firmware", "flash", *args, elf, "--board-file", file)
        assert (shown["tool"], fakes.words("mine")) == ("flash", [port, str(elf)])
    result = run("firmware", "flash", "other", elf, "--board-file", file)
    assert (result.code, result.err) == (2, f"error: other: {file} is the profile of mine\n")


def test_a_board_whose_port_nobody_knows_is_flashed_and_that_is_said(elf: Path, fakes: FakeTools) -> None:
    fakes.add("openocd")
    result = run("firmware", "flash", "nucleo_f746zg", elf)
    assert result.code == 0
    assert result.out == (
        "nucleo_f746zg has the program, and no port of it is known: "
        "`microrpc info PORT` shows what it is, where you know the port\n"
    )
    assert run_json("firmware", "flash", "nucleo_f746zg", elf)["info"] is None


def test_a_port_that_appears_when_the_board_has_booted_is_found(
    elf: Path, fakes: FakeTools, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(booting, "BACK_S", 20.0)
    fakes.add("pyocd")
    info = ListPortInfo(port)
    info.vid, info.pid = 0x2E8A, 0x000A
    began = time.monotonic()
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: [info] if time.monotonic() - began > 3 else [])
    assert run_json("firmware", "flash", "rpi_pico", elf)["info"]["port"] == port


def test_a_board_whose_usb_id_is_another_one_with_its_new_program_is_found_where_it_was(
    elf: Path, fakes: FakeTools, port: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(booting, "BACK_S", 20.0)
    before, after, other = ListPortInfo(str(tmp_path / "tty")), ListPortInfo(port), ListPortInfo("/dev/ttyACM9")
    (tmp_path / "tty").touch()
    before.vid, before.pid, before.location, before.serial_number = 0x2E8A, 0x0005, "1-4:1.0", "E6614103"  # MicroPython
    after.vid, after.pid, after.location, after.serial_number = 0x2E8A, 0x000A, "1-4:1.0", "1"
    other.vid, other.pid, other.location = 0x2E8A, 0x000A, "1-5:1.0"
    fakes.add("picotool")
    ran = fakes.directory / "picotool.note"
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: [after if ran.exists() else before, other])
    args = ("--board", "rpi_pico", "--tool", "picotool")
    assert run_json("firmware", "flash", tmp_path / "tty", elf, *args)["info"]["port"] == port


def test_the_board_whose_drive_is_named_is_not_that_of_another_port(
    elf: Path, bootloader: Bootloader, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in(monkeypatch, ("/dev/ttyACM9", 0x2E8A, 0x000A))

    def boot(data: bytes) -> None:
        plug_in(monkeypatch, ("/dev/ttyACM9", 0x2E8A, 0x000A), (port, 0x2E8A, 0x000A))

    bootloader.on_taken = boot
    shown = run_json("firmware", "flash", "rpi_pico", elf, "--drive", bootloader.drive)
    assert shown["info"]["port"] == port


def test_a_board_that_has_not_the_program_it_was_given_is_told_by_its_name(
    elf: Path, fakes: FakeTools, port: str
) -> None:
    elf.write_bytes(make_program([(1, 0x08000000, b"microrpc demonstration\0nucleo\0")]))
    fakes.add("openocd")
    result = run("firmware", "flash", "nucleo_f746zg", elf, "--port", port)
    assert result.code == 0
    assert result.err.splitlines()[-1] == (
        f"warning: what answers on {port} calls itself 'nucleo_f746zg', which the program does not: "
        "it is another board, or has its old program still"
    )


def test_a_board_that_does_not_boot_is_an_error_that_tells_of_the_flashing(
    elf: Path, fakes: FakeTools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fakes.add("openocd")
    result = run("firmware", "flash", "nucleo_f746zg", elf, "--port", tmp_path / "gone")
    assert result.code == 3
    assert result.err.splitlines()[-1].endswith("nucleo_f746zg was flashed with openocd before")
    assert "gone" in result.err


def test_a_tool_that_fails_is_one_error_with_its_words(elf: Path, fakes: FakeTools) -> None:
    fakes.add("openocd", FAIL)
    result = run("firmware", "flash", "nucleo_f746zg", elf)
    assert (result.code, result.out) == (5, "")
    assert "error: nucleo_f746zg: it could not be flashed: openocd -f " in result.err
    assert "ended with 3:\nprobe found\nno target \\x1b[2J\nOther ways, with --tool: st-flash, drive\n" in result.err


# --- a boot drive ---------------------------------------------------------------------------------


def test_a_program_is_copied_to_the_drive_that_is_named(elf: Path, bootloader: Bootloader, port: str) -> None:
    result = run("firmware", "flash", "rpi_pico", elf, "--drive", bootloader.drive, "--port", port)
    assert (result.code, result.err) == (0, "flashing rpi_pico with uf2 ...\nwaiting for it to boot ...\n")
    assert bootloader.taken[28:32] == (0xE48BFF56).to_bytes(4, "little")
    assert bootloader.taken[32:37] == b"abcde"
    assert "largest packet  2037 bytes" in result.out


def test_what_is_odd_about_the_drive_is_said(elf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drives, "SETTLE_S", 0.1)
    (tmp_path / "usb").mkdir()
    (tmp_path / "usb" / "INFO_UF2.TXT").write_text(INFO)
    result = run("firmware", "flash", "rpi_pico", elf, "--drive", tmp_path / "usb")
    assert result.code == 0
    assert f"{tmp_path / 'usb'} is still there: the board may not have taken the program\n" in result.err


def test_a_drive_that_does_not_appear_is_waited_for_and_then_an_error(
    elf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drives, "APPEAR_S", 0.2)
    result = run("firmware", "flash", "rpi_pico", elf)
    assert (result.code, result.out) == (5, "")
    assert result.err.splitlines() == [
        "flashing rpi_pico with uf2 ...",
        "its drive, RPI-RP2, is not there: hold BOOTSEL while you plug it in. It is waited for, 0.2 s at most",
        "error: rpi_pico: it could not be flashed: no drive RPI-RP2 appeared within 0.2 s: "
        "hold BOOTSEL while you plug it in",
    ]


@pytest.mark.boards
def test_the_file_that_lands_on_the_drive_boots_and_the_board_that_then_answers_is_shown(
    tmp_path: Path, bootloader: Bootloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", REAL_PATH)
    monkeypatch.setattr(booting, "BACK_S", 60.0)
    needs.emulated("rp2040")
    emulator = EmulatorProcess("rp2040")
    project = load_port("rp2040")
    plugged_in = tmp_path / "tty"

    def boot(data: bytes) -> None:
        landed = tmp_path / "landed.uf2"
        landed.write_bytes(data)
        assert project.emulation is not None
        words = emulator_command(project.name, build_firmware(project).elf, project.emulation)
        command = [str(landed) if word.endswith(".uf2") else word for word in words]
        assert str(landed) in command
        plugged_in.symlink_to(emulator.start_on_pty(command, project.root))

    bootloader.on_taken = boot
    try:
        shown = run_json("firmware", "flash", "rpi_pico", "--drive", bootloader.drive, "--port", plugged_in)
    finally:
        emulator.end()
    assert (shown["board"], shown["tool"]) == ("rpi_pico", "uf2")
    info = shown["info"]
    assert (info["port"], info["identity"]["board"]) == (str(plugged_in), "rpi_pico")
    assert info["link"] is not None


# --- dry runs -------------------------------------------------------------------------------------


def test_a_dry_run_prints_the_command_and_runs_nothing(elf: Path, fakes: FakeTools, port: str) -> None:
    fakes.add("st-flash")
    elf.write_bytes(make_program([(1, 0x08000000, b"abcde")]))
    result = run("firmware", "flash", "nucleo_f746zg", elf, "--dry-run", "--port", port)
    assert (result.code, result.err) == (0, "")
    (words,) = result.out.splitlines()
    assert words.startswith("st-flash --reset write ")
    assert words.endswith(".bin 0x08000000")
    assert Path(words.split()[3]).read_bytes() == b"abcde"  # so that it can be typed
    assert not fakes.was_run("st-flash")


def test_a_dry_run_leaves_the_drive_and_the_port_alone(elf: Path, bootloader: Bootloader) -> None:
    shown = run_json("firmware", "flash", "rpi_pico", elf, "--drive", bootloader.drive, "--dry-run")
    ((copy, source, target),) = shown.pop("commands")
    assert (copy, target) == ("cp", str(bootloader.drive / "firmware.uf2"))
    assert Path(source).stat().st_size == 512
    assert shown == {"board": "rpi_pico", "tool": "uf2", "file": str(elf), "flash_bytes": None}
    assert not Path(target).exists()


def test_a_project_is_built_before_it_is_shown_how(tmp_path: Path, fakes: FakeTools) -> None:
    needs.zig()
    fakes.add("openocd")
    run("firmware", "new", tmp_path / "mine", "--board", "nucleo_f746zg")
    args = ("firmware", "flash", "nucleo_f746zg", tmp_path / "mine", "--dry-run")
    result = run(*args)
    assert result.code == 0, result.err
    assert result.err.splitlines()[-1].startswith("mine: ")
    small = run_json(*args, "--define", "MICRORPC_LINK=0")
    assert 0 < small["flash_bytes"] < run_json(*args)["flash_bytes"]
    assert small["commands"][0][-1] == f"program {{{small['file']}}} verify reset exit"


# --- what cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("rpi_pcio",), 5, "there is no board profile 'rpi_pcio'; did you mean 'rpi_pico'?"),
        (("esp32",), 5, "(`microrpc boards`). For another board: `new DIR --board arduino`, where"),
        (("/dev/no-such-port", "x.elf"), 3, "there is no port /dev/no-such-port: "),
        (("/dev/null", "x.elf"), 3, "/dev/null: say which board is behind it with --board: its USB id tells none"),
        (("/dev/ttyACM0", "--port", "COM3"), 2, "/dev/ttyACM0 and --port COM3: name the port once"),
        (("rpi_pico", "--board", "loopback"), 2, "rpi_pico and --board loopback: name the board once"),
        (("spresense", "x.elf"), 5, "microrpc does not know how a program is put into spresense"),
        (("arduino_due",), 5, "microrpc has no firmware for arduino_due: name a PROJECT, or a file .elf, .uf2, .hex"),
        (("nucleo_f746zg", "no-such-project"), 5, "there is no firmware for 'no-such-project'"),
        (("nucleo_f746zg", "x.elf", "--define", "A=1"), 2, "--define: x.elf is built already"),
        (("nucleo_f746zg", "x.elf", "--compiler", "gcc"), 2, "--compiler: x.elf is built already"),
        (
            ("micropython", "--define", "A=1", "--dry-run"),
            5,
            "is a file for MicroPython, and not compiled: nothing can",
        ),
        (
            ("micropython", "--compiler", "gcc", "--dry-run"),
            5,
            "micropython is a script, which nothing compiles: leave",
        ),
        (("nucleo_f746zg", "x.hex"), 5, "x.hex: is no Intel HEX: it does not begin with a colon"),
        (
            ("nucleo_f746zg", "x.elf", "--tool", "uf2"),
            5,
            "nucleo_f746zg has no way 'uf2' to be flashed. It has: openocd",
        ),
        (("nucleo_f746zg", "x.elf", "--drive", "no"), 5, "no: there is no such directory"),
        (("arduino_due", "x.elf"), 5, "bossac: takes the board's port: name it with --port (`microrpc ports`"),
        (("arduino_due", "x.elf", "--port", "/dev/ttyACM0"), 5, "bossac is not installed: apt-get install bossa-cli"),
        (("qemu_mps2_an385",), 5, "`microrpc firmware run qemu_mps2_an385` builds it and starts it"),
        (("qemu://mps2_an385",), 5, "`microrpc firmware run qemu_mps2_an385` builds it and starts it"),
        (("posix",), 5, "`microrpc firmware run posix` builds it and starts it"),
        (("emulated://no",), 2, "emulated://no: an emulated board is given its program when its emulator starts"),
        (("sim://rpi_pico",), 2, "sim://rpi_pico: a simulated board takes no firmware"),
        (("loopback",), 5, "loopback: is no real board, but a simulated one"),
    ],
)
def test_what_cannot_be_is_one_error(
    args: tuple[str, ...], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.elf").write_bytes(make_program([(1, 0x100, b"abcde")]))
    Path("x.hex").write_text("no")
    result = run("firmware", "flash", *args)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert message in result.err
    as_json = json.loads(run("firmware", "flash", *args, "--json").out)
    assert message in as_json["error"]["message"]


def test_a_project_alone_does_not_tell_the_board(tmp_path: Path) -> None:
    (tmp_path / "port.toml").touch()
    result = run("firmware", "flash", tmp_path, "--port", "/dev/ttyACM0")
    assert (result.code, result.out) == (2, "")
    assert f"{tmp_path}: is a project: name the board, or its port, before it: microrpc firmware fl" in result.err


def test_a_port_that_may_be_of_several_boards_is_not_guessed(
    elf: Path, port: str, fakes: FakeTools, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.add("openocd")
    plug_in(monkeypatch, (port, 0x0483, 0x374B))
    result = run("firmware", "flash", port, elf)
    assert result.code == 3
    assert "--board: it may be nucleo_f746zg or nucleo_l4r5zi or stm32f746g_disco\n" in result.err
    assert not fakes.was_run("openocd")


def test_of_two_boards_of_a_kind_none_is_guessed(elf: Path, fakes: FakeTools, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.add("openocd")
    plug_in(monkeypatch, ("/dev/ttyACM0", 0x0483, 0x374B), ("/dev/ttyACM1", 0x0483, 0x374B))
    result = run("firmware", "flash", "nucleo_f746zg", elf)
    assert result.code == 3
    assert "2 ports may be nucleo_f746zg" in result.err
    assert not fakes.was_run("openocd")


def test_a_project_for_other_chips_is_refused_before_it_is_built(tmp_path: Path, fakes: FakeTools) -> None:
    fakes.add("openocd")
    (tmp_path / "port.toml").write_text('[build]\nsources = ["no.c"]\nuf2_family = 0x55114460\n')
    result = run("firmware", "flash", "rpi_pico", tmp_path)
    assert result.err == (
        f"error: {tmp_path / 'port.toml'}: is for chips of the family 0x55114460, and this board is of 0xe48bff56\n"
    )


def test_a_project_for_another_board_is_refused_before_it_is_built(tmp_path: Path, fakes: FakeTools) -> None:
    fakes.add("openocd")
    made = run("firmware", "new", tmp_path / "mine", "--board", "nucleo_l4r5zi")
    assert made.out.splitlines()[-1] == f"     microrpc firmware flash nucleo_l4r5zi {tmp_path / 'mine'}"
    result = run("firmware", "flash", "nucleo_f746zg", tmp_path / "mine")
    assert (result.code, result.err) == (
        5,
        f"error: {tmp_path / 'mine' / 'port.toml'}: is for nucleo_l4r5zi (`build.board`), and not for nucleo_f746zg: "
        "`microrpc firmware new --board nucleo_f746zg` makes one that is\n",
    )
    assert not fakes.was_run("openocd")


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_running(elf: Path, fakes: FakeTools, number: signal.Signals) -> None:
    fakes.add("openocd", HANG_WITH_ANOTHER)
    command = [*COMMAND, "firmware", "flash", "nucleo_f746zg", str(elf), "--port", "/dev/null"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            other = fakes.pid_of_another("openocd")
            assert is_running(other)
            process.send_signal(number)
            assert process.wait(20) == 128 + number
            wait_until_gone(other)
        finally:
            process.kill()


def test_a_terminal_is_not_needed(elf: Path, fakes: FakeTools, port: str) -> None:
    fakes.add("openocd")
    command = [*COMMAND, "firmware", "flash", "nucleo_f746zg", str(elf), "--port", port, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")
    shown: dict[str, Any] = json.loads(done.stdout)
    assert shown["info"]["port"] == port
    assert sys.executable == COMMAND[0]


# --- scripts --------------------------------------------------------------------------------------


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A project for MicroPython: three files, the one that is started has a name of its own."""
    directory = tmp_path / "scripts"
    directory.mkdir()
    (directory / "port.toml").write_text('[build]\nscript = "demo.py"\n')
    for name in ("demo.py", "main.py", "microrpc_device.py", "a.py"):
        (directory / name).touch()
    return directory


@pytest.mark.parametrize("has_port", [True, False])
def test_a_script_is_copied_with_what_lies_beside_it(
    scripts: Path, fakes: FakeTools, port: str, has_port: bool
) -> None:
    fakes.add("mpremote")
    args = ("firmware", "flash", *([port] if has_port else ["micropython"]), scripts)
    start = ["connect", port if has_port else "auto", "fs", "cp"]
    words = [*start, str(scripts / "a.py"), str(scripts / "microrpc_device.py"), ":", "+"]
    words += ["fs", "cp", str(scripts / "demo.py"), ":main.py", "+", "reset"]
    assert run_json(*args, "--dry-run")["commands"] == [["mpremote", *words]]
    assert not fakes.was_run("mpremote")
    shown = run_json(*args)
    assert fakes.words("mpremote") == words
    assert (shown["board"], shown["tool"]) == ("micropython", "mpremote")
    assert (shown["info"] is not None) == has_port


def test_a_board_with_an_interpreter_need_not_be_known_by_that_name(scripts: Path, fakes: FakeTools, port: str) -> None:
    fakes.add("mpremote")
    shown = run_json("firmware", "flash", "rpi_pico", scripts, "--port", port)
    assert (shown["board"], shown["info"]["port"]) == ("rpi_pico", port)


def test_a_script_without_mpremote_says_what_to_install(scripts: Path) -> None:
    result = run("firmware", "flash", "micropython", scripts)
    assert result.code == 5
    assert "mpremote: mpremote is not installed: pip install mpremote\n" in result.err
    result = run("firmware", "flash", "micropython", scripts, "--dry-run")
    assert (result.code, result.err) == (0, "mpremote is not installed: pip install mpremote\n")
    assert result.out.startswith("mpremote connect auto fs cp ")
    (scripts / "demo.py").unlink()
    result = run("firmware", "flash", "micropython", scripts)
    assert result.err == f"error: {scripts / 'demo.py'}: there is no such script\n"
