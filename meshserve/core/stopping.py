"""How replicas end. The order is the promise: out of the routers' targets, then drained, then killed.

A replica that serves leaves the published targets in the same plan that tells it to drain, and targets are
published before actions are performed; it goes on serving what is still on its way to it. One that never served has
nothing to wait for: it is killed at once, or when what its constructor has made so far is destroyed. Every replica is
killed before it is forgotten, even one whose process is known to be dead: the launcher may hold more for it than the
process.
"""

from __future__ import annotations

from meshserve.core.actions import Action, DrainReplica, KillReplica
from meshserve.core.gangs import with_gangs
from meshserve.core.scene import Scene
from meshserve.core.seen import RECOVERING, STARTING, STOPPING, Phase, SeenDeployment, SeenReplica
from meshserve.model.options import DeploymentOptions
from meshserve.model.replace import replace

DESTRUCTION_S = 1.0
"""What user code gets for its destructor after the time for its calls has passed."""

KILL_AGAIN_S = 10.0
"""A kill that has shown no effect for so long is repeated."""

SHUTDOWN_WAIT_LOOP_S = 0.05
"""Between looks for ongoing calls while the whole mesh goes away: nobody is left who could send more."""


def stop(replica: SeenReplica, options: DeploymentOptions, scene: Scene) -> tuple[SeenReplica, tuple[Action, ...]]:
    """A replica is to end: drained when it may have calls or user code, killed at once when it has neither.

    One that is being recovered is left alone until it is known what it is.
    """
    if replica.phase in STOPPING or replica.phase in RECOVERING:
        return replica, ()
    if replica.phase in STARTING and replica.phase is not Phase.INITIALIZING:
        return replace(replica, phase=Phase.KILLING, since=scene.now), (KillReplica(replica.id),)
    timeout_s, wait_loop_s = options.graceful_shutdown_timeout_s, options.graceful_shutdown_wait_loop_s
    if scene.shutting_down:
        wait_loop_s = min(wait_loop_s, SHUTDOWN_WAIT_LOOP_S)
    if replica.phase is Phase.INITIALIZING:
        timeout_s = wait_loop_s = 0.0
    drain = DrainReplica(replica.id, replica.address, timeout_s, wait_loop_s)
    return replace(replica, phase=Phase.DRAINING, since=scene.now), (drain,)


def stop_each(
    deployment: SeenDeployment, replicas: list[SeenReplica], scene: Scene
) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Stops some replicas of a deployment, and the rest of their gangs."""
    if not replicas:
        return deployment, ()
    changed: dict[str, SeenReplica] = {}
    actions: list[Action] = []
    for replica in with_gangs(deployment, replicas):
        options = deployment.want.spec.options if deployment.want is not None else replica.build.options
        after, issued = stop(replica, options, scene)
        if issued:
            changed[replica.id.tag] = after
            actions.extend(issued)
    return deployment.having(changed), tuple(actions)


def retire(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Stops what has to go: everything of a deployment that goes away, else the replicas with a reason to."""
    want = deployment.want
    if want is None:
        unknown = [replica for replica in deployment.replicas.values() if replica.phase not in STOPPING]
        changed = {one.id.tag: replace(one, phase=Phase.BROKEN, since=scene.now) for one in unknown}
        return deployment.having(changed), ()
    if want.deleting and not scene.held:
        return stop_each(deployment, list(deployment.replicas.values()), scene)
    return stop_each(deployment, [replica for replica in deployment.replicas.values() if replica.retire], scene)


def reap(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Kills what is broken, what drained too long, and what a kill has not ended yet."""
    due = {
        tag: replace(replica, phase=Phase.KILLING, since=scene.now)
        for tag, replica in deployment.replicas.items()
        if replica.phase in STOPPING and kill_at(deployment, replica) <= scene.now
    }
    return deployment.having(due), tuple(KillReplica(replica.id) for replica in due.values())


def kill_at(deployment: SeenDeployment, replica: SeenReplica) -> float:
    """When a stopping replica is killed if nothing is heard of it before."""
    match replica.phase:
        case Phase.DRAINING:
            options = deployment.want.spec.options if deployment.want is not None else replica.build.options
            return replica.since + options.graceful_shutdown_timeout_s + DESTRUCTION_S
        case Phase.KILLING:
            return replica.since + KILL_AGAIN_S
    return replica.since
