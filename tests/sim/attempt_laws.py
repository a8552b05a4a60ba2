"""The laws about starts that fail, versions that are given up, and replicas that come and go."""

from __future__ import annotations

from meshserve.core import actions as ac
from meshserve.core.deployment_actors import GIVEN_UP
from meshserve.core.plan import Plan
from meshserve.core.seen import STARTING, Phase, SeenDeployment
from meshserve.model.options import DeploymentOptions
from meshserve.model.status import DeploymentState
from sim.world import World

FIRST_BACKOFF_S = 0.25


def check_attempts(deployment: SeenDeployment, before: SeenDeployment | None, well: bool) -> None:
    """What holds at every instant in the picture of one deployment.

    Args:
        before: the picture after the previous plan; None when there was none.
    """
    _starts_are_wanted(deployment)
    _hopeless_is_given_up(deployment)
    attempts = deployment.attempts
    assert not well or not (attempts.failures or attempts.rolling), f"{deployment.id} is well and remembers {attempts}"
    if before is not None:
        _killed_before_forgotten(deployment, before)
        _given_up_for_a_reason(deployment, before)
        _scaled_the_right_way(deployment, before)


def _starts_are_wanted(deployment: SeenDeployment) -> None:
    """What starts is of the version that is wanted."""
    want = deployment.want
    for one in deployment.replicas.values() if want is not None and not want.deleting else ():
        outdated = one.phase in STARTING and one.build.version != want.version
        assert not outdated, f"{one.id} starts with {one.build.version}, wanted is {want.version}"


def _hopeless_is_given_up(deployment: SeenDeployment) -> None:
    """An update whose replicas fail to start, or a version that never started, is given up after so many failures."""
    want, attempts = deployment.want, deployment.attempts
    if want is None or want.deleting or (attempts.succeeded and not attempts.rolling):
        return
    allowed = _allowed(want.spec.options, want.count)
    assert attempts.given_up or attempts.failures < allowed, f"{deployment.id} failed {attempts.failures} times"


def _allowed(options: DeploymentOptions, count: int) -> int:
    return max(min(options.max_constructor_retry_count, 3 * count), 1)


def _killed_before_forgotten(deployment: SeenDeployment, before: SeenDeployment) -> None:
    """Even a process that is known to be dead is killed: the launcher may hold more for it than the process."""
    for tag, replica in before.replicas.items():
        assert tag in deployment.replicas or replica.phase is Phase.KILLING, f"{replica} was forgotten and not killed"


def _given_up_for_a_reason(deployment: SeenDeployment, before: SeenDeployment) -> None:
    """A version that could start is given up only in an update, and an update that was given up stays so."""
    if deployment.want is not before.want:
        return
    was, now = before.attempts, deployment.attempts
    if was.given_up and was.rolling:
        assert now.given_up, f"the update of {deployment.id} was given up and goes on"
    if now.given_up and not was.given_up and not now.given_up.startswith(GIVEN_UP):
        assert now.rolling or not now.succeeded, f"{deployment.id} could start and is given up: {now}"
        want = deployment.want
        allowed = _allowed(want.spec.options, want.count) if want is not None else 1
        assert now.failures >= allowed, f"{deployment.id} is given up too early: {now}"


def _scaled_the_right_way(deployment: SeenDeployment, before: SeenDeployment) -> None:
    """A status that begins to speak of more replicas, or of fewer, follows the wanted number."""
    was, want = before.want, deployment.want
    if was is None or want is None or was is want or before.status.state is deployment.status.state:
        return
    wrong = DeploymentState.DOWNSCALING if want.count > was.count else DeploymentState.UPSCALING
    assert deployment.status.state is not wrong, f"{was.count} became {want.count}: {deployment.status}"


def started_after_a_while(world: World, now: Plan, action: ac.StartReplica) -> None:
    """After a start that failed the next one waits, and what an earlier controller has given up is not tried again."""
    attempts = now.seen.deployments[action.replica.deployment].attempts
    waited = not attempts.failures or world.now >= attempts.failed_at + FIRST_BACKOFF_S
    assert waited, f"{action.replica} is started right after a failure"
    assert attempts.succeeded or not action.want.failure, f"{action.replica} is started, which failed before"


def forgotten_when_gone(world: World, now: Plan, action: ac.Forget) -> None:
    """What goes away is forgotten when none of its processes is left."""
    application = world.desired.applications[action.app]
    leaving = (*application.dropped, *(application.spec.deployments if application.deleting else ()))
    left = [replica.id for spec in leaving for replica in world.alive(spec.id)]
    assert not left, f"{action.app} is forgotten and has {left}"
