"""A simulated board in memory, in real time: as the one on a pty, for both clients."""

from __future__ import annotations

import dataclasses
import os
import select
import socket
import threading

import numpy as np
import pytest
from apis import Api

from firmware_sim.board.clock import VirtualClock
from firmware_sim.line.settings import Rate
from firmware_sim.line.uart import UartLine
from firmware_sim.running import polling
from firmware_sim.running.memory import MemoryChannel
from firmware_sim.running.polling import POLLIN, POLLOUT, SelectPoller, make_poller, make_wakers
from firmware_sim.running.server import PtyServer, TcpServer
from firmware_sim.running.simulate import simulate, uart_of
from microrpc.boards.catalogue import profile
from microrpc.errors import CallTimeoutError, PortError, PortLostError
from microrpc.ports.channel import monotonic
from microrpc.wire.session import Timeouts

PROFILE = profile("loopback")
TIMEOUTS = Timeouts(retry_s=0.1, start_s=5, call_s=0.2)


# --- sim:// without ptys ------------------------------------------------------------------------------


def test_where_there_are_no_ptys_a_simulated_board_is_in_memory(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "openpty")
    with api.connect("sim://", timeouts=TIMEOUTS) as board:
        assert board.name == "sim://"
        data = np.arange(100_000, dtype=np.uint8)  # more than waits in either direction
        assert np.array_equal(board.array(data).numpy(), data)
        with pytest.raises(CallTimeoutError):  # the board is not done, and the deadline is kept
            board.function("sleep_ms")(600)
        assert board.function("add")(2, 3) == 5
    with pytest.raises(PortError, match="this system has no ptys: serve the board on a TCP port"):
        PtyServer(simulate(PROFILE))


def test_its_thread_ends_with_it() -> None:
    channel = MemoryChannel(simulate(PROFILE), name="sim://loopback")
    (thread,) = (one for one in threading.enumerate() if one.name == "board sim://loopback")
    channel.close()
    channel.close()
    assert not thread.is_alive()
    assert channel.read(0), "it has booted"
    with pytest.raises(PortLostError, match="sim://loopback was closed by this program"):
        channel.read(0)
    with pytest.raises(PortLostError):
        channel.write(b"x", 0)


def test_a_read_that_waits_ends_at_its_deadline_and_when_it_is_closed() -> None:
    channel = MemoryChannel(simulate(PROFILE), name="board")
    boot = channel.read(monotonic() + 5)
    assert boot
    assert channel.read(monotonic() + 0.01) == b""
    threading.Timer(0.02, channel.close).start()
    with pytest.raises(PortLostError):
        channel.read(monotonic() + 5)


def test_a_board_that_is_not_read_holds_up_the_host() -> None:
    uart = dataclasses.replace(uart_of(PROFILE), to_board=Rate(300), power_up_s=0.0)
    channel = MemoryChannel(UartLine(simulate(PROFILE, clock=VirtualClock()), uart), name="slow")
    with pytest.raises(CallTimeoutError, match=r"slow took only \d+ of 1000000 bytes"):
        channel.write(bytes(1_000_000), monotonic() + 0.05)
    channel.close()


# --- polling without poll -----------------------------------------------------------------------------


def test_a_server_waits_by_select_where_there_is_no_poll(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.delattr(select, "poll")
        patch.setattr(polling, "_LONGEST_WAIT_S", 0.01)
        server = TcpServer(simulate(PROFILE))
    with server, api.connect(server.path) as board:
        assert isinstance(server._poller, SelectPoller)
        data = np.arange(100_000, dtype=np.uint8)
        assert np.array_equal(board.array(data).numpy(), data)


def test_a_board_in_memory_may_be_closed_by_its_own_thread_as_garbage_is() -> None:
    channel = MemoryChannel(simulate(PROFILE), name="sim://")
    closed: list[str] = []

    def close() -> None:
        channel.close()
        closed.append("closed")

    channel._thread = threading.Thread(target=close)
    channel._thread.start()
    channel._thread.join(10)
    assert closed == ["closed"]


def test_a_select_poller_gives_what_poll_gives() -> None:
    reader, writer = socket.socketpair()
    with reader, writer:
        for poller in (SelectPoller(), make_poller()):
            poller.register(reader.fileno(), POLLIN)
            assert poller.poll(0) == []
            poller.register(writer.fileno(), POLLOUT)
            assert poller.poll(0) == [(writer.fileno(), POLLOUT)]
            poller.unregister(writer.fileno())
            writer.send(b"x")
            assert poller.poll() == [(reader.fileno(), POLLIN)]
            assert reader.recv(1) == b"x"


def test_wakers_are_connected_on_every_system(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_poll in (True, False):
        if not has_poll:
            monkeypatch.delattr(select, "poll")
        waiting, waker = make_wakers()
        with waiting, waker:
            waker.send(b"o")
            assert waiting.recv(10) == b"o"
