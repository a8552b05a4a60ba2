"""Explores what can become of a small mesh: a tree of worlds, with every law checked in every state.

Random histories (`history`) spend most of their time on getting to the same places. Here histories share what they have
in common: a world is forked where it could go on in another way, and is not gone on with where it has become like one
seen before. That is bounded model checking, as TLC and spin do it, of the code itself.

What is bounded is how often a history *deviates* from the plain one, in which things happen in the order in which they
were begun and nothing goes wrong: the delay bounding of Emmi, Qadeer and Rakamaric (POPL 2011). To deviate is to let
something else happen first, or several things at once, to let time pass meanwhile, to set, scale or delete something,
to have something fail that is tried, a process die or fall ill, or the controller die, between two turns or amid its
actions. Histories with fewer deviations come first, so what is found is as short as it can be.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random

from meshserve.model.replace import record, replace
from sim.explored import ExploredWorld
from sim.identity import Identities
from sim.laws import check_converged, check_laws
from sim.rest import check_gone
from sim.scopes import Scope, begin
from sim.world import Happening

LONGEST = 300
"""Steps in which a mesh has to come to rest once nothing disturbs it."""

TOLD = 60
"""Steps of a history that are told: the last."""

WIDEST = 5_000
"""So many places are kept at which histories may deviate once more; a sample when there are more."""


class LawBroken(AssertionError):
    """A law did not hold; tells the history."""


@record
class Deed:
    """Something that is done to the mesh.

    Attributes:
        text: for people.
    """

    text: str
    act: Callable[[ExploredWorld], None]

    def __call__(self, world: ExploredWorld) -> None:
        self.act(world)

    def __str__(self) -> str:
        return self.text


@record
class Together:
    """Some of what is under way happens at once."""

    happenings: list[Happening]

    def __call__(self, world: ExploredWorld) -> None:
        world.happen(self.happenings)

    def __str__(self) -> str:
        return " and ".join(
            f"{happens.__name__.strip('_')} {' '.join(map(str, arguments))}"
            for _, _, happens, arguments in self.happenings
        )


@record
class Step:
    """What happens next.

    Attributes:
        yes: which of the things that may fail in it do.
        dies_after: so many of its actions are performed before the controller dies; None while it lives.
    """

    what: Deed | Together
    yes: tuple[int, ...] = ()
    dies_after: int | None = None

    def take(self, world: ExploredWorld, number: int) -> None:
        """Has it happen, as the step of this number."""
        world.yes, world.dies_after, world.seed = self.yes, self.dies_after, number
        world.asked = world.acted = 0
        self.what(world)
        world.dies_after = None

    def __str__(self) -> str:
        fails = f", and {len(self.yes)} of what is tried goes wrong {self.yes}" if self.yes else ""
        dies = f", and the controller dies after {self.dies_after} actions" if self.dies_after is not None else ""
        return f"{self.what}{fails}{dies}"


@record
class Branch:
    """A step, when it was taken, and how that came about."""

    at: float
    step: Step
    before: Branch | None = None

    def history(self) -> str:
        """The steps that led here, and this one; or the last of them."""
        lines: list[str] = []
        branch: Branch | None = self
        while branch is not None:
            lines.append(f"{branch.at:9.3f} {branch.step}")
            branch = branch.before
        return "\n".join(reversed(lines[:TOLD]))

    def judge(self, act: Callable[[ExploredWorld], None], world: ExploredWorld) -> None:
        """Does something at which a law may turn out to be broken.

        Raises:
            LawBroken: with the history.
        """
        try:
            act(world)
        except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise LawBroken(f"{type(error).__name__}: {error}\n{self.history()}") from error


@record
class Place:
    """Where a history can go on in other ways: a step, and the worlds before and after it, which are not edited."""

    before: ExploredWorld
    branch: Branch
    after: ExploredWorld

    def others(self, scope: Scope) -> Iterator[tuple[ExploredWorld, Branch]]:
        """Everything that deviates once more, in this step or after it: with the world to which it happens."""
        at, step, earlier = self.branch.at, self.branch.step, self.branch.before
        for question in range(step.yes[-1] + 1 if step.yes else 0, self.after.asked):
            yield self.before, Branch(at, replace(step, yes=(*step.yes, question)), earlier)
        if step.dies_after is None:
            for performed in range(self.after.acted):
                yield self.before, Branch(at, replace(step, dies_after=performed), earlier)
        for what in deviations(self.after, scope):
            yield self.after, Branch(self.after.now, Step(what), self.branch)


@dataclass
class Explored:
    """What was explored.

    Attributes:
        histories: distinct ones, each from the beginning to rest or to a state that had been seen. Of each only what
            it does not share with an earlier one was executed.
        states: turns of the controller that were executed and had every law checked.
        complete: all histories with so many deviations were lived.
    """

    scope: str
    histories: int = 0
    states: int = 0
    complete: int = -1


class Explorer:
    """One exploration.

    Args:
        scope: where it begins and what may be done.
        deviations: at most so many.
        states: about so many turns.
    """

    def __init__(self, scope: Scope, deviations: int, states: int) -> None:
        self.explored = Explored(scope.name)
        self._scope, self._deviations, self._states = scope, deviations, states
        self._rng = Random(scope.name)
        self._seen: set[int] = set()
        self._identities = Identities()
        self._passed: list[Place] = []
        self._passes = 0

    def explore(self) -> Explored:
        """Lives histories until all are lived or there were enough.

        Raises:
            LawBroken: with the history.
        """
        world = begin(self._scope)
        world.after_turn = check_laws
        first = Step(Deed("at first", partial(_operate, operation=self._scope.first)))
        self._live(world, Branch(world.now, first), self._deviations)
        for deviation in range(1, self._deviations + 1):
            self.explored.complete += self._passes == len(self._passed)
            passed, self._passed, self._passes = self._passed, [], 0
            for world, branch in self._in_turns(passed):
                if self.explored.states >= self._states:
                    return self.explored
                self._live(world, branch, self._deviations - deviation)
        self.explored.complete += 1
        return self.explored

    def _in_turns(self, passed: list[Place]) -> Iterator[tuple[ExploredWorld, Branch]]:
        """All ways to go on from some places, by chance: of each place one, then of each another one, and so on."""
        self._rng.shuffle(passed)
        waiting = deque(self._by_chance(place) for place in passed)
        while waiting:
            others = waiting.popleft()
            if (other := next(others, None)) is not None:
                waiting.append(others)
                yield other

    def _by_chance(self, place: Place) -> Iterator[tuple[ExploredWorld, Branch]]:
        others = list(place.others(self._scope))
        self._rng.shuffle(others)
        yield from others

    def _live(self, world: ExploredWorld, branch: Branch, deviations_left: int) -> None:
        """Takes a step and goes on as plainly as can be, to rest or to where others have been.

        Args:
            world: to which it happens; not edited.
        """
        self.explored.histories += 1
        path = set[int]()
        before, world = world, world.fork()
        for _ in range(LONGEST):
            turns = world.turns
            branch.judge(partial(branch.step.take, number=self.explored.states), world)
            self.explored.states += world.turns - turns
            identity = self._identities.of_world(world)
            known = identity in self._seen
            if deviations_left:
                self._pass(Place(before, branch, world))
            if identity in path:
                raise LawBroken(f"it goes round in circles\n{branch.history()}")
            if known:
                return
            self._seen.add(identity)
            path.add(identity)
            if world.is_at_rest():
                branch.judge(check_gone if world.plan.over else partial(check_converged, gives_up=True), world)
                return
            branch = Branch(world.now, Step(plainly(world)), branch)
            if deviations_left:
                before, world = world, world.fork()
        raise LawBroken(f"it does not come to rest\n{branch.history()}")

    def _pass(self, place: Place) -> None:
        """Histories that deviate here are to be lived; a sample of them when there are too many."""
        self._passes += 1
        if len(self._passed) < WIDEST:
            self._passed.append(place)
        elif (number := self._rng.randrange(self._passes)) < WIDEST:
            self._passed[number] = place


def plainly(world: ExploredWorld) -> Deed | Together:
    """What happens when nothing is out of order."""
    ready = world.ready()
    if ready and world.plan.wake_at > world.now:
        return Together(ready[:1])
    return _TIME_PASSES


def deviations(world: ExploredWorld, scope: Scope) -> Iterator[Deed | Together]:
    """What could happen instead."""
    ready = world.ready()
    wakes = world.plan.wake_at <= world.now
    yield from (Together([one]) for one in ready[0 if wakes else 1 :])
    if len(ready) > 1:
        yield Together(ready)
    if ready and not wakes and world.next_at() < math.inf:
        yield Deed("time passes meanwhile", ExploredWorld.wait)
    for text, operation in scope.menu.items():
        yield Deed(text, partial(_operate, operation=operation))
    yield Deed("the controller dies", ExploredWorld.restart_controller)
    for replica in world.alive():
        yield Deed(f"{replica.id} dies", partial(_die, tag=replica.id.tag))
        if replica.ready and not replica.ill:
            yield Deed(f"{replica.id} falls ill", partial(_fall_ill, tag=replica.id.tag))
    for actor in world.actors.alive():
        yield Deed(f"{actor.id} dies", _lose_actor)


_TIME_PASSES = Deed("time passes", ExploredWorld.wait)


def _operate(world: ExploredWorld, operation: Callable[[ExploredWorld], None]) -> None:
    operation(world)
    world.take_turns()


def _die(world: ExploredWorld, tag: str) -> None:
    world.die(next(one for one in world.alive() if one.id.tag == tag))


def _fall_ill(world: ExploredWorld, tag: str) -> None:
    world.change(next(one for one in world.alive() if one.id.tag == tag), ill=True)


def _lose_actor(world: ExploredWorld) -> None:
    world.actors.die(world, world.actors.alive()[0])
