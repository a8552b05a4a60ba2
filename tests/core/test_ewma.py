"""Peak EWMA."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshserve.core.ewma import DEFAULT_LATENCY_S, REFUSAL_LATENCY_S, TAU_S, Ewma, cost, faded, observe, observe_refusal


def test_a_slow_answer_is_believed_at_once_and_fast_ones_slowly() -> None:
    seen = observe(observe(Ewma(), 0.010, 0.0), 1.0, 1.0)
    assert seen.latency_s == 1.0
    later = observe(seen, 0.010, 1.0 + TAU_S)
    assert later.latency_s == pytest.approx(1.0 / math.e + 0.010 * (1 - 1 / math.e))


def test_the_first_answer_replaces_the_default() -> None:
    assert faded(Ewma(), 100.0) == DEFAULT_LATENCY_S
    assert observe(Ewma(), 0.001, 100.0).latency_s == 0.001


def test_a_replica_that_was_slow_once_is_tried_again_after_a_while() -> None:
    slow = observe(Ewma(), 2.0, 0.0)
    good = observe(Ewma(), 0.010, 0.0)
    busy = 3.0
    assert cost(slow, 0, 1.0) > cost(good, busy, 1.0)
    for at in range(100):
        good = observe(good, 0.010, float(at))
    assert cost(slow, 0, 99.0) < cost(good, busy, 99.0)


def test_a_refusal_does_not_look_fast() -> None:
    refusing = observe_refusal(observe(Ewma(), 0.010, 0.0), 1.0)
    assert refusing.latency_s == REFUSAL_LATENCY_S


def test_calls_in_flight_multiply_the_cost() -> None:
    seen = observe(Ewma(), 0.1, 0.0)
    assert cost(seen, 4, 0.0) == pytest.approx(5 * cost(seen, 0, 0.0))


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0.001, 10)), min_size=1, max_size=50))
def test_the_average_lies_among_its_samples_and_never_below_the_latest(samples: list[tuple[float, float]]) -> None:
    seen, now = Ewma(), 0.0
    for gap, latency_s in samples:
        now += gap
        seen = observe(seen, latency_s, now)
        assert seen.latency_s >= latency_s * (1 - 1e-9)
    assert seen.latency_s <= max(latency_s for _, latency_s in samples) * (1 + 1e-9)
