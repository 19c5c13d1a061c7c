"""The device for MicroPython, run by CPython: bytes in, bytes out, and a clock of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import struct
import sys
import types
from collections.abc import Iterator
from typing import Any

FILES = pathlib.Path(__file__).parent.parent / "firmware" / "micropython"


class Clock:
    """What `time` has on MicroPython; each look at it takes `step_us`."""

    def __init__(self, step_us: int = 0) -> None:
        self.us = 0
        self._step_us = step_us

    def ticks_us(self) -> int:
        self.us += self._step_us
        return self.us % (1 << 30)

    @staticmethod
    def ticks_diff(end: int, start: int) -> int:
        return (end - start + (1 << 29)) % (1 << 30) - (1 << 29)

    def sleep_ms(self, milliseconds: int) -> None:
        self.us += 1000 * milliseconds


def load(name: str, clock: Clock) -> Any:
    """Give a module of its own, made of a file for MicroPython, whose time is that of `clock`."""
    spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.time = clock  # type: ignore[attr-defined]
    return module


@contextlib.contextmanager
def _replaced(name: str, module: types.ModuleType) -> Iterator[None]:
    """Have what is imported meanwhile import this module by that name."""
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before


class Uart:
    """A machine.UART on two pipes, one of which is for the host."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.most_bytes = 1 << 30
        self._read_fd, self._write_fd = os.pipe()

    def fileno(self) -> int:
        return self._read_fd

    def read(self, count: int) -> bytes:
        return os.read(self._read_fd, count)

    def write(self, data: bytes) -> int:
        self.written += data[: self.most_bytes]
        return min(len(data), self.most_bytes)

    def bring(self, data: bytes) -> None:
        os.write(self._write_fd, data)

    def close(self) -> None:
        os.close(self._read_fd)
        os.close(self._write_fd)


class MicroPythonBoard:
    """A board with the demonstration functions that has just booted. `device` is the Device of `module`."""

    def __init__(self, *, nonce: int = 1, step_us: int = 0, with_demo: bool = True, **options: Any) -> None:
        self.clock = Clock(step_us)
        self.uart = Uart()
        with _replaced("microrpc_parts", load("microrpc_parts", self.clock)):
            self.module = load("microrpc_device", self.clock)
        seed = struct.pack("<I", nonce)
        self.module.os = types.SimpleNamespace(urandom=lambda count: seed[:count])
        self.device = self.module.Device(self.uart, **options)
        if with_demo:
            with _replaced("microrpc_device", self.module):
                load("demo", self.clock).install(self.device)

    heap_address = 0x2000_0000

    def receive(self, data: bytes) -> None:
        """Take bytes from the line."""
        self.device.receive(data)

    def take_output(self) -> bytes:
        """Give what it has said since."""
        said, self.uart.written = bytes(self.uart.written), bytearray()
        return said

    def close(self) -> None:
        """Close its pipes."""
        self.uart.close()
