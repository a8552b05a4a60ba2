"""Processes as they really are in the make-believe cluster, and what goes wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from meshserve.core import events as ev
from meshserve.model.control import ReplicaRank
from meshserve.model.gang import GangContext
from meshserve.model.ids import ActorId, ReplicaId
from meshserve.model.options import DEFAULTS, DeploymentOptions
from meshserve.model.replace import record

T = TypeVar("T")


@dataclass
class Faults:
    """How likely things go wrong, each time they are tried.

    Attributes:
        lost_answer: the answer to a call comes only after the executor has asked again; a kill is in vain.
        life_s: mean life of a process; 0 for as long as it is wanted.
    """

    launch_fails: float = 0.0
    constructor_fails: float = 0.0
    reconfigure_fails: float = 0.0
    check_fails: float = 0.0
    lost_answer: float = 0.0
    life_s: float = 0.0


@record
class Answer:
    """What a controller will hear, if it still runs then.

    Attributes:
        life: which controller has asked.
    """

    life: int
    event: ev.Event
    delay_s: float = 0.0

    def __str__(self) -> str:
        subject = getattr(self.event, "replica", None) or getattr(self.event, "actor", "")
        late = " late" if self.delay_s else ""
        return f"{type(self.event).__name__} {subject} to controller {self.life}{late}"


@record
class FakeReplica:
    """One process of a replica.

    Attributes:
        watched: the controller that runs now hears of its death.
        ill: it fails all checks.
        strikes: health checks that failed in a row.
        refused: it has refused what it was sent.
        ended_in: the life of the controller that told it to end; 0 while none has.
        outcomes: what answers those who wait for its construction, well and badly.
        constructed: how that ended; None while it has not.
    """

    id: ReplicaId
    node_id: str
    alive: bool = True
    listening: bool = False
    ready: bool = False
    draining: bool = False
    watched: bool = True
    ill: bool = False
    strikes: int = 0
    refused: bool = False
    ended_in: int = 0
    outcomes: tuple[tuple[Answer, Answer], ...] = ()
    constructed: bool | None = None
    code_version: str = ""
    options: DeploymentOptions = DEFAULTS
    route_prefix: str = ""
    rank: ReplicaRank | None = None
    gang: GangContext | None = None


@record
class FakeProxy:
    """One proxy."""

    alive: bool = True
    routes: tuple[int, int] = (0, 0)


@record
class FakeActor:
    """One actor that replicas share.

    Attributes:
        watched: the controller that runs now hears of its death.
    """

    id: ActorId
    alive: bool = True
    ready: bool = False
    watched: bool = True


def twin(one: T) -> T:
    """A copy with a fate of its own; `copy.copy` takes four times as long."""
    other = object.__new__(type(one))
    other.__dict__.update(one.__dict__)
    return other
