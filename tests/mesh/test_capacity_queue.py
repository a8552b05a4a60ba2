"""The capacity queue on real processes: one actor that places the calls of all callers."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import ray
from conftest import RunningApplication

import meshserve as serve
from meshserve.config import DeploymentActorConfig, RequestRouterConfig
from meshserve.experimental.capacity_queue import CapacityQueue, CapacityQueueStats
from meshserve.experimental.capacity_queue_router import CapacityQueueRouter
from meshserve.settings import NAMESPACE


@serve.deployment(
    num_replicas=2,
    max_ongoing_requests=2,
    ray_actor_options={"num_cpus": 0},
    graceful_shutdown_wait_loop_s=0.0,
    deployment_actors=[
        DeploymentActorConfig(
            name="queue", actor_class=CapacityQueue, init_kwargs={"acquire_timeout_s": 0.2, "token_ttl_s": 30.0}
        )
    ],
    request_router_config=RequestRouterConfig(
        request_router_class=CapacityQueueRouter, request_router_kwargs={"capacity_queue_actor_name": "queue"}
    ),
)
class Model:
    async def __call__(self, seconds: float = 0.0) -> str:
        await asyncio.sleep(seconds)
        return serve.get_replica_context().replica_tag


def queue_of(app: str) -> Any:
    """The handle of an application's queue; None while there is none."""
    listed = ray.util.list_named_actors(all_namespaces=True)
    found = [one["name"] for one in listed if one["name"].startswith(f"MESHSERVE_DEPLOYMENT_ACTOR::{app}::")]
    return ray.get_actor(found[0], NAMESPACE) if found else None


def until(app: str, condition: Callable[[CapacityQueueStats], bool]) -> None:
    """Waits until the figures of an application's queue are such."""
    deadline = time.monotonic() + 60
    while True:
        try:
            stats = ray.get(queue_of(app).get_stats.remote())
            if condition(stats):
                return
        except (AttributeError, ValueError, ray.exceptions.RayActorError):
            stats = None  # it is being made
        assert time.monotonic() < deadline, stats
        time.sleep(0.05)


def test_one_queue_places_the_calls_of_all_callers(run: Callable[..., RunningApplication]) -> None:
    app = run(Model.bind())
    until(app.name, lambda stats: (stats.num_replicas, stats.total_capacity) == (2, 4))
    calls = [app.handle.remote(1.0) for _ in range(5)]
    until(app.name, lambda stats: stats.total_in_flight == 4 and stats.total_timeouts > 0)
    assert sorted(Counter(call.result() for call in calls).values()) == [2, 3], "the fifth had to wait"
    until(app.name, lambda stats: stats.total_in_flight == 0)

    ray.kill(queue_of(app.name))
    assert app.handle.remote().result(timeout_s=30), "calls go on without it"
    until(app.name, lambda stats: stats.num_replicas == 2)
    while not ray.get(queue_of(app.name).get_stats.remote()).total_acquires:
        app.handle.remote().result(timeout_s=30)
