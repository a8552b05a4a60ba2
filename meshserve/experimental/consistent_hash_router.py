"""`from meshserve.experimental.consistent_hash_router import ConsistentHashRouter`. See docs/routing.md."""

from __future__ import annotations

from meshserve.routing.shipped_routers import ConsistentHashRouter

__all__ = ["ConsistentHashRouter"]
