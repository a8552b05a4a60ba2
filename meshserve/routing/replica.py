"""A replica as one router sees it: what it was told, what it has in flight there, and whether there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshserve.model.targets import ReplicaTarget

if TYPE_CHECKING:
    from meshserve.routing.session import Session


class Replica:
    """One replica in a router.

    Attributes:
        target: as published.
        session: the stream to it, opened on the first call and closed when idle for long.
        in_flight: calls of this router assigned to it and not over.
        others: calls of other callers there, as last reported.
        limit: the most it accepts at a time, as last published or reported.
        draining: it has said that it is going away.
        closed: left alone for a while, because the connection to it broke.
        retired: no target any more; calls in flight there end in peace.
        backoffs: how often in a row the connection broke.
        models: multiplexed models it holds, as last reported.
        slowness: of its answers, and how many there were; see `core.pace`.
        position: in the list of open replicas that it is in, and which one that is; -1 when it is in none.
    """

    __slots__ = (
        "answers",
        "backoffs",
        "closed",
        "draining",
        "in_flight",
        "limit",
        "models",
        "others",
        "position",
        "retired",
        "session",
        "slowness",
        "target",
        "tier",
    )

    def __init__(self, target: ReplicaTarget) -> None:
        self.target = target
        self.session: Session | None = None
        self.in_flight = 0
        self.others = 0
        self.limit = target.max_ongoing_requests
        self.draining = False
        self.closed = False
        self.retired = False
        self.backoffs = 0
        self.models: frozenset[str] = frozenset(target.multiplexed_model_ids)
        self.slowness = 0.0
        self.answers = 0
        self.position = -1
        self.tier = 0

    @property
    def load(self) -> int:
        """Calls there, as far as is known here."""
        return self.in_flight + self.others

    @property
    def has_room(self) -> bool:
        """Whether a call may be tried there."""
        return not (self.closed or self.draining or self.retired) and self.in_flight + self.others < self.limit

    @property
    def usable(self) -> bool:
        """Whether it is there at all, full or not."""
        return not (self.closed or self.draining or self.retired)

    def __repr__(self) -> str:
        return f"<Replica {self.target.tag} {self.in_flight}+{self.others}/{self.limit}>"
