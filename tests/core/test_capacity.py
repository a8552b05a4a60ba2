"""Target capacity."""

from __future__ import annotations

import pytest

from meshserve.core.autoscale import Bounds
from meshserve.core.capacity import at_capacity, next_capacity, scaling_bounds
from meshserve.model.declared import FULL, Capacity, CapacityDirection
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


UP, DOWN = CapacityDirection.UP, CapacityDirection.DOWN


@pytest.mark.parametrize(
    ("before", "target", "same_names", "after"),
    [
        (FULL, None, True, FULL),
        (FULL, 50, True, Capacity(50, DOWN)),
        (FULL, 50, False, Capacity(50, UP)),
        (Capacity(20, UP), 60, True, Capacity(60, UP)),
        (Capacity(20, UP), 20, True, Capacity(20, UP)),
        (Capacity(60, UP), 20, True, Capacity(20, DOWN)),
        (Capacity(20, DOWN), 60, True, Capacity(60, UP)),
        (Capacity(20, UP), None, True, FULL),
        (Capacity(20, DOWN), 20, False, Capacity(20, UP)),
    ],
)
def test_capacity_goes_where_the_next_file_sends_it(before, target, same_names, after):
    assert next_capacity(before, {"app"}, target, {"app"} if same_names else {"other"}) == after
