"""A board on another machine: the whole stack through a serial server that speaks RFC 2217, over a real socket."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import serial
from forks import in_fork
from serial.rfc2217 import PURGE_DATA, SET_CONTROL, SET_CONTROL_DTR_OFF, SET_CONTROL_RTS_ON, PortManager

import microrpc
from firmware_sim.running.server import TcpServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.errors import PortLostError, PortNotFoundError
from microrpc.ports.opening import open_serial
from microrpc.ports.options import PortOptions
from microrpc.ports.pyserial import PyserialChannel

# pyserial's client side names its thread in the old way, and leaves the socket to the garbage collector where the other
# end hung up first.
pytestmark = [
    pytest.mark.filterwarnings("ignore:setDaemon:DeprecationWarning", "ignore:setName:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class SerialServer:
    """Serves one serial port to one host, as ser2net does; made of pyserial's own server side."""

    def __init__(self, port: str) -> None:
        self._serial = serial.serial_for_url(port, timeout=0.01)  # a pty has no modem lines, which PortManager wants
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rfc2217://127.0.0.1:{self._listener.getsockname()[1]}"
        self.bauds: list[int] = []
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._connection, _ = self._listener.accept()
        manager = PortManager(self._serial, self)
        reader = threading.Thread(target=self._send, args=(manager,), daemon=True)
        reader.start()
        with contextlib.suppress(OSError):
            while data := self._connection.recv(4096):
                for byte in manager.filter(data):
                    self._serial.write(byte)
                self.bauds.append(self._serial.baudrate)
        self._connection.close()
        reader.join()

    def _send(self, manager: PortManager) -> None:
        with contextlib.suppress(OSError, serial.SerialException, TypeError):
            while True:
                data = self._serial.read(self._serial.in_waiting or 1)
                if data:
                    self.write(b"".join(manager.escape(data)))
                elif self._connection is None or self._connection.fileno() < 0:
                    return

    def write(self, data: bytes) -> None:
        """Send to the host; PortManager calls it too."""
        assert self._connection is not None
        self._connection.sendall(data)

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            assert self._connection is not None
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.hang_up()
        self._listener.close()
        self._thread.join(5)
        self._serial.close()


@pytest.fixture
def server() -> Iterator[SerialServer]:
    with TcpServer(simulate(profile("loopback"))) as board:
        server = SerialServer(board.path)
        yield server
        server.close()
        gc.collect()


def test_no_purge_is_asked_for_so_a_server_that_never_acknowledges_one_is_used(
    server: SerialServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    answer = PortManager._telnet_process_subnegotiation

    def ignore_purges(self: PortManager, suboption: bytes) -> None:
        asked.append(bytes(suboption[1:2]))
        if suboption[1:2] != PURGE_DATA:
            answer(self, suboption)

    monkeypatch.setattr(PortManager, "_telnet_process_subnegotiation", ignore_purges)
    with microrpc.connect(server.url) as board:
        assert board.function("add")(2, 3) == 5
    assert asked
    assert PURGE_DATA not in asked


def test_modem_lines_of_the_server_are_set_at_opening_and_it_is_kept_alive(
    server: SerialServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    controls: list[bytes] = []
    answer = PortManager._telnet_process_subnegotiation

    def note(self: PortManager, suboption: bytes) -> None:
        if suboption[1:2] == SET_CONTROL:
            controls.append(bytes(suboption[2:3]))
        answer(self, suboption)

    monkeypatch.setattr(PortManager, "_telnet_process_subnegotiation", note)
    channel = open_serial(server.url, baud=115200, options=PortOptions(dtr=False))
    assert SET_CONTROL_DTR_OFF in controls
    assert SET_CONTROL_RTS_ON in controls
    connection: socket.socket = channel._port._socket  # type: ignore[attr-defined]
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    channel.close()


def test_a_board_behind_a_serial_server_is_used_like_any_other(server: SerialServer) -> None:
    with microrpc.connect(server.url, baud=57600) as board:
        assert board.function("add")(2, 3) == 5
        data = np.arange(256, dtype=np.uint8).repeat(20)  # every byte, also telnet's 0xFF
        assert np.array_equal(board.array(data).numpy(), data)
    assert 57600 in server.bauds


def test_a_serial_server_that_hangs_up_is_a_lost_port(server: SerialServer) -> None:
    with microrpc.connect(server.url) as board:
        add = board.function("add")
        server.hang_up()
        with pytest.raises(PortLostError):
            add(2, 3)


def test_no_serial_server_is_a_port_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        number = unused.getsockname()[1]
    with pytest.raises(PortNotFoundError, match="nothing answers there"):
        open_serial(f"rfc2217://127.0.0.1:{number}", baud=115200)


def test_an_rfc2217_port_is_served_by_pyserial(server: SerialServer) -> None:
    channel = open_serial(server.url, baud=115200)
    assert isinstance(channel, PyserialChannel)
    channel.close()


def test_a_fork_drops_its_copy_of_the_connection_and_the_parent_goes_on(server: SerialServer) -> None:
    with microrpc.connect(server.url) as board:
        add = board.function("add")

        def drop() -> str:
            nonlocal board, add
            board.close()
            del board, add
            gc.collect()
            return "dropped"

        assert in_fork(drop) == "dropped"
        assert add(2, 3) == 5
