"""The order in which deployments go away: those who call before those who are called.

A call that an ingress deployment has accepted may still need the deployments behind it. So a deployment that is to go
away keeps serving until all deployments that hold its handle, and are to go away as well, have ended their calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshserve.core.deployment import Part
from meshserve.model.control import Desired
from meshserve.model.ids import DeploymentId

TIER_S = 30.0
"""How long a deployment waits at most for its callers to end; callers that hold each other's handles end then."""


def callers_first(ending: Iterable[DeploymentId], desired: Desired) -> dict[DeploymentId, list[DeploymentId]]:
    """Those that go away, each with those of them that call it, in an order in which callers precede callees."""
    callers: dict[DeploymentId, list[DeploymentId]] = {deployment: [] for deployment in ending}
    for caller in callers:
        for callee in desired.deployments[caller].spec.uses:
            if callee in callers and callee != caller:
                callers[callee].append(caller)
    ordered: dict[DeploymentId, list[DeploymentId]] = {}
    visiting: set[DeploymentId] = set()

    def visit(deployment: DeploymentId) -> None:
        if deployment in visiting:
            return
        visiting.add(deployment)
        for caller in callers[deployment]:
            visit(caller)
        ordered[deployment] = callers[deployment]

    for deployment in callers:
        visit(deployment)
    return ordered


def is_held(callers: Iterable[DeploymentId], parts: Mapping[DeploymentId, Part], since: float, now: float) -> bool:
    """Whether a deployment that is to go away since `since` has to wait for its callers.

    Args:
        callers: those of it that go away as well.
        parts: plans of deployments; callers in a cycle may not have theirs yet and are not waited for.
    """
    if since + TIER_S <= now:
        return False
    return any(parts[caller].calls for caller in callers if caller in parts)
