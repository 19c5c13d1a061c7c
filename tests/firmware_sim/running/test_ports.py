"""The ports that simulated boards are served on, and the server that holds many of them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import microrpc
from firmware_sim.board.clock import VirtualClock
from firmware_sim.board.device import Device
from firmware_sim.line.faults import BrownOut, Faults, Unplug, Wedge
from firmware_sim.line.settings import Rate, Uart
from firmware_sim.line.uart import UartLine
from firmware_sim.running.ports import PtyPort, TcpPort
from firmware_sim.running.server import PtyServer, Server, TcpServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.errors import (
    CallTimeoutError,
    HandshakeTimeoutError,
    PortBusyError,
    PortError,
    PortLostError,
    PortNotFoundError,
)
from microrpc.ports.channel import monotonic
from microrpc.ports.opening import open_serial, open_tcp
from microrpc.wire.session import Timeouts

LONG_S = 10.0  # a deadline that is not meant to pass
BOOT = bytes.fromhex("fe fffd 03000000 000002 6677")


def make_line(uart: Uart | None = None, faults: Faults | None = None) -> UartLine:
    device = simulate(profile("loopback"), clock=VirtualClock())
    return UartLine(device, uart or Uart(Rate(921600), Rate(921600)), faults)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + LONG_S
    while not condition():
        assert monotonic() < deadline
        time.sleep(0.001)


def repeat(action: Callable[[], object]) -> None:
    deadline = monotonic() + LONG_S
    while monotonic() < deadline:
        action()


# --- a line in real time ----------------------------------------------------------------------


def test_a_copy_over_a_line_takes_as_long_as_its_bytes() -> None:
    line = make_line(Uart(Rate(460800), Rate(460800)))
    data = np.random.default_rng(1).integers(0, 256, 16_384, dtype=np.uint8)
    with PtyServer(line) as server, microrpc.connect(server.path) as board:
        array = board.empty(data.shape, data.dtype)
        start = monotonic()
        array.write(data)
        taken_s = monotonic() - start
        assert np.array_equal(array.numpy(), data)
    assert taken_s >= len(data) * 10 / 460800


def test_a_function_that_takes_long_does_not_hold_up_the_other_boards() -> None:
    lines = [make_line(), make_line()]
    with Server(*(PtyPort(line) for line in lines)) as server:
        slow, fast = (microrpc.connect(port.path) for port in server.ports)
        sleep, add = slow.function("sleep_ms"), fast.function("add")
        done: list[object] = []
        sleeper = threading.Thread(target=lambda: done.append(sleep(300)))
        sleeper.start()
        while lines[0].device.clock.now() < lines[1].device.clock.now() + 0.2:
            time.sleep(0.001)
        assert [add(n, 1) for n in range(5)] == [1, 2, 3, 4, 5]
        assert not done
        sleeper.join()
        assert done == [300]
        slow.close()
        fast.close()


def test_a_hundred_boards_fit_one_thread() -> None:
    before = threading.active_count()
    with Server(*(PtyPort(simulate(profile("loopback"))) for _ in range(100))) as server:
        assert threading.active_count() == before + 1
        boards = [microrpc.connect(port.path) for port in server.ports]
        assert [board.function("add")(n, 1) for n, board in enumerate(boards)] == list(range(1, 101))
        for board in boards:
            board.close()


def test_a_pulled_cable_takes_the_pty_away_and_its_link_leads_to_the_next(tmp_path: Path) -> None:
    link = tmp_path / "board"
    line = make_line()
    with PtyServer(line, link=link) as server:
        channel = open_serial(server.path, baud=115200)
        server.do(line.unplug)
        with pytest.raises(PortLostError):
            repeat(lambda: channel.read(monotonic() + LONG_S))
        channel.close()
        with pytest.raises(PortNotFoundError):
            open_serial(server.path, baud=115200)
        server.do(line.plug)
        wait_until(link.exists)
        with microrpc.connect(server.path) as board:
            assert board.function("add")(2, 3) == 5
    assert line.device.stats.resets == 1  # it lives off the cable


def test_a_board_that_hangs_takes_no_more_than_its_ring_and_the_systems_buffer() -> None:
    uart = Uart(Rate(921600), Rate(921600), receive_ring_bytes=64)
    line = make_line(uart, Faults([Wedge(function="noop")]))
    with PtyServer(line) as server:
        board = microrpc.connect(server.path, timeouts=Timeouts(retry_s=0.05, start_s=0.2, call_s=0.1))
        noop = board.function("noop")
        with pytest.raises(CallTimeoutError):
            noop()
        with pytest.raises(HandshakeTimeoutError):
            noop()
        server.reset()
        wait_until(lambda: line.device.stats.resets == 1)
        assert board.function("add")(1, 1) == 2
        board.close()
        assert line.state.bytes_overrun > 0
        assert line.state.ring_high_water_bytes == 64


def test_a_board_in_a_brown_out_that_nobody_reads_fills_no_memory() -> None:
    line = make_line(Uart(Rate(4_000_000), Rate(4_000_000)), Faults([BrownOut(every_s=1e-4)]))
    with PtyServer(line) as server:
        wait_until(lambda: line.device.stats.resets > 1000)
        channel = open_serial(server.path, baud=115200)
        assert channel.read(monotonic() + LONG_S).startswith(BOOT)
        channel.close()


# --- TCP ----------------------------------------------------------------------------------------


@pytest.fixture
def tcp_server() -> Iterator[TcpServer]:
    with TcpServer(simulate(profile("loopback"))) as server:
        yield server


def test_a_board_can_be_used_through_a_socket(tcp_server: TcpServer) -> None:
    assert tcp_server.path.startswith("socket://127.0.0.1:")
    for _ in range(2):  # one host after the other
        with microrpc.connect(tcp_server.path) as board:
            assert board.function("add")(2, 3) == 5
            data = np.arange(5000, dtype=np.int32)
            assert np.array_equal(board.array(data).numpy(), data)


def test_a_line_can_be_used_through_a_socket() -> None:
    with TcpServer(make_line()) as server, microrpc.connect(server.path) as board:
        assert board.function("add")(2, 3) == 5


def test_a_second_host_is_refused_and_the_first_is_left_alone(tcp_server: TcpServer) -> None:
    with microrpc.connect(tcp_server.path) as board:
        host, _, number = tcp_server.path.removeprefix("socket://").rpartition(":")
        second = open_tcp(host, int(number), LONG_S)
        with pytest.raises(PortLostError):
            second.read(monotonic() + LONG_S)
        second.close()
        assert board.function("add")(2, 3) == 5


def test_closing_the_server_hangs_up(tcp_server: TcpServer) -> None:
    board = microrpc.connect(tcp_server.path)
    add = board.function("add")
    tcp_server.close()
    with pytest.raises(PortLostError):
        add(1, 2)
    board.close()
    with pytest.raises(PortNotFoundError):
        microrpc.connect(tcp_server.path)


def test_a_pulled_cable_hangs_up_and_lets_nobody_in() -> None:
    line = make_line(faults=Faults([Unplug(at_s=0.2)]))
    with TcpServer(line) as server:
        with microrpc.connect(server.path) as board:
            add = board.function("add")
            with pytest.raises(PortLostError):
                repeat(lambda: add(1, 2))
        with pytest.raises(PortLostError):
            microrpc.connect(server.path)


def test_what_a_board_says_while_nobody_listens_is_lost(tcp_server: TcpServer) -> None:
    tcp_server.reset()
    wait_until(lambda: tcp_server.device.stats.resets == 1)
    host, _, number = tcp_server.path.removeprefix("socket://").rpartition(":")
    channel = open_tcp(host, int(number), LONG_S)
    assert channel.read(monotonic() + 0.05) == b""
    channel.close()


def test_a_taken_port_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        with pytest.raises(PortBusyError, match=f"127.0.0.1:{number}: cannot listen there.*take another port"):
            TcpPort(Device(), number=number)


@pytest.mark.parametrize(
    ("host", "number", "reason"),
    [
        ("no.such.host.invalid", 0, "is not known"),
        ("127.0.0.1", 99999, "from 0 to 65535"),
        ("192.0.2.1", 0, "cannot listen there"),
    ],
)
def test_an_address_that_is_not_this_computers_is_one_clear_error(host: str, number: int, reason: str) -> None:
    with pytest.raises(PortError, match=reason):
        TcpPort(Device(), host=host, number=number)
