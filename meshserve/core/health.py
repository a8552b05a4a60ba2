"""When to check health, and when to stop believing in a process."""

from __future__ import annotations

import math
from zlib import crc32

from meshserve.core.seen import Health
from meshserve.model.replace import replace

STRIKES = 3
"""So many failures in a row mean unhealthy. Fewer would kill replicas that are only busy."""

_JITTER = 0.1
_GRID_S = 0.25
"""Checks fall on this grid, so that thousands of replicas wake the controller four times a second, not thousands."""


def next_check_at(health: Health, key: str, now: float, period_s: float) -> float:
    """When to check next: after a period, 10 % sooner or later.

    The jitter comes from `key` and the number of checks, so it needs no dice and differs between processes.
    """
    spread = crc32(f"{key}/{health.checks}".encode()) / 0xFFFFFFFF * 2 - 1
    return math.ceil((now + period_s * (1 + _JITTER * spread)) / _GRID_S) * _GRID_S


def begun(health: Health) -> Health:
    """A check was begun."""
    return replace(health, checking=True, checks=health.checks + 1)


def passed(health: Health, check_at: float) -> Health:
    """A check passed; the next is due at `check_at`."""
    return replace(health, checking=False, strikes=0, check_at=check_at)


def failed(health: Health, check_at: float) -> Health:
    """A check failed; the next is due at `check_at`."""
    return replace(health, checking=False, strikes=health.strikes + 1, check_at=check_at)
