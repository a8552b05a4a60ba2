"""Target capacity: a percentage that scales replica counts while a cluster is being swapped for another.

Used by the controller for fixed counts and for the bounds of autoscaling.
"""

from __future__ import annotations

import math
from collections.abc import Set

from meshserve.core.autoscale import Bounds
from meshserve.core.gang_counts import most_whole_gangs, whole_gangs
from meshserve.model.declared import FULL, Capacity, CapacityDirection
from meshserve.model.options import AutoscalingOptions


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
    gang_size: int = 1,
) -> Bounds:
    """The bounds of autoscaling at a target capacity, in whole gangs.

    While capacity goes up, `initial_replicas` is the lower bound: the cluster that takes over must not begin from the
    load it does not have yet.
    """
    lower = options.min_replicas
    if direction is CapacityDirection.UP and options.initial_replicas is not None:
        lower = options.initial_replicas
    upper = most_whole_gangs(at_capacity(options.max_replicas, target_capacity), gang_size)
    return Bounds(min(whole_gangs(at_capacity(lower, target_capacity), gang_size), upper), upper)


def next_capacity(before: Capacity, known: Set[str], target: float | None, names: Set[str]) -> Capacity:
    """Capacity by a new configuration.

    Other applications than before begin small and grow; the same ones go where the new percentage is.

    Args:
        before: capacity so far.
        known: names of the applications so far.
        target: the new percentage; None for full size.
        names: names of the applications from now on.
    """
    if target is None:
        return FULL
    if known != names:
        return Capacity(target, CapacityDirection.UP)
    if target == before.target:
        return before
    grows = before.target is not None and target > before.target
    return Capacity(target, CapacityDirection.UP if grows else CapacityDirection.DOWN)
