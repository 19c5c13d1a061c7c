"""The figures of the monitor, as lines for so many columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from microrpc.capture.rates import Rate
from microrpc.capture.rows import Family, Filter
from microrpc.capture.watching import Watch
from microrpc.cli.common import format_size, format_time
from microrpc.errors import printable

_LEAST_NAME = 12
COLOURS = {
    Family.CALLS: "#6cb6ff",
    Family.COPIES: "#57d3a5",
    Family.LOGS: "#c9c9c9",
    Family.TEXT: "#e3c65b",
    Family.EVENTS: "#d68cf0",
    Family.SESSIONS: "#8ea3b5",
    Family.DAMAGE: "#ff6b6b",
}
"""Of each family, on a dark ground."""


def figures(watch: Watch, now_s: float | None, baud: int | None) -> str:
    """Give two lines: what crosses the line each way, and beside it round trips and what is worth a look.

    now_s: the time where it is live; without it the figures are those of all from the first to the last.
    """
    rate = watch.rates.overall() if now_s is None else watch.rates.lately(now_s)
    to_board, to_host = _ways(rate, baud)
    times = watch.round_trips.median_and_worst()
    trips = "none yet" if times is None else f"{format_time(times[0])}, worst {format_time(times[1])}"
    counts = watch.counts
    told = [f"repeated {counts.repeated:,}", f"damaged {counts.damaged:,}", f"noise {counts.noise:,}"]
    return f"→ board {to_board}   round trip {trips}\n← board {to_host}   {', '.join(told)}"


def title_line(program: str, line: str, states: Sequence[str], columns: int) -> str:
    """Give the first line: which line it is, and what is to be known of it, for which its name is made shorter."""
    state = printable("".join(f" · {each}" for each in states))
    name = _cut(printable(line), max(_LEAST_NAME, columns - len(f" {program}  {state}")))
    return _cut(f" {program}  {name}{state}", columns)


def _cut(text: str, columns: int) -> str:
    return text if len(text) <= columns else f"{text[: max(columns - 1, 0)]}…"


def _ways(rate: Rate, baud: int | None) -> Sequence[str]:
    shares = ["", ""] if not baud else [f" {share:4.0%}" for share in rate.shares(baud)]
    frames = rate.frames_to_board, rate.frames_to_host
    sizes = rate.bytes_to_board, rate.bytes_to_host
    return [
        f"{each:6,.0f} frames/s {format_size(size):>7}/s{share}"
        for each, size, share in zip(frames, sizes, shares, strict=True)
    ]


def families_line(wanted: Filter, shown: int, kept: int) -> Text:
    """Give the families with their keys, those that are hidden struck out, and how many rows are shown."""
    text = Text()
    for number, family in enumerate(Family, 1):
        is_shown = family in wanted.families
        text.append(f"{number} {family.value}", COLOURS[family] if is_shown else "strike #6a6f78")
        text.append(" ")
    text.append(f" {kept:,} row{'s' * (kept != 1)}" if wanted.is_open else f" {shown:,} of {kept:,}", "#8a8f98")
    return text
