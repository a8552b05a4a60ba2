"""One random life of a mesh: operations, faults and restarts for a while, then quiet, then the end."""

from __future__ import annotations

from collections.abc import Callable

from meshserve.core import desire
from meshserve.core.seen import STOPPING, Phase, SeenDeployment
from meshserve.model.control import ApplicationSpec, CountSource, DeploymentSpec, ProxyOptions
from meshserve.model.ids import DeploymentId
from meshserve.model.options import ActorOptions, AutoscalingOptions, DeploymentOptions
from meshserve.model.status import ApplicationState, DeploymentState
from sim.laws import check_converged, check_laws, check_nothing_was_due
from sim.world import Faults, World

BUSY_S = 16.0
OPERATIONS = ("apply", "scale", "delete", "restart", "kill", "kill actor", "leave")
WEIGHTS = (8, 4, 2, 2, 2, 1, 0.5)
OPERATION_S = 2.0
"""Mean time between operations: shorter than most of what they set off, so that they meet."""

GRIDS_S = (0.125, 0.25, 0.5, 0.5)
"""How much is heard at once: little, so that everything has its own turn, or much, so that turns have a lot to do."""

QUIET_S = 400.0
STEP_S = 1.0
REST_STEPS = 6
"""For so long a mesh has to be settled; news of the machines takes five seconds, and may unsettle it again."""


class LawBroken(AssertionError):
    """A law did not hold; says which seed to run again."""


def live(seed: int) -> World:
    """Runs one history.

    Raises:
        LawBroken: with the seed, the instant and the law.
    """
    world = World(seed, _draw_faults(seed), grid_s=GRIDS_S[seed % len(GRIDS_S)])
    world.after_turn, world.before_turn = check_laws, check_nothing_was_due
    try:
        _be_busy(world)
        _be_quiet(world)
        _end(world)
    except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        history = "\n".join(world.log[-30:])
        raise LawBroken(f"seed {seed} at {world.now:.3f}: {type(error).__name__}: {error}\n{history}") from error
    return world


def _draw_faults(seed: int) -> Faults:
    world = World(seed)
    rng = world.rng
    return Faults(
        launch_fails=rng.choice((0, 0, 0.1, 0.3)),
        constructor_fails=rng.choice((0, 0, 0.1, 0.3)),
        reconfigure_fails=rng.choice((0, 0, 0.1)),
        check_fails=rng.choice((0, 0, 0.05, 0.2)),
        lost_answer=rng.choice((0, 0.1)),
        life_s=rng.choice((0, 0, 60, 300)),
    )


def _be_busy(world: World) -> None:
    world.want(lambda desired: desire.set_proxies(desired, ProxyOptions(world.rng.choice(("EveryNode", "HeadOnly")))))
    at = 0.0
    while (at := at + world.rng.expovariate(1 / OPERATION_S)) < BUSY_S:
        world.run(at)
        _operate(world)
    world.run(BUSY_S)


def _operate(world: World) -> None:
    rng = world.rng
    kind = rng.choices(OPERATIONS, weights=WEIGHTS)[0]
    names = list(world.desired.applications)
    world.log.append(f"{world.now:9.3f} {kind}")
    match kind:
        case "apply":
            _apply(world, rng.choice(("a", "b")))
        case "scale" if world.desired.deployments:
            deployment = rng.choice(list(world.desired.deployments))
            source = rng.choice(tuple(CountSource))
            count = rng.randint(0, 5)
            world.want(lambda desired: desire.set_count(desired, deployment, count, source))
        case "delete" if names:
            name = rng.choice(names)
            world.want(lambda desired: desire.delete_applications(desired, (name,)))
        case "restart":
            world.restart_controller()
        case "kill" if world.alive():
            world.die(rng.choice(world.alive()))
        case "kill actor" if world.actors.alive():
            world.actors.die(rng.choice(world.actors.alive()))
        case "leave" if sum(not node.leaves_at for node in world.nodes.values()) > 1:
            world.leave(rng.choice(list(world.nodes)), rng.choice((30.0, 300.0)))


def _apply(world: World, name: str) -> None:
    rng = world.rng
    if rng.random() < 0.1:
        world.bad_versions.add(f"v{rng.randint(1, 3)}")
    deployments = tuple(_deployment(world, name, part) for part in ("in", "mid", "out")[: rng.randint(1, 3)])
    uses = tuple(deployment.id for deployment in deployments[1:])
    first = deployments[0]
    spec = DeploymentSpec(first.id, first.code_version, first.options, uses=uses)
    app = ApplicationSpec(name, (spec, *deployments[1:]), "in", rng.choice((f"/{name}", None)))
    world.want(lambda desired: desire.set_applications(desired, (app,), world.now))


def _deployment(world: World, app: str, name: str) -> DeploymentSpec:
    rng = world.rng
    actors = tuple(ActorOptions(one, "m:A", init_args=(rng.randint(0, 1),)) for one in ("x", "y")[: rng.randint(0, 2)])
    auto = AutoscalingOptions(min_replicas=rng.randint(0, 2), max_replicas=4) if rng.random() < 0.2 else None
    options = DeploymentOptions(
        num_replicas=rng.randint(1, 5),
        autoscaling_config=auto,
        user_config={"n": rng.randint(0, 1)},
        max_surge_percent=rng.choice((0, 0, 25, 100)),
        rolling_update_percentage=rng.choice((0.2, 0.5, 1.0)),
        graceful_shutdown_timeout_s=rng.choice((0.0, 5.0, 20.0)),
        max_constructor_retry_count=rng.choice((2, 20)),
        health_check_period_s=rng.choice((3.0, 10.0)),
        deployment_actors=actors if rng.random() < 0.4 else (),
    )
    return DeploymentSpec(DeploymentId(app, name), f"v{rng.randint(1, 3)}", options)


def _be_quiet(world: World) -> None:
    """Faults end. What was given up because of them is set again, as people would."""
    world.faults = Faults()
    _run_until(world, lambda: not _unsettled(world))
    again = [
        _renewed(application.spec, world)
        for application in world.desired.applications.values()
        if any(world.seen.deployments[one.id].attempts.given_up for one in application.spec.deployments)
    ]
    if again:
        world.want(lambda desired: desire.set_applications(desired, again, world.now))
        _run_until(world, lambda: not _unsettled(world))
    check_converged(world)


def _unsettled(world: World) -> bool:
    """Whether something is still under way that will come to an end."""
    if any(application.deleting or application.dropped for application in world.desired.applications.values()):
        return True
    endless = {one.id for one in world.seen.deployments.values() if _is_tried_for_ever(world, one)}
    if any(
        status.state is ApplicationState.DEPLOYING and not any(one.app == name for one in endless)
        for name, status in world.seen.applications.items()
    ):
        return True
    return any(
        (one.status.state is not DeploymentState.HEALTHY and not one.attempts.given_up) or _is_being_left(one)
        for one in world.seen.deployments.values()
        if one.id not in endless
    )


def _is_being_left(deployment: SeenDeployment) -> bool:
    """Replicas are on their way out; a deployment is called HEALTHY all the same."""
    phases = {replica.phase for replica in deployment.replicas.values()}
    return Phase.MIGRATING in phases or not phases.isdisjoint(STOPPING)


def _is_tried_for_ever(world: World, deployment: SeenDeployment) -> bool:
    """A version that could start once is never given up, though it went bad since."""
    version = deployment.want.spec.code_version if deployment.want is not None else ""
    return version in world.bad_versions and deployment.attempts.succeeded


def _run_until(world: World, condition: Callable[[], bool]) -> None:
    """Runs until a condition has held for a while; whoever needs it to hold checks again."""
    end, held = world.now + QUIET_S, 0
    while world.now < end and held < REST_STEPS:
        world.run(world.now + STEP_S)
        held = held + 1 if condition() else 0


def _renewed(spec: ApplicationSpec, world: World) -> ApplicationSpec:
    deployments = tuple(
        DeploymentSpec(
            one.id,
            one.code_version if one.code_version in world.bad_versions else f"{one.code_version}-again",
            one.options,
            uses=one.uses,
        )
        for one in spec.deployments
    )
    return ApplicationSpec(spec.name, deployments, spec.ingress, spec.route_prefix)


def _end(world: World) -> None:
    """The mesh is shut down, perhaps with a restart in the middle; nothing may be left."""
    world.want(desire.shut_down)
    if world.rng.random() < 0.3:
        world.run(world.now + world.rng.uniform(0, 3))
        world.restart_controller()
    _run_until(world, lambda: world.plan.over)
    assert not world.alive(), f"left over: {[replica.id for replica in world.alive()]}"
    assert not world.actors.alive(), f"left over: {world.actors.alive()}"
    assert not world.proxies, f"left over: {world.proxies}"
    assert world.plan.over and not world.stored, "the mesh never said that it has stopped"
