"""The bridge between a router and a user-written request router.

User code never runs on the I/O thread: a request router that computes for a millisecond, or blocks, would hold up every
stream of the process. All request routers of a process share one other thread with an event loop
(`routing.user_host`); a call crosses to it and back, at some 0.1 ms, and stands in line meanwhile like any other that
waits. So it can be cancelled and its deadline holds, whatever the user's code does. What that raises fails the call it
was asked about and is logged.

Decisions are about ranks, not about room: the ranks of a call are kept until it has a replica, and a call whose
replicas are all full takes the first of them that has room again. After a pause, longer each time, its router
is asked anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from itertools import count
from random import Random
from typing import Protocol

from meshserve.model.failure import Failure
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.model.options import RouterOptions
from meshserve.routing.alarm import Alarm
from meshserve.routing.choosing import Observer
from meshserve.routing.flight import Flight, Stage
from meshserve.routing.open_replicas import OpenReplicas
from meshserve.routing.replica import Replica
from meshserve.routing.user_host import Ranks, UserRouterHost
from meshserve.routing.user_router import ReplicaQueueLengthInfo
from meshserve.routing.user_view import PendingRequest, RunningReplica

MOST_DECISIONS = 50
"""Decisions under way at a time; further calls are asked about as these are made."""

SWEEP_S = 0.5
"""How often decisions for calls that have ended are called off."""


class LineOwner(Protocol):
    """What the bridge needs of its router."""

    deployment: DeploymentId

    def pump(self) -> None:
        """Serves the line."""

    def cancel(self, flight: Flight, failure: Failure) -> None:
        """Fails a call."""

    def break_down(self, failure: Failure) -> None:
        """Fails all calls."""


class Decision:
    """What the user's router said, once it has.

    Attributes:
        ranks: None until then.
    """

    __slots__ = ("number", "ranks")

    def __init__(self, number: int) -> None:
        self.number = number
        self.ranks: Ranks | None = None


class Ask:
    """One waiting call, with the decision for it. With a FIFO router calls exchange their decisions."""

    __slots__ = ("again", "decision", "flight", "pending")

    def __init__(self, flight: Flight, pending: PendingRequest, ask_again: Callable[[Ask], None]) -> None:
        self.flight = flight
        self.pending = pending
        self.decision: Decision | None = None
        self.again = Alarm(lambda: ask_again(self))


class UserChooser:
    """See `routing.choosing.Chooser`.

    Args:
        options: name the user's router.
        owner: the router whose calls are placed.
        open_replicas: those with room; kept by the router.
        now: the monotonic clock.
        rng: chance.
    """

    reconsider_s = 0.5

    def __init__(
        self,
        options: RouterOptions,
        owner: LineOwner,
        open_replicas: OpenReplicas,
        now: Callable[[], float],
        rng: Random,
    ) -> None:
        self._options = options
        self._owner = owner
        self._open = open_replicas
        self._now = now
        self._rng = rng
        self._asks: dict[int, Ask] = {}
        self._numbers = count(1)
        self._deciding: set[int] = set()
        self._views: dict[Replica, RunningReplica] = {}
        self._fifo = False
        self._hooks: frozenset[str] | None = None
        self._sweeping = Alarm(self._sweep)
        self._closed = False
        self.observer: Observer | None = self
        self._host = UserRouterHost(options, owner.deployment, open_replicas, self._loaded, self._broken)

    def _loaded(self, fifo: bool, hooks: frozenset[str]) -> None:
        self._fifo, self._hooks = fifo, hooks
        self._owner.pump()

    def _broken(self, failure: Failure) -> None:
        if not self._closed:
            self._owner.break_down(failure)

    # -- Chooser -------------------------------------------------------------------------------------------------

    def group(self, flight: Flight) -> str:
        """See `Chooser`: every call is asked about by itself."""
        return str(flight.arrival)

    def choose(self, flight: Flight, waited_s: float) -> Replica | None:
        """See `Chooser`."""
        if self._hooks is None or not self._views:
            return None
        ask = self._asks.get(flight.arrival)
        if ask is None:
            ask = self._asks[flight.arrival] = Ask(flight, self._pending(flight), self._decide)
            self._sweeping.set(SWEEP_S)
        if ask.decision is None:
            self._decide(ask)
        if not self._open:
            return None
        for other in self._asks.values() if self._fifo else (ask,):
            replica = self._place(other)
            if replica is not None:
                ask.decision, other.decision = other.decision, ask.decision
                return replica
        return None

    def _pending(self, flight: Flight) -> PendingRequest:
        return PendingRequest(flight.call, self._internal_id(flight), self._now())

    def _internal_id(self, flight: Flight) -> str:
        return f"{id(self):x}-{flight.arrival}"

    def _place(self, ask: Ask) -> Replica | None:
        """The best replica of a call's ranks that has room."""
        if ask.decision is None or ask.decision.ranks is None:
            return None
        for group in ask.decision.ranks:
            with_room = [replica for replica in group if replica.has_room]
            if with_room:
                return min(with_room, key=lambda replica: (replica.load, self._rng.random()))
        self._ask_again(ask)
        return None

    def _decide(self, ask: Ask) -> None:
        """Has the user's router decide, unless it has enough to do."""
        if len(self._deciding) < MOST_DECISIONS:
            ask.decision = decision = Decision(next(self._numbers))
            self._deciding.add(decision.number)
            self._host.decide(decision.number, ask.pending, partial(self._told, decision))

    def _told(self, decision: Decision, ranks: Ranks, failure: Failure | None) -> None:
        self._deciding.discard(decision.number)
        decision.ranks = ranks
        if failure is not None:
            for ask in tuple(self._asks.values()):
                if ask.decision is decision:
                    del self._asks[ask.flight.arrival]
                    self._owner.cancel(ask.flight, failure)
        self._owner.pump()

    def _ask_again(self, ask: Ask) -> None:
        """After a pause; the first time at once."""
        if ask.again.is_set:
            return
        options, context = self._options, ask.pending.routing_context
        pause_s = 0.0
        if context.attempts:
            pause_s = options.initial_backoff_s * options.backoff_multiplier ** (context.attempts - 1)
        context.attempts += 1
        ask.again.set(min(pause_s, options.max_backoff_s))

    def _sweep(self) -> None:
        """Forgets calls that have ended while they waited."""
        for arrival, ask in tuple(self._asks.items()):
            if ask.flight.stage is not Stage.WAITING:
                del self._asks[arrival]
                self._end(ask)
                self._tell("on_request_cancelled", self._internal_id(ask.flight))
        if self._asks:
            self._sweeping.set(SWEEP_S)

    def _end(self, ask: Ask) -> None:
        ask.again.clear()
        if ask.decision is not None and ask.decision.number in self._deciding:
            self._host.call_off(ask.decision.number)

    def update(self, replicas: Collection[Replica]) -> None:
        """See `Chooser`."""
        deployment = self._owner.deployment
        for replica in self._views.keys() - set(replicas):
            if replica.closed:
                self._tell("on_replica_actor_died", self._views[replica].replica_id)
        self._views = {replica: self._views.get(replica) or RunningReplica(replica, deployment) for replica in replicas}
        self._host.update(list(self._views.values()))

    def models_changed(self, replica: Replica) -> None:
        """See `Chooser`; the user's router looks at the replica itself."""

    def answered(self, replica: Replica, flight: Flight, latency_s: float) -> None:
        """See `Chooser`."""
        self._tell_load(replica, accepted=True)

    def refused(self, replica: Replica, flight: Flight) -> None:
        """See `Chooser`."""
        self._tell_load(replica, accepted=False)

    def _tell_load(self, replica: Replica, accepted: bool) -> None:
        if self._hooks is not None and "on_new_queue_len_info" in self._hooks:
            info = ReplicaQueueLengthInfo(accepted, replica.load)
            self._host.tell("on_new_queue_len_info", self._id(replica), info)

    def assigned(self, replica: Replica, flight: Flight) -> None:
        """See `routing.choosing.Observer`."""
        ask = self._asks.pop(flight.arrival, None)
        if ask is not None:  # none for a broadcast or a call with a reservation, which nobody had to place
            self._end(ask)
            self._tell("on_request_routed", ask.pending, self._id(replica), None)

    def over(self, replica: Replica, flight: Flight) -> None:
        """See `routing.choosing.Observer`."""
        if not flight.pinned:
            self._tell("on_request_completed", self._id(replica), self._internal_id(flight))

    def lost(self, replica: Replica) -> None:
        """See `routing.choosing.Observer`."""
        self._tell("on_replica_actor_unavailable", self._id(replica))

    def _tell(self, hook: str, *args: object) -> None:
        if self._hooks is not None and hook in self._hooks:
            self._host.tell(hook, *args)

    def _id(self, replica: Replica) -> ReplicaId:
        return ReplicaId(self._owner.deployment, replica.target.tag)

    def close(self) -> None:
        """See `Chooser`."""
        self._closed = True
        self._sweeping.clear()
        for ask in self._asks.values():
            self._end(ask)
        self._asks.clear()
