"""Handle calls from inside a replica: one caller, one leaf."""

from typing import Any

import numpy as np

from bench.apps.door import Door
from bench.apps.leaf import Leaf
from bench.apps.serving import deployed
from bench.loop import measure_calls, measure_streams
from bench.sample import Sample

ITEMS_PER_STREAM = 500


class Caller(Door):
    """Sends calls to a leaf in closed loops."""

    def __init__(self, leaf: Any) -> None:
        self._leaf = leaf

    async def calls(self, in_flight: int, seconds: float) -> Sample:
        """No-op calls."""
        return await measure_calls(self._leaf.noop.remote, in_flight=in_flight, seconds=seconds)

    async def streams(self, streams: int, seconds: float) -> Sample:
        """Items of streaming calls."""
        leaf = self._leaf.options(stream=True)
        return await measure_streams(lambda: leaf.items.remote(ITEMS_PER_STREAM), streams=streams, seconds=seconds)

    async def echo_bytes(self, size_bytes: int, seconds: float) -> Sample:
        """Bytes there and back, one call at a time."""
        return await self._echo(bytes(size_bytes), seconds)

    async def echo_array(self, size_bytes: int, seconds: float) -> Sample:
        """A numpy array there and back, one call at a time."""
        return await self._echo(np.ones(size_bytes, dtype=np.uint8), seconds)

    async def _echo(self, value: Any, seconds: float) -> Sample:
        async def call() -> None:
            reply = await self._leaf.echo.remote(value)
            if len(reply) != len(value):
                raise ValueError(f"sent {len(value)} bytes, got {len(reply)} back")

        return await measure_calls(call, in_flight=1, seconds=seconds)


def build() -> Any:
    """Caller -> Leaf."""
    return deployed(Caller).bind(deployed(Leaf).bind())
