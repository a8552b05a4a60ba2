"""Compositions and bad neighbours: one composer above eight leaves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.apps.door import Door
from bench.apps.leaf import Leaf
from bench.apps.serving import deployed
from bench.loop import measure_calls
from bench.sample import Sample

_FAN_OUT = 8
_VALUE = bytes(1_000)

# The slow consumer: a stream that would take minutes to read at its reader's pace, small enough to be buffered whole.
_BLOCKS = 2_000
_BLOCK_BYTES = 10_000
_READ_EVERY_S = 0.05


class Composer(Door):
    """Sends calls to its leaves in the shapes that applications have."""

    def __init__(self, *leaves: Any) -> None:
        self._leaves = leaves

    async def chain(self, length: int, in_flight: int, seconds: float) -> Sample:
        """1 kB through `length` leaves; each link is given the response of the one before, not its value."""

        async def call() -> None:
            value: Any = _VALUE
            for leaf in self._leaves[:length]:
                value = leaf.echo.remote(value)
            await value

        return await measure_calls(call, in_flight=in_flight, seconds=seconds)

    async def fan_out(self, in_flight: int, seconds: float) -> Sample:
        """One call to each of eight leaves at once; counted when all have answered."""

        async def call() -> None:
            await asyncio.gather(*(_reply(leaf.noop.remote()) for leaf in self._leaves))

        return await measure_calls(call, in_flight=in_flight, seconds=seconds)

    async def beside_slow_stream(self, in_flight: int, seconds: float) -> Sample:
        """No-op calls to a replica from which one stream is read slowly."""
        leaf = self._leaves[0]
        read = 0

        async def read_slowly() -> None:
            nonlocal read
            async for _ in leaf.options(stream=True).blocks.remote(_BLOCKS, _BLOCK_BYTES):
                read += 1
                await asyncio.sleep(_READ_EVERY_S)

        sample, alone = await _beside(read_slowly, leaf.noop.remote, in_flight, seconds)
        ahead = await leaf.items_made.remote() - read
        return _noted(sample, f"p99 without the stream {alone.p99_ms:.1f} ms; the producer was {ahead} items ahead")

    async def beside_big_body(self, size_bytes: int, in_flight: int, seconds: float) -> Sample:
        """No-op calls to a replica to and from which large arrays travel all the time."""
        leaf = self._leaves[0]
        array: NDArray[np.uint8] = np.ones(size_bytes, dtype=np.uint8)
        bodies = 0

        async def send_bodies() -> None:
            nonlocal bodies
            while True:
                await leaf.echo.remote(array)
                bodies += 1

        sample, alone = await _beside(send_bodies, leaf.noop.remote, in_flight, seconds)
        return _noted(sample, f"p99 without the body {alone.p99_ms:.1f} ms; {bodies / seconds:.1f} bodies/s")


async def _reply(response: Awaitable[Any]) -> Any:
    """A coroutine, which `gather` takes whatever kind of awaitable a target's response is."""
    return await response


async def _beside(
    neighbour: Callable[[], Awaitable[None]], call: Callable[[], Awaitable[Any]], in_flight: int, seconds: float
) -> tuple[Sample, Sample]:
    """Measures `call` with the neighbour at work, and before that for a short while without it."""
    alone = await measure_calls(call, in_flight=in_flight, seconds=seconds / 4)
    async with _running(neighbour):
        beside = await measure_calls(call, in_flight=in_flight, seconds=seconds)
    return beside, alone


@asynccontextmanager
async def _running(neighbour: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Keeps the neighbour running within the block; if it failed there, the block fails with its error."""
    task = asyncio.ensure_future(neighbour())
    try:
        yield
        if task.done():
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _noted(sample: Sample, note: str) -> Sample:
    return Sample(sample.value, sample.p50_ms, sample.p99_ms, sample.count, note)


def build() -> Any:
    """Composer -> Leaf0 ... Leaf7."""
    return deployed(Composer).bind(*(deployed(Leaf, name=f"Leaf{index}").bind() for index in range(_FAN_OUT)))
