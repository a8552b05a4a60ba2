"""What a session tells the router about its replica."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from meshserve.core.pace import CONDEMNED
from meshserve.model.failure import Failure
from meshserve.routing.flight import Flight
from meshserve.routing.replica import Replica
from meshserve.v1 import replica_pb2

if TYPE_CHECKING:
    from meshserve.routing.router import Router
    from meshserve.routing.session import Session


BUSY = 8
"""Calls in flight from which a replica is busy."""


class Link:
    """One session's `routing.session.SessionOwner`.

    Attributes:
        session: set once it is made.
    """

    __slots__ = ("_replica", "_router", "session")

    def __init__(self, router: Router, replica: Replica) -> None:
        self._router = router
        self._replica = replica
        self.session: Session | None = None

    def on_load(self, load: replica_pb2.Load) -> None:
        """Takes the replica's word for its load."""
        replica = self._replica
        replica.backoffs = 0
        replica.limit = load.limit
        # What we have in flight and it has not got yet is not in its figure, what we gave up and it still runs is.
        own, in_flight = load.own, replica.in_flight
        replica.others = others = load.ongoing - (own if own < in_flight else in_flight)
        router = self._router
        if load.draining:
            self._leave()
        if load.models_changed:
            replica.models = frozenset(load.multiplexed_model_ids)
            if not replica.retired:
                router.chooser.models_changed(replica)
        if router.queued or replica.has_room is (replica.position < 0):
            router.room_changed(replica)
        if others > 0 and not replica.in_flight:
            router.doubt_later()

    def _leave(self) -> None:
        """The replica goes away: nothing more is sent there, and its session is closed once nothing is in flight."""
        assert self.session is not None
        self._replica.draining = True
        for flight in self.session.take_back():
            self.on_rejected(flight, None)
        self._router.fleet.close_if_left(self._replica)

    def on_rejected(self, flight: Flight, failure: Failure | None) -> None:
        """Puts the call back in line, or fails it."""
        replica, router = self._replica, self._router
        replica.in_flight -= 1
        router.running -= 1
        if router.chooser.observer is not None:
            router.chooser.observer.over(replica, flight)
        if failure is not None:
            flight.finish(None, failure)
            return
        flight.rejections += 1
        router.metrics.rejections += 1
        router.chooser.refused(replica, flight)
        # The load that comes with this message says that the replica is full; until it is read,
        # no call must be sent there again.
        replica.others = replica.limit
        router.fleet.open.refresh(replica)
        router.doubt_later()
        router.put_back(flight)

    def on_answered(self, flight: Flight) -> None:
        """Times a call that has its result or its first item; one in four of a busy healthy replica will do."""
        replica, sent_at = self._replica, flight.sent_at
        flight.sent_at = 0.0
        if flight.arrival & 3 and replica.in_flight >= BUSY and replica.slowness < CONDEMNED:
            return
        router = self._router
        router.chooser.answered(replica, flight, router.now() - sent_at)

    def on_over(self, flight: Flight) -> None:
        """Frees the call's slot."""
        replica, router = self._replica, self._router
        replica.in_flight -= 1
        router.running -= 1
        if router.chooser.observer is not None:
            router.chooser.observer.over(replica, flight)
        if router.queued or replica.position < 0:
            router.room_changed(replica)
        if replica.retired or replica.draining:
            router.fleet.close_if_left(replica)

    def on_lost(self, flight: Flight) -> None:
        """A call has ended with the session; its slot is freed with all others."""
        if self._router.chooser.observer is not None:
            self._router.chooser.observer.over(self._replica, flight)

    def on_closed(self, unsent: list[Flight], reason: str) -> None:
        """Leaves the replica alone for a while, sends its calls elsewhere."""
        replica, router = self._replica, self._router
        if replica.session is not self.session:
            return  # it was idle and is not used any more; nothing was in it
        router.running -= replica.in_flight
        replica.session, replica.in_flight, replica.others = None, 0, 0
        if not replica.retired:
            replica.closed = True
            asyncio.get_running_loop().call_later(router.backoff_s(replica), router.reopen, replica)
            if router.chooser.observer is not None:
                router.chooser.observer.lost(replica)
        router.fleet.open.refresh(replica)
        for flight in unsent:
            self.on_lost(flight)
            router.put_back(flight)
        router.room_changed(replica)
