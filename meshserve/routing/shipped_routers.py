"""The routers that ship, as classes: to be named in options, and to be built upon.

Named themselves, as the class or by an import path, they stand for the built-in policy that behaves alike and costs
next to nothing (`routing.policies`). A subclass is a user-written router like any other and inherits what stands here.
"""

from __future__ import annotations

import random
from typing import Any

from meshserve.core.hashing import FALLBACKS, VIRTUAL_NODES, Ring, build_ring, successors
from meshserve.model.ids import ReplicaId
from meshserve.routing.user_router import FIFOMixin, LocalityMixin, MultiplexMixin, RequestRouter
from meshserve.routing.user_view import PendingRequest, RunningReplica


class PowerOfTwoChoicesRequestRouter(FIFOMixin, LocalityMixin, MultiplexMixin, RequestRouter):
    """The default: two at random, of the nearest replicas or of those that suit the call's model."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """See `RequestRouter`."""
        if pending_request is not None and pending_request.metadata.multiplexed_model_id:
            suited = self.apply_multiplex_routing(pending_request)
        else:
            suited = self.apply_locality_routing(pending_request)
        among = [replica for replica in candidate_replicas if replica.replica_id in suited]
        return [random.sample(among, min(2, len(among)))]


class RoundRobinRouter(MultiplexMixin, RequestRouter):
    """Every replica in turn, from one at random on; calls for a model take turns among its holders."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cursors: dict[str, int] = {}

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """See `RequestRouter`: each replica is a group of its own, so that a full one is passed over."""
        model = pending_request.metadata.multiplexed_model_id if pending_request is not None else ""
        holders = self.rank_replicas_via_multiplex(candidate_replicas, model)[0] if model else []
        among = holders or candidate_replicas
        if not among:
            return []
        at = self._cursors.setdefault(model, random.randrange(len(among))) % len(among)
        self._cursors[model] = at + 1
        return [[replica] for replica in (*among[at:], *among[:at])]


class ConsistentHashRouter(RequestRouter):
    """The same replica for the same session; see `core.hashing`."""

    def initialize_state(
        self, num_virtual_nodes: int = VIRTUAL_NODES, num_fallback_replicas: int = FALLBACKS, **kwargs: Any
    ) -> None:
        """See `RequestRouter`.

        Args:
            num_virtual_nodes: points of a replica on the ring; more make shares more even.
            num_fallback_replicas: how many replicas stand in for one that is full.

        Raises:
            ValueError: a number is out of its range.
        """
        successors(build_ring((), num_virtual_nodes), "", num_fallback_replicas)
        self._virtual_nodes = num_virtual_nodes
        self._fallbacks = num_fallback_replicas
        self._ring = Ring()
        self._members: dict[str, ReplicaId] = {}

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """See `RequestRouter`."""
        super().update_replicas(replicas)
        self._members = {replica.replica_id.unique_id: replica.replica_id for replica in replicas}
        if self._ring.members != self._members.keys():
            self._ring = build_ring(self._members, self._virtual_nodes)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """See `RequestRouter`."""
        if pending_request is None:
            return [candidate_replicas]
        key = pending_request.metadata.session_id or pending_request.metadata.request_id
        # None when there are no replicas; the router asks again when there are.
        homes = (self._members[tag] for tag in successors(self._ring, key, self._fallbacks))
        return [[self.curr_replicas[home]] for home in homes]
