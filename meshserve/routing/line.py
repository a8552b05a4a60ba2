"""The calls of a router that wait for a replica, in order of arrival within their priority.

Calls that wait for different replicas (of one model, or of one session) stand in groups, so that a call that nothing
suits does not hold up those behind it. A group is served in order; between groups, whoever arrived first is asked
first. One announcement of room asks the head of each group once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from meshserve.routing.flight import Flight, Stage


class Line:
    """Waiting calls. One that was taken or has ended is dropped when its turn comes."""

    __slots__ = ("_ended", "_groups", "_stored")

    def __init__(self) -> None:
        self._groups: dict[str, list[Flight]] = {}
        self._stored = 0
        self._ended = 0

    def add(self, flight: Flight, group: str) -> None:
        """Puts a call in its place."""
        heapq.heappush(self._groups.setdefault(group, []), flight)
        self._stored += 1

    def holds(self, group: str) -> bool:
        """Whether a call of that group waits."""
        return self._head(group) is not None

    def turns(self) -> Iterator[Flight]:
        """Each call whose turn it is. A call that is still waiting when it is asked for the next one was not
        served, and nobody else of its group is asked."""
        heads = [(head, group) for group in tuple(self._groups) if (head := self._head(group)) is not None]
        heapq.heapify(heads)
        while heads:
            flight, group = heads[0]
            yield flight
            head = None if flight.stage is Stage.WAITING else self._head(group)
            if head is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (head, group))

    def _head(self, group: str) -> Flight | None:
        """The first of a group that waits; drops those before it that do not."""
        members = self._groups.get(group)
        while members:
            if members[0].stage is Stage.WAITING:
                return members[0]
            gone = heapq.heappop(members)
            self._stored -= 1
            if gone.stage is Stage.DONE:
                self._ended -= 1
        self._groups.pop(group, None)
        return None

    def ended(self) -> None:
        """A waiting call was cancelled. Sweeps when most of what is kept is such."""
        self._ended += 1
        if self._ended > 64 and 2 * self._ended > self._stored:
            waiting = {
                group: [flight for flight in members if flight.stage is Stage.WAITING]
                for group, members in self._groups.items()
            }
            self._groups = {group: members for group, members in waiting.items() if members}
            for members in self._groups.values():
                heapq.heapify(members)
            self._stored, self._ended = sum(map(len, self._groups.values())), 0

    def clear(self) -> list[Flight]:
        """Takes out every call that waits, in order."""
        waiting = [flight for members in self._groups.values() for flight in members if flight.stage is Stage.WAITING]
        self._groups, self._stored, self._ended = {}, 0, 0
        return sorted(waiting)
