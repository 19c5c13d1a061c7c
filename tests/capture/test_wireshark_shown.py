"""What people see in Wireshark: rows, filters, experts, live and over TCP, and what docs/wireshark.md shows."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import golden
import needs
import pytest
from conversations import on_a_bad_line, recorded
from processes import COMMAND, run
from wireshark import (
    DISSECTOR,
    Piece,
    decoded,
    in_words,
    in_words_of,
    tshark,
    write,
)

from microrpc.capture import pcapng
from microrpc.errors import printable
from microrpc.wire.frames import encode_frame
from microrpc.wire.session import MessageType

pytestmark = pytest.mark.tools

GUIDE = (Path(__file__).parents[2] / "docs" / "wireshark.md").read_text(encoding="utf-8")
MOST_TOLD = 8  # frames of one packet that its line tells of


@pytest.fixture(autouse=True)
def _needs_tshark() -> None:
    needs.program("tshark")


@pytest.fixture(scope="session")
def bad_line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of the link on a bad line."""
    return write(tmp_path_factory.mktemp("bad_line") / "x.pcapng", on_a_bad_line(seed=1))


# --- what people see -----------------------------------------------------------------------------------------


def assert_same_words(path: Path) -> None:
    """Hold the lines of Wireshark to the words of `microrpc decode`."""
    shown = tshark("-r", str(path), "-T", "fields", "-e", "_ws.col.Info", home=path.parent).splitlines()
    expected = [[f"{frame.kind} {frame.meaning}".rstrip() for frame in frames] for frames in in_words(path)]
    assert len(shown) == len(expected)
    for number, (line, words) in enumerate(zip(shown, expected, strict=True), 1):
        more = [f"and {len(words) - MOST_TOLD} more"] if len(words) > MOST_TOLD else []
        told = printable("; ".join(words[:MOST_TOLD] + more)) if words else "part of a frame"
        assert line == told, f"packet {number}"


@pytest.mark.parametrize("name", golden.NAMES)
def test_lines_say_what_decode_says(name: str, tmp_path: Path) -> None:
    assert_same_words(write(tmp_path / "x.pcapng", recorded(name)))


def test_lines_of_the_link_say_what_decode_says(tmp_path: Path) -> None:
    assert_same_words(write(tmp_path / "x.pcapng", on_a_bad_line(seed=0)))


@pytest.mark.parametrize(
    ("display_filter", "name", "value"),
    [
        ("microrpc.code == CallFunc", "microrpc.code", "CallFunc"),
        ("microrpc.kind == EVENT", "microrpc.kind", "EVENT"),
        ('microrpc.function == "sum"', "microrpc.function", "sum"),
        ("microrpc.damage", "microrpc.damage", None),
        ("microrpc.bad_crc", "microrpc.damage", "bad crc"),
        ("microrpc.noise", "microrpc.kind", "noise"),
        ("microrpc.repeated", "microrpc.link.retransmission", True),
        ("microrpc.exception", "microrpc.error", None),
        ("microrpc.error contains sensor", "microrpc.error", None),
    ],
)
def test_a_filter_takes_those_that_it_names(
    display_filter: str, name: str, value: object, bad_line: Path, tmp_path: Path
) -> None:
    taken = tshark("-r", str(bad_line), "-Y", display_filter, "-T", "fields", "-e", "frame.number", home=tmp_path)
    packets = decoded(bad_line)
    expected = [
        number
        for number, records in enumerate(packets, 1)
        if any(name in record and value in (None, record[name]) for record in records)
    ]
    assert expected
    assert list(map(int, taken.split())) == expected


def test_a_request_that_nothing_answers_is_told_and_no_other(bad_line: Path, tmp_path: Path) -> None:
    arguments = ("-2", "-r", str(bad_line), "-R", "microrpc.unanswered", "-T", "fields", "-e", "frame.number")
    taken = set(map(int, tshark(*arguments, home=tmp_path).split()))
    records = [(number, record) for number, records in enumerate(decoded(bad_line), 1) for record in records]
    asks = {n for n, record in records if record.get("microrpc.message_type") == MessageType.LINK_REQUEST}
    repeated = {n for n, record in records if "microrpc.link.retransmission" in record}
    answered = {n for n, record in records if "microrpc.response_in" in record}
    assert taken & asks == asks - answered - repeated
    assert "Nothing answers it" not in tshark("-r", str(bad_line), "-q", "-z", "expert", home=tmp_path)


def test_the_experts_tell_what_is_wrong(bad_line: Path, tmp_path: Path) -> None:
    told = tshark("-2", "-r", str(bad_line), "-q", "-z", "expert", home=tmp_path)
    for words in ("bad crc: it carries 0x", "bytes outside of any frame", "Sent again", "Error: "):
        assert words in told


def test_the_plain_bytes_of_a_frame_with_escapes_have_a_tab_of_their_own(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pcapng", [Piece(False, encode_frame(data)) for data in (b"plain", b"\xff\xff\x02")])
    shown = tshark("-r", str(path), "-x", home=tmp_path)
    assert shown.count("Frame without escapes (3 bytes):\n0000  ff ff 02") == 1
    assert shown.count("Frame without escapes") == 1


def test_a_packet_whose_direction_nothing_tells_says_so(tmp_path: Path) -> None:
    told = pcapng.packet_block(0, encode_frame(b"x"), to_board=False)
    untold = told.replace(struct.pack(">HHI", 35, 4, 1), struct.pack(">HHI", 9999, 4, 1))  # a tag that nobody knows
    untold = untold.replace(struct.pack("<HHI", 2, 4, 1), struct.pack("<HHI", 2, 4, 0))
    path = tmp_path / "x.pcapng"
    path.write_bytes(pcapng.section_header() + pcapng.interface_block("p") + untold + told)
    rows = tshark("-r", str(path), "-T", "fields", "-e", "_ws.col.Info", home=tmp_path).splitlines()
    assert rows == ["bytes whose direction nothing tells", "? too short for a message"]


# --- live, and over TCP --------------------------------------------------------------------------------------


def test_rows_come_while_the_capture_runs(tmp_path: Path) -> None:
    link = tmp_path / "board"
    writing = [*COMMAND, "capture", "sim://", "-w", "-", "--through", str(link)]
    reading = ["tshark", "-X", f"lua_script:{DISSECTOR}", "-l", "-i", "-", "-T", "fields", "-e", "_ws.col.Info"]
    capture = subprocess.Popen(writing, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    reader = None
    try:
        assert capture.stderr is not None
        assert capture.stdout is not None
        assert b"until Ctrl-C" in capture.stderr.readline()
        reader = subprocess.Popen(
            reading,
            stdin=capture.stdout,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": str(tmp_path)},
        )
        capture.stdout.close()
        called = run("call", link, "add", 2, 3)
        assert (called.returncode, called.stdout) == (0, "5\n")
        assert reader.stdout is not None
        rows: list[str] = []
        while not rows or not rows[-1].startswith("Return 5 #"):
            rows.append(reader.stdout.readline().decode().rstrip())
            assert rows[-1], rows
        assert (capture.poll(), reader.poll()) == (None, None)
        assert any(row.startswith("CALL add(2, 3) #") for row in rows)
    finally:
        capture.kill()  # first: what reads from it ends then
        capture.communicate(timeout=10)
        if reader is not None:
            reader.communicate(timeout=10)


def segment(to_board: bool, data: bytes, at: int) -> bytes:
    """Give an IPv4 packet of a TCP connection to port 9904 whose data is the stream's from byte `at` on."""
    ports = (40000, 9904) if to_board else (9904, 40000)
    tcp = struct.pack(">HHIIBBHHH", *ports, 1 + at, 1, 5 << 4, 0x18, 8192, 0, 0) + data
    ends = bytes((127, 0, 0, 1)), bytes((127, 0, 0, 1))
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + b"".join(ends) + tcp


@pytest.mark.parametrize("passes", [(), ("-2",)], ids=["at once", "in two passes, as the window does"])
def test_a_line_over_tcp_is_decoded_as_told(passes: tuple[str, ...], tmp_path: Path) -> None:
    pieces = recorded("fault_callflip")
    path = tmp_path / "x.pcap"
    sent = {True: 0, False: 0}
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 101))
        for number, (to_board, data) in enumerate(pieces):
            packet = segment(to_board, data, sent[to_board])
            sent[to_board] += len(data)
            file.write(struct.pack("<IIII", number, 0, len(packet), len(packet)) + packet)
    columns = ("-T", "fields", "-e", "_ws.col.Info")
    arguments = (*passes, "-r", str(path), "-d", "tcp.port==9904,microrpc", *columns)
    rows = tshark(*arguments, home=tmp_path).splitlines()
    words = [[f"{frame.kind} {frame.meaning}".rstrip() for frame in packet] for packet in in_words_of(pieces)]
    assert rows == [printable("; ".join(told)) or "part of a frame" for told in words]


# --- the document --------------------------------------------------------------------------------------------


_COMMAND = r"^    ((?:microrpc|tshark) .*)\n((?:\n|    (?!microrpc |tshark ).*\n)*)"


def steady(text: str) -> list[str]:
    """Give lines without what is another in each run, or after a change of the simulator: times, nonces, sizes."""
    text = re.sub(r"\d+\.\d{6,9}", "TIME", text)
    text = re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{8}\b", "HEX", text)
    text = re.sub(r"(?<=microrpc )\d+|(?<=t)\d+\\t|\b\d{3,}\b", "N", text)  # an FF in a crc is sent twice
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip()]


def test_what_the_guide_shows_is_what_comes_of_its_commands(tmp_path: Path) -> None:
    environment = os.environ | {
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TZ": "UTC",
    }
    commands = 0
    for block in re.findall(r"(?:^    .*\n|^\n)+", GUIDE, re.MULTILINE):
        for command, output in re.findall(_COMMAND, block, re.MULTILINE):
            if " | " not in command:  # which needs a board
                shell = ["bash", "-c", command]
                done = subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=True)
                assert not output.strip() or steady(done.stdout.decode()) == steady(output), command
                commands += 1
    assert commands == 4


@pytest.mark.parametrize("display_filter", re.findall(r"^\| `(.*?)` \|", GUIDE, re.MULTILINE))
def test_the_filters_of_the_guide_are_filters(display_filter: str, bad_line: Path, tmp_path: Path) -> None:
    tshark("-r", str(bad_line), "-Y", display_filter, home=tmp_path)


@pytest.mark.parametrize("rule", re.findall(r"^    @(.*)@\[\d+,\d+,\d+\]\[\d+,\d+,\d+\]$", GUIDE, re.MULTILINE))
def test_the_colours_of_the_guide_have_filters(rule: str, bad_line: Path, tmp_path: Path) -> None:
    _, display_filter = rule.split("@")
    tshark("-r", str(bad_line), "-Y", display_filter, home=tmp_path)
