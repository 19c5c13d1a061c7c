"""Figures of a line, by times that are given."""

from __future__ import annotations

import pytest

from microrpc.capture.rates import Rate, Rates, RoundTrips


def test_what_crossed_in_the_last_two_seconds_is_given_for_one() -> None:
    rates = Rates()
    for tenth in range(100):  # ten seconds
        rates.note(tenth / 10, 50, 2, to_board=True)
        rates.note(tenth / 10, 20, 1, to_board=False)
    assert rates.lately(10.0) == Rate(20.0, 10.0, 500.0, 200.0)
    assert rates.lately(11.0) == Rate(10.0, 5.0, 250.0, 100.0)
    assert rates.lately(12.25) == Rate(0.0, 0.0, 0.0, 0.0)
    assert (rates.frames, rates.size_bytes) == ((200, 100), (5000, 2000))


def test_what_crosses_at_this_moment_is_not_counted_as_a_whole_step() -> None:
    rates = Rates()
    rates.note(4.1, 1000, 1, to_board=True)
    assert rates.lately(4.2) == Rate(0.0, 0.0, 0.0, 0.0)
    assert rates.lately(4.25) == Rate(0.5, 0.0, 500.0, 0.0)


def test_a_time_that_goes_back_a_little_is_counted_where_the_line_is() -> None:
    rates = Rates()
    rates.note(2.0, 10, 1, to_board=True)
    rates.note(1.9, 10, 1, to_board=False)
    assert rates.lately(2.3) == Rate(0.5, 0.5, 5.0, 5.0)


def test_over_all_is_from_the_first_to_the_last() -> None:
    rates = Rates()
    assert rates.overall() == Rate(0.0, 0.0, 0.0, 0.0)
    rates.note(100.0, 100, 1, to_board=True)
    assert rates.overall() == Rate(0.0, 0.0, 0.0, 0.0), "there is no time between"
    rates.note(104.0, 300, 3, to_board=False)
    assert rates.overall() == Rate(0.25, 0.75, 25.0, 75.0)
    rates.clear()
    assert (rates.overall(), rates.lately(104.0), rates.frames) == (Rate(0, 0, 0, 0), Rate(0, 0, 0, 0), (0, 0))


def test_the_share_of_a_line_counts_ten_bits_a_byte() -> None:
    assert Rate(0.0, 0.0, 11520.0, 1152.0).shares(115200) == (1.0, 0.1)


def test_round_trips_are_those_of_the_last_thousand() -> None:
    trips = RoundTrips()
    assert trips.median_and_worst() is None
    trips.note(9.0)
    assert trips.median_and_worst() == (9.0, 9.0)
    for ms in range(1, 1001):
        trips.note(ms / 1000)
    assert trips.median_and_worst() == (pytest.approx(0.501), 1.0)
    assert trips.count == 1001
    trips.clear()
    assert (trips.median_and_worst(), trips.count) == (None, 0)
