"""A world in which nothing is left to chance and nothing has an order of its own: whoever explores it decides.

What takes no time in particular is under way at once and may happen in any order. Only what is timed (a backoff, a
grace, a check of health) waits for time, and time passes in leaps, to the next instant at which something is due.
"""

from __future__ import annotations

import heapq
import math

from meshserve.core import actions as ac
from meshserve.core.fold import fold
from sim.rest import unsettled
from sim.steady import SteadyWorld
from sim.world import Happening


class ExploredWorld(SteadyWorld):
    """Moves on by one step at a time.

    Attributes:
        asked: how many times it was a question in this step whether something goes wrong.
        yes: which of these questions are answered so.
        acted: how many actions the plans of this step have had.
    """

    asked = 0
    yes: tuple[int, ...] = ()
    acted = 0

    def soon(self, mean_s: float = 0.5) -> float:
        """In no particular time."""
        return 0.0

    def on_grid(self, at: float) -> float:
        """On the instant."""
        return at

    def chance(self, probability: float) -> bool:
        """As was decided; nothing goes wrong else."""
        if not probability:
            return False
        self.asked += 1
        return self.asked - 1 in self.yes

    def look_at_nodes(self, action: ac.LookAtNodes) -> None:
        """Answered at once: it tells nothing new but where machines leave, and would double all that is under way."""
        self.seen = fold(self.seen, self._nodes_seen(), self.now)

    def ready(self) -> list[Happening]:
        """What may happen now, in the order in which it was begun."""
        return sorted(one for one in self.under_way if one[0] <= self.now)

    def next_at(self) -> float:
        """When something is due that is not now."""
        return min([self.plan.wake_at, *(one[0] for one in self.under_way if one[0] > self.now)])

    def is_at_rest(self) -> bool:
        """Whether everything that was set off has come to an end."""
        if self.plan.over:
            return not self.ready()
        ill = any(one.alive and (one.ill or one.strikes) for one in self.replicas.values())
        return not (self.under_way or self.plan.wake_at <= self.now or ill or unsettled(self))

    def happen(self, happenings: list[Happening]) -> None:
        """Some of what is under way happens, and then the controller has its turn."""
        self.under_way = [one for one in self.under_way if one not in happenings]
        heapq.heapify(self.under_way)
        for _, _, happens, arguments in happenings:
            happens(self, *arguments)
        self.take_turns()

    def wait(self) -> None:
        """Time passes until something is due."""
        at = self.next_at()
        assert at < math.inf, "nothing is under way, nobody waits for anything, and the mesh is not as it should be"
        self.now = max(self.now, at)
        if self.plan.wake_at <= self.now:
            self.turn()
        self.take_turns()

    def take_turns(self) -> None:
        """The controller hears of what there is."""
        while self.has_news():
            self.turn()

    def turn(self) -> None:
        """One turn, whose actions are counted."""
        super().turn()
        self.acted += len(self.plan.actions)
