"""Scaling as a person sees it: replicas come with load and go without it, and what is too much is said so at once."""

import asyncio
import os
import time
from collections import Counter

import httpx

import meshserve as serve
from meshserve.config import AutoscalingPolicy

FAST = {"upscale_delay_s": 0.1, "downscale_delay_s": 0.5, "look_back_period_s": 0.5, "metrics_interval_s": 0.1}


@serve.deployment(max_ongoing_requests=4, graceful_shutdown_wait_loop_s=0.1, ray_actor_options={"num_cpus": 0})
class Worker:
    async def __call__(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return os.getpid()


def running(name: str) -> int:
    """The replicas that run."""
    return serve.status().applications[name].deployments["Worker"].replica_states.get("RUNNING", 0)


async def until_running(name: str, count: int) -> None:
    """Waits until so many replicas run."""
    async with asyncio.timeout(25):
        while await asyncio.to_thread(running, name) != count:
            await asyncio.sleep(0.05)


def test_replicas_go_from_one_to_three_and_back_under_load_without_a_lost_call(run):
    config = {**FAST, "min_replicas": 1, "max_replicas": 3, "target_ongoing_requests": 2}
    app = run(Worker.options(autoscaling_config=config).bind())

    async def scenario():
        callers = 8
        answered = 0

        async def caller(number):
            nonlocal answered
            while number < callers:
                await app.handle.remote(0.02)  # a lost call raises
                answered += 1

        tasks = [asyncio.create_task(caller(number)) for number in range(callers)]
        await until_running(app.name, 3)
        callers = 1  # one goes on while replicas leave
        await until_running(app.name, 1)
        callers = 0
        await asyncio.gather(*tasks)
        return answered

    assert asyncio.run(scenario()) > 8


def test_a_deployment_scaled_to_zero_starts_at_the_first_call(run):
    config = {**FAST, "min_replicas": 0, "max_replicas": 2, "initial_replicas": 1}
    app = run(Worker.options(autoscaling_config=config).bind())
    asyncio.run(until_running(app.name, 0))
    began_at = time.monotonic()
    assert app.handle.remote(0.0).result(timeout_s=20) > 0
    assert time.monotonic() - began_at < 20


def by_backlog(context):
    """A policy for what replicas say of themselves."""
    return sum(context.aggregated_metrics.get("backlog", {}).values()) or 1, {}


def test_replicas_follow_a_figure_of_their_own_by_a_policy_of_the_program(run):
    @serve.deployment(
        autoscaling_config={
            **FAST,
            "max_replicas": 3,
            "aggregation_function": "max",
            "policy": AutoscalingPolicy(lambda context: by_backlog(context)),
        },
        ray_actor_options={"num_cpus": 0},
    )
    class Worker:
        def __init__(self):
            self.backlog = 0

        async def __call__(self, backlog):
            self.backlog = backlog

        async def record_autoscaling_stats(self):
            return {"backlog": self.backlog}

    app = run(Worker.bind())
    app.handle.remote(2).result()
    asyncio.run(until_running(app.name, 2))
    app.handle.broadcast("__call__", 0).results(timeout_s=10)
    asyncio.run(until_running(app.name, 1))


def test_three_times_the_capacity_is_served_at_capacity_and_over_when_it_is_over(run):
    capacity, seconds = 40, 3.0

    @serve.deployment(max_ongoing_requests=4, max_queued_requests=8, ray_actor_options={"num_cpus": 0})
    class Worker:
        async def __call__(self, request):
            await asyncio.sleep(4 / capacity)

    app = run(Worker.bind())
    outcomes = []

    async def call(client):
        began_at = time.monotonic()
        answer = await client.get(app.url)
        outcomes.append((answer.status_code, time.monotonic() - began_at))

    async def overload():
        async with httpx.AsyncClient(timeout=30) as client, asyncio.TaskGroup() as calls:
            for _ in range(int(3 * capacity * seconds)):
                calls.create_task(call(client))
                await asyncio.sleep(1 / (3 * capacity))
        async with httpx.AsyncClient(timeout=5) as client:
            assert (await client.get(app.url)).status_code == 200

    asyncio.run(overload())
    statuses = Counter(status for status, _ in outcomes)
    assert set(statuses) == {200, 503}
    assert statuses[200] > 0.5 * capacity * seconds  # all of it on a machine that has nothing else to do
    assert max(latency for status, latency in outcomes if status == 200) < 10 * (8 + 4) / capacity
