"""What a deployment is waiting for, in words a user can act on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from meshserve.core.deployment_actors import actors_text
from meshserve.core.rollout import attempts_allowed
from meshserve.core.seen import Phase, Resources, SeenDeployment
from meshserve.model.options import DeploymentOptions
from meshserve.model.status import DeploymentState
from meshserve.settings import SLOW_STARTUP_S

SHORTAGE_S = 2.0
"""A replica that waits so long for its process gets told which resource is short."""

_FOREVER = float("inf")

_DOING = {
    Phase.LAUNCHING: "for a process",
    Phase.LAUNCHED: "for a process",
    Phase.INITIALIZING: "for the constructor and the first health check",
    Phase.ASSEMBLING: "for the rest of their gang",
    Phase.LISTED: "to be recovered",
    Phase.DESCRIBING: "to be recovered",
    Phase.RECONFIGURING: "for new options to be taken",
    Phase.MIGRATING: "for its successor, since its node goes away",
    Phase.DRAINING: "for its calls to end",
    Phase.BROKEN: "for its process to end",
    Phase.KILLING: "for its process to end",
}


def waiting_text(deployment: SeenDeployment, resources: Resources, now: float, slow_s: float = SLOW_STARTUP_S) -> str:
    """What is to happen before the deployment is as wanted; empty when nothing is.

    Args:
        slow_s: see `Seen`.
    """
    want = deployment.want
    if want is None or deployment.attempts.given_up:
        return ""
    parts = [_failures(deployment), actors_text(deployment)]
    states: dict[str, int] = {}
    ready, oldest = 0, now
    for replica in deployment.replicas.values():
        if replica.phase is Phase.READY:
            ready += 1
        elif (doing := _DOING.get(replica.phase)) is not None:
            states[doing] = states.get(doing, 0) + 1
            oldest = min(oldest, replica.since)
    if states:
        waits = ", ".join(f"{count} {doing}" for doing, count in states.items())
        parts.append(f"{ready} of {want.count} replicas are ready; waiting: {waits}.")
    if oldest + min(SHORTAGE_S, slow_s) <= now:
        parts.append(_slow_process(deployment, want.spec.options, resources, now, slow_s))
        parts.append(_slow_constructor(deployment, now, slow_s))
    return " ".join(part for part in parts if part)


def _failures(deployment: SeenDeployment) -> str:
    attempts, want = deployment.attempts, deployment.want
    if not attempts.failures or want is None or deployment.status.state is DeploymentState.HEALTHY:
        return ""
    if attempts.succeeded and not attempts.rolling:
        return f"A replica failed to start with exception. It is tried again. Error:\n{attempts.message}"
    left = max(attempts_allowed(want.spec.options, want.count) - attempts.failures, 0)
    return f"A replica failed to start with exception. Retrying {left} more time(s). Error:\n{attempts.message}"


def _slow_process(
    deployment: SeenDeployment, options: DeploymentOptions, resources: Resources, now: float, slow_s: float
) -> str:
    since = min((one.since for one in deployment.replicas.values() if one.phase is Phase.LAUNCHING), default=now)
    slow = _slow(deployment, Phase.LAUNCHING, now, slow_s, "be scheduled")
    if since + SHORTAGE_S > now:
        return slow
    needs = {name: amount * options.gang_size for name, amount in required_resources(options).items()}
    gang = options.gang_scheduling_config is not None
    short = {name: amount for name, amount in needs.items() if amount > resources.free.get(name, 0.0)}
    if short:
        lacks = ", ".join(
            f"{name} (needs {amount:g}, free {resources.free.get(name, 0.0):g} of {resources.total.get(name, 0.0):g})"
            for name, amount in short.items()
        )
        who = f"gang of {options.gang_size} replicas" if gang else "replica"
        return f"{slow} Each {who} needs more than is free in the cluster: {lacks}.".strip()
    if not slow:
        return ""
    return (
        f"{slow} Although {_listed(needs)} are free, a runtime environment may be being installed, or no single node "
        f"has room{' for a member of a gang' if gang else ''}."
    )


def _slow_constructor(deployment: SeenDeployment, now: float, slow_s: float) -> str:
    slow = _slow(deployment, Phase.INITIALIZING, now, slow_s, "initialize")
    return f"{slow} Its constructor or `reconfigure` may be slow." if slow else ""


def _slow(deployment: SeenDeployment, phase: Phase, now: float, slow_s: float, doing: str) -> str:
    """How many replicas are slow, in the words of Ray Serve, which programs look for; empty when none is."""
    slow = sum(one.phase is phase and one.since + slow_s <= now for one in deployment.replicas.values())
    if not slow:
        return ""
    name, app = deployment.id.name, deployment.id.app
    return (
        f"Deployment {name!r} in application {app!r} has {slow} replicas that have taken more than "
        f"{slow_s:g}s to {doing}."
    )


def required_resources(options: DeploymentOptions) -> dict[str, float]:
    """Logical resources one replica takes, by their names in the cluster."""
    needs: Counter[str] = Counter()
    for bundle in options.placement_group_bundles:
        needs.update(dict(bundle))
    if not needs:
        actor = options.ray_actor_options
        needs.update({"CPU": 1 if actor.get("num_cpus") is None else actor["num_cpus"]})
        needs.update({"GPU": actor.get("num_gpus") or 0, "memory": actor.get("memory") or 0})
        needs.update(actor.get("resources") or {})
    return {name: float(amount) for name, amount in needs.items() if amount}


def _listed(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in amounts.items()) or "resources"


def text_changes_at(deployment: SeenDeployment, now: float, slow_s: float = SLOW_STARTUP_S) -> float:
    """When the text will say something new although nothing has happened."""
    times = [_FOREVER]
    for replica in deployment.replicas.values():
        if replica.phase is Phase.LAUNCHING or replica.phase is Phase.INITIALIZING:
            since = replica.since
            if replica.phase is Phase.LAUNCHING and since + SHORTAGE_S > now:
                times.append(since + SHORTAGE_S)
            mark = since + max((now - since) // slow_s, 0) * slow_s
            times.append(mark if mark > now else mark + slow_s)
    return min(times)
