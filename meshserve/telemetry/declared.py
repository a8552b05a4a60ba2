"""How a metric is declared: once, with its help, unit, labels and buckets. See `telemetry.catalogue` for all there are.

Base units only (seconds, bytes), named as Prometheus wants it: the unit at the end, `_total` behind it for counters.
Every label has a bounded set of values: names that people deploy, or a closed vocabulary; never what a client sends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

_NAME = re.compile(r"[a-z][a-z0-9_]*")

SECONDS = "seconds"
BYTES = "bytes"

LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
"""Of a request or a part of one: half a millisecond to two minutes."""

START_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
"""Of a replica or a model: what loads weights takes its time."""

COUNT_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Of things that come in packs."""


class Kind(Enum):
    """What a metric does; the values are Prometheus's type names."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Declared:
    """One metric.

    Args:
        name: as Prometheus shows it, with unit and `_total`.
        kind: see `Kind`.
        help: one sentence.
        labels: names, in the order in which recorders give the values.
        unit: "seconds", "bytes" or empty for a number of things.
        buckets: upper bounds of a histogram, ascending, without infinity.

    Raises:
        ValueError: the name does not say kind or unit, or a histogram has no buckets.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    buckets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        wanted = (f"_{self.unit}" if self.unit else "") + ("_total" if self.kind is Kind.COUNTER else "")
        if not _NAME.fullmatch(self.name) or not self.name.endswith(wanted):
            raise ValueError(f"{self.name!r} is not a metric's name: lower case, ending in {wanted!r}.")
        if bool(self.buckets) is not (self.kind is Kind.HISTOGRAM):
            raise ValueError(f"{self.name!r}: histograms have buckets, and nothing else has.")


def counter(name: str, help_: str, *labels: str, unit: str = "") -> Declared:
    """Declares a number that only grows."""
    return Declared(name, Kind.COUNTER, help_, labels, unit)


def gauge(name: str, help_: str, *labels: str, unit: str = "") -> Declared:
    """Declares a number that comes and goes."""
    return Declared(name, Kind.GAUGE, help_, labels, unit)


def histogram(name: str, help_: str, *labels: str, unit: str = "", buckets: tuple[float, ...]) -> Declared:
    """Declares a distribution."""
    return Declared(name, Kind.HISTOGRAM, help_, labels, unit, buckets)
