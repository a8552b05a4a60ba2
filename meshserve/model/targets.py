"""Snapshots that routers and proxies act on. They are replaced, never edited."""

from __future__ import annotations

from meshserve.model.ids import DeploymentId
from meshserve.model.options import DEFAULTS, DeploymentOptions
from meshserve.model.replace import record


@record
class ReplicaTarget:
    """A replica that takes new calls."""

    tag: str
    address: str
    node_id: str = ""
    node_ip: str = ""
    availability_zone: str = ""
    max_ongoing_requests: int = 5
    actor_name: str = ""
    metadata_json: str = ""
    routing_stats_json: str = ""
    multiplexed_model_ids: tuple[str, ...] = ()


@record
class DeploymentTargets:
    """Everything a router needs to know of a deployment.

    Attributes:
        version: (epoch, number); a higher one is newer.
        exists: False when no such deployment is desired.
        unavailable: why calls fail at once, or empty when they may wait.
    """

    deployment: DeploymentId
    version: tuple[int, int]
    exists: bool = True
    unavailable: str = ""
    replicas: tuple[ReplicaTarget, ...] = ()
    options: DeploymentOptions = DEFAULTS


@record
class ApplicationRoute:
    """One application at the ingress.

    Attributes:
        former_prefixes: earlier route prefixes by which it is reached still.
    """

    app: str
    route_prefix: str | None
    ingress: DeploymentId
    route_patterns: tuple[str, ...] = ()
    grpc_servicer_functions: tuple[str, ...] = ()
    import_paths: tuple[str, ...] = ()
    former_prefixes: tuple[str, ...] = ()


@record
class RouteTable:
    """Which applications answer at the ingress."""

    version: tuple[int, int]
    applications: tuple[ApplicationRoute, ...] = ()
    draining_nodes: tuple[str, ...] = ()
