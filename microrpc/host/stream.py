"""The host's side of a connection over a plain byte stream, such as TCP (docs/protocol.md 3 and 5).

The stream itself is the packets: there are no frames and no sessions, so nothing can be asked again after doubt.
Operations are generators, as in `microrpc.host.connection`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

from microrpc.errors import (
    BoardResetError,
    CallTimeoutError,
    ClosedError,
    FeatureMissingError,
    ProtocolError,
    RemoteError,
)
from microrpc.host.events import NO_EVENTS, EventHost
from microrpc.host.job import CopyJob, Progress
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.output import Output
from microrpc.host.stats import Counters, Stats
from microrpc.host.trust import Trust
from microrpc.wire.datatypes import Value
from microrpc.wire.features import Features
from microrpc.wire.packets import (
    PROTOCOL_VERSION,
    InitServer,
    RemoteException,
    Reply,
    Request,
    Shutdown,
    encode_packet,
)
from microrpc.wire.reader import ClientEndpoint, request_label
from microrpc.wire.session import Timeouts


class StreamConnection:
    """A connection to an RPC server over a byte stream.

    key: the remote key that is sent first, where the server reads one. session_args: those of the server's session
    constructor, its name first. After a timeout the stream cannot be trusted, and everything raises ClosedError.
    `trust.epoch` counts the connections before this one. counters: what crossed the stream. output: what is to be sent
    now. A stream has no `link`, no `features`, no `events` and no `session_id`, asks for its `limit_bytes`, never
    `is_fresh`, and has nothing to listen for.
    """

    link = None
    limit_bytes = None
    is_fresh = False
    session_id = 0
    features = Features()
    listens_at = math.inf

    def __init__(self, *, timeouts: Timeouts, key: str | None = None, session_args: tuple[Value, ...] = ()) -> None:
        self.trust = Trust()
        self.events = EventHost()
        self.counters = Counters()
        self.output = Output(self.counters, has_frames=False)
        self._timeouts = timeouts
        self._client = ClientEndpoint()
        self._session_args = session_args
        self._closed = ""
        self._on_session: Callable[[bool], None] | None = None
        self._greeting = b"" if key is None else struct.pack("<i", len(key.encode())) + key.encode()
        self.output.pieces.append(self._greeting)

    @property
    def stats(self) -> Stats:
        """What was counted so far; there are no frames to count."""
        return self.counters.snapshot()

    def open(self) -> Operation[None]:
        """Initialise the server: protocol version and the session constructor's arguments (docs/protocol.md 5).

        Raises RemoteError where it refuses; else as `exchange`.
        """
        request = InitServer(PROTOCOL_VERSION, self._session_args)
        reply = yield from self._ask(request, encode_packet(request), self._timeouts.start_s)
        if isinstance(reply, RemoteException):
            raise RemoteError(reply.message, code=request_label(request))

    def on_port_reopened(self, on_session: Callable[[bool], None], port: str) -> None:
        """Begin anew over a new connection; `on_session` is called when the server has answered there."""
        self.output.pieces[:] = [self._greeting]
        self._client = ClientEndpoint()
        self._closed = ""
        self.trust.note_reset()
        self._on_session = on_session

    def exchange(
        self,
        request: Request,
        packet: bytes,
        *,
        timeout_s: float,
        repeatable: bool,
        epoch: int | None,
        on_progress: Progress | None = None,
        renews: bool = False,
    ) -> Operation[Reply]:
        """Send `request`, encoded as `packet`, and give its reply. Nothing is repeated, and nobody tells of progress.

        Raises BoardResetError for handles of an earlier connection, CallTimeoutError, ClosedError, ProtocolError.
        """
        yield from self._begin_anew()
        self._check_epoch(epoch)
        if not self.trust.is_preparing:
            self.trust.is_used = self.trust.is_asking = True
        return (yield from self._ask(request, packet, timeout_s))

    def _ask(self, request: Request, packet: bytes, timeout_s: float) -> Operation[Reply]:
        if self._closed:
            raise ClosedError(f"the stream is closed ({self._closed}); connect again")
        label = request_label(request)
        data, now = yield AT_ONCE
        self._take(data, now, label)  # an empty packet, or what tells that this stream can be used no more
        self._client.expect(request)
        self.trust.reply_epoch = self.trust.epoch
        self.output.pieces.append(packet)
        self._closed = f"{label} was interrupted"
        deadline = now + timeout_s
        while True:
            data, now = yield deadline
            reply = self._take(data, now, label)
            if reply is not None:
                self._closed = ""
                self.counters.note_answer(deadline - timeout_s)
                return reply
            if now >= deadline:
                self._closed = f"{label} was not answered"
                raise CallTimeoutError(f"no reply of {label} within {timeout_s:g} s; it may have run")

    def cancel(self, now: float) -> bool:
        """Give False: a server cannot be told."""
        return False

    def listen(self, timeout_s: float, *, until_event: bool = False) -> Operation[int]:
        """Take what comes for `timeout_s` seconds. Raises FeatureMissingError where events are wanted."""
        data, now = yield AT_ONCE
        self._take(data, now, "what comes next")
        if self.events.sink.is_wanted:
            raise FeatureMissingError(f"{NO_EVENTS} here: they need a board with the reliable link, on a serial line")
        until = now + timeout_s
        while now < until:
            data, now = yield until
            self._take(data, now, "what comes next")
        return 0

    def copy(self, job: CopyJob) -> Operation[None]:
        """Copy what is to do, one block after the other. Raises as `exchange`, and RemoteError."""
        while job.todo:
            [block] = job.next_blocks(1)
            request = job.request(block)
            packet = encode_packet(request)
            reply = yield from self.exchange(
                request, packet, timeout_s=job.timeout_s, repeatable=False, epoch=job.epoch
            )
            job.accept_replies([reply])

    def begin(self, epoch: int | None) -> Operation[float]:
        """Give the time; initialise the server first where the connection is new. Raises as `exchange`, `open`."""
        yield from self._begin_anew()
        self._check_epoch(epoch)
        data, now = yield AT_ONCE
        self._take(data, now, "what comes next")
        return now

    def _begin_anew(self) -> Operation[None]:
        if self._on_session is not None:
            yield from self.open()
            on_session, self._on_session = self._on_session, None
            self.trust.is_untold = False
            on_session(True)

    def _check_epoch(self, epoch: int | None) -> None:
        if epoch is not None and epoch != self.trust.epoch:
            text = "the connection to the server was lost, and with it the function or array that this request uses"
            raise BoardResetError(f"{text}. Make it again", may_have_run=self.trust.is_out)

    def _take(self, data: bytes, now: float, label: str) -> Reply | None:
        self.counters.now = now
        self.counters.bytes_received += len(data)
        try:
            reply = self._client.feed(data) if data else None
        except ProtocolError as error:
            self._closed = str(error)
            raise
        if isinstance(reply, Shutdown):
            self._closed = "the server shut down"
            raise ClosedError(f"the server shut down before it answered {label}; connect again")
        return reply

    def close(self, shutdown: bool) -> Operation[None]:
        """Send Shutdown; on a stream this ends the server's loop for this client only."""
        yield AT_ONCE
        if not self._closed:
            self.output.pieces.append(self._client.shutdown())
            self._closed = "it was closed here"
