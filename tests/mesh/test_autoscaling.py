"""Autoscaling as a person sees it: replicas come with load and go without it, and no call is lost."""

import asyncio
import os
import time

import meshserve as serve

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
