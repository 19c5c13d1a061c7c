"""Writing files whole or not at all: what was there before stays until the new one is complete. Reading them whole."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from microrpc.errors import reason_of

_PIECE_BYTES = 2**20
_NO_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # some file systems cannot


class WriteError(Exception):
    """A file cannot be written; the text says which, and why. A file that was there before is as it was."""


def read_whole(path: Path, most_bytes: int) -> bytes:
    """Read a file of at most `most_bytes`; a device may have no end. Raises OSError."""
    pieces, left_bytes = [], most_bytes
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            left_bytes -= len(piece)
            if left_bytes < 0:
                raise OSError(errno.EFBIG, f"it has more than {most_bytes} bytes")
            pieces.append(piece)
    return b"".join(pieces)


def check_writable(path: Path) -> None:
    """Find out what can be known of it before there is anything to write. Raises WriteError."""
    try:
        _look_at(path)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {reason_of(error)}") from error


def is_own_output(path: Path) -> bool:
    """Whether it is what this program prints to: /dev/stdout, or the file that stdout was sent to."""
    try:
        return _own_stream(os.stat(path)) == 1
    except OSError:
        return False


@contextlib.contextmanager
def replacing(path: Path, *, is_executable: bool = False) -> Iterator[BinaryIO]:
    """Give a file to write to, which takes the place of `path` when the block ends without an error.

    It is written beside `path`, so that a full disk, Ctrl-C or a crash leave what was there. Links are followed, and
    the permissions of an old file are kept. What is no regular file (a pipe, /dev/stdout) is written where it is.
    Raises WriteError.
    """
    try:
        there = _look_at(path)
        own = _own_stream(there) if there is not None else None
        if own is not None:
            sys.stdout.flush()
            with open(os.dup(own), "wb") as file:  # not opened anew: that would begin at its first byte
                yield file
        elif there is not None and not stat.S_ISREG(there.st_mode):
            with path.open("wb") as file:
                yield file
        else:
            with _beside(path, there, is_executable) as file:
                yield file
    except OSError as error:
        raise WriteError(f"cannot write {path}: {reason_of(error)}") from error


@contextlib.contextmanager
def _beside(path: Path, there: os.stat_result | None, is_executable: bool) -> Iterator[BinaryIO]:
    target = os.path.realpath(path)
    beside = os.path.join(os.path.dirname(target), f".microrpc-{secrets.token_hex(8)}")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            mode = stat.S_IMODE((there or os.fstat(file.fileno())).st_mode) & 0o777
            if is_executable:
                mode |= (mode & 0o444) >> 2  # for whoever may read it
            if there is not None and hasattr(os, "chown"):
                with contextlib.suppress(OSError):  # root alone may give a file to its old owner
                    os.chown(beside, there.st_uid, there.st_gid)
            os.chmod(beside, mode)
            _sync(file)
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _sync(file: BinaryIO) -> None:
    """Have the system find room for it now: some learn of a full disk only then."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def _look_at(path: Path) -> os.stat_result | None:
    """Give what is there, None for nothing. Raises OSError where it is known that it cannot be written."""
    folder = os.path.dirname(os.path.realpath(path))
    try:
        there = os.stat(path)
    except FileNotFoundError:
        if not os.path.isdir(folder):
            raise FileNotFoundError(errno.ENOENT, f"there is no directory {folder}") from None
        there = None
    if there is not None:
        if stat.S_ISDIR(there.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is a directory")
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if not stat.S_ISREG(there.st_mode) or _own_stream(there) is not None:
            return there
    if not os.access(folder, os.W_OK | os.X_OK):
        denied = os.strerror(errno.EACCES)
        raise PermissionError(errno.EACCES, f"no new file can be made in {folder}: {denied}")
    return there


def _own_stream(there: os.stat_result) -> int | None:
    """Give the number of this program's own stream that leads there, None if none does."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if there.st_ino and os.path.samestat(os.fstat(number), there):
                return number
    return None
