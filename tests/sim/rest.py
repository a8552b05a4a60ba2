"""When a simulated mesh is at rest: nothing is under way any more that will come to an end."""

from __future__ import annotations

from meshserve.core.seen import STARTING, STOPPING, Phase, SeenDeployment
from meshserve.model.control import DesiredApplication
from meshserve.model.status import ApplicationState, DeploymentState
from sim.world import World


def unsettled(world: World) -> bool:
    """Whether something is still under way that will come to an end."""
    if not world.seen.listed:
        return True
    if any(one.deleting or one.dropped or _is_moved(world, one) for one in world.desired.applications.values()):
        return True
    endless = {one.id for one in world.seen.deployments.values() if _is_tried_for_ever(world, one)}
    if any(
        status.state is ApplicationState.DEPLOYING and not any(one.app == name for one in endless)
        for name, status in world.seen.applications.items()
    ):
        return True
    return any(
        (one.status.state is not DeploymentState.HEALTHY and not one.attempts.given_up) or _is_moving(one)
        for one in world.seen.deployments.values()
        if one.id not in endless
    )


def _is_moved(world: World, application: DesiredApplication) -> bool:
    """Whether it will leave its former route prefixes."""
    runs = world.seen.applications[application.spec.name].state is ApplicationState.RUNNING
    return runs and bool(application.former_prefixes)


def _is_moving(deployment: SeenDeployment) -> bool:
    """Replicas come or go: one is called HEALTHY while they still leave, and given up while a last one still tries.

    Or a placement group does.
    """
    phases = {replica.phase for replica in deployment.replicas.values()}
    return Phase.MIGRATING in phases or not phases.isdisjoint(STOPPING | STARTING) or any(deployment.gangs.values())


def _is_tried_for_ever(world: World, deployment: SeenDeployment) -> bool:
    """A version that could start once is never given up, though it went bad since."""
    version = deployment.want.spec.code_version if deployment.want is not None else ""
    return version in world.bad_versions and deployment.attempts.succeeded


def check_gone(world: World) -> None:
    """A mesh that was shut down has left nothing."""
    assert not world.alive(), f"left over: {[replica.id for replica in world.alive()]}"
    assert not world.actors.alive(), f"left over: {world.actors.alive()}"
    assert not world.groups, f"left over: {world.groups}"
    assert not world.proxies, f"left over: {world.proxies}"
    assert world.plan.over and not world.stored, "the mesh never said that it has stopped"
