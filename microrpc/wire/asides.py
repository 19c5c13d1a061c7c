"""What a server over a stream and its client say beside requests and replies (docs/link.md 11).

Whole packets of docs/protocol.md 5, with codes of their own: `is_aside` tells them, from the bytes after packet_nbytes.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import Protocol

from microrpc.errors import ProtocolError
from microrpc.wire.events import EventMessage, EventValue, decode_event_body, encode_event_body

_HEAD = struct.Struct("<Qi")
_CODE = struct.Struct("<i")
_FLAGS = struct.Struct("<B")
_EVENT = struct.Struct("<IIi")  # boot, missed, time_high
_PROGRESS = struct.Struct("<II")
_MOST_U32 = 0xFFFFFFFF
_MOST_NAME_BYTES = 255


class Aside(enum.IntEnum):
    """The codes; WANT and CANCEL are a client's, the others a server's."""

    WANT = 0x4D52_0001
    """What the server may send unasked from now on."""
    CANCEL = 0x4D52_0002
    """The call under way is to be cancelled."""
    EVENT = 0x4D52_0003
    """An event of the board."""
    PROGRESS = 0x4D52_0004
    """How far the call under way has come."""
    GONE = 0x4D52_0005
    """Why the server drops this client."""


FROM_CLIENT = frozenset((Aside.WANT, Aside.CANCEL))
"""What a server takes."""
FROM_SERVER = frozenset((Aside.EVENT, Aside.PROGRESS, Aside.GONE))
"""What a client takes."""


class Want(enum.IntFlag):
    """What a client wants to be sent: the flags of WANT."""

    EVENTS = 1
    """The board's events."""
    PROGRESS = 2
    """How far its calls have come."""
    HOLD = 4
    """Its events are to be kept for it, as far as they can."""


_ALL_WANTS = sum(Want)
WANT_NOTHING = Want(0)
"""What a client wants that has said nothing."""


class AnyEvent(Protocol):
    """An event as a host has it: see `microrpc.host.events.Event`."""

    @property
    def number(self) -> int:
        """See there."""

    @property
    def name(self) -> str:
        """See there."""

    @property
    def values(self) -> tuple[EventValue, ...]:
        """See there."""

    @property
    def time_us(self) -> int:
        """See there."""

    @property
    def missed(self) -> int:
        """See there."""

    @property
    def reliable(self) -> bool:
        """See there."""

    @property
    def boot(self) -> int:
        """See there."""


def is_aside(body: bytes, codes: frozenset[Aside]) -> bool:
    """Whether the packet whose bytes after packet_nbytes are `body` has one of these codes."""
    return len(body) >= _CODE.size and _CODE.unpack_from(body)[0] in codes


def code_of(body: bytes) -> Aside:
    """Give the code of what `is_aside` found to be one."""
    return Aside(_CODE.unpack_from(body)[0])


def _encode(code: Aside, content: bytes = b"") -> bytes:
    return _HEAD.pack(_CODE.size + len(content), code) + content


def encode_want(want: Want) -> bytes:
    """Give the packet of a WANT, from packet_nbytes on."""
    return _encode(Aside.WANT, _FLAGS.pack(want))


def encode_cancel() -> bytes:
    """Give the packet of a CANCEL."""
    return _encode(Aside.CANCEL)


def encode_event_values(event: AnyEvent) -> bytes:
    """Give the last part of an EVENT, which is the same for all who get it: what `encode_event_aside` takes."""
    name = event.name
    if len(name) > _MOST_NAME_BYTES // 4:  # what was no UTF-8 has become longer
        name = name.encode("utf-8", "surrogateescape")[:_MOST_NAME_BYTES].decode("utf-8", "ignore")
    return encode_event_body(
        EventMessage(event.number, event.reliable, event.time_us & _MOST_U32, name, event.values),
    )


def encode_event_aside(event: AnyEvent, missed: int, values: bytes) -> bytes:
    """Give the packet of an EVENT: `missed` is the count of who gets it."""
    head = _EVENT.pack(event.boot & _MOST_U32, min(missed, _MOST_U32), event.time_us >> 32)
    return _encode(Aside.EVENT, head + values)


def encode_progress(done: int, total: int) -> bytes:
    """Give the packet of a PROGRESS."""
    return _encode(Aside.PROGRESS, _PROGRESS.pack(done & _MOST_U32, total & _MOST_U32))


def encode_gone(reason: str) -> bytes:
    """Give the packet of a GONE."""
    return _encode(Aside.GONE, reason.encode("utf-8", "replace"))


def decode_want(body: bytes) -> Want:
    """Read a WANT. Raises ProtocolError, as all of these do for what is none."""
    (flags,) = _unpack(_FLAGS, body)
    if flags & ~_ALL_WANTS:
        raise ProtocolError("5", f"WANT has the flags 0x{flags:02x}, which nobody knows")
    return Want(flags)


def check_cancel(body: bytes) -> None:
    """Read a CANCEL, which says nothing else."""
    _unpack(struct.Struct(""), body)


def decode_event_aside(body: bytes) -> tuple[EventMessage, int, int, int]:
    """Read an EVENT: the message, its boot, how many were missed, and the time in microseconds, beyond 32 bits, too."""
    at = _CODE.size + _EVENT.size
    boot, missed, time_high = _unpack(_EVENT, body[:at])
    try:
        message = decode_event_body(body[at:])
    except struct.error as error:
        raise ProtocolError("5", f"EVENT: {error}") from None
    return message, boot, missed, (time_high << 32) + message.time_us


def decode_progress(body: bytes) -> tuple[int, int]:
    """Read a PROGRESS: done, and total."""
    done, total = _unpack(_PROGRESS, body)
    return done, total


def decode_gone(body: bytes) -> str:
    """Read a GONE: the reason."""
    return body[_CODE.size :].decode("utf-8", "replace")


def _unpack(form: struct.Struct, body: bytes) -> Sequence[int]:
    if len(body) != _CODE.size + form.size:
        size_bytes = len(body) - _CODE.size
        raise ProtocolError("5", f"{code_of(body).name} has {size_bytes} bytes, not {form.size}")
    return form.unpack_from(body, _CODE.size)
