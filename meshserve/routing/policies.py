"""The built-in policies, and the names they are chosen by (`request_router_config.request_router_class`).

Each picks among replicas that have room and is told what became of the calls. Adding one is a class here and a line in
`POLICIES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random
from typing import Any

from meshserve.core import pick
from meshserve.core.ewma import Ewma, cost, observe, observe_refusal
from meshserve.core.hashing import FALLBACKS, VIRTUAL_NODES, Ring, build_ring, hash_text, successors
from meshserve.core.pace import SHORTEST_S, fold_slowness, fold_usual, slowness_of
from meshserve.routing.choosing import Policy
from meshserve.routing.flight import Flight
from meshserve.routing.open_replicas import OpenReplicas
from meshserve.routing.replica import Replica

MOST_METHODS = 64
"""Methods whose usual latency is kept apart; a function answers to any name, and names must not fill memory."""

SUSPICIOUS = pick.SICK / 2
"""A replica that is less slow than this is not sick, whatever the others are."""

LOG_SHORTEST = math.log(SHORTEST_S)

MOST_CURSORS = 1024
"""Models that have a cursor of their own, for the same reason."""


class TwoChoices:
    """The default: of two replicas drawn at random the less loaded one, with an eye on sick ones.

    A replica that answers clearly slower than the other one drawn is taken only if calls would still be done sooner
    there, and one that is several times slower than all others gets a call only after that has waited for a
    better one for as long as is worth it (`core.pick`). Replicas of this node are preferred while they have room, then
    those of its zone.

    Args:
        now: the monotonic clock.
        rng: chance.
    """

    reconsider_s = 0.02

    def __init__(self, now: Callable[[], float], rng: Random) -> None:
        self._rng = rng
        self._usual: dict[str, tuple[float, int]] = {}
        self._replicas = 0
        self._slowness = 0.0

    def group(self, flight: Flight) -> str:
        """See `Policy`."""
        return ""

    def pick(self, flight: Flight, open_replicas: OpenReplicas, waited_s: float) -> Replica | None:
        """See `Policy`."""
        for candidates in open_replicas.tiers:
            if candidates:
                picked = pick.two_choices(candidates, self._rng)
                if picked.slowness < SUSPICIOUS or self._will_do(picked, candidates, flight, waited_s):
                    return picked
        return None

    def _will_do(self, picked: Replica, candidates: Sequence[Replica], flight: Flight, waited_s: float) -> bool:
        """Whether a slow replica is not sick, or was not the only choice, or the call has waited for long enough."""
        if any(replica.slowness < SUSPICIOUS for replica in candidates):
            return True
        if not pick.is_sick(picked.slowness, self._slowness, self._replicas):
            return True
        usual = self._usual.get(flight.call.method)
        return usual is None or waited_s >= pick.waits_for_better_s(usual[0], picked.slowness)

    def pick_among(self, flight: Flight, candidates: Sequence[Replica]) -> Replica:
        """See `Policy`."""
        nearest = min(replica.tier for replica in candidates)
        near = [replica for replica in candidates if replica.tier == nearest]
        return pick.two_choices(near, self._rng)

    def update(self, replicas: Collection[Replica]) -> None:
        """See `Policy`."""
        self._replicas = len(replicas)
        self._slowness = sum(replica.slowness for replica in replicas)

    def answered(self, replica: Replica, flight: Flight, latency_s: float) -> None:
        """See `Policy`. On the hot path."""
        method = flight.call.method
        log_latency = math.log(latency_s) if latency_s > SHORTEST_S else LOG_SHORTEST
        usual, answers = self._usual.get(method) or (log_latency, 0)
        if not answers and len(self._usual) >= MOST_METHODS:
            return
        self._usual[method] = (fold_usual(usual, answers, log_latency), answers + 1)
        before = replica.slowness
        replica.slowness = after = fold_slowness(before, replica.answers, slowness_of(log_latency, usual))
        replica.answers += 1
        self._slowness += after - before

    def refused(self, replica: Replica) -> None:
        """See `Policy`; its load has been reported."""


class PeakEwma:
    """Of two replicas drawn at random the one with the lower expected latency times calls; see `core.ewma`.

    For deployments whose calls are alike: quicker than the default to believe that a replica has become slow, and
    as quick to believe it of one that had a long call.

    Args:
        now: the monotonic clock.
        rng: chance.
    """

    reconsider_s = 0.5

    def __init__(self, now: Callable[[], float], rng: Random) -> None:
        self._now = now
        self._rng = rng
        self._ewmas: dict[Replica, Ewma] = {}

    def group(self, flight: Flight) -> str:
        """See `Policy`."""
        return ""

    def pick(self, flight: Flight, open_replicas: OpenReplicas, waited_s: float) -> Replica | None:
        """See `Policy`."""
        for candidates in open_replicas.tiers:
            if candidates:
                return self.pick_among(flight, candidates)
        return None

    def pick_among(self, flight: Flight, candidates: Sequence[Replica]) -> Replica:
        """See `Policy`."""
        now, ewmas = self._now(), self._ewmas
        first, second = pick.draw_two(candidates, self._rng)
        return pick.cheaper(first, second, lambda replica: cost(ewmas[replica], replica.load, now))

    def update(self, replicas: Collection[Replica]) -> None:
        """See `Policy`."""
        self._ewmas = {replica: self._ewmas.get(replica, Ewma()) for replica in replicas}

    def answered(self, replica: Replica, flight: Flight, latency_s: float) -> None:
        """See `Policy`."""
        if replica in self._ewmas:
            self._ewmas[replica] = observe(self._ewmas[replica], latency_s, self._now())

    def refused(self, replica: Replica) -> None:
        """See `Policy`: a refusal counts as a slow answer, it would draw more calls otherwise."""
        if replica in self._ewmas:
            self._ewmas[replica] = observe_refusal(self._ewmas[replica], self._now())


class RoundRobin:
    """Every replica in turn, from one drawn at random on; a full one is passed over. Near ones are not preferred.

    Calls for a model take turns among its holders, each model on its own.
    """

    reconsider_s = 0.5

    def __init__(self, now: Callable[[], float], rng: Random) -> None:
        self._rng = rng
        self._members: tuple[Replica, ...] = ()
        self._cursors: dict[str, int] = {}

    def group(self, flight: Flight) -> str:
        """See `Policy`."""
        return ""

    def pick(self, flight: Flight, open_replicas: OpenReplicas, waited_s: float) -> Replica | None:
        """See `Policy`."""
        return self._next("", self._members) if open_replicas else None

    def pick_among(self, flight: Flight, candidates: Sequence[Replica]) -> Replica:
        """See `Policy`."""
        chosen = self._next(flight.call.context.multiplexed_model_id, candidates)
        assert chosen is not None  # all have room
        return chosen

    def _next(self, model: str, members: Sequence[Replica]) -> Replica | None:
        if model not in self._cursors and len(self._cursors) >= MOST_CURSORS:
            self._cursors.clear()
        cursor = self._cursors.get(model)
        if cursor is None:
            cursor = self._rng.randrange(len(members))
        at = pick.cursor_pick(members, cursor, _has_room)
        if at < 0:
            return None
        self._cursors[model] = at + 1
        return members[at]

    def update(self, replicas: Collection[Replica]) -> None:
        """See `Policy`."""
        self._members = tuple(replicas)

    def answered(self, replica: Replica, flight: Flight, latency_s: float) -> None:
        """See `Policy`; nothing is learned from it."""

    def refused(self, replica: Replica) -> None:
        """See `Policy`; nothing is learned from it."""


class ByKey:
    """The same replica for the same session, while replicas come and go; see `core.hashing`.

    The key is the call's session id, or its request id when it has none. When the key's replica is full, the next
    ones on the ring stand in; when they are full as well, the call waits for one of them.

    Args:
        num_virtual_nodes: points of a replica on the ring; more make shares more even.
        num_fallback_replicas: how many replicas stand in.

    Raises:
        ValueError: a number is out of its range.
    """

    reconsider_s = 0.5

    def __init__(
        self,
        now: Callable[[], float],
        rng: Random,
        num_virtual_nodes: int = VIRTUAL_NODES,
        num_fallback_replicas: int = FALLBACKS,
    ) -> None:
        successors(build_ring((), num_virtual_nodes), "", num_fallback_replicas)
        self._virtual_nodes = num_virtual_nodes
        self._fallbacks = num_fallback_replicas
        self._ring = Ring()
        self._members: dict[str, Replica] = {}

    def group(self, flight: Flight) -> str:
        """See `Policy`."""
        return f"key:{_key(flight)}"

    def pick(self, flight: Flight, open_replicas: OpenReplicas, waited_s: float) -> Replica | None:
        """See `Policy`."""
        for tag in successors(self._ring, _key(flight), self._fallbacks):
            replica = self._members[tag]
            if replica.has_room:
                return replica
        return None

    def pick_among(self, flight: Flight, candidates: Sequence[Replica]) -> Replica:
        """See `Policy`: of a few, the one that scores highest with the key (rendezvous hashing)."""
        key = _key(flight)
        return max(candidates, key=lambda replica: hash_text(f"{key}@{replica.target.tag}"))

    def update(self, replicas: Collection[Replica]) -> None:
        """See `Policy`."""
        self._members = {replica.target.tag: replica for replica in replicas}
        if self._ring.members != self._members.keys():
            self._ring = build_ring(self._members, self._virtual_nodes)

    def answered(self, replica: Replica, flight: Flight, latency_s: float) -> None:
        """See `Policy`; nothing is learned from it."""

    def refused(self, replica: Replica) -> None:
        """See `Policy`; nothing is learned from it."""


def _key(flight: Flight) -> str:
    context = flight.call.context
    return context.session_id or context.request_id


def _has_room(replica: Replica) -> bool:
    return replica.has_room


POLICIES: Mapping[str, Callable[..., Policy]] = {
    "two_choices": TwoChoices,
    # Every policy is aware of models; this one is the default by the name of what it is used for.
    "by_model": TwoChoices,
    "round_robin": RoundRobin,
    "by_key": ByKey,
    "peak_ewma": PeakEwma,
}
"""The policies by their short names. Each is made with the clock, chance, and `request_router_kwargs`."""

_SHIPPED: Mapping[str, str] = {
    "PowerOfTwoChoicesRequestRouter": "two_choices",
    "RoundRobinRouter": "round_robin",
    "ConsistentHashRouter": "by_key",
}
"""Classes that ship, by their names under `meshserve` and `ray.serve`; the latter need not be installed."""


def policy_name(request_router_class: str) -> str | None:
    """The short name of the built-in policy that an option names; None when it names a user's router.

    Args:
        request_router_class: a short name, an import path of a router that ships, here or with Ray Serve, or anything
            else; empty for the default.
    """
    if not request_router_class:
        return "two_choices"
    if request_router_class in POLICIES:
        return request_router_class
    module, _, name = request_router_class.replace(":", ".").rpartition(".")
    return _SHIPPED.get(name) if module.startswith(("meshserve.", "ray.serve.")) else None


def make_policy(name: str, now: Callable[[], float], rng: Random, kwargs: Mapping[str, Any]) -> Policy:
    """Makes a built-in policy.

    Args:
        name: one of `POLICIES`.
        kwargs: `request_router_kwargs`.

    Raises:
        TypeError: the policy has no such argument.
        ValueError: an argument is out of its range.
    """
    try:
        return POLICIES[name](now, rng, **kwargs)
    except TypeError as error:
        raise TypeError(f"request_router_kwargs do not suit the policy {name!r}: {error}.") from error


def check_policy(name: str, kwargs: Mapping[str, Any]) -> None:
    """Raises what `make_policy` would raise; for those who check options before anything runs."""
    make_policy(name, lambda: math.nan, Random(0), kwargs)
