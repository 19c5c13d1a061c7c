"""What tests of the plugin have in common: pytest, run in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

# Imported here, or each run would import it again, and numpy; hypothesis' own plugin imports the other.
from pytest_microrpc import desk, junit, place, simulated  # noqa: F401


@pytest.fixture
def run(pytester: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """Run a file of tests with options, in this process."""

    def run(source: str, *options: str) -> pytest.RunResult:
        header = "import microrpc, pytest\nimport numpy as np\nfrom firmware_sim.faults import *\n"
        pytester.makepyfile(test_it=header + source)
        return pytester.runpytest_inprocess("-rs", "--strict-markers", "-p", "no:cacheprovider", *options)

    return run
