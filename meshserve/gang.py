"""The gang of a replica: what `get_replica_context().gang_context` is."""

from __future__ import annotations

from meshserve.model.gang import GangContext

__all__ = ["GangContext"]
