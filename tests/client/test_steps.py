"""A warm call takes no more Python calls than were agreed on: what is added to it is paid for elsewhere in it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable

import pytest

from benchmarks.steps import MOST_CALLS, Steps, asyncio_steps, blocking_steps

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11) or platform.python_implementation() != "CPython",
    reason="a version of Python may enter other functions for the same program; the bounds are those of CPython 3.11",
)


@pytest.mark.parametrize(
    ("count", "most"), [(blocking_steps, MOST_CALLS["blocking"]), (asyncio_steps, MOST_CALLS["asyncio"])]
)
@pytest.mark.parametrize("link", [False, True])
def test_a_warm_call_takes_no_more_python_calls_than_its_bound(
    count: Callable[..., Steps], most: tuple[int, int], link: bool
) -> None:
    steps = count(link=link)
    assert steps.calls <= most[link], "\n".join(f"{file} {name}" for file, name in steps.visited)


def test_the_steps_of_a_call_are_those_that_it_must_take() -> None:
    names = [name for _, name in blocking_steps(link=False).visited]
    assert names[0] == "RemoteFunction.__call__"
    assert names.count("FdChannel.write") == 1
    assert "FdChannel._spin" not in names
