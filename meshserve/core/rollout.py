"""How many replicas, and of which version: scaling, rolling updates, in-place updates, and giving up.

Words used here. *Active* replicas count towards the wanted number: starting, updating, recovering, ready. *Stopping*
ones do not, but hold their place until their process is gone, so that there are never more processes than wanted. A
ready replica is *outdated* when it was made of something else than is wanted now (it has to be replaced) or was sent
other options (they have to be sent). A *rollout* is on while outdated replicas serve.

Without surge, a rollout may take away `rolling_update_percentage` of the wanted number at a time: replicas stopped,
replicas starting in their place and replicas that take new options share this budget. With `max_surge_percent` so many
more replicas may run during the rollout, and an outdated one is stopped only when enough others are ready.

Scaling down comes first, since it may do away with what would have to be updated; then the rollout; then scaling up,
which also heals. Gangs (`core.gangs`) start and stop as a whole in all three.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from meshserve.core.actions import Action, ReconfigureReplica, RecordFailure, StartReplica
from meshserve.core.deployment_actors import are_ready
from meshserve.core.gang_counts import whole_gangs
from meshserve.core.gangs import fitting, line_ups, units
from meshserve.core.scene import Scene
from meshserve.core.seen import (
    ACTIVE,
    RECOVERING,
    SERVING,
    STARTING,
    STOPPING,
    Build,
    Phase,
    SeenDeployment,
    SeenReplica,
)
from meshserve.core.status import StatusEvent, transition
from meshserve.core.stopping import stop_each
from meshserve.core.weights import needs_reconfigure
from meshserve.model.control import DesiredDeployment
from meshserve.model.options import DeploymentOptions
from meshserve.model.replace import replace

PER_REPLICA_ATTEMPTS = 3
"""Starts that may fail per wanted replica before a version is given up."""

_FIRST_BACKOFF_S = 0.25
_MAX_BACKOFF_S = 10.0


def is_outdated(replica: SeenReplica, want: DesiredDeployment) -> bool:
    """Whether a replica that serves is not what is wanted now."""
    return replica.build.version != want.version or _needs_options(replica, want)


def _needs_options(replica: SeenReplica, want: DesiredDeployment) -> bool:
    return (
        needs_reconfigure(replica.build.options, want.spec.options) or replica.build.route_prefix != want.route_prefix
    )


def batch_size(options: DeploymentOptions, count: int) -> int:
    """How many ready replicas a rollout may take away at a time: whole gangs of them."""
    return whole_gangs(max(int(options.rolling_update_percentage * count), 1), options.gang_size)


def attempts_allowed(options: DeploymentOptions, count: int) -> int:
    """How many starts of a version may fail before it is given up."""
    return max(min(options.max_constructor_retry_count, count * PER_REPLICA_ATTEMPTS), 1)


def retry_at(deployment: SeenDeployment) -> float:
    """When the next start may begin: later after each round of failures, so that no constructor fails in a spin."""
    attempts, want = deployment.attempts, deployment.want
    if not attempts.failures or want is None:
        return float("-inf")
    rounds = min((attempts.failures - 1) // max(want.count, 1), 16)
    return attempts.failed_at + min(_FIRST_BACKOFF_S * 2.0**rounds, _MAX_BACKOFF_S)


def _allowed(deployment: SeenDeployment, want: DesiredDeployment) -> int:
    """How many replicas may be active: more than wanted only while a rollout with surge goes on."""
    surge = want.spec.options.max_surge_percent
    if not surge or deployment.attempts.given_up:
        return want.count
    old = any(one.build.version != want.version for one in deployment.replicas.values() if one.phase is Phase.READY)
    more = whole_gangs(math.ceil(surge * want.count / 100), want.spec.options.gang_size) if old else 0
    return want.count + more


def _in(phases: Iterable[Phase], deployment: SeenDeployment) -> list[SeenReplica]:
    return [replica for replica in deployment.replicas.values() if replica.phase in phases]


def judge(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Notices a rollout, gives up a version that fails too often, and ends starts of what is no longer wanted."""
    want, attempts = deployment.want, deployment.attempts
    if want is None or want.deleting:
        return deployment, ()
    stale = [replica for replica in _in(STARTING, deployment) if replica.build.version != want.version]
    deployment, ended = stop_each(deployment, stale, scene)
    actions = list(ended)
    if not attempts.rolling and any(is_outdated(replica, want) for replica in _in(SERVING, deployment)):
        attempts = replace(attempts, rolling=True)
    allowed = attempts_allowed(want.spec.options, want.count)
    hopeless = attempts.failures >= allowed and (attempts.rolling or not attempts.succeeded)
    if hopeless and not attempts.given_up:
        message = (
            f"The deployment failed to start {attempts.failures} times in a row. This may be due to a problem with "
            f"its constructor or initial health check failing. Error:\n{attempts.message}"
        )
        event = StatusEvent.ROLLOUT_FAILED if attempts.rolling else StatusEvent.STARTUP_FAILED
        attempts = replace(attempts, given_up=message)
        deployment = replace(deployment, status=transition(deployment.status, event, message))
        actions.append(RecordFailure(deployment.id, want.version, message))
    if attempts is not deployment.attempts:
        deployment = replace(deployment, attempts=attempts)
    return deployment, tuple(actions)


def scale_down(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Stops what is more than wanted; those that do not serve yet first."""
    want = deployment.want
    if want is None or want.deleting:
        return deployment, ()
    candidates = _in(ACTIVE, deployment)
    if any(replica.phase in RECOVERING for replica in candidates):
        return deployment, ()
    excess = len(candidates) - _allowed(deployment, want)
    if excess <= 0:
        # Surge is for outdated replicas; when people go back to the version before, up-to-date ones can be too many.
        candidates = [replica for replica in candidates if replica.build.version == want.version]
        excess = len(candidates) - want.count
    if excess <= 0:
        return deployment, ()
    order = _Dispensable(deployment, want, scene).order(candidates)
    deployment, stops = stop_each(deployment, fitting(order, excess), scene)
    if not stops:
        return deployment, ()  # what is too much is less than a gang of another size; the rollout does away with it
    # The last outdated replica may have been among them: with it goes the allowance for surge.
    deployment, more = scale_down(deployment, scene)
    return deployment, (*stops, *more)


_PROGRESS = {
    Phase.LAUNCHING: 0,
    Phase.LAUNCHED: 1,
    Phase.INITIALIZING: 2,
    Phase.ASSEMBLING: 3,
    Phase.RECONFIGURING: 4,
}


class _Dispensable:
    """The order in which replicas can be done without.

    Not yet ready before ready; then outdated ones (the newest version when that was given up); then those on nodes with
    few replicas, the head node last, so that nodes become empty; then the newest.
    """

    def __init__(self, deployment: SeenDeployment, want: DesiredDeployment, scene: Scene) -> None:
        self._want = want
        self._keep_old = bool(deployment.attempts.given_up)
        self._nodes = scene.nodes
        self._crowding: Mapping[str, int] = scene.crowding()

    def order(self, replicas: list[SeenReplica]) -> list[SeenReplica]:
        """Most dispensable first."""
        newest_first = sorted(enumerate(replicas), key=lambda entry: -entry[0])
        return [replica for _, replica in sorted(newest_first, key=lambda entry: self._key(entry[1]))]

    def _key(self, replica: SeenReplica) -> tuple[int, bool, bool, int]:
        outdated = is_outdated(replica, self._want)
        node_id = replica.process.node_id if replica.process is not None else ""
        node = self._nodes.get(node_id)
        progress = _PROGRESS.get(replica.phase, len(_PROGRESS))
        return progress, outdated == self._keep_old, node is not None and node.is_head, self._crowding.get(node_id, 0)


def roll(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Replaces or reconfigures as many outdated replicas as the budget allows now."""
    want = deployment.want
    if want is None or want.deleting or not deployment.attempts.rolling or deployment.attempts.given_up:
        return deployment, ()
    if any(replica.phase in RECOVERING for replica in deployment.replicas.values()):
        return deployment, ()
    options = want.spec.options
    ready = _in((Phase.READY,), deployment)
    floor = max(want.count - batch_size(options, want.count), 0)
    replaceable = len(ready) - (want.count if options.max_surge_percent else floor)
    old = [one for one in ready if one.build.version != want.version] if are_ready(deployment) else []
    old = _replaced(deployment, old, replaceable)
    deployment, stops = stop_each(deployment, old, scene)
    spare = max(len(ready) - len(old) - floor, 0)
    deployment, sends = _send_options(deployment, want, spare, scene)
    return deployment, (*stops, *sends)


def _replaced(deployment: SeenDeployment, old: list[SeenReplica], replaceable: int) -> list[SeenReplica]:
    """Those to stop now, gangs as a whole."""
    chosen = fitting(old, replaceable)
    if chosen or not old or replaceable <= 0 or any(one.phase not in SERVING for one in deployment.replicas.values()):
        return chosen
    # Nothing else is under way, and gangs do not fit into the budget: some are of another size than wanted now.
    return min(units(old), key=len)


def _send_options(
    deployment: SeenDeployment, want: DesiredDeployment, spare: int, scene: Scene
) -> tuple[SeenDeployment, tuple[Action, ...]]:
    build = Build(want.version, want.spec.options, want.route_prefix)
    outdated = [
        replica
        for replica in _in((Phase.READY,), deployment)
        # One that was sent a rank answers that first, and an answer does not say to what.
        if replica.build.version == want.version and _needs_options(replica, want) and not replica.ranking
    ]
    changed = {
        replica.id.tag: replace(replica, phase=Phase.RECONFIGURING, since=scene.now, build=build)
        for replica in outdated[:spare]
    }
    actions = tuple(
        ReconfigureReplica(
            replica.id, replica.address, want.spec.options, want.generation, replica.rank, want.route_prefix
        )
        for replica in changed.values()
    )
    return deployment.having(changed), actions


def scale_up(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Starts what is missing, for whatever reason it is."""
    want = deployment.want
    if want is None or want.deleting or deployment.attempts.given_up or retry_at(deployment) > scene.now:
        return deployment, ()
    if not are_ready(deployment):
        return deployment, ()
    active = _in(ACTIVE, deployment)
    places = _allowed(deployment, want) - len(active) - len(_in(STOPPING, deployment))
    if places <= 0:
        return deployment, ()
    # Those being recovered count as fresh: what they are is not known yet, and a start is not taken back for nothing.
    fresh = [one for one in active if one.build.version == want.version or one.phase in RECOVERING]
    missing = min(places, want.count - len(fresh))
    build = Build(want.version, want.spec.options, want.route_prefix)
    started = {
        replica.tag: SeenReplica(replica, Phase.LAUNCHING, scene.now, scene.now, build, gang=gang)
        for replica, gang in line_ups(deployment.id, want.spec.options, missing, scene.new_id)
    }
    actions = tuple(StartReplica(replica.id, want, replica.gang) for replica in started.values())
    gangs = {one.gang.gang_id: False for one in started.values() if one.gang is not None}
    if gangs:
        deployment = replace(deployment, gangs={**deployment.gangs, **gangs})
    return deployment.having(started), actions
