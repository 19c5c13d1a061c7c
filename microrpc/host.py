"""What the host does with a board, one generator an operation: look-ups, calls, memory and chunked copies.

Built on a conversation (`microrpc.conversation`, `microrpc.stream`), and like it sans I/O. `microrpc.operations` makes
of these what users see. Requests are checked against the board's limit before they are sent (docs/protocol.md 4): a
stock board dies of one that is too large.
"""

from __future__ import annotations

from collections.abc import Callable

from microrpc.chunking import UNLIMITED, plan_copy
from microrpc.codec import (
    CallFunc,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    PacketCode,
    RemoteException,
    Request,
    Return,
    Syscall,
    decode_result,
    encode_packet,
)
from microrpc.conversation import MAX_ATTEMPTS, Exchanger, Operation
from microrpc.datatypes import CPU, ArrayResult, ModuleHandle, OpaqueHandle, Tensor, TypeCode, Value
from microrpc.endpoint import request_label
from microrpc.errors import DamagedReplyError, ProtocolError, RemoteError, RequestTooLargeError

MAX_PACKET_SIZE_FUNCTION = "tvm.rpc.server.GetCRTMaxPacketSize"
SYSTEM_LIBRARY_FUNCTION = "runtime.SystemLib"
MODULE_GET_FUNCTION = "tvm.rpc.server.ModuleGetFunction"

_PACKET_NBYTES = 8
# What fits every board there is (256-byte buffers exist, and bytes of a handshake may still lie in them), so that a
# board's limit need not be asked for the sake of a small request.
_SMALL_PACKET_BYTES = 192
_FIRST_PACKET_BYTES = 64

Progress = Callable[[int, int], None]


class Host:
    """The operations of one conversation. `call_s` is how long a reply is waited for where nothing else is said."""

    def __init__(self, conversation: Exchanger, *, call_s: float) -> None:
        self._conversation = conversation
        self._call_s = call_s
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
        small = _FIRST_PACKET_BYTES if self._conversation.is_fresh else _SMALL_PACKET_BYTES
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
        reply = yield from self._conversation.exchange(
            request,
            packet,
            timeout_s=self._call_s if timeout_s is None else timeout_s,
            repeatable=repeatable,
            epoch=epoch,
        )
        if isinstance(reply, RemoteException):
            raise RemoteError(reply.message, function=function, code=request_label(request))
        return reply

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
        """Give the largest packet that the board takes, asked once per boot (docs/protocol.md 4)."""
        if self._limit_epoch != self._conversation.epoch or not self._limit_bytes:
            handle = yield from self.look_up(MAX_PACKET_SIZE_FUNCTION)
            limit: Value | ArrayResult = UNLIMITED
            if handle:
                epoch = self._conversation.reply_epoch
                limit = yield from self.call(
                    handle, (), repeatable=True, epoch=epoch, function=MAX_PACKET_SIZE_FUNCTION
                )
            if not isinstance(limit, int) or limit <= 0:
                raise ProtocolError("4", f"{MAX_PACKET_SIZE_FUNCTION} returned {limit!r}, not a positive number")
            self._limit_bytes = limit
            self._limit_epoch = self._conversation.epoch
        return self._limit_bytes

    def system_library(self) -> Operation[int]:
        """Give the handle of the system library, 0 where the board has none."""
        handle = yield from self.look_up(SYSTEM_LIBRARY_FUNCTION)
        if not handle:
            return 0
        epoch = self._conversation.reply_epoch
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

    def copy_to(
        self, data: memoryview, tensor: Tensor, *, epoch: int | None = None, on_progress: Progress | None = None
    ) -> Operation[None]:
        """Copy bytes into a tensor, in blocks that the board can take (docs/protocol.md 4).

        `on_progress` is called with (bytes done, bytes in all) after each block. Raises CopyRangeError. A block that
        is in doubt is sent again; then the whole is read back, because a stock board executes a damaged block too,
        and may have put it over the others.
        """
        for _ in range(MAX_ATTEMPTS):
            repeats = self._conversation.repeats
            yield from self._write(data, tensor, epoch, on_progress)
            if self._conversation.repeats == repeats:
                return
            found = bytearray(len(data))
            yield from self.copy_from(tensor, memoryview(found), epoch=epoch)
            if found == data:
                return
        raise DamagedReplyError(f"damage on the line: what is in the array differs after {MAX_ATTEMPTS} copies")

    def _write(
        self, data: memoryview, tensor: Tensor, epoch: int | None, on_progress: Progress | None
    ) -> Operation[None]:
        size_bytes = len(data)
        limit_bytes = (yield from self.max_packet_bytes()) if size_bytes else UNLIMITED
        done_bytes = 0
        for block in plan_copy(tensor, size_bytes, limit_bytes):
            chunk = data[done_bytes : done_bytes + block.size_bytes]
            request = CopyToRemote(_at(tensor, block.byte_offset), chunk)
            yield from self.request(request, repeatable=True, epoch=epoch)
            done_bytes += block.size_bytes
            if on_progress is not None:
                on_progress(done_bytes, size_bytes)

    def copy_from(
        self, tensor: Tensor, into: memoryview, *, epoch: int | None = None, on_progress: Progress | None = None
    ) -> Operation[None]:
        """Copy bytes out of a tensor; otherwise as `copy_to`."""
        size_bytes = len(into)
        limit_bytes = (yield from self.max_packet_bytes()) if size_bytes else UNLIMITED
        done_bytes = 0
        for block in plan_copy(tensor, size_bytes, limit_bytes):
            request = CopyFromRemote(_at(tensor, block.byte_offset), block.size_bytes)
            reply = yield from self.request(request, repeatable=True, epoch=epoch)
            if not isinstance(reply, CopyAck):
                raise ProtocolError("3", f"CopyFromRemote was answered by {type(reply).__name__}")
            into[done_bytes : done_bytes + block.size_bytes] = reply.data
            done_bytes += block.size_bytes
            if on_progress is not None:
                on_progress(done_bytes, size_bytes)


def _at(tensor: Tensor, byte_offset: int) -> Tensor:
    return Tensor(tensor.data, tensor.device, tensor.dtype, tensor.shape, byte_offset)
