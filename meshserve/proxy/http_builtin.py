"""The paths that the ingress answers itself, for load balancers, people and Prometheus."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from meshserve.proxy.applications import NOT_POPULATED, Applications
from meshserve.proxy.http_answers import Answer, unavailable
from meshserve.proxy.metrics_pages import MetricsPages


class Builtin:
    """Answers `/-/healthz`, `/-/routes`, `/metrics` and `/-/metrics/targets`.

    Args:
        applications: of this proxy.
        metrics: answers Prometheus.
    """

    def __init__(self, applications: Applications, metrics: MetricsPages) -> None:
        self._applications = applications
        self.pages: dict[str, Callable[[], Awaitable[Answer]]] = {
            "/-/healthz": self.healthz,
            "/-/routes": self.routes,
            "/metrics": metrics.metrics,
            "/-/metrics/targets": metrics.targets,
        }

    async def healthz(self) -> Answer:
        """Whether this proxy should get traffic."""
        reason = self._unready()
        return unavailable(reason) if reason else Answer(200, b"success")

    async def routes(self) -> Answer:
        """Route prefixes and the applications behind them."""
        reason = self._unready()
        if reason:
            return unavailable(reason)
        routes = {route.route_prefix: route.app for route in self._applications.all() if route.route_prefix is not None}
        return Answer(200, json.dumps(routes).encode(), b"application/json")

    def _unready(self) -> str:
        """Why HTTP clients should go elsewhere; empty when they should not."""
        reason = self._applications.unready()
        return reason or ("" if self._applications.routed else NOT_POPULATED)
