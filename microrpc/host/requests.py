"""What the host does with a board, one generator an operation: look-ups, calls, memory. `copying.py` has the copies.

Built on a conversation (`microrpc.host.connection`, `microrpc.host.stream`), and like it sans I/O. `microrpc.host.board` makes
of these what users see. Requests are checked against the board's limit before they are sent (docs/protocol.md 4): a
stock board dies of one that is too large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from microrpc.errors import ProtocolError, RemoteError, RequestTooLargeError
from microrpc.host.blocks import UNLIMITED
from microrpc.host.operation import Operation
from microrpc.host.stats import Counters
from microrpc.wire.datatypes import CPU, ArrayResult, ModuleHandle, OpaqueHandle, Tensor, TypeCode, Value
from microrpc.wire.names import MAX_PACKET_SIZE_FUNCTION, SYSTEM_LIBRARY_FUNCTION
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

if TYPE_CHECKING:
    from microrpc.host.linked import LinkedConversation


_PACKET_NBYTES = 8
# What fits every board there is (256-byte buffers exist, and bytes of a handshake may still lie in them), so that a
# board's limit need not be asked for the sake of a small request.
_SMALL_PACKET_BYTES = 192
_FIRST_PACKET_BYTES = 64

Progress = Callable[[int, int], None]


class Exchanger(Protocol):
    """What the operations need of a conversation: `microrpc.host.connection`'s, `linked`'s or `stream`'s."""

    epoch: int
    reply_epoch: int
    repeats: int
    counters: Counters

    @property
    def linked(self) -> LinkedConversation | None:
        """The conversation, where requests go over a link now (docs/link.md)."""

    @property
    def is_fresh(self) -> bool:
        """Whether no request was answered in this session yet."""

    def begin(self, epoch: int | None) -> Operation[float]:
        """Come to where a request may be sent; give the time."""

    def exchange(
        self, request: Request, packet: bytes, *, timeout_s: float, repeatable: bool, epoch: int | None
    ) -> Operation[Reply]:
        """Send a request and give its reply."""

    ring_bytes: int
    """What the board's ring takes besides the request that is being read; 0 where nobody knows."""

    def exchange_batch(
        self, requests: Sequence[Request], *, timeout_s: float, epoch: int | None
    ) -> Operation[list[Reply]]:
        """Send requests that may be repeated, several at once where the ring takes them; give their replies."""


class Host:
    """The operations of one conversation. `call_s` is how long a reply is waited for where nothing else is said."""

    def __init__(self, conversation: Exchanger, *, call_s: float) -> None:
        self.conversation = conversation
        self.call_s = call_s
        self._limit_bytes = 0
        self._limit_epoch = -1

    def request(
        self,
        request: Request,
        *,
        timeout_s: float | None = None,
        repeatable: bool = False,
        epoch: int | None = None,
        function: str = "",
    ) -> Operation[Return | CopyAck]:
        """Send any request and give its reply.

        Raises RequestTooLargeError before anything is sent, RemoteError where the board answers with an exception,
        and what the conversation raises. `function` names what is called, for messages.
        """
        packet = encode_packet(request)
        small = _FIRST_PACKET_BYTES if self.conversation.is_fresh else _SMALL_PACKET_BYTES
        if len(packet) > small:
            limit_bytes = yield from self.max_packet_bytes()
            size_bytes = len(packet) - _PACKET_NBYTES
            if size_bytes > limit_bytes:
                raise RequestTooLargeError(
                    f"{function or request_label(request)} is a packet of {size_bytes} bytes, and the board takes "
                    f"{limit_bytes}: pass less at once, and large data as arrays on the board; nothing was sent",
                    size_bytes=size_bytes,
                    limit_bytes=limit_bytes,
                )
        reply = yield from self.conversation.exchange(
            request,
            packet,
            timeout_s=self.call_s if timeout_s is None else timeout_s,
            repeatable=repeatable,
            epoch=epoch,
        )
        if isinstance(reply, RemoteException):
            raise RemoteError(reply.message, function=function, code=request_label(request))
        return reply

    def request_batch(self, requests: Sequence[Request], *, epoch: int | None) -> Operation[list[Reply]]:
        """Send requests that may be repeated and that the board can take; give their replies. Raises as `request`."""
        replies = yield from self.conversation.exchange_batch(requests, timeout_s=self.call_s, epoch=epoch)
        for request, reply in zip(requests, replies, strict=True):
            if isinstance(reply, RemoteException):
                raise RemoteError(reply.message, code=request_label(request))
        return replies

    def syscall(
        self, code: PacketCode, *args: Value, repeatable: bool = False, epoch: int | None = None
    ) -> Operation[Value]:
        """Send a syscall and give the one value that it returns."""
        reply = yield from self.request(Syscall(code, args), repeatable=repeatable, epoch=epoch)
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
        timeout_s: float | None = None,
        repeatable: bool = False,
        epoch: int | None = None,
        function: str = "",
    ) -> Operation[Value | ArrayResult]:
        """Call a function by handle and give its result."""
        reply = yield from self.request(
            CallFunc(handle, args), timeout_s=timeout_s, repeatable=repeatable, epoch=epoch, function=function
        )
        if not isinstance(reply, Return):
            raise ProtocolError("3", f"{function or 'a call'} returned {type(reply).__name__}")
        return decode_result(reply.values)

    def max_packet_bytes(self) -> Operation[int]:
        """Give the largest packet that the board takes, asked once per boot (docs/protocol.md 4); a link tells it."""
        yield from self.conversation.begin(None)
        if self.conversation.linked is not None:
            return self.conversation.linked.limit_bytes
        if self._limit_epoch != self.conversation.epoch or not self._limit_bytes:
            handle = yield from self.look_up(MAX_PACKET_SIZE_FUNCTION)
            limit: Value | ArrayResult = UNLIMITED
            if handle:
                epoch = self.conversation.reply_epoch
                limit = yield from self.call(
                    handle, (), repeatable=True, epoch=epoch, function=MAX_PACKET_SIZE_FUNCTION
                )
            if not isinstance(limit, int) or limit <= 0:
                raise ProtocolError("4", f"{MAX_PACKET_SIZE_FUNCTION} returned {limit!r}, not a positive number")
            self._limit_bytes = limit
            self._limit_epoch = self.conversation.epoch
        return self._limit_bytes

    def system_library(self) -> Operation[int]:
        """Give the handle of the system library, 0 where the board has none."""
        handle = yield from self.look_up(SYSTEM_LIBRARY_FUNCTION)
        if not handle:
            return 0
        epoch = self.conversation.reply_epoch
        module = yield from self.call(handle, (), repeatable=True, epoch=epoch, function=SYSTEM_LIBRARY_FUNCTION)
        return int(module) if isinstance(module, ModuleHandle) else 0

    # --- memory --------------------------------------------------------------------------------

    def alloc(self, tensor: Tensor, scope: str | None) -> Operation[int]:
        """Allocate what `tensor` (its data ignored) needs, in a memory scope or None; give the address.

        Not repeated after doubt: it raises, and a block that was allocated all the same stays until the board's reset.
        """
        return (yield from self._handle(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, tensor, scope))

    def free(self, handle: int, type_code: TypeCode | None, epoch: int) -> Operation[None]:
        """Give a handle back, or memory where `type_code` is None. Not repeated: it could free another's."""
        if type_code is None:
            yield from self.syscall(PacketCode.DEV_FREE_DATA, CPU, OpaqueHandle(handle), epoch=epoch)
        else:
            yield from self.syscall(PacketCode.FREE_HANDLE, OpaqueHandle(handle), int(type_code), epoch=epoch)

    def _handle(self, code: PacketCode, *args: Value, repeatable: bool = False) -> Operation[int]:
        value = yield from self.syscall(code, *args, repeatable=repeatable)
        if value is None:
            return 0
        if not isinstance(value, int):
            raise ProtocolError("3", f"{code.label} returned {value!r}, not a handle")
        return int(value)
