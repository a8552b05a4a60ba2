"""The plan of one deployment: a list of steps, each deciding one thing.

The steps run in order over an immutable picture; each sees what those before it have begun. After the last one the
deployment is at rest: planning it again at the same instant asks for nothing. `wake_at` says when time alone could
change that.
"""

from __future__ import annotations

from meshserve.core.actions import Action
from meshserve.core.deployment_actors import actors_wake_at, end_actors, keep_actors
from meshserve.core.gangs import assemble, release, share_fate
from meshserve.core.migration import leaving, migrate, retire_at
from meshserve.core.ranks import initialize
from meshserve.core.rollout import judge, retry_at, roll, scale_down, scale_up
from meshserve.core.scene import Scene, Step
from meshserve.core.seen import RECOVERING, SERVING, STOPPING, Introduction, Phase, SeenDeployment
from meshserve.core.serving import check, describe, settle
from meshserve.core.status import StatusEvent, transition
from meshserve.core.stopping import kill_at, reap, retire
from meshserve.core.take_in import take_in
from meshserve.core.targets import introduced, same_targets, targets_of
from meshserve.core.waiting import text_changes_at, waiting_text
from meshserve.model.control import DesiredDeployment
from meshserve.model.replace import record, replace
from meshserve.model.status import DeploymentState, DeploymentStatus
from meshserve.model.targets import DeploymentTargets

_ANY = frozenset(Phase)

STEPS: tuple[tuple[Step, frozenset[Phase] | None], ...] = (
    (describe, frozenset({Phase.LISTED})),  # first: nothing can be decided about what is not known
    (assemble, _ANY),  # before all that looks at ready replicas
    (migrate, SERVING),  # before retiring, which it may call for
    (share_fate, _ANY),  # before retiring too; what ends below ends for whole gangs by itself
    (retire, _ANY),
    (keep_actors, None),  # what replicas share comes before them
    (judge, None),  # may give the version up, which the next three respect
    (scale_down, _ANY),  # before the rollout: it may do away with what would be updated
    (roll, SERVING),
    (scale_up, None),  # fills what the steps before left open
    (initialize, frozenset({Phase.LAUNCHED})),
    (check, SERVING),
    (settle, None),  # last of those that look at ready replicas: sees them as they now are
    (reap, STOPPING),
    (end_actors, None),  # after all that may need them
    (release, None),  # after all that ends replicas
)
"""Each with the phases of the replicas it is about: it is left out where there are none. None for one that may have to
do something although there is no replica at all."""

TRY_AGAIN_S = 5.0
"""After a fault of this program itself."""

_FOREVER = float("inf")


@record
class Part:
    """The plan of one deployment.

    Attributes:
        seen: the deployment once the actions are under way.
        targets: the snapshot to publish; None when routers have it already or are not to be told yet.
        status: with a message that says what is waited for.
        introduction: what its replicas said of themselves.
        nodes: where its replicas are.
        waits: a replica waits for its process.
        wake_at: when to plan again although nothing was heard.
    """

    seen: SeenDeployment
    actions: tuple[Action, ...]
    targets: DeploymentTargets | None
    status: DeploymentStatus
    introduction: Introduction
    nodes: frozenset[str]
    waits: bool
    wake_at: float

    @property
    def over(self) -> bool:
        """Whether nothing is left of a deployment that was to go away."""
        want = self.seen.want
        return self.seen.is_empty and (want is None or want.deleting)

    @property
    def calls(self) -> bool:
        """Whether its replicas may still call other deployments."""
        return any(replica.phase not in (Phase.BROKEN, Phase.KILLING) for replica in self.seen.replicas.values())


def plan_deployment(deployment: SeenDeployment, want: DesiredDeployment | None, scene: Scene) -> Part:
    """Decides what to do about one deployment."""
    deployment = take_in(deployment, want, scene.now)
    actions: tuple[Action, ...] = ()
    phases = _phases(deployment)
    for step, subjects in STEPS:
        if subjects is None or not phases.isdisjoint(subjects):
            before = deployment
            deployment, issued = step(deployment, scene)
            actions += issued
            phases = phases if deployment is before else _phases(deployment)
    targets = targets_of(deployment, scene)
    if targets is not None and deployment.published is not None and same_targets(targets, deployment.published):
        targets = None
    return _part(deployment, actions, targets, _shown(deployment, scene), _wake_at(deployment, scene))


def _phases(deployment: SeenDeployment) -> set[Phase]:
    return {replica.phase for replica in deployment.replicas.values()}


def leave(deployment: SeenDeployment, error: Exception, now: float) -> Part:
    """The plan of a deployment about which nothing could be decided: it stays as it is, and says why."""
    status = transition(deployment.status, StatusEvent.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
    return _part(replace(deployment, status=status), (), None, status, now + TRY_AGAIN_S)


def _part(
    deployment: SeenDeployment,
    actions: tuple[Action, ...],
    targets: DeploymentTargets | None,
    status: DeploymentStatus,
    wake_at: float,
) -> Part:
    nodes: set[str] = set()
    waits = False
    for replica in deployment.replicas.values():
        waits = waits or replica.phase is Phase.LAUNCHING
        if replica.process is not None:
            nodes.add(replica.process.node_id)
    return Part(deployment, actions, targets, status, introduced(deployment), frozenset(nodes), waits, wake_at)


def _shown(deployment: SeenDeployment, scene: Scene) -> DeploymentStatus:
    """The status with what is being waited for added to its message."""
    status = deployment.status
    if status.state is DeploymentState.HEALTHY:
        return status
    text = waiting_text(deployment, scene.resources, scene.now, scene.slow_s)
    return replace(status, message=f"{status.message} {text}".strip()) if text else status


def _wake_at(deployment: SeenDeployment, scene: Scene) -> float:
    want, now = deployment.want, scene.now
    times = [_FOREVER, text_changes_at(deployment, now, scene.slow_s), actors_wake_at(deployment, now)]
    leaves_at = leaving(deployment, scene)
    for replica in deployment.replicas.values():
        if replica.phase in STOPPING:
            times.append(kill_at(deployment, replica))
        elif replica.phase in SERVING:
            if not replica.health.checking:
                times.append(replica.health.check_at)
            if replica.phase is Phase.MIGRATING and replica.id.tag in leaves_at:
                times.append(retire_at(deployment, replica, leaves_at[replica.id.tag]))
        elif replica.phase in RECOVERING:
            times.append(scene.publish_at)
    if want is not None and not want.deleting and not deployment.attempts.given_up:
        times.append(retry_at(deployment))
    return min([time for time in times if time > now])
