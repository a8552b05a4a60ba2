"""Replicas that end while callers still send to them: real sessions over loopback, in one process."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import cloudpickle
import pytest
from replicas import TOKEN, LocalMesh, LocalReplica, call, on_io

from meshserve.model.call import CallKind
from meshserve.model.failure import FailureKind
from meshserve.model.options import DeploymentOptions
from meshserve.replica.control import ReplicaControl
from meshserve.routing.service import CallFailed
from meshserve.rpc.channel import internal_channel
from meshserve.rpc.token import token_metadata
from meshserve.user.context import set_replica_context
from meshserve.v1 import replica_control_pb2, replica_pb2_grpc
from meshserve.wire.options import options_to_json
from meshserve.wire.values import decode_value


class Worker:
    """Counts what ran, wherever it ran."""

    ran = 0

    async def echo(self, value):
        Worker.ran += 1
        return value

    async def each(self, values):
        async for value in values:
            yield value

    async def hold(self):
        Worker.ran += 1
        await asyncio.sleep(60)


async def end(replica, timeout_s=10.0, wait_loop_s=0.001):
    """Drains a replica as the controller does, and kills it as soon as it says that it has drained."""
    control = ReplicaControl(replica.door, lambda user: None)
    request = replica_control_pb2.DrainRequest(timeout_s=timeout_s, wait_loop_s=wait_loop_s)
    response = await control.Drain(request, None)
    await replica.stop()
    return response.abandoned


@on_io
async def test_nothing_is_lost_when_a_replica_ends_before_its_callers_know_that_it_will():
    async with LocalMesh(*(LocalReplica(tag, Worker) for tag in "abcd")) as mesh:
        stopped = asyncio.Event()

        async def unary():
            while not stopped.is_set():
                assert decode_value(await mesh.router.unary(call("echo", 1))) == 1

        async def streaming():
            while not stopped.is_set():
                stream = mesh.router.stream(call("each", kind=CallKind.BIDI_STREAM))
                stream.end_input()
                while await stream.take():
                    pass

        callers = [asyncio.create_task(work()) for work in (unary, streaming) for _ in range(16)]
        for replica in mesh.replicas[:3]:
            assert await end(replica) == 0
        stopped.set()
        await asyncio.gather(*callers)


@on_io
async def test_the_wait_loop_ends_once_every_caller_has_heard_and_not_before():
    async with LocalMesh(LocalReplica("a", Worker), LocalReplica("b", Worker)) as mesh:
        a, b = mesh.replicas
        while not all(replica.session for replica in mesh.router.replicas):
            await asyncio.gather(*(mesh.router.unary(call("echo", 1)) for _ in range(8)))

        ending = asyncio.create_task(end(a, timeout_s=60.0, wait_loop_s=30.0))
        for _ in range(20):
            await mesh.router.unary(call("echo", 1))
        assert not a.admission.draining, "callers that have not heard of it are served"
        mesh.publish(b)
        async with asyncio.timeout(5.0):
            assert await ending == 0


@on_io
async def test_a_replica_has_drained_once_its_callers_have_closed_their_sessions():
    async with LocalMesh(LocalReplica("a", Worker)) as mesh:
        await mesh.router.unary(call("echo", 1))
        (replica,) = mesh.router.replicas
        assert replica.session is not None

        await end(mesh.replicas[0])

        assert replica.session is None
        assert replica.draining


@on_io
async def test_a_caller_that_never_closes_its_session_is_not_waited_for_longer_than_there_is_time():
    async with LocalMesh(LocalReplica("a", Worker)) as mesh:
        channel = internal_channel(mesh.replicas[0].address)
        session = replica_pb2_grpc.ReplicaServiceStub(channel).Session(metadata=token_metadata(TOKEN))
        await session.read()
        async with asyncio.timeout(5.0):
            await end(mesh.replicas[0], timeout_s=0.2)
        await channel.close()


@on_io
async def test_a_call_that_outlasts_the_time_for_draining_fails_and_runs_nowhere_else():
    Worker.ran = 0
    async with LocalMesh(LocalReplica("a", Worker), LocalReplica("b", Worker)) as mesh:
        replies = [mesh.router.unary(call("hold")) for _ in range(8)]
        while sum(replica.admission.ongoing for replica in mesh.replicas) < 8:
            await asyncio.sleep(0.001)
        a, b = mesh.replicas
        ongoing = a.admission.ongoing

        assert await end(a, timeout_s=0.1) == ongoing > 0

        while len(lost := [reply for reply in replies if reply.done]) < ongoing:
            await asyncio.sleep(0.001)
        for reply in lost:
            with pytest.raises(CallFailed, match="graceful_shutdown_timeout_s") as failed:
                await reply
            assert failed.value.failure.kind is FailureKind.REPLICA_LOST
        assert (Worker.ran, a.admission.ongoing, b.admission.ongoing) == (8, 0, 8 - ongoing)


class Slow:
    """Is constructed for as long as it is not destroyed."""

    steps: ClassVar[list[str]] = []

    async def __init__(self):
        Slow.steps.append("begun")
        self.destroyed = asyncio.Event()
        await self.destroyed.wait()

    async def __del__(self):
        Slow.steps.append("destroyed")
        self.destroyed.set()


@on_io
async def test_what_a_constructor_has_made_so_far_is_destroyed_when_its_replica_is_to_end():
    Slow.steps.clear()
    replica, users = LocalReplica("a", Worker), []
    async with LocalMesh(replica):
        control = ReplicaControl(replica.door, users.append)
        code = cloudpickle.dumps((Slow, (), {}))
        request = replica_control_pb2.InitializeRequest(
            app="app", deployment="Slow", code=code, options_json=options_to_json(DeploymentOptions())
        )
        starting = asyncio.ensure_future(control.Initialize(request, None))
        while not Slow.steps:
            await asyncio.sleep(0.001)

        await control.Drain(replica_control_pb2.DrainRequest(timeout_s=0.0, wait_loop_s=0.0), None)

        assert Slow.steps == ["begun", "destroyed"]
        await starting
        for user in users:
            user.close()
        set_replica_context(None)
