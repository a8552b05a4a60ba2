"""When to ask which replica for what its code measures of itself: one decision at one instant, as a pure function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias
from zlib import crc32

from meshserve.core.seen import SERVING, Seen, SeenReplica
from meshserve.core.windows import report_interval_s
from meshserve.model.ids import ReplicaId
from meshserve.model.options import DeploymentOptions

AUTOSCALING_TIMEOUT_S = 10.0
"""How long `record_autoscaling_stats` may take; what comes later is no measure of now."""

_JITTER = 0.1


class Subject(Enum):
    """What is measured for whom."""

    ROUTING = "routing"
    AUTOSCALING = "autoscaling"


@dataclass(frozen=True, slots=True)
class Question:
    """Asks one replica for one thing."""

    replica: ReplicaId
    address: str
    subject: Subject
    timeout_s: float


Due: TypeAlias = Mapping[tuple[ReplicaId, Subject], float]
"""When to ask next; what is not there is to be asked now."""


def plan_questions(seen: Seen, due: Due, now: float) -> tuple[tuple[Question, ...], Due]:
    """What to ask now, and when to ask again: of replicas that serve and have something to tell.

    Periods differ by 10 % from one question to the next, so that replicas which started together are not asked so.
    """
    questions: list[Question] = []
    next_due: dict[tuple[ReplicaId, Subject], float] = {}
    for deployment in seen.deployments.values():
        if deployment.want is None:
            continue
        options = deployment.want.spec.options
        for replica in deployment.replicas.values():
            for subject, period_s, timeout_s in _subjects(replica, options):
                key = replica.id, subject
                at = due.get(key, now)
                if at <= now:
                    questions.append(Question(replica.id, replica.address, subject, timeout_s))
                    at = now + period_s * (1 + _JITTER * _spread(replica.id.tag, now))
                next_due[key] = at
    return tuple(questions), next_due


def _subjects(replica: SeenReplica, options: DeploymentOptions) -> Iterator[tuple[Subject, float, float]]:
    """What a replica has to tell, how often, and how long that may take."""
    if replica.phase not in SERVING:
        return
    if replica.introduction.records_routing_stats:
        router = options.request_router_config
        yield Subject.ROUTING, router.request_routing_stats_period_s, router.request_routing_stats_timeout_s
    if replica.introduction.records_autoscaling_stats and options.autoscaling_config is not None:
        yield Subject.AUTOSCALING, report_interval_s(options.autoscaling_config), AUTOSCALING_TIMEOUT_S


def _spread(tag: str, now: float) -> float:
    return crc32(f"{tag}/{now}".encode()) / 0xFFFFFFFF * 2 - 1
