"""What a monitor keeps and shows."""

from __future__ import annotations

import gc
import weakref

import pytest
from watched import board_packets, golden_packets, made

from microrpc.capture.pcapng import Packet
from microrpc.capture.rows import PART, Family, Filter, Rows, packets_of
from microrpc.capture.watching import Watch
from microrpc.wire.frames import encode_frame

LOG = encode_frame(b"\x00\x00\x03careful\n")
INIT = encode_frame(b"\x07\x00\x00\x01")


def watch_of(packets: list[Packet], most: int = 20_000) -> Watch:
    watch = Watch(most)
    for packet in packets:
        watch.take(packet)
    return watch


def test_each_frame_line_and_run_is_a_row_with_its_family() -> None:
    damaged = LOG[:-1] + bytes([LOG[-1] ^ 1])
    watch = watch_of(
        made((True, INIT), (False, LOG), (False, b"booting\r\n"), (False, b"\x01\x02\x80"), (True, damaged))
    )
    assert [(row.kind, row.family, row.to_board, row.packet.number) for row in watch.rows] == [
        ("INIT", Family.SESSIONS, True, 1),
        ("LOG", Family.LOGS, False, 2),
        ("text", Family.TEXT, False, 3),
        ("noise", Family.DAMAGE, False, 4),
        ("damaged", Family.DAMAGE, True, 5),
    ]
    counts = watch.counts
    assert (counts.repeated, counts.damaged, counts.text, counts.noise) == (0, 1, 1, 1)
    assert watch.rates.frames == (2, 1)


def test_two_lines_of_text_in_a_packet_are_two_rows_and_the_packet_is_saved_once() -> None:
    watch = watch_of(made((False, b"one\ntwo\n"), (False, LOG)))
    assert [row.meaning for row in watch.rows] == ['"one"', '"two"', '"careful\\n"']
    assert [packet.number for packet in packets_of(watch.rows)] == [1, 2]


def test_a_packet_in_which_nothing_ends_is_a_row_too_so_that_it_is_saved() -> None:
    watch = watch_of(made((False, LOG[:7]), (False, LOG[7:])))
    assert [(row.kind, len(row.record.payload)) for row in watch.rows] == [(PART, 0), ("LOG", 11)]
    assert b"".join(packet.data for packet in packets_of(watch.rows)) == LOG


def test_rows_that_are_not_kept_any_more_are_gone_without_the_garbage_collector() -> None:
    watch = watch_of(board_packets(lambda board: [board.function("add")(number, 3) for number in range(5)]))
    calls = [weakref.ref(row.record) for row in watch.rows if row.partner is not None]
    assert len(calls) > 10
    gc.disable()
    try:
        watch.clear()
        for packet in board_packets(lambda board: board.function("add")(2, 3)):  # of another session
            watch.take(packet)
        assert [call() for call in calls if call() is not None] == []
    finally:
        gc.enable()


def test_a_recording_gives_a_row_for_each_of_its_frames_in_their_order() -> None:
    packets = golden_packets()
    watch = watch_of(packets)
    assert sum(watch.rates.frames) == 1008
    assert [row.serial for row in watch.rows] == list(range(1, len(watch.rows) + 1))
    assert list(packets_of(watch.rows)) == packets


def test_a_request_and_its_reply_know_each_other_and_the_time_between() -> None:
    watch = watch_of(board_packets(lambda board: board.function("add")(2, 3)))
    asked = next(row for row in watch.rows if row.meaning.startswith("add(2, 3)"))
    answer = next(row for row in watch.rows if row.packet.number == asked.partner)
    assert answer.partner == asked.packet.number
    assert answer.answered_s == asked.answered_s == (answer.packet.time_ns - asked.packet.time_ns) / 1e9 > 0
    assert watch.round_trips.count > 2
    assert watch.rows.find(asked.packet.number) is asked
    assert watch.rows.find(0) is None


def test_a_reply_is_of_the_family_of_its_request() -> None:
    watch = watch_of(board_packets(lambda board: board.array([1.5] * 750), "sim://nucleo_f746zg"))
    families = {row.kind: row.family for row in watch.rows if row.kind in ("WRITE", "DONE")}
    assert families == {"WRITE": Family.COPIES, "DONE": Family.COPIES}


def test_only_the_newest_rows_are_kept() -> None:
    packets = golden_packets()
    watch = watch_of(packets, most=100)
    everything = list(watch_of(packets).rows)
    assert [row.serial for row in watch.rows] == [row.serial for row in everything[-100:]]
    assert [row.serial for row in watch.rows.shown] == [row.serial for row in everything[-100:]]
    assert watch.rows.left_out == len(everything) - 100


def test_rows_are_bounded_by_the_bytes_of_their_packets_too() -> None:
    whole = Watch()
    rows = Rows(1000, most_bytes=100)
    for packet in made(*[(False, b"x" * 29 + b"\n")] * 10):
        whole.take(packet)
    for row in whole.rows:
        rows.add(row)
    assert [row.serial for row in rows] == [8, 9, 10]


def test_one_packet_larger_than_all_room_is_kept_alone() -> None:
    rows = Rows(10, most_bytes=10)
    for row in watch_of(made((False, b"x\n"), (False, b"y" * 99 + b"\n"))).rows:
        rows.add(row)
    assert [row.serial for row in rows] == [2]


# --- what is wanted -------------------------------------------------------------------------------


def test_a_family_is_hidden_and_shown_again() -> None:
    watch = watch_of(made((True, INIT), (False, LOG), (False, b"text\n")))
    watch.rows.filter = watch.rows.filter.toggled(Family.LOGS)
    assert [row.kind for row in watch.rows.shown] == ["INIT", "text"]
    watch.rows.filter = watch.rows.filter.toggled(Family.LOGS)
    assert [row.kind for row in watch.rows.shown] == ["INIT", "LOG", "text"]
    assert watch.rows.filter.is_open


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        ("", ["INIT", "LOG", "text"]),
        ("log", ["LOG"]),
        ("CAREFUL", ["LOG", "text"]),
        ("careful text", ["text"]),
        ("!careful", ["INIT"]),
        ("careful !log", ["text"]),
        ("nowhere", []),
    ],
)
def test_all_words_must_be_there_and_those_behind_a_mark_must_not(words: str, kinds: list[str]) -> None:
    watch = watch_of(made((True, INIT), (False, LOG), (False, b"careful\n")))
    watch.rows.filter = Filter(words=words)
    assert [row.kind for row in watch.rows.shown] == kinds


def test_what_comes_and_what_goes_is_filtered_like_what_is_there() -> None:
    packets = golden_packets()
    watch = Watch(200)
    watch.rows.filter = Filter(words="copy")
    for packet in packets:
        watch.take(packet)
        wanted = [row for row in watch.rows if "copy" in f"{row.kind} {row.meaning}".lower()]
        if packet.number % 50 == 0:
            assert list(watch.rows.shown) == wanted
    assert 0 < len(watch.rows.shown) < 200


def test_a_copy_stays_as_it_is_and_has_a_filter_of_its_own() -> None:
    watch = watch_of(made((True, INIT), (False, LOG)), most=3)
    copy = watch.rows.copy()
    for packet in made((False, b"a\n"), (False, b"b\n"), (False, b"c\n")):
        watch.take(packet)
    assert [row.kind for row in copy.shown] == ["INIT", "LOG"]
    assert [row.meaning for row in watch.rows] == ['"a"', '"b"', '"c"']
    copy.filter = Filter(words="init")
    assert (len(copy.shown), len(watch.rows.shown)) == (1, 3)


def test_clearing_forgets_rows_and_figures_but_not_the_names_of_functions() -> None:
    packets = board_packets(lambda board: (board.function("add")(2, 3), board.function("add")(4, 5)))
    at = next(index for index, packet in enumerate(packets) if b"\x04\0\0\0\0\0\0\0\x05\0\0\0" in packet.data)
    watch = watch_of(packets[:at])
    watch.clear()
    assert (len(watch.rows), watch.rates.frames, watch.round_trips.count, watch.first_ns) == (0, (0, 0), 0, 0)
    for packet in packets[at:]:
        watch.take(packet)
    assert any(row.meaning.startswith("add(4, 5)") for row in watch.rows)
