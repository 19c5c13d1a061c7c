"""The rows of the monitor on the screen: only what is visible is drawn, however many there are."""

from __future__ import annotations

import datetime
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from microrpc.capture.rows import Row
from microrpc.capture.writer import REPEATED
from microrpc.cli.monitor.figures import COLOURS
from microrpc.errors import printable

_WIDE_COLUMNS = 100
_KIND_WIDTH = 14
_BAR_COLUMNS = 1
_DIM, _REPEATED = Style(color="#8a8f98"), Style(color="#ffb454", bold=True)
_CURSOR, _PARTNER = Style(bgcolor="#2d4b73"), Style(bgcolor="#3d3a22")
_ARROWS = {True: ("→", "→ board"), False: ("←", "← board")}
_WAYS = {True: Style(color="#4fc1e9"), False: Style(color="#ac92ec")}


class Clock:
    """How the time of a row is shown: `kinds` in turn."""

    kinds = ("since the first", "since the one before", "time of day")

    def __init__(self) -> None:
        self._kind = 0

    @property
    def kind(self) -> str:
        """What is shown now."""
        return self.kinds[self._kind]

    def turn(self) -> None:
        """Show the next kind."""
        self._kind = (self._kind + 1) % len(self.kinds)

    def show(self, time_ns: int, first_ns: int, before_ns: int) -> str:
        """Give a time, 13 columns wide."""
        if self._kind == 2:
            at = datetime.datetime.fromtimestamp(time_ns // 10**9).strftime("%H:%M:%S")
            return f"{at}.{time_ns % 10**9 // 10**5:04}"
        since = time_ns - (before_ns if self._kind else first_ns)
        return f"{since / 1e9:13.6f}"


def heads(columns: int) -> str:
    """Give the heads of the columns."""
    wide = columns >= _WIDE_COLUMNS
    way = f"  {'way':<7}" if wide else "   "
    return f"{'time, s':>13}{way}  {'bytes':>6}  {'kind':<{_KIND_WIDTH}}  what it says"


class FrameList(ScrollView, can_focus=True):
    """Rows of which one is chosen; it follows the newest until another is chosen."""

    class Chosen(Message):
        """Another row is the chosen one, or there is none: `row`."""

        def __init__(self, row: Row | None) -> None:
            super().__init__()
            self.row = row

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "first", "First", show=False),
        Binding("end,f,G", "follow", "Follow", show=False),
    ]
    DEFAULT_CSS = f"""
    FrameList {{ scrollbar-size-vertical: {_BAR_COLUMNS}; overflow-x: hidden; overflow-y: scroll; }}
    """

    def __init__(self, rows: Callable[[], Sequence[Row]], first_ns: Callable[[], int], hint: Callable[[], str]) -> None:
        super().__init__()
        self.follows = True
        self.clock = Clock()
        self._rows = rows
        self._first_ns = first_ns
        self._hint = hint  # what is said where there are no rows
        self._chosen = 0  # serial numbers of rows: an index means another one when old rows are dropped
        self._top = 0
        self._seen: tuple[int, int, int] | None = None

    # --- what is chosen ---------------------------------------------------------------------------

    @property
    def chosen(self) -> Row | None:
        """The row that is chosen; where that is not shown any more, the next one."""
        rows = self._rows()
        return rows[self._index(self._chosen)] if rows else None

    def choose(self, serial: int) -> None:
        """Choose a row by its serial number, and bring it into view."""
        self.follows = False
        self._chosen = serial
        self.sync()
        self._reveal()
        self.post_message(self.Chosen(self.chosen))

    def _index(self, serial: int) -> int:
        rows = self._rows()
        return max(0, min(bisect_left(rows, serial, key=lambda row: row.serial), len(rows) - 1))

    def action_move(self, by: int) -> None:
        """Choose a row further up or down; at the end of all, follow."""
        rows = self._rows()
        if not rows:
            return
        wanted = self._index(self._chosen) + by
        if wanted >= len(rows):
            self.action_follow()
        else:
            self.choose(rows[max(0, wanted)].serial)

    def action_page(self, by: int) -> None:
        """Choose one a screen further."""
        rows = self._rows()
        if rows:
            step = max(1, self.size.height - 1) * by
            self.choose(rows[max(0, min(len(rows) - 1, self._index(self._chosen) + step))].serial)

    def action_first(self) -> None:
        """Choose the oldest."""
        if rows := self._rows():
            self.choose(rows[0].serial)

    def action_follow(self) -> None:
        """Choose the newest, and each that comes."""
        self.follows = True
        self.sync()

    def on_click(self, event: events.Click) -> None:
        """Choose what is clicked at."""
        rows = self._rows()
        index = self.scroll_offset.y + event.y
        if index < len(rows):
            self.choose(rows[index].serial)

    # --- following the rows -----------------------------------------------------------------------

    def sync(self, *, changed: bool = False) -> None:
        """Take note that the rows are others: more, fewer, or `changed` ones. What is looked at stays in its place."""
        rows = self._rows()
        seen = (rows[0].serial, rows[-1].serial, len(rows)) if rows else None
        if seen != self._seen or changed or self.follows:
            self._seen = seen
            self.virtual_size = Size(self.size.width, len(rows))
            before = self._chosen
            if self.follows and rows:
                self._chosen = rows[-1].serial
                self._scroll(self.max_scroll_y)
            elif rows:
                self._scroll(self._index(self._top))
            if before != self._chosen:
                self.post_message(self.Chosen(self.chosen))
            self.refresh()

    def _scroll(self, index: int) -> None:
        index = min(index, self.max_scroll_y)
        if index != self.scroll_target_y:
            self.scroll_to(y=index, animate=False, immediate=True)

    def _reveal(self) -> None:
        index, top, height = self._index(self._chosen), round(self.scroll_offset.y), max(1, self.size.height)
        if index < top:
            self._scroll(index)
        elif index >= top + height:
            self._scroll(index - height + 1)
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Remember what is at the top; who scrolls back does not follow."""
        super().watch_scroll_y(old_value, new_value)
        rows = self._rows()
        if rows:
            self._top = rows[min(round(new_value), len(rows) - 1)].serial

    def on_mouse_scroll_up(self) -> None:
        """Stay where the wheel goes."""
        self.follows = False

    def on_resize(self) -> None:
        """Keep the chosen one in view."""
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        self.sync(changed=True)
        self._reveal()

    # --- drawing ----------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Draw a line of the screen."""
        rows, width = self._rows(), self.size.width - _BAR_COLUMNS
        index = round(self.scroll_offset.y) + y
        ground = self.rich_style
        if not rows and y == 1:
            return Strip([Segment(f"  {self._hint()}", ground + _DIM)]).adjust_cell_length(width, ground)
        if index >= len(rows):
            return Strip.blank(width, ground)
        row = rows[index]
        if row.serial == self._chosen:
            ground += _CURSOR
        elif (chosen := self.chosen) is not None and row.packet.number == chosen.partner:
            ground += _PARTNER
        before = rows[index - 1] if index else row
        strip = Strip([Segment(text, ground + style) for text, style in self._cells(row, before, width)])
        if strip.cell_length > width:  # half a number says something else
            strip = Strip.join([strip.crop(0, width - 1), Strip([Segment("…", ground + _DIM)])])
        return strip.adjust_cell_length(width, ground)

    def _cells(self, row: Row, before: Row, width: int) -> list[tuple[str, Style]]:
        colour = Style(color=COLOURS[row.family])
        arrow = _ARROWS[row.to_board][width >= _WIDE_COLUMNS]
        when = self.clock.show(row.packet.time_ns, self._first_ns(), before.packet.time_ns)
        said = printable(row.meaning)
        cells = [
            (when, _DIM),
            (f"  {arrow}", _WAYS[row.to_board]),
            (f"  {len(row.record.payload) or '?':>6}", _DIM),
            (f"  {row.kind:<{_KIND_WIDTH}}  ", colour + Style(bold=True)),
        ]
        if row.is_repeated:
            cells.append(("again: ", _REPEATED))
        notes = (comment for comment in row.packet.comments if comment != REPEATED)
        cells += [(f"[{printable(comment)}] "[:width], _REPEATED) for comment in notes]
        cells.append((said[: width + 1], colour))
        return cells
