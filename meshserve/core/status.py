"""The state machine of a deployment's status: a table, and the one case that needs to look at the trigger.

States say what is going on, triggers say why. What is not in the table changes nothing: a startup failure while
HEALTHY, for example, is the business of whoever scales up, and shows once the count is not reached.
"""

from __future__ import annotations

from enum import Enum, auto

from meshserve.model.status import DeploymentState, DeploymentStatus, Trigger


class StatusEvent(Enum):
    """What can happen to a deployment as far as its status is concerned."""

    CONFIG = auto()
    MORE_BY_PEOPLE = auto()
    FEWER_BY_PEOPLE = auto()
    MORE_BY_AUTOSCALER = auto()
    FEWER_BY_AUTOSCALER = auto()
    HEALTHY = auto()
    HEALTH_FAILED = auto()
    STARTUP_FAILED = auto()
    ROLLOUT_FAILED = auto()
    ACTORS_FAILED = auto()
    INTERNAL_ERROR = auto()
    DELETE = auto()


_S, _T, _E = DeploymentState, Trigger, StatusEvent

_FROM_ANY: dict[StatusEvent, tuple[DeploymentState, Trigger]] = {
    _E.CONFIG: (_S.UPDATING, _T.CONFIG_UPDATE_STARTED),
    _E.ROLLOUT_FAILED: (_S.DEPLOY_FAILED, _T.REPLICA_STARTUP_FAILED),
    _E.ACTORS_FAILED: (_S.DEPLOY_FAILED, _T.DEPLOYMENT_ACTOR_FAILED),
    _E.INTERNAL_ERROR: (_S.UNHEALTHY, _T.INTERNAL_ERROR),
    _E.DELETE: (_S.UPDATING, _T.DELETING),
}

_TABLE: dict[tuple[DeploymentState, StatusEvent], tuple[DeploymentState, Trigger]] = {
    (_S.UPDATING, _E.HEALTHY): (_S.HEALTHY, _T.CONFIG_UPDATE_COMPLETED),
    (_S.UPDATING, _E.MORE_BY_AUTOSCALER): (_S.UPSCALING, _T.AUTOSCALING),
    (_S.UPDATING, _E.FEWER_BY_AUTOSCALER): (_S.DOWNSCALING, _T.AUTOSCALING),
    (_S.UPDATING, _E.HEALTH_FAILED): (_S.DEPLOY_FAILED, _T.HEALTH_CHECK_FAILED),
    (_S.UPDATING, _E.STARTUP_FAILED): (_S.DEPLOY_FAILED, _T.REPLICA_STARTUP_FAILED),
    (_S.HEALTHY, _E.MORE_BY_PEOPLE): (_S.UPSCALING, _T.CONFIG_UPDATE_STARTED),
    (_S.HEALTHY, _E.FEWER_BY_PEOPLE): (_S.DOWNSCALING, _T.CONFIG_UPDATE_STARTED),
    (_S.HEALTHY, _E.MORE_BY_AUTOSCALER): (_S.UPSCALING, _T.AUTOSCALING),
    (_S.HEALTHY, _E.FEWER_BY_AUTOSCALER): (_S.DOWNSCALING, _T.AUTOSCALING),
    (_S.HEALTHY, _E.HEALTH_FAILED): (_S.UNHEALTHY, _T.HEALTH_CHECK_FAILED),
    (_S.UPSCALING, _E.HEALTHY): (_S.HEALTHY, _T.UPSCALE_COMPLETED),
    (_S.DOWNSCALING, _E.HEALTHY): (_S.HEALTHY, _T.DOWNSCALE_COMPLETED),
    **{
        (state, event): (_S.UNHEALTHY, trigger)
        for state in (_S.UPSCALING, _S.DOWNSCALING, _S.UNHEALTHY)
        for event, trigger in (
            (_E.HEALTH_FAILED, _T.HEALTH_CHECK_FAILED),
            (_E.STARTUP_FAILED, _T.REPLICA_STARTUP_FAILED),
        )
    },
    (_S.UNHEALTHY, _E.HEALTHY): (_S.HEALTHY, _T.UNSPECIFIED),
    (_S.DEPLOY_FAILED, _E.HEALTHY): (_S.HEALTHY, _T.UNSPECIFIED),
    (_S.DEPLOY_FAILED, _E.HEALTH_FAILED): (_S.DEPLOY_FAILED, _T.HEALTH_CHECK_FAILED),
    (_S.DEPLOY_FAILED, _E.STARTUP_FAILED): (_S.DEPLOY_FAILED, _T.REPLICA_STARTUP_FAILED),
}

_DIRECTION = {
    _E.MORE_BY_PEOPLE: _S.UPSCALING,
    _E.MORE_BY_AUTOSCALER: _S.UPSCALING,
    _E.FEWER_BY_PEOPLE: _S.DOWNSCALING,
    _E.FEWER_BY_AUTOSCALER: _S.DOWNSCALING,
}

_BY_PEOPLE = (_E.MORE_BY_PEOPLE, _E.FEWER_BY_PEOPLE)


def transition(status: DeploymentStatus, event: StatusEvent, message: str = "") -> DeploymentStatus:
    """The status after an event; the same object when the event changes nothing."""
    if status.trigger is Trigger.DELETING and event not in (StatusEvent.CONFIG, StatusEvent.INTERNAL_ERROR):
        return status
    found = _FROM_ANY.get(event) or _TABLE.get((status.state, event))
    if found is None and status.state in (DeploymentState.UPSCALING, DeploymentState.DOWNSCALING):
        found = _turn(status, event)
    if found is None:
        return status
    return DeploymentStatus(*found, message)


def _turn(status: DeploymentStatus, event: StatusEvent) -> tuple[DeploymentState, Trigger] | None:
    """Scaling changes its mind: people overrule the autoscaler, never the other way round."""
    direction = _DIRECTION.get(event)
    if direction is None:
        return None
    if event in _BY_PEOPLE:
        return direction, Trigger.CONFIG_UPDATE_STARTED
    return (direction, Trigger.AUTOSCALING) if status.trigger is Trigger.AUTOSCALING else None
