"""What a user-written request router sees: replicas, and the call to be placed.

Made on the I/O thread, looked at on the thread of the user's routers. Figures are read where they are kept, so
they are as fresh as the router's own and may change between two looks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from meshserve.model.call import Call, Encoding
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.routing.replica import Replica
from meshserve.wire.values import decode_value


@lru_cache(maxsize=4096)
def _parsed(text: str) -> dict[str, Any]:
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}


class RunningReplica:
    """A replica that may be chosen.

    Args:
        replica: as the router knows it.
        deployment: whose replica it is.

    Attributes:
        replica_id: its id.
    """

    __slots__ = ("_replica", "replica_id")

    def __init__(self, replica: Replica, deployment: DeploymentId) -> None:
        self._replica = replica
        self.replica_id = ReplicaId(deployment, replica.target.tag)

    @property
    def replica(self) -> Replica:
        """The replica as the router knows it; for the router."""
        return self._replica

    @property
    def node_id(self) -> str:
        """Ray's id of the node it runs on."""
        return self._replica.target.node_id

    @property
    def node_ip(self) -> str:
        """The address of that node."""
        return self._replica.target.node_ip

    @property
    def availability_zone(self) -> str | None:
        """The zone of that node; None for not known."""
        return self._replica.target.availability_zone or None

    @property
    def actor_name(self) -> str:
        """The name of the Ray actor that hosts it."""
        return self._replica.target.actor_name

    @property
    def max_ongoing_requests(self) -> int:
        """The most calls it accepts at a time."""
        return self._replica.limit

    @property
    def multiplexed_model_ids(self) -> set[str]:
        """The models it holds or is loading."""
        return set(self._replica.models)

    @property
    def routing_stats(self) -> dict[str, Any]:
        """What its `record_routing_stats` last returned."""
        return dict(_parsed(self._replica.target.routing_stats_json))

    @property
    def replica_metadata(self) -> dict[str, Any]:
        """What its `record_replica_metadata` returned."""
        return dict(_parsed(self._replica.target.metadata_json))

    @property
    def queue_len(self) -> int:
        """Calls it has: those of this process, and those it last reported of others."""
        return self._replica.load

    @property
    def has_room(self) -> bool:
        """Whether it would take another call, as far as is known here."""
        return self._replica.has_room

    async def get_queue_len(self, deadline_s: float | None = None) -> int:
        """As `queue_len`; nothing is asked over the network, every message of a replica brings its load."""
        return self._replica.load

    def __repr__(self) -> str:
        return f"<RunningReplica {self.replica_id} {self.queue_len}/{self.max_ongoing_requests}>"


@dataclass(frozen=True, slots=True)
class RequestMetadata:
    """What is known of a call, beside its arguments.

    Attributes:
        internal_request_id: unique for each call of each router, unlike `request_id`.
        call_method: the method it is for.
    """

    request_id: str
    internal_request_id: str
    call_method: str
    route: str
    app_name: str
    multiplexed_model_id: str
    session_id: str
    is_streaming: bool
    is_http_request: bool
    is_grpc_request: bool


@dataclass(slots=True)
class RoutingContext:
    """What the mixins remember of a call between two attempts; a router may look and write here.

    Attributes:
        attempts: how often `choose_replicas` was asked before.
        multiplexed_start_matching_time: when the search for the call's model began.
    """

    attempts: int = 0
    multiplexed_start_matching_time: float | None = None
    tried_first_multiplexed_models: bool = False
    tried_fewest_multiplexed_models: bool = False
    tried_same_node: bool = False
    tried_same_az: bool = False


class PendingRequest:
    """A call that waits for a replica.

    Args:
        call: the call.
        internal_request_id: made up by the router.
        created_at: when it arrived, on the clock of `time.monotonic`.

    Attributes:
        routing_context: notes of the mixins.
    """

    __slots__ = ("_arguments", "_call", "created_at", "metadata", "routing_context")

    def __init__(self, call: Call, internal_request_id: str, created_at: float) -> None:
        context = call.context
        self._call = call
        self._arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self.created_at = created_at
        self.routing_context = RoutingContext()
        self.metadata = RequestMetadata(
            context.request_id,
            internal_request_id,
            call.method,
            context.route,
            context.app,
            context.multiplexed_model_id,
            context.session_id,
            call.kind.streams_out,
            call.payload.encoding is Encoding.HTTP,
            context.grpc is not None,
        )

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments of a handle's call; empty for calls from an ingress. A copy, made at the first look."""
        return self._decoded()[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments; as `args`."""
        return self._decoded()[1]

    def _decoded(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self._arguments is None:
            payload = self._call.payload
            self._arguments = decode_value(payload) if payload.encoding is Encoding.PICKLE else ((), {})
        return self._arguments
