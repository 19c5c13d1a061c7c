"""Pictures of terminals, as rich and textual draw them: they load nothing, and their words can be read again."""

from __future__ import annotations

import argparse
import html
import pathlib
import re
from collections.abc import Callable

ROOT = pathlib.Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
_FONTS = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace'
_TEXT = re.compile(r'<text class="[\w-]+-r\d+" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>')


def without_network(svg: str) -> str:
    """Give a picture that loads no fonts: those of the computer are as good, and a document loads nothing."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    return re.sub(r"font-family: (Fira Code|arial)[^;]*;", f"font-family: {_FONTS};", svg)


def text_of(svg: str) -> str:
    """Give the text that a picture shows, its lines in order; what wrapped is on two lines."""
    rows: dict[float, list[tuple[float, str]]] = {}
    for x, y, text in _TEXT.findall(svg):
        rows.setdefault(float(y), []).append((float(x), html.unescape(text).replace("\N{NO-BREAK SPACE}", " ")))
    return "\n".join("".join(text for _, text in sorted(parts)).rstrip() for _, parts in sorted(rows.items()))


def main(picture: pathlib.Path, draw: Callable[[], str], description: str | None) -> None:
    """Write a picture: what the modules do that draw one, as programs."""
    argparse.ArgumentParser(description=description).parse_args()
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(draw(), encoding="utf-8")
    print(picture.relative_to(ROOT))
