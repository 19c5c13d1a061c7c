"""One opener for each scheme, imported when it is used; and what a board was opened with is the same for everybody."""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import needs
import pytest
from apis import Api, BlockingApi

import microrpc
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.cli.demo import command
from microrpc.connecting import openers
from microrpc.connecting.address import Target, find_target
from microrpc.connecting.openers import find_opener, open_target, sim
from microrpc.connecting.openers.emulated import open_running
from microrpc.errors import FunctionNotFoundError, PortBusyError, PortError, PortLostError, PortNotFoundError
from microrpc.firmware.emulator import start_emulated
from microrpc.ports.channel import SerialChannel, monotonic
from microrpc.ports.opening import open_serial
from microrpc.wire.session import Timeouts

LIMIT_S = 20.0


def target(port: str, *, board: str | None = None) -> Target:
    return find_target(port, board=board, baud=None, timeouts=None)


def run(source: str) -> str:
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.stdout


# --- the table --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", openers._OPENERS)
def test_every_row_of_the_table_names_a_function(scheme: str) -> None:
    module, _, name = openers._OPENERS[scheme].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("client", ["microrpc.connecting.blocking", "microrpc.connecting.aio"])
def test_a_client_loads_no_opener_and_neither_simulator_nor_emulator(client: str) -> None:
    modules = run(f"import sys, {client}\nprint(*sorted(sys.modules))").split()
    assert client in modules
    unwanted = ("microrpc.connecting.openers.", "firmware_sim", "microrpc.firmware.emulator", "microrpc.capture")
    assert [name for name in modules if name.startswith(unwanted)] == []


def test_a_port_loads_only_its_own_opener_and_not_the_simulator() -> None:
    with PtyServer(simulate(profile("loopback"))) as server:
        source = (
            f"import sys, microrpc\nmicrorpc.connect({server.path!r}).close()\n"
            "unwanted = ('microrpc.connecting.openers.', 'firmware_sim')\n"
            "print(*[name for name in sys.modules if name.startswith(unwanted)])"
        )
        assert run(source) == "microrpc.connecting.openers.serial\n"


@pytest.mark.parametrize(
    ("port", "text"),
    [
        ("sims://x", "sims://x: nothing opens sims://; did you mean 'sim'? There are: sim://, qemu://, emulated://, "),
        ("rfc2271://h:1", "nothing opens rfc2271://; did you mean 'rfc2217'? There are: "),
        ("gopher://x", "nothing opens gopher://. There are: .*tcp://, unix://, socket://, rfc2217://$"),
        ("://x", "nothing opens ://. There are: "),
        ("a.b.c://x", "nothing opens a.b.c://. There are: "),
    ],
)
def test_an_unknown_scheme_is_one_clear_error_with_those_there_are(api: Api, port: str, text: str) -> None:
    with pytest.raises(PortError, match=text.replace("?", r"\?")) as caught:
        api.connect(port)
    assert caught.value.port == port


@pytest.mark.parametrize(
    ("port", "meant"),
    [("sim", "sim://"), ("sim:uno", "sim://uno"), ("tcp:/host:1", "tcp://host:1"), ("qemu", "qemu://")],
)
def test_an_address_without_its_slashes_leads_to_the_one_that_is_meant(
    api: Api, port: str, meant: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PortNotFoundError) as caught:
        api.connect(port)
    assert (str(caught.value), caught.value.port) == (f"there is no port {port}; did you mean {meant}?", port)
    Path(port.partition("/")[0]).touch()
    with pytest.raises(PortError, match=r"is not a serial port|there is no port [^;]*:"):
        api.connect(port)


def test_what_pyserial_opens_is_left_to_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_opener(target("loop://")) == find_opener(target("rfc2217://h:1")) == openers.PYSERIAL
    assert find_opener(target("socket://h:1")) == find_opener(target("/dev/ttyACM0")) != openers.PYSERIAL
    package = tmp_path / "own_handlers"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "protocol_own.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("serial.protocol_handler_packages", ["no_such_package", "own_handlers"])
    assert find_opener(target("OWN://x")) == openers.PYSERIAL


@pytest.mark.parametrize("address", ["sim://", "sim://rpi_pico"])
def test_a_simulated_board_is_called_as_it_was_asked_for(api: Api, address: str) -> None:
    with api.connect(address) as board:
        assert board.name == address
        with pytest.raises(FunctionNotFoundError, match=f"^{address} has no function"):
            board.function("nothing")


# --- what was opened --------------------------------------------------------------------------


def test_a_device_has_the_line_and_the_ring_of_its_board_and_is_opened_again() -> None:
    board = profile("nucleo_f746zg")
    with PtyServer(simulate(board)) as server:
        opened = open_target(target(server.path, board=board.name))
        assert (opened.is_stream, opened.baud, opened.ring_bytes) == (False, board.baud, board.receive_ring_bytes)
        assert opened.reopen is not None
        opened.close()
        again = opened.reopen(server.path, LIMIT_S)
        assert again.name == server.path
        again.close()
        opened.close()


@pytest.mark.parametrize("most", [2, 3])
def test_a_pty_that_somebody_took_for_an_earlier_one_is_left_to_them(
    api: Api, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    taken = list[int]()

    def open_taken(port: str, **options: Any) -> SerialChannel:
        if len(taken) < most:
            taken.append(os.open(port, os.O_RDWR | os.O_NOCTTY))
            fcntl.flock(taken[-1], fcntl.LOCK_EX)
        return open_serial(port, **options)

    monkeypatch.setattr(sim, "open_serial", open_taken)
    if most == 2:
        with api.connect("sim://") as board:
            assert board.function("add")(2, 3) == 5
    else:
        with pytest.raises(PortBusyError, match="is in use by"):
            api.connect("sim://")
    assert len(taken) == most
    while taken:
        os.close(taken.pop())


def test_a_simulated_board_has_no_line_and_does_not_come_back() -> None:
    opened = open_target(target("sim://nucleo_f746zg"))
    assert (opened.is_stream, opened.baud, opened.ring_bytes, opened.reopen) == (False, None, 0, None)
    assert any(thread.name.startswith("PtyServer") for thread in threading.enumerate())
    opened.close()
    assert not any(thread.name.startswith("PtyServer") for thread in threading.enumerate())


def test_a_server_and_a_shared_board_are_streams(tmp_path: Path) -> None:
    path = str(tmp_path / "board")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as shared:
        shared.bind(path)
        shared.listen()
        for port in (f"tcp://127.0.0.1:{server.getsockname()[1]}", f"unix://{path}"):
            opened = open_target(target(port))
            assert opened.is_stream
            assert opened.channel.name == port
            assert opened.reopen is not None
            opened.reopen(port, LIMIT_S).close()
            opened.close()


def test_a_serial_line_over_tcp_is_waited_for_as_long_as_a_session(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(address: tuple[str, int], timeout: float) -> socket.socket:
        assert (address, timeout) == (("127.0.0.1", 1), 0.25)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", never)
    with pytest.raises(PortNotFoundError, match=r"no answer within 0\.25 s"):
        api.connect("socket://127.0.0.1:1", timeouts=Timeouts(start_s=0.25))


def test_what_a_server_says_before_it_hangs_up_is_told(api: Api) -> None:
    def refuse(server: socket.socket) -> None:
        with server.accept()[0] as connection:
            connection.sendall(b"Port already in use\r\n")
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1000):
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=refuse, args=(server,))
        thread.start()
        with pytest.raises(PortLostError, match=r"connect again\. Before that came 'Port already in use\\r\\n'\.$"):
            api.connect(f"socket://127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def test_a_loop_goes_on_while_a_port_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opens, may_open = threading.Event(), threading.Event()

    def wait(address: tuple[str, int], timeout: float) -> socket.socket:
        opens.set()
        assert may_open.wait(LIMIT_S)
        raise ConnectionRefusedError

    async def test() -> None:
        opening = asyncio.ensure_future(connect())
        end = monotonic() + LIMIT_S
        while not opens.is_set():
            assert monotonic() < end
            await asyncio.sleep(0)
        assert not opening.done()
        may_open.set()
        with pytest.raises(PortNotFoundError, match="nothing listens"):
            await opening

    async def connect() -> object:
        return await microrpc.aio.connect("tcp://127.0.0.1:1")

    monkeypatch.setattr(socket, "create_connection", wait)
    asyncio.run(test())


def test_what_was_opened_is_closed_where_no_connection_can_be_made_of_it(api: Api) -> None:
    def refuse(channel: object) -> object:
        raise RuntimeError("not this one")

    fds = os.listdir("/proc/self/fd")
    with pytest.raises(RuntimeError, match="not this one"):
        api.connect("sim://", wrap=refuse)
    assert len(os.listdir("/proc/self/fd")) == len(fds)
    assert not any(thread.name.startswith("PtyServer") for thread in threading.enumerate())
    with PtyServer(simulate(profile("loopback"))) as server:
        with pytest.raises(RuntimeError, match="not this one"):
            api.connect(server.path, wrap=refuse)
        with api.connect(server.path) as board:  # which is opened for itself alone
            assert board.function("add")(2, 3) == 5


def test_an_emulator_that_ends_says_how(api: Api) -> None:
    needs.emulated("posix")
    with start_emulated("posix") as emulator:
        opened = open_running(emulator, target("emulated://posix"))
        with api.open_board(opened.channel, Timeouts()) as board:
            assert board.function("add")(2, 3) == 5
            process = emulator._running._process
            assert process is not None
            process.kill()
            with pytest.raises(PortLostError) as caught:
                board.function("add")(2, 3)
    assert (
        str(caught.value)
        == "emulated://posix went away: the emulator of posix has ended, by SIGKILL: the host is there"
    )


def test_the_ring_of_an_emulated_board_is_the_same_whoever_opens_it(api: Api) -> None:
    needs.emulated("posix")
    ring_bytes = profile("posix").receive_ring_bytes
    assert ring_bytes > 0
    with api.connect("emulated://posix") as board:
        assert board.operations.connection.frames.ring_bytes == ring_bytes
    if isinstance(api, BlockingApi):
        with start_emulated("posix") as emulator:
            opened = open_running(emulator, target("emulated://posix"))
            assert (opened.ring_bytes, opened.baud) == (ring_bytes, None)
            opened.close()
            assert emulator.is_running
        _, opened, _ = command._open(profile("posix"), 0)
        assert (opened.ring_bytes, opened.baud) == (ring_bytes, None)
        opened.close()
