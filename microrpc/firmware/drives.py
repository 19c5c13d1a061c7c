"""Boot drives: disks that a board's bootloader or debug probe shows, and that take a program as a file.

Those with the tool "uf2" are known by the Board-ID in their INFO_UF2.TXT, the others by their label, which is the name
of the directory that the system mounts them at.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from microrpc.boards.flashers import DriveFlasher
from microrpc.errors import FirmwareError, reason_of

APPEAR_S = 30.0
"""How long a drive may take to appear, in seconds."""
SETTLE_S = 5.0
"""How long a drive that has the whole file may take to go away, and then to be back with a complaint."""
POLL_S = 0.05
"""How often it is looked, in seconds."""

_INFO, _FAILURE = "INFO_UF2.TXT", "FAIL.TXT"
_MOST_TEXT_BYTES = 4096
_PIECE_BYTES = 4096
_MOUNTS = ("/media/*", "/media/*/*", "/run/media/*/*", "/mnt", "/mnt/*", "/Volumes/*")
_BY_LABEL = pathlib.Path("/dev/disk/by-label")

OnPiece = Callable[[int, int], None]
"""Told how many bytes of how many are written."""


def mounted() -> Iterator[pathlib.Path]:
    """Give the directories at which drives may be mounted."""
    if os.name == "nt":
        yield from (pathlib.Path(f"{letter}:\\") for letter in "DEFGHIJKLMNOPQRSTUVWXYZ")
        return
    root = pathlib.Path("/")
    for pattern in _MOUNTS:
        with contextlib.suppress(OSError):
            yield from sorted(root.glob(pattern[1:]))


@dataclass(frozen=True, slots=True)
class DriveTools:
    """What a copy needs of the computer. Tests put others in.

    `places`: gives the directories at which drives may be mounted. `now`: a clock in seconds. `sleep`: waits for so
    many of them. `free_bytes`: how much room a drive has. `sync`: has the system write a file that is open.
    """

    places: Callable[[], Iterator[pathlib.Path]] = mounted
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    free_bytes: Callable[[pathlib.Path], int] = lambda drive: shutil.disk_usage(drive).free
    sync: Callable[[int], None] = os.fsync


TOOLS = DriveTools()
"""Those of this computer."""


@dataclass(frozen=True, slots=True)
class Drive:
    """A drive that is there."""

    place: pathlib.Path
    """The directory at which it is mounted."""
    device: int
    """The number of what is mounted there."""


def all_drives(way: DriveFlasher, tools: DriveTools = TOOLS) -> tuple[Drive, ...]:
    """Give all drives that may be meant: there are several where several boards run their bootloaders."""
    found: dict[Drive, None] = {}
    for place in tools.places():
        if is_drive(way, place):
            with contextlib.suppress(OSError):  # it has gone again
                found.setdefault(Drive(place.resolve(), place.stat().st_dev))
    return tuple(found)


def find_drive(way: DriveFlasher, tools: DriveTools = TOOLS, *, but_not: Collection[Drive] = ()) -> pathlib.Path | None:
    """Give the drive that is meant, `but_not` one of those, None where it is not there.

    Raises FirmwareError where there are several.
    """
    found = [drive.place for drive in all_drives(way, tools) if drive not in but_not]
    if len(found) > 1:
        names = ", ".join(map(str, found))
        raise FirmwareError(f"{len(found)} drives are {way.name}: {names}. Name the one you mean with --drive")
    return found[0] if found else None


def is_drive(way: DriveFlasher, place: pathlib.Path) -> bool:
    """Whether the drive that is meant is mounted at `place`."""
    if way.tool == "uf2":
        return board_id(place) == way.name
    return place.name == way.name and _has_files(place)


def board_id(place: pathlib.Path) -> str | None:
    """Give the Board-ID of the bootloader whose drive is mounted at `place`; None where there is no such drive."""
    for line in _text_of(place / _INFO).splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip().lower() == "board-id":
            return value.strip()
    return None


def how_to_mount(way: DriveFlasher) -> str:
    """Say how the drive is mounted where the system has it and did not mount it; "" where it has none."""
    device = _BY_LABEL / way.name
    return f"it is there as {device}, and not mounted: udisksctl mount -b {device}" if device.exists() else ""


def wait_for_drive(
    way: DriveFlasher,
    timeout_s: float,
    *,
    but_not: Collection[Drive] = (),
    stop: threading.Event | None = None,
    tools: DriveTools = TOOLS,
) -> pathlib.Path:
    """Wait until the drive is there, `timeout_s` seconds at most, `but_not` one of those. Raises FirmwareError."""
    deadline = tools.now() + timeout_s
    while (drive := find_drive(way, tools, but_not=but_not)) is None:
        _check_wanted(stop)
        if tools.now() >= deadline:
            remedy = how_to_mount(way) or way.button or "check the cable, or name the directory with --drive"
            raise FirmwareError(f"no drive {way.name} appeared within {timeout_s:g} s: {remedy}")
        tools.sleep(POLL_S)
    return drive


def copy_to_drive(
    way: DriveFlasher,
    file: pathlib.Path,
    drive: pathlib.Path,
    *,
    timeout_s: float,
    stop: threading.Event | None = None,
    on_piece: OnPiece | None = None,
    tools: DriveTools = TOOLS,
) -> str:
    """Copy a program to the drive, and see what the board makes of it; gives what is odd in words, "" where nothing is.

    A drive that goes away as soon as it has the whole file is as it should be. Raises FirmwareError: the drive is full,
    fails, took longer than `timeout_s` seconds, or the board complains in FAIL.TXT.
    """
    before = _text_of(drive / _FAILURE)
    try:
        data = file.read_bytes()
        free_bytes = tools.free_bytes(drive)
    except OSError as error:
        raise FirmwareError(f"{error.filename or drive}: cannot be read: {reason_of(error)}") from error
    if free_bytes < len(data):
        raise FirmwareError(f"{drive}: has room for {free_bytes} bytes, and the program has {len(data)}")
    copy = _Copy(data, drive / f"firmware.{way.form}", on_piece, tools)
    failure = copy.wait(timeout_s, stop)
    odd = _settle(way, drive, before, stop, tools) if copy.is_written or way.tool != "uf2" else ""
    if failure is not None and (odd or not copy.is_written):
        raise FirmwareError(f"{copy.target}: cannot be written: {reason_of(failure)}") from failure
    return odd


class _Copy:
    """Writes in a thread of its own: a drive that hangs must not hold up who waits for it."""

    def __init__(self, data: bytes, target: pathlib.Path, on_piece: OnPiece | None, tools: DriveTools) -> None:
        self._data = data
        self.target = target
        """The file on the drive."""
        self.is_written = False
        """Whether the drive was given all of it: a board that has all it wants restarts, and what comes then fails."""
        self._on_piece = on_piece or (lambda done, total: None)
        self._tools = tools
        self._is_wanted = True
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._write, daemon=True)

    def wait(self, timeout_s: float, stop: threading.Event | None) -> OSError | None:
        """Give why it failed, None where it did not. Raises FirmwareError where it is not waited for."""
        self._thread.start()
        deadline = self._tools.now() + timeout_s
        try:
            while self._thread.is_alive():
                self._thread.join(POLL_S)
                _check_wanted(stop)
                if self._tools.now() >= deadline and self._thread.is_alive():
                    raise FirmwareError(f"{self.target}: it took longer than {timeout_s:g} s (`flash_s`)")
        finally:
            self._is_wanted = False
        return self._failure

    def _write(self) -> None:
        try:
            with self.target.open("wb", buffering=0) as file:
                done = 0
                while done < len(self._data):
                    if not self._is_wanted:
                        return
                    done += file.write(self._data[done : done + _PIECE_BYTES]) or 0
                    self._on_piece(done, len(self._data))
                self.is_written = True
                self._tools.sync(file.fileno())
        except OSError as error:
            self._failure = error


def _settle(
    way: DriveFlasher, drive: pathlib.Path, before: str, stop: threading.Event | None, tools: DriveTools
) -> str:
    """Wait until the drive has gone, and where a debug probe has it until it is back; a complaint is an error."""
    has_gone = False
    deadline = tools.now() + SETTLE_S
    while tools.now() < deadline:
        _check_wanted(stop)
        if not _is_mounted(way, drive):
            if way.tool == "uf2":
                return ""
            has_gone = True
        elif (said := _text_of(drive / _FAILURE)) and (has_gone or said != before):
            raise FirmwareError(f"{drive}: the board did not take the program: {' '.join(said.split())}")
        elif has_gone:
            return ""
        tools.sleep(POLL_S)
    return "" if has_gone else f"{drive} is still there: the board may not have taken the program"


def _is_mounted(way: DriveFlasher, place: pathlib.Path) -> bool:
    """Whether a drive that was there still is; a directory may stay behind, and may be called as it likes."""
    return board_id(place) == way.name if way.tool == "uf2" else _is_directory(place)


def _check_wanted(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise FirmwareError("nobody waits for it any more")


def _text_of(path: pathlib.Path) -> str:
    """Give a short text of a drive's, "" where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST_TEXT_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _has_files(path: pathlib.Path) -> bool:
    """Whether there is anything: a directory that a drive left behind is empty."""
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def _is_directory(path: pathlib.Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False
