"""The class API of user-written request routers; published as `meshserve.request_router`.

A router is a subclass of `RequestRouter` that says, for one call at a time, which replicas it would like to have it:

    class LeastUsedCache(RequestRouter):
        async def choose_replicas(self, candidate_replicas, pending_request=None):
            return [[min(candidate_replicas, key=lambda replica: replica.routing_stats.get("cache", 0))]]

The mixins add questions about distance and models that a router may ask. Every process that calls the deployment makes
a router of its own. It runs on a thread of its own, so it may be slow or blocked without stopping anything but the
calls that wait for it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.routing.choosing import MATCHING_WINDOW_S
from meshserve.routing.user_view import PendingRequest, RunningReplica

ReplicaResult: TypeAlias = None
"""What `on_request_routed` is given as the result: nothing, the call has only begun."""


@dataclass(frozen=True, slots=True)
class ReplicaQueueLengthInfo:
    """What a replica's answer says of its load.

    Attributes:
        accepted: whether it took the call.
        num_ongoing_requests: calls it has now.
    """

    accepted: bool
    num_ongoing_requests: int


class QueueLengths:
    """The loads of replicas by their id, as known to the router."""

    def __init__(self, replicas: dict[ReplicaId, RunningReplica]) -> None:
        self._replicas = replicas

    def get(self, replica_id: ReplicaId) -> int | None:
        """Calls that a replica has; None for one that is not there."""
        replica = self._replicas.get(replica_id)
        return replica.queue_len if replica is not None else None


class RequestRouter:
    """Base of user-written routers.

    Args:
        deployment_id: whose calls it places.
        self_node_id: the node of this process; empty for not known.
        self_availability_zone: its zone; None for not known.
    """

    def __init__(
        self, deployment_id: DeploymentId, self_node_id: str = "", self_availability_zone: str | None = None
    ) -> None:
        self.deployment_id = deployment_id
        self._self_node_id = self_node_id
        self._self_availability_zone = self_availability_zone
        self._replicas: dict[ReplicaId, RunningReplica] = {}
        self._queue_lengths = QueueLengths(self._replicas)

    def initialize_state(self, **kwargs: Any) -> None:
        """Called once, before anything else, with `request_router_kwargs`."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Says which replicas are to have a call.

        Args:
            candidate_replicas: all there are, full or not.
            pending_request: the call.

        Returns:
            Groups of replicas, the preferred ones first. The call goes to the least loaded replica with room of the
            first group that has one. With none in any group it waits, and is asked about again after a pause.
        """
        raise NotImplementedError

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """These are the replicas now. An override is to call this one."""
        self._replicas.clear()
        self._replicas.update((replica.replica_id, replica) for replica in replicas)

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaId, result: ReplicaResult) -> None:
        """A call went to a replica."""

    def on_request_completed(self, replica_id: ReplicaId, internal_request_id: str) -> None:
        """A call has left a replica: it has ended, was refused there, or the replica is gone."""

    def on_request_cancelled(self, internal_request_id: str) -> None:
        """A call has ended while it waited for a replica."""

    def on_replica_actor_died(self, replica_id: ReplicaId) -> None:
        """The connection to a replica had broken, and it is no replica any more."""

    def on_replica_actor_unavailable(self, replica_id: ReplicaId) -> None:
        """The connection to a replica broke; it is tried again after a while."""

    def on_new_queue_len_info(self, replica_id: ReplicaId, queue_len_info: ReplicaQueueLengthInfo) -> None:
        """A replica has answered or refused a call."""

    @property
    def supports_rejection_protocol(self) -> bool:
        """Replicas always say whether they accept a call."""
        return True

    @property
    def curr_replicas(self) -> dict[ReplicaId, RunningReplica]:
        """The replicas by their id."""
        return self._replicas

    @property
    def replica_queue_len_cache(self) -> QueueLengths:
        """The loads of replicas."""
        return self._queue_lengths

    def select_available_replicas(self, candidates: list[RunningReplica] | None = None) -> list[RunningReplica]:
        """Those of the candidates (None: of all replicas) that have room."""
        among = list(self._replicas.values()) if candidates is None else candidates
        return [replica for replica in among if replica.has_room]


class FIFOMixin(RequestRouter):
    """For routers to which all calls are equal: whatever is chosen serves the call that has waited longest."""


class LocalityMixin(RequestRouter):
    """Questions about distance."""

    def rank_replicas_via_locality(self, replicas: list[RunningReplica]) -> list[list[RunningReplica]]:
        """Three groups: of this node, of its zone, and the rest; each may be empty."""
        groups: list[list[RunningReplica]] = [[], [], []]
        for replica in replicas:
            groups[self._distance(replica)].append(replica)
        return groups

    def _distance(self, replica: RunningReplica) -> int:
        if self._self_node_id and replica.node_id == self._self_node_id:
            return 0
        zone = self._self_availability_zone
        return 1 if zone is not None and replica.availability_zone == zone else 2

    def apply_locality_routing(self, pending_request: PendingRequest | None = None) -> set[ReplicaId]:
        """Ids of the nearest replicas that were not tried for this call; of all once those near were tried."""
        near, zone, _ = self.rank_replicas_via_locality(list(self._replicas.values()))
        if pending_request is not None:
            context = pending_request.routing_context
            if near and not context.tried_same_node:
                context.tried_same_node = True
                return _ids(near)
            if (near or zone) and not context.tried_same_az:
                context.tried_same_az = True
                return _ids([*near, *zone])
        return set(self._replicas)


class MultiplexMixin(RequestRouter):
    """Questions about models."""

    def rank_replicas_via_multiplex(
        self, replicas: list[RunningReplica], multiplexed_model_id: str
    ) -> list[list[RunningReplica]]:
        """Three groups: those that hold the model, those with the fewest models, and the rest; each may be empty."""
        models = {replica: replica.multiplexed_model_ids for replica in replicas}
        holders = [replica for replica in replicas if multiplexed_model_id in models[replica]]
        others = [replica for replica in replicas if multiplexed_model_id not in models[replica]]
        fewest = min((len(models[replica]) for replica in others), default=0)
        return [
            holders,
            [replica for replica in others if len(models[replica]) == fewest],
            [replica for replica in others if len(models[replica]) != fewest],
        ]

    def apply_multiplex_routing(self, pending_request: PendingRequest) -> set[ReplicaId]:
        """Ids of the replicas to try now for a call with a model.

        First those that hold it; when there are none, or they were tried, those with the fewest models; after one to
        two seconds those with the fewest models once more, then all.
        """
        context, now = pending_request.routing_context, time.monotonic()
        if context.multiplexed_start_matching_time is None:
            context.multiplexed_start_matching_time = now + random.uniform(*MATCHING_WINDOW_S) - MATCHING_WINDOW_S[0]
        waited_s = now - context.multiplexed_start_matching_time
        replicas = list(self._replicas.values())
        holders, fewest, _ = self.rank_replicas_via_multiplex(replicas, pending_request.metadata.multiplexed_model_id)
        if waited_s < MATCHING_WINDOW_S[0]:
            first = not context.tried_first_multiplexed_models
            context.tried_first_multiplexed_models = True
            return _ids(holders if holders and first else fewest or holders)
        if not context.tried_fewest_multiplexed_models:
            context.tried_fewest_multiplexed_models = True
            return _ids(fewest or holders)
        return set(self._replicas)


def _ids(replicas: Iterable[RunningReplica]) -> set[ReplicaId]:
    return {replica.replica_id for replica in replicas}
