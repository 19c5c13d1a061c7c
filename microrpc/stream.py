"""The client's side of a conversation over a plain byte stream, such as TCP (docs/protocol.md 3 and 5).

The stream itself is the packets: there are no frames and no sessions, so nothing can be asked again after doubt.
Operations are generators, as in `microrpc.conversation`.
"""

from __future__ import annotations

import struct

from microrpc.codec import PROTOCOL_VERSION, InitServer, RemoteException, Reply, Request, Shutdown, encode_packet
from microrpc.conversation import AT_ONCE, Operation, write_by
from microrpc.datatypes import Value
from microrpc.endpoint import ClientEndpoint, request_label
from microrpc.errors import CallTimeoutError, ClosedError, ProtocolError, RemoteError
from microrpc.session import Timeouts


class StreamConversation:
    """A conversation with an RPC server over a byte stream.

    key: the remote key that is sent first, where the server reads one. After a timeout the stream cannot be
    trusted, and everything raises ClosedError.
    """

    epoch = 0
    reply_epoch = 0
    repeats = 0
    linked = None
    is_fresh = False
    session_id = 0

    def __init__(self, *, timeouts: Timeouts, key: str | None = None, session_args: tuple[Value, ...] = ()) -> None:
        self._timeouts = timeouts
        self._client = ClientEndpoint()
        self._output: list[bytes] = []
        self._session_args = session_args
        self._closed = ""
        if key is not None:
            encoded = key.encode()
            self._output.append(struct.pack("<i", len(encoded)) + encoded)

    def take_output(self) -> bytes:
        """Give the bytes that are to be sent now."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def write_by(self, deadline: float, now: float) -> float:
        """Until when the port may take them, where the operation waits until `deadline`."""
        return write_by(deadline, now)

    def open(self) -> Operation[None]:
        """Initialise the server: protocol version and the session constructor's arguments. Raises RemoteError."""
        request = InitServer(PROTOCOL_VERSION, self._session_args)
        reply = yield from self.exchange(
            request, encode_packet(request), timeout_s=self._timeouts.start_s, repeatable=False, epoch=None
        )
        if isinstance(reply, RemoteException):
            raise RemoteError(reply.message, code=request_label(request))

    def exchange(
        self, request: Request, packet: bytes, *, timeout_s: float, repeatable: bool, epoch: int | None
    ) -> Operation[Reply]:
        """Send `request`, encoded as `packet`, and give its reply. Nothing is repeated; there are no epochs."""
        if self._closed:
            raise ClosedError(f"the stream is closed ({self._closed}); connect again")
        data, now = yield AT_ONCE
        self._take(data, request)  # an empty packet, or what tells that this stream can be used no more
        self._client.expect(request)
        self._output.append(packet)
        self._closed = f"{request_label(request)} was interrupted"
        deadline = now + timeout_s
        while True:
            data, now = yield deadline
            reply = self._take(data, request)
            if reply is not None:
                self._closed = ""
                return reply
            if now >= deadline:
                self._closed = f"{request_label(request)} was not answered"
                raise CallTimeoutError(f"no reply of {request_label(request)} within {timeout_s:g} s; it may have run")

    def begin(self, epoch: int | None) -> Operation[float]:
        """Give the time: there is nothing to be brought in order."""
        _, now = yield AT_ONCE
        return now

    def _take(self, data: bytes, request: Request) -> Reply | None:
        try:
            reply = self._client.feed(data) if data else None
        except ProtocolError as error:
            self._closed = str(error)
            raise
        if isinstance(reply, Shutdown):
            self._closed = "the server shut down"
            raise ClosedError(f"the server shut down before it answered {request_label(request)}; connect again")
        return reply

    def close(self, shutdown: bool) -> Operation[None]:
        """Send Shutdown; on a stream this ends the server's loop for this client only."""
        yield AT_ONCE
        if not self._closed:
            self._output.append(self._client.shutdown())
            self._closed = "it was closed here"
