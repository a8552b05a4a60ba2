"""A mesh of any size at rest, for figures."""

from __future__ import annotations

from meshserve.core import desire
from meshserve.model.control import ApplicationSpec, DeploymentSpec, ProxyOptions
from meshserve.model.ids import DeploymentId
from meshserve.model.options import DeploymentOptions
from sim.world import World


def large_world(deployments: int, replicas: int, per_app: int = 10, nodes: int = 50) -> World:
    """Everything applied, nothing run yet."""
    world = World(1, nodes=nodes, room=deployments * replicas + 1)
    specs = [
        ApplicationSpec(
            f"app{app}",
            tuple(
                DeploymentSpec(DeploymentId(f"app{app}", f"d{one}"), "v1", DeploymentOptions(num_replicas=replicas))
                for one in range(per_app)
            ),
            "d0",
            f"/app{app}",
        )
        for app in range(deployments // per_app)
    ]
    world.want(lambda desired: desire.set_applications(desired, specs, 0.0))
    world.want(lambda desired: desire.set_proxies(desired, ProxyOptions()))
    return world
