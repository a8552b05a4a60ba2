"""A scenario: what is measured, on which application, against which goal."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from bench.sample import Sample


class System(Protocol):
    """One running target with the scenario's application deployed: what a scenario may do to it."""

    def url(self, path: str = "") -> str:
        """The address of the application's HTTP route, with `path` behind it."""

    def grpc_url(self, method: str) -> str:
        """The address of a method of the bench's gRPC service at the gRPC ingress."""

    @property
    def application(self) -> str:
        """The name under which the application is deployed."""

    def ask(self, operation: str, seconds: float, **arguments: Any) -> Sample:
        """Has the application's calling replica do something for so many seconds."""

    def call_from_driver(self, seconds: float) -> Sample:
        """Calls the leaf from this process, `handle.noop.remote().result()`, one after the other."""

    def call_from_processes(self, seconds: float, *, processes: int, handles: int) -> Sample:
        """Calls the leaf from many processes, through several handles in each."""

    def start_seconds(self) -> float:
        """How long `serve.start`, the first `serve.run` and the first answer took together."""

    def shut_down(self) -> float:
        """Ends the target's serving and returns how many seconds that took."""


class Table(Enum):
    """Which table a scenario is printed in."""

    BASE = "Scenarios of PERFORMANCE.md"
    EXTRA = "Further shapes"


@dataclass(frozen=True, slots=True)
class Goal:
    """What meshserve is to reach.

    Attributes:
        times: how many times better than the peer; None when the goal is absolute.
        peer: the target it is compared with.
        at_most: an absolute limit in the scenario's unit.
    """

    times: float | None = None
    peer: str = "ray-fast"
    at_most: float | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row.

    Attributes:
        name: of the row, and for `--only`.
        measure: takes the running system and seconds, returns a sample.
        unit: what the value counts, "calls/s" for example; "s" means that less is better.
        application: which application must be deployed, by its name in `catalogue.APPLICATIONS`; None for none.
        goal: what to reach, where PERFORMANCE.md says so.
        table: where it is printed.
        session: scenarios of one session share one Ray cluster; heavy ones have their own.
        quick: part of `--quick`.
        warmed: measured once briefly before it is measured.
        limit_s: how long everything about it may take before the target counts as hung.
    """

    name: str
    measure: Callable[[System, float], Sample]
    unit: str = "calls/s"
    application: str | None = None
    goal: Goal | None = None
    table: Table = Table.BASE
    session: str = "base"
    quick: bool = False
    warmed: bool = True
    limit_s: float = 120.0

    @property
    def less_is_better(self) -> bool:
        """Whether the value is a duration."""
        return self.unit == "s"

    def times_better(self, ours: float, theirs: float) -> float:
        """How many times better `ours` is than `theirs`."""
        return theirs / ours if self.less_is_better else ours / theirs
