"""Sessions of a router: opened on the first call, kept while used, closed when idle, opened again."""

from __future__ import annotations

import asyncio
import time
from random import Random

from conditions import until
from fake_replicas import FakeMesh, FakeReplica
from fake_replicas import call as fake_call
from replicas import DEPLOYMENT, TOKEN, LocalMesh, LocalReplica, call, on_io
from virtual_time import in_virtual_time

from meshserve.model.failure import FailureKind
from meshserve.model.targets import DeploymentTargets
from meshserve.routing.fleet import IDLE_S, SWEEP_S
from meshserve.routing.router import Router
from meshserve.rpc.io_thread import io_thread
from meshserve.wire.values import decode_value


@in_virtual_time
async def test_a_session_is_opened_by_the_first_call_and_kept_while_it_is_used():
    replica = FakeReplica("a")
    mesh = FakeMesh([replica])
    assert not replica.sessions
    for _ in range(20):
        await mesh.router.unary(fake_call())
        await asyncio.sleep(IDLE_S - SWEEP_S)
    assert len(replica.sessions) == 1 and not replica.sessions[0].closed


@in_virtual_time
async def test_a_session_that_is_idle_for_five_minutes_is_closed_and_the_next_call_opens_another():
    replica = FakeReplica("a")
    mesh = FakeMesh([replica])
    await mesh.router.unary(fake_call())
    await asyncio.sleep(IDLE_S - 1)
    assert not replica.sessions[0].closed
    await asyncio.sleep(2 * SWEEP_S + 1)
    assert replica.sessions[0].closed
    await mesh.router.unary(fake_call())
    assert len(replica.sessions) == 2 and replica.served == 2


@in_virtual_time
async def test_there_is_one_session_for_each_pair_that_talks_and_none_when_all_rest():
    replicas = [FakeReplica(str(number)) for number in range(20)]
    callers = FakeMesh(replicas, routers=5).routers

    def open_sessions() -> list[int]:
        return [sum(not session.closed for session in replica.sessions) for replica in replicas]

    for caller in callers[:2]:
        await caller.unary(fake_call())
    assert sum(open_sessions()) == 2, "of those that have called, each to the replica it called"
    for caller in callers:
        for _ in range(200):
            await caller.unary(fake_call())
    assert open_sessions() == [len(callers)] * len(replicas)
    await asyncio.sleep(IDLE_S + 2 * SWEEP_S)
    assert not any(open_sessions())


@in_virtual_time
async def test_a_long_call_keeps_its_session():
    replica = FakeReplica("a", 3 * IDLE_S)
    mesh = FakeMesh([replica])
    await mesh.router.unary(fake_call())
    assert not replica.sessions[0].closed


@in_virtual_time
async def test_a_replica_that_is_no_target_keeps_its_session_until_its_calls_are_over():
    a, b = FakeReplica("a", 5.0), FakeReplica("b")
    mesh = FakeMesh([a])
    reply = mesh.router.unary(fake_call())
    mesh.publish(b)
    await asyncio.sleep(1.0)
    assert not a.sessions[0].closed
    await reply
    assert a.sessions[0].closed


@in_virtual_time
async def test_a_broken_session_fails_what_was_there_and_is_tried_again_after_a_pause():
    a, b = FakeReplica("a", 1.0, limit=5), FakeReplica("b", 1.0, limit=5)
    mesh = FakeMesh([a, b])
    replies = [mesh.router.unary(fake_call()) for _ in range(4)]
    await asyncio.sleep(0.1)
    lost = a.admission.ongoing
    a.sessions[0].break_off()
    failures = [reply.failure.kind for reply in replies if reply.failure]
    assert failures == [FailureKind.REPLICA_LOST] * lost and lost
    others = [mesh.router.unary(fake_call(f"after-{number}")) for number in range(3)]
    await asyncio.sleep(0.01)
    assert not any(name.startswith("after") for name in a.seen)
    await asyncio.sleep(1.0)
    await asyncio.gather(*others, *(mesh.router.unary(fake_call("later")) for _ in range(8)))
    assert "later" in a.seen and mesh.router.running == 0


class Model:
    async def echo(self, value):
        return value


class Clock:
    """The monotonic clock, set forward at will."""

    def __init__(self):
        self.ahead_s = 0.0

    def __call__(self):
        return time.monotonic() + self.ahead_s


@on_io
async def test_calls_that_meet_the_closing_of_an_idle_session_are_not_lost():
    async with LocalMesh(LocalReplica("a", Model)) as mesh:
        clock = Clock()
        router = Router(DEPLOYMENT, "", lambda: TOKEN, clock, Random(1), io_thread().spawn)
        router.update(DeploymentTargets(DEPLOYMENT, (1, 1), replicas=(mesh.replicas[0].target,)))
        for number in range(20):
            assert decode_value(await router.unary(call("echo", number))) == number
            first = router.replicas[0].session
            router.fleet._sweep()
            clock.ahead_s += IDLE_S + 1
            router.fleet._sweep()
            reply = router.unary(call("echo", -number))  # in the same breath
            assert router.replicas[0].session is not first
            assert decode_value(await reply) == -number
            await until(lambda first=first: first.task.done())
        assert not router.replicas[0].closed and router.running == 0
        await router.close()
