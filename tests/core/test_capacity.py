"""Target capacity."""

from __future__ import annotations

import pytest

from meshserve.core.autoscale import Bounds
from meshserve.core.capacity import CapacityDirection, at_capacity, scaling_bounds
from meshserve.model.options import AutoscalingOptions


@pytest.mark.parametrize(
    ("count", "capacity", "expected"),
    [(10, None, 10), (10, 100, 10), (10, 50, 5), (10, 0, 0), (0, 50, 0), (1, 1, 1), (5, 50, 3), (3, 50, 2), (7, 10, 1)],
)
def test_counts_are_rounded_half_up_and_at_least_one(count: int, capacity: float | None, expected: int) -> None:
    assert at_capacity(count, capacity) == expected


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        (CapacityDirection.NONE, Bounds(1, 10)),
        (CapacityDirection.DOWN, Bounds(1, 10)),
        (CapacityDirection.UP, Bounds(3, 10)),
    ],
)
def test_while_capacity_goes_up_initial_replicas_are_the_least(direction: CapacityDirection, expected: Bounds) -> None:
    options = AutoscalingOptions(min_replicas=2, initial_replicas=6, max_replicas=20)
    assert scaling_bounds(options, 50, direction) == expected
