"""Configuration files, as `meshserve deploy` reads them, and the state of the mesh, as `status` gives it."""

from __future__ import annotations

from meshserve.api.controller_options import ControllerOptions
from meshserve.api.schema_application import ServeApplicationSchema
from meshserve.api.schema_deployment import DeploymentSchema, RayActorOptionsSchema
from meshserve.api.schema_details import (
    APIType,
    ApplicationDetails,
    ControllerHealthMetrics,
    DeploymentDetails,
    DeploymentNode,
    DeploymentTopology,
    DurationStats,
    ProxyDetails,
    ReplicaDetails,
    ScaleDeploymentRequest,
    ServeActorDetails,
    ServeInstanceDetails,
    Target,
    TargetGroup,
)
from meshserve.api.schema_file import HTTPOptionsSchema, ServeDeploySchema, gRPCOptionsSchema
from meshserve.api.schema_logging import EncodingType, LoggingConfig, TracingConfig
from meshserve.api.status import ApplicationStatusOverview, DeploymentStatusOverview, ServeStatus
from meshserve.model.control import ReplicaRank
from meshserve.model.status import ApplicationState, DeploymentState, ProxyState, ReplicaState, Trigger

ApplicationStatus = ApplicationState
DeploymentStatus = DeploymentState
DeploymentStatusTrigger = Trigger
ProxyStatus = ProxyState

__all__ = [
    "APIType",
    "ApplicationDetails",
    "ApplicationStatus",
    "ApplicationStatusOverview",
    "ControllerHealthMetrics",
    "ControllerOptions",
    "DeploymentDetails",
    "DeploymentNode",
    "DeploymentSchema",
    "DeploymentStatus",
    "DeploymentStatusOverview",
    "DeploymentStatusTrigger",
    "DeploymentTopology",
    "DurationStats",
    "EncodingType",
    "HTTPOptionsSchema",
    "LoggingConfig",
    "ProxyDetails",
    "ProxyStatus",
    "RayActorOptionsSchema",
    "ReplicaDetails",
    "ReplicaRank",
    "ReplicaState",
    "ScaleDeploymentRequest",
    "ServeActorDetails",
    "ServeApplicationSchema",
    "ServeDeploySchema",
    "ServeInstanceDetails",
    "ServeStatus",
    "Target",
    "TargetGroup",
    "TracingConfig",
    "gRPCOptionsSchema",
]
