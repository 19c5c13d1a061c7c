"""Captures as files: the blocks of pcapng, both ways (docs/capture.md, "The file").

    block  = type u32 | length u32 | body | length u32          little-endian as we write it; length counts all of it
    option = code u16 | length u16 | value, zeros up to 4       the length is that of the value

Link type 252 says that each packet names what decodes it: tags, big-endian, stand before the bytes of the line. Pure:
what is written is given as bytes, and what is read comes out of a stream of the caller's.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from microrpc.errors import CaptureError, printable

DISSECTOR: Final = "microrpc"
"""The name that Wireshark's dissector has."""
LINK_TYPE: Final = 252
"""WIRESHARK_UPPER_PDU: packets name what decodes them."""

_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_PACKET_HEADS: Final = {_PACKET: "IIIII", _OLD_PACKET: "HxxIIII", _SIMPLE_PACKET: "I"}
_BYTE_ORDER = 0x1A2B3C4D
_COMMENT, _NAME, _PROGRAM, _FLAGS, _RESOLUTION, _OFFSET = 1, 2, 4, 2, 9, 14
_INBOUND, _OUTBOUND = 1, 2
_TO_BOARD, _FROM_BOARD = 0, 1
_TAG_END, _TAG_DISSECTOR, _TAG_PORT, _TAG_DIRECTION = 0, 12, 25, 35
SECTION_MAGIC: Final = struct.pack("<I", _SECTION)
"""How a file begins, in both byte orders."""
_MOST_BLOCK_BYTES = 1 << 24
_MOST_OPTION_BYTES = 0xFFFF
_MOST_INTERFACES = 4096  # more lines than a process has; what is read of each is kept
_CLASSIC = {b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d"}


# --- writing ----------------------------------------------------------------------------------


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _option(code: int, value: bytes) -> bytes:
    value = value[:_MOST_OPTION_BYTES]
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _text_option(code: int, text: str) -> bytes:
    """Give an option that is a text; where there is no room for all of it, it ends with a whole character."""
    value = text.encode(errors="replace")[:_MOST_OPTION_BYTES]
    return _option(code, value.decode(errors="ignore").encode())


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


_OPTIONS_END = bytes(4)


def section_header() -> bytes:
    """Give what a file begins with."""
    fixed = struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1)
    return _block(_SECTION, fixed + _text_option(_PROGRAM, DISSECTOR) + _OPTIONS_END)


def interface_block(name: str) -> bytes:
    """Give what introduces a line, by the address of its port; the first is the interface 0, and so on."""
    options = _text_option(_NAME, name) + _option(_RESOLUTION, b"\x09")
    return _block(_INTERFACE, struct.pack("<HHI", LINK_TYPE, 0, 0) + options + _OPTIONS_END)


@functools.lru_cache(maxsize=256)
def _tags(direction: int, interface: int = 0) -> bytes:
    """Give what tells of a packet whose it is; of the interface as its port, for dissectors do not always know it."""
    name = _padded(DISSECTOR.encode())
    head = struct.pack(f">HH{len(name)}sHHI", _TAG_DISSECTOR, len(name), name, _TAG_DIRECTION, 4, direction)
    line = struct.pack(">HHI", _TAG_PORT, 4, interface) if interface else b""
    return head + line + struct.pack(">HH", _TAG_END, 0)


_TAGS: Final = {True: _tags(_TO_BOARD), False: _tags(_FROM_BOARD)}
_ENDS: Final = {
    True: _option(_FLAGS, struct.pack("<I", _OUTBOUND)) + _OPTIONS_END,
    False: _option(_FLAGS, struct.pack("<I", _INBOUND)) + _OPTIONS_END,
}
_PACKET_HEAD: Final = struct.Struct("<IIIIIII")
_SIZE: Final = struct.Struct("<I")
_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")
_PACKET_REST_BYTES: Final = _PACKET_HEAD.size + _SIZE.size


def packet_parts(
    time_ns: int, data: bytes, to_board: bool, comments: Sequence[str] = (), interface: int = 0
) -> tuple[bytes, ...]:
    """Give bytes of the line, as they were on it: one packet, in parts that are to be joined, `data` one of them.

    time_ns: since 1970. comments: what the bytes do not say, in words. interface: the line, by its number.
    """
    tags = _tags(_TO_BOARD if to_board else _FROM_BOARD, interface) if interface else _TAGS[to_board]
    size = len(tags) + len(data)
    end = _PADDING[size & 3] + _ENDS[to_board]
    if comments:
        end = _PADDING[size & 3] + b"".join(_text_option(_COMMENT, each) for each in comments) + _ENDS[to_board]
    length = _PACKET_REST_BYTES + size + len(end)
    head = _PACKET_HEAD.pack(_PACKET, length, interface, time_ns >> 32, time_ns & 0xFFFF_FFFF, size, size)
    return head, tags, data, end, _SIZE.pack(length)


def packet_block(
    time_ns: int, data: bytes, *, to_board: bool, comments: Sequence[str] = (), interface: int = 0
) -> bytes:
    """Give one packet: see `packet_parts`."""
    return b"".join(packet_parts(time_ns, data, to_board, comments, interface))


def whole_bytes(blocks: bytes, limit: int) -> int:
    """Give how many of the first `limit` bytes of what was written here are whole blocks."""
    at = 0
    while at < limit and at + (size := _SIZE.unpack_from(blocks, at + 4)[0]) <= limit:
        at += size
    return at


# --- reading ----------------------------------------------------------------------------------


def is_start_of_pcap(data: bytes) -> bool:
    """Whether a file that begins with `data` is a capture, of whatever: pcapng, or classic pcap."""
    return data[:4] == SECTION_MAGIC or data[:4] in _CLASSIC


class Readable(Protocol):
    """What a capture is read from: a file that is open, or anything else that gives bytes."""

    def read(self, size: int, /) -> bytes:
        """Give up to `size` bytes, at least one; none at the end."""


class Packet(NamedTuple):
    """What one packet of a capture has: bytes of a line, as they were on it.

    number: counted from 1, as Wireshark does. time_ns: since 1970. to_board: the direction, None where nothing says it.
    interface: the name of the line; where it has none, its number in the file.
    """

    number: int
    time_ns: int
    to_board: bool | None
    data: bytes
    comments: tuple[str, ...]
    interface: str


@dataclass(slots=True)
class _Interface:
    name: str
    link_type: int
    to_ns: Callable[[int], int]


def read_blocks(stream: Readable) -> Iterator[Packet]:
    """Give the packets of a capture that are ours, one by one: those of other programs' lines are counted only.

    Files of other programs are read too: of either byte order, with any resolution of their times, and with blocks that
    are unknown here. Raises CaptureError, at the place, where it is no pcapng, cut off, or its lengths do not add up.
    """
    reader = _Reader(stream)
    number = 0
    interfaces: list[_Interface] = []
    for kind, body in reader.blocks():
        if kind == _SECTION:
            interfaces = []
        elif kind == _INTERFACE:
            interfaces.append(reader.interface(body, len(interfaces)))
        elif kind in (_PACKET, _OLD_PACKET, _SIMPLE_PACKET):
            number += 1
            if (packet := reader.packet(kind, body, number, interfaces)) is not None:
                yield packet


class _Reader:
    """The blocks of a stream, and where they are, for what is said of those that are wrong."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._at = 0  # where the block begins
        self._order = "<"

    def _wrong(self, what: str) -> CaptureError:
        return CaptureError(f"this is no whole pcapng file: at byte {self._at} {what}")

    def _take(self, size: int) -> bytes:
        """Read so many bytes, or as many as there are; a pipe gives them in pieces."""
        got = bytearray()
        while len(got) < size and (piece := self._stream.read(size - len(got))):
            got += piece
        return bytes(got)

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Give the kind and the body of each block."""
        while head := self._take(8):
            if self._at == 0:
                self._check_start(head)
            if len(head) < 8:
                raise self._wrong("a block is cut off")
            is_section = head[:4] == SECTION_MAGIC
            body = b""
            if is_section:
                body = self._take(4)
                self._order = self._byte_order(body)
            kind, length = struct.unpack(f"{self._order}II", head)
            if length < (28 if is_section else 12) or length % 4:
                raise self._wrong(f"a block announces {length} bytes, which no block has")
            if length > _MOST_BLOCK_BYTES:
                raise self._wrong(f"a block announces {length} bytes, and {_MOST_BLOCK_BYTES} are accepted")
            rest = self._take(length - 8 - len(body))
            if len(rest) < length - 8 - len(body):
                raise self._wrong(f"a block of {length} bytes is cut off")
            if struct.unpack(f"{self._order}I", rest[-4:]) != (length,):
                raise self._wrong(f"a block of {length} bytes says another length at its end")
            yield kind, body + rest[:-4]
            self._at += length

    def _check_start(self, head: bytes) -> None:
        if head[:4] in _CLASSIC:
            raise CaptureError(
                "this is a classic pcap file, which has no directions: save it as pcapng (editcap FILE NEW)"
            )
        if head[:4] != SECTION_MAGIC:
            raise CaptureError(f"this is no pcapng file: it begins with {head[:4].hex(' ')}, not with 0a 0d 0d 0a")

    def _byte_order(self, magic: bytes) -> str:
        for order in "<>":
            if magic == struct.pack(f"{order}I", _BYTE_ORDER):
                return order
        raise self._wrong("a section tells no byte order")

    def _options(self, options: bytes) -> Iterator[tuple[int, bytes]]:
        at = 0
        while at < len(options):
            if at + 4 > len(options):
                raise self._wrong("the options of a block are cut off")
            code, size = struct.unpack_from(f"{self._order}HH", options, at)
            if code == 0:
                return
            if at + 4 + size > len(options):
                raise self._wrong(f"an option of {size} bytes is longer than its block")
            yield code, options[at + 4 : at + 4 + size]
            at += 4 + size + -size % 4

    def interface(self, body: bytes, number: int) -> _Interface:
        """Take what introduces a line."""
        if number >= _MOST_INTERFACES:
            raise self._wrong(f"there are more than {_MOST_INTERFACES} interfaces")
        if len(body) < 8:
            raise self._wrong("an interface is too short")
        [link_type] = struct.unpack_from(f"{self._order}H", body)
        name, resolution, offset_s = "", 6, 0
        for code, value in self._options(body[8:]):
            if code == _NAME:
                name = value.decode(errors="replace")
            elif code == _RESOLUTION and len(value) == 1:
                resolution = value[0]
            elif code == _OFFSET and len(value) == 8:
                [offset_s] = struct.unpack(f"{self._order}q", value)
        per_s = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
        return _Interface(name or str(number), link_type, lambda ticks: ticks * 10**9 // per_s + offset_s * 10**9)

    def packet(self, kind: int, body: bytes, number: int, interfaces: Sequence[_Interface]) -> Packet | None:
        """Take a packet, of any of the three kinds of them; None where it is of another program's."""
        head = struct.Struct(self._order + _PACKET_HEADS[kind])
        at = head.size
        if len(body) < at:
            raise self._wrong("a packet is too short")
        if kind == _SIMPLE_PACKET:  # has no time, and is always of the first interface
            which, high, low, [length] = 0, 0, 0, head.unpack_from(body)
            captured = min(length, len(body) - at)
        else:
            which, high, low, captured, length = head.unpack_from(body)
        if which >= len(interfaces):
            raise self._wrong(f"a packet is of interface {which}, and {len(interfaces)} were introduced")
        if at + captured > len(body):
            raise self._wrong(f"a packet of {captured} bytes is longer than its block")
        interface = interfaces[which]
        data = body[at : at + captured]
        if interface.link_type != LINK_TYPE or (found := _read_tags(data)) is None:
            return None
        if captured < length:
            raise self._wrong(f"a packet was cut to {captured} of {length} bytes: capture without a snap length")
        to_board, size = found
        comments = []
        for code, value in self._options(body[at + captured + -captured % 4 :]):
            if code == _COMMENT:
                comments.append(value.decode(errors="replace"))
            elif code == _FLAGS and len(value) == 4 and to_board is None:
                [flags] = struct.unpack(f"{self._order}I", value)
                to_board = {_INBOUND: False, _OUTBOUND: True}.get(flags & 3)
        time_ns = 0 if kind == _SIMPLE_PACKET else interface.to_ns(high << 32 | low)
        if not 0 <= time_ns < 1 << 64:
            raise self._wrong("a packet has a time before 1970 or after 2554")
        return Packet(number, time_ns, to_board, data[size:], tuple(comments), printable(interface.name))


def _read_tags(data: bytes) -> tuple[bool | None, int] | None:
    """Give the direction that the tags tell, and what they take; None where it is not for our dissector."""
    at, is_ours, to_board = 0, False, None
    while at + 4 <= len(data):
        tag, size = struct.unpack_from(">HH", data, at)
        value = data[at + 4 : at + 4 + size]
        at += 4 + size
        if tag == _TAG_END:
            return (to_board, at) if is_ours else None
        if tag == _TAG_DISSECTOR:
            is_ours = value.rstrip(b"\0") == DISSECTOR.encode()
        elif tag == _TAG_DIRECTION and size == 4:
            to_board = {_TO_BOARD: True, _FROM_BOARD: False}.get(int.from_bytes(value, "big"))
    return None
