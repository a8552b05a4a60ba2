"""The state of the mesh, as `status` gives it."""

from __future__ import annotations

from meshserve.api.status import ApplicationStatusOverview, DeploymentStatusOverview, ServeStatus
from meshserve.model.status import ApplicationState, DeploymentState, ProxyState, ReplicaState, Trigger

ApplicationStatus = ApplicationState
DeploymentStatus = DeploymentState
DeploymentStatusTrigger = Trigger
ProxyStatus = ProxyState

__all__ = [
    "ApplicationStatus",
    "ApplicationStatusOverview",
    "DeploymentStatus",
    "DeploymentStatusOverview",
    "DeploymentStatusTrigger",
    "ProxyStatus",
    "ReplicaState",
    "ServeStatus",
]
