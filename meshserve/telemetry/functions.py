"""What decorated functions of user code count: batches and models. On the loop of user code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol
from weakref import WeakSet

from meshserve.telemetry import catalogue
from meshserve.telemetry.declared import COUNT_BUCKETS, LATENCY_BUCKETS, START_BUCKETS
from meshserve.telemetry.series import Histogram, Read, Reading


class HasQueue(Protocol):
    """What is asked of a batch runner at a scrape."""

    @property
    def queued(self) -> int:
        """Calls that wait for a batch."""


class BatchMetrics:
    """Batches of one decorated function.

    Attributes:
        runners: those that count here.
    """

    def __init__(self, function: str) -> None:
        self.runners: WeakSet[HasQueue] = WeakSet()
        self._labels = (function,)
        self._size = Histogram(COUNT_BUCKETS)
        self._wait = Histogram(LATENCY_BUCKETS)
        self._duration = Histogram(LATENCY_BUCKETS)

    def started(self, members: int, waited_s: float) -> None:
        """A batch begins; its first member has waited so long."""
        self._size.observe(members)
        self._wait.observe(waited_s)

    def ended(self, seconds: float) -> None:
        """A batch is over."""
        self._duration.observe(seconds)

    def read(self) -> Iterator[Reading]:
        """See `telemetry.series.Recorder`."""
        yield catalogue.BATCH_SIZE, self._labels, self._size
        yield catalogue.BATCH_WAIT, self._labels, self._wait
        yield catalogue.BATCH_DURATION, self._labels, self._duration
        yield catalogue.BATCH_QUEUED, self._labels, sum(runner.queued for runner in tuple(self.runners))


class ModelMetrics:
    """Models of this replica.

    Attributes:
        hits: models asked for that were there, or being loaded.
        misses: models asked for that had to be loaded.
        failures: models that could not be loaded.
        held: asked at a scrape; None before there is a model.
    """

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.failures = 0
        self.held: Read | None = None
        self._load = Histogram(START_BUCKETS)
        self._unload = Histogram(START_BUCKETS)

    def loaded(self, seconds: float) -> None:
        """A model was loaded."""
        self._load.observe(seconds)

    def unloaded(self, seconds: float) -> None:
        """A model was destroyed."""
        self._unload.observe(seconds)

    def read(self) -> Iterator[Reading]:
        """See `telemetry.series.Recorder`."""
        yield catalogue.MODEL_REQUESTS, ("hit",), self.hits
        yield catalogue.MODEL_REQUESTS, ("miss",), self.misses
        yield catalogue.MODEL_LOAD, (), self._load
        yield catalogue.MODEL_UNLOAD, (), self._unload
        yield catalogue.MODEL_FAILURES, (), self.failures
        if self.held is not None:
            yield catalogue.MODELS_HELD, (), self.held()
