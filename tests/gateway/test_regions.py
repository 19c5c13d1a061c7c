"""Which ranges of addresses a request touches: to the byte."""

from __future__ import annotations

import pytest

from microrpc.gateway.regions import Regions


@pytest.fixture
def regions() -> Regions[str]:
    """Two ranges side by side, and an empty one after a gap."""
    regions: Regions[str] = Regions()
    regions.add(100, 10, "first")
    regions.add(110, 5, "second")
    regions.add(200, 0, "empty")
    return regions


@pytest.mark.parametrize(
    ("start", "size_bytes", "found"),
    [
        (99, 1, []),
        (99, 2, ["first"]),
        (90, 30, ["first", "second"]),
        (100, 10, ["first"]),
        (109, 1, ["first"]),
        (109, 2, ["first", "second"]),
        (110, 1, ["second"]),
        (114, 1, ["second"]),
        (115, 1, []),
        (115, 85, []),
        (115, 86, ["empty"]),
        (200, 1, ["empty"]),
        (201, 1, []),
        (0, 1000, ["first", "second", "empty"]),
    ],
)
def test_a_range_overlaps_those_that_it_shares_a_byte_with(
    regions: Regions[str], start: int, size_bytes: int, found: list[str]
) -> None:
    assert list(regions.overlapping(start, size_bytes)) == found


@pytest.mark.parametrize(
    ("start", "found"), [(99, []), (100, ["first"]), (114, ["second"]), (115, []), (200, ["empty"])]
)
def test_no_bytes_overlap_what_lies_at_their_place(regions: Regions[str], start: int, found: list[str]) -> None:
    assert list(regions.overlapping(start, 0)) == found


def test_a_range_that_begins_at_the_same_place_replaces_the_other(regions: Regions[str]) -> None:
    regions.add(100, 2, "shorter")
    assert len(regions) == 3
    assert list(regions.overlapping(101, 9)) == ["shorter"]
    assert list(regions.overlapping(102, 8)) == []


def test_a_removed_range_is_gone_and_another_removal_does_nothing(regions: Regions[str]) -> None:
    regions.remove(100)
    regions.remove(100)
    regions.remove(105)
    assert 100 not in regions
    assert 110 in regions
    assert list(regions.overlapping(0, 1000)) == ["second", "empty"]
