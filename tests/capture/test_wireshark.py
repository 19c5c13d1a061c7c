"""The dissector against our own decoder: the same fields, packet by packet (docs/wireshark.md)."""

from __future__ import annotations

import os
import random
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import describing
import fault_matrix
import golden
import needs
import numpy as np
import pytest
from mutations import SESSION, Maker
from processes import COMMAND, run
from wireshark import (
    DISSECTOR,
    Piece,
    assert_equal,
    cut,
    decoded,
    dissected,
    dissected_by_4_4,
    in_words,
    in_words_of,
    tshark,
    write,
)

import microrpc
from firmware_sim.line.faults import Double, Drop, Faults, Flip, Insert
from firmware_sim.running.simulate import SimBoard
from microrpc.capture.fields import FIELDS
from microrpc.connecting.blocking import open_board
from microrpc.connecting.wrap import tapped
from microrpc.errors import printable
from microrpc.wire.frames import encode_frame
from microrpc.wire.packets import (
    CopyAck,
    encode_packet,
)
from microrpc.wire.session import MessageType, Timeouts, encode_message

pytestmark = pytest.mark.tools

T = TypeVar("T")
GUIDE = (Path(__file__).parents[2] / "docs" / "wireshark.md").read_text(encoding="utf-8")
WIREGASM = "@goodtools/wiregasm@1.9.1"  # which .ci/run installs
MOST_TOLD = 8  # frames of one packet that its line tells of
MUTATED_BYTES = 2_000_000
STEP = 211  # of the positions of the fault matrix: each row has some, and a run takes seconds


@pytest.fixture(autouse=True)
def _needs_tshark() -> None:
    needs.program("tshark")


def assert_same(path: Path) -> list[list[dict[str, object]]]:
    """Hold the dissector to our decoder; give what both found."""
    expected = decoded(path)
    assert_equal(dissected(path, path.parent), expected)
    return expected


@pytest.fixture(scope="session")
def bad_line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of the link on a bad line."""
    return write(tmp_path_factory.mktemp("bad_line") / "x.pcapng", on_a_bad_line(seed=1))


def recorded(name: str) -> list[Piece]:
    return [Piece(burst.dir == "host", burst.data) for burst in golden.load(name)]


# --- recordings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", golden.NAMES)
def test_a_golden_conversation_has_the_fields_of_our_own_decoder(name: str, tmp_path: Path) -> None:
    assert sum(map(len, assert_same(write(tmp_path / "x.pcapng", recorded(name))))) > 1


@pytest.mark.parametrize("size", [1, 7])
def test_bursts_that_are_cut_give_the_same_records(size: int, tmp_path: Path) -> None:
    pieces = recorded("fault_helloflip")
    found = assert_same(write(tmp_path / "cut.pcapng", cut(pieces, size)))
    whole = decoded(write(tmp_path / "whole.pcapng", pieces))

    def kinds(packets: list[list[dict[str, object]]]) -> list[object]:
        return [
            (record["microrpc.kind"], record.get("microrpc.arg"))
            for packet in packets
            for record in packet
            if record["microrpc.kind"] not in ("noise", "text")  # which are told for each packet
        ]

    assert kinds(found) == kinds(whole)


def test_wireshark_4_4_has_the_same_fields_in_lua_5_4(tmp_path: Path) -> None:
    needs.program("node", "nodejs")
    package = needs.npm(WIREGASM)
    paths = [write(tmp_path / f"{name}.pcapng", recorded(name)) for name in golden.NAMES]
    paths.append(write(tmp_path / "cut.pcapng", cut(recorded("fault_callflip"), 7)))
    paths.append(write(tmp_path / "mutated.pcapng", Maker(seed=3).pieces(100_000)))
    found = dissected_by_4_4(package, "microrpc.code == CallFunc", *paths)
    for path, later in zip(paths, found, strict=True):
        expected = decoded(path)
        assert_equal(later.packets, expected)
        calls = [any(record.get("microrpc.code") == "CallFunc" for record in packet) for packet in expected]
        assert later.taken == [number for number, is_call in enumerate(calls, 1) if is_call]


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


# --- the fault matrix, and the link on a bad line --------------------------------------------------------------


class Recording:
    """What passed, in order."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        if data:
            self.pieces.append(Piece(to_board, bytes(data)))


class RecordedLine(fault_matrix.Line):
    """A line of the matrix whose bytes are recorded as they arrive."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.recording = Recording()

    def _pass(self, direction: str, data: bytes, deliver: Callable[[bytes], None]) -> bytes:
        def note(arrived: bytes) -> None:
            self.recording.note(0.0, arrived, to_board=direction == "to-board")
            deliver(arrived)

        return super()._pass(direction, data, note)


@pytest.mark.parametrize("firmware", fault_matrix.FIRMWARES)
def test_the_conversations_of_the_fault_matrix_have_the_fields_of_our_own_decoder(
    firmware: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, _ = fault_matrix.undamaged(firmware)
    lines: list[RecordedLine] = []

    def make(*arguments: object) -> RecordedLine:
        lines.append(RecordedLine(*arguments))
        return lines[-1]

    monkeypatch.setattr(fault_matrix, "Line", make)
    for name, direction, kind in fault_matrix.ROWS:
        if name == firmware:
            for position in range(0, len(said[direction]), STEP):
                fault_matrix.run(fault_matrix.Fault(firmware, direction, kind, position))
    assert len(lines) >= 20
    found = assert_same(write(tmp_path / "x.pcapng", *(line.recording.pieces for line in lines)))
    assert any(record["microrpc.kind"] == "damaged" for packet in found for record in packet)


class Steps:
    """A function that tells how far it has come."""

    def __call__(self, steps: int) -> Iterator[tuple[int, int]]:
        for step in range(steps):
            yield step + 1, steps


def fails() -> None:
    raise ValueError("no sensor")


def on_a_bad_line(seed: int) -> list[Piece]:
    """Converse with a board over a line that damages and loses: look-ups, calls, copies, events, a description."""
    strikes = (Flip(rate=2e-4), Drop(rate=1e-4), Double(rate=1e-4), Insert(rate=1e-4))
    sim = SimBoard(microrpc.profile("loopback"), faults=Faults(strikes, seed=seed), seed=seed)
    describing.install(sim.device)
    sim.device.functions["steps"] = Steps()
    sim.device.functions["fails"] = fails
    recording = Recording()
    timeouts = Timeouts(retry_s=0.5, start_s=60.0, call_s=60.0)
    with open_board(sim.open_channel(), timeouts, seed=seed, wrap=tapped(recording)) as board:
        board.on_event(None, lambda event: None)
        assert board.functions()
        board.memory()
        assert board.function("sum")(1, 2, 3) == 6
        with pytest.raises(microrpc.RemoteError):
            board.function("fails")()
        board.function("steps")(5)
        array = board.empty(40_000, "uint8")
        array.write(np.random.default_rng(seed).integers(0, 256, 40_000, dtype=np.uint8))
        array.numpy()
        for number in range(20):
            sim.device.event("said", number, 0.5, "text \xe9", b"\xff\xfd", reliable=number % 2 == 0)
        board.poll(2.0)
    return recording.pieces


@pytest.mark.parametrize("seed", range(3))
def test_the_link_on_a_bad_line_has_the_fields_of_our_own_decoder(seed: int, tmp_path: Path) -> None:
    found = assert_same(write(tmp_path / "x.pcapng", on_a_bad_line(seed)))
    names = {name for packet in found for record in packet for name in record}
    assert names >= {
        "microrpc.link.retransmission",
        "microrpc.link.window_requests",
        "microrpc.features",
        "microrpc.description",
        "microrpc.memory.heap",
        "microrpc.event.name",
        "microrpc.event.credit",
        "microrpc.progress.done",
        "microrpc.damage",
        "microrpc.response_time",
    }


# --- whatever bytes ----------------------------------------------------------------------------------------------


def test_two_megabytes_of_mutated_bytes_have_the_fields_of_our_own_decoder(tmp_path: Path) -> None:
    found = assert_same(write(tmp_path / "x.pcapng", Maker(seed=17).pieces(MUTATED_BYTES)))
    assert {name for packet in found for record in packet for name in record} == set(FIELDS)


def test_two_megabytes_of_noise_have_the_fields_of_our_own_decoder(tmp_path: Path) -> None:
    chance = random.Random(5)
    pieces = []
    for _ in range(MUTATED_BYTES // 500):
        data = chance.randbytes(500).replace(b"\x80", b"\xff\xfd").replace(b"\x00\x00", b"\xff\xff")
        pieces.append(Piece(chance.random() < 0.5, data))
    assert_same(write(tmp_path / "x.pcapng", pieces))


def test_a_long_message_is_put_together_and_one_that_is_too_long_is_refused(tmp_path: Path) -> None:
    long = encode_frame(encode_message(SESSION, MessageType.NORMAL, encode_packet(CopyAck(bytes(range(256)) * 4000))))
    too_long = b"\xff\xfd" + struct.pack("<I", (1 << 20) + 1) + b"text\n"
    found = assert_same(write(tmp_path / "x.pcapng", cut([Piece(False, long + too_long)], 4096)))
    kinds = [(record["microrpc.kind"], record.get("microrpc.damage")) for packet in found for record in packet]
    assert kinds == [("CopyAck", None), ("damaged", "too long"), ("text", None)]


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


def test_a_line_over_tcp_is_decoded_as_told(tmp_path: Path) -> None:
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
    rows = tshark("-r", str(path), "-d", "tcp.port==9904,microrpc", *columns, home=tmp_path).splitlines()
    words = [[f"{frame.kind} {frame.meaning}".rstrip() for frame in packet] for packet in in_words_of(pieces)]
    assert rows == [printable("; ".join(told)) or "part of a frame" for told in words]


# --- the document --------------------------------------------------------------------------------------------


_COMMAND = r"^    ((?:microrpc|tshark) .*)\n((?:\n|    (?!microrpc |tshark ).*\n)*)"


def steady(text: str) -> list[str]:
    """Give lines without what is another in each run, or after a change of the simulator: times, nonces, handles."""
    text = re.sub(r"\d+\.\d{6,9}", "TIME", text)
    text = re.sub(r"0x[0-9a-f]+", "0x...", text)
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
