"""The replicas of one deployment as a router knows them, and the sessions to them.

A session is opened by the first call to its replica and closed when nobody has used it for `IDLE_S`; a replica that
drains or is no target any more keeps its session until the calls there are over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meshserve.model.targets import ReplicaTarget
from meshserve.routing.alarm import Alarm
from meshserve.routing.open_replicas import OpenReplicas
from meshserve.routing.replica import Replica
from meshserve.routing.session import Session

IDLE_S = 300.0
"""A session that had no call for so long is closed; a hundred callers times a thousand replicas cannot all be kept."""

SWEEP_S = 30.0
"""How often idle sessions are looked for, and so how much longer one may live."""


class Fleet:
    """Replicas and sessions.

    Args:
        open_replicas: kept current here.
        connect: opens a session to a replica.
        now: the monotonic clock.
    """

    def __init__(
        self, open_replicas: OpenReplicas, connect: Callable[[Replica], Session], now: Callable[[], float]
    ) -> None:
        self.open = open_replicas
        self._connect = connect
        self._now = now
        self._replicas: dict[str, Replica] = {}
        self._used: dict[Session, tuple[int, float]] = {}
        self._sweeping = Alarm(self._sweep)

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """Those that are targets now."""
        return tuple(self._replicas.values())

    def __bool__(self) -> bool:
        return bool(self._replicas)

    def update(self, targets: Sequence[ReplicaTarget]) -> None:
        """Takes over a new snapshot. A replica that is in both stays what it was."""
        wanted = {target.tag: target for target in targets}
        for tag in [tag for tag in self._replicas if tag not in wanted]:
            self._retire(self._replicas.pop(tag))
        for tag, target in wanted.items():
            replica = self._replicas.get(tag)
            if replica is None or replica.target.address != target.address:
                if replica is not None:
                    self._retire(replica)
                replica = self._replicas[tag] = Replica(target)
            replica.target = target
            replica.limit = target.max_ongoing_requests
            if replica.session is None:  # a session's messages are fresher than what the controller has gathered
                replica.models = frozenset(target.multiplexed_model_ids)
            self.open.refresh(replica)
        self.open.learn_zone(self._replicas.values())

    def _retire(self, replica: Replica) -> None:
        replica.retired = True
        self.open.refresh(replica)
        self.close_if_left(replica)

    def close_if_left(self, replica: Replica) -> None:
        """Closes the session of a replica that goes away, or is no target any more, once no call is there.

        A replica that drains waits for this: if it closed first, what is on its way to it would be lost.
        """
        if (replica.retired or replica.draining) and replica.session is not None and replica.session.idle:
            replica.session.close()

    def session(self, replica: Replica) -> Session:
        """The session to a replica, opened if there is none."""
        if replica.session is None:
            replica.session = self._connect(replica)
            self._sweeping.set(SWEEP_S)
        return replica.session

    def _sweep(self) -> None:
        """Closes sessions that nobody used; whether one was used shows in the number of calls it has begun."""
        now, used = self._now(), {}
        for replica in self._replicas.values():
            session = replica.session
            if session is None:
                continue
            calls, since = self._used.get(session, (-1, now))
            if calls != session.calls or not session.idle:
                since = now
            if now - since < IDLE_S:
                used[session] = (session.calls, since)
            else:
                replica.session = None  # before it has ended, so that nobody gives it a call any more
                session.close()
        self._used = used
        if used:
            self._sweeping.set(SWEEP_S)

    def close(self) -> None:
        """Closes every session."""
        self._sweeping.clear()
        for replica in self._replicas.values():
            if replica.session is not None:
                replica.session.close()
