"""Deadlines, cancellation and flow control of gRPC calls, from the client to user code and back."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
from conditions import until
from grpc_app import Waiting
from grpc_mesh import GrpcMesh
from replicas import on_io
from rpcs.v1.shapes_pb2 import Note

from meshserve.model.options import DeploymentOptions

DEADLINE = grpc.StatusCode.DEADLINE_EXCEEDED


async def requests(*, then_wait=False):
    yield Note()
    if then_wait:
        await asyncio.sleep(60)


@on_io
async def test_a_clients_deadline_cancels_user_code():
    async with GrpcMesh({"one": Waiting}) as mesh:
        user = mesh.user("one")
        calls = (
            mesh.shapes.Unary(Note(), timeout=0.3),
            mesh.shapes.Down(Note(), timeout=0.3),
            mesh.shapes.Up(requests(), timeout=0.3),
        )
        assert [await call.code() for call in calls] == [DEADLINE] * 3
        await until(lambda: user.ends == ["cancelled"] * 3)
        await until(lambda: mesh.ongoing("one") == 0 and mesh.in_flight.count == 0)


@on_io
async def test_the_limit_of_the_ingress_ends_a_call_and_says_so():
    async with GrpcMesh({"one": Waiting}, request_timeout_s=0.2) as mesh:
        for call in (mesh.shapes.Unary(Note(), timeout=30), mesh.shapes.Up(requests())):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is DEADLINE
            assert caught.value.details() == "Request timed out after 0.2s."
            assert dict(caught.value.trailing_metadata())["request_id"]
        await until(lambda: mesh.user("one").ends == ["cancelled"] * 2)


@on_io
async def test_a_stream_that_takes_too_long_ends_after_the_items_it_had():
    async with GrpcMesh({"one": Waiting}, request_timeout_s=0.3) as mesh:
        call = mesh.shapes.Down(Note())
        assert (await call.read()).text == "first"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is DEADLINE


@on_io
async def test_a_negative_limit_is_none():
    async with GrpcMesh({"one": Waiting}, request_timeout_s=-1) as mesh:
        call = mesh.shapes.Unary(Note())
        await until(lambda: mesh.user("one").started)
        assert not call.done()
        call.cancel()


@on_io
async def test_cancelling_any_kind_of_call_cancels_user_code():
    async with GrpcMesh({"one": Waiting}) as mesh:
        user = mesh.user("one")
        calls = (mesh.shapes.Unary(Note()), mesh.shapes.Down(Note()), mesh.shapes.Up(requests(then_wait=True)))
        await until(lambda: user.started == 3)
        for call in calls:
            call.cancel()
        await until(lambda: user.ends == ["cancelled"] * 3)
        await until(lambda: mesh.ongoing("one") == 0 and mesh.in_flight.count == 0)


@on_io
async def test_a_synchronous_handler_that_waits_for_requests_ends_when_the_client_goes_away():
    async with GrpcMesh({"one": Waiting}) as mesh:
        call = mesh.shapes.Both(requests(then_wait=True))
        assert await call.read() == Note()
        call.cancel()
        await until(lambda: mesh.user("one").ends == ["input ended"])
        await until(lambda: mesh.ongoing("one") == 0)


@on_io
async def test_a_closed_connection_cancels_all_its_calls():
    async with GrpcMesh({"one": Waiting}) as mesh:
        channel = grpc.aio.insecure_channel(mesh.address, options=[("grpc.use_local_subchannel_pool", 1)])
        unary = channel.unary_unary("/meshserve.tests.v1.ShapesService/Unary")
        calls = [unary(b"") for _ in range(20)]
        await until(lambda: mesh.user("one").started == 20)
        await channel.close()
        await until(lambda: len(mesh.user("one").ends) == 20)
        assert all(call.done() for call in calls)
        await until(lambda: mesh.ongoing("one") == 0 and mesh.in_flight.count == 0)


@on_io
async def test_calls_that_wait_for_room_are_cancelled_before_they_start():
    async with GrpcMesh({"one": Waiting}, replica=DeploymentOptions(max_ongoing_requests=1)) as mesh:
        first = mesh.shapes.Unary(Note())
        await until(lambda: mesh.user("one").started == 1)
        assert await mesh.shapes.Unary(Note(), timeout=0.2).code() is DEADLINE
        first.cancel()
        await until(lambda: mesh.ongoing("one") == 0)
        assert mesh.user("one").started == 1


@on_io
async def test_a_full_queue_sheds():
    options = DeploymentOptions(max_ongoing_requests=1, max_queued_requests=1)
    async with GrpcMesh({"one": Waiting}, replica=options) as mesh:
        calls = [mesh.shapes.Unary(Note())]
        await until(lambda: mesh.user("one").started == 1)
        calls += [mesh.shapes.Unary(Note()) for _ in range(3)]
        done, _ = await asyncio.wait(
            [asyncio.ensure_future(call.code()) for call in calls], return_when="FIRST_COMPLETED"
        )
        assert {task.result() for task in done} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        for call in calls:
            call.cancel()


@on_io
async def test_a_client_that_does_not_read_stops_the_generator_and_no_neighbour():
    async with GrpcMesh({"one": Waiting}) as mesh:
        user = mesh.user("one")
        call = mesh.shapes.Down(Note(text="fast", number=100_000))
        await call.read()
        await until(lambda: user.sent > 1000)
        sent = 0
        while sent != user.sent:  # until it has come to rest
            sent = user.sent
            await asyncio.sleep(0.2)
        assert sent < 20_000  # of 4 kB each
        neighbour = mesh.shapes.Down(Note(text="fast", number=50))
        assert len([note async for note in neighbour]) == 50
        call.cancel()
        await until(lambda: mesh.ongoing("one") == 0 and mesh.in_flight.count == 0)


@on_io
async def test_a_handler_that_does_not_take_requests_stops_the_client():
    async with GrpcMesh({"one": Waiting}) as mesh:
        call = mesh.shapes.Up()
        written = 0

        async def write():
            nonlocal written
            while True:
                await call.write(Note(text="x" * 65536))
                written += 1

        writing = asyncio.create_task(write())
        await until(lambda: written > 5)
        seen = -1
        while seen != written:
            seen = written
            await asyncio.sleep(0.2)
        assert written * 65536 < 100 << 20
        assert mesh.user("one").taken == 1
        writing.cancel()
        call.cancel()
        await until(lambda: mesh.ongoing("one") == 0)


@on_io
async def test_a_thousand_streams_on_one_connection_are_served():
    async with GrpcMesh({"one": Waiting}, replica=DeploymentOptions(max_ongoing_requests=2000)) as mesh:
        calls = [mesh.shapes.Down(Note()) for _ in range(1000)]
        firsts = await asyncio.gather(*(call.read() for call in calls))
        assert {first.text for first in firsts} == {"first"}
        assert mesh.in_flight.count == 1000
        for call in calls:
            call.cancel()
        await until(lambda: mesh.ongoing("one") == 0 and mesh.in_flight.count == 0, timeout_s=20)


@on_io
async def test_a_deadline_in_the_past_never_reaches_user_code():
    async with GrpcMesh({"one": Waiting}) as mesh:
        started_at = time.monotonic()
        assert await mesh.shapes.Unary(Note(), timeout=0.000001).code() is DEADLINE
        assert time.monotonic() - started_at < 5
        assert mesh.user("one").started == 0
