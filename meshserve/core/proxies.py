"""Which nodes have a proxy, and what to do about each."""

from __future__ import annotations

from collections.abc import Mapping, Set

from meshserve.core.actions import Action, CheckProxy, DrainProxy, FindProxy, KillProxy, StartProxy
from meshserve.core.fold_proxy import CATCH_UP_S
from meshserve.core.health import STRIKES, begun
from meshserve.core.seen import ProxyPhase, SeenNode, SeenProxy
from meshserve.core.stopping import KILL_AGAIN_S
from meshserve.model.control import ProxyOptions
from meshserve.model.replace import record, replace
from meshserve.model.status import ProxyState
from meshserve.model.targets import RouteTable
from meshserve.settings import PROXY_MIN_DRAIN_S

CHECK_TIMEOUT_S = 10.0
"""For the answer to one check."""

_FIRST_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 30.0
_FOREVER = float("inf")


@record
class ProxyPlan:
    """What to do about all proxies; `proxies` is what they are once the actions are under way."""

    proxies: Mapping[str, SeenProxy]
    actions: tuple[Action, ...]
    wake_at: float


def proxy_nodes(
    options: ProxyOptions | None, nodes: Mapping[str, SeenNode], with_replicas: frozenset[str]
) -> frozenset[str]:
    """The nodes that are to have a proxy."""
    if options is None or options.location in ("Disabled", "NoServer"):
        return frozenset()
    heads = frozenset(node.node_id for node in nodes.values() if node.is_head)
    return heads if options.location == "HeadOnly" else heads | (with_replicas & nodes.keys())


def plan_proxies(
    options: ProxyOptions | None,
    known: Mapping[str, SeenProxy],
    nodes: Mapping[str, SeenNode],
    wanted: Set[str],
    quick: bool,
    now: float,
) -> ProxyPlan:
    """Decides what to do about the proxies.

    Args:
        known: the proxies there are, by node.
        nodes: the machines there are.
        wanted: the nodes that are to have one.
        quick: those that are not wanted end at once; else they drain.
    """
    if not known and not wanted:
        return ProxyPlan(known, (), _FOREVER)
    min_drain_s = options.min_drain_s if options is not None else PROXY_MIN_DRAIN_S
    proxies: dict[str, SeenProxy] = {}
    actions: list[Action] = []
    for node_id in sorted(wanted - known.keys()):
        if options is not None:
            proxies[node_id] = SeenProxy(node_id, ProxyPhase.LAUNCHING, now, starts=1)
            actions.append(StartProxy(node_id, options))
    for proxy in known.values():
        drain_s = min_drain_s if proxy.node_id in nodes and not quick else None
        after, issued = _next(proxy, options if proxy.node_id in wanted else None, drain_s, now)
        actions.extend(issued)
        if after is not None:
            proxies[after.node_id] = after
    wake_at = min((_wake_at(proxy, min_drain_s, now) for proxy in proxies.values()), default=_FOREVER)
    return ProxyPlan(proxies if actions or len(proxies) != len(known) else known, tuple(actions), wake_at)


def _next(
    proxy: SeenProxy, options: ProxyOptions | None, drain_s: float | None, now: float
) -> tuple[SeenProxy | None, tuple[Action, ...]]:
    """The proxy once the actions are under way; None to forget it.

    Args:
        options: None when it is not wanted.
        drain_s: how long it drains then at least; None to end it at once.
    """
    match proxy.phase:
        case ProxyPhase.LISTED:
            return replace(proxy, phase=ProxyPhase.FINDING, since=now), (FindProxy(proxy.node_id),)
        case ProxyPhase.WAITING:
            return _relaunch(proxy, options, now)
        case ProxyPhase.LAUNCHING if options is None and drain_s is None:
            return _kill(proxy, now)
        case ProxyPhase.UP | ProxyPhase.DRAINING:
            return _tend(proxy, options, drain_s, now)
        case ProxyPhase.BROKEN:
            return _kill(proxy, now)
        case ProxyPhase.KILLING if proxy.since + KILL_AGAIN_S <= now:
            return _kill(proxy, now)
    return proxy, ()


def _relaunch(
    proxy: SeenProxy, options: ProxyOptions | None, now: float
) -> tuple[SeenProxy | None, tuple[Action, ...]]:
    if options is None:
        return None, ()
    if _relaunch_at(proxy) > now:
        return proxy, ()
    after = replace(proxy, phase=ProxyPhase.LAUNCHING, since=now, starts=proxy.starts + 1)
    return after, (StartProxy(proxy.node_id, options),)


def _relaunch_at(proxy: SeenProxy) -> float:
    if not proxy.starts:
        return proxy.since
    return proxy.since + min(_FIRST_BACKOFF_S * 2.0 ** min(proxy.starts - 1, 10), _MAX_BACKOFF_S)


def _tend(
    proxy: SeenProxy, options: ProxyOptions | None, drain_s: float | None, now: float
) -> tuple[SeenProxy | None, tuple[Action, ...]]:
    """A proxy whose process listens; for the arguments see `_next`."""
    address = proxy.process.address if proxy.process is not None else ""
    if proxy.health.strikes >= STRIKES or (options is None and _has_drained(proxy, drain_s, now)):
        return _kill(proxy, now)
    actions: tuple[Action, ...] = ()
    if options is None and proxy.phase is ProxyPhase.UP:
        proxy = replace(proxy, phase=ProxyPhase.DRAINING, since=now, status=ProxyState.DRAINING)
        actions = (DrainProxy(proxy.node_id, address, draining=True),)
    elif options is not None and proxy.phase is ProxyPhase.DRAINING:
        proxy = replace(proxy, phase=ProxyPhase.UP, since=now, health=replace(proxy.health, check_at=now))
        actions = (DrainProxy(proxy.node_id, address, draining=False),)
    if not proxy.health.checking and proxy.health.check_at <= now:
        proxy = replace(proxy, health=begun(proxy.health))
        actions = (*actions, CheckProxy(proxy.node_id, address, CHECK_TIMEOUT_S))
    return proxy, actions


def _has_drained(proxy: SeenProxy, drain_s: float | None, now: float) -> bool:
    if drain_s is None:
        return True
    idle = not proxy.report.ongoing and not proxy.health.checking
    return proxy.phase is ProxyPhase.DRAINING and idle and proxy.since + drain_s <= now


def _kill(proxy: SeenProxy, now: float) -> tuple[SeenProxy, tuple[Action, ...]]:
    status = ProxyState.DRAINED if proxy.phase is ProxyPhase.DRAINING else proxy.status
    return replace(proxy, phase=ProxyPhase.KILLING, since=now, status=status), (KillProxy(proxy.node_id),)


def _wake_at(proxy: SeenProxy, min_drain_s: float, now: float) -> float:
    match proxy.phase:
        case ProxyPhase.WAITING:
            times = [_relaunch_at(proxy)]
        case ProxyPhase.KILLING:
            times = [proxy.since + KILL_AGAIN_S]
        case ProxyPhase.UP | ProxyPhase.DRAINING:
            times = [_FOREVER if proxy.health.checking else proxy.health.check_at, proxy.since + min_drain_s]
        case _:
            times = []
    return min((time for time in times if time > now), default=_FOREVER)


def hurry(proxies: Mapping[str, SeenProxy], now: float) -> Mapping[str, SeenProxy]:
    """The proxies with a check due at once: there are new routes, and somebody waits for them to be in force."""
    return {
        node_id: replace(proxy, health=replace(proxy.health, check_at=now)) if proxy.phase is ProxyPhase.UP else proxy
        for node_id, proxy in proxies.items()
    }


def routes_pending(proxies: Mapping[str, SeenProxy], routes: RouteTable | None, routes_at: float, now: float) -> bool:
    """Whether a proxy that serves does not have the newest routes; one that takes too long is not waited for."""
    if routes is None or routes_at + CATCH_UP_S <= now:
        return False
    return any(
        proxy.phase is ProxyPhase.UP and proxy.status is ProxyState.HEALTHY and proxy.report.routes < routes.version
        for proxy in proxies.values()
    )
