"""A call cancelled between its arrival and the first step of user code gives its slot back."""

from __future__ import annotations

import asyncio
import threading

import pytest
from replicas import LocalMesh, LocalReplica, call, on_io

from meshserve.routing.service import CallFailed


class Busy:
    """A deployment whose loop can be held up."""

    async def echo(self, value: int) -> int:
        return value


async def _until_ongoing(replica: LocalReplica, count: int) -> None:
    while replica.admission.ongoing != count:
        await asyncio.sleep(0.001)


@on_io
async def test_a_call_cancelled_before_its_first_step_ends() -> None:
    replica = LocalReplica("a", Busy)
    async with LocalMesh(replica) as mesh:
        release = threading.Event()
        replica.user.loop.call_soon_threadsafe(release.wait, 10)
        reply = mesh.router.unary(call("echo", 1))
        await asyncio.wait_for(_until_ongoing(replica, 1), 5)
        reply.cancel()
        with pytest.raises(CallFailed):
            await reply
        # A second call shows that the cancellation has reached the replica: both ride the same stream.
        second = mesh.router.unary(call("echo", 2))
        await asyncio.wait_for(_until_ongoing(replica, 2), 5)
        release.set()
        await asyncio.wait_for(_until_ongoing(replica, 0), 5)
        await second
