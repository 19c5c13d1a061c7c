"""What crossed a line, read back from a file, whatever kind of file it is (docs/capture.md, "Reading it back").

    with open("x.pcapng", "rb") as file:
        for packet, records in read_records(read_packets(file, "x.pcapng")):
            ...

A file is told by how it begins: a capture (pcapng), or a recording, a JSON object a line as tests/vectors/ has them:
{"dir": "host" or "device", "hex": "..."}. Bytes of a line alone do not tell which way they went: that must be said.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Protocol

from microrpc.capture.pcapng import Packet, Readable, is_start_of_pcap, read_blocks
from microrpc.capture.records import Record, RecordReader
from microrpc.errors import CaptureError
from microrpc.wire.checks import show

_GZIP = b"\x1f\x8b"
_PIECE_BYTES = 65536
_MOST_LINE_BYTES = 1 << 24
_DIRECTIONS = {"host": True, "device": False}


class ReadableLines(Readable, Protocol):
    """A file that is open, or a pipe."""

    def readline(self, size: int, /) -> bytes:
        """Give up to `size` bytes, up to the end of a line; none at the end."""


def read_packets(stream: ReadableLines, name: str, *, raw_to_board: bool | None = None) -> Iterator[Packet]:
    """Give the packets of a file, one by one as they come.

    name: of the file, for errors. raw_to_board: the file has bytes of the line alone, all of this direction.

    Raises CaptureError, with the place, for what is no capture, is cut off, or has a packet without a direction; what
    stands before that was given.
    """
    if raw_to_board is not None:
        yield from _read_raw(stream, raw_to_board)
        return
    begin = _take(stream, 4)
    try:
        if is_start_of_pcap(begin):
            for packet in read_blocks(_Rest(begin, stream)):
                if packet.to_board is None:
                    raise CaptureError(f"packet {packet.number} does not say which way its bytes went")
                yield packet
        elif begin[:1] == b"{":
            yield from _read_recording(_Rest(begin, stream))
        elif begin:
            raise CaptureError(_unknown(begin))
        else:
            raise CaptureError("it is empty")
    except CaptureError as error:
        raise CaptureError(f"{name}: {error}") from error


def read_records(packets: Iterable[Packet]) -> Iterator[tuple[Packet, list[Record]]]:
    """Give each packet with the records that it completes; each line (interface) is read by itself."""
    readers: dict[str, RecordReader] = {}
    for packet in packets:
        reader = readers.get(packet.interface)
        if reader is None:
            reader = readers[packet.interface] = RecordReader()
        yield packet, reader.read(packet.number, packet.time_ns, bool(packet.to_board), packet.data)


class _Rest:
    """A stream whose first bytes were read already; it may be a pipe."""

    def __init__(self, begin: bytes, stream: ReadableLines) -> None:
        self._begin = begin
        self._stream = stream

    def read(self, size: int) -> bytes:
        begin, self._begin = self._begin[:size], self._begin[size:]
        return begin or self._stream.read(size)

    def readline(self, size: int) -> bytes:
        line, end, self._begin = self._begin.partition(b"\n")
        return line + (end or self._stream.readline(size))


def _take(stream: Readable, size: int) -> bytes:
    begin = b""
    while len(begin) < size and (piece := stream.read(size - len(begin))):
        begin += piece
    return begin


def _unknown(begin: bytes) -> str:
    if begin.startswith(_GZIP):
        return "it is compressed: unpack it first, `zcat FILE | microrpc decode -`"
    return (
        f"it begins with {begin.hex(' ')}, and is neither a capture (pcapng) nor a recording (JSON lines); "
        "bytes of a line alone need --raw to-board or --raw from-board"
    )


def _read_raw(stream: Readable, to_board: bool) -> Iterator[Packet]:
    read = getattr(stream, "read1", stream.read)  # what is there, of a pipe
    for number in itertools.count(1):
        if not (data := read(_PIECE_BYTES)):
            return
        yield Packet(number, 0, to_board, data, (), "raw")


def _read_recording(stream: _Rest) -> Iterator[Packet]:
    numbers = itertools.count(1)
    for at in itertools.count(1):
        line = stream.readline(_MOST_LINE_BYTES)
        if not line:
            return
        if len(line) >= _MOST_LINE_BYTES:
            raise CaptureError(f"line {at} has {_MOST_LINE_BYTES} bytes and more")
        if line.strip() and (found := _burst(line, at)) is not None:
            yield Packet(next(numbers), 0, *found, (), "recording")


def _burst(line: bytes, at: int) -> tuple[bool, bytes] | None:
    """Give which way the bytes of a line of a recording went, and them; None for a line that is about the recording."""
    try:
        item = json.loads(line)
        if isinstance(item, dict) and "hex" not in item:
            return None
        return _DIRECTIONS[item["dir"]], bytes.fromhex(item["hex"])
    except (ValueError, TypeError, KeyError, RecursionError):
        form = '{"dir": "host" or "device", "hex": "..."}'
        raise CaptureError(f"line {at} is not {form}, but {show(line[:80])}") from None
