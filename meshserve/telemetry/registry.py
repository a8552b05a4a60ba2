"""The recorders of a process, and what they have counted, as Prometheus's client library wants to see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar, cast

from prometheus_client import Metric
from prometheus_client.registry import Collector

from meshserve.telemetry.declared import Declared, Kind
from meshserve.telemetry.series import Histogram, Reading, Recorder, number_text

R = TypeVar("R", bound=Recorder)


class Registry(Collector):
    """Recorders by what they are and the values of their labels. Asked when a deployment or a method is met for the
    first time, never per call."""

    def __init__(self) -> None:
        self._recorders: dict[tuple[object, ...], Recorder] = {}

    def recorder(self, kind: Callable[..., R], *labels: str) -> R:
        """The recorder of that kind for those labels, made on first use; there is one, whoever asks.

        A recorder stays for the life of the process: its counters must not start again.
        """
        return self.add((kind, *labels), lambda: kind(*labels))

    def add(self, key: tuple[object, ...], make: Callable[[], R]) -> R:
        """The recorder under a key, made on first use."""
        found = self._recorders.get(key)
        if found is None:
            found = self._recorders.setdefault(key, make())
        return cast("R", found)

    def readings(self) -> Iterator[Reading]:
        """Everything counted in this process."""
        for recorder in tuple(self._recorders.values()):
            yield from recorder.read()

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`; families in the order in which they are met."""
        families: dict[str, Metric] = {}
        for declared, labels, value in self.readings():
            family = families.get(declared.name)
            if family is None:
                family = families[declared.name] = family_of(declared)
            add_reading(family, declared, labels, value)
        yield from families.values()


def family_of(declared: Declared) -> Metric:
    """An empty family; the library adds `_total` to counters itself."""
    return Metric(declared.name.removesuffix("_total"), declared.help, declared.kind.value)


def add_reading(family: Metric, declared: Declared, values: tuple[str, ...], value: float | Histogram) -> None:
    """Adds one series to its family."""
    labels = dict(zip(declared.labels, values, strict=True))
    if isinstance(value, Histogram):
        _add_histogram(family, declared.name, labels, value)
    else:
        family.add_sample(declared.name, labels, value)


def _add_histogram(family: Metric, name: str, labels: dict[str, str], histogram: Histogram) -> None:
    cumulated = 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        cumulated += count
        family.add_sample(f"{name}_bucket", labels | {"le": number_text(float(bound))}, cumulated)
    cumulated += histogram.counts[-1]
    family.add_sample(f"{name}_bucket", labels | {"le": "+Inf"}, cumulated)
    family.add_sample(f"{name}_count", labels, cumulated)
    family.add_sample(f"{name}_sum", labels, histogram.total)


def is_monotonic(kind: str) -> bool:
    """Whether series of a type (as Prometheus names it) only grow."""
    return kind in (Kind.COUNTER.value, Kind.HISTOGRAM.value)


PROCESS = Registry()
"""The registry of this process."""
