"""Levels and times before a line of the log (docs/device.md 5)."""

from __future__ import annotations

import logging

import pytest

from microrpc.errors import RequestError
from microrpc.wire.logs import LogLine, log_prefix, parse_log


@pytest.mark.parametrize(
    ("text", "level", "time_us", "rest"),
    [
        ("[D 0000.000000] starting", logging.DEBUG, 0, "starting"),
        ("[I 0012.345678] ready", logging.INFO, 12_345_678, "ready"),
        ("[W 0000.000001] hot: [W 0000.000002] twice", logging.WARNING, 1, "hot: [W 0000.000002] twice"),
        ("[E 4294.967295] ", logging.ERROR, 0xFFFF_FFFF, ""),
        ("[E ----.------] two\nlines", logging.ERROR, None, "two\nlines"),
    ],
)
def test_a_level_and_a_time_are_read(text: str, level: int, time_us: int | None, rest: str) -> None:
    assert parse_log(text) == LogLine(level, time_us, rest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[W] hot",
        "[W 12.345678] hot",
        "[W 00012.345678] hot",
        "[W 0012.345678]hot",
        "[W 0012.345678]",
        "[W 0012,345678] hot",
        "[W 0012.34567 ] hot",
        "[W ----.345678] hot",
        "[W 0012.------] hot",
        "[W 4294.967296] later than there is",
        "[X 0012.345678] hot",
        "[w 0012.345678] hot",
        " [W 0012.345678] hot",
        "[00:00:00.123,000] <wrn> of Zephyr",
        "W (1234) wifi: of ESP-IDF",
        "[W \u0660\u0660\u0661\u0662.345678] digits of another script",
    ],
)
def test_what_only_looks_like_it_is_text_as_it_is(text: str) -> None:
    assert parse_log(text) == LogLine(logging.INFO, None, text)


def test_a_board_writes_the_same_which_is_as_wide_in_any_case() -> None:
    assert log_prefix(logging.WARNING, 12_345_678) == "[W 0012.345678] "
    assert log_prefix(logging.DEBUG, (1 << 32) + 5) == "[D 0000.000005] "
    assert log_prefix(logging.ERROR, 0xFFFF_FFFF) == "[E 4294.967295] "
    assert log_prefix(logging.INFO, None) == "[I ----.------] "


@pytest.mark.parametrize("level", [logging.CRITICAL, logging.NOTSET, 25])
def test_a_level_without_a_letter_is_refused(level: int) -> None:
    with pytest.raises(RequestError, match=rf"no level {level}: it is logging\.DEBUG"):
        log_prefix(level, 0)
