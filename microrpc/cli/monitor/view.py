"""The monitor as a person sees it: rows, figures, details of the chosen row. `textual` is imported here and below."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Input, Static

from microrpc.boards.files import WriteError
from microrpc.capture.rows import MOST_ROWS, Family, Filter, Rows, packets_of
from microrpc.capture.watching import LEFT_OUT, Watch
from microrpc.cli.monitor.details import describe
from microrpc.cli.monitor.figures import families_line, figures, title_line
from microrpc.cli.monitor.help import Help, Keys
from microrpc.cli.monitor.list import FrameList, heads
from microrpc.cli.monitor.saving import default_name, save
from microrpc.cli.monitor.source import Source

_TICK_S = 0.05
_ROW_BEATS, _FIGURE_BEATS = 2, 5
_WORK_S, _BRIEF_WORK_S = 0.02, 0.005
_TOUCHED_S = 0.2
"""So long after a key less is taken at once: what the key asks for comes first."""
_AT_ONCE = 100
_BESIDE_COLUMNS = 150


class MonitorApp(App[None]):
    """Shows what `source` brings, of the line called `title`.

    keep: how many rows at most. baud: of the line, for the share that is used; None where that is not known. clock:
    gives the time in seconds since 1970 where the line is live; None for a file that is whole, whose figures are of
    all of it.
    """

    TITLE = "microrpc monitor"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layers: rows help; align: center middle; }
    #title { background: $primary-background; text-style: bold; height: 1; }
    #title, #figures, #families, #heads { text-wrap: nowrap; text-overflow: ellipsis; }
    #figures { height: 2; padding: 0 1; }
    #families { height: 1; padding: 0 1; }
    #heads { height: 1; background: $surface; text-style: bold; color: $text-muted; }
    #body { height: 1fr; }
    #body.stacked { layout: vertical; }
    #list { width: 1fr; height: 1fr; }
    #details { display: none; border-top: solid $primary; width: 100%; height: 45%; padding: 0 1; }
    #body.beside #details { border-top: none; border-left: solid $primary; width: 80; height: 100%; }
    #ask { display: none; height: 1; padding: 0 1; background: $surface; }
    #details.shown, #ask.shown { display: block; }
    #asked { width: auto; text-style: bold; }
    #ask Input { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "Pause"),
        Binding("enter", "details", "Details"),
        Binding("slash", "filter", "Filter", key_display="/", priority=True),  # what is typed behind it is no key
        Binding("r", "partner", "Reply"),
        Binding("s", "save", "Save", priority=True),
        Binding("t", "times", "Times", show=False),
        Binding("c", "clear", "Clear", show=False),
        Binding("question_mark", "help", "Help", key_display="?", priority=True),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
        Binding("0", "all_families", "All", show=False),
        *(
            Binding(str(number), f"family('{family.value}')", family.value, show=False)
            for number, family in enumerate(Family, 1)
        ),
    ]

    def __init__(
        self,
        source: Source,
        title: str,
        *,
        keep: int = MOST_ROWS,
        baud: int | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__()
        self.line_watch = Watch(keep)
        self._source = source
        self._line = title
        self._baud = baud
        self._clock = clock
        self._paused: Rows | None = None
        self._asking = ""
        self._is_stale = True
        self._is_end_told = False
        self._beats = self._drawn = self._told_columns = 0
        self.touched_s = 0.0
        """When somebody touched a key last, by the monotonic clock."""

    @property
    def view(self) -> Rows:
        """The rows that are looked at."""
        return self.line_watch.rows if self._paused is None else self._paused

    # --- what there is on the screen --------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Make the parts."""
        self._title, self._figures, self._families, self._heads, self._told, self._asked = (
            Static(id=name, markup=False) for name in ("title", "figures", "families", "heads", "told", "asked")
        )
        self.list = FrameList(lambda: self.view.shown, lambda: self.line_watch.first_ns, self._hint)
        self._body, self._details, self._ask = Horizontal(id="body"), VerticalScroll(id="details"), Horizontal(id="ask")
        self._answer, self._help = Input(compact=True), Help()
        yield from (self._title, self._figures, self._families, self._heads)
        with self._body:
            yield self.list
            with self._details:
                yield self._told
        with self._ask:
            yield self._asked
            yield self._answer
        yield Keys()
        yield self._help

    def on_mount(self) -> None:
        """Begin to show."""
        self.list.focus()
        self.set_interval(_TICK_S, self._beat)
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name) and signal.getsignal(number := getattr(signal, name)) != signal.SIG_IGN:
                loop.add_signal_handler(number, self.exit)
        self.tick()

    async def on_event(self, event: events.Event) -> None:
        """Note when somebody presses a key, and do all else that there is to do."""
        if isinstance(event, events.InputEvent):
            self.touched_s = time.monotonic()
        await super().on_event(event)

    def on_resize(self, event: events.Resize) -> None:
        """Put the details where there is room."""
        is_wide = event.size.width >= _BESIDE_COLUMNS  # `self.size` is still that before
        self._body.set_class(is_wide, "beside")
        self._body.set_class(not is_wide, "stacked")
        self._is_stale = True

    # --- what comes -------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Take what came, and show it as often as somebody can read it: drawing costs more than taking."""
        self.take()
        self._beats += 1
        has_figures = self._beats % _FIGURE_BEATS == 0
        if has_figures or (self._beats % _ROW_BEATS == 0 and not self._is_flooded):
            self._show_rows()
        if has_figures:
            self._show_figures()

    def tick(self) -> None:
        """Take what came, as much as there is time for, and show it."""
        self.take()
        self._show_rows()
        self._show_figures()

    def take(self) -> None:
        """Take what came, as much as there is time for."""
        now = time.monotonic()
        until = now + (_BRIEF_WORK_S if now - self.touched_s < _TOUCHED_S else _WORK_S)
        while packets := self._source.feed.take(_AT_ONCE):
            for packet in packets:
                self.line_watch.take(packet)
            self._is_stale = True
            if time.monotonic() >= until:
                break
        self.line_watch.leave_out(self._source.take_left_out())
        if not self._is_end_told and isinstance(end := self._source.feed.end, BaseException):
            self._is_end_told = True
            self.notify(str(end), severity="error", timeout=60, markup=False)  # the title may have no room for it
        while self._source.news:
            self.notify(self._source.news.popleft(), timeout=6, markup=False)

    @property
    def _is_flooded(self) -> bool:
        """Whether more came than there is room for, since rows were drawn: nobody reads all of it as it passes."""
        return self.list.follows and self.line_watch.rows.newest - self._drawn > self.list.size.height

    def _show_rows(self) -> None:
        if self._is_stale:
            self._is_stale = False
            self._drawn = self.line_watch.rows.newest
            self.list.sync()

    def _show_figures(self) -> None:
        state = []
        if words := self.view.filter.words.strip():
            state.append(f"filter: {words}")
        if self._paused is not None:
            more = self.line_watch.rows.newest - self._paused.newest
            state.append(f"paused, {more:,} more")
        elif not self.list.follows:
            state.append("scrolled back")
        if left_out := self.line_watch.counts.left_out:
            state.append(f"{left_out:,} {LEFT_OUT}")
        if (end := self._source.feed.end) is not None:
            state.append(str(end))
        self._title.update(Text(title_line(self.TITLE, self._line, state, self.size.width)), layout=False)
        now_s = None if self._clock is None else self._clock()
        rows = self.view
        if self._details.has_class("shown") and self._details.size.width != self._told_columns:
            self._describe()
        self._heads.update(heads(self.list.size.width), layout=False)
        self._figures.update(figures(self.line_watch, now_s, self._baud), layout=False)
        self._families.update(families_line(rows.filter, len(rows.shown), len(rows)), layout=False)

    def _hint(self) -> str:
        return "none of the rows has that: 0 shows all" if len(self.view) else "nothing has crossed yet"

    def on_frame_list_chosen(self) -> None:
        """Tell of the row that is chosen now."""
        if self._details.has_class("shown"):
            self._describe()

    def _describe(self) -> None:
        row, told = self.list.chosen, self._told
        self._told_columns = self._details.size.width
        columns = self._told_columns or self.size.width
        told.update("nothing is chosen" if row is None else describe(row, columns))

    # --- keys -------------------------------------------------------------------------------------

    def action_pause(self) -> None:
        """Leave the rows as they are, or go on."""
        self._paused = self.line_watch.rows.copy() if self._paused is None else None
        self._look_again()

    def action_details(self) -> None:
        """Show details of the chosen row, or hide them."""
        self._details.toggle_class("shown")
        if self._details.has_class("shown"):
            self.call_after_refresh(self._describe)
        self._is_stale = True

    def action_partner(self) -> None:
        """Go to the reply of a request, or to the request of a reply."""
        row = self.list.chosen
        other = None if row is None or row.partner is None else self.view.find(row.partner)
        if row is None or row.partner is None:
            self.notify("This row has no request or reply.", timeout=3, markup=False)
        elif other is None:
            self.notify(f"Packet {row.partner} is not kept any more.", timeout=3, markup=False)
        elif not self.view.filter.wants(other):
            self.notify(f"Packet {row.partner} is hidden by the filter: key 0.", timeout=3, markup=False)
        else:
            self.list.choose(other.serial)

    def action_times(self) -> None:
        """Show times in another way."""
        self.list.clock.turn()
        self.notify(f"Times: {self.list.clock.kind}.", timeout=2, markup=False)
        self._look_again()

    def action_clear(self) -> None:
        """Forget rows and figures."""
        self.line_watch.clear()
        self._paused = None
        self.list.action_follow()
        self._look_again()

    def action_family(self, name: str) -> None:
        """Show or hide a family."""
        self._show_only(self.view.filter.toggled(Family(name)))

    def action_all_families(self) -> None:
        """Show everything."""
        self._show_only(Filter())

    def _show_only(self, wanted: Filter) -> None:
        self.line_watch.rows.filter = wanted
        if self._paused is not None:
            self._paused.filter = wanted
        self._look_again()

    def _look_again(self) -> None:
        self.list.sync(changed=True)
        self._show_figures()
        if self._details.has_class("shown"):
            self._describe()

    def action_help(self) -> None:
        """Tell the keys."""
        self._help.open()

    # --- what is asked for ------------------------------------------------------------------------

    def action_filter(self) -> None:
        """Ask for the words to look for."""
        self._ask_for("filter", self.view.filter.words, "words that a row must have, !word for one that it must not")

    def action_save(self) -> None:
        """Ask for the name of a file."""
        self._ask_for("save", default_name(time.time()), "name of a new file")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key is one now: while something is typed, or the help is shown, these are not."""
        return action not in ("filter", "save", "help") or not (self._asking or self._help.is_open)

    def _ask_for(self, what: str, value: str, hint: str) -> None:
        self._asking = what
        self._asked.update(f"{what}: ")
        self._ask.add_class("shown")
        self._answer.placeholder, self._answer.value = hint, value
        self.screen.set_focus(self._answer)  # at once: the next key is typed into it

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        if self._asking == "filter":
            self._show_only(replace(self.view.filter, words=event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Do what was asked for."""
        asked, value = self._asking, event.value.strip()
        self._close_ask()
        if asked == "save" and value:
            try:
                count = save(packets_of(self.view), Path(value).expanduser())
            except (WriteError, OSError) as error:
                self.notify(f"Not saved: {error}", severity="error", timeout=10, markup=False)
            else:
                self.notify(f"packets saved as {value}: {count:,}", timeout=6, markup=False)

    def on_key(self, event: events.Key) -> None:
        """Close what is asked for, or the details."""
        if event.key != "escape":
            return
        if self._asking:
            if self._asking == "filter":
                self._show_only(replace(self.view.filter, words=""))
            self._close_ask()
        else:
            self._details.remove_class("shown")

    def _close_ask(self) -> None:
        self._asking = ""
        self._ask.remove_class("shown")
        self.list.focus()
