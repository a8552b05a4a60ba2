"""All that is known of a mesh, for programs: the shape that Ray Serve's REST API has."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from meshserve.api.ingress_options import ProxyLocation
from meshserve.api.schema_application import ServeApplicationSchema
from meshserve.api.schema_deployment import DeploymentSchema
from meshserve.api.schema_file import HTTPOptionsSchema, gRPCOptionsSchema
from meshserve.api.status import ApplicationStatusOverview, DeploymentStatusOverview, ServeStatus
from meshserve.model.status import ApplicationState, DeploymentState, ProxyState, ReplicaState, Trigger


class APIType(StrEnum):
    """Who has set an application."""

    UNKNOWN = "unknown"
    IMPERATIVE = "imperative"
    DECLARATIVE = "declarative"


class ServeActorDetails(BaseModel):
    """One process of the mesh."""

    model_config = ConfigDict(frozen=True)

    node_id: str | None = Field(default=None, description="The node it is on.")
    node_ip: str | None = Field(default=None, description="The node's address.")
    node_instance_id: str | None = Field(default=None, description="The node's id at its cloud.")
    actor_id: str | None = Field(default=None, description="The Ray actor's id.")
    actor_name: str | None = Field(default=None, description="The Ray actor's name.")
    worker_id: str | None = Field(default=None, description="The Ray worker's id.")
    log_file_path: str | None = Field(default=None, description="Its log, on its node.")


class ReplicaDetails(ServeActorDetails):
    """One replica."""

    replica_id: str = Field(description="Its unique tag.")
    state: ReplicaState = Field(description="What it is doing.")
    pid: int | None = Field(default=None, description="The operating system's id of its process.")
    start_time_s: float = Field(description="When it was started, in seconds since the epoch.")


class ProxyDetails(ServeActorDetails):
    """One proxy."""

    status: ProxyState = Field(description="What it is doing.")
    message: str = Field(default="", description="What failed, or what it does not serve.")


class DeploymentDetails(BaseModel):
    """One deployment."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="Its name.")
    status: DeploymentState = Field(description="What it is doing.")
    status_trigger: Trigger = Field(description="What led to that.")
    message: str = Field(description="What is being waited for, or what failed.")
    deployment_config: DeploymentSchema = Field(description="Its options, of the file or the code.")
    target_num_replicas: int = Field(ge=0, description="How many replicas are wanted.")
    required_resources: dict[str, Any] = Field(description="What each replica asks of the cluster.")
    replicas: list[ReplicaDetails] = Field(description="Its replicas.")


class DeploymentNode(BaseModel):
    """A deployment among those of its application."""

    name: str = Field(description="Its name.")
    app_name: str = Field(description="Its application.")
    outbound_deployments: list[dict[str, str]] = Field(default_factory=list, description="Those that it calls.")
    is_ingress: bool = Field(default=False, description="Whether it answers at the ingress.")


class DeploymentTopology(BaseModel):
    """Who calls whom in an application."""

    app_name: str = Field(description="The application.")
    nodes: dict[str, DeploymentNode] = Field(description="Its deployments, by name.")
    ingress_deployment: str | None = Field(default=None, description="The one that answers at the ingress.")


class ApplicationDetails(BaseModel):
    """One application."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="Its name.")
    route_prefix: str | None = Field(description="Its route prefix.")
    docs_path: str | None = Field(description="The path of its documentation.")
    status: ApplicationState = Field(description="What it is doing.")
    message: str = Field(description="What is being waited for, or what failed.")
    last_deployed_time_s: float = Field(description="When it was last set, in seconds since the epoch.")
    deployed_app_config: ServeApplicationSchema | None = Field(default=None, description="Its entry of the file.")
    source: APIType = Field(description="Who has set it.")
    deployments: dict[str, DeploymentDetails] = Field(description="Its deployments, by name.")
    external_scaler_enabled: bool = Field(default=False, description="Whether it is scaled from outside.")
    deployment_topology: DeploymentTopology | None = Field(default=None, description="Who calls whom.")


class Target(BaseModel):
    """A place to send requests to."""

    model_config = ConfigDict(frozen=True)

    ip: str = Field(description="The address of its node.")
    port: int = Field(description="The port.")
    instance_id: str = Field(description="The node's id at its cloud; empty for not known.")
    name: str = Field(description="The name of its process.")


class TargetGroup(BaseModel):
    """Places that serve the same."""

    model_config = ConfigDict(frozen=True)

    targets: list[Target] = Field(description="The places.")
    route_prefix: str = Field(description="The paths that they serve.")
    protocol: str = Field(description="HTTP or gRPC.")
    app_name: str = Field(default="", description="The application; empty for all.")


class DurationStats(BaseModel):
    """How long something took, of late."""

    mean: float = Field(default=0.0, description="In the mean, in seconds.")
    std: float = Field(default=0.0, description="The standard deviation.")
    min: float = Field(default=0.0, description="At least.")
    max: float = Field(default=0.0, description="At most.")


class ControllerHealthMetrics(BaseModel):
    """How the controller does; instants are in seconds since the epoch."""

    timestamp: float = Field(default=0.0, description="When this was measured.")
    controller_start_time: float = Field(default=0.0, description="When its process began.")
    uptime_s: float = Field(default=0.0, description="How long ago that was.")
    last_control_loop_time: float = Field(default=0.0, description="When its loop turned last.")
    num_control_loops: int = Field(default=0, description="How often it has turned; it does so when there is cause.")
    loop_duration_s: DurationStats | None = Field(default=None, description="How long the latest turns took.")
    loops_per_second: float = Field(default=0.0, description="How often it turns, in the mean of its life.")
    event_loop_delay_s: float = Field(default=0.0, description="How late its event loop was of late.")
    num_asyncio_tasks: int = Field(default=0, description="How many tasks its event loop has.")


class ServeInstanceDetails(BaseModel):
    """A mesh."""

    controller_info: ServeActorDetails = Field(default_factory=ServeActorDetails, description="The controller.")
    proxy_location: ProxyLocation | None = Field(default=None, description="Which nodes have a proxy.")
    http_options: HTTPOptionsSchema | None = Field(default=None, description="The HTTP ingress.")
    grpc_options: gRPCOptionsSchema | None = Field(default=None, description="The gRPC ingress.")
    proxies: dict[str, ProxyDetails] = Field(description="The proxies, by node.")
    applications: dict[str, ApplicationDetails] = Field(description="The applications, by name.")
    target_capacity: float | None = Field(default=None, ge=0, le=100, description="Of the file, in percent.")
    controller_health_metrics: ControllerHealthMetrics | None = Field(default=None, description="How that one does.")
    target_groups: list[TargetGroup] = Field(default=[], description="Where load balancers may send requests.")
    restores_unset_config_options: bool = Field(
        default=True, description="Whether an option that leaves the file is the code's again."
    )

    @staticmethod
    def get_empty_schema_dict() -> dict[str, Any]:
        """A mesh that does not run."""
        return {"controller_info": {}, "proxies": {}, "applications": {}, "target_capacity": None}

    def _get_status(self) -> ServeStatus:
        """The same, as `status` tells it."""
        return ServeStatus(
            proxies={node: proxy.status for node, proxy in self.proxies.items()},
            applications={name: _status(one) for name, one in self.applications.items()},
            target_capacity=self.target_capacity,
            proxy_messages={node: proxy.message for node, proxy in self.proxies.items() if proxy.message},
        )


def _status(application: ApplicationDetails) -> ApplicationStatusOverview:
    deployments = {}
    for name, one in application.deployments.items():
        states = [replica.state for replica in one.replicas]
        counts = {state: states.count(state) for state in dict.fromkeys(states)}
        deployments[name] = DeploymentStatusOverview(one.status, one.status_trigger, counts, one.message)
    return ApplicationStatusOverview(
        application.status, application.message, application.last_deployed_time_s, deployments
    )


class ScaleDeploymentRequest(BaseModel):
    """How many replicas a deployment is to have, for an application that is scaled from outside."""

    target_num_replicas: int = Field(ge=0, description="How many.")
