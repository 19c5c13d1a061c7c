"""A direction of a line in pieces: whatever comes, each frame is one of them, and no byte is lost."""

from __future__ import annotations

import random

import fault_matrix
import golden
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from microrpc.capture.cutting import MOST_BETWEEN_BYTES, MOST_FRAME_BYTES, Cutter
from microrpc.wire.frames import Damage, FrameDecoder, encode_frame

A, B = encode_frame(b"\x01\xff\xfd"), encode_frame(b"b")
FF_FRAME = b"\xff\xfd\x02\0\0\0\xff\xff\xff\xff"


def pieces_of(parts: list[bytes]) -> list[bytes]:
    """Give the pieces of a stream that comes in parts, with what is left at its end."""
    cutter = Cutter()
    return [piece for part in parts for piece in cutter.cut(part)] + cutter.rest()


def check(parts: list[bytes]) -> list[bytes]:
    """Compare the pieces with what the decoder makes of the stream."""
    pieces, stream, decoder = pieces_of(parts), b"".join(parts), FrameDecoder()
    assert b"".join(pieces) == stream
    items = decoder.feed(stream)
    payloads = []
    damaged = 0
    for piece in pieces:
        found = FrameDecoder().feed(piece)
        good = [item for item in found if isinstance(item, bytes)]
        assert len([item for item in found if isinstance(item, bytes | Damage)]) <= 1
        assert not good or found == good
        payloads += good
        damaged += not good and b"\xff\xfd" in piece
    assert payloads == [item for item in items if isinstance(item, bytes)]
    assert damaged == sum(isinstance(item, Damage) for item in items) + decoder.in_packet
    return pieces


def splits(stream: bytes, rng: random.Random) -> list[bytes]:
    parts, at = [], 0
    while at < len(stream):
        size = rng.choice((1, 2, 3, 7, 50, 1000))
        parts.append(stream[at : at + size])
        at += size
    return parts


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([A + B], [A, B]),
        ([A[:3], A[3:] + B[:1], B[1:]], [A, B]),
        ([b"boot\r\n" + A], [b"boot\r\n", A]),
        ([b"bo", b"ot\r\n", A], [b"boot\r\n", A]),
        ([b"\xfe" + A], [b"\xfe" + A]),
        ([b"\xfe", b"\xff\xfe", A], [b"\xfe\xff\xfe" + A]),
        ([b"x\xff", A[:1], A[1:]], [b"x\xff", A]),
        ([A[:-1] + b"\0" + B], [A[:-1] + b"\0", B]),
        ([A[:5] + B], [A[:5], B]),
        ([A[:5] + b"\xff\x01rest"], [A[:5] + b"\xff\x01", b"rest"]),
        ([b"\xff\xfd\xfe\xfe\xfe\xfeabc\n" + B], [b"\xff\xfd\xfe\xfe\xfe\xfe", b"abc\n", B]),
        ([b"\xff\xfd\x00\x00"], [b"\xff\xfd\x00\x00"]),
        ([FF_FRAME, b"\0\0" + B], [FF_FRAME + b"\0\0", B]),
        ([], []),
    ],
)
def test_each_frame_and_what_is_between_them_is_a_piece(parts: list[bytes], expected: list[bytes]) -> None:
    assert pieces_of(parts) == expected


@pytest.mark.parametrize("name", golden.NAMES)
@pytest.mark.parametrize("direction", ["host", "device"])
def test_the_recordings_in_any_parts(name: str, direction: str) -> None:
    stream = golden.stream(name, direction)
    rng = random.Random(f"{name}/{direction}")
    whole = check([stream])
    assert check(splits(stream, rng)) == whole


@pytest.mark.parametrize("seed", range(20))
def test_the_recordings_with_damage_everywhere(seed: int) -> None:
    rng = random.Random(seed)
    stream = bytearray(golden.stream("crt_2k", "device")[:20000])
    for _ in range(60):
        at = rng.randrange(len(stream))
        match rng.randrange(4):
            case 0:
                stream[at] ^= 1 << rng.randrange(8)
            case 1:
                del stream[at : at + rng.choice((1, 5, 40))]
            case 2:
                stream[at:at] = rng.randbytes(rng.choice((1, 6)))
            case _:
                stream[at:at] = rng.choice((b"\xff", b"\xff\xfd", b"\xff\xfe", b"\xfe", b"log line\r\n", b"\xff\xff"))
    check(splits(bytes(stream), rng))


@pytest.mark.parametrize(("firmware", "direction", "kind"), fault_matrix.ROWS)
def test_the_streams_of_the_fault_matrix_with_their_faults(
    firmware: str, direction: str, kind: fault_matrix.Kind
) -> None:
    said, _ = fault_matrix.undamaged(firmware)
    stream = bytes(said[direction])
    rng = random.Random(f"{firmware}/{direction}/{kind}")
    for position in range(rng.randrange(60), len(stream), 60):
        damaged = fault_matrix.Fault(firmware, direction, kind, position).apply(stream[position])
        check(splits(stream[:position] + damaged + stream[position + 1 :], rng))


@settings(deadline=None)
@given(st.lists(st.sampled_from([A, B, A[:7], B[3:], b"\xff", b"\xfe", b"\xfd", b"\xff\xfd", b"text\n", b"\0", b"x"])))
@example([b"\xff\xfd", b"\xff", b"\xff\xfd", B])
def test_any_mixture(parts: list[bytes]) -> None:
    check(parts)


_BODY = st.lists(st.sampled_from([b"\xff", b"\xff\xff", b"\xfd", b"\xfe", b"\0", bytes(9)]), max_size=40).map(b"".join)
_CHANGE = st.tuples(
    st.integers(0, 400), st.sampled_from([b"", b"\xff", b"\xfd", b"\xfe", b"\0", b"\xff\xfd", b"\xff\xfe"])
)


@settings(deadline=None)
@given(st.lists(_BODY, min_size=1, max_size=5), st.lists(_CHANGE, max_size=3), st.lists(st.integers(1, 60), min_size=1))
@example([b"\xff" * 300], [], [100])
def test_frames_of_escapes_with_bytes_changed_in_any_parts(
    bodies: list[bytes], changes: list[tuple[int, bytes]], sizes: list[int]
) -> None:
    stream = b"".join(map(encode_frame, bodies))
    for at, instead in changes:
        stream = stream[:at] + instead + stream[at + 1 :]
    parts, at, turn = [], 0, 0
    while at < len(stream):
        parts.append(stream[at : at + sizes[turn % len(sizes)]])
        at, turn = at + len(parts[-1]), turn + 1
    check(parts)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([A, B, A[:7], b"\xff", b"\xfe", b"text", b"\n"]), max_size=12), st.sets(st.integers(0, 11))
)
def test_what_is_written_early_is_neither_lost_nor_there_twice(parts: list[bytes], flushed: set[int]) -> None:
    cutter = Cutter()
    data = b""
    for number, part in enumerate(parts):
        data += b"".join(cutter.cut(part))
        if number in flushed:
            data += b"".join(cutter.rest())
            assert data == b"".join(parts[: number + 1])
    assert data + b"".join(cutter.rest()) == b"".join(parts)


def test_what_is_kept_is_bounded() -> None:
    cutter, largest = Cutter(), 0
    endless = b"\xff\xfd" + (1 << 20).to_bytes(4, "little") + bytes(1 << 20)
    for at in range(0, len(endless), 4000):
        for piece in cutter.cut(endless[at : at + 4000]):
            largest = max(largest, len(piece))
    assert MOST_FRAME_BYTES < largest < MOST_FRAME_BYTES + 4001
    assert largest < 256 * 1024 - 100, "Wireshark refuses larger packets"
    for one in (b"x", b"\xfe"):
        cutter, largest = Cutter(), 0
        for _ in range(3 * MOST_BETWEEN_BYTES):
            for piece in cutter.cut(one):
                largest = max(largest, len(piece))
        assert largest == MOST_BETWEEN_BYTES + 1


def test_a_line_is_given_with_its_end_and_not_before() -> None:
    cutter = Cutter()
    assert [cutter.cut(part) for part in (b"boo", b"t\r", b"\n")] == [[], [], [b"boot\r\n"]]


def test_what_ended_between_frames_is_given_when_it_is_asked_for() -> None:
    cutter = Cutter()
    assert cutter.cut(b"> ") == []
    assert cutter.between() == [b"> "]
    assert cutter.cut(A[:4]) == []
    assert cutter.between() == []
    assert cutter.cut(A[4:]) == [A]
