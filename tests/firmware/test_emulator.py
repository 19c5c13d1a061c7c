"""Emulators: started, waited for, ended; and connections to the boards in them."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import gc
import os
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import needs
import numpy as np
import pytest
from devices import DEVICES, SIMULATOR, emulated_boards

import microrpc
import microrpc.firmware.emulator
from microrpc.boards.catalogue import profile, profiles
from microrpc.boards.schema import BoardKind
from microrpc.errors import FirmwareError, PortError, PortLostError, PortNotFoundError
from microrpc.firmware.emulator import Emulator, build_to_run, start_emulated, start_firmware
from microrpc.firmware.new import new_project
from microrpc.firmware.project import Emulation, load_port, load_project, port_names

BOARDS = emulated_boards()

# In the place of QEMU: it says one byte, as a board that has booted does, and waits. It is started with QEMU's options.
TALKS = "#!/bin/sh\nprintf T\nexec sleep 100\n"
# In the place of a firmware that is a program.
PORT = """#!{python}
import os, time, tty
master, slave = os.openpty()
tty.setraw(slave)
print("port:", os.ttyname(slave), flush=True)
os.write(master, b"T")
time.sleep(100)
"""

Install = Callable[[str], Emulation]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a script in the place of QEMU."""

    def install(script: str) -> Emulation:
        path = tmp_path / "fake-qemu"
        path.write_text(script)
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return Emulation("fake-qemu", "some-machine", ("-more",), "fake-package")

    return install


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Path]:
    """Make a script."""

    def make(script: str) -> Path:
        path = tmp_path / "program"
        path.write_text(script.replace("{python}", sys.executable))
        path.chmod(0o755)
        return path

    return make


def is_gone(pid: int) -> bool:
    """Whether there is no such process, not even a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_until_gone(pid: int) -> None:
    """Wait for the end of a process that is nobody's child here; it may stay a zombie where nobody reaps."""
    poller = select.poll()
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poller.register(fd, select.POLLIN)
    ended = poller.poll(10_000)
    os.close(fd)
    assert ended


def open_fds() -> int:
    gc.collect()  # what other tests have left
    return len(os.listdir("/proc/self/fd"))


# --- processes --------------------------------------------------------------------------------


def test_a_board_is_on_a_raw_pty_that_keeps_what_it_said(install: Install) -> None:
    with Emulator("mine", Path("my.elf"), install(TALKS)) as emulator:
        assert stat.S_ISCHR(os.stat(emulator.port).st_mode)
        assert emulator.is_running
        fd = os.open(emulator.port, os.O_RDWR | os.O_NOCTTY)
        assert os.read(fd, 100) == b"T"
        os.close(fd)
        assert repr(emulator) == f"<Emulator of mine on {emulator.port}>"
    assert not emulator.is_running
    assert repr(emulator).endswith(", ended>")


def test_qemu_gets_the_machine_the_file_and_the_line_on_its_standard_streams(install: Install) -> None:
    script = '#!/bin/sh\necho "$@" >&2\nprintf T\nexec sleep 100\n'
    with Emulator("mine", Path("my.elf"), install(script)) as emulator:
        assert emulator.said == (
            "-machine some-machine -display none -monitor none "
            "-more -chardev stdio,id=line,signal=off -serial chardev:line -kernel my.elf"
        )


def test_nothing_is_left_when_it_was_closed(install: Install) -> None:
    emulation = install(TALKS)
    before = open_fds()
    for _ in range(3):
        emulator = Emulator("mine", Path("my.elf"), emulation)
        pids = [process.pid for process in (emulator._running._process, emulator._running._watcher) if process]
        assert len(pids) == 2
        emulator.close()
        emulator.close()
        assert all(map(is_gone, pids))
    del emulator
    assert open_fds() == before


def test_it_ends_when_nobody_has_it_any_more(install: Install) -> None:
    emulator = Emulator("mine", Path("my.elf"), install(TALKS))
    process = emulator._running._process
    assert process is not None
    del emulator
    gc.collect()
    assert is_gone(process.pid)


START_AND = """
import sys
from pathlib import Path
from microrpc.firmware.emulator import Emulator
from microrpc.firmware.project import Emulation
emulator = Emulator("mine", Path("my.elf"), Emulation("fake-qemu", "m"))
print(emulator._running._process.pid, emulator._running._watcher.pid, flush=True)
"""


@pytest.mark.parametrize("end", ["sys.stdin.read()", "raise SystemExit(3)", "import os; os._exit(0)"])
def test_it_ends_with_the_program_that_started_it_however_that_ends(install: Install, end: str) -> None:
    install(TALKS)
    program = [sys.executable, "-c", START_AND + end]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        if "stdin" in end:
            parent.send_signal(signal.SIGKILL)
        parent.wait(20)
    for pid in pids:
        wait_until_gone(pid)


# An emulator that is a script: what emulates is a process that it waits for.
STARTS = "#!/bin/sh\nsleep 100 &\nprintf T\necho $! >&2\nwait\n"


def test_what_an_emulator_has_started_ends_with_it(install: Install) -> None:
    with Emulator("mine", Path("my.elf"), install(STARTS)) as emulator:
        pid = int(wait_until_said(emulator))
        assert not is_gone(pid)
    wait_until_gone(pid)


def test_what_an_emulator_has_started_ends_with_a_program_that_is_killed(install: Install) -> None:
    install(STARTS)
    ending = "import os, time\nwhile not emulator.said: time.sleep(0.01)\nprint(emulator.said, flush=True)\n"
    program = [sys.executable, "-c", START_AND + ending + "os.kill(os.getpid(), 9)"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    wait_until_gone(int(done.stdout.split()[-1]))


@pytest.mark.parametrize("how", ["raise StopIteration", "os.kill(os.getpid(), 9)"])
def test_an_interruption_while_it_is_being_started_leaves_nothing_running(install: Install, how: str) -> None:
    install(TALKS)
    # As a signal: after the fork, and before anybody knows of the process.
    program = f"""
import os, subprocess, sys
really_open = subprocess.Popen.__init__
def popen(self, command, **options):
    really_open(self, command, **options)
    print(self.pid, flush=True)
    if command[0] != "/bin/sh":
        {how}
subprocess.Popen.__init__ = popen
{START_AND}"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        out, _ = parent.communicate(timeout=60)
    assert parent.returncode == (1 if "raise" in how else -signal.SIGKILL)
    watcher, emulator = map(int, out.split())
    wait_until_gone(watcher)
    wait_until_gone(emulator)


def wait_until_said(emulator: Emulator) -> str:
    deadline = time.monotonic() + 20
    while not emulator.said and time.monotonic() < deadline:
        time.sleep(0.01)
    return emulator.said


def test_it_does_not_end_with_a_fork_of_the_program(install: Install) -> None:
    install(TALKS)
    fork = "import os\nif (pid := os.fork()) == 0: sys.exit()\nos.waitpid(pid, 0)\nprint(emulator.is_running)\n"
    done = subprocess.run([sys.executable, "-c", START_AND + fork], capture_output=True, text=True, timeout=60)
    assert (done.stdout.splitlines()[-1], done.stderr) == ("True", "")


def test_the_watcher_ends_with_an_emulator_that_ends_by_itself(install: Install) -> None:
    with Emulator("mine", Path("my.elf"), install("#!/bin/sh\nprintf T\nread -r _\necho bye >&2\n")) as emulator:
        watcher = emulator._running._watcher
        assert watcher is not None
        fd = os.open(emulator.port, os.O_RDWR | os.O_NOCTTY)
        os.write(fd, b"\n")
        os.close(fd)
        assert emulator.wait(20)
        assert is_gone(watcher.pid)
        assert emulator.said == "bye"


def test_it_does_not_hear_the_ctrl_c_of_the_terminal(install: Install) -> None:
    with Emulator("mine", Path("my.elf"), install(TALKS)) as emulator:
        process = emulator._running._process
        assert process is not None
        assert os.getpgid(process.pid) != os.getpgid(0)
        assert not emulator.wait(0)


def test_an_emulator_that_ends_at_once_is_shown_with_what_it_said(install: Install) -> None:
    before = open_fds()
    emulation = install("#!/bin/sh\necho 'unsupported machine type' >&2\nexit 1\n")
    with pytest.raises(PortError) as caught:
        Emulator("mine", Path("my.elf"), emulation)
    text = "the emulator of mine does not run: it ended at once, with 1: unsupported machine type"
    assert str(caught.value) == text
    del caught
    assert open_fds() == before


@pytest.mark.parametrize(
    ("script", "ending"), [("kill -SEGV $$", "by SIGSEGV"), ("kill -40 $$", "by signal 40"), ("exit 3", "with 3")]
)
def test_how_an_emulator_ended_is_told(install: Install, script: str, ending: str) -> None:
    with pytest.raises(PortError, match=f"it ended at once, {ending}$"):
        Emulator("mine", Path("my.elf"), install(f"#!/bin/sh\n{script}\n"))
    with Emulator("mine", Path("my.elf"), install(f"#!/bin/sh\nprintf T\nread -r _\n{script}\n")) as emulator:
        assert emulator.ending == ""
        fd = os.open(emulator.port, os.O_RDWR | os.O_NOCTTY)
        os.write(fd, b"\n")
        os.close(fd)
        assert emulator.wait(20)
        assert emulator.ending == ending


def test_a_board_that_says_nothing_is_not_waited_for_for_ever(install: Install) -> None:
    with pytest.raises(PortError, match=r"does not run: the board said nothing within 0\.1 s"):
        Emulator("mine", Path("my.elf"), install("#!/bin/sh\nexec sleep 100\n"), start_s=0.1)


def test_without_qemu_one_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    remedy = "mine runs in fake-qemu, which is not installed: apt-get install --no-install-recommends fake-package"
    with pytest.raises(PortNotFoundError, match=f"^{remedy}$"):
        Emulator("mine", Path("my.elf"), Emulation("fake-qemu", "m", (), "fake-package"))


def test_a_file_that_cannot_be_run_is_one_error(install: Install) -> None:
    with pytest.raises(PortError, match="fake-qemu cannot be started: Exec format error"):
        Emulator("mine", Path("my.elf"), install("no script"))


def test_without_a_shell_to_watch_it_there_is_no_emulator(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    emulation = install(TALKS)
    started: list[list[str]] = []
    really_open = subprocess.Popen

    def popen(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        if command[0] == "/bin/sh":
            raise FileNotFoundError(2, "No such file")
        started.append(command)
        return really_open(command, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(PortError, match="/bin/sh cannot be started: No such file"):
        Emulator("mine", Path("my.elf"), emulation)
    assert not started


def test_without_ptys_there_is_no_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.openpty")
    with pytest.raises(PortError, match="mine cannot be emulated on this system, which has no ptys"):
        Emulator("mine", Path("my.elf"), Emulation())


def test_a_system_that_has_no_more_ptys_is_one_error(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    def openpty() -> tuple[int, int]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "openpty", openpty)
    with pytest.raises(PortError, match=r"does not run: no pty can be had \(No space left on device\)"):
        Emulator("mine", Path("my.elf"), install("#!/bin/sh\nexec cat\n"))


def test_without_ptys_nothing_is_built_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.openpty")
    monkeypatch.setattr("microrpc.firmware.build.build", lambda *args, **options: pytest.fail("it was built"))
    with pytest.raises(PortError, match=r"^posix cannot be emulated on this system, which has no ptys$"):
        start_emulated("posix")


# --- a program that is the board --------------------------------------------------------------


def test_a_program_says_where_its_pty_is(program: Callable[[str], Path]) -> None:
    before = open_fds()
    with Emulator("mine", program(PORT), Emulation()) as emulator:
        fd = os.open(emulator.port, os.O_RDWR | os.O_NOCTTY)
        assert os.read(fd, 1) == b"T"
        os.close(fd)
    assert open_fds() == before


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\necho hello; exec sleep 100\n", "it printed 'hello', and not 'port: ' with its port"),
        (
            "#!/bin/sh\necho port: /dev/no-such; exec sleep 100\n",
            "its port /dev/no-such cannot be opened: No such file",
        ),
        ("#!/bin/sh\necho no heap >&2; exit 2\n", "it ended at once, with 2: no heap"),
        ("#!/bin/sh\nexec sleep 100\n", "it did not print where its port is"),
    ],
)
def test_a_program_that_does_not_is_one_error(program: Callable[[str], Path], script: str, message: str) -> None:
    with pytest.raises(PortError, match=f"the emulator of mine does not run: {message}"):
        Emulator("mine", program(script), Emulation(), start_s=0.3 if "did not" in message else 20.0)


# --- boards -----------------------------------------------------------------------------------


@pytest.fixture(params=[DEVICES[name].param() for name in BOARDS])
def name(request: pytest.FixtureRequest) -> str:
    board: str = request.param
    needs.emulated(board)
    return board


def test_every_port_that_is_run_has_a_profile_and_every_such_profile_a_port() -> None:
    run_here = [name for name in port_names() if load_port(name).emulation is not None]
    assert set(run_here) <= set(profiles())
    assert [name for name in run_here if profile(name).kind is BoardKind.EMULATED] == BOARDS
    for name in set(run_here) - set(BOARDS):  # a real board, whose image an emulated one has under its own name
        assert load_port(name).file in [load_port(board).file for board in BOARDS]


def test_every_board_that_is_run_is_in_the_one_suite() -> None:
    assert [name for name in DEVICES if name != SIMULATOR] == sorted(BOARDS, key=list(DEVICES).index)


def test_a_board_is_built_started_connected_to_and_ended(name: str) -> None:
    before = open_fds()
    with microrpc.connect(board=name) as board:
        assert board.function("add")(2, 3) == 5
        half = min(500, profile(name).heap_bytes // 16)
        x = board.array(np.arange(-half, half, dtype="float32"))
        board.function("relu_f32")(x)
        assert (x.numpy() == np.maximum(np.arange(-half, half), 0)).all()
        assert board.link is not None
    assert open_fds() == before


def test_a_profile_says_what_the_board_is(name: str) -> None:
    described = profile(name)
    with microrpc.connect(board=name) as board:
        assert board.max_packet_bytes() + 11 == described.packet_size_bytes
        assert board.link is not None
        assert board.link.window_bytes == described.receive_ring_bytes
        board.empty((described.heap_bytes,), "uint8").free()


@pytest.fixture
def mps2() -> str:
    needs.emulated("qemu_mps2_an385")
    return "qemu://mps2_an385"


def test_a_url_names_a_board_in_qemu(mps2: str) -> None:
    with microrpc.connect(mps2, reset=True) as board:
        assert board.function("add")(2, 3) == 5
    timeouts = dataclasses.replace(profile("loopback").timeouts, call_s=9.0)
    patient = dataclasses.replace(profile("qemu_mps2_an385"), timeouts=timeouts)
    for same in (patient, patient.name):
        with microrpc.connect(mps2, board=same) as board:
            assert board.function("add")(2, 3) == 5


def test_asyncio_starts_a_board_too(mps2: str) -> None:
    async def use() -> object:
        async with microrpc.aio.connect(mps2) as board:
            return await (await board.function("add"))(2, 3)

    assert asyncio.run(use()) == 5


def test_asyncio_ends_a_board_whose_opening_was_cancelled(
    mps2: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[Emulator] = []

    def start(name: str) -> Emulator:
        started.append(start_emulated(name))
        return started[0]

    monkeypatch.setattr(microrpc.firmware.emulator, "start_emulated", start)

    async def cancel() -> None:
        opening = asyncio.ensure_future(open_board())
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    async def open_board() -> object:
        return await microrpc.aio.connect(mps2)

    asyncio.run(cancel())
    for thread in threading.enumerate():
        if thread.name == "microrpc opening":
            thread.join(60)
    assert [emulator.is_running for emulator in started] == [False]
    assert caplog.records == []


def test_each_connection_has_a_board_of_its_own(mps2: str) -> None:
    with microrpc.connect(mps2) as one, microrpc.connect(mps2) as other:
        assert one.name == other.name == mps2
        assert one.empty((8,), "uint8").detach() == other.empty((8,), "uint8").detach()


def test_an_emulator_that_dies_is_a_port_that_is_lost() -> None:
    needs.emulated("qemu_mps2_an385")
    with start_emulated("qemu_mps2_an385") as emulator, microrpc.connect(emulator.port) as board:
        add = board.function("add")
        assert add(2, 3) == 5
        emulator.close()
        with pytest.raises(PortLostError):
            add(2, 3)


def test_hosts_come_and_go_while_an_emulator_runs() -> None:
    needs.emulated("qemu_mps2_an385")
    with start_emulated("qemu_mps2_an385") as emulator:
        with microrpc.connect(emulator.port) as board:
            kept = board.empty((8,), "uint8").detach()
        with microrpc.connect(emulator.port) as board:
            assert board.empty((8,), "uint8").detach() != kept, "the board was not reset"


# --- what cannot be ---------------------------------------------------------------------------


def test_a_url_of_a_board_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(PortError, match=r"qemu://x: microrpc has no firmware of that name.*qemu://mps2_an385"):
        microrpc.connect("qemu://x", board="loopback")
    with pytest.raises(PortError, match="emulated://: microrpc has no firmware of that name"):
        microrpc.connect("emulated://")
    with pytest.raises(FirmwareError, match="there is no firmware for 'loopback'"):
        start_emulated("loopback")


@pytest.mark.parametrize(
    ("port", "board"),
    [
        ("qemu://mps2_an385", "posix"),
        ("qemu://mps2_an385", profile("posix")),
        ("emulated://posix", "qemu_mps2_an385"),
        ("sim://arduino_due", "loopback"),
        ("sim://arduino_due", profile("loopback")),
    ],
)
def test_a_url_of_one_board_and_the_name_of_another_contradict_each_other(
    port: str, board: str | microrpc.BoardProfile
) -> None:
    other = board if isinstance(board, str) else board.name
    with pytest.raises(PortError, match=f"^{port} is the board .*, and the board that is named is {other}: name one"):
        microrpc.connect(port, board=board)


def test_what_is_missing_is_said_by_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    needs.zig()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PortNotFoundError, match="apt-get install --no-install-recommends qemu-system-arm"):
        microrpc.connect("qemu://mps2_an385")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FirmwareError, match=r"qemu-system-arm, .*; .* pip install 'microrpc\[firmware\]'"):
        microrpc.connect("qemu://mps2_an385")  # both at once
    with pytest.raises(FirmwareError, match=r"^building firmware needs a compiler: pip install 'microrpc\[firmware\]'"):
        microrpc.connect("emulated://posix")


def test_nothing_is_built_for_an_emulator_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("microrpc.firmware.build.build", lambda *_, **__: pytest.fail("it was built"))
    with pytest.raises(PortNotFoundError):
        start_emulated("qemu_mps2_an385")


def test_what_functions_of_the_process_print_is_told_with_what_the_emulator_says(tmp_path: Path) -> None:
    needs.emulated("posix")
    new_project(tmp_path / "mine", "posix")
    functions = tmp_path / "mine" / "functions.c"
    prints = 'printf("add\\n");\n    fflush(stdout);\n    int64_t a ='
    functions.write_text("#include <stdio.h>\n" + functions.read_text().replace("int64_t a =", prints, 1))
    with start_firmware(build_to_run(load_project(tmp_path / "mine"))) as emulator:
        with microrpc.connect(emulator.port) as board:
            assert board.function("add")(2, 3) == 5
        assert emulator.said == "add"
