"""Captures as files: bytes by hand, both ways, and what is no capture."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
from pathlib import Path

import needs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microrpc.capture.pcapng import Packet, interface_block, packet_block, read_blocks, section_header
from microrpc.errors import CaptureError

SECTION = bytes.fromhex(
    "0a0d0d0a 2c000000 4d3c2b1a 0100 0000 ffffffffffffffff"
    "0400 0800 6d6963726f727063"  # the program: microrpc
    "00000000 2c000000"
)
INTERFACE = bytes.fromhex(
    "01000000 30000000 fc00 0000 00000000"
    "0200 0b00 2f6465762f74747953 3130 00"  # the name: /dev/ttyS10
    "0900 0100 09000000"  # nanoseconds
    "00000000 30000000"
)
TAGS = bytes.fromhex("000c 0008 6d6963726f727063 0023 0004 000000")
PACKET = (
    bytes.fromhex("06000000 58000000 00000000 01000000 02000000 1d000000 1d000000")
    + TAGS
    + bytes.fromhex("01 00000000 fffdaa ab ac 000000")  # from the board
    + bytes.fromhex("0100 0500 6661756c 74 000000")  # a comment
    + bytes.fromhex("0200 0400 01000000 00000000 58000000")  # inbound
)


def big_endian(packets: bytes = b"", *, more: bytes = b"", link_type: int = 252) -> bytes:
    """Give the file of another program: of the other byte order."""
    section = bytes.fromhex("0a0d0d0a 0000001c 1a2b3c4d 0001 0000 ffffffffffffffff 0000001c")
    interface = struct.pack(">IIHHI", 1, 20 + len(more), link_type, 0, 0) + more + struct.pack(">I", 20 + len(more))
    return section + interface + packets


def big_endian_packet(data: bytes, ticks: int, options: bytes = b"", *, interface: int = 0) -> bytes:
    body = struct.pack(">IIIII", interface, ticks >> 32, ticks & 0xFFFF_FFFF, len(data), len(data))
    body += data + bytes(-len(data) % 4) + options
    return struct.pack(">II", 6, 12 + len(body)) + body + struct.pack(">I", 12 + len(body))


def read(data: bytes) -> list[Packet]:
    return list(read_blocks(io.BytesIO(data)))


def test_the_blocks_are_those_of_the_vectors() -> None:
    assert section_header() == SECTION
    assert interface_block("/dev/ttyS10") == INTERFACE
    data = bytes.fromhex("fffdaaabac")
    assert packet_block((1 << 32) + 2, data, to_board=False, comments=["fault"]) == PACKET


def test_the_vectors_are_read() -> None:
    packet = Packet(1, (1 << 32) + 2, False, bytes.fromhex("fffdaaabac"), ("fault",), "/dev/ttyS10")
    assert read(SECTION + INTERFACE + PACKET) == [packet]


def test_each_packet_has_its_line_and_its_comments() -> None:
    data = section_header() + interface_block("a") + interface_block("/dev/ttyS10")
    data += packet_block(5, b"\xff\xfd", to_board=True, interface=1)
    data += packet_block(1 << 40, b"", to_board=False, comments=["port lost", "é→"])
    assert read(data) == [
        Packet(1, 5, True, b"\xff\xfd", (), "/dev/ttyS10"),
        Packet(2, 1 << 40, False, b"", ("port lost", "é→"), "a"),
    ]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, (1 << 64) - 1),
            st.binary(max_size=50),
            st.booleans(),
            st.lists(st.text(max_size=10).filter(str.isascii), max_size=3),
        )
    )
)
def test_what_is_written_is_read(packets: list[tuple[int, bytes, bool, list[str]]]) -> None:
    data = section_header() + interface_block("sim://")
    for time_ns, line, to_board, comments in packets:
        data += packet_block(time_ns, line, to_board=to_board, comments=comments)
    assert read(data) == [
        Packet(number, time_ns, to_board, line, tuple(comments), "sim://")
        for number, (time_ns, line, to_board, comments) in enumerate(packets, 1)
    ]


def test_a_comment_that_is_too_long_ends_with_a_whole_character() -> None:
    data = section_header() + interface_block("a") + packet_block(0, b"", to_board=True, comments=["é" * 40000])
    assert read(data)[0].comments == ("é" * 32767,)


@pytest.mark.parametrize(
    ("more", "ticks", "time_ns"),
    [
        (b"", 7, 7000),  # microseconds, where nothing is said
        (bytes.fromhex("0009 0001 09000000 00000000"), 7, 7),
        (bytes.fromhex("0009 0001 8a000000 00000000"), 1024 + 512, 1_500_000_000),
        (bytes.fromhex("000e 0008 0000000000000003 00000000"), 7, 3_000_007_000),
    ],
)
def test_the_times_of_other_programs_are_read(more: bytes, ticks: int, time_ns: int) -> None:
    data = big_endian(big_endian_packet(TAGS + bytes.fromhex("00 00000000 41"), ticks), more=more)
    assert read(data) == [Packet(1, time_ns, True, b"A", (), "0")]


def test_the_flags_tell_the_direction_where_no_tag_does() -> None:
    tags = bytes.fromhex("000c 000c 6d6963726f72706300000000 00000000")
    inbound, outbound = bytes.fromhex("0002 0004 00000001"), bytes.fromhex("0002 0004 00000002")
    packets = [big_endian_packet(tags + b"A", 0, options) for options in (inbound, outbound, b"")]
    assert [one.to_board for one in read(big_endian(b"".join(packets)))] == [False, True, None]
    [tagged] = read(big_endian(big_endian_packet(TAGS + bytes.fromhex("00 00000000 41"), 0, inbound)))
    assert tagged.to_board is True, "the tag tells, where there is one"


def test_packets_of_other_programs_are_counted_only() -> None:
    ours = big_endian_packet(TAGS + bytes.fromhex("00 00000000 41"), 0)
    theirs = big_endian_packet(bytes.fromhex("000c 0004 68747470 00000000 41"), 0)
    unknown = bytes.fromhex("00000bad 0000000c 0000000c")
    [packet] = read(big_endian(theirs + unknown + ours))
    assert packet.number == 2
    assert read(big_endian(ours, link_type=1)) == []


@pytest.mark.parametrize("order", "<>")
def test_packets_of_the_old_and_the_simple_kind_are_read(order: str) -> None:
    def block(kind: int, body: bytes) -> bytes:
        return struct.pack(f"{order}II", kind, 12 + len(body)) + body + struct.pack(f"{order}I", 12 + len(body))

    data = TAGS + bytes.fromhex("01 00000000 414243")
    padded = data + b"\0"
    comment = struct.pack(f"{order}HH4s", 1, 4, b"told")
    file = block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
    file += block(1, struct.pack(f"{order}HHI", 252, 0, 0))
    file += block(2, struct.pack(f"{order}HHIIII", 0, 7, 1, 2, len(data), len(data)) + padded + comment)
    file += block(3, struct.pack(f"{order}I", len(data)) + padded)
    old, simple = read(file)
    assert old == Packet(1, ((1 << 32) + 2) * 1000, False, b"ABC", ("told",), "0")
    assert simple == Packet(2, 0, False, b"ABC", (), "0")
    with pytest.raises(CaptureError, match="a packet was cut to 28 of 99 bytes"):
        read(file + block(3, struct.pack(f"{order}I", 99) + padded))


@pytest.mark.parametrize("offset_s", [-1 << 40, 1 << 40])
def test_a_time_that_no_capture_can_have_is_refused(offset_s: int) -> None:
    file = big_endian(
        big_endian_packet(TAGS + bytes.fromhex("00 00000000 41"), 0), more=struct.pack(">HHq", 14, 8, offset_s)
    )
    with pytest.raises(CaptureError, match="a packet has a time before 1970 or after 2554"):
        read(file)


def test_a_pipe_gives_blocks_in_pieces() -> None:
    class Pipe(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 3))

    data = section_header() + interface_block("a") + packet_block(1, b"AB", to_board=True)
    assert [one.data for one in read_blocks(Pipe(data))] == [b"AB"]


WHOLE = section_header() + interface_block("a")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xff\xfd\0\0", "no pcapng file: it begins with ff fd 00 00, not with 0a 0d 0d 0a"),
        (b"\n", "no pcapng file: it begins with 0a, not"),
        (bytes.fromhex("d4c3b2a1 02000400"), "classic pcap file, which has no directions: save it as pcapng"),
        (SECTION[:10], "at byte 0 a section tells no byte order"),
        (SECTION[:8] + b"\0\0\0\0" + SECTION[12:], "at byte 0 a section tells no byte order"),
        (SECTION[:20], "at byte 0 a block of 44 bytes is cut off"),
        (WHOLE + b"\6", f"at byte {len(WHOLE)} a block is cut off"),
        (WHOLE + struct.pack("<III", 6, 9, 9), "announces 9 bytes, which no block has"),
        (WHOLE + struct.pack("<III", 6, 14, 14), "announces 14 bytes, which no block has"),
        (WHOLE + struct.pack("<II", 6, 1 << 30), "announces 1073741824 bytes, and 16777216 are accepted"),
        (WHOLE + struct.pack("<III", 6, 12, 16), "a block of 12 bytes says another length at its end"),
        (WHOLE + struct.pack("<III", 6, 12, 12), "a packet is too short"),
        (WHOLE + struct.pack("<III", 1, 12, 12), "an interface is too short"),
        (WHOLE + packet_block(0, b"", to_board=True, interface=3), "is of interface 3, and 1 were introduced"),
        (big_endian(more=bytes.fromhex("0002 0050 41414141")), "an option of 80 bytes is longer than its block"),
        (big_endian(more=bytes.fromhex("0002")), "announces 22 bytes, which no block has"),
        (WHOLE + WHOLE[:44] + packet_block(0, b"", to_board=True), "is of interface 0, and 0 were introduced"),
        (WHOLE + interface_block("a") * 4096, f"at byte {len(WHOLE) + 4095 * 40} there are more than 4096 interfaces"),
        (WHOLE + struct.pack("<IIIIIIII", 6, 32, 0, 0, 0, 9, 9, 32), "a packet of 9 bytes is longer than its block"),
    ],
)
def test_what_is_no_capture_is_refused_with_its_place(data: bytes, text: str) -> None:
    with pytest.raises(CaptureError) as refused:
        read(data)
    assert text in str(refused.value)


def test_a_packet_that_was_cut_is_refused() -> None:
    data = TAGS + bytes.fromhex("00 00000000 41")
    block = bytearray(big_endian_packet(data, 0))
    block[24:28] = struct.pack(">I", 99)
    with pytest.raises(CaptureError, match=f"a packet was cut to {len(data)} of 99 bytes: capture without a snap"):
        read(big_endian(bytes(block)))


def test_what_is_whole_before_a_cut_is_read() -> None:
    data = WHOLE + packet_block(1, b"A", to_board=True) + packet_block(2, b"B", to_board=True)
    packets = read_blocks(io.BytesIO(data[:-1]))
    assert next(packets).data == b"A"
    with pytest.raises(CaptureError, match="is cut off"):
        next(packets)


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200))
def test_no_bytes_do_more_than_be_refused(noise: bytes, at: int) -> None:
    data = WHOLE + packet_block(1, b"A", to_board=True, comments=["x"])
    for changed in (noise, data[:at] + noise, data[:at] + noise + data[at + len(noise) :]):
        with contextlib.suppress(CaptureError):
            read(changed)


@pytest.mark.tools
def test_wireshark_reads_it(tmp_path: Path) -> None:
    needs.program("tshark")
    needs.program("capinfos", "wireshark-common")
    file = tmp_path / "x.pcapng"
    data = section_header() + interface_block("/dev/ttyS10")
    data += packet_block(1_700_000_000_123_456_789, b"\xff\xfd", to_board=True)
    data += packet_block(1_700_000_000_123_456_790, b"ABC", to_board=False, comments=["port lost"])
    file.write_bytes(data)
    fields = "frame.time_epoch frame.len frame.p2p_dir frame.packet_flags_direction frame.interface_name frame.comment"
    args = ["tshark", "-r", file, "-T", "fields", "-E", "separator=|"]
    args += [part for field in fields.split() for part in ("-e", field)]
    ran = subprocess.run(args, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.splitlines() == [
        "1700000000.123456789|26|0|0x00000002|/dev/ttyS10|",
        "1700000000.123456790|27|1|0x00000001|/dev/ttyS10|port lost",
    ]
    told = subprocess.run(["capinfos", file], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "Wireshark Upper PDU export" in told
    assert "Time resolution = 0x09" in told
