"""The actors that replicas share, in the make-believe cluster: what becomes of the actions about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from meshserve.core import actions as ac
from meshserve.core import events as ev
from meshserve.model.ids import ActorId, DeploymentId
from meshserve.model.replace import replace
from sim.fakes import Answer, FakeActor

if TYPE_CHECKING:
    from sim.world import World


class Actors:
    """All actors of a world."""

    def __init__(self) -> None:
        self.all: dict[ActorId, FakeActor] = {}

    def fork(self) -> Actors:
        """The same actors, with a future of their own."""
        fork = Actors()
        fork.all = dict(self.all)
        return fork

    def perform(self, world: World, action: ac.StartActor | ac.FindActor | ac.CheckActor | ac.KillActor) -> None:
        """An action takes effect after a while."""
        _EFFECTS[type(action)](world, action)

    def alive(self, deployment: DeploymentId | None = None) -> list[FakeActor]:
        """Actors that exist, of one deployment or of all."""
        return [one for one in self.all.values() if one.alive and deployment in (None, one.id.deployment)]

    def is_ready(self, actor: ActorId) -> bool:
        """Whether an actor can be used."""
        return actor in self.all and self.all[actor].alive and self.all[actor].ready

    def die(self, world: World, actor: FakeActor) -> None:
        """An actor ends by itself."""
        if actor.alive:
            self.change(actor, alive=False, ready=False)
            if actor.watched:
                _tell(world, 0.1, ev.ActorDied(actor.id))

    def unwatch(self) -> None:
        """The controller that watched them is gone."""
        self.all = {actor_id: replace(actor, watched=False) for actor_id, actor in self.all.items()}

    def change(self, actor: FakeActor, **changes: bool) -> None:
        """Something of an actor becomes different."""
        self.all[actor.id] = replace(actor, **changes)


def _tell(world: World, mean_s: float, event: ev.ActorEvent) -> None:
    world.at(world.soon(mean_s), type(world).give, world.answer(event))


def _start(world: World, action: ac.StartActor) -> None:
    there = world.actors.all.get(action.actor)
    assert there is None or not there.alive, f"{action.actor} is there and made again"
    world.actors.all[action.actor] = FakeActor(action.actor)
    fails = action.options.name in world.bad_actors or world.chance(world.faults.constructor_fails)
    outcome = (
        ev.ActorFailed(action.actor, "ValueError: the constructor raised") if fails else ev.ActorReady(action.actor)
    )
    world.at(world.soon(1.0), _constructed, action.actor, world.answer(outcome), not fails)
    if world.faults.life_s:
        world.at(world.rng.expovariate(1 / world.faults.life_s), _end_of_life, action.actor)


def _constructed(world: World, actor_id: ActorId, answer: Answer, well: bool) -> None:
    actor = world.actors.all[actor_id]
    if actor.alive:
        world.actors.change(actor, alive=well, ready=well)
        world.give(answer)


def _end_of_life(world: World, actor_id: ActorId) -> None:
    actor = world.actors.all[actor_id]
    if world.faults.life_s and actor.ready:
        world.actors.die(world, actor)


def _find(world: World, action: ac.FindActor) -> None:
    world.at(world.soon(0.3), _found, action.actor, world.life)


def _found(world: World, actor_id: ActorId, life: int) -> None:
    actor = world.actors.all[actor_id]
    if life != world.life:
        return
    world.actors.change(actor, watched=actor.alive)
    if not actor.alive:
        world.post(ev.ActorDied(actor_id))
    elif actor.ready:
        world.post(ev.ActorReady(actor_id))
    else:
        world.at(1.0, _found, actor_id, life)


def _check(world: World, action: ac.CheckActor) -> None:
    if world.actors.is_ready(action.actor) and not world.chance(world.faults.check_fails):
        _tell(world, 0.1, ev.ActorHealthy(action.actor))
    else:
        _tell(world, 0.1, ev.ActorUnhealthy(action.actor, "it did not answer"))


def _kill(world: World, action: ac.KillActor) -> None:
    if world.chance(world.faults.lost_answer):
        return  # it shows no effect, and nobody says so
    world.at(world.soon(0.2), _killed, action.actor, world.answer(ev.ActorDied(action.actor)))


def _killed(world: World, actor_id: ActorId, answer: Answer) -> None:
    actor = world.actors.all[actor_id]
    if answer.life != world.life:
        world.actors.die(world, actor)  # the next controller may have found it alive
    world.actors.change(world.actors.all[actor_id], alive=False, ready=False)
    world.give(answer)


_EFFECTS: dict[type[Any], Callable[[World, Any], None]] = {
    ac.StartActor: _start,
    ac.FindActor: _find,
    ac.CheckActor: _check,
    ac.KillActor: _kill,
}
