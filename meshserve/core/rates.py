"""Rates and quantiles between two looks at counters, as Prometheus's `rate` and `histogram_quantile` have them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """What was counted of calls of one kind so far.

    Attributes:
        calls: all of them.
        failed: those among them that failed.
        buckets: how many took at most so many seconds, by that bound; infinity is one.
    """

    calls: float = 0.0
    failed: float = 0.0
    buckets: dict[float, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rates:
    """What happened between two looks.

    Attributes:
        calls_per_s: all of them.
        failed_per_s: those among them that failed.
        p50_s: half of them took less, in seconds; None when there were none. The others likewise.
    """

    calls_per_s: float = 0.0
    failed_per_s: float = 0.0
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None


def growth(older: Tally, newer: Tally) -> Tally:
    """What was counted between two looks; nothing is negative, if a process started anew meanwhile."""
    return Tally(
        max(newer.calls - older.calls, 0.0),
        max(newer.failed - older.failed, 0.0),
        {bound: max(count - older.buckets.get(bound, 0.0), 0.0) for bound, count in newer.buckets.items()},
    )


def total(tallies: Iterable[Tally]) -> Tally:
    """All of them together."""
    whole = Tally()
    for one in tallies:
        whole.calls += one.calls
        whole.failed += one.failed
        for bound, count in one.buckets.items():
            whole.buckets[bound] = whole.buckets.get(bound, 0.0) + count
    return whole


def rates(grown: Tally, seconds: float) -> Rates:
    """The rates of what was counted in so many seconds."""
    p50, p95, p99 = (quantile(rank, grown.buckets) for rank in (0.5, 0.95, 0.99))
    return Rates(grown.calls / seconds, grown.failed / seconds, p50, p95, p99)


def quantile(rank: float, buckets: Mapping[float, float]) -> float | None:
    """The value that a share of all is below, taken to lie evenly within a bucket; None when there are none.

    Above the last finite bound nothing is known: then it is that bound.
    """
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return None
    wanted = rank * buckets[bounds[-1]]
    below, lower = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted:
            if math.isinf(bound):
                return lower
            inside = buckets[bound] - below
            return bound if not inside else lower + (bound - lower) * (wanted - below) / inside
        below, lower = buckets[bound], bound
    return lower
