"""More calls than there is room for: limits hold, nobody starves, nothing grows, and it is over when it is over."""

from __future__ import annotations

import asyncio
import time
from random import Random

import pytest
from conditions import until
from fake_replicas import FakeMesh, FakeReplica
from fake_replicas import call as fake_call
from replicas import DEPLOYMENT, TOKEN, LocalMesh, LocalReplica, call, on_io
from virtual_time import in_virtual_time

from meshserve.model.failure import FailureKind
from meshserve.model.options import DeploymentOptions
from meshserve.model.targets import DeploymentTargets
from meshserve.replica.admission import Admission
from meshserve.routing.router import Router
from meshserve.routing.standing import LONGEST_LINE
from meshserve.rpc.io_thread import io_thread

LIMIT = 5


class Watched(Admission):
    """Remembers the most calls there ever were."""

    __slots__ = ("most",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.most = 0

    def admit(self) -> bool:
        admitted = super().admit()
        self.most = max(self.most, self.ongoing)
        return admitted


class Model:
    def __init__(self):
        self.running = self.most = 0

    async def work(self):
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.001)
        self.running -= 1

    async def peak(self):
        return self.most


def routers_to(mesh, count, options):
    """More callers of the replicas of a mesh."""
    io = io_thread()
    routers = [Router(DEPLOYMENT, "", lambda: TOKEN, time.monotonic, Random(seed), io.spawn) for seed in range(count)]
    targets = tuple(replica.target for replica in mesh.replicas)
    for router in routers:
        router.update(DeploymentTargets(DEPLOYMENT, (1, 1), replicas=targets, options=options))
    return routers


# -- real replicas ---------------------------------------------------------------------------------------------------


@on_io
async def test_sixteen_callers_never_get_more_than_the_limit_into_a_replica():
    options = DeploymentOptions(max_ongoing_requests=LIMIT)
    replicas = [LocalReplica(tag, Model, options=options) for tag in "ab"]
    for replica in replicas:
        replica.admission = Watched(LIMIT)
    async with LocalMesh(*replicas) as mesh:
        routers = routers_to(mesh, 16, options)
        replies = [router.unary(call("work")) for _ in range(60) for router in routers]
        for reply in replies:
            await reply
        assert [replica.admission.most for replica in replicas] == [LIMIT, LIMIT]
        assert all(replica.user.callable.most <= LIMIT for replica in replicas)
        await until(lambda: not any(replica.admission.ongoing for replica in replicas))
        assert all(router.queued == router.running == 0 for router in routers)
        for router in routers:
            await router.close()


@on_io
async def test_every_call_of_an_overload_gets_an_answer_and_the_next_one_is_served_at_once():
    options = DeploymentOptions(max_ongoing_requests=LIMIT, max_queued_requests=20)
    async with LocalMesh(LocalReplica("a", Model, options=options)) as mesh:
        routers = routers_to(mesh, 4, options)
        replies = []
        for _ in range(30):
            replies += [router.unary(call("work")) for router in routers for _ in range(10)]
            assert all(router.queued <= 20 + LIMIT for router in routers)  # those that were rejected come back
            await asyncio.sleep(0.002)
        await until(lambda: all(reply.done for reply in replies))
        outcomes = {reply.failure.kind if reply.failure is not None else None for reply in replies}
        assert outcomes == {None, FailureKind.BACKPRESSURE}
        async with asyncio.timeout(1):
            await routers[0].unary(call("work"))
        for router in routers:
            await router.close()


# -- virtual time ----------------------------------------------------------------------------------------------------


async def offer(mesh, rate, seconds, rng, outcomes):
    """Calls at random times, to routers in turn; notes (when, latency) or None for a refused one."""
    loop = asyncio.get_running_loop()
    until_at, number = loop.time() + seconds, 0
    while loop.time() < until_at:
        router = mesh.routers[number % len(mesh.routers)]
        number += 1
        since = loop.time()
        reply = router.unary(fake_call(str(number)))
        reply.on_done(
            lambda reply, since=since: outcomes.append(None if reply.failure else (loop.time(), loop.time() - since))
        )
        await asyncio.sleep(rng.expovariate(rate))


@in_virtual_time
async def test_a_minute_of_three_times_the_capacity():
    replicas = [FakeReplica(tag, 0.1, limit=5) for tag in "ab"]
    mesh = FakeMesh(replicas, routers=4, max_queued_requests=10)
    loop, rng, outcomes = asyncio.get_running_loop(), Random(5), []
    capacity, began = 2 * 5 / 0.1, loop.time()
    await offer(mesh, 3 * capacity, 60.0, rng, outcomes)
    over = loop.time()
    assert all(replica.most == 5 for replica in replicas)
    assert all(router.queued <= 10 for router in mesh.routers)
    served = [one for one in outcomes if one is not None]
    assert len(served) > 0.97 * capacity * (over - began)  # goodput at capacity
    assert len(outcomes) > 2.9 * capacity * 60 * 0.95  # and the rest is told so, at once
    latencies = sorted(latency for _, latency in served)
    assert latencies[int(len(latencies) * 0.99)] < 2 * (4 * 10 / capacity + 0.1)  # the full lines, and the work
    rejected = sum(replica.rejected for replica in replicas)
    assert rejected < 1.5 * len(served)  # routers do not knock at full doors all the time

    outcomes.clear()
    await offer(mesh, 0.5 * capacity, 10.0, rng, outcomes)
    after = [latency for at, latency in (one for one in outcomes if one) if at > over + 1.5]  # once the lines are empty
    assert None not in outcomes and max(after) < 0.25


@in_virtual_time
async def test_callers_share_a_full_replica_fairly():
    mesh = FakeMesh([FakeReplica("a", 0.01, limit=5)], routers=16)
    served = [0] * 16

    async def keep_calling(number):
        while asyncio.get_running_loop().time() < 5.0:
            await mesh.routers[number].unary(fake_call())
            served[number] += 1

    await asyncio.gather(*(keep_calling(number) for number in range(16) for _ in range(4)))
    fairness = sum(served) ** 2 / (16 * sum(count * count for count in served))
    assert fairness > 0.9 and min(served) > 0.4 * sum(served) / 16  # 1 would be equal shares (Jain's index)


@in_virtual_time
async def test_waiting_calls_are_served_in_order_of_arrival_also_those_that_were_rejected():
    replica = FakeReplica("a", 0.01, limit=2)
    mesh = FakeMesh([replica])
    replica.admission.admit()  # unknown to the router, so one of the first two is rejected
    replies = [mesh.router.unary(fake_call(str(number))) for number in range(20)]
    await asyncio.sleep(0.05)
    replica.admission.release()
    await asyncio.gather(*replies)
    assert replica.seen == [str(number) for number in range(20)] and replica.rejected == 1


@in_virtual_time
async def test_higher_priority_goes_first_among_those_that_wait():
    replica = FakeReplica("a", 0.01, limit=1)
    mesh = FakeMesh([replica])
    replies = [mesh.router.unary(fake_call(f"{number}", priority=number % 3)) for number in range(7)]
    await asyncio.gather(*replies)
    assert replica.seen == ["0", "2", "5", "1", "4", "3", "6"]


@in_virtual_time
async def test_cancelled_calls_leave_nothing_behind_in_the_line():
    mesh = FakeMesh([FakeReplica("a", 60.0, limit=1)])
    mesh.router.unary(fake_call())
    for _ in range(20):
        for reply in [mesh.router.unary(fake_call()) for _ in range(200)]:
            reply.cancel()
        assert mesh.router.queued == 0
    assert mesh.router._line._stored <= 64 + 200


@in_virtual_time
async def test_even_an_unlimited_line_ends_somewhere():
    mesh = FakeMesh([FakeReplica("a", 60.0, limit=1)])
    mesh.router.unary(fake_call())
    mesh.router.queued = LONGEST_LINE  # as if so many waited
    refused = mesh.router.unary(fake_call())
    assert refused.failure is not None and refused.failure.kind is FailureKind.BACKPRESSURE


@pytest.mark.parametrize("limit", [0, 3])
def test_a_line_holds_as_many_calls_as_it_may(limit):
    @in_virtual_time
    async def check():
        mesh = FakeMesh([FakeReplica("a", 1.0, limit=2)], max_queued_requests=limit)
        replies = [mesh.router.unary(fake_call()) for _ in range(2 + limit + 4)]
        assert [reply.done for reply in replies] == [False] * (2 + limit) + [True] * 4
        await asyncio.gather(*replies[: 2 + limit])

    check()


def test_room_that_one_caller_has_no_use_for_is_offered_to_the_next_as_well():
    told = []
    admission = Admission(3)
    assert [admission.admit() for _ in range(4)] == [True] * 3 + [False]
    for name in "abc":
        admission.when_room(lambda name=name: told.append(name))
    admission.release()
    assert told == ["a"]
    admission.release()  # a has not taken it: two slots are free
    assert told == ["a", "b", "c"]
