"""What Wireshark makes of captures, and what our own decoder does: the same, or a test says where they differ."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from microrpc.capture import pcapng, records
from microrpc.capture.fields import FIELDS, FieldType, fields_of
from microrpc.capture.words import Frame, FrameReader, frame_of
from microrpc.cli.wireshark import DISSECTOR

WIREGASM = "@goodtools/wiregasm@1.9.1"  # Wireshark 4.4, which .ci/run installs
BEGIN_NS = 1_764_000_000_123_456_789
STEP_NS = 123_457
_HARMLESS = "Running as user"  # what it says to root, and no more
_LUA_ERROR = "text"  # where one is in the tree, and nothing else of such a packet
_KEYS = {f"microrpc_{name.replace('.', '_')}": name for name in FIELDS}  # as Elasticsearch wants them


class Piece(NamedTuple):
    """Bytes that went one way."""

    to_board: bool
    data: bytes


Record = dict[str, Any]
"""The fields of a record, as `microrpc.capture.fields` has them; times in nanoseconds."""


def cut(pieces: Iterable[Piece], size: int) -> list[Piece]:
    """Cut pieces into such of at most `size` bytes."""
    return [
        Piece(piece.to_board, piece.data[at : at + size]) for piece in pieces for at in range(0, len(piece.data), size)
    ]


def write(path: Path, *lines: Iterable[Piece]) -> Path:
    """Write a capture of the pieces of one or more lines, which came at even times."""
    time_ns = BEGIN_NS
    with path.open("wb") as file:
        file.write(pcapng.section_header())
        file.write(b"".join(pcapng.interface_block(f"/dev/ttyACM{number}") for number in range(len(lines))))
        for number, pieces in enumerate(lines):
            for piece in pieces:
                file.write(pcapng.packet_block(time_ns, piece.data, to_board=piece.to_board, interface=number))
                time_ns += STEP_NS
    return path


def tshark(*arguments: str, home: Path, script: Path | None = DISSECTOR, **options: Any) -> str:
    """Run it with the dissector, and without anything of who runs the test; give what it prints."""
    loads = ["-X", f"lua_script:{script}"] if script else []
    environment = {**os.environ, "HOME": str(home), "TZ": "UTC"}
    environment.pop("XDG_CONFIG_HOME", None)
    done = subprocess.run(
        ["tshark", *loads, *arguments],
        capture_output=True,
        env=environment,
        timeout=240,
        check=False,
        **options,
    )
    complaints = [line for line in done.stderr.decode().splitlines() if _HARMLESS not in line]
    assert (done.returncode, complaints) == (0, []), complaints
    return done.stdout.decode()


def dissected(path: Path, home: Path) -> list[list[Record]]:
    """Give what tshark makes of each packet: in two passes, so that what comes later is known too."""
    text = tshark("-2", "-r", str(path), "-T", "ek", "-J", "microrpc", home=home)
    packets = [json.loads(line)["layers"] for line in text.splitlines() if '"layers"' in line]
    assert not [number for number, layers in enumerate(packets, 1) if _LUA_ERROR in layers]
    return [list(_records(layers)) for layers in packets]


def _records(layers: Mapping[str, Any]) -> Iterator[Record]:
    found = layers.get("microrpc") or []
    for shown in found if isinstance(found, list) else [found]:
        record = dict(told((_KEYS.get(key), value) for key, value in shown.items()))
        if record:  # else a part of a frame
            yield record


def told(shown: Iterable[tuple[str | None, Any]]) -> Iterator[tuple[str, Any]]:
    """Give the fields among what a dissector has shown of one record, by their names; None has what is no field."""
    for name, value in shown:
        if name is not None:
            field = FIELDS[name]
            values = [_value(field.type, one) for one in (value if isinstance(value, list) else [value])]
            yield name, values if field.repeats else values[0] if len(values) == 1 else values


def _value(kind: FieldType, shown: Any) -> object:
    match kind:
        case FieldType.NUMBER | FieldType.HEX | FieldType.PACKET:
            return int(shown, 0)
        case FieldType.FLAG | FieldType.MARK:
            return shown if isinstance(shown, bool) else shown == "1"
        case FieldType.SECONDS:
            return int(Decimal(shown) * 10**9)
    return shown


# --- Wireshark 4.4 -----------------------------------------------------------------------------------------


class Later(NamedTuple):
    """What Wireshark 4.4 made of a capture: the numbers of the packets that the filter took, and all records."""

    taken: list[int]
    packets: list[list[Record]]


def dissected_by_4_4(package: Path, display_filter: str, *paths: Path) -> list[Later]:
    """Give what Wireshark 4.4 makes of captures; `package` is the folder of its build for WebAssembly."""
    driver = Path(__file__).parent / "wiregasm.js"
    command = ["node", str(driver), str(package), str(DISSECTOR), display_filter, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, timeout=240, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    told_all = json.loads(done.stdout)
    assert not [line for line in told_all["complaints"] if "lua" in line.lower()]
    return [
        Later(one["taken"], [[_record_of(tree) for tree in trees if _is_record(tree)] for trees in one["packets"]])
        for one in told_all["found"]
    ]


def _is_record(tree: Any) -> bool:
    label, display_filter, children = tree
    assert "Lua Error" not in label
    return display_filter == "microrpc" and any(child[1].startswith("microrpc.kind ") for child in children)


def _record_of(tree: Any) -> Record:
    found: dict[str, list[Any]] = {}
    waiting = [tree]
    while waiting:
        _, display_filter, children = waiting.pop(0)
        name, is_equal, value = display_filter.partition(" == ")
        if is_equal and name in FIELDS:
            found.setdefault(name, []).append(_unquoted(value))
        waiting = [*children, *waiting]
    return dict(told((name, values if len(values) > 1 else values[0]) for name, values in found.items()))


def _unquoted(value: str) -> str:
    """Give a value as it is, of one as it stands in a filter."""
    if not value.startswith('"'):
        return {"True": "1", "False": "0"}.get(value, value)
    return re.sub(rb"\\(x[0-9a-f]{2}|.)", _unescaped, value[1:-1].encode()).decode()


def _unescaped(escape: re.Match[bytes]) -> bytes:
    return bytes.fromhex(escape[1][1:].decode()) if escape[1][:1] == b"x" and len(escape[1]) == 3 else escape[1]


# --- our own decoder ----------------------------------------------------------------------------------------


def _read(path: Path) -> list[list[records.Record]]:
    readers: dict[str, records.RecordReader] = {}
    packets = []
    with path.open("rb") as file:
        for packet in pcapng.read_blocks(file):
            assert packet.to_board is not None
            reader = readers.setdefault(packet.interface, records.RecordReader())
            packets.append(reader.read(packet.number, packet.time_ns, packet.to_board, packet.data))
    return packets


def in_words_of(pieces: Iterable[Piece]) -> list[list[Frame]]:
    """Give the words for each piece of a line."""
    reader = FrameReader()
    return [reader.read(0.0, piece.to_board, piece.data) for piece in pieces]


def decoded(path: Path) -> list[list[Record]]:
    """Give what our own decoder makes of each packet, the whole capture known."""
    return [[_exact(fields_of(record)) for record in packet] for packet in _read(path)]


def in_words(path: Path) -> list[list[Frame]]:
    """Give the words for each packet."""
    return [[frame_of(record, 0.0) for record in packet] for packet in _read(path)]


def _exact(fields: Record) -> Record:
    if "microrpc.response_time" in fields:
        fields["microrpc.response_time"] = round(fields["microrpc.response_time"] * 1e9)
    return fields


def assert_equal(found: list[list[Record]], expected: list[list[Record]]) -> None:
    """Hold the two to each other, and say of the first packet what is another."""
    assert len(found) == len(expected)
    for number, (ours, theirs) in enumerate(zip(expected, found, strict=True), 1):
        assert len(theirs) == len(ours), f"packet {number}: {theirs}, not {ours}"
        for one, other in zip(ours, theirs, strict=True):
            wrong = {
                name: (other.get(name), one.get(name)) for name in {**one, **other} if other.get(name) != one.get(name)
            }
            assert not wrong, f"packet {number}, a {one['microrpc.kind']}: (found, expected) are {wrong}"


def assert_same(path: Path) -> list[list[Record]]:
    """Hold the dissector, in tshark, to our own decoder; give what both found."""
    expected = decoded(path)
    assert_equal(dissected(path, path.parent), expected)
    return expected
