"""Uploads that are built and run: on a board that is started anew, and on one that a command flashes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import needs
import numpy as np
import pytest
from firmware.tvm.test_linking import kernel
from tvm_gateway import Client, RefusedError, Serving

from microrpc.boards.catalogue import profile
from microrpc.boards.schema import BoardKind, BoardProfile
from microrpc.connecting.address import find_target
from microrpc.errors import FirmwareError
from microrpc.firmware.build import Firmware
from microrpc.firmware.emulator import build_to_run
from microrpc.firmware.project import load_port
from microrpc.gateway.tvm.loading import UploadLoader, check_loadable, make_linker
from microrpc.gateway.tvm.opening import BoardOpener
from microrpc.gateway.tvm.station import Station
from microrpc.wire.datatypes import ModuleHandle
from microrpc.wire.packets import CallFunc

LOAD, UPLOAD = "tvm.rpc.server.load_module", "tvm.rpc.server.upload"

# A flasher for a board that is a process: it ends what runs, starts the program, and has the port's name lead to it.
FLASHER = """
import os, signal, subprocess, sys
elf, port, pids = sys.argv[1:]
if not open(elf, "rb").read(4) == b"\\x7fELF":
    sys.exit("no ELF file")
if os.path.exists(pids):
    os.kill(int(open(pids).read()), signal.SIGKILL)
process = subprocess.Popen([elf], stdout=subprocess.PIPE, start_new_session=True, text=True)
path = process.stdout.readline().removeprefix("port: ").strip()
open(pids, "w").write(str(process.pid))
if os.path.lexists(port):
    os.remove(port)
os.symlink(path, port)
"""


@pytest.fixture(scope="module", autouse=True)
def _posix() -> None:
    needs.emulated("posix")


@contextlib.contextmanager
def gateway(opener: BoardOpener, firmware: str | None = None, **options: float) -> Iterator[Serving]:
    """A gateway in front of what `opener` opens, that loads what is uploaded."""
    linker = make_linker(opener.target, firmware)
    serving = Serving(call_s=5.0, make_loader=lambda station: UploadLoader(linker, station.restart_with, **options))
    serving.openers = {"posix": opener}  # type: ignore[dict-item]
    with serving:
        yield serving


@pytest.fixture(scope="module")
def emulated() -> Iterator[Serving]:
    with gateway(BoardOpener("emulated://posix")) as serving:
        yield serving


def load(client: Client, data: bytes, name: str = "lib0.c") -> ModuleHandle:
    assert client.call(UPLOAD, name, data) is None
    module = client.call(LOAD, name)
    assert isinstance(module, ModuleHandle)
    return module


def times(client: Client, name: str) -> float:
    """Give what a kernel makes of 1."""
    x = client.empty((4,), "float32")
    client.write(x, np.ones(4, "float32").tobytes())
    client.call(name, x)
    return float(np.frombuffer(client.copy_from(x), "float32")[3])


def refusal(client: Client, data: bytes) -> str:
    with pytest.raises(RefusedError) as caught:
        load(client, data)
    return str(caught.value)


def test_an_upload_runs_in_place_of_the_boards_functions(emulated: Serving) -> None:
    with emulated.client() as client:
        load(client, kernel("twice", 2))
        assert times(client, "twice") == 2.0
        assert client.look_up("adder") == 0


def test_tensors_for_code_of_this_computer_are_aligned_as_its_vectors_want_them(emulated: Serving) -> None:
    with emulated.client() as client:
        load(client, kernel("twice", 2))
        assert {client.empty((1,), "uint8").data % 64 for _ in range(5)} == {0}


def test_the_next_client_has_the_board_as_it_was(emulated: Serving) -> None:
    with emulated.client() as client:
        load(client, kernel("twice", 2))
        client.goodbye()
    with emulated.client() as client:
        assert client.call("add", 2, 3) == 5
        assert client.look_up("twice") == 0


def test_what_a_client_had_before_it_loaded_is_void(emulated: Serving) -> None:
    with emulated.client() as client:
        function, x = client.look_up("add"), client.empty((4,), "float32")
        load(client, kernel("twice", 2))
        with pytest.raises(RefusedError, match="StaleHandleError"):
            client.call(function, 1, 2)
        with pytest.raises(RefusedError):
            client.copy_from(x)
        client.free(function)
        client.free_data(x)
        assert times(client, "twice") == 2.0


def test_a_second_load_takes_the_place_of_the_first(emulated: Serving) -> None:
    with emulated.client() as client:
        load(client, kernel("scale", 2))
        load(client, kernel("scale", 7))
        assert times(client, "scale") == 7.0


def test_a_build_that_fails_leaves_the_board_as_it_was(emulated: Serving) -> None:
    with emulated.client() as client:
        said = refusal(client, kernel("twice", 2) + b"int32_t x(void) { return no_such_thing; }")
        assert said.startswith("load_module: posix cannot be built, the compiler says:\nlib0.c:")
        assert "no_such_thing" in said
        assert client.call("add", 2, 3) == 5


def test_what_is_no_upload_is_told(emulated: Serving) -> None:
    with emulated.client() as client:
        assert refusal(client, b"int x;") == (
            "load_module: lib0.c: has no kernel that TVM compiled: no function __tvm_ffi_NAME is in it"
        )


def test_a_program_that_does_not_start_gives_the_board_back(emulated: Serving) -> None:
    ends = b"#include <stdlib.h>\n__attribute__((constructor)) static void end(void) { exit(3); }\n"
    with emulated.client() as client:
        said = refusal(client, ends + kernel("twice", 2))
        assert said.startswith("load_module: the board does not run lib0.c: ")
        assert client.call("add", 2, 3) == 5


def test_a_kernel_that_ends_the_board_is_an_exception_and_the_next_client_goes_on(emulated: Serving) -> None:
    crash = kernel("crash", 2).replace(b"return 0;", b"*(volatile int *)0 = 1; return 0;")
    with emulated.client() as client:
        load(client, crash)
        with pytest.raises(RefusedError):
            times(client, "crash")
    with emulated.client() as client:
        assert client.call("add", 2, 3) == 5


def test_a_client_that_goes_while_it_loads_leaves_the_board_as_it_was() -> None:
    opener, has_restarted = BoardOpener("emulated://posix"), threading.Event()
    linker = make_linker(opener.target)

    def make_loader(station: Station) -> UploadLoader:
        async def restart(firmware: Firmware | None) -> None:
            await station.restart_with(firmware)
            has_restarted.set()
            await asyncio.sleep(600)

        return UploadLoader(linker, restart)

    serving = Serving(call_s=5.0, make_loader=make_loader)
    serving.openers = {"posix": opener}  # type: ignore[dict-item]
    with serving:
        with serving.client() as client:
            client.call(UPLOAD, "lib0.c", kernel("twice", 2))
            load = CallFunc(client.look_up(LOAD), ("lib0.c",))
            client.socket.sendall(client.layout.encode_packet(load))
            assert has_restarted.wait(60)
        with serving.client() as client:
            assert client.call("add", 2, 3) == 5
            assert client.look_up("twice") == 0


def test_a_compiler_ends_with_the_session_that_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a gateway could not end before it: a client that is gone would keep it compiling."""
    opener, is_linking, is_stopped = BoardOpener("emulated://posix"), threading.Event(), threading.Event()
    linker = make_linker(opener.target)

    def link(parts: object, *, timeout_s: float, stop: threading.Event) -> Firmware:
        is_linking.set()
        assert stop.wait(timeout_s)
        is_stopped.set()
        raise FirmwareError("it was ended")

    monkeypatch.setattr(linker, "link", link)
    serving = Serving(call_s=5.0, make_loader=lambda station: UploadLoader(linker, station.restart_with))
    serving.openers = {"posix": opener}  # type: ignore[dict-item]
    with serving:
        with serving.client() as client:
            client.call(UPLOAD, "lib0.c", kernel("twice", 2))
            load = CallFunc(client.look_up(LOAD), ("lib0.c",))
            client.socket.sendall(client.layout.encode_packet(load))
            assert is_linking.wait(60)
        assert is_stopped.wait(10)
        with serving.client() as client:
            assert client.call("add", 2, 3) == 5


def test_a_compiler_that_takes_too_long_is_an_exception() -> None:
    with gateway(BoardOpener("emulated://posix"), build_s=0.001) as serving, serving.client() as client:
        assert "was ended: it took longer than 0.001 s" in refusal(client, kernel("never_built", 2))
        assert client.call("add", 2, 3) == 5


# --- hardware ---------------------------------------------------------------------------------


@pytest.fixture
def hardware(tmp_path: Path) -> Iterator[BoardProfile]:
    """A board on a port of its own, `tmp_path / port`, which a command flashes; it runs the demonstration."""
    script, pids, port = tmp_path / "flash.py", tmp_path / "pids", tmp_path / "port"
    script.write_text(FLASHER)
    command = (sys.executable, str(script), "{elf}", "{port}", str(pids))
    board = dataclasses.replace(profile("posix"), name="mine", kind=BoardKind.HARDWARE, flash=command, flash_s=30.0)
    elf = build_to_run(load_port("posix")).elf
    assert os.spawnv(os.P_WAIT, sys.executable, [*command[:2], str(elf), str(port), str(pids)]) == 0
    try:
        yield board
    finally:
        os.kill(int(pids.read_text()), signal.SIGKILL)


def test_hardware_is_flashed_and_keeps_what_was_loaded_last(hardware: BoardProfile, tmp_path: Path) -> None:
    opener = BoardOpener(str(tmp_path / "port"), board=hardware)
    with gateway(opener, "posix") as serving:
        with serving.client() as client:
            assert client.call("add", 2, 3) == 5
            load(client, kernel("twice", 2))
            assert times(client, "twice") == 2.0
            client.goodbye()
        with serving.client() as client:
            assert times(client, "twice") == 2.0


def test_a_flasher_that_fails_is_told_with_its_words(hardware: BoardProfile, tmp_path: Path) -> None:
    words = (sys.executable, "-c", "import sys; sys.exit('no probe found')", "{elf}")
    opener = BoardOpener(str(tmp_path / "port"), board=dataclasses.replace(hardware, flash=words))
    with gateway(opener, "posix") as serving, serving.client() as client:
        said = refusal(client, kernel("twice", 2))
        assert "it could not be flashed" in said
        assert said.endswith("ended with 1:\nno probe found")
        assert client.call("add", 2, 3) == 5


@pytest.mark.parametrize(
    ("port", "board", "words"),
    [
        ("sim://", None, "a simulated board runs no compiled code"),
        ("/dev/ttyACM0", "spresense", "its profile, spresense, has no `flash`"),
        ("tcp://127.0.0.1:1", "posix", "its profile, posix, has no `flash`"),
    ],
)
def test_a_board_that_cannot_be_given_a_program_is_told_at_the_start(port: str, board: str | None, words: str) -> None:
    target = find_target(port, board=board, baud=None, timeouts=None)
    with pytest.raises(FirmwareError, match=words):
        check_loadable(target)


def test_hardware_without_firmware_of_ours_wants_a_project(hardware: BoardProfile) -> None:
    target = find_target("/dev/ttyACM0", board=hardware, baud=None, timeouts=None)
    with pytest.raises(FirmwareError, match="microrpc has no firmware for mine: name a project for it with --firmware"):
        make_linker(target)
