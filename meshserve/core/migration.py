"""Replicas on a node that goes away, and the rest of their gangs: their successors come first, then they end."""

from __future__ import annotations

from collections.abc import Mapping

from meshserve.core.actions import Action
from meshserve.core.gangs import fitting, units
from meshserve.core.scene import Scene
from meshserve.core.seen import Phase, SeenDeployment, SeenReplica
from meshserve.core.status import StatusEvent, transition
from meshserve.core.stopping import DESTRUCTION_S
from meshserve.model.replace import replace


def migrate(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Marks replicas on leaving nodes, and retires each once enough others are ready or its time is short."""
    want = deployment.want
    if want is None or want.deleting:
        return deployment, ()
    leaves_at = leaving(deployment, scene)
    if not leaves_at and not any(one.phase is Phase.MIGRATING for one in deployment.replicas.values()):
        return deployment, ()
    changed: dict[str, SeenReplica] = {}
    for tag, replica in deployment.replicas.items():
        if replica.phase is Phase.READY and tag in leaves_at:
            changed[tag] = replace(replica, phase=Phase.MIGRATING)
        elif replica.phase is Phase.MIGRATING and tag not in leaves_at:
            changed[tag] = replace(replica, phase=Phase.READY)
    deployment = deployment.having(changed)
    migrating = [one for one in deployment.replicas.values() if one.phase is Phase.MIGRATING and not one.retire]
    if not migrating:
        return deployment, ()
    ready = sum(one.phase is Phase.READY and not one.retire for one in deployment.replicas.values())
    ending = {one.id.tag: one for one in fitting(migrating, ready + len(migrating) - want.count)}
    rest = (one for one in migrating if one.id.tag not in ending)
    hurried = {one.id.tag: one for one in rest if retire_at(deployment, one, leaves_at[one.id.tag]) <= scene.now}
    ending |= hurried
    deployment = deployment.having({tag: replace(one, retire="its node goes away") for tag, one in ending.items()})
    if hurried:
        message = f"{len(hurried)} replicas end before their successors are ready, since their node goes away."
        deployment = replace(deployment, status=transition(deployment.status, StatusEvent.HEALTH_FAILED, message))
    return deployment, ()


def leaving(deployment: SeenDeployment, scene: Scene) -> Mapping[str, float]:
    """When a replica, or another one of its gang, loses its node: by tag, for those on nodes that go away."""
    nodes = scene.leaves_at
    if not nodes:
        return nodes
    found: dict[str, float] = {}
    for unit in units(deployment.replicas.values()):
        times = [nodes[one.process.node_id] for one in unit if one.process is not None and one.process.node_id in nodes]
        if times:
            found |= {one.id.tag: min(times) for one in unit}
    return found


def retire_at(deployment: SeenDeployment, replica: SeenReplica, leaves_at: float) -> float:
    """The last moment at which a migrating replica can still end its calls before its node is gone."""
    options = deployment.want.spec.options if deployment.want is not None else replica.build.options
    return leaves_at - options.graceful_shutdown_timeout_s - DESTRUCTION_S
