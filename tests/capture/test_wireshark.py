"""The dissector against our own decoder: the same fields, packet by packet (docs/wireshark.md)."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import golden
import needs
import pytest
from conversations import on_a_bad_line, recorded
from mutations import SESSION, Maker
from wireshark import (
    WIREGASM,
    Piece,
    assert_equal,
    assert_same,
    cut,
    decoded,
    dissected_by_4_4,
    write,
)

from microrpc.capture.fields import FIELDS
from microrpc.wire.datatypes import OpaqueHandle
from microrpc.wire.frames import encode_frame
from microrpc.wire.packets import CallFunc, CopyAck, Return, Syscall, encode_packet
from microrpc.wire.session import MessageType, encode_message

MUTATED_BYTES = 2_000_000


@pytest.fixture(autouse=True)
def _needs_tshark() -> None:
    needs.program("tshark")


# --- recordings -------------------------------------------------------------------------------------------


@pytest.mark.tools
@pytest.mark.parametrize("name", golden.NAMES)
def test_a_golden_conversation_has_the_fields_of_our_own_decoder(name: str, tmp_path: Path) -> None:
    assert sum(map(len, assert_same(write(tmp_path / "x.pcapng", recorded(name))))) > 1


@pytest.mark.tools
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


@pytest.mark.tools
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


@pytest.mark.tools
def test_lines_of_one_capture_know_nothing_of_each_other(tmp_path: Path) -> None:
    """In two passes, as the window has them: in the first one there are no fields that tell of the interface."""
    messages = [(True, Syscall(9, ("add",))), (False, Return((OpaqueHandle(1),))), (True, CallFunc(1, ()))]
    pieces = [
        Piece(to_board, encode_frame(encode_message(SESSION, MessageType.NORMAL, encode_packet(packet))))
        for to_board, packet in messages
    ]
    found = assert_same(write(tmp_path / "x.pcapng", pieces, pieces[2:]))
    assert [packet[0].get("microrpc.function") for packet in found] == ["add", "add", "add", None]


# --- the link on a bad line ---------------------------------------------------------------------------------------


@pytest.mark.tools
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


@pytest.mark.tools
@pytest.mark.timeout(300)
def test_two_megabytes_of_mutated_bytes_have_the_fields_of_our_own_decoder(tmp_path: Path) -> None:
    found = assert_same(write(tmp_path / "x.pcapng", Maker(seed=17).pieces(MUTATED_BYTES)))
    assert {name for packet in found for record in packet for name in record} == set(FIELDS)


@pytest.mark.tools
def test_two_megabytes_of_noise_have_the_fields_of_our_own_decoder(tmp_path: Path) -> None:
    chance = random.Random(5)
    pieces = []
    for _ in range(MUTATED_BYTES // 500):
        data = chance.randbytes(500).replace(b"\x80", b"\xff\xfd").replace(b"\x00\x00", b"\xff\xff")
        pieces.append(Piece(chance.random() < 0.5, data))
    assert_same(write(tmp_path / "x.pcapng", pieces))


@pytest.mark.tools
def test_a_long_message_is_put_together_and_one_that_is_too_long_is_refused(tmp_path: Path) -> None:
    long = encode_frame(encode_message(SESSION, MessageType.NORMAL, encode_packet(CopyAck(bytes(range(256)) * 4000))))
    too_long = b"\xff\xfd" + struct.pack("<I", (1 << 20) + 1) + b"text\n"
    found = assert_same(write(tmp_path / "x.pcapng", cut([Piece(False, long + too_long)], 4096)))
    kinds = [(record["microrpc.kind"], record.get("microrpc.damage")) for packet in found for record in packet]
    assert kinds == [("CopyAck", None), ("damaged", "too long"), ("text", None)]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(100, 108))
def test_a_quarter_of_a_megabyte_of_mutated_bytes_has_the_same_fields_in_lua_5_4(seed: int, tmp_path: Path) -> None:
    needs.program("node", "nodejs")
    path = write(tmp_path / "x.pcapng", Maker(seed=seed).pieces(MUTATED_BYTES // 8))
    [later] = dissected_by_4_4(needs.npm(WIREGASM), "microrpc.damage", path)
    assert_equal(later.packets, decoded(path))
