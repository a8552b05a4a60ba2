"""`@serve.batch` and `@serve.multiplexed` in a real replica, called over a real session."""

from __future__ import annotations

import asyncio
from typing import Any

from replicas import LocalMesh, LocalReplica, call, on_io

from meshserve.batching import batch
from meshserve.model.call import CallContext, CallKind
from meshserve.multiplex import get_multiplexed_model_id, multiplexed
from meshserve.user.multiplex import ModelRegistry
from meshserve.wire.values import decode_value


class Batched:
    """A deployment whose entry points are batched themselves."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    @batch(max_batch_size=8, batch_wait_timeout_s=30)
    async def __call__(self, items: list[int]) -> list[int]:
        self.sizes.append(len(items))
        return [2 * item for item in items]

    @batch(max_batch_size=3, batch_wait_timeout_s=30)
    async def count(self, limits: list[int]) -> Any:
        for step in range(max(limits)):
            yield [step if step < limit else StopIteration for limit in limits]

    async def seen(self) -> list[int]:
        return self.sizes

    @multiplexed(max_num_models_per_replica=2)
    async def model(self, model_id: str) -> str:
        return f"model {model_id}"

    @batch(max_batch_size=4, batch_wait_timeout_s=30)
    async def predict(self, items: list[int]) -> list[Any]:
        model = await self.model(get_multiplexed_model_id())
        return [(model, item, len(items)) for item in items]


def for_model(model_id: str) -> CallContext:
    return CallContext("request", multiplexed_model_id=model_id)


async def items_of(stream: Any) -> list[Any]:
    items: list[Any] = []
    while taken := await stream.take():
        items += [decode_value(item) for item in taken]
    return items


@on_io
async def test_calls_of_many_callers_are_batched() -> None:
    async with LocalMesh(LocalReplica("a", Batched)) as mesh:
        replies = [mesh.router.unary(call("__call__", i)) for i in range(16)]
        assert [decode_value(await reply) for reply in replies] == [2 * i for i in range(16)]
        assert decode_value(await mesh.router.unary(call("seen"))) == [8, 8]


@on_io
async def test_a_batched_generator_streams_to_each_of_its_callers() -> None:
    async with LocalMesh(LocalReplica("a", Batched)) as mesh:
        streams = [mesh.router.stream(call("count", n, kind=CallKind.SERVER_STREAM)) for n in (2, 5, 1)]
        assert await asyncio.gather(*(items_of(stream) for stream in streams)) == [[0, 1], [0, 1, 2, 3, 4], [0]]


@on_io
async def test_a_caller_that_cancels_is_not_in_the_batch() -> None:
    async with LocalMesh(LocalReplica("a", Batched)) as mesh:
        gone = mesh.router.unary(call("__call__", 99))
        waiting = [mesh.router.unary(call("__call__", i)) for i in range(6)]
        await asyncio.wait_for(_ongoing(mesh, 7), 5)
        gone.cancel()
        await asyncio.wait_for(_ongoing(mesh, 6), 5)
        waiting += [mesh.router.unary(call("__call__", i)) for i in (6, 7)]
        assert [decode_value(await reply) for reply in waiting] == [2 * i for i in range(8)]


@on_io
async def test_a_batch_serves_every_model_with_its_own_id() -> None:
    async with LocalMesh(LocalReplica("a", Batched)) as mesh:
        replies = [
            mesh.router.unary(call("predict", item, context=for_model(model_id)))
            for item, model_id in enumerate(("x", "y", "x", "x"))
        ]
        assert [decode_value(await reply) for reply in replies] == [
            ("model x", 0, 3),
            ("model y", 1, 1),
            ("model x", 2, 3),
            ("model x", 3, 3),
        ]
        assert {"x", "y"} <= set(ModelRegistry.current_models())


async def _ongoing(mesh: LocalMesh, count: int) -> None:
    while mesh.replicas[0].admission.ongoing != count:
        await asyncio.sleep(0.001)
