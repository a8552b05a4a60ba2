"""Absorbs what is heard of a proxy."""

from __future__ import annotations

from meshserve.core import events as ev
from meshserve.core.health import failed, next_check_at, passed
from meshserve.core.seen import ProxyPhase, SeenProxy
from meshserve.model.replace import replace
from meshserve.model.status import ProxyState
from meshserve.model.targets import RouteTable

CHECK_PERIOD_S = 10.0
"""Between checks of a proxy that is well."""

RETRY_PERIOD_S = 1.0
"""Between checks of one that is not: a port may become free, a stalled process may go on."""

CATCH_UP_S = 5.0
"""How long a proxy may take to have the newest routes before nobody waits for it any more."""

_SOON_S = 0.02


def fold_proxy(
    proxy: SeenProxy, event: ev.ProxyEvent, routes: RouteTable | None, routes_at: float, now: float
) -> SeenProxy:
    """What is known of a proxy once `event` was heard.

    Args:
        routes: the route table last published; None when there is none yet.
        routes_at: when it was published.
    """
    match event:
        case ev.ProxyLaunched(process=process) if proxy.phase in (ProxyPhase.LAUNCHING, ProxyPhase.FINDING):
            health = replace(proxy.health, strikes=0, checking=False, check_at=now)
            return replace(proxy, phase=ProxyPhase.UP, since=now, process=process, health=health)
        case ev.ProxyFailed(message=message) if proxy.phase in (ProxyPhase.LAUNCHING, ProxyPhase.FINDING):
            return _broken(proxy, message, now)
        case ev.ProxyChecked() if proxy.phase in (ProxyPhase.UP, ProxyPhase.DRAINING):
            return _checked(proxy, event, routes, routes_at, now)
        case ev.ProxyUnreachable(message=message) if proxy.phase in (ProxyPhase.UP, ProxyPhase.DRAINING):
            return _strike(proxy, message, now)
        case ev.ProxyDied():
            return _died(proxy, now)
    return proxy


def _broken(proxy: SeenProxy, message: str, now: float) -> SeenProxy:
    return replace(proxy, phase=ProxyPhase.BROKEN, since=now, status=ProxyState.UNHEALTHY, message=message)


def _died(proxy: SeenProxy, now: float) -> SeenProxy:
    match proxy.phase:
        case ProxyPhase.WAITING | ProxyPhase.BROKEN:
            return proxy
        case ProxyPhase.KILLING:
            return replace(proxy, phase=ProxyPhase.WAITING, since=now, process=None)
    return _broken(proxy, "its process died", now)


def _strike(proxy: SeenProxy, message: str, now: float) -> SeenProxy:
    status = proxy.status if proxy.phase is ProxyPhase.DRAINING else ProxyState.UNHEALTHY
    health = failed(proxy.health, now + RETRY_PERIOD_S)
    return replace(proxy, status=status, message=message, health=health)


def _checked(
    proxy: SeenProxy, event: ev.ProxyChecked, routes: RouteTable | None, routes_at: float, now: float
) -> SeenProxy:
    proxy = replace(proxy, report=event.report, process=event.process)
    if event.report.failure:
        return _strike(proxy, event.report.failure, now)
    if proxy.phase is ProxyPhase.DRAINING:
        return replace(proxy, health=passed(proxy.health, now + RETRY_PERIOD_S), message="")
    current = routes is not None and event.report.routes >= routes.version
    behind = not current and now - max(proxy.since, routes_at) < CATCH_UP_S
    due = now + _SOON_S if behind else next_check_at(proxy.health, proxy.node_id, now, CHECK_PERIOD_S)
    proxy = replace(proxy, health=passed(proxy.health, due), message=event.report.remark)
    if behind and proxy.status is not ProxyState.HEALTHY:
        return proxy  # it would answer 404 for what runs: it is not there yet
    return replace(proxy, status=ProxyState.HEALTHY, starts=0)
