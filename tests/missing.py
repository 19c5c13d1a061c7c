"""What brings the programs for want of which tests were skipped, as one command."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable

import pytest

MARK = "set this is a failure)"
"""How the reason of such a skip ends (tests/needs.py)."""

_WORD = r"[^\s;,()]+"
_APT = re.compile(rf"apt-get install (?:--no-install-recommends )?((?:{_WORD} ?)+)")
_NPM = re.compile(rf"npm install --prefix ({_WORD}) ((?:{_WORD} ?)+)")
_OTHERS = re.compile(r"(make [a-z][a-z-]+|pip install '[^']+')")


def command(reasons: Iterable[str]) -> str:
    """Give the command that brings all that is missing; "" where no reason names one.

    What it takes stands in each reason: packages of Debian or npm, a target of make, or an extra.
    """
    debian: set[str] = set()
    npm: dict[str, set[str]] = {}
    others: set[str] = set()
    for reason in reasons:
        text = reason.partition(" (with ")[0]
        for names in _APT.findall(text):
            debian |= set(names.split()) - {"or", "and"}
        for prefix, names in _NPM.findall(text):
            npm.setdefault(prefix, set()).update(names.split())
        others |= set(_OTHERS.findall(text))
    commands = [f"sudo apt-get install --no-install-recommends {' '.join(sorted(debian))}"] * bool(debian)
    commands += [f"npm install --prefix {prefix} {' '.join(sorted(names))}" for prefix, names in sorted(npm.items())]
    return " && ".join([*commands, *sorted(others)])


def summary(reasons: Iterable[str]) -> str:
    """Give the line for the end of a run of tests that skipped for these reasons; "" where nothing was missing."""
    wanting = [reason for reason in reasons if reason.endswith(MARK)]
    if not wanting:
        return ""
    count = "1 test was" if len(wanting) == 1 else f"{len(wanting)} tests were"
    told = command(wanting)
    return f"{count} skipped for what is not installed here. " + (f"This brings it: {told}" if told else "See above.")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """Say it after everything else, where it is read."""
    yield
    skipped = [report.longrepr for report in terminalreporter.stats.get("skipped", [])]
    line = summary(str(where[2]) for where in skipped if isinstance(where, tuple))
    if line:
        terminalreporter.write_line(line, yellow=True)
