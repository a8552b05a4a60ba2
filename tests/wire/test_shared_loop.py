"""User code that shares the I/O loop behaves as code with a loop of its own; what would wait for itself is refused."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from replicas import LocalMesh, LocalReplica, call, on_io

from meshserve.api.client import client, wait_for
from meshserve.model.call import CallKind
from meshserve.model.control import ReplicaRank
from meshserve.model.options import DeploymentOptions
from meshserve.routing.service import CallFailed
from meshserve.rpc.io_thread import io_thread
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

    async def status(self) -> None:
        wait_for(client().status())


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


@on_io
async def test_waiting_for_the_controller_is_refused_instead_of_hanging() -> None:
    async with _mesh() as mesh:
        with pytest.raises(CallFailed, match="shares the event loop"):
            await mesh.router.unary(call("status"))


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
