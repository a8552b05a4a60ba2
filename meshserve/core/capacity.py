"""Target capacity: a percentage that scales replica counts while a cluster is being swapped for another.

Used by the controller for fixed counts and for the bounds of autoscaling.
"""

from __future__ import annotations

import math
from enum import IntEnum

from meshserve.core.autoscale import Bounds
from meshserve.model.options import AutoscalingOptions


class CapacityDirection(IntEnum):
    """Where target capacity is heading, compared with the configuration before."""

    DOWN = -1
    NONE = 0
    UP = 1


def at_capacity(count: int, target_capacity: float | None) -> int:
    """A replica count at a target capacity in percent: rounded half up, and at least 1 unless one of them is 0."""
    if target_capacity is None or count == 0:
        return count
    if target_capacity == 0:
        return 0
    return max(1, math.floor(count * target_capacity / 100 + 0.5))


def scaling_bounds(
    options: AutoscalingOptions,
    target_capacity: float | None = None,
    direction: CapacityDirection = CapacityDirection.NONE,
) -> Bounds:
    """The bounds of autoscaling at a target capacity.

    While capacity goes up, `initial_replicas` is the lower bound: the cluster that takes over must not begin from the
    load it does not have yet.
    """
    lower = options.min_replicas
    if direction is CapacityDirection.UP and options.initial_replicas is not None:
        lower = options.initial_replicas
    return Bounds(at_capacity(lower, target_capacity), at_capacity(options.max_replicas, target_capacity))
