"""Closed loops: a fixed number of callers, each sending its next call when the last one has returned.

Runs inside calling replicas, on the loop that runs user code, against handles. A closed loop at n in flight gives
the rate that n clients see and the latency that goes with it; it does not measure latency at a fixed offered load.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Any

from bench.sample import Sample


async def call_repeatedly(call: Callable[[], Awaitable[Any]], *, in_flight: int, seconds: float) -> list[float]:
    """Keeps `in_flight` calls under way for `seconds`, lets them finish, and returns every latency in seconds.

    The first failing call ends the loop and its exception is raised.
    """
    latencies: list[float] = []
    end = perf_counter() + seconds

    async def caller() -> None:
        started = perf_counter()
        while started < end:
            await call()
            now = perf_counter()
            latencies.append(now - started)
            started = now

    await _together(caller, in_flight)
    return latencies


async def measure_calls(call: Callable[[], Awaitable[Any]], *, in_flight: int, seconds: float) -> Sample:
    """The rate and latency of `call` with `in_flight` of them under way."""
    began = perf_counter()
    latencies = await call_repeatedly(call, in_flight=in_flight, seconds=seconds)
    return Sample.of_latencies(latencies, perf_counter() - began)


async def measure_streams(open_stream: Callable[[], AsyncIterator[Any]], *, streams: int, seconds: float) -> Sample:
    """Items per second over `streams` streams read at full speed; the latency is the gap between two items.

    A stream that ends is opened anew until `seconds` are over; the last ones are read to their end.
    """
    gaps: list[float] = []
    began = perf_counter()

    async def reader() -> None:
        while perf_counter() < began + seconds:
            last = perf_counter()
            async for _ in open_stream():
                now = perf_counter()
                gaps.append(now - last)
                last = now

    await _together(reader, streams)
    return Sample.of_latencies(gaps, perf_counter() - began)


async def _together(worker: Callable[[], Awaitable[None]], copies: int) -> None:
    """Runs `copies` of `worker`; the first failure cancels the rest and is raised by itself, not in a group."""
    tasks = [asyncio.ensure_future(worker()) for _ in range(copies)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
