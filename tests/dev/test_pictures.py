"""The picture of the README is what its commands print today, and needs nothing from the network."""

from __future__ import annotations

import re

import pytest

from dev import pictures
from dev.svg import ROOT, text_of

README = (ROOT / "README.md").read_text(encoding="utf-8")
SVG = pictures.PICTURE.read_text(encoding="utf-8")


@pytest.mark.boards
def test_the_picture_shows_what_its_commands_print_today() -> None:
    """But for times, and how much the noise struck. Else: make pictures, and look at it."""
    steps = pictures.run_session()
    assert pictures.masked(text_of(pictures.draw(steps))) == pictures.masked(text_of(SVG))
    copy = steps[-1].output
    assert "verified" in copy
    assert int(re.findall(r"sent again: (\d+)", copy)[0]) > 0


def test_the_picture_has_every_command_whole() -> None:
    shown = text_of(SVG)
    for command, remark in pictures.COMMANDS:
        assert f"$ {command}  {remark}".rstrip() in shown
    assert max(map(len, shown.splitlines())) <= pictures.COLUMNS
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown


def test_the_picture_loads_nothing_and_is_small() -> None:
    assert set(re.findall(r"https?://[^\"' ]*", SVG)) == {"http://www.w3.org/2000/svg"}
    assert "@font-face" not in SVG
    assert "url(#" in SVG
    assert len(SVG.encode()) < 100_000
    assert "(docs/pictures/session.svg)" in README


def test_what_differs_from_run_to_run_is_masked_and_nothing_else() -> None:
    slow = pictures.masked("65536 bytes in 1.05 s: 62.6 kB/s; sent again: 59, frames that came damaged: 3; verified")
    fast = pictures.masked("65536 bytes in 987 ms:\n66 kB/s; sent again: 60; verified")
    assert slow == fast == "65536 bytes in TIME: RATE; TROUBLE; verified"
    assert pictures.masked("65536 bytes in 1.05 s: 62.6 kB/s; verified").endswith("s: 62.6 kB/s; verified")
