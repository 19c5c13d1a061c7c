"""The README as a package index shows it, where links into the repository lead nowhere: a hook of hatchling's.

`pyproject.toml` names it. Without `links` there, for as long as the repository has no public address, links and
pictures within the repository become their text; with it they lead there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_BLOCKS = re.compile(r"(^```.*?^```$|^(?: {4}|\t)[^\n]*$|`[^`\n]+`)", flags=re.MULTILINE | re.DOTALL)  # of code
_PICTURE = re.compile(r"!\[([^\]]*)\]\((?!https?:)([^)\s]+)\)")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:)([^)\s]+)\)")


def readme_for_index(readme: str, links: str = "") -> str:
    """Give the README without links that an index cannot follow; `links` is what they begin with instead, a URL."""
    if links:
        return _outside_of_code(readme, lambda text: _PICTURE.sub(_to(links, "!"), _LINK.sub(_to(links, ""), text)))
    return _outside_of_code(readme, lambda text: _LINK.sub(r"\1", _PICTURE.sub(r"*\1*", text)))


def _to(links: str, mark: str) -> Callable[[re.Match[str]], str]:
    return lambda found: f"{mark}[{found[1]}]({links.rstrip('/')}/{found[2]})"


def _outside_of_code(text: str, change: Callable[[str], str]) -> str:
    """Change what is no code. A link's text may be code: it is put aside, and back."""
    kept: list[str] = []

    def aside(found: re.Match[str]) -> str:
        kept.append(found[0])
        return f"\0{len(kept) - 1}\0"

    changed = change(_BLOCKS.sub(aside, text))
    return re.sub(r"\0(\d+)\0", lambda found: kept[int(found[1])], changed)


def get_metadata_hook() -> type[Any]:
    """Give the class that hatchling calls while it builds; it is there then, and not else."""
    from hatchling.metadata.plugin.interface import MetadataHookInterface

    class IndexPage(MetadataHookInterface):
        def update(self, metadata: dict[str, Any]) -> None:
            text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
            shown = readme_for_index(text, self.config.get("links", ""))
            metadata["readme"] = {"content-type": "text/markdown", "text": shown}

    return IndexPage
