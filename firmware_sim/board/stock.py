"""The receive side of the real C runtime, with everything that is wrong with it (docs/protocol.md 6).

Payload bytes go into the receive buffer as they are unescaped, before anybody knows their crc. What a damaged frame
left there is taken for the beginning of the next message, so the board answers one message behind. The buffer is
cleared by a NORMAL message of the current session and by nothing else; a message that it does not want leaves it
blocked, and the next byte kills the board. Dead, it is deaf until it is reset.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from firmware_sim.board.clock import Clock
from firmware_sim.board.parts import Stats
from firmware_sim.board.unframer import DeadError, Unframer
from microrpc.errors import ProtocolError
from microrpc.serve.endpoint import Done, ServerEndpoint, ServerStatus, ServingSession
from microrpc.serve.local import BoardArray, FunctionError, Module
from microrpc.serve.memory import BlockKind, Memory, MemoryAccessError, OutOfMemoryError
from microrpc.wire.names import RANDOM_FILL_FUNCTION
from microrpc.wire.packets import PacketCode, RemoteException, Reply, Request, Syscall, decode_packet
from microrpc.wire.session import HEADER_SIZE_BYTES, MessageType, encode_message, make_session_id, step_nonce
from microrpc.wire.signatures import fits_signature
from microrpc.wire.values import decode_values

_HEADER = struct.Struct("<HB")
_NBYTES = struct.Struct("<Q")
_TENSOR_AT = 4  # in a copy's body


class StockMemory(Memory):
    """The heap of the C runtime: an empty block aliases the next one, and running out of memory has no text."""

    table_entry_bytes = 0

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self._empty: list[tuple[int, BlockKind]] = []

    def alloc(self, size_bytes: int, alignment_bytes: int = 8, kind: BlockKind = BlockKind.DATA) -> int:
        """Allocate first fit; for 0 bytes, give the address that is free next, and leave it free."""
        try:
            address = super().alloc(size_bytes, alignment_bytes, kind)
        except OutOfMemoryError:
            raise FunctionError("") from None
        if size_bytes == 0:
            super().free(address, kind)
            self._empty.append((address, kind))
        return address

    def holds(self, address: int, kind: BlockKind) -> bool:
        """Whether a block of this kind begins at `address`."""
        return (address, kind) in self._empty or super().holds(address, kind)

    def free(self, address: int, kind: BlockKind = BlockKind.DATA) -> None:
        """Free what `alloc` gave."""
        if (address, kind) in self._empty:
            self._empty.remove((address, kind))
        else:
            super().free(address, kind)

    def view(self, address: int, size_bytes: int) -> memoryview:
        """Give `size_bytes` at `address`, allocated or not; an address outside the heap is refused."""
        offset = address - self.base_address
        if size_bytes and not 0 <= offset <= offset + size_bytes <= self.size_bytes:
            raise MemoryAccessError(f"{size_bytes} bytes at 0x{address:x} are outside the heap")
        return memoryview(self._storage)[offset : offset + size_bytes] if size_bytes else memoryview(bytearray())

    def clear(self) -> None:
        """Lose everything."""
        super().clear()
        self._empty.clear()


_FIXED_TEXTS = {
    PacketCode.DEV_SET_DEVICE: "SetDevice not supported",
    PacketCode.DEV_GET_ATTR: "GetAttr not supported",
}
_UNKNOWN_SYSCALL = "Syscall not recognized"


def _fixed_text(request: Request) -> str:
    """Give what the C runtime answers without a look at anything but the code; empty for what it does look at."""
    if not isinstance(request, Syscall):
        return ""
    return _FIXED_TEXTS.get(request.code, "") if isinstance(request.code, PacketCode) else _UNKNOWN_SYSCALL


def register_stock(functions: Module) -> None:
    """Give functions of the runtime in the registry `functions` what is wrong with them in the C runtime."""
    random_fill = functions[RANDOM_FILL_FUNCTION]

    def fill_or_fail(*arguments: object) -> None:
        if len(arguments) != 1 or not isinstance(arguments[0], BoardArray):
            raise FunctionError("")
        random_fill(*arguments)

    functions[RANDOM_FILL_FUNCTION] = fill_or_fail


class LastError:
    """Serves by `serving`, with the one error text that the C runtime has, and any memory scope.

    An error that brings no text repeats that of the error before it, and is empty where there was none. What is
    refused by its code alone has its text, and leaves the other one as it is.
    """

    is_async = False
    """It answers at once, as what it serves by does."""

    def __init__(self, serving: ServingSession) -> None:
        self._serving = serving
        self._text = ""

    def submit(self, request: Request, done: Done) -> None:
        """Execute `request`."""

        fixed = _fixed_text(request)

        def give(reply: Reply) -> None:
            if fixed:
                reply = RemoteException(fixed)
            elif isinstance(reply, RemoteException):
                self._text = reply.message or self._text
                reply = RemoteException(self._text)
            done(reply)

        if isinstance(request, Syscall) and request.code == PacketCode.DEV_ALLOC_DATA_WITH_SCOPE:
            request = Syscall(request.code, (request.args[0], None))
        self._serving.submit(request, give)


class StockPort:
    """The C runtime's framing, session and server, with a receive buffer of `packet_size_bytes`.

    It is the plain port: the Zephyr and Arduino ports survive a packet that is restarted, this one does not. `clock`
    is where its first nonce comes from. Not modelled: what an address outside its heap does to a real board (it is
    answered with an exception here), and the UART's ring buffer, which belongs to the line.
    """

    def __init__(
        self,
        serving: ServingSession,
        send: Callable[[bytes], None],
        stats: Stats,
        *,
        packet_size_bytes: int,
        clock: Clock,
    ) -> None:
        self.is_busy = False
        """It never is: a long function runs to its end at once."""
        self.listens = True
        """It always does."""
        self._clock = clock
        self._send = send
        self._stats = stats
        self._capacity = packet_size_bytes
        self._buffer = bytearray()
        self._unframer = Unframer(self._write, self._on_frame)
        self._serving = serving
        self.is_dead = False
        """Whether nothing but a reset will make it answer again."""

    def boot(self, seed: int) -> None:
        """Start from nothing: no session, a nonce read off the clock (`seed` is for other ports); say TERMINATE."""
        self.is_dead = False
        self._nonce = round(self._clock.now() * 1000) % 256
        self._session_id: int | None = None
        self._is_blocked = False  # the buffer holds a message that was complete and not wanted
        self._clear_buffer()
        self._unframer.reset()
        self._server = ServerEndpoint(session=LastError(self._serving))
        self._send(encode_message(0, MessageType.TERMINATE_SESSION))

    def go_on(self) -> None:
        """See `Port`: there is nothing under way."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the line."""
        if self.is_dead:
            return
        try:
            self._unframer.feed(data)
        except DeadError:
            self.is_dead = True

    # --- the receive buffer ---------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        if self._is_blocked:
            raise DeadError("the receive buffer is busy")
        if len(self._buffer) + len(data) > self._capacity:
            raise DeadError("the receive buffer overflows")
        self._buffer += data

    def _read(self, size_bytes: int) -> bytes:
        data = bytes(self._buffer[self._read_at : self._read_at + size_bytes])
        self._read_at += len(data)
        return data

    def _clear_buffer(self) -> None:
        self._buffer.clear()
        self._read_at = 0

    # --- messages -------------------------------------------------------------------------------

    def _on_frame(self, is_valid: bool) -> None:
        if not is_valid:
            self._stats.frames_damaged += 1
            return
        self._stats.frames_received += 1
        header = self._read(HEADER_SIZE_BYTES)
        if len(header) < HEADER_SIZE_BYTES:
            self._stats.messages_dropped += 1
            return
        session_id, message_type = _HEADER.unpack(header)
        if message_type == MessageType.START_SESSION_INIT:
            self._on_init(session_id & 0xFF)
        elif message_type == MessageType.START_SESSION_REPLY:
            if session_id >> 8 and self._read(1):
                self._session_id = None
        elif message_type == MessageType.TERMINATE_SESSION:
            self._session_id = None
        elif message_type == MessageType.NORMAL and session_id == self._session_id:
            self._serve(session_id)
        else:
            self._stats.messages_dropped += 1
            self._is_blocked = True

    def _on_init(self, initiator_nonce: int) -> None:
        if initiator_nonce and self._read(1):  # whatever version it is
            self._nonce = step_nonce(self._nonce)
            self._session_id = make_session_id(initiator_nonce, self._nonce)
            self._send(encode_message(self._session_id, MessageType.START_SESSION_REPLY, b"\x01"))

    def _serve(self, session_id: int) -> None:
        """Execute the one packet at the read cursor, and forget whatever else the buffer holds."""
        nbytes = self._read(_NBYTES.size)
        body = bytes(self._buffer[self._read_at :])
        if len(nbytes) < _NBYTES.size:
            raise DeadError("it waits for packet_nbytes")
        if any(nbytes):
            packet = _first_packet(body)
            server = self._server
            if server.feed(_NBYTES.pack(len(packet)) + packet) is ServerStatus.SHUT_DOWN:
                raise DeadError("it was shut down")
            if self._server is not server:  # what was called has reset the board
                return
            self._send(_HEADER.pack(session_id, MessageType.NORMAL) + server.take_output())
        self._clear_buffer()


def _first_packet(body: bytes) -> bytes:
    """Give the packet that `body` begins with; DeadError where it is malformed, or breaks off."""
    try:
        packet = body[: _packet_size(body)]
        decoded = decode_packet(packet)
    except (ProtocolError, struct.error):
        raise DeadError("the packet is malformed") from None
    if isinstance(decoded, Syscall) and not _fixed_text(decoded) and not fits_signature(decoded):
        raise DeadError("a syscall with wrong arguments, which waits for ever for the right ones")
    return packet


def _packet_size(body: bytes) -> int:
    """How many bytes the packet at the start of `body` has, by what is in it: packet_nbytes is not looked at."""
    code = _integer("<i", body, 0)
    if code >= PacketCode.GET_GLOBAL_FUNC:
        return decode_values(body, 4)[1]
    if code == PacketCode.CALL_FUNC:
        return decode_values(body, 12)[1]
    if code == PacketCode.SHUTDOWN:
        return 4
    if code == PacketCode.INIT_SERVER:
        return decode_values(body, 12 + _integer("<Q", body, 4))[1]
    end = _TENSOR_AT + 32 + 8 * _integer("<i", body, _TENSOR_AT + 16) + 8  # of the tensor, and a size after it
    if code == PacketCode.COPY_FROM_REMOTE:
        return end
    if code == PacketCode.COPY_TO_REMOTE:
        return end + _integer("<Q", body, end - 8)
    raise ProtocolError("3", f"a device does not take a packet of code {code}")


def _integer(form: str, body: bytes, at: int) -> int:
    return int(struct.unpack_from(form, body, at)[0])
