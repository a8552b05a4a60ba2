"""What routers report of their load. A report stands until its router sends another, or its stream ends.

Autoscaling sums these; see `core.windows`. A router whose process died must not hold replicas up for ever, so
reports die with the stream that brought them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meshserve.model.ids import DeploymentId


@dataclass(frozen=True, slots=True)
class RouterLoad:
    """Calls one router has in hand for one deployment: waiting for a replica, and at replicas."""

    queued: int
    running: int


OnReport = Callable[[str, DeploymentId, RouterLoad], None]
OnLost = Callable[[str], None]


class Loads:
    """The latest report of every router. Lives on the I/O thread."""

    def __init__(self) -> None:
        self._reports: dict[str, dict[DeploymentId, RouterLoad]] = {}
        self._listeners: list[tuple[OnReport, OnLost]] = []

    def listen(self, on_report: OnReport, on_lost: OnLost) -> None:
        """Calls back with every report (watcher, deployment, load) and with every watcher that is lost."""
        self._listeners.append((on_report, on_lost))

    def report(self, watcher: str, deployment: DeploymentId, load: RouterLoad) -> None:
        """A router's report replaces its last one."""
        self._reports.setdefault(watcher, {})[deployment] = load
        for on_report, _ in self._listeners:
            on_report(watcher, deployment, load)

    def drop(self, watcher: str) -> None:
        """A watcher's stream ended."""
        if self._reports.pop(watcher, None) is not None:
            for _, on_lost in self._listeners:
                on_lost(watcher)

    def of(self, deployment: DeploymentId) -> dict[str, RouterLoad]:
        """What every router last reported, by its watcher."""
        return {watcher: reports[deployment] for watcher, reports in self._reports.items() if deployment in reports}

    def total(self, deployment: DeploymentId) -> RouterLoad:
        """The sum over all routers."""
        found = self.of(deployment).values()
        return RouterLoad(sum(load.queued for load in found), sum(load.running for load in found))
