"""The router that asks one actor for all callers which replica has the fewest calls.

Published as `meshserve.experimental.capacity_queue_router`. A call waits for a token of the deployment's
`CapacityQueue`, and goes to the replica that the token is of. While the queue cannot be asked, the router decides by
itself, as the default does.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

from meshserve.launch.actor_calls import ActorCallError, call_actor, shared_actors, tell_actor
from meshserve.model.ids import ReplicaId
from meshserve.routing.user_router import LocalityMixin, MultiplexMixin, RequestRouter
from meshserve.routing.user_view import PendingRequest, RunningReplica

log = logging.getLogger("meshserve")

FAULT_RETRIES = 3

_FIRST_PAUSE_S = 0.025


class CapacityQueueRouter(LocalityMixin, MultiplexMixin, RequestRouter):
    """See the module. Its `request_router_kwargs` are `capacity_queue_actor_name`, of the queue among the deployment's
    `deployment_actors`, and `max_fault_retries`, how often a queue that cannot be asked is asked again for a call."""

    def initialize_state(self, **kwargs: Any) -> None:
        """See `RequestRouter`.

        Raises:
            ValueError: the queue is not named.
        """
        if "capacity_queue_actor_name" not in kwargs:
            raise ValueError("CapacityQueueRouter requires 'capacity_queue_actor_name' in request_router_kwargs.")
        self._queue_name = str(kwargs["capacity_queue_actor_name"])
        self._retries = int(kwargs.get("max_fault_retries", FAULT_RETRIES))
        self._queue: Any = None
        self._tokens: dict[str, str] = {}

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """See `RequestRouter`: the replica of a token; none when all tokens are taken; any two without a queue."""
        if pending_request is None:
            return [candidate_replicas]
        number = pending_request.metadata.internal_request_id
        self._give_back(number)  # asked again: the call did not get to where it was to go
        for attempt in range(self._retries):
            try:
                tag = await self._acquire()
            except ActorCallError as error:
                log.warning("The queue %r of %s cannot be asked: %s", self._queue_name, self.deployment_id, error)
                self._queue = None
                await asyncio.sleep(_FIRST_PAUSE_S * 2**attempt)
                continue
            return self._of_token(number, tag)
        return [random.sample(candidate_replicas, min(2, len(candidate_replicas)))]

    async def _acquire(self) -> str | None:
        if self._queue is None:
            app, name = self.deployment_id.app, self.deployment_id.name
            found = await asyncio.to_thread(shared_actors, app, name, self._queue_name)
            if not found:
                raise ActorCallError("there is none at the moment")
            self._queue = found[0]
        tag: str | None = await call_actor(self._queue, "acquire")
        return tag

    def _of_token(self, number: str, tag: str | None) -> list[list[RunningReplica]]:
        if tag is None:
            return []
        self._tokens[number] = tag
        replica = self.curr_replicas.get(ReplicaId(self.deployment_id, tag))
        if replica is None:
            self._give_back(number)  # the queue knows of a replica sooner than this process
            return []
        return [[replica]]

    def _give_back(self, number: str) -> None:
        tag = self._tokens.pop(number, None)
        if tag is not None and self._queue is not None:
            tell_actor(self._queue, "release", tag)

    def on_request_completed(self, replica_id: ReplicaId, internal_request_id: str) -> None:
        """See `RequestRouter`."""
        self._give_back(internal_request_id)

    def on_request_cancelled(self, internal_request_id: str) -> None:
        """See `RequestRouter`."""
        self._give_back(internal_request_id)
