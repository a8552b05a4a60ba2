"""Gangs: replicas that are started together in one placement group, serve together, and end together.

A gang is alive or it is not. Its members are started in one plan; one whose user code is well waits for the others
(`Phase.ASSEMBLING`), and all enter service in one plan. Whatever stops a member for good reason (scaling down, a
rollout, a node that goes away) stops all of them, and each gets to end its calls. A member that fails, while it starts
or serves, takes the others with it by force: what they do together they cannot do without it. A failed start counts
once for a gang, however many of its members fail.

The placement group is made with the first member that is started in it, and is removed when the last one is gone. After
a restart of the controller groups are listed as processes are, and members say which gang they are of. One that was
lost meanwhile is missed: it may have died, or ended its calls because it was told to, so the others get to end theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from meshserve.core.actions import Action, KillReplica, RemoveGang
from meshserve.core.scene import Scene
from meshserve.core.seen import (
    RECOVERING,
    SERVING,
    STARTING,
    STOPPING,
    UNHEALTHY,
    Attempts,
    Phase,
    SeenDeployment,
    SeenReplica,
)
from meshserve.model.gang import GangContext, GangId
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.model.options import DeploymentOptions
from meshserve.model.process_names import gang_name
from meshserve.model.replace import replace

_FAILED = (Phase.BROKEN, Phase.KILLING)
_WAITING = frozenset({Phase.ASSEMBLING})
_WELL = _WAITING | SERVING


def line_ups(
    deployment: DeploymentId, options: DeploymentOptions, places: int, new_id: Callable[[], str]
) -> Iterator[tuple[ReplicaId, GangContext | None]]:
    """The replicas to start in so many places: one by one, or as many whole gangs as fit."""
    if options.gang_scheduling_config is None:
        for _ in range(places):
            yield ReplicaId(deployment, new_id()), None
        return
    size = options.gang_size
    for _ in range(places // size):
        gang = GangId(deployment, new_id())
        tags = tuple(new_id() for _ in range(size))
        for rank, tag in enumerate(tags):
            yield ReplicaId(deployment, tag), GangContext(gang.tag, rank, size, tags, gang_name(gang))


# -- what is done to one is done to all ------------------------------------------------------------------------------


def units(replicas: Iterable[SeenReplica]) -> list[list[SeenReplica]]:
    """Replicas by gang, in the order of the first of each; those without one by themselves."""
    found: dict[tuple[str, str], list[SeenReplica]] = {}
    for replica in replicas:
        key = (replica.gang.gang_id, "") if replica.gang is not None else ("", replica.id.tag)
        found.setdefault(key, []).append(replica)
    return list(found.values())


def fitting(replicas: Iterable[SeenReplica], places: int) -> list[SeenReplica]:
    """As many from the front as fit into so many places, of a gang all or none."""
    chosen: list[SeenReplica] = []
    for unit in units(replicas):
        if len(chosen) + len(unit) > places:
            break  # a smaller one behind it is not to go before it
        chosen += unit
    return chosen


def with_gangs(deployment: SeenDeployment, replicas: list[SeenReplica]) -> list[SeenReplica]:
    """These replicas, and the other members of their gangs."""
    if not deployment.gangs:
        return replicas
    named = {one.id.tag for one in replicas}
    gangs = {one.gang.gang_id for one in replicas if one.gang is not None}
    others = (one for one in deployment.replicas.values() if one.gang is not None and one.gang.gang_id in gangs)
    return [*replicas, *(one for one in others if one.id.tag not in named)]


def failed_before(deployment: SeenDeployment, replica: SeenReplica) -> bool:
    """Whether another member of its gang has failed already: this is the same failure."""
    if replica.gang is None:
        return False
    others = [deployment.replicas.get(tag) for tag in replica.gang.member_replica_ids if tag != replica.id.tag]
    return any(one is not None and (one.phase in _FAILED or one.retire == UNHEALTHY) for one in others)


def _gangs(deployment: SeenDeployment) -> list[list[SeenReplica]]:
    return units(one for one in deployment.replicas.values() if one.gang is not None)


def _is_complete(members: list[SeenReplica]) -> bool:
    gang = members[0].gang
    return gang is not None and len(members) == gang.world_size


# -- steps -----------------------------------------------------------------------------------------------------------


def assemble(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Takes gangs into service of which all members are well.

    Found after a restart of the controller, one that is well waits again if another one is not yet. By then it may be
    migrating: it becomes known before the others, and its node may be going away.
    """
    if not deployment.gangs:
        return deployment, ()
    changed: dict[str, SeenReplica] = {}
    attempts, want = deployment.attempts, deployment.want
    for members in _gangs(deployment):
        phases = {one.phase for one in members}
        whole = _is_complete(members) and phases <= _WELL
        if whole and want is not None and members[0].build.version == want.version:
            attempts = attempts.proven() if Phase.ASSEMBLING in phases else _known_to_start(attempts)
        before, after = (_WAITING, Phase.READY) if whole else (SERVING, Phase.ASSEMBLING)
        if whole or not phases.isdisjoint(STARTING):
            waiting = (one for one in members if one.phase in before)
            changed |= {one.id.tag: replace(one, phase=after, since=scene.now) for one in waiting}
    if attempts is not deployment.attempts:
        deployment = replace(deployment, attempts=attempts)
    return deployment.having(changed), ()


def _known_to_start(attempts: Attempts) -> Attempts:
    return attempts if attempts.succeeded else replace(attempts, succeeded=True)


def share_fate(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Stops what is left of gangs of which a member stops: by force if it has failed, else each ends its calls."""
    if not deployment.gangs:
        return deployment, ()
    all_known = not any(one.phase in RECOVERING for one in deployment.replicas.values())
    retired: dict[str, SeenReplica] = {}
    killed: dict[str, SeenReplica] = {}
    for members in _gangs(deployment):
        standing = {one.id.tag: one for one in members if one.phase not in STOPPING}
        if _is_ending(members) or (all_known and not _has_failed(members) and not _is_complete(members)):
            retired |= {tag: replace(one, retire="its gang ends") for tag, one in standing.items() if not one.retire}
        elif _has_failed(members):
            killed |= {
                tag: replace(one, phase=Phase.KILLING, since=scene.now, retire=one.retire or "its gang has failed")
                for tag, one in standing.items()
            }
    actions = tuple(KillReplica(replica.id) for replica in killed.values())
    return deployment.having({**retired, **killed}), actions


def _is_ending(members: list[SeenReplica]) -> bool:
    """Whether one of them has a reason to stop other than failure."""
    return any(
        one.retire not in ("", UNHEALTHY) if one.phase not in STOPPING else one.phase is Phase.DRAINING
        for one in members
    )


def _has_failed(members: list[SeenReplica]) -> bool:
    return any(one.phase in STOPPING or one.retire == UNHEALTHY for one in members)


def release(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Removes placement groups in which nobody runs any more."""
    if not deployment.gangs:
        return deployment, ()
    if any(one.gang is None and not one.build.version for one in deployment.replicas.values()):
        return deployment, ()  # which gang it is of is not known, and will not be before it has answered or is gone
    held = {one.gang.gang_id for one in deployment.replicas.values() if one.gang is not None}
    empty = [tag for tag, removing in deployment.gangs.items() if not removing and tag not in held]
    if not empty:
        return deployment, ()
    gangs: Mapping[str, bool] = {**deployment.gangs, **dict.fromkeys(empty, True)}
    return replace(deployment, gangs=gangs), tuple(RemoveGang(GangId(deployment.id, tag)) for tag in empty)
