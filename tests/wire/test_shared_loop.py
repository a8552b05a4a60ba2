"""User code that shares the I/O loop behaves as code with a loop of its own, as far as that is possible."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from replicas import LocalMesh, LocalReplica, call, on_io

from meshserve.api import client as api_client
from meshserve.api.client import ControllerClient, client, wait_for
from meshserve.api.mesh import shut_down
from meshserve.launch.locator import MeshAddress
from meshserve.model.call import CallKind
from meshserve.model.control import ReplicaRank
from meshserve.model.options import DeploymentOptions
from meshserve.routing.service import CallFailed
from meshserve.rpc.io_thread import LoopThread, io_thread
from meshserve.rpc.server import start_internal_server
from meshserve.rpc.token import new_token
from meshserve.transport.server import Server
from meshserve.v1 import controller_pb2, controller_pb2_grpc
from meshserve.wire.values import decode_value

_seen = contextvars.ContextVar("seen", default="nothing")


class Sharing:
    """Says where it runs."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    async def where(self) -> str:
        return threading.current_thread().name

    def where_in_a_pool(self) -> str:
        return threading.current_thread().name

    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    def count_in_a_pool(self, to: int) -> Iterator[int]:
        yield from range(to)

    async def wait(self) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            self.cancelled.set()

    async def was_cancelled(self) -> bool:
        return await self.cancelled.wait()

    async def remember(self, value: str) -> str:
        """What an earlier call left in this one's context."""
        before = _seen.get()
        _seen.set(value)
        return before

    async def in_a_thread(self) -> str:
        return (await asyncio.to_thread(threading.current_thread)).name.partition("_")[0]

    async def applications(self) -> list[str]:
        return list(wait_for(client().status()).applications)

    async def end(self) -> None:
        shut_down()


class Controller(controller_pb2_grpc.ControllerServiceServicer):
    """Knows of one application."""

    async def Status(self, request: Any, context: Any) -> controller_pb2.StatusResponse:
        return controller_pb2.StatusResponse(applications=[controller_pb2.ApplicationStatusInfo(name="shop")])


async def controller() -> tuple[Server, MeshAddress]:
    """One that listens on the running loop."""
    token, told = new_token(), Controller()  # type: ignore[abstract]
    add = [lambda server: controller_pb2_grpc.add_ControllerServiceServicer_to_server(told, server)]
    server, address = await start_internal_server(token, "127.0.0.1", add)
    return server, MeshAddress(address, token)


def _mesh() -> LocalMesh:
    return LocalMesh(LocalReplica("a", Sharing, apart=False))


@on_io
async def test_asynchronous_code_runs_on_the_io_thread_and_synchronous_code_does_not() -> None:
    async with _mesh() as mesh:
        assert decode_value(await mesh.router.unary(call("where"))) == "meshserve-io"
        assert decode_value(await mesh.router.unary(call("where_in_a_pool"))).startswith("meshserve-sync")


@on_io
async def test_both_kinds_of_generators_stream() -> None:
    async with _mesh() as mesh:
        for method in ("count", "count_in_a_pool"):
            stream = mesh.router.stream(call(method, 3000, kind=CallKind.SERVER_STREAM))
            numbers: list[int] = []
            while items := await stream.take():
                numbers.extend(decode_value(item) for item in items)
            assert numbers == list(range(3000))


@on_io
async def test_a_cancelled_call_is_cancelled_in_user_code() -> None:
    async with _mesh() as mesh:
        reply = mesh.router.unary(call("wait"))
        assert decode_value(await mesh.router.unary(call("where"))) == "meshserve-io"  # the call before has begun
        reply.cancel()
        with pytest.raises(CallFailed):
            await reply
        assert decode_value(await mesh.router.unary(call("was_cancelled"))) is True


@on_io
async def test_calls_do_not_see_the_context_of_others() -> None:
    async with _mesh() as mesh:
        answers = [decode_value(await mesh.router.unary(call("remember", value))) for value in ("one", "two")]
        assert answers == ["nothing", "nothing"]


def test_it_may_wait_for_the_controller() -> None:
    """The controller is on a loop of the test's: the I/O loop does nothing while user code waits in it."""

    async def run(found: MeshAddress) -> None:
        async def find() -> MeshAddress:
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(api_client, "_client", ControllerClient(find))
            async with _mesh() as mesh:
                assert decode_value(await mesh.router.unary(call("applications"))) == ["shop"]
                assert decode_value(await mesh.router.unary(call("applications"))) == ["shop"]
            assert list((await client().status()).applications) == ["shop"]  # and so may the I/O loop
            await client().close()

    elsewhere = LoopThread("elsewhere").start()
    server, found = elsewhere.run(controller())
    try:
        io_thread().run(run(found), timeout_s=30)
    finally:
        elsewhere.run(server.stop(0))
        elsewhere.stop()


@on_io
async def test_it_may_not_end_the_mesh_in_place() -> None:
    async with _mesh() as mesh:
        with pytest.raises(CallFailed, match="shares the event loop"):
            await mesh.router.unary(call("end"))


def test_the_io_thread_does_not_wait_for_itself() -> None:
    async def wait() -> None:
        with pytest.raises(RuntimeError, match="shares the event loop"):
            io_thread().run(asyncio.sleep(0))

    io_thread().run(wait(), timeout_s=10)


@on_io
async def test_the_io_loop_keeps_its_worker_threads_when_a_replica_ends() -> None:
    async with _mesh() as mesh:
        await mesh.router.unary(call("where"))
    assert await asyncio.to_thread(threading.current_thread) is not threading.current_thread()


@on_io
async def test_worker_threads_of_user_code_go_on_when_their_number_changes() -> None:
    replica = LocalReplica("a", Sharing)
    async with LocalMesh(replica) as mesh:
        before = decode_value(await mesh.router.unary(call("in_a_thread")))
        await replica.user.reconfigure(DeploymentOptions(max_ongoing_requests=3), ReplicaRank())
        assert decode_value(await mesh.router.unary(call("in_a_thread"))) == before == "meshserve-sync"
