"""A board in an emulator: built, started, behind a pty, and ended with the program that started it.

    with start_emulated("qemu_mps2_an385") as emulator:
        board = microrpc.connect(emulator.port)

The board's UART is on the standard streams of QEMU, and those are a pty of ours. QEMU's own ptys (`-serial pty`) look
only once a second whether somebody has opened them, and throw away what the board says until then. A firmware that is
built for this computer makes its own pty, and prints where it is.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from microrpc.errors import FirmwareError, PortError, PortNotFoundError
from microrpc.firmware.project import Emulation, Project
from microrpc.wire.checks import check_seconds

if TYPE_CHECKING:
    from microrpc.firmware.build import Compiler, Firmware

START_S = 20.0
"""How long an emulated board may take to say that it has booted; they take a tenth of a second on an idle computer."""

_END_S = 5.0
_PORT_LINE = "port: "
_MOST_CHARACTERS = 2000  # of what it said, in an error
# It ends the emulator when the process that started both is gone, however it ended: then this reads the end of a pipe.
_WATCH = 'read -r _; kill -KILL "$1"'


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
        self._running = _Running(name)
        # At the end of the interpreter too, and when nobody has it any more.
        self._end = weakref.finalize(self, self._running.end)
        try:
            deadline = time.monotonic() + check_seconds(start_s, "start_s")
            if emulation.program:
                self.port = self._running.start_qemu(_qemu_command(name, elf, emulation))
            else:
                self.port = self._running.start_program([str(elf), *emulation.args], deadline)
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Emulator of {self.name} on {self.port}{'' if self.is_running else ', ended'}>"


def start_emulated(name: str) -> Emulator:
    """Build the firmware for the board `name`, where it is not built yet, and start it.

    Raises FirmwareError where it cannot be built, and what `Emulator` raises.
    """
    from microrpc.firmware.project import load_port

    return start_firmware(build_to_run(load_port(name)))


def build_to_run(project: Project, *, compiler: Compiler | None = None, defines: Sequence[str] = ()) -> Firmware:
    """Build what `start_firmware` is to start; see `build`, zig being what compiles where nothing is said.

    What runs it is looked for first, and an error names all that is missing. Raises FirmwareError, PortNotFoundError,
    and PortError where the system has no ptys.
    """
    from microrpc.firmware import build as building

    _check_system(project.name)
    compiler = compiler or building.Compiler.ZIG
    try:
        emulation = _emulation(project)
        if emulation.program:
            _find_qemu(project.name, emulation)
    except PortNotFoundError as missing:
        try:
            building.find_compiler(project, compiler)
        except FirmwareError as error:
            raise FirmwareError(f"{missing}; {error}") from None
        raise
    return building.build(project, compiler=compiler, defines=defines)


def start_firmware(firmware: Firmware) -> Emulator:
    """Start what was built. Raises FirmwareError where nothing can run it, and what `Emulator` raises."""
    return Emulator(firmware.project.name, firmware.elf, _emulation(firmware.project))


def _check_system(name: str) -> None:
    if not hasattr(os, "openpty"):
        raise PortError(name, f"{name} cannot be emulated on this system, which has no ptys")


def _emulation(project: Project) -> Emulation:
    if project.emulation is None:
        raise FirmwareError(f"{project.name} cannot be run here: {project.file} names no [emulator]")
    return project.emulation


def _find_qemu(name: str, emulation: Emulation) -> str:
    program = shutil.which(emulation.program)
    if program is None:
        package = emulation.package or emulation.program
        raise PortNotFoundError(
            name,
            f"{name} runs in {emulation.program}, which is not installed: "
            f"apt-get install --no-install-recommends {package}",
        )
    return program


def _qemu_command(name: str, elf: pathlib.Path, emulation: Emulation) -> list[str]:
    program = _find_qemu(name, emulation)
    line = ("-chardev", "stdio,id=line,signal=off", "-serial", "chardev:line")
    return [
        *(program, "-machine", emulation.machine, "-display", "none", "-monitor", "none", *line),
        *(*emulation.args, "-kernel", str(elf)),
    ]


class _Running:
    """The processes, and what belongs to them. `end` must work at any time, also after half a start."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._said = ""
        self._line_fd = self._ended_fd = -1

    @property
    def is_running(self) -> bool:
        return not self.wait(0)

    def start_qemu(self, command: Sequence[str]) -> str:
        """Start QEMU on a new pty; give its path."""
        import tty

        master, self._line_fd = os.openpty()
        try:
            path = os.ttyname(self._line_fd)  # it has none any more when the other end is closed
            tty.setraw(self._line_fd)
            self._start(command, stdin=master, stdout=master)
        finally:
            os.close(master)
        return path

    def start_program(self, command: Sequence[str], deadline: float) -> str:
        """Start a program that prints the path of its pty as its first line; give the path."""
        read_fd, write_fd = os.pipe()
        try:
            try:
                self._start(command, stdin=subprocess.DEVNULL, stdout=write_fd)
            finally:
                os.close(write_fd)
            line = b""
            while not line.endswith(b"\n"):
                if not self._wait_readable(read_fd, deadline):
                    raise self._not_started("it did not print where its port is")
                if not (data := os.read(read_fd, 1)):
                    raise self._ended()
                line += data
        finally:
            os.close(read_fd)
        text = line.decode(errors="replace").strip()
        if not text.startswith(_PORT_LINE):
            raise self._not_started(f"it printed {text!r}, and not {_PORT_LINE!r} with its port")
        path = text.removeprefix(_PORT_LINE).strip()
        try:
            # Held open: without anybody on the other side the program would read errors.
            self._line_fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            raise self._not_started(f"its port {path} cannot be opened: {error.strerror}") from error
        return path

    def _start(self, command: Sequence[str], *, stdin: int, stdout: int) -> None:
        # It alone has the other end of this pipe, which ends with it: that can be waited for together with the pty.
        self._ended_fd, alive_fd = os.pipe()
        try:
            self._process = self._popen(command, stdin=stdin, stdout=stdout, stderr=self._stderr, pass_fds=(alive_fd,))
        finally:
            os.close(alive_fd)
        self._watcher = self._popen(
            ["/bin/sh", "-c", _WATCH, "microrpc-watch", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _popen(
        self,
        command: Sequence[str],
        *,
        stdin: int,
        stdout: int,
        stderr: int | IO[bytes],
        pass_fds: tuple[int, ...] = (),
    ) -> subprocess.Popen[bytes]:
        try:
            # A session of its own: Ctrl-C in the terminal is for this program, which then ends the emulator.
            return subprocess.Popen(
                command, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=pass_fds, start_new_session=True
            )
        except OSError as error:
            raise PortError(self._name, f"{command[0]} cannot be started: {error.strerror}") from error

    def wait_for_boot(self, deadline: float, start_s: float) -> None:
        """Wait for the first byte of the board, which says that it has booted, and leave it there."""
        events = self._wait_readable(self._line_fd, deadline)
        if not events:
            raise self._not_started(f"the board said nothing within {start_s:g} s")
        if events & select.POLLHUP:
            raise self._ended()

    def _wait_readable(self, fd: int, deadline: float) -> int:
        """Wait until `fd` can be read; give poll's events, 0 after the deadline. Raises PortError when it ended."""
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.register(self._ended_fd, 0)
        while (wait_s := deadline - time.monotonic()) > 0:
            ready = dict(poller.poll(int(wait_s * 1e3) + 1))
            if self._ended_fd in ready:
                raise self._ended()
            if ready:
                return ready[fd]
        return 0

    def _ended(self) -> PortError:
        """Give the error for a process that closed all that it had."""
        return self._not_started(f"it ended at once, {self.ending}" if self.wait(_END_S) else "it stopped")

    @property
    def ending(self) -> str:
        """See `Emulator.ending`."""
        code = self._process.returncode if self._process is not None else None
        if code is None:
            return ""
        if code >= 0:
            return f"with {code}"
        try:
            return f"by {signal.Signals(-code).name}"
        except ValueError:  # a real-time signal has no name
            return f"by signal {-code}"

    def _not_started(self, reason: str) -> PortError:
        said = self.said()
        words = f": {said}" if said else ""
        return PortError(self._name, f"the emulator of {self._name} does not run: {reason}{words}")

    def said(self) -> str:
        """Give the end of what it said on stderr."""
        if not self._stderr.closed:
            # Its own offset is that of the process too: read without moving it.
            size = os.fstat(self._stderr.fileno()).st_size
            data = os.pread(self._stderr.fileno(), _MOST_CHARACTERS, max(size - _MOST_CHARACTERS, 0))
            self._said = data.decode(errors="replace").strip()
        return self._said

    def wait(self, timeout_s: float | None) -> bool:
        """See `Emulator.wait`."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        self._end_watcher()
        return True

    def end(self) -> None:
        """End both processes."""
        if os.getpid() != self._owner:  # a fork of the program that started it, at its own end
            return
        self._end_watcher()
        if self._process is not None:
            _kill(self._process)  # there is nothing to be saved: the board's memory goes with it
        self.said()
        self._stderr.close()
        for fd in (self._line_fd, self._ended_fd):
            if fd >= 0:
                os.close(fd)
        self._line_fd = self._ended_fd = -1

    def _end_watcher(self) -> None:
        """End the watcher, before its process is done with: it must not kill another one that gets its number."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            _kill(watcher)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
    if process.stdin is not None:
        process.stdin.close()
