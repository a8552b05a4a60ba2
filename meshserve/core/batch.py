"""When a batch closes and who is in it: a queue that decides and does nothing else.

Members join in order of arrival. A batch is due when nothing more fits into it, or when its first member has waited for
`batch_wait_timeout_s`. It closes when it is *taken*, not when it is due: while all permits to run batches are in use,
a batch that is due keeps growing up to its limit, so that load makes batches larger instead of the queue longer.

Order is kept even when sizes differ: a member that does not fit closes the batch and is the first of the next one. (To
put it at the back instead lets small members overtake a large one for ever.)
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is due.

    Attributes:
        max_batch_size: the most members, or the largest size by the function that measures batches.
        batch_wait_timeout_s: how long the first member waits at most, given that a batch may run.
    """

    max_batch_size: int = 10
    batch_wait_timeout_s: float = 0.01


class BatchQueue(Generic[M]):
    """Members that wait to be in a batch; a member is hashable and joins once.

    Args:
        limits: asked when a batch begins to form; a change in between is for the next one.
        size_of: measures members together; one member alone always fits.
    """

    __slots__ = ("_forming", "_full", "_later", "_limits", "_read_limits", "_size_of")

    def __init__(self, limits: Callable[[], BatchLimits], size_of: Callable[[Collection[M]], float] = len) -> None:
        self._read_limits = limits
        self._size_of = size_of
        self._limits = limits()
        self._forming: dict[M, float] = {}
        self._later: OrderedDict[M, float] = OrderedDict()
        self._full = False

    def __len__(self) -> int:
        return len(self._forming) + len(self._later)

    @property
    def full(self) -> bool:
        """Whether nothing more fits into the batch that forms."""
        return self._full

    @property
    def due_at(self) -> float | None:
        """When the batch that forms is due: the past when it is full, None when nobody waits."""
        if not self._forming:
            return None
        if self._full:
            return -math.inf
        return next(iter(self._forming.values())) + self._limits.batch_wait_timeout_s

    def add(self, member: M, now: float) -> None:
        """Lets a member join; it arrived now."""
        if self._full:
            self._later[member] = now
            return
        if not self._forming:
            self._limits = self._read_limits()
        self._join(member, now)

    def remove(self, member: M) -> bool:
        """Takes a member out that no longer wants its result; False when it is not here (any more)."""
        if self._later.pop(member, None) is not None:
            return True
        if self._forming.pop(member, None) is None:
            return False
        self._full = False
        self._refill()
        return True

    def take(self, now: float) -> list[M]:
        """Closes the batch that is due at `now` and returns its members in order of arrival; empty when none is due."""
        due_at = self.due_at
        if due_at is None or due_at > now:
            return []
        batch = list(self._forming)
        self._forming.clear()
        self._full = False
        self._limits = self._read_limits()
        self._refill()
        return batch

    def _refill(self) -> None:
        while self._later and not self._full:
            self._join(*self._later.popitem(last=False))

    def _join(self, member: M, arrived_at: float) -> None:
        self._forming[member] = arrived_at
        size = self._size_of(self._forming)
        self._full = size >= self._limits.max_batch_size
        if size > self._limits.max_batch_size and len(self._forming) > 1:
            del self._forming[member]
            self._later[member] = arrived_at
            self._later.move_to_end(member, last=False)
