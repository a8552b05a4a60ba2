"""Which replicas hold which multiplexed models, as a router knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from meshserve.core.hashing import hash_text
from meshserve.routing.replica import Replica


class ModelIndex:
    """Holders by model. A replica that was just sent a model's first call counts as holding it for a while.

    Replicas tell when they begin to load; the calls that come before that news would otherwise each load the model
    somewhere else.

    Args:
        now: the monotonic clock.
        trust_s: how long such a guess is good for.
    """

    def __init__(self, now: Callable[[], float], trust_s: float) -> None:
        self._now = now
        self._trust_s = trust_s
        self._holders: dict[str, dict[Replica, None]] = {}
        self._known: dict[Replica, frozenset[str]] = {}
        self._guesses: dict[str, tuple[Replica, float]] = {}

    def update(self, replicas: Iterable[Replica]) -> None:
        """Takes over what all replicas hold."""
        self._holders.clear()
        self._known.clear()
        for replica in replicas:
            self.changed(replica)
        self._guesses = {model: guess for model, guess in self._guesses.items() if guess[0] in self._known}

    def changed(self, replica: Replica) -> None:
        """Takes over what one replica holds."""
        before = self._known.get(replica, frozenset())
        self._known[replica] = replica.models
        for model in before - replica.models:
            self._holders[model].pop(replica, None)
            if not self._holders[model]:
                del self._holders[model]
        for model in replica.models - before:
            self._holders.setdefault(model, {})[replica] = None
            self._guesses.pop(model, None)

    def expect(self, model: str, replica: Replica) -> None:
        """A call for a model that nobody holds goes to that replica, which will load it."""
        now = self._now()
        for old in tuple(self._guesses):  # in order of age
            if self._guesses[old][1] > now:
                break
            del self._guesses[old]
        self._guesses[model] = (replica, now + self._trust_s)

    def holders(self, model: str) -> list[Replica]:
        """The replicas that hold a model, or are expected to soon."""
        held = self._holders.get(model)
        if held is not None:
            return list(held)
        guess = self._guesses.get(model)
        return [guess[0]] if guess is not None and guess[1] > self._now() else []

    def emptiest(self) -> list[Replica]:
        """The replicas with the fewest models, those expected to come included."""
        counts = {replica: len(models) for replica, models in self._known.items() if replica.usable}
        now = self._now()
        for replica, until in self._guesses.values():
            if until > now and replica in counts:
                counts[replica] += 1
        fewest = min(counts.values(), default=0)
        return [replica for replica, count in counts.items() if count == fewest]


def home(model: str, replicas: Sequence[Replica]) -> Replica:
    """Where a model is loaded that nobody is known to hold: one of the nearest, and the same for every caller.

    A caller hears what a replica holds when it talks to it, or from the controller after a while. Until then a proxy
    and a handle that choose alike find the one that the other has had load the model (highest random weight hashing).

    Args:
        replicas: those that may be chosen; at least one.
    """
    return min(replicas, key=lambda replica: (replica.tier, hash_text(f"{model}\n{replica.target.tag}")))
