"""`microrpc decode`: a capture in words, by filters, and as JSON."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from pathlib import Path

import pytest
from commands import run
from golden import VECTORS
from processes import COMMAND

from microrpc.capture.pcapng import interface_block, packet_block, section_header
from microrpc.wire.datatypes import OpaqueHandle
from microrpc.wire.events import EventMessage, encode_event, encode_event_body
from microrpc.wire.frames import encode_frame
from microrpc.wire.packets import CallFunc, Packet, PacketCode, Return, Syscall, encode_packet

ROOT = Path(__file__).parent.parent.parent
MS = 1_000_000


def normal(packet: Packet) -> bytes:
    return encode_frame(struct.pack("<HB", 0x0201, 0x10) + encode_packet(packet))


EVENT = encode_frame(encode_event(0x0201, encode_event_body(EventMessage(3, False, 1000, "tick", (1,)))))
SAID = [
    (True, normal(Syscall(PacketCode.GET_GLOBAL_FUNC, ("add",))), ()),
    (False, normal(Return((OpaqueHandle(9),))), ()),
    (True, normal(CallFunc(9, (2, 3))), ()),
    (False, normal(Return((0, 5))), ()),
    (False, b"boot\x1b[0m\n", ("port opened again",)),
    (False, EVENT, ()),
    (False, normal(Return((0, 5)))[:-1] + b"\0", ("fault: byte 30",)),
    (True, normal(CallFunc(9, ())), ()),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    blocks = [
        packet_block(1_700_000_000_000_000_000 + at * 500 * MS, data, to_board=to_board, comments=comments)
        for at, (to_board, data, comments) in enumerate(SAID)
    ]
    path = tmp_path / "x.pcapng"
    path.write_bytes(section_header() + interface_block("/dev/x") + b"".join(blocks))
    return path


SUMMARY = "3 frames to the board, 3 from it; 1 damaged; 1 unanswered; 9 bytes of text"


def test_each_frame_is_a_line_and_the_end_counts_them(path: Path) -> None:
    result = run("decode", path)
    assert result.code == 0
    assert result.out.splitlines() == [
        '      0.0 ms  -> board    34 B  GetGlobalFunc   "add"',
        "    500.0 ms  <- board    31 B  Return          0x9",
        "   1000.0 ms  -> board    51 B  CallFunc        add(2, 3)",
        "   1500.0 ms  <- board    43 B  Return          5",
        "   2000.0 ms  -- port opened again",
        '   2000.0 ms  <- board     9 B  text            "boot\\x1b[0m"',
        '   2500.0 ms  <- board    30 B  EVENT           #3 "tick"(1) at 0.001000 s',
        "   3000.0 ms  -- fault: byte 30",
        "   3000.0 ms  <- board     ? B  damaged         bad crc: it carries 0x00BF, but its bytes give 0x18BF",
        "   3500.0 ms  -> board    27 B  CallFunc        add()",
    ]
    assert result.err.splitlines() == [SUMMARY]


@pytest.mark.parametrize(
    ("options", "packets"),
    [
        (["--kind", "callfunc"], [3, 8]),
        (["--code", "Return"], [2, 4]),
        (["--kind", "text", "--kind", "EVENT"], [5, 6]),
        (["--name", "add"], [1, 2, 3, 4, 8]),
        (["--name", "t*"], [6]),
        (["--direction", "to-board"], [1, 3, 8]),
        (["--direction", "from-board", "--kind", "Return"], [2, 4]),
        (["--from", "1", "--to", "2"], [3, 4, 5]),
        (["--to", "0"], [1]),
        (["--name", "nothing"], []),
    ],
)
def test_filters_choose_what_is_shown_and_not_what_is_counted(
    path: Path, options: list[str], packets: list[int]
) -> None:
    result = run("decode", path, "--json", *options)
    assert (result.code, result.err) == (0, "")
    assert [json.loads(line)["packet"] for line in result.out.splitlines()] == packets
    assert run("decode", path, *options).err.splitlines() == [SUMMARY]


def test_a_kind_that_is_not_there_is_told_with_those_that_are(path: Path) -> None:
    result = run("decode", path, "--kind", "callfunk", "--kind", "Return")
    assert (result.code, len(result.out.splitlines())) == (0, 2)
    there = "CallFunc, damaged, EVENT, GetGlobalFunc, Return, text"
    told = [line for line in result.err.splitlines() if line != SUMMARY]
    assert told == [f"nothing in it is of the kind callfunk; there are: {there}"]


def test_a_capture_of_something_else_is_told_to_be_one(tmp_path: Path) -> None:
    file = tmp_path / "x.pcapng"
    file.write_bytes(section_header() + interface_block("lo"))
    result = run("decode", file)
    assert (result.code, result.out, result.err) == (0, "", f"{file}: there is nothing of microrpc in it\n")


def test_damage_is_an_exit_code(path: Path) -> None:
    result = run("decode", path, "--damage")
    assert (result.code, len(result.out.splitlines())) == (1, 2)
    assert run("decode", VECTORS / "crt_2k.jsonl", "--damage").code == 0


def test_json_has_the_fields_of_wireshark(path: Path) -> None:
    lines = [json.loads(line) for line in run("decode", path, "--json").out.splitlines()]
    assert lines[3] == {
        "packet": 4,
        "time_ns": 1_700_000_001_500_000_000,
        "interface": "/dev/x",
        "direction": "from-board",
        "kind": "Return",
        "meaning": "5",
        "comments": [],
        "fields": {
            "microrpc.kind": "Return",
            "microrpc.payload_size": 43,
            "microrpc.session_id": 0x0201,
            "microrpc.message_type": 16,
            "microrpc.packet_size": 32,
            "microrpc.code": "Return",
            "microrpc.function": "add",
            "microrpc.argc": 2,
            "microrpc.arg": ["0", "5"],
            "microrpc.arg.type": ["Int", "Int"],
            "microrpc.result": "5",
            "microrpc.result.type": "Int",
            "microrpc.request_in": 3,
            "microrpc.response_time": 0.5,
        },
    }
    assert lines[4]["comments"] == ["port opened again"]


def test_bytes_of_one_direction_are_decoded_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"hello\n" + EVENT)
    result = run("decode", tmp_path / "log")
    assert result.code == 5
    assert "bytes of a line alone need --raw to-board or --raw from-board" in result.err
    result = run("decode", tmp_path / "log", "--raw", "from-board")
    assert [line.split()[6] for line in result.out.splitlines()] == ["text", "EVENT"]


def test_a_file_that_is_cut_off_is_shown_up_to_there(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])
    result = run("decode", path)
    assert (result.code, len(result.out.splitlines())) == (5, 9)
    counted, error = result.err.splitlines()
    assert counted.startswith("2 frames to the board, 3 from it")
    assert re.fullmatch(rf"error: {re.escape(str(path))}: .* at byte \d+ a block of \d+ bytes is cut off.*", error)


def test_wrong_times_and_missing_files_are_one_error(tmp_path: Path) -> None:
    result = run("decode", tmp_path / "x", "--from", "2", "--to", "1")
    assert (result.code, result.err) == (2, "error: --to 1 is before --from 2\n")
    result = run("decode", tmp_path / "x", "--from", "nan")
    assert (result.code, result.err) == (2, "error: --from nan: must be a number of seconds\n")
    result = run("decode", tmp_path / "x")
    assert (result.code, result.err) == (6, f"error: {tmp_path / 'x'}: No such file or directory\n")


def test_a_pipe_is_shown_while_it_grows_and_a_reader_may_go(path: Path) -> None:
    data = path.read_bytes()
    command = [*COMMAND, "decode", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(data[:400])
        process.stdin.flush()
        assert b"GetGlobalFunc" in process.stdout.readline()
        process.stdout.close()
        process.stdin.write(data[400:])
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


def test_the_commands_of_the_document_run(tmp_path: Path, path: Path) -> None:
    text = (ROOT / "docs" / "capture.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    microrpc decode x\.pcapng(.*)$", text, flags=re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        options = [option.strip("'") for option in command.split()]
        assert run("decode", path, *options).code == (1 if "--damage" in options and "--from" not in options else 0)
