"""How many replicas make whole gangs."""

from __future__ import annotations

import math


def whole_gangs(count: int, gang_size: int) -> int:
    """The least number of replicas, not below this one, that makes whole gangs."""
    return math.ceil(count / gang_size) * gang_size


def most_whole_gangs(count: int, gang_size: int) -> int:
    """The largest number of replicas, not above this one, that makes whole gangs; one gang if there may be any."""
    return max(count // gang_size, min(count, 1)) * gang_size
