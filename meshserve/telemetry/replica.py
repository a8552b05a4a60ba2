"""What a replica counts: its calls, by method and outcome."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Protocol
from weakref import WeakSet

from meshserve.model.failure import FailureKind
from meshserve.telemetry import catalogue
from meshserve.telemetry.declared import LATENCY_BUCKETS
from meshserve.telemetry.series import Histogram, Reading

MAX_METHODS = 200
"""Methods with series of their own. Callers name methods, and may name what does not exist."""

_OTHER = "other"


class Busy(Protocol):
    """What is asked of a replica's door at a scrape."""

    @property
    def ongoing(self) -> int:
        """Calls accepted and not ended."""

    @property
    def limit(self) -> int:
        """Calls accepted at a time."""

    @property
    def waiting_streams(self) -> int:
        """Streams that wait for credits to send more."""


class MethodMetrics:
    """Calls of one method."""

    __slots__ = ("_failures", "duration")

    def __init__(self) -> None:
        self.duration = Histogram(LATENCY_BUCKETS)
        self._failures: dict[FailureKind, int] = {}

    def failed(self, kind: FailureKind) -> None:
        """A call has ended without a result; its duration is recorded besides."""
        self._failures[kind] = self._failures.get(kind, 0) + 1

    def outcomes(self) -> Iterator[tuple[str, int]]:
        """Calls by outcome. What succeeded is what did not fail: nothing is counted for it."""
        failures = dict(self._failures)
        yield "ok", self.duration.count - sum(failures.values())
        for kind, count in failures.items():
            yield kind.name.lower(), count


class ReplicaMetrics:
    """Calls that a replica has accepted, or refused.

    Attributes:
        full: calls sent back because all slots were taken.
        draining: calls sent back because the replica is going away.
        expired: calls whose deadline had passed on arrival.
        doors: those that count here; one, unless replicas share a process to be tested.
    """

    def __init__(self, application: str, deployment: str) -> None:
        self.full = 0
        self.draining = 0
        self.expired = 0
        self.doors: WeakSet[Busy] = WeakSet()
        self._labels = (application, deployment)
        self._methods: dict[str, MethodMetrics] = {}

    def method(self, name: str) -> MethodMetrics:
        """The recorder of a method."""
        found = self._methods.get(name)
        if found is None:
            known = name if len(self._methods) < MAX_METHODS else _OTHER
            found = self._methods.setdefault(known, MethodMetrics())
        return found

    def refused(self, draining: bool) -> None:
        """A call was sent back."""
        if draining:
            self.draining += 1
        else:
            self.full += 1

    def ended(self, method: str, seconds: float, failure: FailureKind | None) -> None:
        """An accepted call is over."""
        series = self._methods.get(method) or self.method(method)
        # `Histogram.observe` by hand: this runs for every call, and a call of Python's costs more than the rest of it.
        duration = series.duration
        duration.counts[bisect_left(LATENCY_BUCKETS, seconds)] += 1
        duration.total += seconds
        if failure is not None:
            series.failed(failure)

    def read(self) -> Iterator[Reading]:
        """See `telemetry.series.Recorder`."""
        labels = self._labels
        for method, series in tuple(self._methods.items()):
            yield catalogue.REPLICA_DURATION, (*labels, method), series.duration
            for outcome, count in series.outcomes():
                yield catalogue.REPLICA_CALLS, (*labels, method, outcome), count
        for reason, count in (("full", self.full), ("draining", self.draining), ("expired", self.expired)):
            yield catalogue.REPLICA_REFUSED, (*labels, reason), count
        doors = tuple(self.doors)
        yield catalogue.REPLICA_ONGOING, labels, sum(door.ongoing for door in doors)
        yield catalogue.REPLICA_LIMIT, labels, sum(door.limit for door in doors)
        yield catalogue.SESSION_WAITING, labels, sum(door.waiting_streams for door in doors)
