"""Files of what crossed a line: told by their content, and bad ones refused with the place."""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
from typing import BinaryIO

import pytest
from golden import NAMES, VECTORS, load
from hypothesis import given
from hypothesis import strategies as st

from microrpc.capture import reading
from microrpc.capture.pcapng import Packet, interface_block, packet_block, section_header
from microrpc.capture.reading import read_packets, read_records
from microrpc.capture.records import RecordReader
from microrpc.errors import CaptureError
from microrpc.wire.frames import encode_frame
from microrpc.wire.packets import CallFunc, Return, encode_packet


def read(data: bytes, *, raw_to_board: bool | None = None) -> list[Packet]:
    return list(read_packets(io.BytesIO(data), "x", raw_to_board=raw_to_board))


def normal(packet: CallFunc | Return) -> bytes:
    return encode_frame(struct.pack("<HB", 5, 0x10) + encode_packet(packet))


def test_a_capture_is_read() -> None:
    blocks = [packet_block(5, b"ab", to_board=True, comments=["why"]), packet_block(9, b"c", to_board=False)]
    data = section_header() + interface_block("/dev/x") + b"".join(blocks)
    assert read(data) == [
        Packet(1, 5, True, b"ab", ("why",), "/dev/x"),
        Packet(2, 9, False, b"c", (), "/dev/x"),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_is_read(name: str) -> None:
    packets = read((VECTORS / f"{name}.jsonl").read_bytes())
    assert [(packet.to_board, packet.data) for packet in packets] == [
        (burst.dir == "host", burst.data) for burst in load(name)
    ]
    assert [packet.number for packet in packets] == list(range(1, len(packets) + 1))


@pytest.mark.parametrize("to_board", [True, False])
def test_bytes_alone_are_read_where_it_is_said_which_way_they_went(to_board: bool) -> None:
    data = bytes(range(256)) * 300
    packets = read(data, raw_to_board=to_board)
    assert b"".join(packet.data for packet in packets) == data
    assert {packet.to_board for packet in packets} == {to_board}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "x: it is empty"),
        (b"\xff\xfd", "x: it begins with ff fd, and is neither .* need --raw to-board or --raw from-board"),
        (gzip.compress(b"{}", mtime=0), "x: it is compressed: unpack it first"),
        (b"\xd4\xc3\xb2\xa1" + bytes(20), "x: this is a classic pcap file"),
        (section_header() + b"\1\0\0", "x: this is no whole pcapng file: at byte 44 a block is cut off"),
        (b'{"a": 1}\n{"dir": "host"\n', "x: line 2 is not "),
        (b'{"dir": "host", "hex": "0"}', "x: line 1 is not "),
        (b'{"dir": "up", "hex": "00"}', "x: line 1 is not "),
        (b"{}\n[1]\n", "x: line 2 is not "),
        (b'{"hex": "00", "dir": []}\n', "x: line 1 is not "),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(data: bytes, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        read(data)


def test_a_packet_without_a_direction_is_refused() -> None:
    tags = struct.pack(">HH8sHH", 12, 8, b"microrpc", 0, 0)
    body = struct.pack("<IIIII", 0, 0, 0, len(tags), len(tags)) + tags
    block = struct.pack("<II", 6, len(body) + 12) + body + struct.pack("<I", len(body) + 12)
    with pytest.raises(CaptureError, match="x: packet 1 does not say which way its bytes went"):
        read(section_header() + interface_block("a") + block)


def test_lines_of_several_boards_are_read_apart() -> None:
    call, reply = normal(CallFunc(7, ())), normal(Return((4, None)))
    blocks = [
        packet_block(1, call, to_board=True),
        packet_block(2, call[:9], to_board=True, interface=1),
        packet_block(3, reply, to_board=False),
        packet_block(4, call, to_board=True),
        packet_block(5, call[9:], to_board=True, interface=1),
        packet_block(6, reply, to_board=False),
    ]
    data = section_header() + interface_block("a") + interface_block("b") + b"".join(blocks)
    found = [
        (packet.interface, record.message.kind, record.request is not None)
        for packet, records in read_records(read_packets(io.BytesIO(data), "x"))
        for record in records
    ]
    assert found == [
        *(("a", "CallFunc", False), ("a", "Return", True), ("a", "CallFunc", False)),
        *(("b", "CallFunc", False), ("a", "Return", True)),
    ]


def test_a_line_of_a_recording_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_MOST_LINE_BYTES", 100)
    with pytest.raises(CaptureError, match=r"^x: line 2 has 100 bytes and more$"):
        list(read_packets(io.BytesIO(b"{}\n{" + 200 * b" " + b"}\n"), "x"))


class _Dribble(io.RawIOBase):
    """A pipe that gives a byte at a time."""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._stream.readinto(buffer[:1])


@pytest.mark.parametrize("name", ["fault_callflip.jsonl"])
def test_a_pipe_may_give_it_byte_by_byte(name: str) -> None:
    data = (VECTORS / name).read_bytes()
    stream: BinaryIO = io.BufferedReader(_Dribble(data))
    assert list(read_packets(stream, "x")) == read(data)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda data: section_header() + data))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    said = ""
    with contextlib.suppress(CaptureError):
        read(data)
        said = "read"
    if not said:
        with pytest.raises(CaptureError, match=r"^x: "):
            read(data)


def test_each_line_has_one_reader_however_many_packets_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Counted(RecordReader):
        def __init__(self) -> None:
            made.append(self)
            super().__init__()

    monkeypatch.setattr("microrpc.capture.reading.RecordReader", Counted)
    packets = [Packet(n, n, False, b"x\n", (), name) for n, name in enumerate(("a", "b") * 50, 1)]
    assert len(list(read_records(packets))) == 100
    assert len(made) == 2
