"""What recorders keep and a scrape reads: plain numbers, no locks.

The data plane lives on one thread and counts with `+=`; a scrape may see a histogram between its two updates, which
is off by one observation and does no harm.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

from meshserve.telemetry.declared import Declared


class Histogram:
    """Counts observations by bucket.

    Args:
        bounds: upper bounds, ascending; a value on a bound is below it.

    Attributes:
        counts: by bucket, not cumulative; one more than bounds, the last for what is above all.
        total: the sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """Observations so far."""
        return sum(self.counts)

    def with_zeros(self, zeros: int) -> Histogram:
        """A copy with so many observations of 0 added, which nobody had to record one by one."""
        copy = Histogram(self.bounds)
        copy.counts = list(self.counts)
        copy.counts[0] += zeros
        copy.total = self.total
        return copy


def number_text(value: float) -> str:
    """A number as Prometheus reads it."""
    if value == math.inf:
        return "+Inf"
    return repr(value) if value == value else "NaN"


Reading: TypeAlias = tuple[Declared, tuple[str, ...], "float | Histogram"]
"""A metric, the values of its labels, and what it is now."""

Read: TypeAlias = Callable[[], float]
"""Asks for a gauge's value at the time of a scrape."""


class Recorder(Protocol):
    """Something that counts."""

    def read(self) -> Iterator[Reading]:
        """Everything counted so far; from any thread."""
