"""`from meshserve.experimental.capacity_queue_router import CapacityQueueRouter`. See docs/routing.md."""

from __future__ import annotations

from meshserve.routing.capacity_router import CapacityQueueRouter

__all__ = ["CapacityQueueRouter"]
