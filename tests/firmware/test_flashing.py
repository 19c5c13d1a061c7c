"""Putting a program into a board: what is chosen, what a command is given, and what comes of it when it fails."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_flashers import FAIL, HANG, HANG_WITH_ANOTHER, LEAVE, FakeTools, wait_until_gone
from firmware.test_elf import make_program

from microrpc.boards.catalogue import profile
from microrpc.boards.flashers import DriveFlasher
from microrpc.boards.schema import BoardProfile
from microrpc.errors import FirmwareError
from microrpc.firmware import drives
from microrpc.firmware.drives import DriveTools
from microrpc.firmware.flashing import FlashTools, choose, flash_aside
from microrpc.firmware.programs import Program

pytestmark = pytest.mark.usefixtures("own_cache")

NOTE = """
import sys
sizes = [len(open(file, 'rb').read()) for file in sys.argv[3:]]
open(sys.argv[1], 'w').write(repr(sys.argv[2:]) + ' ' + repr(sizes))
"""


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    path = tmp_path / "firmware.elf"
    path.write_bytes(make_program([(1, 0x10000000, b"abcde")]))
    return path


def board(*words: str, flash_s: float = 20.0) -> BoardProfile:
    return dataclasses.replace(profile("loopback"), flash=words, flash_s=flash_s)


def run(board: BoardProfile, elf: Path) -> None:
    asyncio.run(flash_aside(board, "/dev/ttyACM0", elf))


def test_the_command_is_given_the_port_and_the_program_in_each_form(elf: Path, tmp_path: Path) -> None:
    note = tmp_path / "note"
    run(board(sys.executable, "-c", NOTE, str(note), "{port} x{x}", "{elf}", "{bin}", "{hex}", "{uf2}"), elf)
    said = note.read_text()
    assert said.startswith(f"['/dev/ttyACM0 x{{x}}', '{elf}', ")
    # 5 bytes are a row of 22 characters of Intel HEX; the upper half of their address takes 16, where the program
    # begins 20, and its end 12.
    assert said.endswith(f"[{elf.stat().st_size}, 5, {22 + 16 + 20 + 12}, 512]")
    assert [part.rpartition(".")[2] for part in said.split("'")[3:-1:2]] == ["elf", "bin", "hex", "uf2"]
    assert {Path(path).parent for path in said.split("'")[5:-1:2]} == {tmp_path / "cache"}


def test_no_shell_reads_the_command(elf: Path, tmp_path: Path) -> None:
    run(board(sys.executable, "-c", "pass", "{elf}", f"; touch {tmp_path / 'no'}", "$(touch no)"), elf)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["firmware.elf"]


def test_a_command_that_fails_gives_its_last_words(elf: Path) -> None:
    words = "import sys; print('no probe \\x1b[2J'); sys.stderr.write('found\\n'); sys.exit(3)"
    with pytest.raises(FirmwareError, match=r"(?s)^/dev/ttyACM0: it could not be flashed: .*ended with 3:\n") as caught:
        run(board(sys.executable, "-c", words, "{elf}"), elf)
    assert "no probe" in str(caught.value)
    assert "found" in str(caught.value)
    assert "\x1b" not in str(caught.value)
    begins = "print('it ' + 'begins'); print('.' * 4000); print('it ' + 'ends'); raise SystemExit(1)"
    with pytest.raises(FirmwareError, match=r"it ends$") as caught:
        run(board(sys.executable, "-c", begins, "{elf}"), elf)
    assert "it begins" not in str(caught.value)


def test_a_command_that_is_not_there_is_told(elf: Path) -> None:
    with pytest.raises(FirmwareError, match=r"no-such-flasher .*cannot be started: No such file or directory"):
        run(board("no-such-flasher", "{elf}"), elf)


def test_a_command_that_hangs_is_killed_with_what_it_started(elf: Path, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    hangs = (
        "import subprocess as s, sys; p = s.Popen(['sleep', '60']); print(p.pid, file=open(sys.argv[1], 'w')); p.wait()"
    )
    with pytest.raises(FirmwareError, match=r"was ended: it took longer than 3 s \(`flash_s`\)"):
        run(board(sys.executable, "-c", hangs, str(note), "{elf}", flash_s=3.0), elf)
    wait_until_gone(int(note.read_text()))


def test_a_program_that_a_command_leaves_running_holds_nobody_up(elf: Path) -> None:
    leaves = "import subprocess; subprocess.Popen(['sleep', '30'])"
    began = time.monotonic()
    run(board(sys.executable, "-c", leaves, "{elf}"), elf)
    assert time.monotonic() - began < 20


def test_a_board_without_a_way_is_told_where_it_is_stated(elf: Path) -> None:
    with pytest.raises(FirmwareError, match=r"does not know how a program is put into spresense: state it in `flash`"):
        run(profile("spresense"), elf)


# --- which way --------------------------------------------------------------------------------


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTools:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return FakeTools(tmp_path / "bin")


@pytest.fixture
def media(tmp_path: Path) -> Path:
    path = tmp_path / "media"
    path.mkdir()
    return path


@pytest.fixture
def computer(media: Path, monkeypatch: pytest.MonkeyPatch) -> FlashTools:
    """A computer with drives that the test has, and ports that note when they are touched."""
    monkeypatch.setattr(drives, "SETTLE_S", 0.3)

    def places() -> Iterator[Path]:
        yield from sorted(media.iterdir())

    def touch(port: str) -> None:
        (media.parent / "touched").write_text(port)

    return FlashTools(touch=touch, touch_only=touch, drives=DriveTools(places))


PICO = profile("rpi_pico")
NUCLEO = profile("nucleo_f746zg")


def uf2_drive(media: Path) -> Path:
    drive = media / "RPI-RP2"
    drive.mkdir()
    (drive / "INFO_UF2.TXT").write_text("UF2 Bootloader v3.0\nBoard-ID: RPI-RP2\n")
    return drive


def test_a_drive_that_is_there_is_taken_before_a_tool_that_is_installed(
    elf: Path, fakes: FakeTools, media: Path, computer: FlashTools
) -> None:
    fakes.add("openocd")
    drive = uf2_drive(media)
    chosen = choose(PICO, Program(elf), tools=computer)
    assert (chosen.way.tool, chosen.drive, chosen.has_touch) == ("uf2", drive, False)
    assert choose(PICO, Program(elf), "/dev/ttyACM0", tools=computer).has_touch is False  # it is there already


def test_a_port_that_can_be_touched_is_as_good_as_a_drive(elf: Path, fakes: FakeTools, computer: FlashTools) -> None:
    fakes.add("openocd")
    chosen = choose(PICO, Program(elf), "/dev/ttyACM0", tools=computer)
    assert (chosen.way.tool, chosen.has_touch) == ("uf2", True)


def test_the_first_tool_of_the_profile_that_is_installed_is_taken(
    elf: Path, fakes: FakeTools, computer: FlashTools
) -> None:
    for name in ("pyocd", "openocd", "picotool"):
        fakes.add(name)
        assert choose(PICO, Program(elf), tools=computer).way.tool == name
    assert choose(PICO, Program(elf), tool="pyocd", tools=computer).way.tool == "pyocd"


def test_where_nothing_is_at_hand_a_drive_is_waited_for_that_a_person_can_have_appear(
    elf: Path, fakes: FakeTools, media: Path, computer: FlashTools
) -> None:
    chosen = choose(PICO, Program(elf), tools=computer)
    assert (chosen.way.tool, chosen.drive) == ("uf2", None)
    notes: list[str] = []
    timer = threading.Timer(0.3, lambda: (uf2_drive(media), None)[1])
    timer.start()
    chosen.run(on_note=notes.append)
    assert notes[0].startswith("its drive, RPI-RP2, is not there: hold BOOTSEL while you plug it in. It is waited for")
    assert (media / "RPI-RP2" / "firmware.uf2").stat().st_size == 512
    assert notes[1] == f"{media / 'RPI-RP2'} is still there: the board may not have taken the program"


def test_where_nobody_can_be_asked_each_way_is_told_with_what_it_wants(
    elf: Path, fakes: FakeTools, computer: FlashTools
) -> None:
    with pytest.raises(FirmwareError) as caught:
        choose(PICO, Program(elf), may_ask=False, tools=computer)
    assert str(caught.value).splitlines() == [
        "rpi_pico: nothing here can put the program into rpi_pico:",
        "uf2: its drive, RPI-RP2, is not there: hold BOOTSEL while you plug it in",
        "picotool: picotool is not installed: apt-get install picotool, or from Raspberry Pi's page of it",
        "openocd: openocd or openocd-esp32 is not installed: apt-get install openocd, or pip install openocd-esp32",
        "pyocd: pyocd is not installed: pip install pyocd",
    ]


def test_each_tool_that_wants_a_port_says_so(elf: Path, fakes: FakeTools, computer: FlashTools) -> None:
    fakes.add("bossac")
    with pytest.raises(
        FirmwareError,
        match=r"\nbossac: takes the board's port: name it with --port \(",
    ):
        choose(profile("arduino_due"), Program(elf), tools=computer)
    assert choose(profile("arduino_due"), Program(elf), "/dev/ttyACM0", tools=computer).way.tool == "bossac"


def test_a_file_of_another_form_is_for_other_tools(tmp_path: Path, fakes: FakeTools, computer: FlashTools) -> None:
    fakes.add("st-flash")
    fakes.add("openocd")
    assert choose(NUCLEO, Program(tmp_path / "x.bin", "bin"), tools=computer).way.tool == "st-flash"
    assert choose(NUCLEO, Program(tmp_path / "x.hex", "hex"), tools=computer).way.tool == "openocd"
    with pytest.raises(FirmwareError) as caught:
        choose(NUCLEO, Program(tmp_path / "x.uf2", "uf2"), tools=computer)
    assert str(caught.value).splitlines()[1:] == [
        "openocd: takes a file .elf or .hex, and x.uf2 is none",
        "st-flash: takes a file .bin, and x.uf2 is none",
        "drive: takes a file .bin, and x.uf2 is none",
    ]


def test_an_image_that_only_the_boards_own_tools_make_is_not_made_here(
    elf: Path, tmp_path: Path, fakes: FakeTools, computer: FlashTools
) -> None:
    fakes.add("esptool")
    board = profile("feather_s2")
    with pytest.raises(
        FirmwareError, match=r"esptool: takes a file \.bin that the board's own tools have made, and fi"
    ):
        choose(board, Program(elf), "/dev/ttyACM0", tools=computer)
    chosen = choose(board, Program(tmp_path / "x.bin", "bin"), "/dev/ttyACM0", tools=computer)
    chosen.run()
    assert fakes.words("esptool") == [
        *("--chip", "esp32s2", "--port", "/dev/ttyACM0", "write_flash", "0x10000", str(tmp_path / "x.bin"))
    ]


def test_a_tool_that_the_profile_does_not_have_is_told(elf: Path, computer: FlashTools) -> None:
    with pytest.raises(FirmwareError) as caught:
        choose(PICO, Program(elf), tool="pyocs", tools=computer)
    assert str(caught.value) == (
        "rpi_pico has no way 'pyocs' to be flashed; did you mean 'pyocd'? It has: uf2, picotool, openocd, pyocd"
    )


def test_a_directory_that_is_named_is_the_drive(elf: Path, tmp_path: Path, computer: FlashTools) -> None:
    drive = uf2_drive(tmp_path)
    chosen = choose(PICO, Program(elf), "/dev/ttyACM0", drive=drive, tools=computer)
    assert (chosen.way.tool, chosen.drive, chosen.has_touch) == ("uf2", drive, False)
    (tmp_path / "E").mkdir()  # what a system calls the drive of a probe
    chosen = choose(NUCLEO, Program(elf), drive=tmp_path / "E", tools=computer)
    assert (chosen.way.tool, chosen.drive) == ("drive", tmp_path / "E")


@pytest.mark.parametrize(
    ("board", "name", "reason"),
    [
        ("rpi_pico", "no", "there is no such directory: name that at which the boot drive is mounted"),
        ("rpi_pico", "metro", "is the boot drive of SAMD51J19A-Metro-v0: that of RPI-RP2 is wanted"),
        ("rpi_pico", "disk", "is no boot drive, for it has no INFO_UF2.TXT: that of RPI-RP2 is wanted"),
        ("arduino_due", "metro", "arduino_due is not flashed by a drive, but by bossac"),
    ],
)
def test_a_directory_that_cannot_be_the_drive_is_told(
    elf: Path, media: Path, computer: FlashTools, board: str, name: str, reason: str
) -> None:
    (media / "disk").mkdir()
    (media / "metro").mkdir()
    (media / "metro" / "INFO_UF2.TXT").write_text("Board-ID: SAMD51J19A-Metro-v0\n")
    with pytest.raises(FirmwareError, match=rf"/{name}: {re.escape(reason)}$"):
        choose(profile(board), Program(elf), drive=media / name, tools=computer)


@pytest.mark.parametrize(
    ("board", "reason"),
    [
        ("qemu_mps2_an385", "qemu_mps2_an385: an emulated board is given its program when its emulator is started: "),
        ("loopback", "loopback: is no real board, but a simulated one"),
        ("spresense", "spresense: microrpc does not know how a program is put into spresense"),
    ],
)
def test_a_board_that_no_program_can_be_put_into_is_told(elf: Path, board: str, reason: str) -> None:
    with pytest.raises(FirmwareError, match=f"^{reason}"):
        choose(profile(board), Program(elf))


# --- what is run ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("board", "tool", "name", "words"),
    [
        ("rpi_pico", "picotool", "picotool", "load -f -x UF2"),
        (
            *("rpi_pico", "openocd", "openocd"),
            "-f interface/cmsis-dap.cfg -f target/rp2040.cfg -c|adapter speed 5000|-c|program {ELF} verify reset exit",
        ),
        (
            *("rpi_pico", "openocd", "openocd-esp32"),
            "-f interface/cmsis-dap.cfg -f target/rp2040.cfg -c|adapter speed 5000|-c|program {ELF} verify reset exit",
        ),
        ("rpi_pico", "pyocd", "pyocd", "load --no-wait -t rp2040 ELF"),
        ("nucleo_f746zg", "openocd", "openocd", "-f board/st_nucleo_f7.cfg -c|program {ELF} verify reset exit"),
        ("nucleo_f746zg", "st-flash", "st-flash", "--reset write BIN 0x08000000"),
        ("nucleo_l4r5zi", "openocd", "openocd", "-f board/st_nucleo_l4.cfg -c|program {ELF} verify reset exit"),
        ("stm32f746g_disco", "openocd", "openocd", "-f board/stm32f746g-disco.cfg -c|program {ELF} verify reset exit"),
        ("arduino_due", "bossac", "bossac", "--port=/dev/ttyACM0 -e -w -v -b BIN -R"),
        ("nano33ble", "bossac", "bossac", "--port=/dev/ttyACM0 -U -i -e -w BIN -R"),
        ("portenta_h7", "dfu-util", "dfu-util", "-d 2341:035b -a 0 -s 0x08040000:leave -D BIN"),
        ("mimxrt1050_evk", "pyocd", "pyocd", "load --no-wait -t mimxrt1050_hyperflash ELF"),
        ("nrf5340dk", "pyocd", "pyocd", "load --no-wait -t nrf5340_xxaa ELF"),
    ],
)
def test_the_command_of_each_board(
    elf: Path, fakes: FakeTools, computer: FlashTools, board: str, tool: str, name: str, words: str
) -> None:
    fakes.add(name)
    (way,) = [way for way in profile(board).flashers if way.tool == tool]
    elf.write_bytes(make_program([(1, int(way.address or "0x10000000", 0), b"abcde")]))
    chosen = choose(profile(board), Program(elf), "/dev/ttyACM0", tool=tool, tools=computer)
    ((*_, last),) = [chosen.commands()[-1:]]
    chosen.run()
    first, *rest = words.split("|")
    files = {form.upper(): str(chosen.program.path_in(form)) for form in ("elf", "bin", "uf2")}
    expected = [re.sub("ELF|BIN|UF2", lambda found: files[found[0]], word) for word in (*first.split(), *rest)]
    assert fakes.words(name) == expected
    assert last == [name, *expected]  # what is shown is what is run
    assert (Path(elf.parent / "touched").exists()) == chosen.way.touch


def test_a_tool_that_fails_gives_its_last_words_and_the_other_ways(
    elf: Path, fakes: FakeTools, computer: FlashTools
) -> None:
    fakes.add("openocd", FAIL)
    with pytest.raises(FirmwareError) as caught:
        choose(PICO, Program(elf), tool="openocd", tools=computer).run()
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("rpi_pico: it could not be flashed: openocd -f interface/cmsis-dap.cfg ")
    assert first.endswith(" ended with 3:")
    assert lines == [
        "probe found",
        "no target \\x1b[2J",
        "Other ways, with --tool: uf2 (hold BOOTSEL while you plug it in), picotool, pyocd",
    ]


def test_a_tool_that_hangs_is_ended_with_its_last_words_and_all_that_it_started(
    elf: Path, fakes: FakeTools, computer: FlashTools
) -> None:
    board = dataclasses.replace(PICO, flash_s=3.0)
    fakes.add("openocd", HANG)
    with pytest.raises(
        FirmwareError, match=r"was ended: it took longer than 3 s \(`flash_s`\):\nwaiting for a probe\n"
    ):
        choose(board, Program(elf), tool="openocd", tools=computer).run()
    fakes.add("openocd", HANG_WITH_ANOTHER)
    with pytest.raises(FirmwareError, match="was ended: it took longer"):
        choose(board, Program(elf), tool="openocd", tools=computer).run()
    wait_until_gone(fakes.pid_of_another("openocd"))


def test_after_a_tool_that_fails_the_drive_is_waited_for_that_a_person_can_have_appear(
    elf: Path, fakes: FakeTools, media: Path, computer: FlashTools
) -> None:
    fakes.add("openocd", FAIL)
    chosen = choose(PICO, Program(elf), tools=computer)
    assert chosen.way.tool == "openocd"
    notes: list[str] = []
    timer = threading.Timer(0.5, lambda: (uf2_drive(media), None)[1])
    timer.start()
    assert chosen.run(on_note=notes.append).tool == "uf2"
    assert notes[0].startswith("rpi_pico: it could not be flashed: openocd ")
    assert notes[1].startswith("its drive, RPI-RP2, is not there: hold BOOTSEL while you plug it in. It is waited for")
    assert (media / "RPI-RP2" / "firmware.uf2").stat().st_size == 512


def test_nobody_is_asked_where_nobody_may_be_or_the_drive_is_that_of_a_probe(
    elf: Path, fakes: FakeTools, computer: FlashTools
) -> None:
    fakes.add("openocd", FAIL)
    with pytest.raises(FirmwareError, match="ended with 3"):
        choose(PICO, Program(elf), may_ask=False, tools=computer).run()
    began = time.monotonic()
    for board in (profile("microbit"), NUCLEO):
        with pytest.raises(FirmwareError, match="ended with 3"):
            choose(board, Program(elf), tools=computer).run()
    assert time.monotonic() - began < drives.APPEAR_S


def test_a_tool_that_is_killed_is_told_with_the_signal(elf: Path, fakes: FakeTools, computer: FlashTools) -> None:
    fakes.add("openocd", "import os; os.kill(os.getpid(), 11)")
    with pytest.raises(FirmwareError, match=r" exit' was killed by SIGSEGV\n"):
        choose(NUCLEO, Program(elf), tools=computer).run()


@pytest.mark.parametrize(
    ("said", "code", "is_taken"),
    [("File downloaded successfully", 74, True), ("nothing", 74, False), ("File downloaded successfully", 0, True)],
)
def test_a_board_that_starts_at_once_has_taken_what_dfu_util_calls_an_error(
    tmp_path: Path, fakes: FakeTools, computer: FlashTools, said: str, code: int, is_taken: bool
) -> None:
    elf = tmp_path / "firmware.elf"
    elf.write_bytes(make_program([(1, 0x08000000, b"abcde")]))
    fakes.add(
        "dfu-util", f"print({said!r}); print('Error during download get_status', file=sys.stderr); sys.exit({code})"
    )
    chosen = choose(profile("netduinoplus2"), Program(elf), tool="dfu-util", tools=computer)
    if is_taken:
        assert chosen.run().tool == "dfu-util"
    else:
        with pytest.raises(FirmwareError, match="ended with 74:\nnothing\nError during download get_status"):
            chosen.run()


def test_bytes_without_an_address_are_made_only_of_a_program_that_begins_where_they_are_put(
    elf: Path, fakes: FakeTools, computer: FlashTools
) -> None:
    fakes.add("st-flash")
    chosen = choose(NUCLEO, Program(elf), tool="st-flash", tools=computer)
    where = r"begins at 0x10000000, and the board's flash that is written at 0x08000000$"
    with pytest.raises(FirmwareError, match=where):
        chosen.run()
    with pytest.raises(FirmwareError, match=where):
        chosen.commands()
    assert not fakes.was_run("st-flash")


def test_code_for_another_kind_of_chip_is_put_into_no_board(elf: Path, fakes: FakeTools, computer: FlashTools) -> None:
    fakes.add("avrdude")
    uno = choose(profile("arduino_uno"), Program(elf), "/dev/ttyACM0", tools=computer)
    with pytest.raises(
        FirmwareError, match=r"it has code for ARM, 32 bits.*, and arduino_uno has a ATmega328P \(AVR\)$"
    ):
        uno.run()
    assert not fakes.was_run("avrdude")
    choose(dataclasses.replace(profile("arduino_uno"), mcu="AT91"), Program(elf), "/dev/ttyACM0", tools=computer).run()
    assert fakes.was_run("avrdude")


def test_a_tool_that_leaves_another_program_holds_nobody_up(elf: Path, fakes: FakeTools, computer: FlashTools) -> None:
    fakes.add("openocd", LEAVE)
    began = time.monotonic()
    choose(PICO, Program(elf), tools=computer).run()
    assert time.monotonic() - began < 20


def test_a_task_that_is_cancelled_ends_the_tool(elf: Path, fakes: FakeTools, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.add("openocd", HANG_WITH_ANOTHER)
    monkeypatch.setattr(drives, "mounted", lambda: iter(()))

    async def cancel() -> None:
        task = asyncio.create_task(flash_aside(NUCLEO, "/dev/ttyACM0", elf))
        pid = await asyncio.to_thread(fakes.pid_of_another, "openocd")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        wait_until_gone(pid)

    asyncio.run(cancel())


def test_a_drive_is_shown_as_a_copy(elf: Path, media: Path, computer: FlashTools) -> None:
    drive = uf2_drive(media)
    chosen = choose(PICO, Program(elf), tools=computer)
    assert chosen.commands() == [["cp", str(chosen.program.path_in("uf2")), str(drive / "firmware.uf2")]]
    assert sorted(path.name for path in drive.iterdir()) == ["INFO_UF2.TXT"]
    touched = choose(PICO, Program(elf), "/dev/ttyACM0", tool="uf2", tools=dataclasses.replace(computer, drives=NONE))
    assert touched.commands() == [
        ["stty", "-F", "/dev/ttyACM0", "1200"],
        ["cp", str(chosen.program.path_in("uf2")), "RPI-RP2/firmware.uf2"],
    ]


def test_a_port_is_touched_and_then_its_drive_is_waited_for(elf: Path, media: Path, computer: FlashTools) -> None:
    def touch(port: str) -> None:
        assert port == "/dev/ttyACM0"
        uf2_drive(media)

    chosen = choose(PICO, Program(elf), "/dev/ttyACM0", tools=dataclasses.replace(computer, touch_only=touch))
    assert isinstance(chosen.way, DriveFlasher)
    notes: list[str] = []
    chosen.run(on_note=notes.append)
    assert (media / "RPI-RP2" / "firmware.uf2").exists()
    assert len(notes) == 1  # that it is still there


def test_the_drive_of_another_board_is_not_that_of_the_port(elf: Path, media: Path, computer: FlashTools) -> None:
    other = uf2_drive(media)

    def touch(port: str) -> None:
        drive = media / "RPI-RP21"
        drive.mkdir()
        (drive / "INFO_UF2.TXT").write_text("Board-ID: RPI-RP2\n")

    tools = dataclasses.replace(computer, touch_only=touch, is_there=lambda port: port == "/dev/ttyACM0")
    assert choose(PICO, Program(elf), "/dev/ttyACM1", tools=tools).drive == other  # whose board is in its bootloader
    chosen = choose(PICO, Program(elf), "/dev/ttyACM0", tools=tools)
    assert (chosen.has_touch, chosen.drive) == (True, None)
    chosen.run()
    assert (media / "RPI-RP21" / "firmware.uf2").exists()
    assert [path.name for path in other.iterdir()] == ["INFO_UF2.TXT"]


def test_of_a_board_on_a_port_and_another_on_a_drive_none_is_guessed(
    elf: Path, media: Path, computer: FlashTools
) -> None:
    drive = uf2_drive(media)
    tools = dataclasses.replace(computer, is_there=lambda port: True)
    text = f"one rpi_pico is on /dev/ttyACM0, and another one shows the drive {drive}: say with --port or --drive"
    with pytest.raises(FirmwareError, match=f"^{text}"):
        choose(PICO, Program(elf), "/dev/ttyACM0", is_port_named=False, tools=tools)
    uart = profile("rpi_pico_uart")  # its port is an adapter's, which stays
    assert choose(uart, Program(elf), "/dev/ttyACM0", is_port_named=False, tools=tools).drive == drive


NONE = DriveTools(lambda: iter(()))
