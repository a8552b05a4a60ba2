"""The last minutes of a node's figures, and what they say about now: rates over a few seconds, and their course.

Nothing is gathered while nobody looks. Who looks again after a while starts with an empty history: a rate over the
time in between would be nobody's question.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

from meshserve.core.rates import Rates, Tally, growth, rates, total
from meshserve.proxy.dashboard_figures import CallsKey, Figures, ReplicaKey

WINDOW_S = 10.0
"""Rates and quantiles are over the last so many seconds: short enough to be live, long enough not to flicker."""

FORGET_S = 30.0
"""A gap after which what was before is of no use."""

LENGTH = 60


class History:
    """See the module."""

    def __init__(self) -> None:
        self._figures: deque[Figures] = deque(maxlen=LENGTH)
        self.latest = Figures()
        self._older: Figures | None = None

    def add(self, figures: Figures) -> None:
        """Something newer."""
        if self._figures and figures.at - self.latest.at > FORGET_S:
            self._figures.clear()
        self._older = next((one for one in self._figures if one.at >= figures.at - WINDOW_S), None)
        self._figures.append(figures)
        self.latest = figures

    @property
    def window_s(self) -> float | None:
        """What rates are over; None before there are any."""
        return None if self._older is None else self.latest.at - self._older.at

    def of_replicas(self, keys: list[ReplicaKey]) -> Rates | None:
        """The rates of some replicas together; None before there are any."""
        if self._older is None or self.window_s is None:
            return None
        return rates(_grown(self._older, self.latest, keys), self.window_s)

    def of_http(self, application: str | None = None) -> Rates | None:
        """The rates of an application's HTTP requests, or of all; None before there are any."""
        if self._older is None or self.window_s is None:
            return None
        names = self.latest.http if application is None else (application,)
        empty = Tally()
        grown = (growth(self._older.http.get(one, empty), self.latest.http.get(one, empty)) for one in names)
        return rates(total(grown), self.window_s)

    def calls_per_s(self, keys: list[CallsKey]) -> float | None:
        """How many calls are made by some to others; None before that is known.

        A caller has no series for whom it has not called yet: if it was there, its first calls count from 0.
        """
        if self._older is None or not self.window_s:
            return None
        there = {"", *(tag for _, _, tag in self._older.replicas)}
        known = [key for key in keys if key in self.latest.calls and key[0] in there]
        grown = (self.latest.calls[key] - self._older.calls.get(key, 0.0) for key in known)
        return sum(max(one, 0.0) for one in grown) / self.window_s

    def cpu_share(self, key: ReplicaKey) -> float | None:
        """How much of one core a replica's process takes; None when that is not known."""
        if self._older is None or not self.window_s or key not in self._older.replicas:
            return None
        return max(self.latest.replicas[key].cpu_s - self._older.replicas[key].cpu_s, 0.0) / self.window_s

    def course(self, keys: list[ReplicaKey]) -> list[float]:
        """Calls per second of some replicas together, from look to look."""
        return [
            _grown(older, newer, keys).calls / (newer.at - older.at)
            for older, newer in pairwise(self._figures)
            if newer.at > older.at
        ]


def _grown(older: Figures, newer: Figures, keys: list[ReplicaKey]) -> Tally:
    """What was counted between; a replica that is new is counted from the second look on."""
    both = [key for key in keys if key in older.replicas and key in newer.replicas]
    return total(growth(older.replicas[key].tally, newer.replicas[key].tally) for key in both)
