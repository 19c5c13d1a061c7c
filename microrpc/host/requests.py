"""What the host asks a board, one generator a question: look-ups, calls, memory. `microrpc.host.copies` has the copies.

Requests are checked against the board's limit before they are sent (docs/protocol.md 4): a stock board dies of one that
is too large. `microrpc.host.board` makes of these what users see.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import Protocol, SupportsIndex, TypeVar, overload

from microrpc.errors import ProtocolError, RemoteError, RequestTooLargeError
from microrpc.host.blocks import UNLIMITED
from microrpc.host.events import EventHost
from microrpc.host.job import CopyJob, Progress
from microrpc.host.operation import Operation
from microrpc.host.output import Output
from microrpc.host.stats import Counters, Stats
from microrpc.host.trust import Trust
from microrpc.wire.checks import check_seconds, show
from microrpc.wire.datatypes import CPU, ArrayResult, ModuleHandle, OpaqueHandle, Tensor, TypeCode, Value
from microrpc.wire.features import Features
from microrpc.wire.link import LinkParameters
from microrpc.wire.names import (
    LEAST_BUFFER_BYTES,
    MAX_PACKET_SIZE_FUNCTION,
    MESSAGE_OVERHEAD_BYTES,
    PACKET_NBYTES,
    RELEASE_FUNCTION,
    SYSTEM_LIBRARY_FUNCTION,
)
from microrpc.wire.packets import (
    CallFunc,
    CopyAck,
    PacketCode,
    RemoteException,
    Reply,
    Request,
    Return,
    Syscall,
    decode_result,
    encode_packet,
)
from microrpc.wire.reader import request_label
from microrpc.wire.signatures import check_signature

# What fits every board there is (docs/protocol.md 4), so that a board's limit need not be asked for the sake of a small
# request. The first one of a session is smaller: bytes of several handshakes may still lie in the board's buffer.
_SMALL_PACKET_BYTES = LEAST_BUFFER_BYTES - MESSAGE_OVERHEAD_BYTES + PACKET_NBYTES
_FIRST_PACKET_BYTES = 64

# What firmware of ours says; a stock board has no text for the first two.
_OUT_OF_MEMORY = "out of memory: "
_NO_SCOPE = "no such memory scope"
_NO_SUCH_BLOCK = "cannot allocate "

T = TypeVar("T")


class AnyConnection(Protocol):
    """What asks a board: `microrpc.host.connection.Connection` or `microrpc.host.stream.StreamConnection`.

    trust: what is believed of the board. counters: what crossed the line. output: what is to be sent now. events: what
    the board says without being asked, and who takes it.
    """

    trust: Trust
    counters: Counters
    output: Output
    events: EventHost

    @property
    def session_id(self) -> int:
        """The id of the session, 0 without one."""

    @property
    def stats(self) -> Stats:
        """What was counted so far."""

    @property
    def link(self) -> LinkParameters | None:
        """What the board told of its link; None without one."""

    @property
    def features(self) -> Features:
        """What the board knows besides the link; nothing without one."""

    @property
    def limit_bytes(self) -> int | None:
        """The largest packet that the board takes, without its packet_nbytes; None where it must be asked."""

    @property
    def is_fresh(self) -> bool:
        """Whether no request was answered in this session yet."""

    def open(self) -> Operation[None]:
        """Begin."""

    def begin(self, epoch: int | None) -> Operation[float]:
        """Come to where a request may be sent; give the time."""

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
        """Send a request and give its reply; have blocks of a copy cross `beside` it, where that is possible."""

    def cancel(self, now: float) -> bool:
        """Have the board end the call under way; give whether it can be told."""

    def listen(self, timeout_s: float, *, until_event: bool = False) -> Operation[int]:
        """Take events for so long; give how many came."""

    @property
    def listens_at(self) -> float:
        """When `listen` has something to send, although nothing came; infinity where it has not."""

    def copy(self, job: CopyJob) -> Operation[None]:
        """Copy what is to do."""

    def close(self, shutdown: bool) -> Operation[None]:
        """End."""

    def on_port_reopened(self, on_session: Callable[[bool], None], port: str) -> None:
        """Begin anew over `port`, opened again; `on_session` is told whether the board lost its memory."""


def memory_advice(message: str, *, is_ours: bool) -> str:
    """Give what is said where a board seems to have no memory left, and says `message`.

    `is_ours`: the board knows the link, so its text is what it says, and it can release all memory.
    """
    likely = "most likely its memory is full, perhaps of what an earlier program left there: free arrays, or "
    if is_ours:
        return f"{likely}all that is left over with `connect(..., release=True)` or `microrpc reset --memory`"
    if message.startswith(_OUT_OF_MEMORY):  # of firmware of ours, behind a server or without the link
        return f"{likely}reset the board"
    return f"{likely}reset the board. Stock firmware has no text for this: if there is one, it may be an older error's"


def allocation_advice(args: tuple[Value, ...], message: str, *, is_ours: bool) -> str:
    """Give what is said of an allocation with these arguments, which a board refused; the rest as `memory_advice`."""
    if message.startswith(_OUT_OF_MEMORY):  # which tells how much itself
        return memory_advice(message, is_ours=is_ours)
    asked = f"{show(_asked_bytes(args))} bytes were asked for"
    if _NO_SCOPE in message or (is_ours and message.startswith(_NO_SUCH_BLOCK)):
        return asked
    return f"{asked}; {memory_advice(message, is_ours=is_ours)}"


def _asked_bytes(args: tuple[Value, ...]) -> int:
    """Give how many bytes an allocation asks for: those of its tensor, or the first number."""
    return next(
        arg.size_bytes if isinstance(arg, Tensor) else index(arg)
        for arg in args
        if isinstance(arg, Tensor | SupportsIndex)
    )


class Requests:
    """The questions of one connection. `call_s` is how long a reply is waited for where nothing else is said."""

    def __init__(self, connection: AnyConnection, *, call_s: float) -> None:
        self.connection = connection
        self.call_s = check_seconds(call_s, "call_s")
        self._limit_bytes = 0
        self._limit_epoch = -1

    @overload
    def request(
        self,
        request: Request,
        *,
        timeout_s: float | None = None,
        repeatable: bool = False,
        epoch: int | None = None,
        function: str = "",
        on_progress: Progress | None = None,
        renews: bool = False,
        beside: CopyJob | None = None,
    ) -> Operation[Return | CopyAck]: ...

    @overload
    def request(
        self,
        request: Request,
        *,
        timeout_s: float | None = None,
        repeatable: bool = False,
        epoch: int | None = None,
        function: str = "",
        on_progress: Progress | None = None,
        renews: bool = False,
        beside: CopyJob | None = None,
        finish: Callable[[Return | CopyAck, str], T],
    ) -> Operation[T]: ...

    def request(
        self,
        request: Request,
        *,
        timeout_s: float | None = None,
        repeatable: bool = False,
        epoch: int | None = None,
        function: str = "",
        on_progress: Progress | None = None,
        renews: bool = False,
        beside: CopyJob | None = None,
        finish: Callable[[Return | CopyAck, str], T] | None = None,
    ) -> Operation[T | Return | CopyAck]:
        """Send any request and give its reply, or what `finish` makes of it and `function`.

        `function` names what is called, for messages. on_progress: told how far a call has come, as (done, total),
        where the board tells; without a `timeout_s`, or where it `renews`, the time begins anew then. beside: as the
        connection has it. Raises
        RequestTooLargeError, and UnsupportedValueError for what a syscall does not take, before anything is sent;
        RemoteError where the board answers with an exception; and what the connection raises.
        """
        if type(request) is Syscall:
            check_signature(request)
        packet = encode_packet(request)
        if len(packet) > _FIRST_PACKET_BYTES:
            yield from self._check_fits(len(packet), request, function)
        reply = yield from self.connection.exchange(
            request,
            packet,
            timeout_s=self.call_s if timeout_s is None else timeout_s,
            repeatable=repeatable,
            epoch=epoch,
            on_progress=on_progress,
            renews=renews or timeout_s is None,
            beside=beside,
        )
        if isinstance(reply, RemoteException):
            advice = (
                memory_advice(reply.message, is_ours=self.connection.link is not None)
                if reply.message.startswith(_OUT_OF_MEMORY)
                else ""
            )
            raise RemoteError(reply.message, function=function, code=request_label(request), advice=advice)
        return reply if finish is None else finish(reply, function)

    def _check_fits(self, packet_bytes: int, request: Request, function: str) -> Operation[None]:
        limit_bytes = self.connection.limit_bytes  # which a link tells
        if limit_bytes is None:
            if packet_bytes <= (_FIRST_PACKET_BYTES if self.connection.is_fresh else _SMALL_PACKET_BYTES):
                return
            limit_bytes = yield from self.limit_before()
        size_bytes = packet_bytes - PACKET_NBYTES
        if size_bytes > limit_bytes:
            raise RequestTooLargeError(
                f"{function or request_label(request)} is a packet of {size_bytes} bytes, and the board takes "
                f"{limit_bytes}: pass less at once, and large data as arrays on the board; nothing was sent",
                size_bytes=size_bytes,
                limit_bytes=limit_bytes,
            )

    def syscall(
        self,
        code: PacketCode,
        *args: Value,
        repeatable: bool = False,
        epoch: int | None = None,
        timeout_s: float | None = None,
    ) -> Operation[Value]:
        """Send a syscall and give the one value that it returns. Raises as `request`, and ProtocolError."""
        reply = yield from self.request(Syscall(code, args), timeout_s=timeout_s, repeatable=repeatable, epoch=epoch)
        if not isinstance(reply, Return) or len(reply.values) != 1:
            raise ProtocolError("3", f"{code.label} returned {reply}, not one value")
        return reply.values[0]

    def look_up(self, name: str) -> Operation[int]:
        """Give the handle of a global function, 0 where there is none of that name."""
        return (yield from self._handle(PacketCode.GET_GLOBAL_FUNC, name, repeatable=True))

    def call(
        self,
        handle: int,
        args: tuple[Value, ...],
        *,
        repeatable: bool = True,
        epoch: int | None = None,
        function: str = "",
    ) -> Operation[Value | ArrayResult]:
        """Call a function of the runtime and give its result; `repeatable`: again after doubt."""
        reply = yield from self.request(CallFunc(handle, args), repeatable=repeatable, epoch=epoch, function=function)
        if not isinstance(reply, Return):
            raise ProtocolError("3", f"{function} returned {type(reply).__name__}")
        return decode_result(reply.values)

    def max_packet_bytes(self) -> Operation[int]:
        """Give the largest packet that the board takes, without its packet_nbytes; UNLIMITED where it knows none.

        It is asked once per boot (docs/protocol.md 4); a link tells it.
        """
        connection = self.connection
        yield from connection.begin(None)
        if connection.limit_bytes is not None:
            return connection.limit_bytes
        if self._limit_epoch != connection.trust.epoch or not self._limit_bytes:
            handle = yield from self.look_up(MAX_PACKET_SIZE_FUNCTION)
            limit: Value | ArrayResult = UNLIMITED
            if handle:
                epoch = connection.trust.reply_epoch
                limit = yield from self.call(handle, (), epoch=epoch, function=MAX_PACKET_SIZE_FUNCTION)
            if not isinstance(limit, int) or limit <= 0:
                raise ProtocolError("4", f"{MAX_PACKET_SIZE_FUNCTION} returned {show(limit)}, not a positive number")
            self._limit_bytes = limit
            self._limit_epoch = connection.trust.reply_epoch
        return self._limit_bytes

    def limit_before(self) -> Operation[int]:
        """As `max_packet_bytes`, on the way to a request, which is not sent with it."""
        trust = self.connection.trust
        trust.is_preparing = True
        try:
            return (yield from self.max_packet_bytes())
        finally:
            trust.is_preparing = False

    def system_library(self) -> Operation[int]:
        """Give the handle of the system library, 0 where the board has none."""
        handle = yield from self.look_up(SYSTEM_LIBRARY_FUNCTION)
        if not handle:
            return 0
        epoch = self.connection.trust.reply_epoch
        module = yield from self.call(handle, (), epoch=epoch, function=SYSTEM_LIBRARY_FUNCTION)
        return int(module) if isinstance(module, ModuleHandle) else 0

    # --- memory --------------------------------------------------------------------------------

    def alloc(self, code: PacketCode, *args: Value, epoch: int | None = None) -> Operation[OpaqueHandle]:
        """Allocate memory by one of the two syscalls for it; give the address.

        Not repeated after doubt: it raises, and a block that was allocated all the same stays until the board's reset.
        Raises RemoteError, with what may be the reason.
        """
        try:
            address = yield from self._handle(code, *args, epoch=epoch)
            message = "" if address else "it gave address 0"
        except RemoteError as error:
            address, message = 0, error.message
        if not address:
            advice = allocation_advice(args, message, is_ours=self.connection.link is not None)
            raise RemoteError(message, code=code.label, advice=advice)
        return OpaqueHandle(address)

    def release_all(self) -> Operation[int | None]:
        """Free all that was allocated over the wire; give how many bytes, None where the board cannot.

        Every handle is stale then. Not repeated after doubt, for the second answer would be 0.
        """
        handle = yield from self.look_up(RELEASE_FUNCTION)
        if not handle:
            return None
        self.connection.trust.forget_handles()
        freed_bytes = yield from self.call(handle, (), repeatable=False, function=RELEASE_FUNCTION)
        if not isinstance(freed_bytes, int):
            raise ProtocolError("3", f"{RELEASE_FUNCTION} returned {show(freed_bytes)}, not a number of bytes")
        return freed_bytes

    def free(self, handle: int, type_code: TypeCode | None, epoch: int, *, timeout_s: float) -> Operation[None]:
        """Give a handle back, or memory where `type_code` is None. Not repeated: it could free another's."""
        thing = OpaqueHandle(handle)
        if type_code is None:
            yield from self.syscall(PacketCode.DEV_FREE_DATA, CPU, thing, epoch=epoch, timeout_s=timeout_s)
        else:
            yield from self.syscall(PacketCode.FREE_HANDLE, thing, int(type_code), epoch=epoch, timeout_s=timeout_s)

    def _handle(
        self, code: PacketCode, *args: Value, repeatable: bool = False, epoch: int | None = None
    ) -> Operation[int]:
        value = yield from self.syscall(code, *args, repeatable=repeatable, epoch=epoch)
        if value is None:
            return 0
        if not isinstance(value, int):
            raise ProtocolError("3", f"{code.label} returned {show(value)}, not a handle")
        return int(value)
