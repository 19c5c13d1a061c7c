"""Serving sessions that pass each request on to another endpoint: so a host serves a board again to other hosts."""

from __future__ import annotations

from collections.abc import Callable

from microrpc.errors import MicroRpcError, RemoteError
from microrpc.serve.endpoint import Done
from microrpc.wire.packets import (
    CopyAck,
    RemoteException,
    Reply,
    Request,
    Return,
)
from microrpc.wire.reader import ClientEndpoint


class ProxySession:
    """Passes each request on by a call that waits for the reply, for instance `Board.request`."""

    is_async = False
    """It waits in `submit`."""

    def __init__(self, call: Callable[[Request], Reply]) -> None:
        self._call = call

    def submit(self, request: Request, done: Done) -> None:
        """Pass `request` on and wait. What `call` raises of ours becomes an exception for the client."""
        try:
            reply = self._call(request)
        except RemoteError as error:
            reply = RemoteException(error.message)
        except MicroRpcError as error:
            reply = RemoteException(f"{type(error).__name__}: {error}")
        done(reply)


class AsyncProxySession:
    """Passes each request on to a client endpoint without waiting; an event loop brings the bytes of its replies.

    send: takes the bytes of a request to the other endpoint.
    """

    is_async = True
    """Only an event-driven server can host it."""

    def __init__(self, endpoint: ClientEndpoint, send: Callable[[bytes], None]) -> None:
        self._endpoint = endpoint
        self._send = send
        self._done: Done | None = None

    def submit(self, request: Request, done: Done) -> None:
        """Pass `request` on; `done` is called when its reply has come, or at once if it cannot be sent."""
        try:
            data = self._endpoint.request(request)
        except MicroRpcError as error:
            done(RemoteException(f"{type(error).__name__}: {error}"))
            return
        self._done = done
        self._send(data)

    def feed(self, data: bytes) -> None:
        """Take bytes that came from the other endpoint, in pieces of any size.

        Raises ProtocolError for what is no reply to the request, after the client got an exception that says so.
        """
        try:
            reply = self._endpoint.feed(data)
        except MicroRpcError as error:
            self._finish(RemoteException(f"{type(error).__name__}: {error}"))
            raise
        if isinstance(reply, Return | RemoteException | CopyAck):
            self._finish(reply)

    def closed(self) -> None:
        """Take note that the other endpoint is gone: a request that waits for it is answered with an exception."""
        self._finish(RemoteException("the connection to the served endpoint was closed"))

    def _finish(self, reply: Reply) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(reply)
