"""One replica ten times slower than the others is hardly seen at the 99th percentile; in virtual time."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from fake_replicas import FakeMesh, FakeReplica, call
from virtual_time import in_virtual_time

CALLS = 3000


def replicas(count, seed, limit, slow):
    rng = Random(seed)
    healthy = [FakeReplica(f"r{number}", lambda: rng.uniform(0.007, 0.013), limit) for number in range(count - 1)]
    return healthy + ([FakeReplica("slow", lambda: rng.uniform(0.07, 0.13), limit)] if slow else [])


def p99(latencies):
    return sorted(latencies)[int(len(latencies) * 0.99)]


async def with_callers(mesh, callers, calls=CALLS):
    """Latencies of calls made by so many callers, each of whom waits for its answer before the next one."""
    latencies, loop = [], asyncio.get_running_loop()

    async def caller():
        while len(latencies) < calls:
            since = loop.time()
            await mesh.router.unary(call())
            latencies.append(loop.time() - since)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return latencies


async def at_random(mesh, rate, rng, calls=CALLS):
    """Latencies of calls that come when they like."""
    latencies, loop = [], asyncio.get_running_loop()

    async def one():
        since = loop.time()
        await mesh.router.unary(call())
        latencies.append(loop.time() - since)

    async with asyncio.TaskGroup() as calling:
        for _ in range(calls):
            calling.create_task(one())
            await asyncio.sleep(rng.expovariate(rate))
    return latencies


@pytest.mark.parametrize("limit", [5, 100])
@pytest.mark.parametrize("callers", [1, 16])
@pytest.mark.parametrize("count", [2, 4, 8])
def test_p99_is_as_good_as_without_it(count, callers, limit):
    @in_virtual_time
    async def check():
        with_it = await with_callers(FakeMesh(replicas(count, 1, limit, slow=True)), callers)
        without = await with_callers(FakeMesh(replicas(count, 1, limit, slow=False)), callers)
        assert p99(with_it) <= 1.5 * p99(without)

    check()


@pytest.mark.parametrize("load", [0.3, 0.8])
def test_p99_is_as_good_for_calls_at_random_times(load):
    @in_virtual_time
    async def check():
        rate = load * 3 * 5 / 0.01
        with_it = await at_random(FakeMesh(replicas(4, 1, 5, slow=True)), rate, Random(2))
        without = await at_random(FakeMesh(replicas(4, 1, 5, slow=False)), rate, Random(2))
        assert p99(with_it) <= 1.5 * p99(without)

    check()


@in_virtual_time
async def test_a_replica_that_becomes_slow_is_found_out_and_one_that_recovers_is_used_again():
    pace = {"s": 0.01}
    changing = FakeReplica("changing", lambda: pace["s"])
    mesh = FakeMesh([changing, *replicas(4, 1, 100, slow=False)])
    await with_callers(mesh, 8)
    fair = changing.served
    assert fair > CALLS / 6
    pace["s"] = 0.1
    await with_callers(mesh, 8)
    assert changing.served - fair < CALLS / 50
    pace["s"] = 0.01
    await with_callers(mesh, 8, 3 * CALLS)
    before = changing.served
    await with_callers(mesh, 8)
    assert changing.served - before > CALLS / 6


@in_virtual_time
async def test_a_slow_replica_is_used_when_calls_would_wait_longer_than_it_takes():
    slow = FakeReplica("slow", 0.1, limit=5)
    mesh = FakeMesh([slow, FakeReplica("quick", 0.01, limit=1)], max_queued_requests=1000)
    replies = [mesh.router.unary(call()) for _ in range(200)]
    await asyncio.gather(*replies)
    assert 20 < slow.served < 100


@in_virtual_time
async def test_a_slow_replica_is_used_rather_than_a_call_refused():
    slow = FakeReplica("slow", 0.1, limit=5)
    mesh = FakeMesh([slow, FakeReplica("quick", 0.01, limit=1)], max_queued_requests=1)
    await with_callers(mesh, 1, 50)
    replies = [mesh.router.unary(call()) for _ in range(6)]
    await asyncio.gather(*replies)
    assert not any(reply.failure for reply in replies)


@in_virtual_time
async def test_when_everything_is_slow_nothing_is_held_back():
    pace = {"s": 0.01}
    both = [FakeReplica(tag, lambda: pace["s"], limit=4) for tag in "ab"]
    mesh = FakeMesh(both)
    await with_callers(mesh, 8, 500)
    pace["s"] = 0.3
    since, loop = both[0].served + both[1].served, asyncio.get_running_loop()
    began = loop.time()
    await with_callers(mesh, 8, 200)
    rate = (both[0].served + both[1].served - since) / (loop.time() - began)
    assert rate > 0.95 * 8 / 0.3
