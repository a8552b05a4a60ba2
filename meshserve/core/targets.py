"""What routers and proxies are told."""

from __future__ import annotations

from meshserve.core.scene import Scene
from meshserve.core.seen import RECOVERING, SERVING, Introduction, SeenDeployment, SeenReplica
from meshserve.model.process_names import replica_name
from meshserve.model.targets import DeploymentTargets, ReplicaTarget

GIVEN_UP = "its replicas could not be started; the status of its application says why"

UNPUBLISHED = (0, 0)
"""The version of a snapshot that has not got one yet."""

_NOTHING_SAID = Introduction()


def targets_of(deployment: SeenDeployment, scene: Scene) -> DeploymentTargets | None:
    """The snapshot for routers; None to leave in force what they have.

    After a restart nothing is said of a deployment until all its replicas are known again, or too much time
    has passed: an incomplete snapshot would take good replicas out of service.
    """
    want = deployment.want
    if want is None or (want.deleting and not scene.held):
        return DeploymentTargets(deployment.id, UNPUBLISHED, exists=False)
    if scene.now < scene.publish_at and any(one.phase in RECOVERING for one in deployment.replicas.values()):
        return None
    serving = [one for one in deployment.replicas.values() if one.phase in SERVING]
    return DeploymentTargets(
        deployment.id,
        UNPUBLISHED,
        # Not what was raised: this text reaches outside clients.
        unavailable=GIVEN_UP if deployment.attempts.given_up and not serving else "",
        replicas=tuple(_target(replica, scene) for replica in serving),
        options=want.spec.options,
    )


def _target(replica: SeenReplica, scene: Scene) -> ReplicaTarget:
    process = replica.process
    node_id = process.node_id if process is not None else ""
    node = scene.nodes.get(node_id)
    return ReplicaTarget(
        tag=replica.id.tag,
        address=replica.address,
        node_id=node_id,
        node_ip=process.node_ip if process is not None else "",
        availability_zone=node.availability_zone if node is not None else "",
        max_ongoing_requests=replica.build.options.max_ongoing_requests,
        actor_name=replica_name(replica.id),
        metadata_json=replica.introduction.metadata_json,
        routing_stats_json=replica.stats.routing_json,
        multiplexed_model_ids=replica.report.multiplexed_model_ids,
    )


def same_targets(one: DeploymentTargets, other: DeploymentTargets) -> bool:
    """Whether two snapshots of a deployment say the same, whatever their versions."""
    return (
        one.replicas == other.replicas
        and (one.exists, one.unavailable) == (other.exists, other.unavailable)
        and (one.options is other.options or one.options == other.options)
    )


def introduced(deployment: SeenDeployment) -> Introduction:
    """What the newest serving replica said of itself; empty when none serves."""
    serving = [one for one in deployment.replicas.values() if one.phase in SERVING]
    return serving[-1].introduction if serving else _NOTHING_SAID
