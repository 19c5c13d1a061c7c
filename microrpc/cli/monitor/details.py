"""What the monitor tells of one row: all that it says, its fields, and its bytes as they were on the line."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping

from rich.text import Text

from microrpc.capture.fields import FIELDS, FieldType, fields_of
from microrpc.capture.rows import NOTE, PART, Row
from microrpc.cli.common import format_time
from microrpc.errors import counted, printable
from microrpc.wire.frames import FRAME_START

MOST_BYTES = 2048
"""How many of the bytes are shown."""
_NAME_WIDTH, _KIND = 24, "microrpc.kind"
_DIM, _START, _ESCAPE = "#8a8f98", "bold #57d3a5", "bold #ffb454"
_ESCAPED = (b"\xff\xff", b"\xff\xfe")


def describe(row: Row, columns: int) -> Text:
    """Give it, for so many columns."""
    text = Text(no_wrap=False, overflow="fold")
    packet = row.packet
    at = datetime.datetime.fromtimestamp(packet.time_ns // 10**9).strftime("%Y-%m-%d %H:%M:%S")
    way = "to the board" if row.to_board else "from the board"
    text.append(f"{row.kind}", "bold")
    text.append(
        f"  packet {packet.number}, {at}.{packet.time_ns % 10**9:09}, {way}, {counted(len(packet.data), 'byte')}\n",
        _DIM,
    )
    if row.meaning:
        text.append(printable(row.meaning) + "\n")
    for comment in packet.comments:
        text.append(f"note: {printable(comment)}\n", _ESCAPE)
    for line in _story(row):
        text.append(line + "\n", _DIM)
    if row.kind not in (PART, NOTE):
        _add_fields(text, fields_of(row.record))
    _add_bytes(text, packet.data, 16 if columns >= 71 else 8)
    text.right_crop(1)
    return text


def _story(row: Row) -> Iterator[str]:
    if row.is_repeated:
        yield "the link said this before: it is repeated"
    if row.partner is not None and row.answered_s is not None:
        what = "the request" if row.record.request is not None else "the reply"
        yield f"{what} is packet {row.partner}; answered after {format_time(row.answered_s)} (key: r)"


def _add_fields(text: Text, fields: Mapping[str, object]) -> None:
    for name, value in fields.items():
        if name == _KIND:  # which is in the first line
            continue
        values = value if isinstance(value, list | tuple) else (value,)
        for one in values:
            text.append(f"{name.removeprefix('microrpc.'):<{_NAME_WIDTH}}", _DIM)
            shown = f"0x{one:x}" if FIELDS[name].type is FieldType.HEX and isinstance(one, int) else str(one)
            text.append(f" {printable(shown)}\n")


def tokens(data: bytes) -> Iterator[tuple[int, str]]:
    """Give each byte with what it is: "start" of a frame, part of an "escape", or "" for all else.

    An FF begins a token of two bytes, always (docs/protocol.md 1).
    """
    at = 0
    while at < len(data):
        pair = data[at : at + 2]
        if data[at] != 0xFF:
            yield data[at], "" if data[at] != 0xFE or at else "escape"  # one in front of the first frame
            at += 1
            continue
        for byte in pair:
            yield byte, "start" if pair == FRAME_START else "escape"
        at += len(pair)


def _add_bytes(text: Text, data: bytes, width: int) -> None:
    shown = list(tokens(data[:MOST_BYTES]))
    styles = {"": "", "start": _START, "escape": _ESCAPE}
    for at in range(0, len(shown), width):
        line = shown[at : at + width]
        text.append(f"{at:04x}  ", _DIM)
        for byte, what in line:
            text.append(f"{byte:02x} ", styles[what])
        text.append("   " * (width - len(line)) + " ")
        for byte, what in line:
            text.append(chr(byte) if 0x20 <= byte < 0x7F else ".", styles[what])
        text.append("\n")
    if len(data) > MOST_BYTES:
        text.append(f"and {counted(len(data) - MOST_BYTES, 'byte')} more (s saves all of them)\n", _DIM)
