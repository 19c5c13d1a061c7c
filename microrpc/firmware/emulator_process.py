"""The processes of an emulator: it, and a watcher that ends it with the program that started both."""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import IO

from microrpc.errors import PortError, reason_of

_END_S = 5.0
_PORT_LINE = "port: "
_MOST_CHARACTERS = 2000  # of what it said, in an error
# It leads the group in which the emulator is, with what that has started, and ends them all when the process that
# started both is gone, however it ended: then this reads the end of a pipe.
_WATCH = "read -r _; kill -KILL 0"


class EmulatorProcess:
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
        """See `Emulator.is_running`."""
        return not self.wait(0)

    def start_on_pty(self, command: Sequence[str], directory: pathlib.Path | None) -> str:
        """Start a program in `directory` with its standard streams on a new pty; give its path."""
        import tty

        try:
            master, self._line_fd = os.openpty()
        except OSError as error:
            raise self._not_started(f"no pty can be had ({reason_of(error)})") from error
        try:
            path = os.ttyname(self._line_fd)  # it has none any more when the other end is closed
            tty.setraw(self._line_fd)
            self._start(command, stdin=master, stdout=master, directory=directory)
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

    def _start(self, command: Sequence[str], *, stdin: int, stdout: int, directory: pathlib.Path | None = None) -> None:
        # Before the emulator: there is no moment at which that runs, and nothing ends it.
        self._watcher = self._popen(
            ["/bin/sh", "-c", _WATCH],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # It alone has the other end of this pipe, which ends with it: that can be waited for together with the pty.
        self._ended_fd, alive_fd = os.pipe()
        try:
            self._process = self._popen(
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=self._stderr,
                pass_fds=(alive_fd,),
                directory=directory,
                group=self._watcher.pid,
            )
        finally:
            os.close(alive_fd)

    def _popen(
        self,
        command: Sequence[str],
        *,
        stdin: int,
        stdout: int,
        stderr: int | IO[bytes],
        pass_fds: tuple[int, ...] = (),
        directory: pathlib.Path | None = None,
        group: int = 0,
    ) -> subprocess.Popen[bytes]:
        try:
            # A group of their own: Ctrl-C in the terminal is for this program, which then ends the emulator.
            return subprocess.Popen(
                command,
                cwd=directory,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                process_group=group,
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
        self._end_group()
        return True

    def end(self) -> None:
        """End both processes, and what the emulator has started. There is nothing to be saved: memory goes with it."""
        if os.getpid() != self._owner:  # a fork of the program that started it, at its own end
            return
        self._end_group()
        if self._process is not None:
            _wait_for(self._process)
        self.said()
        self._stderr.close()
        for fd in (self._line_fd, self._ended_fd):
            if fd >= 0:
                os.close(fd)
        self._line_fd = self._ended_fd = -1

    def _end_group(self) -> None:
        """End all that is in the group; no other one can have its number before the watcher was waited for."""
        watcher, self._watcher = self._watcher, None
        if watcher is None or watcher.stdin is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses where all have ended
            os.killpg(watcher.pid, signal.SIGKILL)
        _wait_for(watcher)
        watcher.stdin.close()


def _wait_for(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
