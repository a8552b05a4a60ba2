"""A central count of the calls that replicas have: tokens, one for each call that a replica may take.

For `CapacityQueue`, which asks here which replica gets the next call. What several callers count each for
themselves is late by a message; what one counts for all of them is exact, at the price of asking it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


class Tokens:
    """The tokens of all replicas, by their tags."""

    def __init__(self) -> None:
        self.limits: dict[str, int] = {}
        self._taken: dict[str, deque[float]] = {}

    def set_replicas(self, limits: Mapping[str, int]) -> None:
        """These replicas are there, each with as many tokens; those that stay keep what is taken."""
        self.limits = dict(limits)
        self._taken = {tag: self._taken.get(tag, deque()) for tag in limits}

    def take(self, now: float, rng: Random) -> str | None:
        """Takes a token of the replica with the fewest calls, by chance among several; None when all are full."""
        open_ones = [tag for tag, limit in self.limits.items() if len(self._taken[tag]) < limit]
        if not open_ones:
            return None
        fewest = min(len(self._taken[tag]) for tag in open_ones)
        tag = rng.choice([tag for tag in open_ones if len(self._taken[tag]) == fewest])
        self._taken[tag].append(now)
        return tag

    def give_back(self, tag: str) -> bool:
        """Gives back the token that was taken first; whether such a replica is there."""
        if tag not in self._taken:
            return False
        if self._taken[tag]:
            self._taken[tag].popleft()
        return True

    def expire(self, before: float) -> int:
        """Gives back what was taken before that instant, by callers who may be gone; how many it were."""
        count = 0
        for taken in self._taken.values():
            while taken and taken[0] < before:
                taken.popleft()
                count += 1
        return count

    @property
    def in_flight(self) -> dict[str, int]:
        """Tokens taken of each replica."""
        return {tag: len(taken) for tag, taken in self._taken.items()}

    @property
    def free(self) -> int:
        """Tokens that can be taken."""
        return sum(max(limit - len(self._taken[tag]), 0) for tag, limit in self.limits.items())
