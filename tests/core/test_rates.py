"""Rates and quantiles between two looks at counters."""

import math

import pytest

from meshserve.core.rates import Tally, growth, quantile, rates, total


def test_a_rate_is_what_was_counted_between_two_looks_by_the_time_in_between():
    older = Tally(100, 10, {0.1: 90, math.inf: 100})
    newer = Tally(150, 15, {0.1: 140, math.inf: 150})
    found = rates(growth(older, newer), 5.0)
    assert (found.calls_per_s, found.failed_per_s) == (10, 1)
    assert found.p50_s == pytest.approx(0.05) and found.p99_s == pytest.approx(0.099)


def test_a_counter_that_began_anew_gives_no_negative_rate():
    found = rates(growth(Tally(100, 10, {math.inf: 100}), Tally(3, 0, {math.inf: 3})), 1.0)
    assert (found.calls_per_s, found.failed_per_s, found.p50_s) == (0, 0, None)


def test_tallies_add_up_by_bucket():
    whole = total([Tally(1, 1, {0.1: 1, math.inf: 1}), Tally(2, 0, {0.1: 0, math.inf: 2})])
    assert (whole.calls, whole.failed, whole.buckets) == (3, 1, {0.1: 1, math.inf: 3})


@pytest.mark.parametrize(
    ("rank", "buckets", "expected"),
    [
        (0.5, {}, None),
        (0.5, {1.0: 0, math.inf: 0}, None),
        (0.5, {1.0: 10, math.inf: 10}, 0.5),
        (0.75, {1.0: 5, 3.0: 10, math.inf: 10}, 2.0),
        (0.99, {1.0: 5, math.inf: 10}, 1.0),
        (1.0, {1.0: 5, 2.0: 5, math.inf: 5}, 1.0),
    ],
)
def test_a_quantile_lies_evenly_within_its_bucket(rank, buckets, expected):
    assert quantile(rank, buckets) == expected
