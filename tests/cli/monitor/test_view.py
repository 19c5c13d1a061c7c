"""The monitor's screen, without a terminal: what stands on it, and what keys do."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from textual import events
from textual.pilot import Pilot
from watched import START_NS, board_packets, golden_packets, made

from microrpc.capture.pcapng import Packet, read_blocks
from microrpc.cli.monitor.alone import AloneApp
from microrpc.cli.monitor.feed import Feed
from microrpc.cli.monitor.help import HELP
from microrpc.cli.monitor.view import MonitorApp
from microrpc.wire.frames import encode_frame

LOG = encode_frame(b"\x00\x00\x03careful\n")
SMALL, WIDE = (80, 24), (160, 40)
Use = Callable[["Screen"], Awaitable[None]]


class Filled:
    """A source whose packets are all there, and of which more come when a test says so."""

    def __init__(self, packets: Sequence[Packet]) -> None:
        self.feed = Feed(most_packets=1_000_000)
        self.left_out = 0
        self.news: deque[str] = deque()
        self.add(packets)

    def add(self, packets: Sequence[Packet]) -> None:
        for packet in packets:
            self.feed.put(packet)

    def take_left_out(self) -> int:
        count, self.left_out = self.left_out, 0
        return count


class Screen:
    """The screen as a person has it: its lines, and keys."""

    def __init__(self, app: MonitorApp, pilot: Pilot[None], source: Filled) -> None:
        self.app, self.pilot, self.source = app, pilot, source

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    async def come(self, packets: Sequence[Packet]) -> None:
        self.source.add(packets)
        await self.settle()

    async def settle(self) -> None:
        while self.source.feed._packets:
            self.app.tick()
        self.app.tick()
        await self.pilot.pause()
        await self.pilot.pause()

    @property
    def lines(self) -> list[str]:
        size = self.app.size
        return [strip.text.rstrip() for strip in self.app.screen._compositor.render_strips(size)]

    @property
    def rows(self) -> list[str]:
        """The lines of the list, without the column of its scroll bar."""
        shown = self.app.list
        region = shown.region
        return [line[: region.right - 1].rstrip() for line in self.lines[region.y : region.bottom]]

    @property
    def told(self) -> list[str]:
        """What is told in the corner."""
        return [each.message for each in self.app._notifications]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def on_screen(
    packets: Sequence[Packet],
    use: Use,
    *,
    size: tuple[int, int] = SMALL,
    baud: int | None = None,
    clock: Callable[[], float] | None = None,
    keep: int = 20_000,
    title: str = "/dev/ttyACM0",
    kind: type[MonitorApp] = MonitorApp,
) -> None:
    async def run() -> None:
        source = Filled(packets)
        app = kind(source, title, baud=baud, clock=clock, keep=keep)
        async with app.run_test(size=size) as pilot:
            screen = Screen(app, pilot, source)
            await screen.settle()
            await use(screen)

    asyncio.run(run())


def lines_of(count: int, start: int = 1) -> list[Packet]:
    """Packets with a line of text each, numbered."""
    return [
        Packet(number, START_NS + number * 10**6, False, b"line %d\n" % number, (), "line")
        for number in range(start, start + count)
    ]


# --- what stands on it ----------------------------------------------------------------------------


def test_a_small_terminal_has_rows_figures_families_and_keys() -> None:
    async def look(screen: Screen) -> None:
        assert screen.lines[0] == " microrpc monitor  /dev/ttyACM0 · that is all"
        assert screen.lines[1].startswith(" → board  ")
        assert "round trip" in screen.lines[1]
        assert "repeated 0, damaged 0, noise 0" in screen.lines[2]
        assert screen.lines[3] == " 1 calls 2 copies 3 logs 4 text 5 events 6 sessions 7 damage  1,008 rows"
        assert screen.lines[4].split() == ["time,", "s", "bytes", "kind", "what", "it", "says"]
        assert len(screen.rows) == 18
        assert screen.rows[-1].split() == ["1.005000", "→", "15", "Shutdown"]
        assert "Filter" in screen.lines[23]
        assert "Quit" in screen.lines[23]
        assert max(map(len, screen.lines)) <= 80

    async def ended(screen: Screen) -> None:
        screen.source.feed.finish("that is all")
        await screen.settle()
        await look(screen)

    on_screen(golden_packets(), ended)


def test_a_wide_terminal_says_which_way_in_words_and_has_room_for_long_rows() -> None:
    async def look(screen: Screen) -> None:
        [row] = [row for row in screen.rows if "GetGlobalFunc" in row and "AllocDataTyped" not in row][:1]
        assert "→ board" in row
        assert max(map(len, screen.lines)) <= 160

    on_screen(golden_packets()[:30], look, size=WIDE)


@pytest.mark.parametrize("size", [(80, 24), (40, 12), (20, 5), (300, 80)])
def test_it_fits_any_terminal_with_details_open(size: tuple[int, int]) -> None:
    async def look(screen: Screen) -> None:
        await screen.press("up", "enter")
        assert len(screen.lines) == size[1]
        assert max(map(len, screen.lines)) <= size[0]

    on_screen(golden_packets()[:200], look, size=size)


def test_details_go_where_there_is_room_when_the_terminal_is_made_another_size() -> None:
    async def use(screen: Screen) -> None:
        await screen.press("enter")
        below = screen.app.list.region
        assert below.width == 60
        assert "0008  " in screen.text
        await screen.pilot.resize_terminal(*WIDE)
        await screen.settle()
        assert screen.app.list.region.width == WIDE[0] - 80
        assert "0008  " not in screen.text  # there are 16 bytes in a line now
        await screen.pilot.resize_terminal(60, 40)
        await screen.settle()
        assert screen.app.list.region == below

    on_screen(lines_of(3, 10_000), use, size=(60, 40))


def test_each_way_of_the_line_keeps_its_line_of_figures_where_there_is_little_room() -> None:
    async def look(screen: Screen) -> None:
        assert [line[:8] for line in screen.lines[1:3]] == [" → board", " ← board"]
        assert screen.lines[1].endswith("…")

    on_screen(board_packets(lambda board: board.function("add")(2, 3)), look, size=(50, 20), baud=115200)


def test_what_is_to_be_known_of_a_line_has_room_in_the_title_though_its_name_is_long() -> None:
    async def use(screen: Screen) -> None:
        await screen.press("up")
        assert screen.lines[0] == f" microrpc monitor  {'x' * 44}… · scrolled back"
        await screen.press("slash", *"line", "enter", "space")
        assert screen.lines[0] == f" microrpc monitor  {'x' * 28}… · filter: line · paused, 0 more"
        screen.source.feed.finish("z" * 80)
        await screen.settle()
        assert screen.lines[0] == f" microrpc monitor  {'x' * 11}… · filter: line · paused, 0 more · {'z' * 13}…"

    on_screen(lines_of(20), use, title="x" * 100)


def test_a_row_that_is_cut_says_so() -> None:
    async def look(screen: Screen) -> None:
        assert screen.rows[0].endswith(f'text            "{"x" * 35}…')
        assert screen.rows[1].endswith(f'text            "{"x" * 35}"')  # which just fits

    on_screen(made((False, b"x" * 80 + b"\n"), (False, b"x" * 35 + b"\n")), look)


def test_a_list_without_rows_says_why() -> None:
    async def use(screen: Screen) -> None:
        assert screen.rows[:3] == ["", "  nothing has crossed yet", ""]
        await screen.come(lines_of(1))
        assert screen.rows[0].endswith('"line 1"')
        assert screen.lines[3].endswith(" 1 row")
        await screen.press("slash", *"none", "enter")
        assert screen.rows[:3] == ["", "  none of the rows has that: 0 shows all", ""]

    on_screen([], use)


def test_a_boards_text_is_no_markup_and_moves_no_cursor() -> None:
    async def look(screen: Screen) -> None:
        assert screen.rows[0].endswith('text            "\\x1b[2J[red]x[/] [/nope] \\u202e"')
        await screen.press("up", "enter")
        assert '"\\x1b[2J[red]x[/] [/nope] \\u202e"' in screen.text

    on_screen(made((False, "\x1b[2J[red]x[/] [/nope] \u202e\n".encode())), look, size=WIDE)


def test_the_share_of_the_line_is_told_where_its_speed_is_known() -> None:
    async def look(screen: Screen) -> None:
        assert screen.lines[2].startswith(" ← board     10 frames/s   190 B/s 100%")

    packets = [Packet(n, START_NS + n * 10**8 - 5 * 10**7, False, LOG, (), "x") for n in range(1, 21)]
    on_screen(packets, look, baud=1900, clock=lambda: START_NS / 1e9 + 2.0)


def test_damage_and_comments_stand_out_in_words() -> None:
    async def look(screen: Screen) -> None:
        assert "damaged 1" in screen.lines[2]
        assert screen.rows[0].endswith("?  damaged         [fault: flip at byte 3] bad crc: it …")

    on_screen(made((False, LOG[:-1] + b"\0"), comments=("fault: flip at byte 3",)), look)


# --- keys -----------------------------------------------------------------------------------------


def test_it_follows_the_newest_row_until_another_is_chosen() -> None:
    async def use(screen: Screen) -> None:
        assert screen.rows[-1].endswith('"line 50"')
        await screen.press("up", "up")
        before = screen.rows
        await screen.come(lines_of(100, 51))
        assert screen.rows == before
        assert "scrolled back" in screen.lines[0]
        await screen.press("end")
        assert screen.rows[-1].endswith('"line 150"')
        await screen.come(lines_of(1, 151))
        assert screen.rows[-1].endswith('"line 151"')

    on_screen(lines_of(50), use)


def test_what_is_looked_at_stays_in_its_place_while_old_rows_go() -> None:
    async def use(screen: Screen) -> None:
        await screen.press("pageup")
        before, chosen = screen.rows, screen.app.list.chosen
        await screen.come(lines_of(50, 101))
        assert screen.rows == before
        assert screen.app.list.chosen is chosen
        await screen.come(lines_of(100, 151))  # and when it is gone itself, the oldest is there
        assert screen.rows[0].endswith('"line 151"')

    on_screen(lines_of(100), use, keep=100)


def test_the_first_row_is_a_key_away() -> None:
    async def use(screen: Screen) -> None:
        await screen.press("home")
        assert screen.rows[0].endswith('"line 1"')
        await screen.press("down", "pagedown")
        assert screen.app.list.chosen is not None
        assert screen.app.list.chosen.serial == 2 + 17

    on_screen(lines_of(100), use)


def test_a_pause_leaves_the_rows_as_they_are_and_counts_on() -> None:
    async def use(screen: Screen) -> None:
        await screen.press("space")
        before = screen.rows
        await screen.come(lines_of(30, 21))
        assert screen.rows == before
        assert "paused, 30 more" in screen.lines[0]
        await screen.press("space")
        assert screen.rows[-1].endswith('"line 50"')
        assert "paused" not in screen.lines[0]

    on_screen(lines_of(20), use)


def test_rows_that_are_paused_stay_though_as_many_came_as_are_kept() -> None:
    async def use(screen: Screen) -> None:
        await screen.press("space")
        before = screen.rows
        await screen.come(lines_of(300, 101))
        assert screen.rows == before

    on_screen(lines_of(100), use, keep=100)


def test_details_have_the_fields_and_the_bytes_with_their_escapes() -> None:
    payload = b"\x07\x00\x00\x01"

    async def use(screen: Screen) -> None:
        await screen.press("enter")
        told = screen.text
        assert "INIT  packet 1," in told
        assert "open a session; my nonce is 0x07" in told
        assert "session_id               0x7" in told
        assert "payload_size             4" in told
        assert "0000  fe ff fd 04 00 00 00 07 00 00 01 " in told
        await screen.press("escape")
        assert "payload_size" not in screen.text

    on_screen(made((True, b"\xfe" + encode_frame(payload))), use, size=WIDE)


def test_the_chosen_row_stays_in_view_when_details_take_half_of_the_screen() -> None:
    async def use(screen: Screen) -> None:
        await screen.press("up", "up", "enter")
        assert screen.rows[-1].endswith('"line 98"')
        await screen.press("end", "enter")
        assert screen.rows[-1].endswith('"line 100"')

    on_screen(lines_of(100), use)


def test_details_follow_the_row_that_is_chosen() -> None:
    async def use(screen: Screen) -> None:
        await screen.press("enter")
        assert "text                     line 20" in screen.text
        await screen.press("up")
        assert "text                     line 19" in screen.text

    on_screen(lines_of(20), use, size=WIDE)


def test_a_key_goes_from_a_request_to_its_reply_and_back() -> None:
    async def use(screen: Screen) -> None:
        asked = next(row for row in screen.app.view if row.meaning.startswith("add(2, 3)"))
        screen.app.list.choose(asked.serial)
        await screen.press("enter", "r")
        answer = screen.app.list.chosen
        assert answer is not None
        assert answer.packet.number == asked.partner
        assert f"the request is packet {asked.packet.number}; answered after" in screen.text
        await screen.press("r")
        assert screen.app.list.chosen is asked

    on_screen(board_packets(lambda board: board.function("add")(2, 3)), use, size=WIDE)


def test_a_row_without_a_reply_says_so() -> None:
    async def use(screen: Screen) -> None:
        await screen.press("r")
        assert screen.told == ["This row has no request or reply."]

    on_screen(lines_of(3), use)


def test_families_are_hidden_and_shown_by_their_numbers() -> None:
    async def use(screen: Screen) -> None:
        await screen.press("4")
        assert [row for row in screen.rows if row] == ['     0.002000  ←      11  LOG             "careful\\n"']
        assert screen.lines[3].endswith("1 of 2")
        await screen.press("3")
        assert [row.strip() for row in screen.rows if row] == ["none of the rows has that: 0 shows all"]
        await screen.press("0")
        assert len([row for row in screen.rows if row]) == 2

    on_screen([*lines_of(1), Packet(2, START_NS + 3 * 10**6, False, LOG, (), "line")], use)


def test_words_filter_while_they_are_typed_and_escape_takes_them_away() -> None:
    async def use(screen: Screen) -> None:
        await screen.press("slash", *"line", "space", *"1")
        assert screen.lines[3].endswith("11 of 20")
        await screen.press("backspace", *"20")
        assert screen.lines[3].endswith("1 of 20")
        await screen.press("enter")
        assert "filter: line 20" in screen.lines[0]
        await screen.press("slash", "escape")
        assert screen.lines[3].endswith("20 rows")

    on_screen(lines_of(20), use)


def test_what_is_typed_behind_the_key_of_the_filter_is_no_key_however_fast_it_comes() -> None:
    async def use(screen: Screen) -> None:
        for key in ("slash", "c", "s", "slash", "q"):  # all in one read of the terminal
            screen.app.post_message(events.Key(key, "/" if key == "slash" else key))
        await screen.settle()
        assert screen.app.view.filter.words == "cs/q"
        assert screen.lines[3].endswith("0 of 20")
        await screen.press("escape")
        assert screen.lines[3].endswith("20 rows")
        await screen.press("question_mark", "s")  # any key closes the help
        assert not screen.app._ask.has_class("shown")

    on_screen(lines_of(20), use)


def test_times_are_shown_in_three_ways() -> None:
    async def use(screen: Screen) -> None:
        assert screen.rows[2].split()[0] == "0.002000"
        await screen.press("t")
        assert screen.rows[2].split()[0] == "0.001000"
        await screen.press("t")
        assert screen.rows[2].split()[0].endswith(":00.0030")

    on_screen(lines_of(3), use)


def test_clearing_begins_anew() -> None:
    async def use(screen: Screen) -> None:
        await screen.press("c")
        assert screen.lines[3].endswith("0 rows")
        await screen.come(lines_of(1, 21))
        assert screen.rows[0].split()[0] == "0.000000"

    on_screen(lines_of(20), use)


def test_what_is_kept_is_saved_as_a_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    packets = golden_packets()[:60]

    async def use(screen: Screen) -> None:
        await screen.press("s", "enter")
        [path] = tmp_path.iterdir()
        assert screen.told == [f"packets saved as {path.name}: 60"]
        with path.open("rb") as file:
            assert list(read_blocks(file)) == packets

    on_screen(packets, use)


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").write_text("mine")

    async def use(screen: Screen) -> None:
        await screen.press("s")
        screen.app.query_one("Input").value = "x"  # type: ignore[attr-defined]
        await screen.press("enter")
        assert screen.told == ["Not saved: x is there already: give another name"]

    on_screen(lines_of(1), use)
    assert (tmp_path / "x").read_text() == "mine"


def test_the_help_has_every_key_and_any_key_closes_it() -> None:
    async def use(screen: Screen) -> None:
        await screen.press("question_mark")
        assert "pause: rows stay as they are" in screen.text
        keys = [line for line in screen.lines if line.startswith("│") and line[1:-1].strip("│ ")]
        assert len(keys) == len([line for line in HELP.splitlines() if line])  # none is too long for 80 columns
        await screen.press("x", "x")
        assert "pause: rows stay as they are" not in screen.text

    on_screen(lines_of(1), use)


def test_the_key_that_closes_the_help_does_nothing_else_and_the_next_one_does_what_it_did_before() -> None:
    async def use(screen: Screen) -> None:
        focused = screen.app.screen.focused
        for key in ("slash", "q", "question_mark", "0"):
            await screen.press("question_mark", key)
            assert screen.app.is_running
            assert screen.app.screen.focused is focused
        assert "filter" not in screen.text
        await screen.press("up")
        assert "scrolled back" in screen.lines[0]
        await screen.press("question_mark")
        await screen.pilot.click(offset=(1, 6))  # a row, beside it
        assert "pause: rows stay as they are" not in screen.text

    on_screen(lines_of(20), use)


def test_a_question_mark_may_be_looked_for() -> None:
    async def use(screen: Screen) -> None:
        await screen.press("slash", "question_mark")
        assert screen.app.view.filter.words == "?"

    on_screen(lines_of(20), use)


def test_the_last_line_is_not_made_anew_when_the_focus_changes() -> None:
    async def use(screen: Screen) -> None:
        keys = list(screen.app.query("FooterKey"))
        assert len(keys) == 7
        await screen.press("slash", "escape", "question_mark", "x", "enter", "tab")
        assert list(screen.app.query("FooterKey")) == keys

    on_screen(lines_of(20), use)


def test_rows_are_none_of_the_garbage_collectors_business() -> None:
    async def use(screen: Screen) -> None:
        before = gc.get_freeze_count()
        await screen.come(lines_of(5000, 2))
        assert gc.get_freeze_count() - before > 4000

    try:
        on_screen(lines_of(1), use, kind=AloneApp)
    finally:
        gc.unfreeze()


def test_less_is_taken_at_once_after_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(screen: Screen) -> None:
        clock = itertools.count(1000.0, 0.003)  # each look at it takes 3 ms
        monkeypatch.setattr("microrpc.cli.monitor.view.time", SimpleNamespace(monotonic=lambda: next(clock)))
        screen.source.add(lines_of(5000, 2))
        screen.app.take()
        quiet = len(screen.app.view)
        await screen.app.on_event(events.Key("x", "x"))
        screen.app.take()
        assert (quiet, len(screen.app.view) - quiet) == (1 + 700, 200)

    on_screen(lines_of(1), use)


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
def test_it_ends_at_a_key(key: str) -> None:
    async def use(screen: Screen) -> None:
        await screen.pilot.press(key)
        await screen.pilot.pause()
        assert not screen.app.is_running

    on_screen(lines_of(1), use)


def test_what_becomes_of_the_line_is_told() -> None:
    async def use(screen: Screen) -> None:
        screen.source.news.append("port lost [/nope]")
        await screen.settle()
        assert screen.told == ["port lost [/nope]"]

    on_screen(lines_of(1), use)


def test_what_came_too_fast_is_told() -> None:
    async def use(screen: Screen) -> None:
        screen.source.left_out = 1234
        await screen.settle()
        assert screen.lines[0].endswith("· 1,234 came too fast to be shown")

    on_screen(lines_of(1), use)


def test_why_nothing_comes_any_more_is_in_the_title() -> None:
    async def use(screen: Screen) -> None:
        screen.source.feed.finish(OSError("the port is gone"))
        await screen.settle()
        assert screen.lines[0].endswith("· the port is gone")
        await screen.settle()
        assert screen.told == ["the port is gone"]

    on_screen(lines_of(1), use)


def test_many_frames_at_once_are_shown_in_portions_with_keys_between() -> None:
    async def use(screen: Screen) -> None:
        await screen.come(lines_of(20_000, 2))
        assert screen.rows[-1].endswith('"line 20001"')

    on_screen(lines_of(1), use)


@pytest.mark.parametrize(("at_once", "drawn"), [(1, 6), (100, 2)])
def test_rows_are_drawn_less_often_where_more_come_than_there_is_room_for(at_once: int, drawn: int) -> None:
    async def use(screen: Screen) -> None:
        app, syncs = screen.app, []
        sync, app.list.sync = app.list.sync, lambda: syncs.append(sync())
        app._beats = 0
        for beat in range(10):  # no other beat runs between
            screen.source.add(lines_of(at_once, 2 + beat * at_once))
            app._beat()
        assert len(syncs) == drawn
        assert app.list.follows

    on_screen(lines_of(1), use)
