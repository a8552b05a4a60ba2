"""The state of the mesh as a program reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from meshserve.api.client import client, wait_for
from meshserve.api.mesh import connect
from meshserve.errors import ControllerUnreachableError
from meshserve.model.overview import ApplicationOverview, DeploymentOverview, MeshOverview
from meshserve.model.status import ApplicationState, DeploymentState, ProxyState, ReplicaState, Trigger


@dataclass(frozen=True, slots=True)
class DeploymentStatusOverview:
    """One deployment.

    Attributes:
        status: what it is doing.
        status_trigger: what led to that.
        replica_states: how many replicas are in each state.
        message: what is being waited for, or what failed.
    """

    status: DeploymentState
    status_trigger: Trigger
    replica_states: Mapping[ReplicaState, int] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True, slots=True)
class ApplicationStatusOverview:
    """One application.

    Attributes:
        status: what it is doing.
        message: what is being waited for, or what failed.
        last_deployed_time_s: when it was last set, in seconds since the epoch.
        deployments: by name.
    """

    status: ApplicationState
    message: str = ""
    last_deployed_time_s: float = 0.0
    deployments: Mapping[str, DeploymentStatusOverview] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServeStatus:
    """The mesh.

    Attributes:
        proxies: what each proxy is doing, by node id.
        applications: by name.
        target_capacity: in percent; None when none is set.
        proxy_messages: what there is to say of a proxy, by node id: what failed, or what it does not serve.
    """

    proxies: Mapping[str, ProxyState] = field(default_factory=dict)
    applications: Mapping[str, ApplicationStatusOverview] = field(default_factory=dict)
    target_capacity: float | None = None
    proxy_messages: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for YAML and JSON; without messages of proxies when there are none, as Ray Serve
        has it."""
        plain: dict[str, Any] = _plain(asdict(self))
        if not self.proxy_messages:
            del plain["proxy_messages"]
        return plain


def status() -> ServeStatus:
    """What runs now; empty when no mesh runs."""
    try:
        connect()
        return status_of(wait_for(client().status()))
    except ControllerUnreachableError:
        return ServeStatus()


def status_of(mesh: MeshOverview) -> ServeStatus:
    """The mesh's state in the words of this module."""
    return ServeStatus(
        proxies={node_id: ProxyState(proxy.status) for node_id, proxy in mesh.proxies.items()},
        applications={name: _application(one) for name, one in mesh.applications.items()},
        target_capacity=mesh.target_capacity,
        proxy_messages={node_id: proxy.message for node_id, proxy in mesh.proxies.items() if proxy.message},
    )


def _application(application: ApplicationOverview) -> ApplicationStatusOverview:
    return ApplicationStatusOverview(
        status=ApplicationState(application.status),
        message=application.message,
        last_deployed_time_s=application.last_deployed_time_s,
        deployments={one.name: _deployment(one) for one in application.deployments},
    )


def _deployment(deployment: DeploymentOverview) -> DeploymentStatusOverview:
    return DeploymentStatusOverview(
        status=DeploymentState(deployment.status),
        status_trigger=Trigger(deployment.status_trigger),
        replica_states={ReplicaState(state): count for state, count in deployment.replica_states.items()},
        message=deployment.message,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return str(value) if isinstance(value, str) else value
