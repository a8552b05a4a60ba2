"""What deployment code may ask about itself and about the request it serves."""

from __future__ import annotations

from meshserve.model.control import ReplicaRank
from meshserve.model.gang import GangContext
from meshserve.user.actor_context import DeploymentActorContext
from meshserve.user.context import (
    ReplicaContext,
    _get_serve_request_context,
    get_multiplexed_model_id,
    get_replica_context,
    get_request_context,
    get_trace_context,
)
from meshserve.user.context import _get_internal_replica_context as _get_internal_replica_context

__all__ = [
    "GangContext",
    "DeploymentActorContext",
    "ReplicaContext",
    "ReplicaRank",
    "_get_serve_request_context",
    "get_multiplexed_model_id",
    "get_replica_context",
    "get_request_context",
    "get_trace_context",
]
