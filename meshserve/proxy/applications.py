"""The applications that answer at this proxy, as the controller last said. Both ingresses look here, per request.

Lives on the I/O thread. A snapshot is replaced, never edited: a request keeps the application that it has found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from meshserve.core.routes import RouteMatcher
from meshserve.model.ids import DeploymentId
from meshserve.model.targets import ApplicationRoute, RouteTable
from meshserve.routing.service import Service

NOT_POPULATED = "Route table is not populated yet."
DRAINING = "This node is being drained."
NO_REPLICAS = "No replicas are available yet."


class Services(Protocol):
    """Where services and routes come from: `routing.directory.Directory`."""

    def service(self, deployment: DeploymentId) -> Service:
        """The stack for a deployment."""

    def watch_routes(self, on_change: Callable[[RouteTable], None]) -> None:
        """Calls back with every route table."""


class Applications:
    """The applications, and whether this proxy is well.

    Args:
        services: where services and routes come from.
        node_id: of this proxy.
        has_replicas: whether any replica of a deployment is known; the proxy of the head node does not ask, because a
            deployment that is scaled to zero is woken through it.
        refuses: whether calls of a deployment end at once, because it failed or was deleted; None when none do.

    Attributes:
        table: the snapshot in force; None before the first.
        routed: an application has, or has had, a route prefix; before that there is nothing to ask for over HTTP.
        told_to_drain: whether the controller has asked this proxy itself to drain.
    """

    def __init__(
        self,
        services: Services,
        node_id: str,
        has_replicas: Callable[[DeploymentId], bool] | None = None,
        refuses: Callable[[DeploymentId], bool] | None = None,
    ) -> None:
        self.table: RouteTable | None = None
        self.routed = False
        self._first_table = asyncio.Event()
        self.told_to_drain = False
        self._services = services
        self._node_id = node_id
        self._has_replicas = has_replicas
        self._refuses = refuses
        self._populated = False
        self._seen_replicas = has_replicas is None
        self._matcher = RouteMatcher()
        self._by_name: dict[str, ApplicationRoute] = {}
        self._ready: dict[str, tuple[ApplicationRoute, Service]] = {}
        self._on_change: list[Callable[[], None]] = []
        services.watch_routes(self._replace)

    def _replace(self, table: RouteTable) -> None:
        self.table = table
        self._first_table.set()
        self._populated = self._populated or bool(table.applications)
        self.routed = self.routed or any(route.route_prefix is not None for route in table.applications)
        self._matcher = RouteMatcher(table.applications)
        self._by_name = {route.app: route for route in table.applications}
        # Made now, so that the first request finds its replicas known.
        self._ready = {route.app: (route, self._services.service(route.ingress)) for route in table.applications}
        for on_change in self._on_change:
            on_change()

    async def wait_for_table(self) -> None:
        """Returns once there is a snapshot."""
        await self._first_table.wait()

    # -- finding -------------------------------------------------------------------------------------------------

    def match(self, path: str) -> ApplicationRoute | None:
        """The application with the longest prefix of a path."""
        return self._matcher.match(path)

    def by_name(self, app: str) -> ApplicationRoute | None:
        """The application of that name; also one without a route prefix."""
        return self._by_name.get(app)

    def all(self) -> tuple[ApplicationRoute, ...]:
        """All applications."""
        return self.table.applications if self.table is not None else ()

    def service(self, route: ApplicationRoute) -> Service:
        """The stack that leads to an application's ingress deployment."""
        of, service = self._ready.get(route.app, (None, None))
        if of is not route or service is None:  # it was replaced while the request waited for its body
            return self._services.service(route.ingress)
        return service

    def serves(self, route: ApplicationRoute) -> bool:
        """Whether an application takes calls; one that is scaled to zero does."""
        return self._refuses is None or not self._refuses(route.ingress)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Calls back at every change of the applications or of `draining`."""
        self._on_change.append(callback)

    # -- being well ----------------------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether load balancers should leave this proxy. It serves all the same."""
        return self.told_to_drain or (self.table is not None and self._node_id in self.table.draining_nodes)

    def drain(self, draining: bool) -> None:
        """Drains, or takes a drain back."""
        self.told_to_drain = draining
        for on_change in self._on_change:
            on_change()

    def unready(self) -> str:
        """Why this proxy should get no traffic; empty when it should."""
        if self.draining:
            return DRAINING
        if not self._populated:
            return NOT_POPULATED
        if not self._seen_replicas and self._has_replicas is not None:
            self._seen_replicas = any(self._has_replicas(route.ingress) for route in self.all())
        return "" if self._seen_replicas else NO_REPLICAS
