"""`from meshserve.experimental.capacity_queue import CapacityQueue`. See docs/routing.md."""

from __future__ import annotations

from meshserve.user.capacity_queue import CapacityQueue, CapacityQueueStats

__all__ = ["CapacityQueue", "CapacityQueueStats"]
