"""Absorbs one event into what is known. Pure: the old `Seen` stays valid, untouched parts are shared.

An event never makes anything happen; it only changes what `plan` will find. So the order of events of different
subjects does not matter, and an event that comes too late finds its subject in another phase and is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meshserve.core import events as ev
from meshserve.core.fold_actor import fold_actor
from meshserve.core.fold_proxy import fold_proxy
from meshserve.core.gangs import failed_before
from meshserve.core.health import STRIKES, failed, next_check_at, passed
from meshserve.core.seen import (
    SERVING,
    STARTING,
    STOPPING,
    UNHEALTHY,
    Build,
    Cluster,
    Health,
    Phase,
    ProxyPhase,
    Seen,
    SeenDeployment,
    SeenProxy,
    SeenReplica,
    Stats,
)
from meshserve.core.seen_actors import ActorPhase, SeenActor
from meshserve.core.status import StatusEvent, transition
from meshserve.core.weights import build_version
from meshserve.model.gang import GangContext
from meshserve.model.ids import ReplicaId
from meshserve.model.options import DEFAULTS
from meshserve.model.replace import replace

_HEALTH_CHECK_FAILED = (
    "A replica's health check failed. "
    "This deployment will be UNHEALTHY until the replica recovers or a new deploy happens."
)


def fold(seen: Seen, event: ev.Event, now: float) -> Seen:
    """What is known once `event` has been heard at `now`."""
    match event:
        case ev.Listed():
            return _listed(seen, event, now)
        case ev.NodesSeen():
            return replace(seen, cluster=_cluster(seen.cluster, event, now))
        case ev.ActorReady() | ev.ActorFailed() | ev.ActorHealthy() | ev.ActorUnhealthy() | ev.ActorDied():
            return _fold_actor(seen, event, now)
        case ev.GangRemoved():
            return _gang_removed(seen, event)
        case ev.ProxyLaunched() | ev.ProxyFailed() | ev.ProxyChecked() | ev.ProxyUnreachable() | ev.ProxyDied():
            proxy = seen.proxies.get(event.node_id)
            if proxy is None:
                return seen
            after = fold_proxy(proxy, event, seen.routes, seen.routes_at, now)
            return replace(seen, proxies={**seen.proxies, event.node_id: after})
        case _:
            return _fold_replica(seen, event, now)


def _fold_actor(seen: Seen, event: ev.ActorEvent, now: float) -> Seen:
    deployment = seen.deployments.get(event.actor.deployment)
    actor = deployment.actors.all.get((event.actor.version, event.actor.name)) if deployment is not None else None
    if deployment is None or actor is None:
        return seen
    after = fold_actor(deployment, actor, event, now, seen.actor_checks)
    return seen if after is deployment else replace(seen, deployments={**seen.deployments, deployment.id: after})


def _fold_replica(seen: Seen, event: ev.ReplicaEvent, now: float) -> Seen:
    deployment = seen.deployments.get(event.replica.deployment)
    replica = deployment.replicas.get(event.replica.tag) if deployment is not None else None
    if deployment is None or replica is None:
        return seen
    after = _HANDLERS[type(event)](deployment, replica, event, now)
    if after is deployment:
        return seen
    return replace(seen, deployments={**seen.deployments, deployment.id: after})


def _listed(seen: Seen, event: ev.Listed, now: float) -> Seen:
    deployments, proxies = dict(seen.deployments), dict(seen.proxies)
    for replica in event.replicas:
        deployment = deployments.get(replica.deployment) or SeenDeployment(replica.deployment, since=now)
        if replica.tag not in deployment.replicas:
            found = _found(replica, now)
            deployments[replica.deployment] = replace(deployment, replicas={**deployment.replicas, replica.tag: found})
    for actor in event.actors:
        deployment = deployments.get(actor.deployment) or SeenDeployment(actor.deployment, since=now)
        known = deployment.actors.having(SeenActor(actor, ActorPhase.LISTED, now))
        deployments[actor.deployment] = replace(deployment, actors=known)
    for gang in event.gangs:
        deployment = deployments.get(gang.deployment) or SeenDeployment(gang.deployment, since=now)
        deployments[gang.deployment] = replace(deployment, gangs={gang.tag: False, **deployment.gangs})
    for node_id in event.proxies:
        proxies.setdefault(node_id, SeenProxy(node_id, ProxyPhase.LISTED, now))
    return replace(seen, listed=True, deployments=deployments, proxies=proxies)


def _gang_removed(seen: Seen, event: ev.GangRemoved) -> Seen:
    deployment = seen.deployments.get(event.gang.deployment)
    if deployment is None:
        return seen
    rest = {tag: removing for tag, removing in deployment.gangs.items() if tag != event.gang.tag}
    return replace(seen, deployments={**seen.deployments, deployment.id: replace(deployment, gangs=rest)})


def _found(replica: ReplicaId, now: float) -> SeenReplica:
    return SeenReplica(replica, Phase.LISTED, now, now, Build("", DEFAULTS))


def _cluster(cluster: Cluster, event: ev.NodesSeen, now: float) -> Cluster:
    nodes = {node.node_id: node for node in event.nodes}
    # The same machines must stay the same object: everything is planned anew when they change.
    kept = cluster.nodes if cluster.nodes == nodes else nodes
    return Cluster(kept, event.resources, looked_at=now, looking=False)


# -- replicas --------------------------------------------------------------------------------------------------------


def _put(deployment: SeenDeployment, replica: SeenReplica) -> SeenDeployment:
    return replace(deployment, replicas={**deployment.replicas, replica.id.tag: replica})


def _enter(
    deployment: SeenDeployment, replica: SeenReplica, phase: Phase, now: float, **changes: Any
) -> SeenDeployment:
    return _put(deployment, replace(replica, phase=phase, since=now, **changes))


def _is_wanted(deployment: SeenDeployment, replica: SeenReplica) -> bool:
    return deployment.want is not None and replica.build.version == deployment.want.version


def _check_at(deployment: SeenDeployment, replica: SeenReplica, health: Health, now: float) -> float:
    options = deployment.want.spec.options if deployment.want is not None else replica.build.options
    return next_check_at(health, replica.id.tag, now, options.health_check_period_s)


def _launched(
    deployment: SeenDeployment, replica: SeenReplica, event: ev.ReplicaLaunched, now: float
) -> SeenDeployment:
    if replica.phase is not Phase.LAUNCHING:
        return deployment
    return _enter(deployment, replica, Phase.LAUNCHED, now, process=event.process)


def _logging_to(replica: SeenReplica, log_path: str) -> SeenReplica:
    """The replica with the file of its log, which it tells once it has its options."""
    if replica.process is None or not log_path:
        return replica
    return replace(replica, process=replace(replica.process, log_path=log_path))


def _ready(deployment: SeenDeployment, replica: SeenReplica, event: ev.ReplicaReady, now: float) -> SeenDeployment:
    if replica.phase is not Phase.INITIALIZING:
        return deployment
    replica = _logging_to(replica, event.log_path)
    health = passed(replica.health, _check_at(deployment, replica, replica.health, now))
    phase = Phase.READY if replica.gang is None else Phase.ASSEMBLING
    after = _enter(deployment, replica, phase, now, introduction=event.introduction, health=health)
    if phase is Phase.ASSEMBLING or not _is_wanted(deployment, replica):
        return after
    return replace(after, attempts=deployment.attempts.proven())


def _failed(deployment: SeenDeployment, replica: SeenReplica, event: ev.ReplicaFailed, now: float) -> SeenDeployment:
    if replica.phase not in STARTING:
        return deployment
    return _count_failure(_enter(deployment, replica, Phase.BROKEN, now), replica, event.message, now)


def _count_failure(deployment: SeenDeployment, replica: SeenReplica, message: str, now: float) -> SeenDeployment:
    if not _is_wanted(deployment, replica) or failed_before(deployment, replica):
        return deployment
    attempts = deployment.attempts
    return replace(
        deployment, attempts=replace(attempts, failures=attempts.failures + 1, failed_at=now, message=message)
    )


def _reconfigured(
    deployment: SeenDeployment, replica: SeenReplica, event: ev.ReplicaReconfigured, now: float
) -> SeenDeployment:
    replica = _logging_to(replica, event.log_path)
    if replica.phase is Phase.RECONFIGURING:
        return _enter(deployment, replica, Phase.READY, now)
    return _put(deployment, replace(replica, ranking=False)) if replica.ranking or event.log_path else deployment


def _reconfigure_failed(
    deployment: SeenDeployment, replica: SeenReplica, event: ev.ReplicaReconfigureFailed, now: float
) -> SeenDeployment:
    if replica.phase is Phase.RECONFIGURING:
        return _count_failure(_enter(deployment, replica, Phase.BROKEN, now), replica, event.message, now)
    if replica.ranking and replica.phase in SERVING:
        return _unwell(_put(deployment, replace(replica, ranking=False)), replica, event.message, now)
    return deployment


def _healthy(deployment: SeenDeployment, replica: SeenReplica, event: ev.ReplicaHealthy, now: float) -> SeenDeployment:
    health = passed(replica.health, _check_at(deployment, replica, replica.health, now))
    return _put(deployment, replace(replica, health=health, report=event.report))


def _measured(
    deployment: SeenDeployment, replica: SeenReplica, event: ev.ReplicaMeasured, now: float
) -> SeenDeployment:
    before = replica.stats
    routing = before.routing_json if event.routing_json is None else event.routing_json
    autoscaling = before.autoscaling_json if event.autoscaling_json is None else event.autoscaling_json
    after = Stats(routing, autoscaling)
    return deployment if after == before else _put(deployment, replace(replica, stats=after))


def _unhealthy(
    deployment: SeenDeployment, replica: SeenReplica, event: ev.ReplicaUnhealthy, now: float
) -> SeenDeployment:
    health = failed(replica.health, _check_at(deployment, replica, replica.health, now))
    replica = replace(replica, health=health)
    if health.strikes >= STRIKES and replica.phase in SERVING and not replica.retire:
        return _unwell(deployment, replica, event.message, now)
    return _put(deployment, replica)


def _unwell(deployment: SeenDeployment, replica: SeenReplica, message: str, now: float) -> SeenDeployment:
    """A serving replica is to be replaced because it is not well; it still gets to end its calls."""
    after = _put(deployment, replace(replica, retire=UNHEALTHY, ranking=False))
    return _health_failed(after, replica, f"Replica {replica.id} is replaced: {message}", now)


def _health_failed(deployment: SeenDeployment, replica: SeenReplica, message: str, now: float) -> SeenDeployment:
    if not _is_wanted(deployment, replica):
        return deployment
    gang = f" All {replica.gang.world_size} replicas of its gang are started again." if replica.gang is not None else ""
    text = f"{_HEALTH_CHECK_FAILED} {message}{gang}"
    deployment = replace(deployment, status=transition(deployment.status, StatusEvent.HEALTH_FAILED, text))
    if deployment.attempts.rolling:
        return _count_failure(deployment, replica, message, now)
    return deployment


def _described(
    deployment: SeenDeployment, replica: SeenReplica, event: ev.ReplicaDescribed, now: float
) -> SeenDeployment:
    if replica.phase is not Phase.DESCRIBING:
        return deployment
    version = build_version(event.code_version, event.options)
    if not event.ready:
        return _half_made(deployment, replica, event, version, now)
    after = _enter(
        deployment,
        replica,
        Phase.READY,
        now,
        process=event.process,
        started_at=event.started_at,
        build=Build(version, event.options, event.route_prefix),
        rank=event.rank,
        introduction=event.introduction,
        gang=event.gang,
        retire="draining" if event.draining else _forgotten(deployment, event),
        health=passed(replica.health, _check_at(deployment, replica, replica.health, now)),
    )
    if event.gang is not None:
        return _in_gang(after, event.gang)  # whether its version can start is not for one of a gang to say
    if deployment.want is None or deployment.want.version != version:
        return after
    return replace(after, attempts=replace(after.attempts, succeeded=True))


def _in_gang(deployment: SeenDeployment, gang: GangContext | None) -> SeenDeployment:
    """With the gang of a recovered replica noted."""
    if gang is None:
        return deployment
    return replace(deployment, gangs={gang.gang_id: False, **deployment.gangs})


def _half_made(
    deployment: SeenDeployment, replica: SeenReplica, event: ev.ReplicaDescribed, version: str, now: float
) -> SeenDeployment:
    """A replica that was constructing user code, which can take minutes, goes on if that is still what is wanted.

    It is told to construct once more, which joins it to what it does (replica_control.proto).
    """
    if not event.code_version:
        return _enter(deployment, replica, Phase.BROKEN, now)
    build = Build(version, event.options, event.route_prefix)
    wanted = deployment.want is not None and deployment.want.version == version
    if not wanted or event.draining or _forgotten(deployment, event):
        # What it shares with others stays until it is gone, so it matters what it was made of.
        return _in_gang(_enter(deployment, replica, Phase.BROKEN, now, build=build, gang=event.gang), event.gang)
    after = _enter(
        deployment,
        replica,
        Phase.LAUNCHED,
        now,
        process=event.process,
        started_at=event.started_at,
        build=build,
        rank=event.rank,
        gang=event.gang,
    )
    return _in_gang(after, event.gang)


def _forgotten(deployment: SeenDeployment, event: ev.ReplicaDescribed) -> str:
    """Why a recovered replica has to stop all the same: one that has its rank says that it was to be killed before."""
    staying = [one for one in deployment.replicas.values() if one.phase not in STOPPING and not one.retire]
    taken = {one.rank.rank for one in staying if one.rank is not None}
    return "its rank is another's" if event.rank is not None and event.rank.rank in taken else ""


def _lost(deployment: SeenDeployment, replica: SeenReplica, event: ev.ReplicaLost, now: float) -> SeenDeployment:
    return _enter(deployment, replica, Phase.BROKEN, now) if replica.phase is Phase.DESCRIBING else deployment


def _drained(deployment: SeenDeployment, replica: SeenReplica, event: ev.ReplicaDrained, now: float) -> SeenDeployment:
    return _enter(deployment, replica, Phase.BROKEN, now) if replica.phase is Phase.DRAINING else deployment


def _died(deployment: SeenDeployment, replica: SeenReplica, event: ev.ReplicaDied, now: float) -> SeenDeployment:
    match replica.phase:
        case Phase.KILLING:
            rest = {tag: other for tag, other in deployment.replicas.items() if tag != replica.id.tag}
            return replace(deployment, replicas=rest)
        case Phase.BROKEN:
            return deployment
    # Killed all the same: the launcher may hold more for it than the process, such as a placement group.
    after = _enter(deployment, replica, Phase.BROKEN, now)
    message = f"Replica {replica.id} died."
    if replica.phase in STARTING:
        return _count_failure(after, replica, f"{message} Its process ended while it was starting.", now)
    if replica.phase in SERVING or replica.phase is Phase.RECONFIGURING:
        return _health_failed(after, replica, message, now)
    return after


_HANDLERS: dict[type[Any], Callable[[SeenDeployment, SeenReplica, Any, float], SeenDeployment]] = {
    ev.ReplicaLaunched: _launched,
    ev.ReplicaReady: _ready,
    ev.ReplicaFailed: _failed,
    ev.ReplicaReconfigured: _reconfigured,
    ev.ReplicaReconfigureFailed: _reconfigure_failed,
    ev.ReplicaHealthy: _healthy,
    ev.ReplicaMeasured: _measured,
    ev.ReplicaUnhealthy: _unhealthy,
    ev.ReplicaDescribed: _described,
    ev.ReplicaLost: _lost,
    ev.ReplicaDrained: _drained,
    ev.ReplicaDied: _died,
}
