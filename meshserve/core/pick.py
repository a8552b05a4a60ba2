"""Which replica gets the next call: the choices as plain functions over what the router sees.

They get only replicas that have room, as far as is known, and pick one; whoever cannot be served waits outside. The
base of all is drawing two at random and taking the better, which is close to the best of all at constant cost
(Mitzenmacher, "The power of two choices in randomized load balancing", 2001).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from random import Random

CLEARLY_SLOWER = math.log(2.0)
"""Two replicas whose averages differ by less count as equally fast; noise between healthy ones stays below."""

SICK = math.log(4.0)
"""A replica this much slower than the average of the others gets calls only when nothing else will do."""

TRY_AGAIN = 1 / 512
"""How often a slower replica is drawn as if it were not: seldom enough not to be seen at the 99th percentile, and the
way back for one that has recovered."""


class Paced(Protocol):
    """What the choices see of a replica.

    Attributes:
        slowness: see `core.pace`; 0 for as fast as usual.
    """

    slowness: float

    @property
    def load(self) -> int:
        """Calls in flight from here plus those last reported of others."""


P = TypeVar("P", bound=Paced)
T = TypeVar("T")


def draw_two(candidates: Sequence[T], rng: Random) -> tuple[T, T]:
    """Two different candidates at random, or the only one twice.

    Args:
        candidates: at least one.
    """
    n = len(candidates)
    if n == 1:
        return candidates[0], candidates[0]
    i = int(rng.random() * n)
    j = int(rng.random() * (n - 1))
    return candidates[i], candidates[j + 1 if j >= i else j]


def two_choices(candidates: Sequence[P], rng: Random) -> P:
    """The less loaded of two drawn at random, unless one is clearly slower: then load times squared latency decides.

    Squared, because a healthy replica with much to do is often as fast as an idle one; where load does slow it down,
    its answers show that. On the hot path: the drawing of `draw_two` is repeated here to spare a call.

    Args:
        candidates: at least one replica with room.
    """
    n = len(candidates)
    if n == 1:
        return candidates[0]
    # int(random() * n) is three times as fast as randrange and as even for any n that matters here.
    i = int(rng.random() * n)
    j = int(rng.random() * (n - 1))
    first, second = candidates[i], candidates[j + 1 if j >= i else j]
    gap = second.slowness - first.slowness
    if -CLEARLY_SLOWER < gap < CLEARLY_SLOWER or rng.random() < TRY_AGAIN:
        return second if second.load < first.load else first
    return second if math.log(second.load + 1) + 2 * gap < math.log(first.load + 1) else first


def cheaper(first: T, second: T, cost: Callable[[T], float]) -> T:
    """The one with the lower cost; a tie goes to the first."""
    return second if cost(second) < cost(first) else first


def is_sick(slowness: float, total_slowness: float, replicas: int) -> bool:
    """Whether a replica is so much slower than the others that calls had better wait for one of those.

    Args:
        slowness: of the replica.
        total_slowness: the sum over all replicas, with this one.
        replicas: how many those are; the only one there is is never sick.
    """
    if replicas < 2:
        return False
    return slowness - (total_slowness - slowness) / (replicas - 1) > SICK


def waits_for_better_s(usual: float, slowness: float) -> float:
    """How long a call waits for another replica before a sick one will do: twice as long as it would take there.

    A call that has waited for so long is at most half as late again by going there as it is already, and one that need
    not go there is not late at all (the break-even rule of renting or buying skis).

    Args:
        usual: the mean of the logarithms of seconds that such calls take.
        slowness: of the replica.
    """
    return 2.0 * math.exp(usual + slowness)


def cursor_pick(members: Sequence[T], start: int, has_room: Callable[[T], bool]) -> int:
    """The position of the first member with room from a position on, round and round; -1 when there is none."""
    n = len(members)
    for step in range(n):
        at = (start + step) % n
        if has_room(members[at]):
            return at
    return -1
