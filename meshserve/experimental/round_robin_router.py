"""`from meshserve.experimental.round_robin_router import RoundRobinRouter`. See docs/routing.md."""

from __future__ import annotations

from meshserve.routing.shipped_routers import RoundRobinRouter

__all__ = ["RoundRobinRouter"]
