"""The actor that counts calls for a whole deployment; published as `meshserve.experimental.capacity_queue`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from random import Random

from meshserve.core.capacity_tokens import Tokens
from meshserve.launch.ray_actors import as_actor_class
from meshserve.model.targets import DeploymentTargets
from meshserve.routing.directory import process_directory
from meshserve.user.actor_context import get_deployment_actor_context

log = logging.getLogger("meshserve")


@dataclass(frozen=True)
class CapacityQueueStats:
    """What a `CapacityQueue` counts.

    Attributes:
        queue_size: tokens that can be taken.
        num_waiters: callers that wait for one.
        total_capacity: tokens there are.
        total_in_flight: tokens that are taken.
        total_acquires: how often one was asked for.
        total_timeouts: how often nobody gave one back in time.
        max_waiters_seen: the most callers that waited at a time.
    """

    queue_size: int
    num_waiters: int
    num_replicas: int
    total_capacity: int
    total_in_flight: int
    total_acquires: int
    total_releases: int
    total_timeouts: int
    max_waiters_seen: int


class _CapacityQueue:
    """Gives calls to the replica of a deployment that has the fewest, for all callers together.

    One of the `deployment_actors` of the deployment whose `CapacityQueueRouter`s ask it. It hears of replicas as
    routers do. When it dies, its successor counts from nothing; replicas refuse what is too much.

    Args:
        acquire_timeout_s: how long a caller waits for a token.
        token_ttl_s: a token that is not given back for so long is free again; None for never.
    """

    def __init__(
        self, acquire_timeout_s: float, token_ttl_s: float | None = None, _enable_long_poll: bool = True
    ) -> None:
        self._acquire_timeout_s = acquire_timeout_s
        self._token_ttl_s = token_ttl_s
        self._tokens = Tokens()
        self._rng = Random()
        self._waiting: deque[asyncio.Future[str]] = deque()
        self._acquires = self._releases = self._timeouts = self._most_waiting = 0
        self._loop = asyncio.get_running_loop()
        self._reaping = self._loop.create_task(self._reap(token_ttl_s)) if token_ttl_s else None
        if _enable_long_poll:
            deployment = get_deployment_actor_context().deployment_id
            directory = process_directory()
            directory.io.loop.call_soon_threadsafe(directory.watch_targets, deployment, self._tell)

    def _tell(self, targets: DeploymentTargets) -> None:
        """Called on the I/O thread."""
        limits = {one.tag: one.max_ongoing_requests for one in targets.replicas}
        self._loop.call_soon_threadsafe(self._set_replicas, limits)

    def _set_replicas(self, limits: dict[str, int]) -> None:
        self._tokens.set_replicas(limits)
        self._serve()

    def register_replica(self, replica_id: str, capacity: int) -> None:
        """A replica that takes so many calls at a time; nothing happens when it is known."""
        if replica_id not in self._tokens.limits:
            self._set_replicas({**self._tokens.limits, replica_id: capacity})

    def unregister_replica(self, replica_id: str) -> None:
        """A replica is gone."""
        self._set_replicas({tag: limit for tag, limit in self._tokens.limits.items() if tag != replica_id})

    async def acquire(self, timeout_s: float | None = None) -> str | None:
        """Takes a token; to be given back with `release` when the call has ended.

        Args:
            timeout_s: how long to wait; None for `acquire_timeout_s`.

        Returns:
            The tag of the replica that the call is for; None when none had room in time.
        """
        self._acquires += 1
        if not self._waiting and (tag := self._tokens.take(time.monotonic(), self._rng)) is not None:
            return tag
        future = self._loop.create_future()
        self._waiting.append(future)
        self._most_waiting = max(self._most_waiting, len(self._waiting))
        try:
            return await asyncio.wait_for(future, self._acquire_timeout_s if timeout_s is None else timeout_s)
        except TimeoutError:
            self._timeouts += 1
            return None
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def release(self, replica_id: str) -> None:
        """Gives a token back."""
        self._releases += 1
        if self._tokens.give_back(replica_id):
            self._serve()

    def _serve(self) -> None:
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
            elif (tag := self._tokens.take(time.monotonic(), self._rng)) is not None:
                self._waiting.popleft().set_result(tag)
            else:
                return

    async def _reap(self, ttl_s: float) -> None:
        while True:
            await asyncio.sleep(ttl_s / 2)
            if count := self._tokens.expire(time.monotonic() - ttl_s):
                log.info("%d tokens were not given back within %g s, and are free again.", count, ttl_s)
                self._serve()

    def get_stats(self) -> CapacityQueueStats:
        """What it counts."""
        return CapacityQueueStats(
            queue_size=self._tokens.free,
            num_waiters=len(self._waiting),
            num_replicas=len(self._tokens.limits),
            total_capacity=sum(self._tokens.limits.values()),
            total_in_flight=sum(self._tokens.in_flight.values()),
            total_acquires=self._acquires,
            total_releases=self._releases,
            total_timeouts=self._timeouts,
            max_waiters_seen=self._most_waiting,
        )

    def get_queue_length(self) -> int:
        """Tokens that can be taken."""
        return self._tokens.free

    def get_num_waiters(self) -> int:
        """Callers that wait."""
        return len(self._waiting)

    def get_registered_replicas(self) -> list[str]:
        """The tags of the replicas."""
        return list(self._tokens.limits)

    def get_replica_in_flight(self) -> dict[str, tuple[int, int]]:
        """Tokens taken, and all there are, by the replica's tag."""
        return {tag: (taken, self._tokens.limits[tag]) for tag, taken in self._tokens.in_flight.items()}


CapacityQueue = as_actor_class(_CapacityQueue)
"""The class for `DeploymentActorConfig(actor_class=CapacityQueue, ...)`."""
