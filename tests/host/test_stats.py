"""What is counted of a connection, against what crossed the line."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apis import Api
from commands import run, run_json

import microrpc
from firmware_sim.board.clock import VirtualClock
from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.line.settings import Rate, Uart
from firmware_sim.line.uart import UartLine
from firmware_sim.running.loopback import LineChannel, LoopbackChannel
from microrpc.cli.figures import describe_copy, stats_pairs
from microrpc.connecting.wrap import RecordingChannel
from microrpc.errors import DamagedReplyError, MicroRpcError
from microrpc.host.stats import CopyStats, Counters, Stats
from microrpc.wire.session import Timeouts

BAUD = 115200


def over_line(api: Api, *, baud: int | None = BAUD, **options: Any) -> Any:
    """Open a board on a simulated UART of `BAUD`."""
    clock = VirtualClock()
    device = Device(clock=clock)
    install(device)
    line = UartLine(device, Uart(to_board=Rate(BAUD), to_host=Rate(BAUD), power_up_s=0.0))
    return api.open_board(LineChannel(line, clock), Timeouts(), baud=baud, **options)


def stats_of(board: Any) -> Stats:
    stats = board.stats
    assert isinstance(stats, Stats)
    return stats


# --- counters -----------------------------------------------------------------------------------


def test_nothing_was_counted_yet() -> None:
    stats = Counters().snapshot()
    assert (stats.requests, stats.round_trip_s, stats.round_trip_min_s, stats.round_trip_max_s) == (0, None, None, None)
    assert stats.to_board == CopyStats(0, 0.0)
    assert (stats.to_board.goodput_bytes_s, stats.to_board.efficiency) == (None, None)


def test_round_trips_are_those_of_the_last_256_requests() -> None:
    counters = Counters()
    for number in range(1000):
        counters.now = 1000.0 + number
        counters.note_answer(1000.0)
    stats = counters.snapshot()
    assert stats.requests == 1000
    assert (stats.round_trip_min_s, stats.round_trip_s, stats.round_trip_max_s) == (744.0, 872.0, 999.0)


def test_goodput_and_efficiency_are_those_of_the_copies() -> None:
    counters = Counters(baud=100_000)
    counters.now = 3.0
    counters.note_copy_to(2000, begun_at=2.5)
    counters.note_copy_to(2500, begun_at=2.0)
    counters.note_copy_from(5000, begun_at=2.0)
    stats = counters.snapshot()
    assert stats.to_board == CopyStats(4500, 1.5, 100_000)
    assert (stats.to_board.goodput_bytes_s, stats.to_board.efficiency) == (3000.0, pytest.approx(0.3))
    assert stats.from_board.efficiency == pytest.approx(0.5)
    assert CopyStats(10, 1.0).efficiency is None


def test_a_snapshot_is_fit_for_json_and_stays_as_it_was() -> None:
    counters = Counters(baud=9600)
    before = counters.snapshot(bytes_skipped=1, retransmissions=2, repeats=3)
    counters.now = 1.0
    counters.note_copy_to(480, begun_at=0.0)
    assert before.to_board.size_bytes == 0
    shown = json.loads(json.dumps(counters.snapshot().as_dict(), allow_nan=False))
    copy = {"size_bytes": 480, "seconds": 1.0, "baud": 9600, "goodput_bytes_s": 480.0, "efficiency": 0.5}
    assert shown["to_board"] == copy
    assert [getattr(before, name) for name in ("bytes_skipped", "retransmissions", "repeats")] == [1, 2, 3]


# --- boards -------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", [True, False])
def test_frames_and_bytes_are_those_that_crossed_the_line(api: Api, link: bool) -> None:
    device = Device()
    install(device)
    channel = RecordingChannel(LoopbackChannel(device))
    board = api.open_board(channel, Timeouts(), link=link)
    assert board.function("add")(2, 3) == 5
    board.array(np.arange(10_000, dtype=np.float32)).numpy()
    stats = stats_of(board)
    sent = sum(frame.to_board for frame in channel.frames)
    assert (stats.frames_sent, stats.frames_received) == (sent, len(channel.frames) - sent)
    assert stats.bytes_sent == channel.trace.bytes_to_board
    assert stats.bytes_received == channel.trace.bytes_to_host
    assert (stats.to_board.size_bytes, stats.from_board.size_bytes) == (40_000, 40_000)
    assert (stats.sessions, stats.resets) == (1, 0)
    nothing = (stats.frames_damaged, stats.bytes_skipped, stats.retransmissions, stats.repeats)
    assert nothing == (0, 0, 0, 0)


@pytest.mark.parametrize("link", [True, False])
def test_round_trips_take_as_long_as_their_bytes_and_the_board(api: Api, link: bool) -> None:
    board = over_line(api, link=link)
    sleep = board.function("sleep_ms")
    for milliseconds in (100, 10, 50):
        sleep(milliseconds)
    stats = stats_of(board)
    assert stats.requests >= 4
    assert stats.round_trip_max_s == pytest.approx(0.1, abs=0.02)
    assert stats.round_trip_min_s is not None
    assert stats.round_trip_s is not None
    assert 0.001 < stats.round_trip_min_s <= stats.round_trip_s < 0.1


def test_efficiency_is_a_share_of_what_the_baud_rate_allows(api: Api) -> None:
    board = over_line(api)
    data = np.random.default_rng(0).integers(0, 256, 60_000, np.uint8)
    array = board.array(data)
    array.numpy()
    array.write(data)
    stats = stats_of(board)
    for copies, size_bytes in ((stats.to_board, 120_000), (stats.from_board, 60_000)):
        assert (copies.size_bytes, copies.baud) == (size_bytes, BAUD)
        assert copies.seconds >= size_bytes * 10 / BAUD
        assert copies.efficiency is not None
        assert 0.9 < copies.efficiency < 1
        assert copies.goodput_bytes_s == pytest.approx(copies.efficiency * BAUD / 10)


def test_without_a_baud_rate_there_is_no_efficiency(api: Api) -> None:
    board = over_line(api, baud=None)
    board.array(np.zeros(100, np.int8))
    assert stats_of(board).to_board.efficiency is None
    assert stats_of(board).to_board.goodput_bytes_s is not None


def test_an_empty_copy_takes_no_time(api: Api) -> None:
    board = over_line(api)
    board.array(np.zeros(0, np.int8)).numpy()
    assert stats_of(board).to_board == stats_of(board).from_board == CopyStats(0, 0.0, BAUD)


def test_copies_that_verify_are_not_counted_as_copies(api: Api) -> None:
    board = api.open_board(LoopbackChannel(Device(firmware="stock")), Timeouts())
    board.array(np.zeros(1000, np.int8), verify=True)
    assert (stats_of(board).to_board.size_bytes, stats_of(board).from_board.size_bytes) == (1000, 0)


class Flip:
    """Damages one byte of what crosses, once, when told to."""

    def __init__(self) -> None:
        self.is_armed = False

    def __call__(self, data: bytes) -> bytes:
        if not self.is_armed or len(data) < 12:
            return data
        self.is_armed = False
        return data[:10] + bytes((data[10] ^ 0x01,)) + data[11:]


@pytest.mark.parametrize("link", [True, False])
def test_damage_is_counted_and_what_was_sent_again(api: Api, link: bool) -> None:
    device, flip = Device(), Flip()
    install(device)
    board = api.open_board(LoopbackChannel(device, to_host=flip), Timeouts(), link=link)
    add = board.function("add")
    flip.is_armed = True
    try:
        add(1, 2)
    except DamagedReplyError:
        assert not link
    kept = [board.global_function("add")]  # else its handle is given back before the next look-up
    flip.is_armed = True
    kept += [board.global_function("add")]
    assert None not in kept
    stats = stats_of(board)
    assert stats.frames_damaged == 2
    assert (stats.retransmissions, stats.repeats) == ((2, 0) if link else (0, 1))
    device.reset()
    with pytest.raises(MicroRpcError):
        add(1, 2)
    board.function("add")(1, 2)
    later = stats_of(board)
    assert later.resets == 1
    assert later.sessions > stats.sessions
    assert later.retransmissions == stats.retransmissions  # those of the session that is over stay


def test_a_closed_board_still_tells(api: Api) -> None:
    board = api.open_board(LoopbackChannel(Device()), Timeouts())
    frames_sent = stats_of(board).frames_sent
    board.close()
    assert stats_of(board).frames_sent == frames_sent + 1  # the goodbye


# --- the commands -------------------------------------------------------------------------------


def plain(**fields: Any) -> Stats:
    return dataclasses.replace(Counters().snapshot(), **fields)


@pytest.mark.parametrize(
    ("copies", "fields", "line"),
    [
        (CopyStats(65536, 0.01), {}, "65536 bytes in 10 ms: 6.55 MB/s"),
        (CopyStats(11520, 1.25, 115200), {}, "11520 bytes in 1.25 s: 9.22 kB/s, 80% of 115200 baud"),
        (CopyStats(65536, 0.01, 115200), {}, "65536 bytes in 10 ms: 6.55 MB/s"),
        (CopyStats(0, 0.0, 115200), {}, "0 bytes in 0 ns"),
        (CopyStats(10, 0.0), {"repeats": 1}, "10 bytes in 0 ns; sent again after doubt: 1"),
        (
            CopyStats(1000, 1.0),
            {"frames_damaged": 2, "retransmissions": 3},
            "1000 bytes in 1 s: 1 kB/s; sent again: 3, frames that came damaged: 2",
        ),
    ],
)
def test_a_copy_is_one_line(copies: CopyStats, fields: dict[str, int], line: str) -> None:
    assert describe_copy(copies, plain(**fields)) == line


def test_a_connection_without_frames_shows_none() -> None:
    names = [name for name, _ in stats_pairs(plain(bytes_sent=3, bytes_received=4))]
    assert names == ["bytes"]
    assert dict(stats_pairs(plain(bytes_skipped=9)))["bytes"] == "0 sent, 0 received, 9 of them outside of frames"


def test_info_shows_the_statistics() -> None:
    out = run("info", "sim://").out
    assert re.search(r"^frames +\d+ sent, \d+ received, 0 came damaged$", out, flags=re.MULTILINE)
    assert re.search(r"^sent again +0 by the link, 0 after doubt$", out, flags=re.MULTILINE)
    assert re.search(r"^requests +\d+, answered in [\d.]+ [um]s \(median; ", out, flags=re.MULTILINE)
    stats = run_json("info", "sim://")["stats"]
    assert stats["requests"] > 25
    assert stats["to_board"]["efficiency"] is None


def test_put_ends_with_a_line_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(5000))
    result = run("put", "sim://", tmp_path / "data")
    assert re.match(r"5000 bytes in [\d.]+ [um]s: [\d.]+ [kM]B/s\n", result.err)
    assert run_json("put", "sim://", tmp_path / "data")["stats"]["to_board"]["size_bytes"] == 5000


def test_the_demonstration_ends_with_the_statistics() -> None:
    out = run("demo", "--full", "--baud", "2000000").out
    shown = out.partition("\nStatistics\n")[2]
    assert re.search(r"copies to the board +\d+ bytes in [\d.]+ ms: [\d.]+ kB/s, \d\d% of 2000000 baud", shown)
    frames = re.search(r"frames +(\d+) sent, (\d+) received, 0 came damaged", shown)
    assert frames is not None
    total = re.search(r"all \d+ checks hold; (\d+) frames", shown)
    assert total is not None
    assert int(frames[1]) + int(frames[2]) == int(total[1])
    assert run_json("demo")["stats"]["from_board"]["efficiency"] is None


# --- the document -------------------------------------------------------------------------------


def test_every_field_is_documented() -> None:
    text = (Path(microrpc.__file__).parent.parent / "docs" / "copies.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (?:\S )?(`.*?) \|", text, flags=re.MULTILINE))))
    fields = {field.name for kind in (Stats, CopyStats) for field in dataclasses.fields(kind)}
    assert documented == fields | {"goodput_bytes_s", "efficiency"}
