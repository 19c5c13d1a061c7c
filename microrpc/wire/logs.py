"""Lines of a board's log, with a level and the board's time before them where it gives them (docs/device.md 5). Pure.

[W 0012.345678] the text, after a letter for the level, and seconds and microseconds
[W ----.------] the text of a board without a clock
"""

from __future__ import annotations

import logging
import re
from typing import Final, NamedTuple

from microrpc.errors import RequestError
from microrpc.wire.checks import show

LEVELS: Final = {"D": logging.DEBUG, "I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR}
"""The letters that a line may begin with, and their levels as `logging` counts them."""

_PREFIX = re.compile(r"\[([DIWE]) (?:([0-9]{4})\.([0-9]{6})|----\.------)\] ")
_MOST_TIME_US = (1 << 32) - 1


class LogLine(NamedTuple):
    """A line: its `level` as `logging` counts it, INFO where the board gave none, and its `text` without them.

    board_time_us: the board's clock, in microseconds modulo 2**32; None where the board gave none.
    """

    level: int
    board_time_us: int | None
    text: str


def parse_log(text: str) -> LogLine:
    """Take a line apart. What does not begin exactly as above is a text, at the level INFO."""
    found = _PREFIX.match(text)
    if found is None:
        return LogLine(logging.INFO, None, text)
    letter, seconds, microseconds = found.groups()
    time_us = int(seconds + microseconds) if seconds else None
    if time_us is not None and time_us > _MOST_TIME_US:  # no board of ours wrote that
        return LogLine(logging.INFO, None, text)
    return LogLine(LEVELS[letter], time_us, text[found.end() :])


def log_prefix(level: int, time_us: int | None) -> str:
    """Give what a board writes before a line. Raises RequestError for a level that has no letter."""
    letter = next((letter for letter, known in LEVELS.items() if known == level), None)
    if letter is None:
        text = "logging.DEBUG, logging.INFO, logging.WARNING or logging.ERROR"
        raise RequestError(f"a line of a board's log has no level {show(level)}: it is {text}")
    if time_us is None:
        return f"[{letter} ----.------] "
    seconds, microseconds = divmod(time_us & _MOST_TIME_US, 1_000_000)
    return f"[{letter} {seconds:04}.{microseconds:06}] "
