"""The device library in C with its demonstration functions, as a shared library: bytes in, bytes out."""

from __future__ import annotations

import ctypes
import functools
import math
import pathlib
import subprocess
import sys
import tempfile
from typing import Self

import needs

from firmware_sim.board.clock import Clock, VirtualClock
from microrpc.firmware.project import load_port

FIRMWARE = pathlib.Path(__file__).parent.parent / "firmware"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
SOURCES = (*sorted(FIRMWARE.glob("src/*.c")), *sorted(FIRMWARE.glob("demo/*.c")))
SWITCHED_ON = tuple(f"-D{define}" for define in load_port("posix").defines)
"""All that the library can have, as the boards to try out have it, and the simulator."""
INCLUDES = (f"-I{FIRMWARE / 'include'}", f"-I{FIRMWARE / 'demo'}", f"-I{FIRMWARE / 'src'}", f"-I{FIRMWARE / 'tvm'}")


def compile_c(
    *arguments: str | pathlib.Path, compiler: tuple[str, ...] = (sys.executable, "-m", "ziglang", "cc")
) -> None:
    """Run a C compiler on the sources of the library and `arguments`; every warning is an error."""
    command = [*compiler, *STRICT, *INCLUDES, *SOURCES, *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stderr}"


@functools.cache
def _library() -> ctypes.CDLL:
    needs.zig()
    with tempfile.TemporaryDirectory(prefix="microrpc-c-") as directory:
        path = pathlib.Path(directory, "board.so")
        options = ("-O2", "-ffp-contract=off", "-g", "-shared", "-fPIC")
        compile_c(FIRMWARE / "tests/board.c", *SWITCHED_ON, *options, "-o", path)
        library = ctypes.CDLL(str(path))
    library.board_new.restype = ctypes.c_void_p
    library.board_new.argtypes = [*[ctypes.c_uint32] * 4, ctypes.c_uint8, ctypes.c_uint32]
    library.board_heap_address.restype = ctypes.c_uint64
    library.board_heap_address.argtypes = [ctypes.c_void_p]
    library.board_receive.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    library.board_take.restype = ctypes.c_size_t
    library.board_take.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    library.board_device.restype = ctypes.c_void_p
    library.board_device.argtypes = [ctypes.c_void_p]
    library.microrpc_log_at.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
    library.board_free.argtypes = library.board_lose_bytes.argtypes = [ctypes.c_void_p]
    return library


class CBoard:
    """A board that has just booted. It looks like `firmware_sim.board.device.Device` to a `LoopbackChannel`.

    step_us: what its own clock goes on by, in microseconds, whenever a function reads it. clock: the host's.
    """

    def __init__(
        self,
        *,
        packet_size_bytes: int = 2048,
        ring_bytes: int = 2148,
        reply_bytes: int = 0,
        heap_bytes: int = 256 * 1024,
        nonce: int = 1,
        step_us: int = 1000,
        clock: Clock | None = None,
    ) -> None:
        self._library = _library()
        self.clock = clock or VirtualClock()
        new = self._library.board_new
        self._board = new(packet_size_bytes, ring_bytes, reply_bytes, heap_bytes, nonce, step_us)
        assert self._board, "the board could not be made"
        self._room = ctypes.create_string_buffer(1 << 16)

    # Its functions run to their end before `receive` returns, and nobody tells it of the time.
    is_busy = False
    listens = True
    due = math.inf

    def on_time(self) -> None:
        """See `Device`: there is nothing to do."""

    @property
    def heap_address(self) -> int:
        """Where its heap begins."""
        return int(self._library.board_heap_address(self._board))

    def receive(self, data: bytes) -> None:
        """Take bytes from the line."""
        self._library.board_receive(self._board, data, len(data))

    def lose_bytes(self) -> None:
        """Learn that bytes were lost before they came here."""
        self._library.board_lose_bytes(self._board)

    def log(self, text: str, level: int) -> None:
        """Send a line with a level, counted from 0 (DEBUG) to 3 (ERROR)."""
        self._library.microrpc_log_at(self._library.board_device(self._board), level, text.encode())

    def take_output(self) -> bytes:
        """Give the bytes that wait to be sent."""
        output = b""
        while taken := self._library.board_take(self._board, self._room, len(self._room)):
            output += self._room.raw[:taken]
        return output

    def close(self) -> None:
        """Free it."""
        board, self._board = self._board, None
        self._library.board_free(board)

    def __enter__(self) -> Self:
        """Be closed at the end of a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
