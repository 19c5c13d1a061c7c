"""Putting a program into a board with the command of its profile (docs/boards.md)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import re
import shlex
import signal
import tempfile
from typing import IO

from microrpc.boards.schema import FLASH_PLACES, FLASH_PROGRAMS, BoardProfile
from microrpc.errors import FirmwareError, printable, reason_of
from microrpc.firmware.images import ImageFormat, make_image

_PLACE = re.compile("|".join(map(re.escape, FLASH_PLACES)))
_MOST_SAID_BYTES = 2000  # of what the command said, in an error
_KILLED_S = 5.0  # how long a killed command may take to be gone


async def flash(profile: BoardProfile, port: str, elf: pathlib.Path) -> None:
    """Put the program in the file `elf` into the board on `port`, which must be closed.

    Raises FirmwareError, with the command's last words where that failed. Where this is cancelled it is killed.
    """
    if not profile.flash:
        raise FirmwareError(
            f"{port}: microrpc does not know how a program is put into {profile.name}: "
            "state it in `flash` of a profile of your own (docs/boards.md), and name that with --board-file"
        )
    with tempfile.TemporaryDirectory(prefix="microrpc-flash-") as directory:
        words = await asyncio.to_thread(_words, profile, port, elf, pathlib.Path(directory))
        with tempfile.TemporaryFile() as said:
            reason = await _run(words, profile.flash_s, said)
            if reason:
                raise FirmwareError(f"{port}: it could not be flashed: {shlex.join(words)} {reason}{_end_of(said)}")


def _words(profile: BoardProfile, port: str, elf: pathlib.Path, directory: pathlib.Path) -> list[str]:
    """Give the command, and write the files that it names."""
    values = {"{elf}": str(elf), "{port}": port}
    for place in FLASH_PROGRAMS:
        if place not in values and any(place in word for word in profile.flash):
            form = ImageFormat(place.strip("{}"))
            path = directory / f"{elf.stem}.{form}"
            try:
                path.write_bytes(make_image(elf, form, uf2_family=profile.uf2_family))
            except OSError as error:
                raise FirmwareError(f"{path}: cannot be written: {reason_of(error)}") from error
            values[place] = str(path)
    return [_PLACE.sub(lambda found: values[found.group()], word) for word in profile.flash]


async def _run(words: list[str], timeout_s: float, said: IO[bytes]) -> str:
    """Run a command; give why it failed, "" where it did not."""
    try:
        # What it says goes to a file: a program that it leaves running would keep a pipe open.
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
    except OSError as error:
        return f"cannot be started: {reason_of(error)}"
    try:
        async with asyncio.timeout(timeout_s):
            code = await process.wait()
    except TimeoutError:
        await _kill(process)
        return f"was ended: it took longer than {timeout_s:g} s (`flash_s`)"
    except BaseException:
        await _kill(process)
        raise
    return f"ended with {code}" if code else ""


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End a command, and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), _KILLED_S)


def _end_of(said: IO[bytes]) -> str:
    """Give the end of what a command said, as the end of an error."""
    size = said.seek(0, os.SEEK_END)
    said.seek(max(size - _MOST_SAID_BYTES, 0))
    lines = said.read(_MOST_SAID_BYTES).decode("utf-8", "replace").strip().splitlines()
    text = "\n".join(map(printable, lines))
    return f":\n{text}" if text else ""
