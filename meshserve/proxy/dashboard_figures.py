"""The figures of the page, out of a scrape: what was counted of calls, requests and queues up to one instant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from meshserve.core.rates import Tally
from meshserve.telemetry import catalogue
from meshserve.telemetry.samples import Sample, samples

ReplicaKey: TypeAlias = tuple[str, str, str]
"""Application, deployment, replica."""

CallsKey: TypeAlias = tuple[str, str, str]
"""Who calls (a replica's tag; empty for the ingress), application and deployment of whom."""

_OK = "ok"
_SERVER_ERROR = "5"


@dataclass(slots=True)
class ReplicaFigures:
    """Of one replica.

    Attributes:
        tally: its calls.
        ongoing: calls in hand.
        limit: calls it takes at a time.
        memory_bytes: of its process.
        cpu_s: of its process, so far.
    """

    tally: Tally = field(default_factory=Tally)
    ongoing: float = 0.0
    limit: float = 0.0
    memory_bytes: float = 0.0
    cpu_s: float = 0.0


@dataclass(slots=True)
class Figures:
    """Of a node.

    Attributes:
        at: the instant, on the monotonic clock.
        replicas: by replica; those of the dead are under a name that tells so, see `telemetry.merging`.
        queued: calls that wait for a replica, by application and deployment.
        calls: made, by who calls whom.
        http: requests, by application.
        in_flight: requests at the ingress, by protocol.
    """

    at: float = 0.0
    replicas: dict[ReplicaKey, ReplicaFigures] = field(default_factory=lambda: defaultdict(ReplicaFigures))
    queued: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    calls: dict[CallsKey, float] = field(default_factory=lambda: defaultdict(float))
    http: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    in_flight: dict[str, float] = field(default_factory=lambda: defaultdict(float))


def read_figures(text: bytes, at: float) -> Figures:
    """Reads a scrape."""
    figures = Figures(at)
    for sample in samples(text, frozenset(_READERS)):
        _READERS[sample[0]](figures, sample)
    return figures


def _replica(figures: Figures, labels: Mapping[str, str]) -> ReplicaFigures:
    return figures.replicas[labels.get("application", ""), labels.get("deployment", ""), labels.get("replica", "")]


def _replica_calls(figures: Figures, sample: Sample) -> None:
    _, labels, value = sample
    tally = _replica(figures, labels).tally
    tally.calls += value
    tally.failed += value if labels["outcome"] != _OK else 0.0


def _replica_bucket(figures: Figures, sample: Sample) -> None:
    _count_bucket(_replica(figures, sample[1]).tally, sample)


def _count_bucket(tally: Tally, sample: Sample) -> None:
    bound = float(sample[1]["le"])
    tally.buckets[bound] = tally.buckets.get(bound, 0.0) + sample[2]


def _ongoing(figures: Figures, sample: Sample) -> None:
    _replica(figures, sample[1]).ongoing += sample[2]


def _limit(figures: Figures, sample: Sample) -> None:
    _replica(figures, sample[1]).limit += sample[2]


def _memory(figures: Figures, sample: Sample) -> None:
    if sample[1].get("replica"):
        _replica(figures, sample[1]).memory_bytes = sample[2]


def _cpu(figures: Figures, sample: Sample) -> None:
    if sample[1].get("replica"):
        _replica(figures, sample[1]).cpu_s = sample[2]


def _queued(figures: Figures, sample: Sample) -> None:
    _, labels, value = sample
    figures.queued[labels["application"], labels["deployment"]] += value


def _router_calls(figures: Figures, sample: Sample) -> None:
    _, labels, value = sample
    figures.calls[labels.get("replica", ""), labels["application"], labels["deployment"]] += value


def _http_requests(figures: Figures, sample: Sample) -> None:
    _, labels, value = sample
    tally = figures.http[labels["application"]]
    tally.calls += value
    tally.failed += value if labels["status"].startswith(_SERVER_ERROR) else 0.0


def _http_bucket(figures: Figures, sample: Sample) -> None:
    _count_bucket(figures.http[sample[1]["application"]], sample)


def _in_flight(figures: Figures, sample: Sample) -> None:
    figures.in_flight[sample[1]["protocol"]] += sample[2]


_READERS = {
    catalogue.REPLICA_CALLS.name: _replica_calls,
    f"{catalogue.REPLICA_DURATION.name}_bucket": _replica_bucket,
    catalogue.REPLICA_ONGOING.name: _ongoing,
    catalogue.REPLICA_LIMIT.name: _limit,
    "process_resident_memory_bytes": _memory,
    "process_cpu_seconds_total": _cpu,
    catalogue.ROUTER_QUEUED.name: _queued,
    catalogue.ROUTER_CALLS.name: _router_calls,
    catalogue.HTTP_REQUESTS.name: _http_requests,
    f"{catalogue.HTTP_DURATION.name}_bucket": _http_bucket,
    catalogue.INGRESS_IN_FLIGHT.name: _in_flight,
}
