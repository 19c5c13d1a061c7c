"""microrpc.wire.frames against the recordings and against a slow bytewise transcript of docs/protocol.md 1."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import golden
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from slow_crc import slow_crc

from microrpc.errors import RequestError
from microrpc.wire.crc import crc16
from microrpc.wire.frames import (
    FRAME_OVERHEAD_BYTES,
    Damage,
    DamageKind,
    FrameDecoder,
    FrameEncoder,
    Garbage,
    Item,
    encode_frame,
)

MAX = 600  # max_payload_bytes of most decoders here
VECTORS = {b"one": bytes.fromhex("FFFD030000006F6E6558F4"), b"": bytes.fromhex("FFFD000000008344")}

# --- the slow reference -----------------------------------------------------------------------

Seen = bytes | tuple[DamageKind, int]


def slow_escape(data: bytes) -> bytes:
    wire = bytearray()
    for byte in data:
        wire.append(byte)
        if byte == 0xFF:
            wire.append(0xFF)
    return bytes(wire)


def slow_frame(payload: bytes, announce: int | None = None) -> bytes:
    length = len(payload) if announce is None else announce
    body = b"\xff\xfd" + slow_escape(length.to_bytes(4, "little") + payload)
    return body + slow_escape(slow_crc(body).to_bytes(2, "little"))


class SlowDecoder:
    """One byte at a time, with a flag for "the last byte was an FF that escapes"."""

    def __init__(self, max_payload_bytes: int) -> None:
        self.max = max_payload_bytes
        self.out: list[Seen] = []
        self.all: list[Seen | Garbage] = []  # with what is outside of frames
        self.position = -1
        self.hunt()

    def hunt(self) -> None:
        self.state = "hunt"
        self.escape = False

    def start(self) -> None:
        self.state = "length"
        self.escape = False
        self.offset = self.position - 1
        self.crc = slow_crc(b"\xff\xfd")
        self.field = bytearray()
        self.payload = b""

    def note(self, item: Seen) -> None:
        self.out.append(item)
        self.all.append(item)

    def damage(self, kind: DamageKind) -> None:
        self.note((kind, self.offset))

    def garbage(self, byte: int) -> None:
        last = self.all.pop() if self.all and isinstance(self.all[-1], Garbage) else Garbage(b"")
        assert isinstance(last, Garbage)
        self.all.append(Garbage(last.data + bytes([byte])))

    def byte(self, byte: int) -> None:
        self.position += 1
        if self.state == "hunt":
            if self.escape and byte == 0xFD:
                self.start()
                return
            if self.escape and byte != 0xFE:
                self.garbage(0xFF)
            self.escape = byte == 0xFF
            if byte not in (0xFE, 0xFF):
                self.garbage(byte)
            return
        if self.escape:
            self.escape = False
            if byte == 0xFD:
                self.damage(DamageKind.SHORT_PACKET)
                self.start()
                return
            if byte not in (0xFE, 0xFF):
                self.damage(DamageKind.INVALID_ESCAPE)
                self.hunt()
                return
            if self.state != "crc":
                self.crc = slow_crc([0xFF, byte], self.crc)
            if byte == 0xFE:
                return
        elif byte == 0xFF:
            self.escape = True
            return
        elif self.state != "crc":
            self.crc = slow_crc([byte], self.crc)
        self.field.append(byte)
        if self.state == "length" and len(self.field) == 4:
            self.length = int.from_bytes(self.field, "little")
            self.field = bytearray()
            if self.length > self.max:
                self.damage(DamageKind.TOO_LONG)
                self.hunt()
            else:
                self.state = "payload" if self.length else "crc"
        elif self.state == "payload" and len(self.field) == self.length:
            self.payload = bytes(self.field)
            self.field = bytearray()
            self.state = "crc"
        elif self.state == "crc" and len(self.field) == 2:
            if int.from_bytes(self.field, "little") == self.crc:
                self.note(self.payload)
            else:
                self.damage(DamageKind.BAD_CRC)
            self.hunt()


def slow_decode(data: bytes, max_payload_bytes: int = MAX) -> SlowDecoder:
    decoder = SlowDecoder(max_payload_bytes)
    for byte in data:
        decoder.byte(byte)
    return decoder


# --- helpers ----------------------------------------------------------------------------------


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    points = [0, *sorted(at), len(data)]
    return [data[a:b] for a, b in pairwise(points)]


def decode(pieces: Iterable[bytes], max_payload_bytes: int = MAX, decoder: FrameDecoder | None = None) -> list[Item]:
    decoder = decoder or FrameDecoder(max_payload_bytes)
    return [item for piece in pieces for item in decoder.feed(piece)]


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def seen(items: Iterable[Item]) -> list[Seen]:
    """Payloads and damages, in short."""
    return [
        (item.kind, item.offset) if isinstance(item, Damage) else item
        for item in items
        if not isinstance(item, Garbage)
    ]


def joined(items: Iterable[Item]) -> list[Item]:
    """The items, garbage that came in pieces made one."""
    whole: list[Item] = []
    for item in items:
        last = whole[-1] if whole else None
        if isinstance(item, Garbage) and isinstance(last, Garbage):
            whole[-1] = Garbage(last.data + item.data)
        else:
            whole.append(item)
    return whole


def in_short(items: Iterable[Item]) -> list[Seen | Garbage]:
    """All that a decoder gave, as the reference tells it."""
    return [(item.kind, item.offset) if isinstance(item, Damage) else item for item in joined(items)]


def check_every_split(data: bytes, expected: list[Seen], max_payload_bytes: int = MAX) -> None:
    """Whole, byte by byte, and cut in two at every place."""
    whole = FrameDecoder(max_payload_bytes)
    items = whole.feed(data)
    slow = slow_decode(data, max_payload_bytes)
    assert seen(items) == expected == slow.out
    assert in_short(items) == slow.all
    for pieces in [bytewise(data), *(cut(data, [at]) for at in range(len(data) + 1))]:
        decoder = FrameDecoder(max_payload_bytes)
        assert joined(decode(pieces, decoder=decoder)) == joined(items)  # the texts too
        assert (decoder.in_packet, decoder.bytes_skipped) == (whole.in_packet, whole.bytes_skipped)


def hold(decoder: FrameDecoder) -> int:
    """Bytes that the decoder keeps between feeds."""
    return sum(len(value) for value in vars(decoder).values() if isinstance(value, bytes | bytearray))


ff_rich = st.lists(
    st.sampled_from([b"\xff", b"\xff\xff", b"\xfe", b"\xfd", b"\x00", b"a", b"\xff\xfe", b"\xff\xfd", b"\xff" * 31]),
    max_size=30,
).map(b"".join)
payloads = st.one_of(st.binary(max_size=40), ff_rich, st.integers(0, 300).map(lambda n: b"\xff" * n))


# --- encoding ---------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", VECTORS)
def test_the_vectors_of_the_protocol_encode_exactly(payload: bytes) -> None:
    assert encode_frame(payload) == VECTORS[payload] == slow_frame(payload)


@given(payload=payloads)
@example(payload=b"\xff" * 2048)
@example(payload=b"\xff" * 63)
@example(payload=b"\xff" * 64)
@example(payload=b"\xff" * 65)
@example(payload=b"\xff" * 255 + b"\0" + b"\xff" * 257 + b"\0" + b"\xff" * 513)
@example(payload=b"\xff\x00" * 500)
@example(payload=bytes(255))
def test_a_frame_is_what_the_reference_encodes(payload: bytes) -> None:
    assert encode_frame(payload) == slow_frame(payload)


def test_every_small_length_is_escaped_rightly() -> None:
    for length in [*range(0, 600, 5), 255, 256, 511, 0xFF00, 0xFFFF]:
        payload = bytes(length)
        assert encode_frame(payload) == slow_frame(payload)
        assert decode([slow_frame(payload)], 1 << 16) == [payload]


def test_the_first_frame_after_a_reset_is_preceded_by_one_lone_fe() -> None:
    encoder = FrameEncoder()
    frame = VECTORS[b"one"]
    assert [encoder.encode(b"one"), encoder.encode(b"one")] == [b"\xfe" + frame, frame]
    encoder.reset()
    assert encoder.message_start(3) + encoder.message_chunk(b"one") + encoder.message_done() == b"\xfe" + frame
    assert encoder.message_start(3) + encoder.message_chunk(b"one") + encoder.message_done() == frame


@given(payload=payloads, at=st.lists(st.integers(0, 600), max_size=6))
def test_a_message_in_pieces_is_the_same_bytes_as_a_whole_one(payload: bytes, at: list[int]) -> None:
    encoder = FrameEncoder()
    chunks = cut(payload, [min(i, len(payload)) for i in at])
    wire = encoder.message_start(len(payload)) + b"".join(map(encoder.message_chunk, chunks)) + encoder.message_done()
    assert wire == b"\xfe" + slow_frame(payload)


def test_a_message_in_pieces_refuses_more_bytes_than_it_announced_and_goes_on() -> None:
    encoder = FrameEncoder()
    wire = encoder.message_start(3) + encoder.message_chunk(b"on")
    with pytest.raises(RequestError, match="2 bytes given, but only 1"):
        encoder.message_chunk(b"ee")
    with pytest.raises(RequestError, match="unfinished: 1 of"):
        encoder.message_done()
    assert wire + encoder.message_chunk(b"e") + encoder.message_done() == b"\xfe" + VECTORS[b"one"]


def test_a_message_in_pieces_refuses_a_wrong_order() -> None:
    encoder = FrameEncoder()
    with pytest.raises(RequestError, match="message_start"):
        encoder.message_chunk(b"")
    with pytest.raises(RequestError, match="message_start"):
        encoder.message_done()
    encoder.message_start(1)
    with pytest.raises(RequestError, match="unfinished"):
        encoder.message_start(1)
    with pytest.raises(RequestError, match="unfinished"):
        encoder.encode(b"")
    encoder.reset()
    assert encoder.encode(b"one") == b"\xfe" + VECTORS[b"one"]


@pytest.mark.parametrize("size", [-1, 1 << 32])
def test_a_size_that_the_length_cannot_say_is_refused_and_changes_nothing(size: int) -> None:
    encoder = FrameEncoder()
    with pytest.raises(RequestError, match=str(size)):
        encoder.message_start(size)
    assert encoder.encode(b"one") == b"\xfe" + VECTORS[b"one"]


def test_the_largest_length_can_be_announced() -> None:
    assert FrameEncoder().message_start(0xFFFF_FFFF) == b"\xfe\xff\xfd" + b"\xff" * 8


# --- decoding ---------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", VECTORS)
def test_the_vectors_of_the_protocol_decode_at_every_split(payload: bytes) -> None:
    check_every_split(VECTORS[payload], [payload])


def test_frames_back_to_back_decode_at_every_split() -> None:
    check_every_split(b"".join(VECTORS.values()) * 3, [b"one", b""] * 3)


def test_a_lone_fe_before_a_packet_is_skipped() -> None:
    check_every_split(b"\xfe" + VECTORS[b"one"], [b"one"])


def test_a_lone_fe_completes_a_line_left_dangling_after_an_ff() -> None:
    frame = VECTORS[b"one"]
    check_every_split(frame[:8] + b"\xff" + b"\xfe" + frame, [(DamageKind.SHORT_PACKET, 0), b"one"])


def test_a_dangling_escape_joins_the_next_feed() -> None:
    payload = b"a\xffb"
    decoder = FrameDecoder()
    wire = slow_frame(payload)
    at = wire.index(b"\xff\xff") + 1
    assert decoder.feed(wire[:at]) == []
    assert decoder.feed(b"") == []
    assert decoder.feed(wire[at:]) == [payload]


def test_while_hunting_ff_ff_fd_starts_a_packet_at_the_second_ff() -> None:
    frame = VECTORS[b"one"]
    check_every_split(b"\xff" + frame + b"\xff\xff" + frame, [b"one", b"one"])
    bad = bytearray(frame)
    bad[-1] ^= 1
    check_every_split(b"\xff\xff" + bytes(bad), [(DamageKind.BAD_CRC, 2)])


def test_inside_a_packet_ff_ff_fd_is_an_escaped_ff_and_fd() -> None:
    for payload in (b"\xff\xfd", b"\xfd\xff\xfd\xff\xff\xfd", b"\xff\xfe\xff"):
        check_every_split(slow_frame(payload), [payload])


def test_a_restart_in_mid_packet_drops_the_one_and_gives_the_other() -> None:
    frame = slow_frame(b"a\xffb" + bytes(20))
    half = frame.index(b"\xff\xff") + 1
    for end in range(2, len(frame)):
        data = frame[:end] + VECTORS[b"one"]
        # Cut in half an escape, the packet swallows the start: FF FF is the escaped FF, and FD is one of its bytes.
        check_every_split(data, [] if end == half else [(DamageKind.SHORT_PACKET, 0), b"one"])
        check_every_split(
            frame[:end] + b"\xfe" + VECTORS[b"one"], slow_decode(frame[:end] + b"\xfe" + VECTORS[b"one"]).out
        )


def test_an_invalid_escape_drops_the_packet_and_the_hunt_goes_on_after_it() -> None:
    frame = VECTORS[b"one"]
    for end in range(2, len(frame)):
        for code in (0x00, 0x41, 0xFC):
            data = frame[:end] + bytes([0xFF, code]) + frame[end:] + frame
            check_every_split(data, [(DamageKind.INVALID_ESCAPE, 0), b"one"])


def test_a_wrong_crc_drops_the_packet_and_only_it() -> None:
    for bit in range(8 * 6, 8 * len(VECTORS[b"one"])):
        bad = bytearray(VECTORS[b"one"])
        bad[bit // 8] ^= 1 << bit % 8
        if 0xFF not in bad[2:]:
            check_every_split(bytes(bad) + VECTORS[b""], [(DamageKind.BAD_CRC, 0), b""])


def test_no_ops_are_skipped_everywhere_in_a_packet_and_count_in_the_crc_before_it() -> None:
    payload = b"a\xffb"
    tokens = [*bytewise((3).to_bytes(4, "little")), b"a", b"\xff\xff", b"b"]
    nop = b"\xff\xfe"
    for at in range(len(tokens) + 1):
        # At the end of the payload a no-op comes after the last byte that the crc covers.
        body = b"\xff\xfd" + b"".join(tokens[:at] + [nop] * (at < len(tokens)) + tokens[at:])
        low, high = (slow_escape(bytes([byte])) for byte in slow_crc(body).to_bytes(2, "little"))
        for crc in (low + high, nop + low + high, low + nop + high, nop + nop + low + nop + nop + high):
            check_every_split(body + crc + VECTORS[b"one"], [payload, b"one"])
    everywhere = b"\xff\xfd" + nop + nop.join(tokens)
    crc = nop.join(slow_escape(bytes([byte])) for byte in slow_crc(everywhere).to_bytes(2, "little"))
    check_every_split(everywhere + nop + crc, [payload])


def test_a_crc_that_holds_ff_is_escaped() -> None:
    rng = random.Random(3)
    escaped = {"low": 0, "high": 0}
    while min(escaped.values()) < 3:
        payload = rng.randbytes(4).replace(b"\xff", b"")
        body = b"\xff\xfd" + len(payload).to_bytes(4, "little") + payload
        low, high = slow_crc(body).to_bytes(2, "little")
        if 0xFF in (low, high):
            escaped["low" if low == 0xFF else "high"] += 1
            frame = body + slow_escape(bytes([low, high]))
            assert encode_frame(payload) == frame
            encoder = FrameEncoder()
            pieces = encoder.message_start(len(payload)) + encoder.message_chunk(payload) + encoder.message_done()
            assert pieces == b"\xfe" + frame
            check_every_split(frame + VECTORS[b"one"], [payload, b"one"])


def test_a_frame_without_escapes_is_its_payload_and_the_overhead() -> None:
    assert len(encode_frame(bytes(100))) == 100 + FRAME_OVERHEAD_BYTES


def test_a_length_that_holds_ff_is_escaped() -> None:
    payload = bytes(255)
    frame = slow_frame(payload)
    assert frame.startswith(b"\xff\xfd\xff\xff\x00\x00\x00")
    check_every_split(frame + VECTORS[b"one"], [payload, b"one"])


def test_the_largest_payload_is_accepted_and_one_byte_more_is_refused() -> None:
    check_every_split(slow_frame(bytes(40)) + VECTORS[b"one"], [bytes(40), b"one"], 40)
    check_every_split(slow_frame(bytes(41)) + VECTORS[b"one"], [(DamageKind.TOO_LONG, 0), b"one"], 40)
    check_every_split(slow_frame(b"", 0xFFFF_FFFF) + VECTORS[b"one"], [(DamageKind.TOO_LONG, 0), b"one"], 40)
    check_every_split(VECTORS[b""] + VECTORS[b"one"], [b"", (DamageKind.TOO_LONG, 8)], 0)


def test_frames_of_any_size_up_to_many_windows_decode_in_pieces_of_any_size() -> None:
    rng = random.Random(1)
    sizes = [4000, 4089, 4095, 4096, 4097, 8191, 20000]
    sent = [rng.randbytes(size) for size in sizes] + [b"\xff" * size for size in sizes]
    sent += [
        rng.randbytes(700) + b"\xff" * 3000 + rng.randbytes(9),
        b"\xff\x00" * 3000,
        b"\x00" + b"\xff" * 255 + b"ab",
    ]
    wire = b"".join(map(slow_frame, sent))
    for step in (1, 7, 64, 1000, 4096, 4097, len(wire)):
        assert decode((wire[i : i + step] for i in range(0, len(wire), step)), 20000) == sent


def test_damage_reads_well() -> None:
    good = VECTORS[b"one"]
    stream = b"".join(
        [
            b"xyz",
            good[:-1] + b"\xf5",
            good[:8],
            good[:8] + b"\xffA",
            slow_frame(b"", 1000),
        ]
    )
    assert [str(item) for item in decode([stream]) if isinstance(item, Damage)] == [
        "bad crc in the frame at byte 3: it carries 0xF558, but its bytes give 0xF458",
        "short packet in the frame at byte 14: the sender restarted before its payload was complete (bytes missing: 1)",
        "invalid escape in the frame at byte 22: FF 41 at byte 30, before its payload was complete (bytes missing: 1)",
        "too long in the frame at byte 32: it announces 1000 bytes, and 600 are accepted",
    ]


def test_offsets_count_from_the_start_of_the_stream_over_feeds_and_resets() -> None:
    good = VECTORS[b"one"]
    bad = good[:-1] + b"\x00"
    decoder = FrameDecoder()
    assert decoder.feed(good[:5]) == []
    decoder.reset()
    assert seen(decoder.feed(bad)) == [(DamageKind.BAD_CRC, 5)]
    assert decoder.feed(b"\xff") == []
    decoder.reset()
    assert decoder.feed(b"\xfd") == [Garbage(b"\xfd")]
    assert not decoder.in_packet
    assert seen(decoder.feed(bad)) == [(DamageKind.BAD_CRC, 18)]


def test_a_reset_forgets_the_packet_in_progress_silently() -> None:
    decoder = FrameDecoder()
    decoder.feed(VECTORS[b"one"][:7])
    assert decoder.in_packet
    decoder.reset()
    assert not decoder.in_packet
    assert decoder.feed(VECTORS[b"one"]) == [b"one"]


def test_a_packet_tells_how_much_it_announces_from_its_length_to_the_end_of_its_crc() -> None:
    decoder = FrameDecoder()
    announced = []
    for byte in b"\xfe" + b"\xff\xfd\x03\0\0\0" + b"a\xff\xffb" + b"\x4a\x16" + b"x":
        announced.append(decoder.payload_bytes)
        decoder.feed(bytes([byte]))
    assert announced == [0] * 7 + [3] * 6 + [0]


def test_in_packet_holds_from_the_start_to_the_last_byte_of_the_crc() -> None:
    decoder = FrameDecoder()
    states = []
    for piece in bytewise(b"x" + VECTORS[b"one"]):
        decoder.feed(piece)
        states.append(decoder.in_packet)
    assert states == [False] * 2 + [True] * 9 + [False]


def test_only_garbage_counts_as_skipped() -> None:
    decoder = FrameDecoder()
    decoder.feed(b"\xfe" + VECTORS[b"one"] + b"\xff\xfe\xff\xfe" + VECTORS[b"one"])
    assert decoder.bytes_skipped == 0
    found = [decoder.feed(piece) for piece in (b"abc", b"\xff", b"x\xfe", b"\xff", VECTORS[b"one"])]
    assert found == [[Garbage(b"abc")], [], [Garbage(b"\xffx")], [], [Garbage(b"\xff"), b"one"]]
    assert decoder.bytes_skipped == 6


# --- against the reference, under noise ---------------------------------------------------------

frames = st.builds(slow_frame, payloads)
noise = st.one_of(
    frames,
    frames,
    ff_rich,
    st.binary(max_size=10),
    st.builds(lambda frame, end: frame[: end % (len(frame) + 1)], frames, st.integers(0, 400)),
    st.builds(
        lambda frame, at, bits: (
            frame[: at % len(frame)] + bytes([frame[at % len(frame)] ^ bits]) + frame[at % len(frame) + 1 :]
        ),
        frames,
        st.integers(0, 400),
        st.integers(1, 255),
    ),
    st.builds(
        lambda frame, at, junk: frame[: at % len(frame)] + junk + frame[at % len(frame) :],
        frames,
        st.integers(0, 400),
        ff_rich,
    ),
    st.builds(slow_frame, payloads, st.integers(0, 700)),
)


@settings(max_examples=400, deadline=None)
@given(parts=st.lists(noise, max_size=6), at=st.lists(st.integers(0, 2000), max_size=8))
def test_any_stream_in_any_pieces_decodes_as_the_reference_says(parts: list[bytes], at: list[int]) -> None:
    data = b"".join(parts)
    slow = slow_decode(data, 300)
    whole, pieces, single = FrameDecoder(300), FrameDecoder(300), FrameDecoder(300)
    items = whole.feed(data)
    assert in_short(items) == slow.all
    assert joined(decode(cut(data, [min(i, len(data)) for i in at]), decoder=pieces)) == joined(items)
    assert joined(decode(bytewise(data), decoder=single)) == joined(items)
    assert whole.in_packet == pieces.in_packet == single.in_packet == (slow.state != "hunt")
    assert whole.bytes_skipped == pieces.bytes_skipped == single.bytes_skipped


def test_long_noisy_streams_decode_as_the_reference_says() -> None:
    for seed in range(12):
        rng = random.Random(seed)
        data = bytearray()
        for _ in range(25):
            kind = rng.randrange(4)
            size = rng.choice([0, 3, 64, 255, 511, 1500])
            body = rng.randbytes(size) if kind else bytes(rng.choices(b"\xff\xff\xff\xfe\xfd\x00", k=size))
            data += slow_frame(body + b"\xff" * rng.choice([0, 0, 0, 31, 256, 700]))
        for _ in range(rng.choice([0, 5, 30])):
            at = rng.randrange(len(data))
            action = rng.randrange(3)
            if action == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif action == 1:
                del data[at]
            else:
                data[at:at] = rng.choice([b"\xff", b"\xff\xfe", b"\xfe", b"\xff\xff", b"\xff\xfd", b"\xff\x00"])
        wire = bytes(data)
        expected = slow_decode(wire, 2500).all
        for step in (len(wire), 1, 100, 777):
            pieces = (wire[i : i + step] for i in range(0, len(wire), step))
            assert in_short(decode(pieces, 2500)) == expected


# --- memory -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opening", "flood"),
    [
        (VECTORS[b"one"][:4], b"\xff\xfe"),  # no-ops in the length
        (VECTORS[b"one"][:8], b"\xff\xfe"),  # in the payload
        (VECTORS[b"one"][:-1], b"\xff\xfe"),  # in the crc
        (b"", b"\xff\xfe"),
        (b"", b"\xff"),
        (b"", b"garbage"),
        (b"\xff\xfd", b"\xff\xff"),  # a length of 2**32 - 1, then garbage
        (b"\xff\xfd\x00\x00\x10\x00", b"\xff\xfd\x00\x00\x10\x00"),  # restarts that announce 1 MiB
    ],
)
def test_memory_is_bounded_whatever_is_sent(opening: bytes, flood: bytes) -> None:
    decoder = FrameDecoder()
    decoder.feed(opening)
    chunk = flood * 100
    decoder.feed(chunk)

    def peak_bytes() -> int:
        fed = 0
        tracemalloc.start()
        try:
            while fed < 60_000:
                decoder.feed(chunk)
                fed += len(chunk)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # The least of three: what other threads of this process allocate is counted too.
    assert any(peak_bytes() < 40_000 for _ in range(3))
    assert hold(decoder) < 100


def test_a_frame_that_announces_too_much_allocates_nothing() -> None:
    decoder = FrameDecoder(max_payload_bytes=1 << 10)
    tracemalloc.start()
    try:
        assert seen(decoder.feed(b"\xff\xfd\x00\x00\x00\xf0" + bytes(100))) == [(DamageKind.TOO_LONG, 0)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000


def test_a_decoder_keeps_no_payload_after_its_packet() -> None:
    decoder = FrameDecoder()
    assert decode(bytewise(slow_frame(bytes(5000))), decoder=decoder) == [bytes(5000)]
    assert hold(decoder) < 100


# --- the recordings ---------------------------------------------------------------------------

# What each damaged recording carries: (name, direction) -> (whole payloads, kind, offset of the damaged frame).
FAULTS = {
    ("fault_callflip", "host"): (20, DamageKind.BAD_CRC, 386),
    ("fault_hellodrop", "device"): (8, DamageKind.SHORT_PACKET, 1),
    ("fault_helloflip", "device"): (50, DamageKind.BAD_CRC, 1),
    ("fault_initdrop", "host"): (15, DamageKind.SHORT_PACKET, 12),
    ("fault_initflip", "host"): (15, DamageKind.BAD_CRC, 12),
    ("fault_replyflip", "device"): (9, DamageKind.BAD_CRC, 286),
}
STREAMS = [(name, direction) for name in golden.NAMES for direction in ("host", "device")]


@pytest.mark.parametrize(("name", "direction"), STREAMS)
def test_a_recording_gives_exactly_the_damage_it_carries_in_any_pieces(name: str, direction: str) -> None:
    data = golden.stream(name, direction)
    whole = FrameDecoder(2048)
    items = whole.feed(data)
    damages = [item for item in seen(items) if not isinstance(item, bytes)]
    assert seen(items) == slow_decode(data, 2048).out
    assert not whole.in_packet
    assert whole.bytes_skipped == 0
    if (name, direction) in FAULTS:
        count, kind, offset = FAULTS[name, direction]
        assert damages == [(kind, offset)]
        assert len(items) == count + 1
    else:
        assert damages == []
    assert decode(bytewise(data), 2048) == items
    assert decode([burst.data for burst in golden.load(name) if burst.dir == direction], 2048) == items


@pytest.mark.parametrize(("name", "direction"), [s for s in STREAMS if s not in FAULTS])
def test_a_sound_recording_encodes_to_the_same_bytes(name: str, direction: str) -> None:
    data = golden.stream(name, direction)
    encoder = FrameEncoder()
    sent = [item for item in slow_decode(data, 2048).out if isinstance(item, bytes)]
    assert b"".join(map(encoder.encode, sent)) == data


@pytest.mark.parametrize("name", [name for name in golden.NAMES if name != "crt_2k"])
def test_a_short_recording_decodes_the_same_at_every_split(name: str) -> None:
    for direction in ("host", "device"):
        data = golden.stream(name, direction)[:800]
        check_every_split(data, slow_decode(data, 2048).out, 2048)


def test_all_recordings_are_there() -> None:
    assert "crt_2k" in golden.NAMES
    assert len(golden.NAMES) == 7
    assert Path(golden.VECTORS, "README.md").exists()
    assert crc16(golden.stream("crt_2k", "host")) == slow_crc(golden.stream("crt_2k", "host"))
