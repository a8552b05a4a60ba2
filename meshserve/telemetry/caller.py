"""What the caller's side counts, for each deployment it calls: the router and its sessions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol
from weakref import WeakSet

from meshserve.model.failure import FailureKind
from meshserve.telemetry import catalogue
from meshserve.telemetry.declared import COUNT_BUCKETS, LATENCY_BUCKETS
from meshserve.telemetry.series import Histogram, Reading


class Queue(Protocol):
    """What is asked of a router at a scrape.

    Attributes:
        queued: calls that wait for a replica.
        running: calls at replicas.
    """

    queued: int
    running: int

    @property
    def replicas(self) -> tuple[object, ...]:
        """The replicas it knows."""


class RouterMetrics:
    """Calls to one deployment.

    Of most calls nothing is recorded but that they found a replica at once; the rest is worked out at a scrape.

    Attributes:
        at_once: calls that found a replica at once.
        lined_up: calls that had to wait for one.
        turned_away: calls refused before either: the queue was full, or the deployment cannot serve.
        rejections: answers of full replicas.
        routers: those that count here.
    """

    def __init__(self, application: str, deployment: str) -> None:
        self.at_once = 0
        self.lined_up = 0
        self.turned_away = 0
        self.rejections = 0
        self.routers: WeakSet[Queue] = WeakSet()
        self._labels = (application, deployment)
        self._waits = Histogram(LATENCY_BUCKETS)
        self._failures: dict[FailureKind, int] = {}

    def waited(self, seconds: float) -> None:
        """A call that stood in line has got a replica."""
        self._waits.observe(seconds)

    def failed(self, kind: FailureKind) -> None:
        """A call has ended without a result."""
        self._failures[kind] = self._failures.get(kind, 0) + 1

    def read(self) -> Iterator[Reading]:
        """See `telemetry.series.Recorder`."""
        labels, routers = self._labels, tuple(self.routers)
        yield catalogue.ROUTER_CALLS, labels, self.at_once + self.lined_up + self.turned_away
        yield catalogue.ROUTER_WAIT, labels, self._waits.with_zeros(self.at_once)
        yield catalogue.ROUTER_REJECTIONS, labels, self.rejections
        for kind, count in tuple(self._failures.items()):
            yield catalogue.ROUTER_FAILURES, (*labels, kind.name.lower()), count
        yield catalogue.ROUTER_QUEUED, labels, sum(router.queued for router in routers)
        yield catalogue.ROUTER_RUNNING, labels, sum(router.running for router in routers)
        yield catalogue.ROUTER_REPLICAS, labels, max((len(router.replicas) for router in routers), default=0)


class SessionMetrics:
    """Messages of the sessions between this process and one deployment's replicas, or of one replica to its callers.

    Attributes:
        opened: sessions begun.
        broken: sessions that ended otherwise than by being closed.
    """

    def __init__(self, side: str, application: str, deployment: str) -> None:
        self.opened = 0
        self.broken = 0
        self._side = side
        self._labels = (application, deployment)
        self._frames = Histogram(COUNT_BUCKETS)
        self._sent_bytes = 0

    def sent(self, frames: int, size_bytes: int) -> None:
        """A message is about to be written; once per message, not per frame."""
        self._frames.observe(frames)
        self._sent_bytes += size_bytes

    def read(self) -> Iterator[Reading]:
        """See `telemetry.series.Recorder`."""
        yield catalogue.SESSION_FRAMES, (self._side, *self._labels), self._frames
        yield catalogue.SESSION_SENT, (self._side, *self._labels), self._sent_bytes
        if self._side == CALLER:
            yield catalogue.SESSION_OPENED, self._labels, self.opened
            yield catalogue.SESSION_BROKEN, self._labels, self.broken


CALLER = "caller"
REPLICA = "replica"
