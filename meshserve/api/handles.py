"""Handles by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from meshserve.api.client import client, wait_for
from meshserve.api.mesh import connect
from meshserve.errors import MeshServeException
from meshserve.launch.ray_cluster import is_connected
from meshserve.model.overview import ApplicationOverview
from meshserve.routing.directory import process_directory
from meshserve.routing.handle import DeploymentHandle
from meshserve.routing.legacy_handle import open_handle
from meshserve.user.context import current_replica


def get_app_handle(name: str) -> DeploymentHandle[Any]:
    """A handle of an application's ingress deployment.

    Args:
        name: the application's.

    Raises:
        MeshServeException: there is no such application, or no mesh runs.
    """
    local = process_directory().local_applications.get(name)
    if local is not None:
        return _open(local.ingress, name, current_replica() is None)
    applications = _in_the_mesh()
    application = applications.get(name)
    if application is None:
        known = ", ".join(sorted({*applications, *process_directory().local_applications})) or "none"
        raise MeshServeException(f"Application {name!r} does not exist; there are: {known}.")
    return _open(application.ingress, name, current_replica() is None)


def get_deployment_handle(
    deployment_name: str,
    app_name: str | None = None,
    _check_exists: bool = True,
    _record_telemetry: bool = True,
) -> DeploymentHandle[Any]:
    """A handle of a deployment.

    Args:
        deployment_name: its name.
        app_name: its application; by default the one this code is part of.
        _check_exists: whether to ask the controller; a handle that is made unasked waits for its deployment.
        _record_telemetry: accepted for compatibility; nothing is recorded.

    Raises:
        MeshServeException: no application was given and this code is not part of one, or no mesh runs.
        KeyError: there is no such deployment.
    """
    if app_name is None:
        replica = current_replica()
        if replica is None:
            raise MeshServeException("get_deployment_handle() needs app_name: this is not a replica.")
        app_name = replica.app_name
    if _check_exists and deployment_name not in _deployments(app_name):
        raise KeyError(f"There is no deployment {deployment_name!r} in application {app_name!r}.")
    return _open(deployment_name, app_name, current_replica() is None)


def _deployments(app_name: str) -> set[str]:
    """The names of an application's deployments; none for one that does not exist."""
    local = process_directory().local_applications.get(app_name)
    if local is not None:
        return {one.id.name for one in local.deployments}
    application = _in_the_mesh().get(app_name)
    return {one.name for one in application.deployments} if application is not None else set()


def _in_the_mesh() -> Mapping[str, ApplicationOverview]:
    """The mesh's applications; in local testing mode none, rather than those of whatever cluster could be joined."""
    if process_directory().is_local and not is_connected():
        return {}
    connect()
    return wait_for(client().status()).applications


@lru_cache(maxsize=100)
def _open(deployment_name: str, app_name: str, sync: bool) -> DeploymentHandle[Any]:
    """The same handle for the same name: code that asks for one at every request makes none."""
    return open_handle(deployment_name, app_name, sync=sync)
