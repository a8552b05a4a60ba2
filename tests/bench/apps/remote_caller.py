"""A process that is nobody's replica and calls one: a plain Ray actor with handles of its own."""

import asyncio
import random
from time import perf_counter
from typing import Any

from bench.apps.serving import serve
from bench.loop import call_repeatedly

# Latencies that each process sends home, drawn at random when there are more.
_LATENCIES_KEPT = 2_000


class RemoteCaller:
    """One process with several handles, each obtained anew: a target that keeps a router per handle has as many."""

    def __init__(self) -> None:
        self._handles: list[Any] = []

    async def connect(self, deployment: str, application: str, handles: int) -> None:
        """Gets as many handles as asked for, those it has included, and sends one call through each."""
        while len(self._handles) < handles:
            self._handles.append(serve.get_deployment_handle(deployment, application))
        for handle in self._handles:
            await handle.noop.remote()

    async def call(self, seconds: float) -> tuple[float, list[float]]:
        """Calls one at a time through each handle; returns calls per second and a draw of the latencies in seconds."""
        began = perf_counter()
        loops = [call_repeatedly(handle.noop.remote, in_flight=1, seconds=seconds) for handle in self._handles]
        latencies = [latency for found in await asyncio.gather(*loops) for latency in found]
        rate = len(latencies) / (perf_counter() - began)
        return rate, random.sample(latencies, min(len(latencies), _LATENCIES_KEPT))
