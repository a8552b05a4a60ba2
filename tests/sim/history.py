"""One random life of a mesh: operations, faults and restarts for a while, then quiet, then the end, or one of these."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from meshserve.core import desire
from meshserve.model.control import ApplicationSpec, CountSource, DeploymentSpec, ProxyOptions
from meshserve.model.ids import DeploymentId
from meshserve.model.options import ActorOptions, AutoscalingOptions, DeploymentOptions, GangOptions
from sim.fakes import Faults
from sim.laws import check_converged, check_laws, check_nothing_was_due
from sim.rest import check_gone, unsettled
from sim.size import Size, draw_faults, draw_size
from sim.world import World

OPERATIONS = ("apply", "scale", "delete", "restart", "crash", "kill", "kill actor", "leave")
WEIGHTS = (7, 4, 2, 3, 2, 3, 1, 1)

VERSIONS = ("v1", "v1", "v1", "v2", "v3")
"""The first often, so that much is changed in place."""

QUIET_S = 400.0
STEP_S = 1.0
REST_STEPS = 2
LONG_REST_STEPS = 6
"""For so many a mesh has to be settled; longer where machines leave, news of which takes five seconds, or where answers
come late."""

KNOWN = 0.9
"""How often a history begins with a controller that knows the cluster; restarts show often enough how it finds out."""

LINGERS_S = (0.0,) * 7 + (8.0,)
"""How long nothing is done while faults go on: health needs time to fail."""

ENDS = (("quiet",), ("end",), ("quiet",), ("end",), ("quiet", "end"))
"""How a history goes on after it was busy. What is shut down in the midst of everything never becomes quiet."""


class LawBroken(AssertionError):
    """A law did not hold; says which seed to run again."""


def live(seed: int) -> World:
    """Runs one history.

    Raises:
        LawBroken: with the seed, the instant and the law.
    """
    rng = Random(seed)
    size = draw_size(rng)
    world = World(seed, draw_faults(rng, size), nodes=rng.randint(1, 2), grid_s=rng.choice(size.grids_s), rng=rng)
    if rng.random() < KNOWN:
        world.know_the_cluster()
    world.after_turn, world.before_turn = check_laws, check_nothing_was_due
    try:
        _be_busy(world, size)
        for stage in rng.choice(ENDS):
            _be_quiet(world) if stage == "quiet" else _end(world)
    except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        history = "\n".join(world.log[-30:])
        raise LawBroken(f"seed {seed} at {world.now:.3f}: {type(error).__name__}: {error}\n{history}") from error
    return world


def _be_busy(world: World, size: Size) -> None:
    if (location := world.rng.choice(size.proxies)) is not None:
        world.want(lambda desired: desire.set_proxies(desired, ProxyOptions(location)))
    _apply(world, size, size.apps[0])
    at = 0.0
    while (at := at + world.rng.expovariate(1 / size.operation_s)) < size.busy_s:
        world.run(at)
        _operate(world, size)
    world.run(min(at, size.busy_s) + world.rng.choice(LINGERS_S))


def _operate(world: World, size: Size) -> None:
    rng = world.rng
    kind = rng.choices(OPERATIONS, weights=WEIGHTS)[0]
    names = list(world.desired.applications)
    world.log.append(f"{world.now:9.3f} {kind}")
    match kind:
        case "apply":
            _apply(world, size, rng.choice(size.apps))
        case "scale" if world.desired.deployments:
            deployment = rng.choice(list(world.desired.deployments))
            source = rng.choice(tuple(CountSource))
            count = rng.randint(0, size.replicas)
            world.want(lambda desired: desire.set_count(desired, deployment, count, source))
        case "delete" if names:
            name = rng.choice(names)
            world.asked_for.discard(name)
            world.want(lambda desired: desire.delete_applications(desired, (name,)))
        case "restart":
            world.restart_controller()
        case "crash":
            world.dies_after = rng.randint(0, 3)
        case "kill" if world.alive():
            world.die(rng.choice(world.alive()))
        case "kill actor" if world.actors.alive():
            world.actors.die(world, rng.choice(world.actors.alive()))
        case "leave" if sum(not node.leaves_at for node in world.nodes.values()) > 1:
            world.leave(rng.choice(list(world.nodes)), rng.choice((30.0, 300.0)))


def _apply(world: World, size: Size, name: str) -> None:
    rng = world.rng
    if rng.random() < 0.1:
        world.bad_versions.add(rng.choice(VERSIONS))
    parts = ("in", "mid", "out")[: rng.randint(1, size.deployments)]
    deployments = tuple(_deployment(world, size, name, part) for part in parts)
    uses = tuple(deployment.id for deployment in deployments[1:])
    first = deployments[0]
    spec = DeploymentSpec(first.id, first.code_version, first.options, uses=uses)
    prefix = f"/{name}/{first.options.user_config['n']}"
    app = ApplicationSpec(name, (spec, *deployments[1:]), "in", rng.choice((prefix, None)))
    world.asked_for.add(name)
    world.want(lambda desired: desire.set_applications(desired, (app,), world.now))


def _deployment(world: World, size: Size, app: str, name: str) -> DeploymentSpec:
    rng = world.rng
    shared = ("x", "y")[: rng.choice(size.actors)]
    auto = AutoscalingOptions(min_replicas=rng.randint(0, 2), max_replicas=4) if rng.random() < 0.2 else None
    gang_size = rng.choice((1, 1, 1, 1, 2, 3))
    options = DeploymentOptions(
        num_replicas=gang_size * rng.randint(1, max(size.replicas // gang_size, 1)),
        gang_scheduling_config=GangOptions(gang_size) if gang_size > 1 else None,
        autoscaling_config=auto,
        user_config={"n": rng.randint(0, 1)},
        max_surge_percent=rng.choice((0, 0, 25, 100)),
        rolling_update_percentage=rng.choice((0.2, 0.5, 1.0)),
        graceful_shutdown_timeout_s=rng.choice((0.0, 5.0, 20.0)),
        max_constructor_retry_count=rng.choice((2, 20)),
        health_check_period_s=rng.choice((0.5, 3.0, 10.0)),
        deployment_actors=tuple(ActorOptions(one, "m:A", init_args=(rng.randint(0, 1),)) for one in shared),
    )
    return DeploymentSpec(DeploymentId(app, name), rng.choice(VERSIONS), options)


def _be_quiet(world: World) -> None:
    """Faults end. What was given up because of them is set again, as people would."""
    late = world.faults.lost_answer or any(node.leaves_at for node in world.nodes.values())
    steps = LONG_REST_STEPS if late else REST_STEPS
    world.faults = Faults()
    _run_until(world, lambda: not unsettled(world), steps)
    again = [
        _renewed(application.spec, world)
        for application in world.desired.applications.values()
        if any(world.seen.deployments[one.id].attempts.given_up for one in application.spec.deployments)
    ]
    if again:
        world.want(lambda desired: desire.set_applications(desired, again, world.now))
        _run_until(world, lambda: not unsettled(world), steps)
    check_converged(world)


def _run_until(world: World, condition: Callable[[], bool], steps: int = 1) -> None:
    """Runs until a condition has held for some steps; whoever needs it to hold checks again."""
    end, held = world.now + QUIET_S, 0
    while world.now < end and held < steps:
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
    check_gone(world)
