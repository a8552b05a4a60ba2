"""How a router finds a replica for a call: the protocols, and what all built-in policies have in common.

A `Chooser` is asked about one call at a time, with how long it has waited, and says which replica with room gets it, or
that the call had better wait. It decides from what is known here and never blocks; it is asked again whenever anything
about the replicas changes. `ModelAware` makes a chooser of a `Policy`; user-written routers are another one
(`routing.user_chooser`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import Protocol

from meshserve.routing.flight import Flight
from meshserve.routing.models import ModelIndex, home
from meshserve.routing.open_replicas import OpenReplicas
from meshserve.routing.replica import Replica

MATCHING_WINDOW_S = (1.0, 2.0)
"""How long a call waits at most for a replica that suits its model; drawn at random, so that routers do not all give
up at once."""


class Chooser(Protocol):
    """What a router asks.

    Attributes:
        reconsider_s: after how long a call that declined to go where there is room is to be asked again.
        observer: to be told where calls go, or None.
    """

    reconsider_s: float
    observer: Observer | None

    def group(self, flight: Flight) -> str:
        """Which calls wait for the same replicas as this one."""

    def choose(self, flight: Flight, waited_s: float) -> Replica | None:
        """The replica that gets a call, or None to have it wait.

        Args:
            waited_s: how long it has waited; infinite for a call that is refused unless it goes anywhere now.
        """

    def update(self, replicas: Collection[Replica]) -> None:
        """These are the replicas now."""

    def models_changed(self, replica: Replica) -> None:
        """A replica holds other models than before."""

    def answered(self, replica: Replica, flight: Flight, latency_s: float) -> None:
        """A call had its result, or its first item, so long after it was sent; not told of every call."""

    def refused(self, replica: Replica, flight: Flight) -> None:
        """A replica was full."""

    def close(self) -> None:
        """It is not asked any more."""


class Observer(Protocol):
    """Told where every call goes, for choosers that keep books of their own."""

    def assigned(self, replica: Replica, flight: Flight) -> None:
        """A call goes to a replica."""

    def over(self, replica: Replica, flight: Flight) -> None:
        """A call has left a replica."""

    def lost(self, replica: Replica) -> None:
        """The connection to a replica broke."""


class Policy(Protocol):
    """One way to pick; see `routing.policies`.

    Attributes:
        reconsider_s: see `Chooser`.
    """

    reconsider_s: float

    def group(self, flight: Flight) -> str:
        """See `Chooser`."""

    def pick(self, flight: Flight, open_replicas: OpenReplicas, waited_s: float) -> Replica | None:
        """One of all replicas with room, or None to wait for a better one."""

    def pick_among(self, flight: Flight, candidates: Sequence[Replica]) -> Replica:
        """One of some replicas; there is at least one, and all have room."""

    def update(self, replicas: Collection[Replica]) -> None:
        """See `Chooser`."""

    def answered(self, replica: Replica, flight: Flight, latency_s: float) -> None:
        """See `Chooser`."""

    def refused(self, replica: Replica) -> None:
        """See `Chooser`."""


class ModelAware:
    """A policy, for calls with and without a model.

    A call for a model goes to replicas that hold it, else to its home among those with the fewest models, which then
    loads it; if none of those has room it waits for one, at most for the window; then it goes wherever there is room.

    Args:
        policy: picks among the replicas that suit.
        open_replicas: those with room; kept by the router.
        now: the monotonic clock.
        rng: chance.
    """

    def __init__(self, policy: Policy, open_replicas: OpenReplicas, now: Callable[[], float], rng: Random) -> None:
        self._policy = policy
        self._open = open_replicas
        self._window_s = rng.uniform(*MATCHING_WINDOW_S)
        self._models = ModelIndex(now, self._window_s)
        self.observer: Observer | None = None
        self.reconsider_s = policy.reconsider_s
        self.answered = policy.answered

    def group(self, flight: Flight) -> str:
        """See `Chooser`."""
        model = flight.call.context.multiplexed_model_id
        return f"model:{model}" if model else self._policy.group(flight)

    def choose(self, flight: Flight, waited_s: float) -> Replica | None:
        """See `Chooser`."""
        model = flight.call.context.multiplexed_model_id
        if not model:
            return self._policy.pick(flight, self._open, waited_s)
        holders = [replica for replica in self._models.holders(model) if replica.has_room]
        if holders:
            return self._policy.pick_among(flight, holders)
        if not self._open:
            return None
        if waited_s < self._window_s:
            suited = [replica for replica in self._models.emptiest() if replica.has_room]
            chosen = home(model, suited) if suited else None
        else:
            chosen = self._policy.pick(flight, self._open, waited_s)
        if chosen is not None:
            self._models.expect(model, chosen)
        return chosen

    def update(self, replicas: Collection[Replica]) -> None:
        """See `Chooser`."""
        self._models.update(replicas)
        self._policy.update(replicas)

    def models_changed(self, replica: Replica) -> None:
        """See `Chooser`."""
        self._models.changed(replica)

    def refused(self, replica: Replica, flight: Flight) -> None:
        """See `Chooser`."""
        self._policy.refused(replica)

    def close(self) -> None:
        """See `Chooser`."""
