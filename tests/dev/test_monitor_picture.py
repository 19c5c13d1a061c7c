"""The picture of docs/monitor.md is what the monitor shows today, and needs nothing from the network."""

from __future__ import annotations

import re

import pytest

from dev import monitor_picture
from dev.monitor_picture import masked
from dev.svg import ROOT, text_of

SVG = monitor_picture.PICTURE.read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "monitor.md").read_text(encoding="utf-8")


@pytest.mark.boards
def test_the_picture_is_what_the_monitor_shows_today() -> None:
    """But for the time of the day. Else: make pictures, and look at it."""
    assert masked(text_of(monitor_picture.draw())) == masked(text_of(SVG))


def test_the_picture_shows_a_call_its_reply_and_what_the_line_did_to_the_rest() -> None:
    said = masked(text_of(SVG))
    lines = [re.sub(" +", " ", line) for line in said.splitlines()]
    assert any("→ board 38 CALL read_celsius(3) #31" in line for line in lines)
    assert any("← board 42 Return 24.5 #31" in line for line in lines)
    assert any("fault: flip at byte" in line for line in lines)
    assert any("again:" in line for line in lines)
    assert " packet 94, TIME, to the board, 46 bytes" in said


def test_the_picture_loads_nothing_and_is_small() -> None:
    assert set(re.findall(r"https?://[^\"' ]*", SVG)) == {"http://www.w3.org/2000/svg"}
    assert "@font-face" not in SVG
    assert len(SVG.encode()) < 150_000
    assert "(pictures/monitor.svg)" in GUIDE
