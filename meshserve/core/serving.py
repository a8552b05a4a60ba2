"""The steps for replicas that serve or are about to: recognising them, checking them, and noticing that all is well."""

from __future__ import annotations

from meshserve.core.actions import Action, CheckReplica, DescribeReplica
from meshserve.core.deployment_actors import are_well
from meshserve.core.health import begun
from meshserve.core.ranks import renumber
from meshserve.core.rollout import is_outdated
from meshserve.core.scene import Scene
from meshserve.core.seen import SERVING, Phase, SeenDeployment
from meshserve.core.status import StatusEvent, transition
from meshserve.model.replace import replace


def describe(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Asks replicas found after a restart of the controller what they are."""
    if deployment.want is None:
        return deployment, ()
    asked = {
        tag: replace(replica, phase=Phase.DESCRIBING, since=scene.now)
        for tag, replica in deployment.replicas.items()
        if replica.phase is Phase.LISTED
    }
    return deployment.having(asked), tuple(DescribeReplica(replica.id) for replica in asked.values())


def check(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Begins the health checks that are due."""
    if deployment.want is None:
        return deployment, ()
    timeout_s = deployment.want.spec.options.health_check_timeout_s
    due = {
        tag: replace(replica, health=begun(replica.health))
        for tag, replica in deployment.replicas.items()
        if replica.phase in SERVING and not replica.health.checking and replica.health.check_at <= scene.now
    }
    return deployment.having(due), tuple(CheckReplica(one.id, one.address, timeout_s) for one in due.values())


def settle(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Notices that all is as wanted; then old failures are forgotten and gaps in the ranks closed."""
    if not is_well(deployment):
        return deployment, ()
    attempts = deployment.attempts
    if attempts.failures or attempts.rolling:
        deployment = replace(deployment, attempts=replace(attempts, failures=0, message="", rolling=False))
    status = transition(deployment.status, StatusEvent.HEALTHY)
    if status is not deployment.status:
        deployment = replace(deployment, status=status)
    return renumber(deployment)


def is_well(deployment: SeenDeployment) -> bool:
    """Whether exactly the wanted number of replicas is there, ready, up to date, with what they share, and no more."""
    want = deployment.want
    if want is None or want.deleting or deployment.attempts.given_up or len(deployment.replicas) != want.count:
        return False
    return are_well(deployment) and all(
        replica.phase is Phase.READY and not is_outdated(replica, want) for replica in deployment.replicas.values()
    )
