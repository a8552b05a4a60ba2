"""The actors that replicas share, in the make-believe cluster: what becomes of the actions about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meshserve.core import actions as ac
from meshserve.core import events as ev
from meshserve.model.ids import ActorId, DeploymentId

if TYPE_CHECKING:
    from sim.world import World


@dataclass
class FakeActor:
    """One actor as it really is.

    Attributes:
        watched: the controller that runs now hears of its death.
    """

    id: ActorId
    alive: bool = True
    ready: bool = False
    watched: bool = True


class Actors:
    """All actors of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.all: dict[ActorId, FakeActor] = {}
        self._effects: dict[type[Any], Callable[[Any], None]] = {
            ac.StartActor: self._start,
            ac.FindActor: self._find,
            ac.CheckActor: self._check,
            ac.KillActor: self._kill,
        }

    def perform(self, action: ac.StartActor | ac.FindActor | ac.CheckActor | ac.KillActor) -> None:
        """An action takes effect after a while."""
        self._effects[type(action)](action)

    def alive(self, deployment: DeploymentId | None = None) -> list[FakeActor]:
        """Actors that exist, of one deployment or of all."""
        return [one for one in self.all.values() if one.alive and deployment in (None, one.id.deployment)]

    def is_ready(self, actor: ActorId) -> bool:
        """Whether an actor can be used."""
        return actor in self.all and self.all[actor].alive and self.all[actor].ready

    def die(self, actor: FakeActor) -> None:
        """An actor ends by itself."""
        if actor.alive:
            actor.alive = actor.ready = False
            if actor.watched:
                self._tell(0.1, ev.ActorDied(actor.id))

    def unwatch(self) -> None:
        """The controller that watched them is gone."""
        for actor in self.all.values():
            actor.watched = False

    def _tell(self, mean_s: float, event: ev.ActorEvent) -> None:
        self._world.at(self._world.soon(mean_s), self._world.answer(event))

    def _start(self, action: ac.StartActor) -> None:
        world, there = self._world, self.all.get(action.actor)
        assert there is None or not there.alive, f"{action.actor} is there and made again"
        actor = self.all[action.actor] = FakeActor(action.actor)
        fails = action.options.name in world.bad_actors or world.rng.random() < world.faults.constructor_fails
        ready = world.answer(ev.ActorReady(actor.id))
        failed = world.answer(ev.ActorFailed(actor.id, "ValueError: the constructor raised"))

        def constructed() -> None:
            if actor.alive and not fails:
                actor.ready = True
                ready()
            elif actor.alive:
                actor.alive = False
                failed()

        world.at(world.soon(1.0), constructed)
        if world.faults.life_s:
            world.at(world.rng.expovariate(1 / world.faults.life_s), lambda: self._end_of_life(actor))

    def _end_of_life(self, actor: FakeActor) -> None:
        if self._world.faults.life_s and actor.ready:
            self.die(actor)

    def _find(self, action: ac.FindActor) -> None:
        world, actor, life = self._world, self.all[action.actor], self._world.life

        def found() -> None:
            if life != world.life:
                return
            actor.watched = actor.alive
            if not actor.alive:
                world.post(ev.ActorDied(actor.id))
            elif actor.ready:
                world.post(ev.ActorReady(actor.id))
            else:
                world.at(1.0, found)

        world.at(world.soon(0.3), found)

    def _check(self, action: ac.CheckActor) -> None:
        if self.is_ready(action.actor) and self._world.rng.random() >= self._world.faults.check_fails:
            self._tell(0.1, ev.ActorHealthy(action.actor))
        else:
            self._tell(0.1, ev.ActorUnhealthy(action.actor, "it did not answer"))

    def _kill(self, action: ac.KillActor) -> None:
        world, actor, life = self._world, self.all[action.actor], self._world.life
        if world.faults.lost_answer and world.rng.random() < world.faults.lost_answer:
            return  # it shows no effect, and nobody says so
        answer = world.answer(ev.ActorDied(action.actor))

        def killed() -> None:
            if life != world.life:
                self.die(actor)  # the next controller may have found it alive
            actor.alive = actor.ready = False
            answer()

        world.at(world.soon(0.2), killed)
