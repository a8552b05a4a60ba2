"""Everything the mesh raises. Names with the peer's name in them are aliases of ours."""

from __future__ import annotations

from meshserve.errors import (
    BackPressureError,
    CallTimeoutError,
    ControllerUnreachableError,
    DeploymentFailedError,
    DeploymentUnavailableError,
    IngressError,
    InvalidCallError,
    MeshServeException,
    RemoteError,
    ReplicaDiedError,
    ReplicaUnavailableError,
    RequestCancelledError,
    UpstreamDiedError,
    gRPCStatusError,
)

RayServeException = MeshServeException

__all__ = [
    "BackPressureError",
    "CallTimeoutError",
    "ControllerUnreachableError",
    "DeploymentFailedError",
    "DeploymentUnavailableError",
    "IngressError",
    "InvalidCallError",
    "MeshServeException",
    "RayServeException",
    "RemoteError",
    "ReplicaDiedError",
    "ReplicaUnavailableError",
    "RequestCancelledError",
    "UpstreamDiedError",
    "gRPCStatusError",
]
