"""A board in an emulator: built, started, behind a pty, and ended with the program that started it.

    with start_emulated("qemu_mps2_an385") as emulator:
        board = microrpc.connect(emulator.port)

The board's UART is on the standard streams of the emulator, and those are a pty of ours. QEMU's own ptys, `-serial
pty`, look only once a second whether somebody has opened them, and throw away what the board says until then.
Firmware that is built for this computer makes its own pty, and prints where it is.
"""

from __future__ import annotations

import os
import pathlib
import time
import weakref
from collections.abc import Sequence
from typing import Self

from microrpc.errors import FirmwareError, PortError, PortNotFoundError
from microrpc.firmware.build import Compiler, Firmware, build, check_buildable
from microrpc.firmware.emulation import check_emulation, emulation_of, emulator_command
from microrpc.firmware.emulator_process import EmulatorProcess
from microrpc.firmware.project import Emulation, Project, load_port
from microrpc.wire.checks import check_seconds

START_S = 20.0
"""How long an emulated board may take to say that it has booted; they take a tenth of a second on an idle computer."""

_GONE_S = 0.5  # from the end of its pty to its own


class Emulator:
    """Runs the firmware in `elf` until it is closed, or until this process ends, however that ends.

    A fork of this process neither ends it nor may use it. Where this process is killed, it ends when its forks have
    ended too.

    port: the pty that the board's UART is on. Hosts may come and go. Used as a context manager, or with `close`.
    name: of the board, for messages. start_s: how long it may take to boot.
    Raises PortNotFoundError where the emulator is not installed, and PortError where it does not run.
    """

    def __init__(self, name: str, elf: pathlib.Path, emulation: Emulation, *, start_s: float = START_S) -> None:
        self.name = name
        self.port = ""
        _check_system(name)
        self._running = EmulatorProcess(name)
        # At the end of the interpreter too, and when nobody has it any more.
        self._end = weakref.finalize(self, self._running.end)
        try:
            check_seconds(start_s, "start_s")
            command = emulator_command(name, elf, emulation)
            deadline = time.monotonic() + start_s
            if emulation.is_this_computer:
                self.port = self._running.start_program(command, deadline)
            else:
                self.port = self._running.start_on_pty(command, emulation.root)
            self._running.wait_for_boot(deadline, start_s)
        except BaseException:
            self.close()
            raise

    @property
    def is_running(self) -> bool:
        """Whether it still runs."""
        return self._running.is_running

    @property
    def said(self) -> str:
        """What the emulator itself has said on stderr."""
        return self._running.said()

    @property
    def ending(self) -> str:
        """How it ended: "with 1", its exit code, or "by SIGSEGV"; empty while it runs."""
        return self._running.ending

    def explain_end(self) -> str:
        """Say in words how it ended, with what it said then; an empty text where it goes on."""
        if not self._running.wait(_GONE_S):
            return ""
        said = f": {self.said}" if self.said else ""
        return f"the emulator of {self.name} has ended, {self.ending}{said}"

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it ends by itself, for `timeout_s` seconds or for ever; tell whether it has.

        Raises RequestError for a duration that cannot be.
        """
        if timeout_s is not None:
            check_seconds(timeout_s, "timeout_s", may_be_zero=True)
        return self._running.wait(timeout_s)

    def close(self) -> None:
        """End the emulator. Closing twice is fine."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Emulator of {self.name} on {self.port}{'' if self.is_running else ', ended'}>"


def start_emulated(name: str) -> Emulator:
    """Build the firmware for the board `name`, where it is not built yet, and start it.

    Raises FirmwareError where it cannot be built, and what `Emulator` raises.
    """
    return start_firmware(build_to_run(load_port(name)))


def build_to_run(project: Project, *, compiler: Compiler | None = None, defines: Sequence[str] = ()) -> Firmware:
    """Build what `start_firmware` is to start; see `build`, zig being what compiles where nothing is said.

    What runs it is looked for first, and an error names all that is missing. Raises FirmwareError, PortNotFoundError,
    and PortError where the system has no ptys.
    """
    compiler = compiler or Compiler.ZIG
    check_runnable(project, compiler)
    return build(project, compiler=compiler, defines=defines)


def check_runnable(project: Project, compiler: Compiler = Compiler.ZIG) -> None:
    """See that all is there that builds and runs `project`; raises what `build_to_run` does, and names all of it."""
    _check_system(project.name)
    emulation = emulation_of(project)
    try:
        check_emulation(project.name, emulation)
    except PortNotFoundError as missing:
        try:
            check_buildable(project, compiler)
        except FirmwareError as error:
            raise FirmwareError(f"{missing}; {error}") from None
        raise
    check_buildable(project, compiler)


def start_firmware(firmware: Firmware) -> Emulator:
    """Start what was built. Raises FirmwareError where nothing can run it, and what `Emulator` raises."""
    return Emulator(firmware.project.name, firmware.elf, emulation_of(firmware.project))


def _check_system(name: str) -> None:
    if not hasattr(os, "openpty"):
        raise PortError(name, f"{name} cannot be emulated on this system, which has no ptys")
