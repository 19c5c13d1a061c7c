"""Pictures load nothing from the network, and their words are read back as they were drawn."""

from __future__ import annotations

import re

from dev import pictures
from dev.svg import text_of, without_network


def test_fonts_from_the_network_are_taken_out() -> None:
    fonts = '@font-face {\n src: url("https://y") }\n'
    styles = ".m { font-family: Fira Code, monospace; } .t { font-family: arial; }"
    plain = without_network(f"<!-- by x https://x --><style>{fonts}{styles}</style>")
    own = re.fullmatch(r"<style>\.m \{ font-family: (ui-monospace, .*); \} \.t \{ font-family: (.*); \}</style>", plain)
    assert own is not None
    assert own[1] == own[2]
    assert "http" not in plain


def test_a_text_that_is_drawn_is_read_back_as_it_was() -> None:
    steps = [
        pictures.Step("microrpc a <b>", "", "x & y\n  indented\nerror: z"),
        pictures.Step("microrpc c", "# why", "a" * 100),
    ]
    said = text_of(pictures.draw(steps))
    assert said.split() == [
        "$",
        "microrpc",
        "a",
        "<b>",
        *["x", "&", "y", "indented", "error:", "z", "$", "microrpc", "c", "#", "why"],
        "a" * 88,
        "a" * 12,
    ]
    assert "\n  indented\n" in said
