"""The paths that the ingress answers itself for load balancers and clients; those for operators are in `operations`."""

from __future__ import annotations

import json
from collections.abc import Mapping

from meshserve.proxy.applications import NOT_POPULATED, Applications
from meshserve.proxy.http_answers import Answer, Page, unavailable


class Builtin:
    """Answers `/-/healthz` and `/-/routes`.

    Args:
        applications: of this proxy.

    Attributes:
        pages: by path.
    """

    def __init__(self, applications: Applications) -> None:
        self._applications = applications
        self.pages: Mapping[str, Page] = {"/-/healthz": self.healthz, "/-/routes": self.routes}

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
        return Answer(200, json.dumps(routes, separators=(",", ":")).encode(), b"application/json")

    def _unready(self) -> str:
        """Why HTTP clients should go elsewhere; empty when they should not."""
        reason = self._applications.unready()
        return reason or ("" if self._applications.routed else NOT_POPULATED)
