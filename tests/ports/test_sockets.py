"""TCP connections: one whose other end goes silently is noticed by the system, and none waits for ever."""

from __future__ import annotations

import os
import select
import socket

import pytest

from microrpc.errors import CallTimeoutError, PortLostError
from microrpc.ports.channel import monotonic
from microrpc.ports.fd import FdChannel
from microrpc.ports.selected import SocketChannel
from microrpc.ports.sockets import keep_alive, open_tcp


def test_a_connection_is_kept_alive_with_short_intervals() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        channel = open_tcp("127.0.0.1", server.getsockname()[1], 5)
        assert isinstance(channel, FdChannel)
        with socket.socket(fileno=os.dup(channel.fileno())) as ours:
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            there = {name: ours.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names}
        channel.close()
    assert there == {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}


def test_a_system_without_a_setting_does_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"):
        monkeypatch.delattr(socket, name)
    with socket.socket() as connection:
        keep_alive(connection)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_a_connection_that_is_gone_already_shows_in_the_first_read_only() -> None:
    connection = socket.socket()
    connection.close()
    keep_alive(connection)


def test_without_poll_a_write_ends_at_its_deadline_and_a_close_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "poll")
    with socket.create_server(("127.0.0.1", 0)) as server:
        channel = open_tcp("127.0.0.1", server.getsockname()[1], 5)
        assert isinstance(channel, SocketChannel)
        peer = server.accept()[0]
        with pytest.raises(CallTimeoutError, match="before the deadline"):
            channel.write(bytes(1 << 24), monotonic() + 0.05)
        assert repr(channel) == f"<SocketChannel {channel.name}>"
        peer.close()
        with pytest.raises(PortLostError, match="went away"):
            channel.read(monotonic() + 5)
        channel.close()
        channel.close()
        with pytest.raises(PortLostError, match="was closed by this program"):
            channel.read(0)
        assert repr(channel) == f"<SocketChannel {channel.name} closed>"
