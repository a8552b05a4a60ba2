"""A world in which nothing is left to chance."""

from __future__ import annotations

from sim.world import World


class SteadyWorld(World):
    """Everything takes as long as it takes on average, and nothing goes wrong by itself."""

    def soon(self, mean_s: float = 0.5) -> float:
        """No chance."""
        return mean_s

    def between(self, least_s: float, most_s: float) -> float:
        """The middle."""
        return (least_s + most_s) / 2

    def place(self, nodes: list[str]) -> str:
        """The emptiest machine."""
        taken = [replica.node_id for replica in self.alive()]
        return min(nodes, key=taken.count)

    def waking(self, wake_at: float) -> float:
        """On the instant: here a decision on time is told from one a little late."""
        return wake_at
