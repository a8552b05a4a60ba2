"""What the controller knows of the actors that replicas of a deployment share; a part of `seen`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from meshserve.model.ids import ActorId
from meshserve.model.replace import replace

ActorKey = tuple[str, str]
"""The version and the name of an actor of a deployment."""


class ActorPhase(Enum):
    """Where an actor is on its way."""

    LISTED = "found by name after a restart of the controller"
    STARTING = "it was asked for, and its constructor runs"
    FINDING = "looked up"
    READY = "its constructor has ended"
    BROKEN = "it has to be killed"
    KILLING = "it is being killed"


@dataclass(frozen=True, slots=True)
class ActorChecks:
    """How the health of actors is checked; the same for all.

    Attributes:
        period_s: from one check to the next.
        timeout_s: for an answer; a synchronous actor answers between two calls.
        strikes: failures in a row after which an actor is made anew.
    """

    period_s: float = 10.0
    timeout_s: float = 30.0
    strikes: int = 3


@dataclass(frozen=True, slots=True)
class ActorHealth:
    """Health checks of one actor.

    Attributes:
        checking: one is under way.
        check_at: when the next is due.
        strikes: failures in a row.
    """

    checking: bool = False
    check_at: float = 0.0
    strikes: int = 0


@dataclass(frozen=True, slots=True)
class SeenActor:
    """One actor.

    Attributes:
        since: when it entered its phase.
    """

    id: ActorId
    phase: ActorPhase
    since: float
    health: ActorHealth = field(default_factory=ActorHealth)

    @property
    def key(self) -> ActorKey:
        """What it is found by among the actors of its deployment."""
        return self.id.version, self.id.name


@dataclass(frozen=True, slots=True)
class SeenActors:
    """The actors of one deployment.

    Attributes:
        all: of every version that has any.
        version: what the rest speaks of.
        failures: starts of this version's actors that failed since all of them were ready.
        failed_at: when the last one did, of any version.
        message: what it said.
        proven: all of this version's actors were ready once.
    """

    all: Mapping[ActorKey, SeenActor] = field(default_factory=dict)
    version: str = ""
    failures: int = 0
    failed_at: float = float("-inf")
    message: str = ""
    proven: bool = False

    def having(self, actor: SeenActor) -> SeenActors:
        """With an actor put in the place of its former self."""
        return replace(self, all={**self.all, actor.key: actor})

    def without(self, actor: SeenActor) -> SeenActors:
        """Without an actor."""
        return replace(self, all={key: one for key, one in self.all.items() if key != actor.key})
