"""Where explorations begin, and what people may do meanwhile: small meshes, each about one thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from meshserve.core import desire
from meshserve.model.control import ApplicationSpec, CountSource, DeploymentSpec
from meshserve.model.ids import DeploymentId
from meshserve.model.options import ActorOptions, DeploymentOptions, GangOptions
from sim.explored import ExploredWorld
from sim.fakes import Faults

Operation = Callable[[ExploredWorld], None]

BAD = "bad"
"""The version whose constructor raises."""

INGRESS = DeploymentId("a", "in")
CALLED = DeploymentId("a", "out")


@dataclass(frozen=True)
class Scope:
    """One exploration.

    Attributes:
        before: what the mesh has come to rest with when the exploration begins; None for nothing.
        first: what is done then.
        menu: what may be done after that, at any time, by name.
    """

    name: str
    first: Operation
    before: Operation | None = None
    nodes: int = 1
    menu: dict[str, Operation] = field(default_factory=dict)


def apply(version: str = "v1", count: int = 2, called: bool = False, **options: Any) -> Operation:
    """The application is set, with one deployment or with another one that it calls."""

    given = DeploymentOptions(num_replicas=count, **options)
    uses = (CALLED,) if called else ()
    deployments = [DeploymentSpec(INGRESS, version, given, uses=uses)]
    deployments += [DeploymentSpec(one, version, given) for one in uses]
    app = ApplicationSpec("a", tuple(deployments), "in", f"/{options.get('user_config')}")

    def operation(world: ExploredWorld) -> None:
        world.asked_for.add("a")
        world.want(lambda desired: desire.set_applications(desired, (app,), world.now))

    return operation


def scale(count: int) -> Operation:
    """The autoscaler wants so many."""

    def operation(world: ExploredWorld) -> None:
        if INGRESS in world.desired.deployments:
            world.want(lambda desired: desire.set_count(desired, INGRESS, count, CountSource.AUTOSCALER))

    return operation


def delete(world: ExploredWorld) -> None:
    """The application is deleted."""
    if world.asked_for:
        world.asked_for.clear()
        world.want(lambda desired: desire.delete_applications(desired, ("a",)))


def shut_down(world: ExploredWorld) -> None:
    """The mesh is shut down."""
    world.asked_for.clear()
    world.want(desire.shut_down)


def leave(world: ExploredWorld) -> None:
    """The machine of the first replica announces that it goes away."""
    staying = [node for node in world.nodes.values() if not node.leaves_at]
    if len(staying) > 1:
        world.leave(staying[0].node_id, 300.0)


def leave_a_gap(world: ExploredWorld) -> None:
    """The first replica dies and is not wanted any more, so the other one has to take its rank."""
    world.die(world.alive()[0])
    scale(1)(world)


def _menu(**options: Any) -> dict[str, Operation]:
    bad = {**options, "max_constructor_retry_count": 1}
    return {
        "set v1": apply(**options),
        "set v2": apply("v2", **options),
        "set a version that cannot start": apply(BAD, **bad),
        "set v1 with other options": apply(user_config=1, **options),
        "scale to 1": scale(1),
        "scale to 3": scale(3),
        "delete": delete,
        "shut down": shut_down,
    }


_SURGE = {"max_surge_percent": 50, "max_constructor_retry_count": 1}
_GANG = {"gang_scheduling_config": GangOptions(2)}
_SHARED = {"deployment_actors": (ActorOptions("x", "m:A"),)}
_OTHER_SHARED = {"deployment_actors": (ActorOptions("x", "m:A", init_args=(1,)),)}

SCOPES = (
    Scope("shared actors", apply(**_OTHER_SHARED), apply(**_SHARED), menu=_menu(**_SHARED)),
    Scope("a start", apply(), menu=_menu()),
    Scope("an update", apply("v2"), apply(), menu=_menu()),
    Scope("an update with surge", apply("v2", **_SURGE), apply(**_SURGE), menu=_menu(**_SURGE)),
    Scope("an update that fails", apply(BAD, max_constructor_retry_count=1), apply(), menu=_menu()),
    Scope("new options", apply(user_config=1), apply(), menu=_menu()),
    Scope("fewer and more", scale(1), apply(), menu=_menu()),
    Scope("a gap in the ranks", leave_a_gap, apply(), menu=_menu()),
    Scope("a deletion", delete, apply(count=1, called=True), menu=_menu(called=True)),
    Scope("a shutdown", shut_down, apply(called=True), menu={"shut down": shut_down}),
    Scope("a gang", apply("v2", **_GANG), apply(**_GANG), menu=_menu(**_GANG)),
    Scope("a machine that leaves", leave, apply(), nodes=2, menu={**_menu(), "leave": leave}),
)
"""The one that takes longest first, so that all cores are done at about the same time."""


def begin(scope: Scope) -> ExploredWorld:
    """The mesh as the exploration finds it, before the first thing is done."""
    world = ExploredWorld(0, nodes=scope.nodes)
    world.know_the_cluster()
    world.bad_versions.add(BAD)
    if scope.before is not None:
        scope.before(world)
        world.take_turns()
        while not world.is_at_rest():
            ready = world.ready()
            world.happen(ready) if ready else world.wait()
    world.faults = Faults(1.0, 1.0, 1.0, 1.0, 1.0)  # each of them may happen wherever it is asked for
    return world
