"""The README as a package index shows it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from dev.index_page import readme_for_index

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_links_into_the_repository_become_their_text_and_others_stay() -> None:
    assert readme_for_index("See [the guide](docs/a.md#b), [`x`](docs/x.md), [TVM](https://tvm.apache.org).") == (
        "See the guide, `x`, [TVM](https://tvm.apache.org)."
    )


def test_pictures_of_the_repository_become_what_they_show() -> None:
    assert readme_for_index("![A board,\non a desk](docs/a.svg)\n![B](https://b.org/b.png)") == (
        "*A board,\non a desk*\n![B](https://b.org/b.png)"
    )


def test_code_stays_as_it_is() -> None:
    code = '```python\nboard.f["a.b"](x)\n```\n\n    table["f"](1)\n\n`rows["f"](2)` and `[a](b)`\n'
    assert readme_for_index(code) == readme_for_index(code, "https://example.org") == code


def test_with_an_address_links_and_pictures_lead_there() -> None:
    assert readme_for_index("[a](docs/a.md#b) ![c](c.svg) [t](https://t.org)", "https://example.org/blob/main/") == (
        "[a](https://example.org/blob/main/docs/a.md#b) ![c](https://example.org/blob/main/c.svg) [t](https://t.org)"
    )


def test_no_link_of_our_readme_leads_into_the_repository_on_an_index() -> None:
    links = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["custom"]["links"]
    shown = re.sub(r"^```.*?^```", "", readme_for_index(README, links), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"\]\((?!https?:)([^)]*)\)", re.sub(r"`[^`\n]*`", "", shown)) == []
    assert shown.count("](https://") == README.count("](https://") or links
    assert len(shown) > 2000
    assert not re.search(r"(src|href)=\"(?!https?:)", shown)


def test_the_version_is_the_same_everywhere() -> None:
    places = {
        "microrpc/__init__.py": r'^__version__ = "(.*)"$',
        "firmware/ports/arduino/library.properties": r"^version=(.*)$",
        "CHANGELOG.md": r"^## (.*)$",
    }
    for name, line in places.items():
        found = re.search(line, (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert found is not None, name
        assert found[1] == PROJECT["project"]["version"], name
