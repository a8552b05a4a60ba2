"""Replicas on a node that goes away: their successors come first, then they end."""

from __future__ import annotations

from meshserve.core.actions import Action
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
    changed: dict[str, SeenReplica] = {}
    for tag, replica in deployment.replicas.items():
        if replica.phase is Phase.READY and leaves_at(replica, scene):
            changed[tag] = replace(replica, phase=Phase.MIGRATING)
        elif replica.phase is Phase.MIGRATING and not leaves_at(replica, scene):
            changed[tag] = replace(replica, phase=Phase.READY)
    deployment = deployment.having(changed)
    migrating = [one for one in deployment.replicas.values() if one.phase is Phase.MIGRATING and not one.retire]
    if not migrating:
        return deployment, ()
    ready = sum(one.phase is Phase.READY and not one.retire for one in deployment.replicas.values())
    succeeded = migrating[: max(ready + len(migrating) - want.count, 0)]
    hurried = [one for one in migrating[len(succeeded) :] if retire_at(deployment, one, scene) <= scene.now]
    leaving = (*succeeded, *hurried)
    deployment = deployment.having({one.id.tag: replace(one, retire="its node goes away") for one in leaving})
    if hurried:
        message = f"{len(hurried)} replicas end before their successors are ready, since their node goes away."
        deployment = replace(deployment, status=transition(deployment.status, StatusEvent.HEALTH_FAILED, message))
    return deployment, ()


def leaves_at(replica: SeenReplica, scene: Scene) -> float:
    """When the replica's node goes away; 0 when it stays or is not known."""
    node = scene.nodes.get(replica.process.node_id) if replica.process is not None else None
    return node.leaves_at if node is not None else 0.0


def retire_at(deployment: SeenDeployment, replica: SeenReplica, scene: Scene) -> float:
    """The last moment at which a migrating replica can still end its calls before its node is gone."""
    options = deployment.want.spec.options if deployment.want is not None else replica.build.options
    return leaves_at(replica, scene) - options.graceful_shutdown_timeout_s - DESTRUCTION_S
