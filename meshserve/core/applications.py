"""The status of an application, from those of its deployments."""

from __future__ import annotations

from collections.abc import Mapping

from meshserve.core.deployment import Part
from meshserve.model.control import DesiredApplication
from meshserve.model.ids import DeploymentId
from meshserve.model.status import ApplicationState, ApplicationStatus, DeploymentState, Trigger

_A, _D = ApplicationState, DeploymentState

_WORST_FIRST = (_A.DEPLOY_FAILED, _A.UNHEALTHY, _A.DEPLOYING)


def application_status(
    application: DesiredApplication,
    parts: Mapping[DeploymentId, Part],
    before: ApplicationStatus | None,
    routes_pending: bool,
) -> ApplicationStatus:
    """The worst of its deployments decides.

    Args:
        before: what was reported last; None for a new application.
        routes_pending: a proxy that serves has not got the newest routes yet. An application that was not
            running, or was set anew, is not called so before they have: its first request would meet a 404.
    """
    if application.deleting:
        return ApplicationStatus(_A.DELETING, _waits(application, parts), application.generation)
    if application.building:
        return ApplicationStatus(_A.DEPLOYING, "It is being built.", application.generation)
    if application.build is not None and application.build.failure:
        return ApplicationStatus(_A.DEPLOY_FAILED, application.build.failure, application.generation)
    states = {
        spec.id.name: _of_deployment(parts[spec.id]) if spec.id in parts else _A.DEPLOYING
        for spec in application.spec.deployments
    }
    state = next((state for state in _WORST_FIRST if state in states.values()), _A.RUNNING)
    news = before is None or before.state is not _A.RUNNING or before.generation != application.generation
    if state is _A.RUNNING and routes_pending and news:
        return ApplicationStatus(_A.DEPLOYING, "The proxies are being told the routes.", application.generation)
    names = [name for name, of_deployment in states.items() if of_deployment is state]
    return ApplicationStatus(state, _message(application, parts, state, names), application.generation)


def _of_deployment(part: Part) -> ApplicationState:
    status = part.status
    match status.state:
        case _D.DEPLOY_FAILED:
            return _A.DEPLOY_FAILED
        case _D.UNHEALTHY:
            return _A.UNHEALTHY
        case _D.HEALTHY:
            return _A.RUNNING
        case _D.UPSCALING | _D.DOWNSCALING if status.trigger is Trigger.AUTOSCALING:
            return _A.RUNNING
    return _A.DEPLOYING


def _message(
    application: DesiredApplication,
    parts: Mapping[DeploymentId, Part],
    state: ApplicationState,
    names: list[str],
) -> str:
    """Says which deployments (`names`) made the application's state what it is, and what they say."""
    match state:
        case _A.DEPLOY_FAILED:
            return f"Failed to update the deployments {names}. {_details(application, parts, names)}"
        case _A.UNHEALTHY:
            return f"The deployments {names} are UNHEALTHY. {_details(application, parts, names)}"
        case _A.DEPLOYING:
            return _waits(application, parts)
    return ""


def _details(application: DesiredApplication, parts: Mapping[DeploymentId, Part], names: list[str]) -> str:
    return " ".join(
        f"{name}: {parts[DeploymentId(application.spec.name, name)].status.message or 'no details are known.'}"
        for name in names
    )


def _waits(application: DesiredApplication, parts: Mapping[DeploymentId, Part]) -> str:
    waiting = {spec.id.name: parts[spec.id].status for spec in application.spec.deployments if spec.id in parts}
    return " ".join(
        f"{name}: {status.message}"
        for name, status in waiting.items()
        if status.state is not _D.HEALTHY and status.message
    )
