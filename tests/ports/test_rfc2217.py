"""A board on another machine: the whole stack through a serial server that speaks RFC 2217, over a real socket."""

from __future__ import annotations

import contextlib
import errno
import gc
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import serial
from forks import in_fork
from serial import rfc2217
from serial.rfc2217 import (
    PURGE_DATA,
    SERVER_SET_CONTROL,
    SET_CONTROL,
    SET_CONTROL_DTR_OFF,
    SET_CONTROL_RTS_ON,
    PortManager,
)

import microrpc
from firmware_sim.running.server import TcpServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.errors import PortError, PortLostError, PortNotFoundError
from microrpc.ports.opening import open_serial
from microrpc.ports.options import PortOptions
from microrpc.ports.pyserial import PyserialChannel


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


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "soon", ""])
def test_a_timeout_in_which_nobody_can_answer_is_refused(timeout: str) -> None:
    with pytest.raises(PortError, match="timeout is a number of seconds, more than 0"):
        open_serial(f"rfc2217://127.0.0.1:1?timeout={timeout}", baud=115200)


@pytest.mark.parametrize(
    ("answer_to", "reason", "can_be_set"),
    [
        (lambda suboption: None, "timeout while waiting for option 'control'", True),
        (lambda suboption: suboption[:2] + b"\0", "remote rejected value for option 'control'", False),
    ],
    ids=["silent", "rejected"],
)
def test_a_server_that_does_not_confirm_modem_lines_and_flow_control_is_used_and_told_once(
    server: SerialServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    answer_to: Callable[[bytes], bytes | None],
    reason: str,
    can_be_set: bool,
) -> None:
    answer = PortManager._telnet_process_subnegotiation

    def refuse_controls(self: PortManager, suboption: bytes) -> None:
        if suboption[1:2] != SET_CONTROL:
            answer(self, suboption)
        elif (said := answer_to(suboption)) is not None:
            self.rfc2217_send_subnegotiation(SERVER_SET_CONTROL, said[2:])

    monkeypatch.setattr(PortManager, "_telnet_process_subnegotiation", refuse_controls)
    url = f"{server.url}?timeout=0.2"
    with microrpc.connect(url, dtr=False) as board:
        assert board.function("add")(2, 3) == 5
        assert board.pump._channel.set_modem_lines(dtr=True) is can_be_set  # type: ignore[attr-defined]
    assert caplog.messages == [f"{url}: the server does not confirm modem lines or flow control ({reason})"]


def test_a_server_that_has_answered_all_else_is_not_waited_for_as_long_for_modem_lines(
    server: SerialServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = PortManager._telnet_process_subnegotiation
    waits: list[tuple[float, float]] = []

    class Noted(rfc2217.Timeout):  # type: ignore[misc]
        def __init__(self, duration_s: float) -> None:
            waits.append((duration_s, time.monotonic()))
            super().__init__(duration_s)

    def ignore_controls(self: PortManager, suboption: bytes) -> None:
        if suboption[1:2] != SET_CONTROL:
            answer(self, suboption)

    monkeypatch.setattr(PortManager, "_telnet_process_subnegotiation", ignore_controls)
    monkeypatch.setattr("microrpc.ports.pyserial.LEAST_PATIENCE_S", 0.2)
    monkeypatch.setattr(rfc2217, "Timeout", Noted)
    began = time.monotonic()
    with microrpc.connect(server.url) as board:
        assert board.function("add")(2, 3) == 5
    of_options, of_settings, (of_lines_s, at) = [wait for wait in waits if wait[0] > 0][:3]
    assert of_options[0] == of_settings[0] == 3.0
    assert 0.2 <= of_lines_s <= min(3.0, max(0.2, at - began))


def serving(answer: Callable[[socket.socket], object]) -> tuple[str, threading.Thread]:
    """Give the URL of a server that takes one connection, and hangs up when `answer` is done with it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            answer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    return f"rfc2217://127.0.0.1:{listener.getsockname()[1]}?timeout=0.2", thread


def end_what_was_not_begun(connection: socket.socket) -> None:
    """Say IAC SE without SB, as noise may."""
    connection.sendall(b"\xff\xf0")
    time.sleep(0.5)


def refuse_to_be_set_up(connection: socket.socket) -> None:
    """Take every option of telnet, and answer no wish for settings."""
    with contextlib.suppress(OSError):
        while said := connection.recv(4096):
            for wish in re.findall(rb"\xff([\xfb\xfd].)", said, re.DOTALL):
                connection.sendall(b"\xff" + {0xFB: b"\xfd", 0xFD: b"\xfb"}[wish[0]] + wish[1:])


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda connection: connection.recv(1), "the server there hung up: is its port in use by another host, or"),
        (lambda connection: connection.recv(4096), "the server there hung up: is its port in use by another host, or"),
        (lambda connection: time.sleep(0.5), "whoever answers there does not speak RFC 2217: open a raw port as"),
        (end_what_was_not_begun, "whoever answers there does not speak RFC 2217: open a raw port as"),
        (refuse_to_be_set_up, "the server there did not confirm 115200 baud, 8N1: allow its clients to set up"),
    ],
    ids=["breaks off", "hangs up", "raw", "no telnet", "refuses"],
)
def test_a_server_that_cannot_be_used_is_one_clear_error(answer: Callable[[socket.socket], object], text: str) -> None:
    url, thread = serving(answer)
    with pytest.raises(PortError, match=re.escape(f"{url}: {text}")):
        open_serial(url, baud=115200)
    thread.join()


def test_a_server_that_is_gone_when_its_question_is_answered_has_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(rfc2217.Serial, "_telnet_negotiate_option", fail)
    url, thread = serving(lambda connection: (connection.sendall(b"\xff\xfd\x01"), time.sleep(0.5)))
    with pytest.raises(PortError, match=re.escape(f"{url}: the server there hung up")):
        open_serial(url, baud=115200)
    thread.join()


@pytest.mark.parametrize("url", ["rfc2217://", "rfc2217://host", "rfc2217://:2217", "rfc2217://[host:2217"])
def test_a_malformed_address_shows_the_form(url: str) -> None:
    with pytest.raises(PortError, match=re.escape(f"{url}: write rfc2217://HOST:PORT, for example")):
        open_serial(url, baud=115200)


def test_what_the_server_sent_before_it_hung_up_still_comes(server: SerialServer) -> None:
    channel = open_serial(server.url, baud=115200)
    server.write(b"the last words")
    server.hang_up()
    channel._port._thread.join(5)  # type: ignore[attr-defined]
    assert channel.read(channel.now() + 5) == b"the last words"
    with pytest.raises(PortLostError):
        channel.read(channel.now() + 5)
    channel.close()


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
