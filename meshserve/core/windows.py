"""Sums of load over a window of time: many routers report, one number comes out.

Every source (a router, or a replica for a user's own metric) gives a series of measurements that reads as a step
function: a value holds until the next one, the last one until now. Load is **first summed over the sources and then
aggregated over the window**, so that `max` is the highest load there was at one instant and not the sum of maxima that
happened at different ones. The controller folds reports in and measures; nothing here knows where they came from.

A window never begins before every source has reported: what a source had in hand before its first report is not known.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter
from typing import TypeAlias

from meshserve.model.autoscaling import TimeStampedValue
from meshserve.model.ids import ReplicaId
from meshserve.model.options import AutoscalingOptions
from meshserve.model.replace import replace

Series: TypeAlias = tuple[TimeStampedValue, ...]
"""Measurements of one source in order of time."""

RESOLUTION_S = 0.01
"""Measurements closer than this are one: it bounds how long a series can get."""

_timestamp = attrgetter("timestamp")


def extend(series: Series, value: float, now: float, keep_s: float) -> Series:
    """Adds a measurement and forgets what no window of `keep_s` can see; one that is out of order is ignored."""
    if series and now < series[-1].timestamp:
        return series
    if series and now - series[-1].timestamp < RESOLUTION_S:
        return (*series[:-1], TimeStampedValue(series[-1].timestamp, value))
    first = 0
    # The last measurement before the window stays: it says what held when the window began.
    while first + 1 < len(series) and series[first + 1].timestamp <= now - keep_s:
        first += 1
    return (*series[first:], TimeStampedValue(now, value))


def sum_series(sources: Sequence[Series]) -> Series:
    """The sum of step functions, from the instant at which every one of them has a value."""
    known = [series for series in sources if series]
    if len(known) <= 1:
        return known[0] if known else ()
    begin = max(series[0].timestamp for series in known)
    total = 0.0
    changes: list[tuple[float, float]] = []
    for series in known:
        before = 0.0
        for at, value in series:
            if at <= begin:
                total += value - before
            else:
                changes.append((at, value - before))
            before = value
    changes.sort()
    summed = [TimeStampedValue(begin, total)]
    for at, change in changes:
        total += change
        if at == summed[-1].timestamp:
            summed[-1] = TimeStampedValue(at, total)
        else:
            summed.append(TimeStampedValue(at, total))
    return tuple(summed)


def aggregate(series: Series, now: float, look_back_s: float, function: str) -> float:
    """One number for the last `look_back_s` seconds of a step function.

    Args:
        series: in order of time; values after `now` are ignored.
        function: "mean" (weighted by time), "max" or "min".

    Returns:
        The value; that of the last measurement when the window has no length, 0 when there is none.

    Raises:
        ValueError: another function.
    """
    held = series[: bisect_right(series, now, key=_timestamp)]
    if not held:
        return 0.0
    start = max(now - look_back_s, held[0].timestamp)
    held = held[bisect_right(held, start, key=_timestamp) - 1 :]
    match function:
        case "max":
            return max(point.value for point in held)
        case "min":
            return min(point.value for point in held)
        case "mean":
            if now <= start:
                return held[-1].value
            edges = [start, *(point.timestamp for point in held[1:]), now]
            return sum(p.value * (end - at) for p, (at, end) in zip(held, pairwise(edges), strict=True)) / (now - start)
    raise ValueError(f"aggregation_function is {function!r}; it must be 'mean', 'max' or 'min'")


def report_interval_s(options: AutoscalingOptions) -> float:
    """How often a replica is asked for figures of its own, in seconds, so that a window holds a few of them."""
    return min(0.2 * options.look_back_period_s, options.metrics_interval_s)


@dataclass(frozen=True, slots=True)
class RouterSeries:
    """What one router reported."""

    total: Series = ()
    queued: Series = ()


@dataclass(frozen=True, slots=True)
class LoadHistory:
    """What all routers reported about one deployment.

    Attributes:
        routers: by whatever names a router for as long as it lives (its watch stream).
    """

    routers: Mapping[str, RouterSeries] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MeasuredLoad:
    """Calls in hand of all routers over the window, and the part of them that waits for a replica."""

    total: float = 0.0
    queued: float = 0.0


def fold_report(
    history: LoadHistory, router: str, queued: float, running: float, now: float, look_back_s: float
) -> LoadHistory:
    """Adds a router's report: calls that wait in it, and calls it has at replicas."""
    seen = history.routers.get(router, RouterSeries())
    updated = RouterSeries(
        extend(seen.total, queued + running, now, look_back_s), extend(seen.queued, queued, now, look_back_s)
    )
    return replace(history, routers={**history.routers, router: updated})


def fold_router_lost(history: LoadHistory, router: str) -> LoadHistory:
    """Forgets a router whose process or connection ended: its calls ended with it."""
    return replace(history, routers={name: seen for name, seen in history.routers.items() if name != router})


def measure_load(history: LoadHistory, now: float, look_back_s: float, function: str) -> MeasuredLoad:
    """The load of a deployment: sums over its routers, aggregated over the window."""
    seen = history.routers.values()
    return MeasuredLoad(
        aggregate(sum_series([router.total for router in seen]), now, look_back_s, function),
        aggregate(sum_series([router.queued for router in seen]), now, look_back_s, function),
    )


MetricHistory: TypeAlias = Mapping[str, Mapping[ReplicaId, Series]]
"""Metric name -> replica -> what its `record_autoscaling_stats` returned."""


def fold_stats(
    history: MetricHistory, replica: ReplicaId, stats: Mapping[str, float], now: float, look_back_s: float
) -> MetricHistory:
    """Adds what a replica measured of itself."""
    added = dict(history)
    for name, value in stats.items():
        of_metric = history.get(name, {})
        added[name] = {**of_metric, replica: extend(of_metric.get(replica, ()), value, now, look_back_s)}
    return added


def keep_replicas(history: MetricHistory, running: Sequence[ReplicaId]) -> MetricHistory:
    """Forgets replicas that no longer run; only running ones count."""
    wanted = frozenset(running)
    kept = {
        name: {replica: series for replica, series in of_metric.items() if replica in wanted}
        for name, of_metric in history.items()
    }
    return {name: of_metric for name, of_metric in kept.items() if of_metric}


def measure_metrics(
    history: MetricHistory, now: float, look_back_s: float, function: str
) -> dict[str, dict[ReplicaId, float]]:
    """Every metric of every replica, aggregated over the window."""
    return {
        name: {replica: aggregate(series, now, look_back_s, function) for replica, series in of_metric.items()}
        for name, of_metric in history.items()
    }
