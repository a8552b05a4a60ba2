"""Sums of load over a window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshserve.core.windows import (
    LoadHistory,
    MetricHistory,
    Series,
    aggregate,
    extend,
    fold_report,
    fold_router_lost,
    fold_stats,
    keep_replicas,
    measure_load,
    measure_metrics,
    report_interval_s,
    sum_series,
)
from meshserve.model.autoscaling import TimeStampedValue
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.model.options import AutoscalingOptions

REPLICA = ReplicaId(DeploymentId("app", "model"), "a")
OTHER = ReplicaId(DeploymentId("app", "model"), "b")


def steps(*points: tuple[float, float]) -> Series:
    return tuple(TimeStampedValue(at, value) for at, value in points)


def test_sources_are_summed_as_step_functions_from_where_all_have_a_value() -> None:
    assert sum_series([steps((0, 1), (2, 3)), steps((1, 10), (3, 0))]) == steps((1, 11), (2, 13), (3, 3))


def test_changes_at_the_same_instant_are_one_step() -> None:
    assert sum_series([steps((0, 1), (5, 2)), steps((0, 1), (5, 4))]) == steps((0, 2), (5, 6))


def test_no_source_has_no_sum() -> None:
    assert sum_series([]) == sum_series([()]) == ()


@pytest.mark.parametrize(
    ("function", "look_back_s", "expected"),
    [
        ("mean", 10, (2 * 4 + 8 * 4 + 4 * 2) / 10),
        ("mean", 4, (8 * 2 + 4 * 2) / 4),
        ("mean", 100, (2 * 4 + 8 * 4 + 4 * 2) / 10),
        ("mean", 0, 4),
        ("max", 10, 8),
        ("max", 1, 4),
        ("max", 2, 4),
        ("max", 2.5, 8),
        ("min", 10, 2),
        ("min", 5, 4),
    ],
)
def test_a_window_is_aggregated_weighted_by_time(function: str, look_back_s: float, expected: float) -> None:
    series = steps((0, 2), (4, 8), (8, 4))
    assert aggregate(series, 10, look_back_s, function) == pytest.approx(expected)


def test_the_last_value_holds_until_now_and_later_ones_are_not_seen() -> None:
    assert aggregate(steps((0, 5)), 100, 30, "min") == 5
    assert aggregate(steps((0, 5), (50, 1)), 40, 30, "mean") == 5
    assert aggregate((), 40, 30, "mean") == 0


def test_an_unknown_aggregation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'median'.*'mean', 'max' or 'min'"):
        aggregate(steps((0, 1)), 1, 1, "median")


def test_max_is_that_of_the_sum_and_not_the_sum_of_maxima() -> None:
    history = LoadHistory()
    for at, first, second in [(0.0, 10, 0), (5.0, 0, 10), (9.0, 1, 1)]:
        history = fold_report(history, "a", 0, first, at, 30)
        history = fold_report(history, "b", 0, second, at, 30)
    assert measure_load(history, 10, 30, "max").total == 10


def test_queued_calls_count_and_are_known_apart() -> None:
    history = fold_report(LoadHistory(), "proxy", 3, 4, 0.0, 30)
    history = fold_report(history, "driver", 1, 0, 0.0, 30)
    load = measure_load(history, 1.0, 30, "mean")
    assert (load.total, load.queued) == (8, 4)


def test_a_report_out_of_order_is_ignored() -> None:
    history = fold_report(LoadHistory(), "a", 0, 4, 10.0, 30)
    assert fold_report(history, "a", 0, 99, 9.0, 30) == history


def test_a_lost_router_takes_its_calls_with_it() -> None:
    history = fold_report(fold_report(LoadHistory(), "a", 0, 4, 0.0, 30), "b", 0, 1, 0.0, 30)
    assert measure_load(fold_router_lost(history, "a"), 1.0, 30, "mean").total == 1


@pytest.mark.parametrize(("metrics_interval_s", "look_back_s", "interval_s"), [(10, 30, 6), (1, 30, 1), (10, 5, 1)])
def test_report_intervals_follow_the_options(metrics_interval_s: float, look_back_s: float, interval_s: float) -> None:
    options = AutoscalingOptions(metrics_interval_s=metrics_interval_s, look_back_period_s=look_back_s)
    assert report_interval_s(options) == interval_s


def test_own_metrics_are_aggregated_by_replica_and_only_of_running_ones() -> None:
    history: MetricHistory = {}
    history = fold_stats(history, REPLICA, {"gpu": 10.0}, 0.0, 30)
    history = fold_stats(history, REPLICA, {"gpu": 30.0}, 5.0, 30)
    history = fold_stats(history, OTHER, {"gpu": 5.0, "cache": 1.0}, 5.0, 30)
    assert measure_metrics(history, 10.0, 30, "mean") == {"gpu": {REPLICA: 20.0, OTHER: 5.0}, "cache": {OTHER: 1.0}}
    assert keep_replicas(history, [REPLICA]).keys() == {"gpu"}


reports = st.lists(
    st.tuples(st.floats(0.01, 20), st.integers(0, 50), st.integers(0, 2)), min_size=1, max_size=60
)  # seconds since the last, calls, router


@given(reports)
def test_the_mean_lies_between_min_and_max(reported: list[tuple[float, int, int]]) -> None:
    history, now = LoadHistory(), 0.0
    for gap, calls, router in reported:
        now += gap
        history = fold_report(history, str(router), 0, calls, now, 30)
    low, mean, high = (measure_load(history, now + 1, 30, name).total for name in ("min", "mean", "max"))
    assert low - 1e-9 <= mean <= high + 1e-9


@given(reports)
def test_forgetting_what_is_old_changes_no_window(reported: list[tuple[float, int, int]]) -> None:
    kept: Series = ()
    everything: Series = ()
    now = 0.0
    for gap, calls, _ in reported:
        now += gap
        kept, everything = extend(kept, calls, now, 30), extend(everything, calls, now, 1e9)
        for name in ("min", "mean", "max"):
            assert aggregate(kept, now, 30, name) == pytest.approx(aggregate(everything, now, 30, name))


@given(st.lists(st.floats(0, 0.05), max_size=2000))
def test_a_series_is_no_longer_than_its_window_at_full_resolution(gaps: list[float]) -> None:
    series: Series = ()
    now = 0.0
    for gap in gaps:
        now += gap
        series = extend(series, 1.0, now, 1.0)
    assert len(series) <= 102
