"""The line at the end of tests that were skipped for want of programs."""

from __future__ import annotations

from pathlib import Path

import missing
import needs
import pytest

END = f" (with {needs.REQUIRE} set this is a failure)"
FIRST = "needs avr-gcc: apt-get install --no-install-recommends gcc-avr" + END
PYTEST = """
import pytest, needs

@pytest.mark.parametrize("number", range(3))
def test_it(number):
    needs.program(f"nosuch{number}", f"package{number % 2}")

def test_else():
    pytest.skip("not today")
"""


def test_the_command_has_each_package_once() -> None:
    reasons = [
        FIRST,
        "needs x: apt-get install --no-install-recommends gcc-avr avr-libc" + END,
        "a runs in node, which is not installed: apt-get install --no-install-recommends nodejs npm; and in "
        "b@1 of npm, not installed: npm install --prefix /h/npm b@1 @c/d@2; there is no gcc: "
        "apt-get install --no-install-recommends gcc" + END,
        "needs build/tools: make test-tools" + END,
        "needs a compiler: pip install 'microrpc[firmware]'" + END,
        "apt-get install --no-install-recommends libnewlib, or build with --compiler zig" + END,
    ]
    assert missing.command(reasons) == (
        "sudo apt-get install --no-install-recommends avr-libc gcc gcc-avr libnewlib nodejs npm"
        " && npm install --prefix /h/npm @c/d@2 b@1 && make test-tools && pip install 'microrpc[firmware]'"
    )


def test_the_line_counts_what_was_skipped_for_want_of_programs_alone() -> None:
    assert missing.summary(["not today", "on Windows"]) == ""
    assert missing.summary([FIRST, "not today"]) == (
        "1 test was skipped for what is not installed here. "
        "This brings it: sudo apt-get install --no-install-recommends gcc-avr"
    )
    assert (
        missing.summary(["it cannot be" + END] * 2) == "2 tests were skipped for what is not installed here. See above."
    )


def test_a_run_ends_with_that_line(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(needs.REQUIRE, raising=False)
    pytester.makeconftest("from missing import pytest_terminal_summary\n")
    pytester.makepyfile(PYTEST)
    monkeypatch.setenv("PYTHONPATH", str(Path(needs.__file__).parent))
    ran = pytester.runpytest_subprocess("-q", "-n", "1", "-p", "no:microrpc")
    last = ran.outlines[-2]
    assert last == (
        "3 tests were skipped for what is not installed here. "
        "This brings it: sudo apt-get install --no-install-recommends package0 package1"
    )
    assert ran.outlines[-1].startswith("4 skipped")
