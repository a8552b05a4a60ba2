"""An open-loop load in a process of its own: requests leave on time, whatever becomes of those before them.

`python open_load.py HTTP_URL GRPC_TARGET APPLICATION RATE` sends half of RATE requests a second over HTTP and half over
gRPC, to the method `ask`. It says `sending` when it begins. When its standard input ends it waits for the last answers
and prints what came of all as JSON: how many were sent by each way, the slowest in seconds, the failures in words.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import grpc.aio

from meshserve.v1 import generic_pb2, generic_pb2_grpc

ANSWER_WITHIN_S = 60.0


class HttpClient:
    """GET over as many kept connections as are in use at a time; a connection that breaks costs its request."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self) -> None:
        """One request; raises when the answer is not 200."""
        if self._free:
            reader, writer = self._free.pop()
        else:
            reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
        body = await reader.readexactly(int(length.partition(":")[2]))
        if not head.startswith("http/1.1 200"):
            raise ValueError(f"{head.splitlines()[0]}: {body!r}")
        self._free.append((reader, writer))


class GrpcClient:
    """Calls by the generic service, on one channel."""

    def __init__(self, target: str, application: str) -> None:
        self._channel = grpc.aio.insecure_channel(target)  # kept: one that nobody holds cancels its calls
        self._stub = generic_pb2_grpc.CallServiceStub(self._channel)
        self._request = generic_pb2.CallServiceCallRequest(application=application, method="ask")

    async def ask(self) -> None:
        """One call; raises when it fails."""
        await self._stub.Call(self._request, timeout=ANSWER_WITHIN_S)


class Outcomes:
    """What came of all requests."""

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}
        self.slowest_s = 0.0
        self.failures: list[str] = []

    async def note(self, way: str, ask: Callable[[], Awaitable[None]], at: float) -> None:
        """Sends one request that was due at an instant, and notes what came of it."""
        self.sent[way] = self.sent.get(way, 0) + 1
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await ask()
        except Exception as error:
            self.failures.append(f"{way} after {time.monotonic() - at:.3f} s: {type(error).__name__}: {error}")
        self.slowest_s = max(self.slowest_s, time.monotonic() - at)


async def main(url: str, target: str, application: str, rate: str) -> None:
    """See the module."""
    ways = (("http", HttpClient(url).ask), ("grpc", GrpcClient(target, application).ask))
    outcomes, asked = Outcomes(), set[asyncio.Task[None]]()
    print("sending", flush=True)
    stopped = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    began_at, period_s, count = time.monotonic(), 1 / float(rate), 0
    while not stopped.done():
        while (due := began_at + count * period_s) <= time.monotonic():
            way, ask = ways[count % 2]
            task = asyncio.create_task(outcomes.note(way, ask, due))
            asked.add(task)
            task.add_done_callback(asked.discard)
            count += 1
        await asyncio.sleep(max(began_at + count * period_s - time.monotonic(), 0.001))
    await asyncio.gather(*asked)
    print(json.dumps({"sent": outcomes.sent, "slowest_s": outcomes.slowest_s, "failures": outcomes.failures}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
