"""What deployment code may ask about itself and about the request it serves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from meshserve.errors import MeshServeException
from meshserve.model.call import CallContext
from meshserve.model.control import ReplicaRank
from meshserve.model.gang import GangContext
from meshserve.model.ids import ReplicaId
from meshserve.routing.scope import request_scope
from meshserve.telemetry.tracing import active


@dataclass(slots=True)
class ReplicaContext:
    """The replica this code runs in.

    Attributes:
        replica_id: its id.
        servable_object: the user's instance; None while its `__init__` runs, and for a function the function.
        rank: see `ReplicaRank`.
        world_size: the configured number of replicas.
        code_version: of the deployment's code.
        max_ongoing_requests: how many calls the replica accepts at a time, or None when that is not known.
        gang_context: the gang it belongs to; None for none.
        actors_version: which of the deployment's actors are this replica's; empty for none.
    """

    replica_id: ReplicaId
    servable_object: Any = None
    rank: ReplicaRank = field(default_factory=ReplicaRank)
    world_size: int = 1
    code_version: str = ""
    max_ongoing_requests: int | None = None
    gang_context: GangContext | None = None
    actors_version: str = ""

    @property
    def app_name(self) -> str:
        """The application."""
        return self.replica_id.deployment.app

    @property
    def deployment(self) -> str:
        """The deployment."""
        return self.replica_id.deployment.name

    @property
    def replica_tag(self) -> str:
        """The replica's unique tag."""
        return self.replica_id.tag


_replica_context: ReplicaContext | None = None


def set_replica_context(context: ReplicaContext | None) -> None:
    """Says which replica this process is; for the replica's own main."""
    global _replica_context
    _replica_context = context


def current_replica() -> ReplicaContext | None:
    """The replica of this process, or None; while a request is served, the one that serves it."""
    scope = request_scope.get()
    return _replica_context if scope is None or scope.replica is None else scope.replica


def get_replica_context() -> ReplicaContext:
    """The replica this code runs in.

    Raises:
        MeshServeException: outside a replica.
    """
    replica = current_replica()
    if replica is None:
        raise MeshServeException("`get_replica_context()` may only be called from within a deployment's replica.")
    return replica


def get_request_context() -> CallContext | None:
    """The context of the request being served, or None outside one."""
    scope = request_scope.get()
    return scope.context if scope is not None else None


_get_internal_replica_context = current_replica
"""Under the name that ported code uses."""


def _get_serve_request_context() -> CallContext:
    """`get_request_context` under the name that ported code uses; outside a request, one that is empty."""
    return get_request_context() or CallContext("")


def get_multiplexed_model_id() -> str:
    """The model the current request is for; empty when it names none."""
    scope = request_scope.get()
    return scope.context.multiplexed_model_id if scope is not None else ""


def get_trace_context() -> Any:
    """The current context of OpenTelemetry, as parent of one's own spans; None when requests are not traced.

        with tracer.start_as_current_span("my step", context=serve.get_trace_context()):

    Spans begun without it are inside the request's as well, where they are begun in the task or thread that serves it.
    What the client sent is in `get_request_context()`, as `traceparent` and `tracestate`.
    """
    tracing = active()
    return None if tracing is None else tracing.current()
