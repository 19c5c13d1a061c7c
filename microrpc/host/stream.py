"""The client's side of a conversation over a plain byte stream, such as TCP (docs/protocol.md 3 and 5).

The stream itself is the packets: there are no frames and no sessions, so nothing can be asked again after doubt.
Operations are generators, as in `microrpc.host.connection`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from microrpc.errors import BoardResetError, CallTimeoutError, ClosedError, ProtocolError, RemoteError
from microrpc.host.operation import AT_ONCE, Operation, write_by
from microrpc.host.stats import Counters, Stats
from microrpc.wire.datatypes import Value
from microrpc.wire.packets import PROTOCOL_VERSION, InitServer, RemoteException, Reply, Request, Shutdown, encode_packet
from microrpc.wire.reader import ClientEndpoint, request_label
from microrpc.wire.session import Timeouts


class StreamConversation:
    """A conversation with an RPC server over a byte stream.

    key: the remote key that is sent first, where the server reads one. After a timeout the stream cannot be
    trusted, and everything raises ClosedError. `epoch` counts the connections before this one.
    """

    repeats = 0
    linked = None
    ring_bytes = 0
    is_fresh = False
    session_id = 0

    def __init__(self, *, timeouts: Timeouts, key: str | None = None, session_args: tuple[Value, ...] = ()) -> None:
        self.epoch = 0
        self.reply_epoch = 0
        self.counters = Counters()
        self._timeouts = timeouts
        self._client = ClientEndpoint()
        self._output: list[bytes] = []
        self._session_args = session_args
        self._closed = ""
        self._on_session: Callable[[bool], None] | None = None
        self._greeting = b"" if key is None else struct.pack("<i", len(key.encode())) + key.encode()
        self._output.append(self._greeting)

    def take_output(self) -> bytes:
        """Give the bytes that are to be sent now."""
        output = b"".join(self._output)
        self.counters.bytes_sent += len(output)
        self._output.clear()
        return output

    def write_by(self, deadline: float, now: float) -> float:
        """Until when the port may take them, where the operation waits until `deadline`."""
        return write_by(deadline, now)

    @property
    def stats(self) -> Stats:
        """What was counted so far; there are no frames to count."""
        return self.counters.snapshot()

    def open(self) -> Operation[None]:
        """Initialise the server: protocol version and the session constructor's arguments. Raises RemoteError."""
        request = InitServer(PROTOCOL_VERSION, self._session_args)
        reply = yield from self._ask(request, encode_packet(request), self._timeouts.start_s)
        if isinstance(reply, RemoteException):
            raise RemoteError(reply.message, code=request_label(request))

    def on_port_reopened(self, on_session: Callable[[bool], None]) -> None:
        """Begin anew over a new connection; `on_session` is called when the server has answered there."""
        self._output[:] = [self._greeting]
        self._client = ClientEndpoint()
        self._closed = ""
        self.epoch += 1
        self._on_session = on_session

    def exchange(
        self, request: Request, packet: bytes, *, timeout_s: float, repeatable: bool, epoch: int | None
    ) -> Operation[Reply]:
        """Send `request`, encoded as `packet`, and give its reply. Nothing is repeated."""
        yield from self._begin_anew()
        self._check_epoch(epoch)
        return (yield from self._ask(request, packet, timeout_s))

    def _ask(self, request: Request, packet: bytes, timeout_s: float) -> Operation[Reply]:
        if self._closed:
            raise ClosedError(f"the stream is closed ({self._closed}); connect again")
        data, now = yield AT_ONCE
        self._take(data, now, request)  # an empty packet, or what tells that this stream can be used no more
        self._client.expect(request)
        self.reply_epoch = self.epoch
        self._output.append(packet)
        self._closed = f"{request_label(request)} was interrupted"
        deadline = now + timeout_s
        while True:
            data, now = yield deadline
            reply = self._take(data, now, request)
            if reply is not None:
                self._closed = ""
                self.counters.note_answer(deadline - timeout_s)
                return reply
            if now >= deadline:
                self._closed = f"{request_label(request)} was not answered"
                raise CallTimeoutError(f"no reply of {request_label(request)} within {timeout_s:g} s; it may have run")

    def exchange_batch(
        self, requests: Sequence[Request], *, timeout_s: float, epoch: int | None
    ) -> Operation[list[Reply]]:
        """Send requests, one after the other, and give their replies."""
        replies = []
        for request in requests:
            packet = encode_packet(request)
            replies.append(
                (yield from self.exchange(request, packet, timeout_s=timeout_s, repeatable=True, epoch=epoch))
            )
        return replies

    def begin(self, epoch: int | None) -> Operation[float]:
        """Give the time; initialise the server first where the connection is a new one. Raises BoardResetError."""
        yield from self._begin_anew()
        self._check_epoch(epoch)
        _, now = yield AT_ONCE
        self.counters.now = now
        return now

    def _begin_anew(self) -> Operation[None]:
        if self._on_session is not None:
            yield from self.open()
            on_session, self._on_session = self._on_session, None
            on_session(True)

    def _check_epoch(self, epoch: int | None) -> None:
        if epoch is not None and epoch != self.epoch:
            text = "the connection to the server was lost, and with it the function or array that this request uses"
            raise BoardResetError(f"{text}; nothing was sent. Make it again", may_have_run=False)

    def _take(self, data: bytes, now: float, request: Request) -> Reply | None:
        self.counters.now = now
        self.counters.bytes_received += len(data)
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
