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
    CallCancelledError,
    CallTimeoutError,
    ClosedError,
    FeatureMissingError,
    ProtocolError,
    RemoteError,
)
from microrpc.host.asides import Asides
from microrpc.host.cancelled import between_error, ended_error
from microrpc.host.events import NO_EVENTS, EventHost
from microrpc.host.job import CopyJob, Progress
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.output import Output
from microrpc.host.stats import Counters, Stats
from microrpc.host.trust import Trust
from microrpc.wire.asides import encode_cancel
from microrpc.wire.datatypes import Value
from microrpc.wire.features import Feature, Features
from microrpc.wire.names import STREAM_FUNCTION
from microrpc.wire.packets import (
    PROTOCOL_VERSION,
    CallFunc,
    InitServer,
    PacketCode,
    RemoteException,
    Reply,
    Request,
    Shutdown,
    Syscall,
    encode_packet,
    handle_of,
)
from microrpc.wire.reader import ClientEndpoint, request_label
from microrpc.wire.session import Timeouts

_LOOK_UP = Syscall(PacketCode.GET_GLOBAL_FUNC, (STREAM_FUNCTION,))
_WAIT_S = 60.0  # how long a listener waits for an event at most; nothing depends on it


class StreamConnection:
    """A connection to an RPC server over a byte stream.

    key: the remote key that is sent first, where the server reads one. session_args: those of the server's session
    constructor, its name first. asks: the server is asked before the first call what it says beside its replies
    (docs/link.md 11), so that any call can be cancelled; else only where events or progress are wanted. After a timeout
    the stream cannot be trusted, and everything raises ClosedError. `trust.epoch` counts the connections before this
    one. counters: what crossed the stream. output: what is to be sent now. A stream has no `link` and no `session_id`,
    asks for its `limit_bytes`, and is never `is_fresh`.
    """

    link = None
    limit_bytes = None
    is_fresh = False
    session_id = 0

    def __init__(
        self,
        *,
        timeouts: Timeouts,
        key: str | None = None,
        session_args: tuple[Value, ...] = (),
        asks: bool = False,
    ) -> None:
        self.trust = Trust()
        self.events = EventHost()
        self.counters = Counters()
        self.output = Output(self.counters, has_frames=False)
        self._asides = Asides(self.events, self.output)
        self._asks = asks
        self._timeouts = timeouts
        self._client = ClientEndpoint()
        self._session_args = session_args
        self._closed = ""
        self._own: Request | None = None  # a request of the connection's own that is under way, over operations
        self._own_by = 0.0
        self._own_reply: Reply | None = None
        self._can_cancel = self._is_cancelled = False
        self._on_session: Callable[[bool], None] | None = None
        self._greeting = b"" if key is None else struct.pack("<i", len(key.encode())) + key.encode()
        self.output.pieces.append(self._greeting)

    @property
    def stats(self) -> Stats:
        """What was counted so far; there are no frames to count."""
        return self.counters.snapshot()

    @property
    def features(self) -> Features:
        """What the server knows besides; nothing before it was asked."""
        return self._asides.features or Features()

    def open(self) -> Operation[None]:
        """Initialise the server: protocol version and the session constructor's arguments (docs/protocol.md 5).

        Raises RemoteError where it refuses; else as `exchange`.
        """
        request = InitServer(PROTOCOL_VERSION, self._session_args)
        reply = yield from self._ask_own(request)
        if isinstance(reply, RemoteException):
            raise RemoteError(reply.message, code=request_label(request))

    def on_port_reopened(self, on_session: Callable[[bool], None], port: str) -> None:
        """Begin anew over a new connection; `on_session` is called when the server has answered there."""
        self.output.pieces[:] = [self._greeting]
        self._client = ClientEndpoint()
        self._closed, self._own, self._own_reply = "", None, None
        self._asides.begin()
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
        beside: CopyJob | None = None,
    ) -> Operation[Reply]:
        """Send `request`, encoded as `packet`, and give its reply. Nothing is repeated.

        on_progress: told how far a call has come, where the server tells; renews: then `timeout_s`, in which it may be
        silent, begins anew. Nothing is sent `beside` it. Raises BoardResetError for handles of an earlier connection,
        CallTimeoutError, CallCancelledError, ClosedError, ProtocolError.
        """
        trust = self.trust
        yield from self._begin_anew()
        is_call = type(request) is CallFunc
        if is_call and (self._asks or on_progress is not None):
            yield from self._ask_features()
        self._check_epoch(epoch)
        if trust.is_cancelled:
            raise between_error()
        if not trust.is_preparing:
            trust.is_used = trust.is_asking = True
        self._asides.tell()
        self._can_cancel = is_call and bool(self._asides.known & Feature.CANCEL)
        try:
            return (yield from self._ask(request, packet, timeout_s, on_progress, renews))
        finally:
            self._can_cancel = self._is_cancelled = False

    def _ask(
        self, request: Request, packet: bytes, timeout_s: float, on_progress: Progress | None, renews: bool
    ) -> Operation[Reply]:
        self._check_open()
        label, progress = request_label(request), self._asides.progress
        data, now = yield AT_ONCE
        self._take(data, now, label)  # an empty packet, or what tells that this stream can be used no more
        progress.clear()
        self._client.expect(request)
        self.trust.reply_epoch = self.trust.epoch
        self.output.pieces.append(packet)
        self._closed = f"{label} was interrupted"
        asked_at, deadline, was_cancelled = now, now + timeout_s, False
        while True:
            data, now = yield deadline
            reply = self._take(data, now, label)
            if progress:
                if renews and not was_cancelled:
                    timeout_s = self._timeouts.call_s
                    deadline = now + timeout_s
                while progress:
                    done, total = progress.popleft()
                    if on_progress is not None:
                        on_progress(done, total)
            if reply is not None:
                self._closed = ""
                self.counters.note_answer(asked_at)
                if self._is_cancelled and isinstance(reply, RemoteException):  # at once, too: it was sent by then
                    raise ended_error(label, reply.message)
                return reply
            if self._is_cancelled and not was_cancelled:
                was_cancelled = True
                # The server gives the board `cancel_s`, and tells what came of it.
                timeout_s = max(min(2 * self._timeouts.cancel_s, deadline - now), 0.0)
                deadline = now + timeout_s
            if now >= deadline:
                self._closed = f"{label} was not answered"
                if was_cancelled:
                    raise CallCancelledError(
                        f"{label} was cancelled, and the server did not answer within {timeout_s:.3g} s; it may have "
                        "run, or still be running. This stream can be used no more: connect again"
                    )
                raise CallTimeoutError(f"no reply of {label} within {timeout_s:g} s; it may have run")

    def cancel(self, now: float) -> bool:
        """Have the server end the call under way; False where it cannot be told, or was. See `Connection.cancel`."""
        if not (self._can_cancel and self.trust.is_out) or self._is_cancelled or not self._closed:
            return False
        self._is_cancelled = self.trust.is_cancelled = True
        self.output.pieces.append(encode_cancel())
        return True

    def listen(self, timeout_s: float, *, until_event: bool = False) -> Operation[int]:
        """Take what comes for `timeout_s` seconds, or `until_event`; give how many events were delivered.

        Raises FeatureMissingError where events are wanted and the server sends none, and ClosedError then, too.
        """
        delivered, wanted = self.events.delivered, self.events.sink.is_wanted
        data, now = yield AT_ONCE
        until = now + timeout_s
        self._take(data, now, "what comes next")
        if wanted:
            yield from self._begin_anew()
            self._check_open()
            yield from self._ask_features()
            if not self._asides.known & Feature.EVENTS:
                raise FeatureMissingError(
                    f"{NO_EVENTS} here: over a stream they come from `microrpc share`, of a board with the reliable "
                    "link and MICRORPC_EVENTS"
                )
        while True:
            if not self._closed:
                self._asides.tell()
            if now >= until or (until_event and self.events.delivered > delivered):
                return self.events.delivered - delivered
            data, now = yield until
            self._take(data, now, "what comes next")

    @property
    def listens_at(self) -> float:
        """When `listen` has something to do, although nothing came; later where it has but to take events."""
        is_wanted = self.events.sink.is_wanted
        if self._closed or self._asides.features is None:
            return AT_ONCE if is_wanted else math.inf
        if self._asides.is_due:
            return AT_ONCE
        # One that has no room leaves what comes where it is: then the server keeps it.
        return self.counters.now + _WAIT_S if is_wanted and self.events.sink.has_room else math.inf

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

    # --- what this connection asks for itself ------------------------------------------------------

    def _begin_anew(self) -> Operation[None]:
        if self._on_session is not None:
            yield from self.open()
            on_session, self._on_session = self._on_session, None
            self.trust.is_untold = False
            on_session(True)
        if self._own is not None:
            yield from self._ask_features()

    def _ask_features(self) -> Operation[None]:
        """Ask what the server says beside its replies, once a stream."""
        if self._asides.features is None:
            reply = yield from self._ask_own(_LOOK_UP)
            if isinstance(reply, RemoteException) and self._asks:  # the board is in trouble, and the next request asks
                raise RemoteError(reply.message, code=request_label(_LOOK_UP))
            self._asides.features = Features.from_handle(handle_of(reply))
            if self._asides.known:
                self._client.on_aside = self._asides.receive

    def _ask_own(self, request: Request) -> Operation[Reply]:
        """Ask for what the connection itself must know; an operation that ends meanwhile leaves the reply to others."""
        self._check_open()
        label = request_label(request)
        if self._own is None:
            data, now = yield AT_ONCE
            self._take(data, now, label)
            self._client.expect(request)
            self.trust.reply_epoch = self.trust.epoch
            self.output.pieces.append(encode_packet(request))
            self._own, self._own_by = request, now + self._timeouts.start_s
        while self._own_reply is None:
            data, now = yield self._own_by
            self._take(data, now, label)
            if now >= self._own_by and self._own_reply is None:
                self._closed = f"{label} was not answered"
                raise CallTimeoutError(f"no reply of {label} within {self._timeouts.start_s:g} s; it may have run")
        reply, self._own, self._own_reply = self._own_reply, None, None
        return reply

    # --- all of them -------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the stream is closed ({self._closed}); connect again")

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
        if self._asides.gone:
            self._closed = self._asides.gone
            raise ClosedError(f"{self._closed}; connect again")
        if isinstance(reply, Shutdown):
            self._closed = "the server shut down"
            raise ClosedError(f"the server shut down before it answered {label}; connect again")
        if self._own is not None:
            self._own_reply = reply or self._own_reply
            return None
        return reply

    def close(self, shutdown: bool) -> Operation[None]:
        """Send Shutdown; on a stream this ends the server's loop for this client only."""
        yield AT_ONCE
        if not self._closed:
            self.output.pieces.append(self._client.shutdown())
            self._closed = "it was closed here"
