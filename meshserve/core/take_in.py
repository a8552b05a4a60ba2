"""A deployment meets a new desired state: what that means for its status and for attempts that failed before."""

from __future__ import annotations

from meshserve.core.deployment_actors import GIVEN_UP
from meshserve.core.seen import Attempts, SeenDeployment
from meshserve.core.status import StatusEvent, transition
from meshserve.core.weights import changes_only_count
from meshserve.model.control import CountSource, DesiredDeployment
from meshserve.model.replace import replace
from meshserve.model.status import DeploymentStatus


def take_in(deployment: SeenDeployment, want: DesiredDeployment | None, now: float) -> SeenDeployment:
    """The deployment with `want` as what is wanted of it; None for one that nobody knows."""
    before = deployment.want
    if want is before:
        return deployment
    if want is None:
        return replace(deployment, want=None, since=now)
    attempts = deployment.attempts
    if before is None or (before.deleting and not want.deleting):
        event = StatusEvent.DELETE if want.deleting else StatusEvent.CONFIG
        status = transition(deployment.status, event)
        attempts = Attempts(given_up=want.failure)
    elif want.deleting:
        status = deployment.status if before.deleting else transition(deployment.status, StatusEvent.DELETE)
    elif changes_only_count(before, want):
        status = _scaled(deployment.status, before.count, want)
    else:
        status = transition(deployment.status, StatusEvent.CONFIG)
        attempts = Attempts(succeeded=attempts.succeeded and before.version == want.version, given_up=want.failure)
    if want.failure and not want.deleting and attempts is not deployment.attempts:
        actors = want.failure.startswith(GIVEN_UP)
        event = StatusEvent.ACTORS_FAILED if actors else StatusEvent.ROLLOUT_FAILED
        status = transition(status, event, want.failure)
    return replace(deployment, want=want, since=now, status=status, attempts=attempts)


def _scaled(status: DeploymentStatus, before: int, want: DesiredDeployment) -> DeploymentStatus:
    if want.count == before:
        return status
    more = want.count > before
    if want.count_source is CountSource.PEOPLE:
        event = StatusEvent.MORE_BY_PEOPLE if more else StatusEvent.FEWER_BY_PEOPLE
    else:
        event = StatusEvent.MORE_BY_AUTOSCALER if more else StatusEvent.FEWER_BY_AUTOSCALER
    verb = "Upscaling" if more else "Downscaling"
    return transition(status, event, f"{verb} from {before} to {want.count} replicas.")
