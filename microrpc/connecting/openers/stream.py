"""RPC servers without frames: over TCP, boards that are shared on a Unix socket (docs/sharing.md), servers of TVM."""

from __future__ import annotations

from urllib.parse import parse_qsl

from microrpc.connecting.address import Target
from microrpc.connecting.openers import Opened, ResetFirst
from microrpc.errors import CallTimeoutError, PortBusyError, PortError, PortLostError, PortNotFoundError, ProtocolError
from microrpc.ports.channel import Channel
from microrpc.ports.sockets import open_tcp, open_unix
from microrpc.wire.tvm.hello import decode_server_hello, encode_hello


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


def open_tvm(target: Target, reset: ResetFirst | None) -> Opened[Channel]:
    """Connect to the server of TVM at tvm://HOST:PORT?key=KEY, as `microrpc tvm serve` is one (docs/tvm_serve.md).

    Raises PortError and its kinds, for a reset too: PortBusyError where another client has the board.
    """
    _check_no_reset(target, reset)
    host, number = target.server_address
    key = _key_in(target.port)

    def open_again(_: str, timeout_s: float) -> Channel:
        channel = open_tcp(host, number, timeout_s, scheme="tvm")
        try:
            _introduce(channel, target.port, key, timeout_s)
        except BaseException:
            channel.close()
            raise
        return channel

    return Opened(open_again(target.port, target.timeouts.start_s), is_stream=True, reopen=open_again)


def _key_in(port: str) -> str:
    """Give KEY of tvm://HOST:PORT?key=KEY, "" where there is none. Raises PortError."""
    options = parse_qsl(port.partition("?")[2], keep_blank_values=True)
    if len(options) > 1 or any(name != "key" or set(key) & set(" \t\r\n") for name, key in options):
        raise PortError(port, f"{port}: write tvm://HOST:PORT?key=KEY, a key without blanks, or no key for any board")
    return options[0][1] if options else ""


def _introduce(channel: Channel, port: str, key: str, timeout_s: float) -> None:
    """Say who it is, and wait to be let in (docs/tvm_wire.md 1)."""
    deadline = channel.now() + timeout_s
    data = b""
    try:
        channel.write(encode_hello(f"client:{key}"), deadline)
        while decode_server_hello(data) is None:
            if not (piece := channel.read(deadline)):
                reason = "another client has the board, or no server of TVM is there"
                raise PortBusyError(port, f"{port}: no answer within {timeout_s:g} s: {reason}")
            data += piece
    except ProtocolError as error:
        raise PortNotFoundError(port, f"{port}: {error.reason}; check the key and the port") from error
    except (PortLostError, CallTimeoutError) as error:
        raise PortError(port, f"{port}: the server closed the connection before it let this client in") from error


def _check_no_reset(target: Target, reset: ResetFirst | None) -> None:
    if reset is not None:
        text = f"{target.port} is a server without frames, which cannot be reset from here"
        raise PortError(target.port, text)
