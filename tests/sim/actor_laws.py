"""The laws about actors that replicas share, checked after every turn of a simulated mesh."""

from __future__ import annotations

from meshserve.core import actions as ac
from meshserve.core.plan import Plan
from meshserve.core.seen import SeenDeployment
from meshserve.core.seen_actors import ActorPhase
from meshserve.core.weights import actors_version
from meshserve.model.control import DesiredDeployment
from meshserve.model.ids import ActorId
from sim.world import World


def wanted_actors(want: DesiredDeployment) -> set[ActorId]:
    """The actors that replicas of the wanted version share."""
    options = want.spec.options
    version = actors_version(want.version, options)
    return {ActorId(want.spec.id, version, one.name) for one in options.deployment_actors}


def are_there(deployment: SeenDeployment, want: DesiredDeployment) -> bool:
    """Whether the actors of the wanted version, and no others, are known to be ready."""
    ready = {one.id for one in deployment.actors.all.values() if one.phase is ActorPhase.READY}
    return ready == wanted_actors(want) and len(ready) == len(deployment.actors.all)


def started_after_its_actors(world: World, now: Plan, action: ac.StartReplica) -> None:
    """A replica is started once the actors that it shares with others are ready, as far as anybody knows."""
    known = now.seen.deployments[action.replica.deployment].actors.all
    for actor in wanted_actors(action.want):
        seen = known.get((actor.version, actor.name))
        assert seen is not None and seen.phase is ActorPhase.READY, f"{action.replica} starts before {actor}: {seen}"


def kept_for_its_replicas(world: World, now: Plan, action: ac.KillActor) -> None:
    """An actor that is well is killed only when no replica of its version is left."""
    was = world.heard.deployments[action.actor.deployment].actors.all.get((action.actor.version, action.actor.name))
    if was is None or was.phase is not ActorPhase.READY or not world.actors.is_ready(action.actor):
        return
    for replica in world.alive(action.actor.deployment):
        version = actors_version(f"{replica.code_version}-", replica.options)
        assert not replica.ready or version != action.actor.version, f"{action.actor} is killed, {replica.id} lives"


def check_actors_converged(world: World) -> None:
    """Without faults the actors that are wanted are there, and no others, but where an update got stuck."""
    stuck = {
        deployment_id
        for deployment_id, want in world.desired.deployments.items()
        if world.seen.deployments[deployment_id].attempts.given_up or want.spec.code_version in world.bad_versions
    }
    wanted = set[ActorId]()
    for deployment_id in world.desired.deployments.keys() - stuck:
        wanted |= wanted_actors(world.desired.deployments[deployment_id])
    there = {one.id for one in world.actors.alive() if one.id.deployment not in stuck}
    assert there == wanted, f"there are actors {there}, wanted are {wanted}"
