"""`plan`: from what is wanted and what is known to what to do, what to tell, and when to look again.

This is the whole decision of the control plane, a function of its arguments. The controller's loop calls it after every
batch of events and gives its `seen` to the next `fold`: what was begun is part of what is known, so nothing is begun
twice, and a second plan at the same instant asks for nothing.

It is cheap where nothing happened (see `parts`). But for the cost, the result does not depend on the previous plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from meshserve.core.actions import Action, ClearStore, Forget, LeavePrefixes, ListProcesses, LookAtNodes
from meshserve.core.applications import application_status
from meshserve.core.deployment import Part
from meshserve.core.fold_proxy import CATCH_UP_S
from meshserve.core.parts import Parts, number_snapshots, pictures, plan_parts
from meshserve.core.prefixes import LINGER_S
from meshserve.core.proxies import hurry, plan_proxies, proxy_nodes, routes_pending
from meshserve.core.route_table import route_table
from meshserve.core.seen import Cluster, Seen
from meshserve.model.control import Desired
from meshserve.model.ids import DeploymentId
from meshserve.model.replace import record, replace
from meshserve.model.status import ApplicationState, ApplicationStatus
from meshserve.model.targets import DeploymentTargets, RouteTable

LOOK_PERIOD_S = 5.0
"""Between looks at the cluster's nodes."""

IMPATIENT_LOOK_PERIOD_S = 1.0
"""The same while replicas wait for resources, so that messages speak of what is free now."""

_FOREVER = float("inf")
_NO_PARTS = Parts({}, (), frozenset(), waits=False, wake_at=_FOREVER)


@record
class Plan:
    """What to do.

    Attributes:
        desired: what this plan is for.
        seen: what is known, with `actions` under way.
        actions: to be performed after `targets` and `routes` were published.
        targets: snapshots that changed.
        routes: the route table, when it changed.
        parts: the plans of the deployments.
        wake_at: when to plan again although nothing was heard.
        over: the mesh was shut down and nothing is left of it.
    """

    desired: Desired
    seen: Seen
    actions: tuple[Action, ...] = ()
    targets: tuple[DeploymentTargets, ...] = ()
    routes: RouteTable | None = None
    parts: Parts = _NO_PARTS
    wake_at: float = _FOREVER
    over: bool = False


def plan(desired: Desired, seen: Seen, now: float, new_id: Callable[[], str], previous: Plan | None = None) -> Plan:
    """Decides everything there is to decide at `now`.

    Args:
        new_id: makes replica tags that were never used before.
        previous: the last plan, to save work.
    """
    if not seen.listed:
        return _begin(desired, seen, now)
    number, parts, targets = number_snapshots(seen, _parts(desired, seen, now, new_id, previous))
    routes = _new_routes(desired, seen, (seen.epoch, number + 1), parts, previous)
    cluster, look, look_at = _look(seen.cluster, parts.waits, now)
    empty = desired.shutting_down and all(part.over for part in parts.all.values())
    known = seen.proxies if routes is None else hurry(seen.proxies, now)
    wanted = _proxy_nodes(desired, seen, parts, empty)
    proxies = plan_proxies(desired.proxies, known, seen.cluster.nodes, wanted, desired.shutting_down, now)
    told, told_at = (routes, now) if routes is not None else (seen.routes, seen.routes_at)
    pending = routes_pending(proxies.proxies, told, told_at, now)
    statuses = _statuses(desired, seen, parts, previous, pending)
    forgetting, forgets = _forgets(desired, seen, parts)
    leaving, leaves = _leaves(desired, seen, statuses)
    over = empty and not desired.applications and not proxies.proxies
    clears = (ClearStore(),) if over and not seen.clearing else ()
    of_parts = [action for changed in parts.changed for action in parts.all[changed].actions]
    actions = (*look, *of_parts, *proxies.actions, *forgets, *leaves, *clears)
    after = replace(
        seen,
        number=number if routes is None else number + 1,
        cluster=cluster,
        deployments=pictures(seen, parts),
        proxies=proxies.proxies,
        applications=statuses,
        routes=told,
        routes_at=told_at,
        forgetting=forgetting,
        leaving=leaving,
        clearing=over or seen.clearing,
    )
    wake_at = min(look_at, proxies.wake_at, _catch_up_at(told_at, now), parts.wake_at)
    return Plan(desired, after, actions, targets, routes, parts, wake_at, over)


def _parts(desired: Desired, seen: Seen, now: float, new_id: Callable[[], str], previous: Plan | None) -> Parts:
    """The plans of the deployments; those of the previous plan when nothing that they depend on has changed."""
    if previous is None or not previous.seen.listed:
        return plan_parts(desired, seen, now, new_id, None)
    same = previous.desired is desired and previous.seen.deployments is seen.deployments
    if same and previous.seen.cluster.nodes is seen.cluster.nodes and now < previous.parts.wake_at:
        return replace(previous.parts, changed=())
    return plan_parts(desired, seen, now, new_id, (previous.seen, previous.parts))


def _catch_up_at(routes_at: float, now: float) -> float:
    """When proxies that lag behind the routes are no longer waited for."""
    return routes_at + CATCH_UP_S if routes_at + CATCH_UP_S > now else _FOREVER


def _begin(desired: Desired, seen: Seen, now: float) -> Plan:
    """The plan while it is not known what runs: finding out."""
    actions: tuple[Action, ...] = () if seen.listing else (ListProcesses(),)
    cluster, look, look_at = _look(seen.cluster, False, now)
    return Plan(desired, replace(seen, listing=True, cluster=cluster), (*actions, *look), wake_at=look_at)


def _look(cluster: Cluster, impatient: bool, now: float) -> tuple[Cluster, tuple[Action, ...], float]:
    """Looks at the nodes from time to time, more often while somebody waits for room on them."""
    if cluster.looking:
        return cluster, (), _FOREVER
    due = cluster.looked_at + (IMPATIENT_LOOK_PERIOD_S if impatient else LOOK_PERIOD_S)
    return (cluster, (), due) if due > now else (replace(cluster, looking=True), (LookAtNodes(),), _FOREVER)


def _new_routes(
    desired: Desired, seen: Seen, version: tuple[int, int], parts: Parts, previous: Plan | None
) -> RouteTable | None:
    """The route table with its version; None when it is as published."""
    before = seen.routes
    if before is not None and previous is not None and previous.parts.all:
        same = previous.desired is desired and previous.seen.cluster.nodes is seen.cluster.nodes
        if same and _introduced_alike(parts, previous.parts.all):
            return None
    leaving = [node.node_id for node in seen.cluster.nodes.values() if node.leaves_at]
    routes = route_table(desired, parts.all, leaving, version)
    return None if before is not None and replace(routes, version=before.version) == before else routes


def _introduced_alike(parts: Parts, known: Mapping[DeploymentId, Part]) -> bool:
    """Whether the replicas of all deployments say the same of themselves as those did that are `known`."""
    for changed in parts.changed:
        before, now = known.get(changed), parts.all[changed].introduction
        if before is None or (before.introduction is not now and before.introduction != now):
            return False
    return True


def _proxy_nodes(desired: Desired, seen: Seen, parts: Parts, empty: bool) -> Set[str]:
    if not seen.cluster.nodes:
        return seen.proxies.keys()  # before the machines are known nobody can say that a proxy is in the wrong place
    return frozenset() if empty else proxy_nodes(desired.proxies, seen.cluster.nodes, parts.nodes)


def _statuses(
    desired: Desired, seen: Seen, parts: Parts, previous: Plan | None, pending: bool
) -> Mapping[str, ApplicationStatus]:
    """The status of every application; those to which nothing happened keep theirs."""
    same = previous is not None and previous.desired is desired and previous.seen.applications is seen.applications
    changed = {deployment.app for deployment in parts.changed}
    statuses: dict[str, ApplicationStatus] = {}
    for name, application in desired.applications.items():
        before = seen.applications.get(name)
        if same and before is not None and name not in changed and before.state is not ApplicationState.DEPLOYING:
            statuses[name] = before
            continue
        status = application_status(application, parts.all, before, pending)
        statuses[name] = before if before is not None and before == status else status
    return seen.applications if statuses == seen.applications else statuses


def _forgets(desired: Desired, seen: Seen, parts: Parts) -> tuple[frozenset[tuple[str, int]], tuple[Action, ...]]:
    """Asks to forget what has gone away; returns also all that was asked for and not yet done."""
    forgetting: set[tuple[str, int]] = set()
    for name, application in desired.applications.items():
        if application.deleting or application.dropped:
            leaving = (*application.dropped, *(application.spec.deployments if application.deleting else ()))
            if all(spec.id not in parts.all or parts.all[spec.id].over for spec in leaving):
                forgetting.add((name, application.generation))
    if forgetting == seen.forgetting:
        return seen.forgetting, ()
    return frozenset(forgetting), tuple(Forget(*one) for one in sorted(forgetting - seen.forgetting))


def _leaves(
    desired: Desired, seen: Seen, statuses: Mapping[str, ApplicationStatus]
) -> tuple[frozenset[tuple[str, int]], tuple[Action, ...]]:
    """Asks to leave the former route prefixes of applications that run by their new ones; as `_forgets`."""
    leaving: set[tuple[str, int]] = set()
    for name, application in desired.applications.items():
        one = name, application.generation
        if application.former_prefixes and (one in seen.leaving or statuses[name].state is ApplicationState.RUNNING):
            leaving.add(one)
    if leaving == seen.leaving:
        return seen.leaving, ()
    return frozenset(leaving), tuple(LeavePrefixes(*one, LINGER_S) for one in sorted(leaving - seen.leaving))
