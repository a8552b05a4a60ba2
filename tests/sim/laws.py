"""The laws of the control plane, checked after every turn of a simulated mesh (DESIGN section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from meshserve.core import actions as ac
from meshserve.core.health import STRIKES
from meshserve.core.parts import RECOVERY_S
from meshserve.core.plan import Plan, plan
from meshserve.core.seen import RECOVERING, SERVING, STARTING, STOPPING, Phase, SeenDeployment, SeenReplica
from meshserve.core.tiers import TIER_S
from meshserve.core.weights import needs_reconfigure
from meshserve.model.control import DesiredDeployment
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.model.options import DeploymentOptions
from meshserve.model.status import ApplicationState, DeploymentState, Trigger
from meshserve.model.targets import DeploymentTargets, RouteTable
from sim.actor_laws import are_there, check_actors_converged, kept_for_its_replicas, started_after_its_actors
from sim.attempt_laws import check_attempts, forgotten_when_gone, started_after_a_while
from sim.gang_laws import check_gangs, check_groups, check_started_whole, has_failed, larger_gang, loses_a_node
from sim.heard_laws import heard_is_known
from sim.world import World

CHOSEN = ("", "its node goes away")
"""Reasons to stop a replica that is well: our own doing."""

TAKING = (ac.DrainReplica, ac.ReconfigureReplica)
"""Actions that take a replica out of service."""

REST_EVERY = 8
"""Turns from one check of the resting law to the next."""

FRESH_EVERY = 3 * REST_EVERY
"""The same for the half of it that plans everything from scratch."""

EARLY_EVERY = 2 * REST_EVERY
"""The same for the law that nothing was due earlier."""

A_MOMENT_S = 1e-6


def check_laws(world: World, before: Plan, now: Plan) -> None:
    """All laws that hold at every instant."""
    # It costs as much as everything else together. Which turns are checked differs from seed to seed.
    turn, machines = world.turns + world.seed, before.seen.cluster.nodes
    moved = bool(machines) and now.seen.cluster.nodes is not machines
    if turn % REST_EVERY == 0 or moved:
        _is_at_rest(world, now, (now, None) if turn % FRESH_EVERY == 0 or moved else (now,))
    heard_is_known(world)
    for deployment in now.seen.deployments.values():
        # Only what changed: a replica that is alive and ready stays ready, the others look at nothing else.
        was = before.seen.deployments.get(deployment.id)
        if deployment is not was:
            _targets_are_ready(world, deployment)
            _what_must_go_goes(deployment)
            well = _is_well(deployment)
            _ranks_are_unique(deployment, well)
            _healthy_is_true(deployment, well)
            check_gangs(deployment)
            check_attempts(deployment, was, well)
    for targets in now.targets:
        _unknown_is_not_withdrawn(world, now, targets)
    _running_is_true(world, now)
    if now.routes is not None and before.seen.listed:  # what was deleted and set again meanwhile is not known else
        _paths_stay(world, before, now.routes)
    for action in now.actions:
        for law in LAWS_OF_ACTIONS.get(type(action), ()):
            law(world, now, action)
    kinds = {type(action) for action in now.actions}
    if ac.StartReplica in kinds:
        check_started_whole(now)
        _never_too_many(world, now)
    if not kinds.isdisjoint(TAKING):
        _never_too_few(world, now)
    _versions_rise(before, now)


def check_nothing_was_due(world: World, until: float) -> None:
    """Until the instant a plan names, time alone calls for nothing: planned from scratch, nothing is asked for.

    Args:
        until: when the next turn is; nothing is heard before.
    """
    now = world.plan
    at = min(until, now.wake_at) - A_MOMENT_S
    if at <= world.now or not now.seen.listed or (world.turns + world.seed) % EARLY_EVERY:
        return
    then = plan(world.desired, now.seen, at, lambda: "early", None)
    assert not then.actions, f"{then.actions[:3]} was due before {at}, and the plan wakes at {now.wake_at}"
    assert not then.targets and then.routes is None, f"{then.targets or then.routes} was due before {at}"
    assert then.seen.applications == now.seen.applications, "the status has changed and nobody wakes to say so"


def _is_at_rest(world: World, now: Plan, previously: tuple[Plan | None, ...]) -> None:
    """Planning at one instant comes to rest, whether or not the previous plan is used."""
    for previous in previously:
        again = plan(world.desired, now.seen, world.now, lambda: "never", previous)
        assert not again.actions, f"a second plan asks for {again.actions[:3]}"
        assert not again.targets and again.routes is None, f"a second plan publishes {again.targets or again.routes}"
        assert again.wake_at == now.wake_at, f"wakes at {now.wake_at}, planned again at {again.wake_at}"


def _targets_are_ready(world: World, deployment: SeenDeployment) -> None:
    """A published target is ready and not draining; one that just died may not be known to be dead yet."""
    targets = world.published.get(deployment.id)
    for target in targets.replicas if targets is not None else ():
        replica = world.replicas[ReplicaId(deployment.id, target.tag)]
        assert replica.ready or not replica.alive, f"{replica.id} is published and not ready"
        seen = deployment.replicas.get(target.tag)
        if targets is deployment.published:
            told = replica.ended_in == world.life or (replica.alive and replica.draining)
            assert not told, f"{replica.id} was told to end and is published"
            assert seen is not None and seen.phase in SERVING, f"{replica.id} is published and {seen}"


def _unknown_is_not_withdrawn(world: World, now: Plan, targets: DeploymentTargets) -> None:
    """A restarted controller takes nobody out of service of whom it does not know yet whether it serves."""
    before = world.published_before.get(targets.deployment)
    if before is None or not targets.exists or world.now >= now.seen.began_at + RECOVERY_S:
        return
    known = now.seen.deployments[targets.deployment].replicas
    for tag in {one.tag for one in before.replicas} - {one.tag for one in targets.replicas}:
        assert tag not in known or known[tag].phase not in RECOVERING, f"{tag} is withdrawn while it is recovered"


def _what_must_go_goes(deployment: SeenDeployment) -> None:
    """A replica with a reason to stop is stopping, unless it is not known yet what it is."""
    for replica in deployment.replicas.values():
        allowed = not replica.retire or replica.phase in STOPPING or replica.phase in RECOVERING
        assert allowed, f"{replica.id} has to go ({replica.retire}) and is {replica.phase}"


def _ranks_are_unique(deployment: SeenDeployment, well: bool) -> None:
    """Among replicas that stay; one that refused its new rank ends its calls with the old one."""
    staying = [one for one in deployment.replicas.values() if one.phase not in STOPPING and not one.retire]
    ranks = [replica.rank.rank for replica in staying if replica.rank is not None]
    assert len(ranks) == len(set(ranks)), f"{deployment.id} has ranks {sorted(ranks)}"
    if well and not any(replica.ranking for replica in deployment.replicas.values()):
        assert sorted(ranks) == list(range(len(ranks))), f"{deployment.id} is well and has ranks {sorted(ranks)}"


def _is_well(deployment: SeenDeployment) -> bool:
    want = deployment.want
    if want is None or want.deleting or deployment.attempts.given_up or len(deployment.replicas) != want.count:
        return False
    return are_there(deployment, want) and all(
        one.phase is Phase.READY and _is_current(one, want) for one in deployment.replicas.values()
    )


def _is_current(replica: SeenReplica, want: DesiredDeployment) -> bool:
    build = replica.build
    sent = not needs_reconfigure(build.options, want.spec.options) and build.route_prefix == want.route_prefix
    return sent and build.version == want.version


def _healthy_is_true(deployment: SeenDeployment, well: bool) -> None:
    """HEALTHY is said of a deployment only while what is wanted is in service, and is said as soon as all is well."""
    want, state = deployment.want, deployment.status.state
    if well:
        assert state is DeploymentState.HEALTHY, f"{deployment.id} is well and called {deployment.status}"
    if want is None or state is not DeploymentState.HEALTHY:
        return
    serving = _in_service(deployment)
    assert len(serving) >= want.count, f"{deployment.id} is called HEALTHY with {len(serving)} of {want.count}"
    assert all(_is_current(one, want) for one in serving), f"{deployment.id} is HEALTHY and outdated"


def _in_service(deployment: SeenDeployment) -> list[SeenReplica]:
    return [one for one in deployment.replicas.values() if one.phase in SERVING and not one.retire]


def _running_is_true(world: World, now: Plan) -> None:
    """RUNNING is said of the newest generation, and only when every deployment has taken it in and is well."""
    for name, status in now.seen.applications.items():
        application = world.desired.applications[name]
        assert status.generation == application.generation, f"{name} reports generation {status.generation}"
        if status.state is not ApplicationState.RUNNING:
            continue
        for spec in application.spec.deployments:
            known = now.seen.deployments[spec.id]
            assert known.want is world.desired.deployments[spec.id], f"{name} runs, {spec.id} has not heard of it"
            by_itself = known.status.trigger is Trigger.AUTOSCALING
            assert by_itself or known.status.state is DeploymentState.HEALTHY, f"{name} runs, {spec.id} is not well"


def _paths_stay(world: World, before: Plan, now: RouteTable) -> None:
    """An application that moves is reached by its former prefix too, until it has run by the new one for a while."""
    routed = {one.app: {one.route_prefix, *one.former_prefixes} for one in now.applications}
    taken = {one.route_prefix for one in now.applications}
    for one in world.routes_before.applications if world.routes_before is not None else ():
        application = world.desired.applications.get(one.app)
        if application is None or application.deleting or (one.app, application.generation) in before.seen.leaving:
            continue
        lost = {one.route_prefix, *one.former_prefixes} - routed[one.app] - taken - {None}
        assert not lost, f"{one.app} is not reached by {lost} any more, and has not run by {one.route_prefix}"


def _left_when_moved(world: World, now: Plan, action: ac.LeavePrefixes) -> None:
    """A former prefix is left only by an application that runs by the newest."""
    status = now.seen.applications[action.app]
    assert status.state is ApplicationState.RUNNING, f"{action.app} leaves its former prefix and is {status}"


def _told_one_thing_at_a_time(world: World, now: Plan, action: ac.ReconfigureReplica) -> None:
    """Options or a rank are sent to a replica only once it has taken what it was sent before: answers do not say to
    which of two they are."""
    was = world.heard.deployments[action.replica.deployment].replicas[action.replica.tag]
    assert not was.ranking and was.phase is not Phase.RECONFIGURING, f"{was.id} has not answered yet"


def _drained_before_killed(world: World, now: Plan, action: ac.KillReplica) -> None:
    """A replica that serves is not killed: it leaves the targets and ends its calls first, or its time is over.

    Unless another one of its gang has failed.
    """
    deployment = world.heard.deployments[action.replica.deployment]
    was = deployment.replicas[action.replica.tag]
    assert was.phase not in SERVING or has_failed(deployment, was), f"{was.id} serves and is killed"
    if was.phase is Phase.DRAINING:
        want = now.seen.deployments[was.id.deployment].want
        options = want.spec.options if want is not None else was.build.options
        assert world.now >= was.since + options.graceful_shutdown_timeout_s, f"{was.id} still has time"


def _callers_end_first(world: World, now: Plan, action: ac.DrainReplica) -> None:
    """A deployment that goes away ends no call while those that call it, and go away too, still may make some."""
    called = now.seen.deployments[action.replica.deployment]
    deleted = called.want is not None and called.want.deleting and not called.replicas[action.replica.tag].retire
    for caller in world.desired.deployments.values() if deleted else ():
        if caller.deleting and called.id in caller.spec.uses and world.now < called.since + TIER_S:
            known = now.seen.deployments[caller.spec.id].replicas.values()
            assert all(one.phase in STOPPING for one in known), f"{called.id} ends before {caller.spec.id}"
            assert not any(one.phase is Phase.DRAINING for one in known), f"{caller.spec.id} may still call"


def _unhealthy_thrice(world: World, now: Plan, action: ac.DrainReplica) -> None:
    """A replica is given up for its health after three checks in a row, or because it refused what it was sent."""
    replica, real = action.replica, world.replicas[action.replica]
    well = real.strikes < STRIKES and not real.refused and real.alive
    reason = now.seen.deployments[replica.deployment].replicas[replica.tag].retire
    assert not (well and reason == "unhealthy"), f"{replica} failed {real.strikes} checks in a row"


LAWS_OF_ACTIONS: dict[type[Any], tuple[Callable[[World, Plan, Any], None], ...]] = {
    ac.LeavePrefixes: (_left_when_moved,),
    ac.ReconfigureReplica: (_told_one_thing_at_a_time,),
    ac.KillReplica: (_drained_before_killed,),
    ac.DrainReplica: (_callers_end_first, _unhealthy_thrice),
    ac.StartReplica: (started_after_its_actors, started_after_a_while),
    ac.Forget: (forgotten_when_gone,),
    ac.KillActor: (kept_for_its_replicas,),
}
"""Laws about one action: each with the kind that it is about."""


def _never_too_many(world: World, now: Plan) -> None:
    """Whatever is started finds its place: no more processes than target and surge, those that move away apart."""
    for deployment_id in {action.replica.deployment for action in now.actions if isinstance(action, ac.StartReplica)}:
        want = world.desired.deployments[deployment_id]
        started = sum(
            isinstance(action, ac.StartReplica) and action.replica.deployment == deployment_id for action in now.actions
        )
        moving = [
            one
            for one in now.seen.deployments[deployment_id].replicas.values()
            if one.phase is Phase.MIGRATING and world.replicas[one.id].alive
        ]
        alive = len(world.alive(deployment_id)) - len(moving) + started
        heard = world.heard.deployments.get(deployment_id)
        outdated = heard and any(one.build.version != want.version for one in _in_service(heard))
        options = want.spec.options
        surge = math.ceil(options.max_surge_percent * want.count / 100)
        most = want.count + (math.ceil(surge / options.gang_size) * options.gang_size if outdated else 0)
        assert alive <= most, f"{deployment_id}: {alive} processes for {most} places"


def _never_too_few(world: World, now: Plan) -> None:
    """What is in service never falls below what is wanted by our own doing."""
    for deployment_id, may_dip in _taken_by_us(world, now).items():
        want = world.desired.deployments[deployment_id]
        if want.deleting:
            continue
        deployment = now.seen.deployments[deployment_id]
        options = want.spec.options
        rolling = deployment.attempts.rolling and not deployment.attempts.given_up
        may_miss = _away_in_rollout(options, want.count) if rolling and may_dip else 0
        may_miss += larger_gang(deployment, options)
        serving, floor = len(_in_service(deployment)), want.count - may_miss
        assert serving >= floor, f"{deployment_id}: {serving} serve, {floor} is the least"


def _away_in_rollout(options: DeploymentOptions, count: int) -> int:
    """How many may be away at a time: as many whole ones as the percentage holds, one at least, in whole gangs."""
    away = max((away for away in range(1, count + 1) if away <= options.rolling_update_percentage * count), default=1)
    return math.ceil(away / options.gang_size) * options.gang_size


def _taken_by_us(world: World, now: Plan) -> dict[DeploymentId, bool]:
    """Deployments from which this plan took replicas that served well; whether the rollout's budget is for that."""
    taken: dict[DeploymentId, bool] = {}
    for action in now.actions:
        if not isinstance(action, TAKING):
            continue
        deployment_id, tag = action.replica.deployment, action.replica.tag
        was = world.heard.deployments[deployment_id].replicas[tag]
        replica = now.seen.deployments[deployment_id].replicas[tag]
        if was.phase is not Phase.READY or replica.phase is Phase.READY or replica.retire not in CHOSEN:
            continue
        if loses_a_node(now, now.seen.deployments[deployment_id], was):
            continue
        surge = world.desired.deployments[deployment_id].spec.options.max_surge_percent
        may_dip = isinstance(action, ac.ReconfigureReplica) or not surge
        taken[deployment_id] = taken.get(deployment_id, False) or may_dip
    return taken


def _versions_rise(before: Plan, now: Plan) -> None:
    for targets in now.targets:
        assert targets.version[1] > before.seen.number or targets.version[0] > before.seen.epoch


def check_converged(world: World, gives_up: bool = False) -> None:
    """Without faults everything wanted is there, nothing else is, and it is said so, of the newest generation.

    Args:
        gives_up: there were faults, so a version may have been given up for them.
    """
    bad = {
        deployment_id
        for deployment_id, want in world.desired.deployments.items()
        if want.spec.code_version in world.bad_versions
        or (gives_up and world.seen.deployments[deployment_id].attempts.given_up)
    }
    assert world.desired.applications.keys() == world.asked_for, f"{sorted(world.asked_for)} were asked for"
    for name, application in world.desired.applications.items():
        status = world.seen.applications[name]
        assert not application.deleting, f"{name} never went away"
        assert status.generation == application.generation, f"{name}: generation {application.generation} unreported"
        well = bad.isdisjoint(spec.id for spec in application.spec.deployments)
        assert not well or status.state is ApplicationState.RUNNING, f"{name} is {status}"
        assert not well or not application.former_prefixes, f"{name} is still reached by {application.former_prefixes}"
    for deployment_id, want in world.desired.deployments.items():
        deployment = world.seen.deployments[deployment_id]
        if deployment_id not in bad:
            assert deployment.status.state is DeploymentState.HEALTHY, f"{deployment_id} is {deployment.status}"
            alive = len(world.alive(deployment_id))
            assert alive == want.count, f"{deployment_id}: {alive} processes, {want.count} wanted"
            assert len(world.published[deployment_id].replicas) == want.count
        elif not deployment.attempts.succeeded:
            assert not any(one.phase in STARTING for one in deployment.replicas.values()), "a bad version is retried"
    check_groups(world)
    wanted = world.desired.deployments.keys()
    check_actors_converged(world)
    leaked = [replica.id for replica in world.alive() if replica.id.deployment not in wanted]
    assert not leaked, f"processes nobody wants: {leaked}"
