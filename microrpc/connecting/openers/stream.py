"""RPC servers without frames: over TCP, and boards that are shared on a Unix socket (docs/sharing.md)."""

from __future__ import annotations

from microrpc.connecting.address import Target
from microrpc.connecting.openers import Opened, ResetFirst
from microrpc.errors import PortError
from microrpc.ports.channel import Channel
from microrpc.ports.sockets import open_tcp, open_unix


def open_server(target: Target, reset: ResetFirst | None) -> Opened[Channel]:
    """Connect to the server at tcp://HOST:PORT. Raises PortError and its kinds, for a reset too."""
    _check_no_reset(target, reset)
    host, number = target.server_address

    def open_again(_: str, timeout_s: float) -> Channel:
        return open_tcp(host, number, timeout_s, scheme="tcp")

    return Opened(open_again(target.port, target.timeouts.start_s), is_stream=True, reopen=open_again)


def open_shared(target: Target, reset: ResetFirst | None) -> Opened[Channel]:
    """Connect to the board that is shared at unix:///PATH. Raises PortError and its kinds, for a reset too."""
    _check_no_reset(target, reset)

    def open_again(_: str, timeout_s: float) -> Channel:
        return open_unix(target.socket_path, timeout_s)

    channel = open_again(target.port, target.timeouts.start_s)
    return Opened(channel, is_stream=True, is_shared=True, reopen=open_again)


def _check_no_reset(target: Target, reset: ResetFirst | None) -> None:
    if reset is not None:
        text = f"{target.port} is a server without frames, which cannot be reset from here"
        raise PortError(target.port, text)
