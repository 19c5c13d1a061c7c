"""Boot drives: which one is meant, and what a copy meets: none there, full, gone at the end, a board that complains."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from microrpc.boards.flashers import DriveFlasher
from microrpc.errors import FirmwareError
from microrpc.firmware import drives
from microrpc.firmware.drives import DriveTools, board_id, copy_to_drive, find_drive, wait_for_drive

UF2 = DriveFlasher("uf2", "uf2", "RPI-RP2", "hold BOOTSEL")
PROBE = DriveFlasher("drive", "hex", "MICROBIT")
INFO = "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n"


@pytest.fixture
def media(tmp_path: Path) -> Path:
    path = tmp_path / "media"
    path.mkdir()
    return path


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "a program.uf2"
    path.write_bytes(bytes(range(256)) * 40)
    return path


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drives, "SETTLE_S", 0.5)


def tools(media: Path, *, when_synced: Callable[[], None] = lambda: None) -> DriveTools:
    def places() -> Iterator[Path]:
        yield from sorted(media.iterdir())

    return DriveTools(places, sync=lambda file: when_synced())


def uf2_drive(media: Path, name: str = "RPI-RP2", info: str = INFO) -> Path:
    drive = media / name
    drive.mkdir()
    (drive / "INFO_UF2.TXT").write_text(info)
    return drive


def unmount(drive: Path) -> None:
    """Let a drive go away, and keep what was written to it beside it."""
    drive.rename(drive.parent.parent / "taken")


def taken(media: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (media.parent / "taken").iterdir()}


# --- finding ------------------------------------------------------------------------------------


def test_a_drive_is_told_by_its_board_id_wherever_it_is_mounted(media: Path) -> None:
    uf2_drive(media, "other", "Board-ID: SAMD51J19A-Metro-v0\n")
    (media / "RPI-RP2").mkdir()  # another disk of that label
    assert find_drive(UF2, tools(media)) is None
    drive = uf2_drive(media, "usb0")
    assert find_drive(UF2, tools(media)) == drive
    assert board_id(drive) == "RPI-RP2"


def test_a_drive_without_a_board_id_is_told_by_its_label(media: Path) -> None:
    (media / "MICROBIT.txt").touch()
    assert find_drive(PROBE, tools(media)) is None
    (media / "MICROBIT").mkdir()
    assert find_drive(PROBE, tools(media)) is None  # what a drive has left behind
    (media / "MICROBIT" / "DETAILS.TXT").touch()
    assert find_drive(PROBE, tools(media)) == media / "MICROBIT"


def test_two_drives_are_not_told_apart(media: Path) -> None:
    uf2_drive(media, "a")
    uf2_drive(media, "b")
    with pytest.raises(FirmwareError, match=r"^2 drives are RPI-RP2: .*/a, .*/b\. Name the one .* with --drive$"):
        find_drive(UF2, tools(media))
    (media / "c").symlink_to(media / "a")
    shutil.rmtree(media / "b")
    assert find_drive(UF2, tools(media)) == media / "a"  # one drive, seen twice


def test_an_info_without_end_is_not_read_to_it(media: Path) -> None:
    drive = uf2_drive(media, info="x" * 5000 + "\nBoard-ID: RPI-RP2\n")
    assert board_id(drive) is None


def test_the_drives_of_this_computer_are_looked_for_without_an_error() -> None:
    assert all(isinstance(place, Path) for place in drives.mounted())


def test_a_drive_that_appears_is_waited_for(media: Path) -> None:
    thread = threading.Timer(0.2, uf2_drive, [media])
    thread.start()
    assert wait_for_drive(UF2, 10, tools=tools(media)) == media / "RPI-RP2"
    thread.join()


def test_a_drive_that_does_not_appear_is_told_with_what_to_do(media: Path) -> None:
    with pytest.raises(FirmwareError, match=r"^no drive RPI-RP2 appeared within 0.1 s: hold BOOTSEL$"):
        wait_for_drive(UF2, 0.1, tools=tools(media))


def test_a_drive_that_is_there_and_not_mounted_is_told(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drives, "_BY_LABEL", tmp_path)
    (tmp_path / "RPI-RP2").touch()
    with pytest.raises(FirmwareError, match=r"not mounted: udisksctl mount -b .*/RPI-RP2$"):
        wait_for_drive(UF2, 0.1, tools=tools(media))


def test_nobody_is_waited_for_who_has_gone(media: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(FirmwareError, match="nobody waits for it any more"):
        wait_for_drive(UF2, 30, stop=stop, tools=tools(media))


# --- copying ------------------------------------------------------------------------------------


def copy(way: DriveFlasher, program: Path, drive: Path, tools: DriveTools, timeout_s: float = 20.0) -> str:
    return copy_to_drive(way, program, drive, timeout_s=timeout_s, tools=tools)


def test_a_drive_that_goes_away_when_it_has_all_is_as_it_should_be(media: Path, program: Path) -> None:
    drive = uf2_drive(media)
    assert copy(UF2, program, drive, tools(media, when_synced=lambda: unmount(drive))) == ""
    assert taken(media)["firmware.uf2"] == program.read_bytes()


def test_a_drive_that_vanishes_under_the_last_write_has_taken_it(media: Path, program: Path) -> None:
    drive = uf2_drive(media)

    def vanish() -> None:
        unmount(drive)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    assert copy(UF2, program, drive, tools(media, when_synced=vanish)) == ""
    assert taken(media)["firmware.uf2"] == program.read_bytes()


def test_a_drive_that_fails_and_stays_is_an_error(media: Path, program: Path) -> None:
    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(FirmwareError, match=r"RPI-RP2/firmware\.uf2: cannot be written: Input/output error"):
        copy(UF2, program, uf2_drive(media), tools(media, when_synced=fail))


def test_a_drive_that_is_gone_before_is_an_error(media: Path, program: Path) -> None:
    with pytest.raises(FirmwareError, match=r"RPI-RP2: cannot be read: No such file or directory"):
        copy(UF2, program, media / "RPI-RP2", tools(media))


def test_a_drive_that_stays_is_told(media: Path, program: Path) -> None:
    drive = uf2_drive(media)
    assert copy(UF2, program, drive, tools(media)) == (
        f"{drive} is still there: the board may not have taken the program"
    )


def test_a_drive_that_is_full_is_told_before_anything_is_written(media: Path, program: Path) -> None:
    drive = uf2_drive(media)
    full = dataclasses.replace(tools(media), free_bytes=lambda drive: 10239)
    with pytest.raises(FirmwareError, match=r"RPI-RP2: has room for 10239 bytes, and the program has 10240"):
        copy(UF2, program, drive, full)
    assert [path.name for path in drive.iterdir()] == ["INFO_UF2.TXT"]


def test_a_drive_that_hangs_is_given_up(media: Path, program: Path) -> None:
    release = threading.Event()
    drive = uf2_drive(media)
    began = time.monotonic()
    with pytest.raises(FirmwareError, match=r"firmware\.uf2: it took longer than 0\.3 s \(`flash_s`\)"):
        copy(UF2, program, drive, tools(media, when_synced=lambda: assert_(release.wait(60))), timeout_s=0.3)
    assert time.monotonic() - began < 10
    release.set()


def test_a_copy_tells_how_far_it_is(media: Path, program: Path) -> None:
    told: list[tuple[int, int]] = []
    drive = uf2_drive(media)
    copy_to_drive(
        UF2,
        program,
        drive,
        timeout_s=20,
        on_piece=lambda done, total: told.append((done, total)),
        tools=tools(media, when_synced=lambda: unmount(drive)),
    )
    assert told == [(4096, 10240), (8192, 10240), (10240, 10240)]


@pytest.mark.parametrize("before", [None, "error: in application mode\r\n"])
def test_a_probe_that_complains_is_an_error_with_its_words(media: Path, program: Path, before: str | None) -> None:
    drive = media / "MICROBIT"
    drive.mkdir()
    if before is not None:
        (drive / "FAIL.TXT").write_text(before)

    def refuse() -> None:
        drive.rename(media / "away")

        def back() -> None:
            (media / "away" / "FAIL.TXT").write_text(before or "error: in application mode")
            (media / "away").rename(drive)

        threading.Timer(0.1, back).start()

    with pytest.raises(FirmwareError, match=r"MICROBIT: the board did not take the program: error: in application"):
        copy(PROBE, program, drive, tools(media, when_synced=refuse))


def test_a_probe_whose_drive_comes_back_without_a_complaint_has_taken_it(media: Path, program: Path) -> None:
    drive = media / "MICROBIT"
    drive.mkdir()
    (drive / "FAIL.TXT").write_text("what failed the last time")

    def take() -> None:
        drive.rename(media / "away")

        def back() -> None:
            (media / "away" / "FAIL.TXT").unlink()
            (media / "away").rename(drive)

        threading.Timer(0.1, back).start()

    assert copy(PROBE, program, drive, tools(media, when_synced=take)) == ""
    assert (drive / "firmware.hex").read_bytes() == program.read_bytes()


def assert_(holds: bool) -> None:
    assert holds
