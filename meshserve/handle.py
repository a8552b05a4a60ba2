"""Handles and what they return; the legacy handles of older releases with them."""

from __future__ import annotations

from meshserve.routing.broadcast import DeploymentBroadcastResponse
from meshserve.routing.handle import DeploymentHandle
from meshserve.routing.legacy_handle import (
    MeshServeHandle,
    MeshServeSyncHandle,
    RayServeDeploymentHandle,
    RayServeHandle,
    RayServeSyncHandle,
)
from meshserve.routing.response import DeploymentResponse
from meshserve.routing.response_stream import DeploymentResponseGenerator
from meshserve.routing.selection import ReplicaSelection

__all__ = [
    "DeploymentBroadcastResponse",
    "DeploymentHandle",
    "DeploymentResponse",
    "DeploymentResponseGenerator",
    "MeshServeHandle",
    "MeshServeSyncHandle",
    "RayServeDeploymentHandle",
    "RayServeHandle",
    "RayServeSyncHandle",
    "ReplicaSelection",
]
