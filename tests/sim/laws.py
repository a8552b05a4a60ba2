"""The laws of the control plane, checked after every turn of a simulated mesh (DESIGN section 4)."""

from __future__ import annotations

import math

from meshserve.core import actions as ac
from meshserve.core.plan import Plan, plan
from meshserve.core.rollout import batch_size
from meshserve.core.seen import SERVING, STARTING, STOPPING, Phase, SeenDeployment
from meshserve.core.serving import is_well
from meshserve.model.ids import DeploymentId
from meshserve.model.status import ApplicationState, DeploymentState
from sim.world import World

CHOSEN = ("", "its node goes away")
"""Reasons to stop a replica that is well: our own doing."""


def check_laws(world: World, before: Plan, now: Plan) -> None:
    """All laws that hold at every instant."""
    if world.turns % 4 == 0:  # it costs as much as everything else together
        _is_at_rest(world, now)
    for deployment in now.seen.deployments.values():
        _targets_are_ready(world, deployment)
        _ranks_are_unique(deployment)
        _healthy_is_true(deployment)
    _never_too_many(world, now)
    _never_too_few(world, now)
    _versions_rise(before, now)


def _is_at_rest(world: World, now: Plan) -> None:
    """Planning at one instant comes to rest, whether or not the previous plan is used."""
    for previous in (now, None) if world.turns % 16 == 0 else (now,):
        again = plan(world.desired, now.seen, world.now, lambda: "never", previous)
        assert not again.actions, f"a second plan asks for {again.actions[:3]}"
        assert not again.targets and again.routes is None, f"a second plan publishes {again.targets or again.routes}"
        assert again.wake_at == now.wake_at, f"wakes at {now.wake_at}, planned again at {again.wake_at}"


def _targets_are_ready(world: World, deployment: SeenDeployment) -> None:
    """A published target is ready and not draining; one that just died may not be known to be dead yet."""
    targets = world.published.get(deployment.id)
    for target in targets.replicas if targets is not None else ():
        replica = next(one for one in world.replicas.values() if one.id.tag == target.tag)
        assert replica.ready or not replica.alive, f"{replica.id} is published and not ready"
        seen = deployment.replicas.get(target.tag)
        if targets is deployment.published:
            assert seen is not None and seen.phase in SERVING, f"{replica.id} is published and {seen}"


def _ranks_are_unique(deployment: SeenDeployment) -> None:
    """Among replicas that stay; one that refused its new rank ends its calls with the old one."""
    staying = [one for one in deployment.replicas.values() if one.phase not in STOPPING and not one.retire]
    ranks = [replica.rank.rank for replica in staying if replica.rank is not None]
    assert len(ranks) == len(set(ranks)), f"{deployment.id} has ranks {sorted(ranks)}"
    if is_well(deployment) and not any(replica.ranking for replica in deployment.replicas.values()):
        assert sorted(ranks) == list(range(len(ranks))), f"{deployment.id} is well and has ranks {sorted(ranks)}"


def _healthy_is_true(deployment: SeenDeployment) -> None:
    """HEALTHY is never said of a deployment with fewer replicas in service than wanted."""
    want = deployment.want
    if want is None or deployment.status.state is not DeploymentState.HEALTHY:
        return
    serving = [one for one in deployment.replicas.values() if one.phase in SERVING and not one.retire]
    assert len(serving) >= want.count, f"{deployment.id} is called HEALTHY with {len(serving)} of {want.count}"
    assert all(one.build.version == want.version for one in serving), f"{deployment.id} is HEALTHY and outdated"


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
        most = want.count + math.ceil(want.spec.options.max_surge_percent * want.count / 100)
        assert alive <= most, f"{deployment_id}: {alive} processes for {most} places"


def _never_too_few(world: World, now: Plan) -> None:
    """What is in service never falls below what is wanted by our own doing."""
    for deployment_id, may_dip in _taken_by_us(world, now).items():
        want = world.desired.deployments[deployment_id]
        if want.deleting:
            continue
        options = want.spec.options
        rolling = now.seen.deployments[deployment_id].attempts.rolling
        floor = want.count - batch_size(options, want.count) if rolling and may_dip else want.count
        serving = [
            one
            for one in now.seen.deployments[deployment_id].replicas.values()
            if one.phase in SERVING and not one.retire
        ]
        assert len(serving) >= floor, f"{deployment_id}: {len(serving)} serve, {floor} is the least"


def _taken_by_us(world: World, now: Plan) -> dict[DeploymentId, bool]:
    """Deployments from which this plan took replicas that served well; whether the rollout's budget is for that."""
    taken: dict[DeploymentId, bool] = {}
    for action in now.actions:
        if not isinstance(action, ac.DrainReplica | ac.ReconfigureReplica):
            continue
        deployment_id, tag = action.replica.deployment, action.replica.tag
        was = world.heard.deployments[deployment_id].replicas[tag]
        replica = now.seen.deployments[deployment_id].replicas[tag]
        if was.phase is not Phase.READY or replica.phase is Phase.READY or replica.retire not in CHOSEN:
            continue
        node = now.seen.cluster.nodes.get(was.process.node_id if was.process else "")
        if node is not None and node.leaves_at:
            continue
        surge = world.desired.deployments[deployment_id].spec.options.max_surge_percent
        may_dip = isinstance(action, ac.ReconfigureReplica) or not surge
        taken[deployment_id] = taken.get(deployment_id, False) or may_dip
    return taken


def _versions_rise(before: Plan, now: Plan) -> None:
    for targets in now.targets:
        assert targets.version[1] > before.seen.number or targets.version[0] > before.seen.epoch


def check_converged(world: World) -> None:
    """Without faults everything wanted is there, nothing else is, and it is said so, of the newest generation."""
    for name, application in world.desired.applications.items():
        status = world.seen.applications[name]
        assert not application.deleting, f"{name} never went away"
        assert status.generation == application.generation, f"{name}: generation {application.generation} unreported"
        bad = any(spec.code_version in world.bad_versions for spec in application.spec.deployments)
        assert bad or status.state is ApplicationState.RUNNING, f"{name} is {status}"
    for deployment_id, want in world.desired.deployments.items():
        deployment = world.seen.deployments[deployment_id]
        if want.spec.code_version not in world.bad_versions:
            assert deployment.status.state is DeploymentState.HEALTHY, f"{deployment_id} is {deployment.status}"
            alive = len(world.alive(deployment_id))
            assert alive == want.count, f"{deployment_id}: {alive} processes, {want.count} wanted"
            assert len(world.published[deployment_id].replicas) == want.count
        elif not deployment.attempts.succeeded:
            assert not any(one.phase in STARTING for one in deployment.replicas.values()), "a bad version is retried"
    wanted = world.desired.deployments.keys()
    leaked = [replica.id for replica in world.alive() if replica.id.deployment not in wanted]
    assert not leaked, f"processes nobody wants: {leaked}"
