"""The law that what was heard is known: what must be true of a replica in the picture right after an event about it."""

from __future__ import annotations

from collections.abc import Callable

from meshserve.core import events as ev
from meshserve.core.seen import STARTING, STOPPING, Phase, SeenReplica
from sim.world import World

_KNOWN: dict[type, tuple[str, Callable[[SeenReplica], bool]]] = {
    ev.ReplicaLaunched: ("was launched", lambda one: one.phase is not Phase.LAUNCHING),
    ev.ReplicaReady: ("is ready", lambda one: one.phase is not Phase.INITIALIZING),
    ev.ReplicaFailed: ("failed to start", lambda one: one.phase not in STARTING),
    ev.ReplicaReconfigured: ("was reconfigured", lambda one: one.phase is not Phase.RECONFIGURING and not one.ranking),
    ev.ReplicaReconfigureFailed: ("refused what it was sent", lambda one: one.phase in STOPPING or bool(one.retire)),
    ev.ReplicaHealthy: ("is healthy", lambda one: not one.health.checking and not one.health.strikes),
    ev.ReplicaUnhealthy: ("is unhealthy", lambda one: not one.health.checking and one.health.strikes > 0),
    ev.ReplicaDescribed: ("was described", lambda one: one.phase is not Phase.DESCRIBING),
    ev.ReplicaLost: ("was lost", lambda one: one.phase is not Phase.DESCRIBING),
    ev.ReplicaDrained: ("has drained", lambda one: one.phase is not Phase.DRAINING),
    ev.ReplicaDied: ("died", lambda one: one.phase in (Phase.BROKEN, Phase.KILLING)),
}


def heard_is_known(world: World) -> None:
    """Unless something else was heard of the same replica after it."""
    last = {event.replica: event for event in world.news if type(event) in _KNOWN}
    for replica, event in last.items():
        deployment = world.heard.deployments.get(replica.deployment)
        seen = deployment.replicas.get(replica.tag) if deployment is not None else None
        said, is_known = _KNOWN[type(event)]
        assert seen is None or is_known(seen), f"it was heard that {replica} {said}, and it is taken for {seen}"
