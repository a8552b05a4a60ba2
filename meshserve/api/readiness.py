"""Whether applications are up, cannot be brought up, or what they wait for. Decides; `waiting` does the waiting."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from meshserve.model.overview import ApplicationOverview, MeshOverview, ProxyOverview
from meshserve.model.status import ApplicationState, ProxyState

INGRESS_GRACE_S = 3.0
"""A proxy that cannot serve gets so long to recover before a program that waits for it is told that it failed."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """How far applications are.

    Attributes:
        ready: all of them run, and the ingress serves them.
        failure: why they will not run; empty while there is hope.
        waiting: what is waited for, by whom: an application's or deployment's name, or "ingress".
    """

    ready: bool = False
    failure: str = ""
    waiting: tuple[tuple[str, str], ...] = ()


class News:
    """What there is to say of states as they change: nothing twice in a row, and of a long message, whose traceback
    stays the same while its replicas come and go, the lines that are new."""

    def __init__(self) -> None:
        self._last: tuple[tuple[str, str], ...] = ()
        self._told: set[tuple[str, str]] = set()

    def of(self, state: Readiness) -> list[tuple[str, str]]:
        """Who waits for what, where that is new."""
        news = [(who, self._untold(who, what)) for who, what in state.waiting if (who, what) not in self._last]
        self._last = state.waiting
        return [(who, what) for who, what in news if what]

    def _untold(self, who: str, what: str) -> str:
        first, *rest = what.splitlines() or [""]
        untold = [line for line in rest if (who, line) not in self._told]
        self._told.update((who, line) for line in rest)
        return "\n".join([first, *untold]) if untold or not rest else ""


def readiness(
    mesh: MeshOverview, names: Collection[str], generation: int, with_ingress: bool, waited_s: float
) -> Readiness:
    """Looks at the mesh.

    Args:
        mesh: its state.
        names: the applications.
        generation: of the desired state in which they were set; earlier states say nothing.
        with_ingress: whether proxies have to serve them.
        waited_s: for how long they have been waited for.
    """
    applications = [mesh.applications.get(name) for name in names]
    current = [one for one in applications if one is not None and one.generation >= generation]
    for one in current:
        if one.status == ApplicationState.DEPLOY_FAILED:
            return Readiness(failure=f"Deploying application {one.name} failed: {one.message}")
    ingress = _ingress(mesh.proxies.values()) if with_ingress else ""
    if ingress and waited_s > INGRESS_GRACE_S and (broken := _broken(mesh.proxies.values())):
        return Readiness(failure=f"The ingress cannot be brought up: {broken}")
    waiting = tuple(line for one in current for line in _waiting(one))
    if len(current) == len(applications) and not waiting and not ingress:
        return Readiness(ready=True)
    return Readiness(waiting=(*waiting, *([("ingress", ingress)] if ingress else [])))


def _waiting(application: ApplicationOverview) -> list[tuple[str, str]]:
    if application.status == ApplicationState.RUNNING:
        return []
    deployments = [(one.name, one.message) for one in application.deployments if one.message]
    return deployments or [(application.name, application.message or f"is {application.status.lower()}")]


def _ingress(proxies: Collection[ProxyOverview]) -> str:
    """What the ingress waits for; empty when every proxy that is coming up has come up, and one serves."""
    if any(proxy.status == ProxyState.STARTING for proxy in proxies) or not proxies:
        return "the proxies are starting"
    if not any(proxy.status in (ProxyState.HEALTHY, ProxyState.DRAINING) for proxy in proxies):
        return _broken(proxies) or "no proxy serves"
    return ""


def _broken(proxies: Collection[ProxyOverview]) -> str:
    """What the proxies say when all of them have failed; empty when one may yet serve."""
    if all(proxy.status == ProxyState.UNHEALTHY for proxy in proxies):
        return " ".join(dict.fromkeys(proxy.message or "a proxy is unhealthy." for proxy in proxies))
    return ""
