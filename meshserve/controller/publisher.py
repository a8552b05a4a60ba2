"""Snapshots on their way to watchers. A slow watcher gets the newest of each, not all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from meshserve.core.plan import Plan
from meshserve.model.control import Desired
from meshserve.model.ids import DeploymentId
from meshserve.model.targets import DeploymentTargets
from meshserve.v1 import watch_pb2
from meshserve.wire.targets import routes_to_proto, targets_to_proto


class Publisher:
    """Keeps the newest snapshots and tells subscriptions about them. Lives on the I/O thread.

    Args:
        desired: what is wanted at this instant, also when no plan has been made for it yet: a deployment that was just
            set must not be called unknown.
    """

    def __init__(self, desired: Callable[[], Desired]) -> None:
        self._desired = desired
        self._targets: dict[DeploymentId, watch_pb2.DeploymentTargets] = {}
        self._routes: watch_pb2.RouteTable | None = None
        self._version = (0, 0)
        self._subscriptions: set[Subscription] = set()

    def publish(self, plan: Plan) -> None:
        """Keeps what changed, and wakes those who watch it."""
        if not plan.seen.listed:
            return
        first = self._version == (0, 0)
        self._version = (plan.seen.epoch, plan.seen.number)
        for targets in plan.targets:
            self._targets[targets.deployment] = targets_to_proto(targets)
        for gone in self._targets.keys() - plan.desired.deployments.keys():
            del self._targets[gone]
        if plan.routes is not None:
            self._routes = routes_to_proto(plan.routes)
        changed = {targets.deployment for targets in plan.targets}
        for subscription in self._subscriptions if changed or plan.routes is not None or first else ():
            # With the first plan it is known, too, that what it does not mention does not exist.
            subscription.wake(None if first else changed, routes=plan.routes is not None)

    def snapshot(self, deployment: DeploymentId) -> watch_pb2.DeploymentTargets | None:
        """What there is to say about a deployment; None while nothing is."""
        if deployment in self._targets:
            return self._targets[deployment]
        if self._version == (0, 0) or deployment in self._desired().deployments:
            return None
        return targets_to_proto(DeploymentTargets(deployment, self._version, exists=False))

    @property
    def routes(self) -> watch_pb2.RouteTable | None:
        """The route table; None while there is none."""
        return self._routes

    def subscribe(self) -> Subscription:
        """A new subscription, to nothing yet; to be closed."""
        subscription = Subscription(self)
        self._subscriptions.add(subscription)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """Ends a subscription."""
        self._subscriptions.discard(subscription)


class Subscription:
    """What one watcher wants to know, and what of it has changed since it was last told."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._wanted: set[DeploymentId] = set()
        self._wants_routes = False
        self._changed: set[DeploymentId] = set()
        self._routes_changed = False
        self._woken = asyncio.Event()

    def want(self, deployments: Collection[DeploymentId], dropped: Collection[DeploymentId], routes: bool) -> None:
        """Adds and removes what is wanted; what is added is told at once, if there is anything to tell."""
        self._wanted.update(deployments)
        self._wanted.difference_update(dropped)
        self._changed.update(deployments)
        self._wants_routes |= routes
        self._routes_changed |= routes
        self._woken.set()

    def wake(self, changed: Collection[DeploymentId] | None, routes: bool) -> None:
        """Something was published; None for everything."""
        relevant = self._wanted if changed is None else self._wanted.intersection(changed)
        self._changed.update(relevant)
        self._routes_changed |= routes and self._wants_routes
        if relevant or self._routes_changed:
            self._woken.set()

    async def next(self) -> watch_pb2.WatchResponse:
        """Waits until there is something to tell, and returns all of it."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            changed, self._changed = self._changed & self._wanted, set()
            snapshots = [found for one in sorted(changed) if (found := self._publisher.snapshot(one)) is not None]
            routes, self._routes_changed = self._publisher.routes if self._routes_changed else None, False
            if snapshots or routes is not None:
                return watch_pb2.WatchResponse(deployments=snapshots, routes=routes)

    def close(self) -> None:
        """Ends it."""
        self._publisher.forget(self)
