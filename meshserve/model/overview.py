"""The state of the whole mesh at one instant, as it is shown to people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DeploymentOverview:
    """One deployment.

    Attributes:
        status: see `model.status.DeploymentState`.
        status_trigger: what led to it, see `model.status.Trigger`.
        message: what is being waited for, or what failed.
        replica_states: how many replicas are in each state, by `model.status.ReplicaState`.
        target_num_replicas: how many are wanted.
        published: the version of what routers were last told of it.
    """

    name: str
    status: str
    status_trigger: str
    message: str = ""
    replica_states: Mapping[str, int] = field(default_factory=dict)
    target_num_replicas: int = 0
    published: tuple[int, int] = field(default=(0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class ApplicationOverview:
    """One application.

    Attributes:
        status: see `model.status.ApplicationState`.
        message: what is being waited for, or what failed.
        route_prefix: None when it is not reachable by HTTP.
        ingress: the deployment that answers at the ingress.
        last_deployed_time_s: when it was last set, in seconds since the epoch.
        generation: of the desired state that this speaks of.
    """

    name: str
    status: str
    message: str = ""
    route_prefix: str | None = None
    ingress: str = ""
    last_deployed_time_s: float = 0.0
    generation: int = 0
    deployments: tuple[DeploymentOverview, ...] = ()


@dataclass(frozen=True, slots=True)
class ProxyOverview:
    """One proxy.

    Attributes:
        status: see `model.status.ProxyState`.
        http_address: `host:port`; empty when HTTP is not served.
        grpc_address: the same for gRPC.
        message: what is being waited for, or what failed.
    """

    node_id: str
    status: str
    http_address: str = ""
    grpc_address: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where a process logs.

    Attributes:
        path: of the file, on the node.
        node_ip: of that; empty for the controller's.
        application: of a replica; empty for the others, and so on.
        replica: its tag.
    """

    path: str
    node_ip: str = ""
    application: str = ""
    deployment: str = ""
    replica: str = ""


@dataclass(frozen=True, slots=True)
class MeshOverview:
    """The mesh.

    Attributes:
        applications: by name.
        proxies: by node id.
        target_capacity: in percent; None when none is set.
        generation: the latest desired state recorded.
        logs: of all processes that keep one.
    """

    applications: Mapping[str, ApplicationOverview] = field(default_factory=dict)
    proxies: Mapping[str, ProxyOverview] = field(default_factory=dict)
    target_capacity: float | None = None
    generation: int = 0
    logs: tuple[LogPlace, ...] = ()
