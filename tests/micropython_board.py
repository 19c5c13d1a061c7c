"""The device for MicroPython, run by CPython or by MicroPython: bytes in, bytes out, and a clock of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any

from microrpc.firmware.emulation import emulator_command
from microrpc.firmware.project import load_port

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


class Interpreter:
    """MicroPython's WebAssembly build, which runs one device after another (micropython_driver.py)."""

    def __init__(self, directory: pathlib.Path) -> None:
        for name in ("microrpc_device.py", "microrpc_parts.py", "demo.py"):
            shutil.copyfile(FILES / name, directory / name)
        driver = shutil.copyfile(pathlib.Path(__file__).with_name("micropython_driver.py"), directory / "driver.py")
        port = load_port("micropython")
        assert port.emulation is not None
        command = emulator_command(port.name, driver, port.emulation)
        self._process = subprocess.Popen(command, cwd=port.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._has_device = False

    def start(self, options: dict[str, Any]) -> bytes:
        """Make a device; give what it says."""
        if self._has_device:
            self._write(b"")
        self._has_device = True
        return self.say(json.dumps(options).encode())

    def say(self, data: bytes) -> bytes:
        """Give what is answered."""
        self._write(data)
        return self._read(struct.unpack("<I", self._read(4))[0])

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(struct.pack("<I", len(data)) + data)
        self._process.stdin.flush()

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(count)
        assert len(data) == count, "the interpreter has ended"
        return data

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


class InterpretedBoard:
    """A board as MicroPythonBoard is, in an interpreter; with evaluates it has a function for that, the last one."""

    heap_address = MicroPythonBoard.heap_address

    def __init__(self, interpreter: Interpreter, *, nonce: int = 1, evaluates: bool = False, **options: Any) -> None:
        self._interpreter = interpreter
        self._said = interpreter.start({"nonce": nonce, "evaluates": evaluates, **options})

    def receive(self, data: bytes) -> None:
        """Take bytes from the line."""
        if data:
            self._said += self._interpreter.say(bytes(data))

    def take_output(self) -> bytes:
        """Give what it has said since."""
        said, self._said = self._said, b""
        return said

    def close(self) -> None:
        """Leave it to the next one."""
