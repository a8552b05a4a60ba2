"""Request routers written by users: `from meshserve.request_router import RequestRouter`. See docs/routing.md."""

from __future__ import annotations

from meshserve.model.ids import ReplicaId as ReplicaID
from meshserve.routing.shipped_routers import PowerOfTwoChoicesRequestRouter
from meshserve.routing.user_router import (
    FIFOMixin,
    LocalityMixin,
    MultiplexMixin,
    ReplicaQueueLengthInfo,
    ReplicaResult,
    RequestRouter,
)
from meshserve.routing.user_view import PendingRequest, RunningReplica

__all__ = [
    "FIFOMixin",
    "LocalityMixin",
    "MultiplexMixin",
    "PendingRequest",
    "PowerOfTwoChoicesRequestRouter",
    "ReplicaID",
    "ReplicaQueueLengthInfo",
    "ReplicaResult",
    "RequestRouter",
    "RunningReplica",
]
