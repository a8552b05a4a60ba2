"""A proxy of several processes, seen from its first one: it starts the others, watches them and answers for them.

All listen on the same ports (SO_REUSEPORT), and the kernel deals out the connections. To the controller they are one
proxy, to Prometheus one target. A process that dies is started again; the others serve meanwhile. They end with the
first one, whose owned processes they are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc.aio

from meshserve.launch.launcher import Launcher, LaunchError, ProcessSpec, Started
from meshserve.proxy.discovery import Process
from meshserve.proxy.metrics import Processes
from meshserve.rpc.channel import internal_channel
from meshserve.rpc.token import token_metadata
from meshserve.v1 import proxy_control_pb2 as pb
from meshserve.v1 import proxy_control_pb2_grpc

CHECK_TIMEOUT_S = 3.0
"""For one answer; the controller waits 10 s for that of the whole proxy."""

STRIKES = 3
"""A process that misses so many checks in a row is replaced."""

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0

log = logging.getLogger(__name__)


class _Worker:
    """One of the other processes.

    Attributes:
        process: where it is.
        stub: its control service.
        strikes: checks that it missed since it last answered one.
    """

    def __init__(self, started: Started) -> None:
        self.process = Process(started.address)
        self.strikes = 0
        self._channel = internal_channel(started.address)
        self.stub: Any = proxy_control_pb2_grpc.ProxyControlServiceStub(self._channel)

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()


class Workers:
    """See the module. Lives on the I/O thread.

    Args:
        launcher: starts processes.
        token: of the mesh.
    """

    def __init__(self, launcher: Launcher, token: str) -> None:
        self._launcher = launcher
        self._metadata = token_metadata(token)
        self._workers: dict[str, _Worker] = {}
        self._draining: pb.DrainProxyRequest | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, count: int, spec: Callable[[int], ProcessSpec]) -> None:
        """Begins to keep other processes running.

        Args:
            count: how many processes the proxy has, this one included.
            spec: of the process with a number, from 1; asked each time when it is to start.
        """
        self._tasks = [asyncio.create_task(self._keep(partial(spec, number))) for number in range(1, count)]

    async def _keep(self, ask: Callable[[], ProcessSpec]) -> None:
        backoff_s = FIRST_BACKOFF_S
        while True:
            spec = ask()
            try:
                worker = self._workers[spec.name] = _Worker(await self._launcher.start(spec))
            except LaunchError as error:
                log.error("Another process of this proxy could not be started: %s", error)
                backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
            else:
                backoff_s = FIRST_BACKOFF_S
                if self._draining is not None:
                    await self._ask(worker, worker.stub.DrainProxy, self._draining)
                await self._launcher.wait_for_death(spec.name)
                del self._workers[spec.name]
                await worker.close()
                log.warning("The process %s of this proxy died; it is started again.", spec.name)
            await asyncio.sleep(backoff_s)

    # -- steering ----------------------------------------------------------------------------------------------------

    async def check(self, own: pb.CheckResponse) -> pb.CheckResponse:
        """The state of the whole proxy: requests of all processes, the oldest of their routes, the first failure.

        Args:
            own: the state of this process.
        """
        workers = dict(self._workers)
        asked = (self._ask(worker, worker.stub.Check, pb.CheckRequest()) for worker in workers.values())
        for name, answer in zip(workers, await asyncio.gather(*asked), strict=True):
            if answer is None:
                await self._missed(name, workers[name])
                continue
            workers[name].strikes = 0
            own.ongoing += answer.ongoing
            own.failure = own.failure or answer.failure
            routes = min((own.routes_epoch, own.routes_version), (answer.routes_epoch, answer.routes_version))
            own.routes_epoch, own.routes_version = routes
        return own

    async def drain(self, request: pb.DrainProxyRequest) -> int:
        """Drains the other processes, or takes that back, also for those that start later.

        Returns:
            Their requests in flight.
        """
        self._draining = request if request.draining else None
        workers = tuple(self._workers.values())
        timeout_s = CHECK_TIMEOUT_S + request.timeout_s
        asked = (self._ask(worker, worker.stub.DrainProxy, request, timeout_s) for worker in workers)
        return sum(answer.ongoing for answer in await asyncio.gather(*asked) if answer is not None)

    async def _ask(self, worker: _Worker, method: Any, request: Any, timeout_s: float = CHECK_TIMEOUT_S) -> Any:
        """The answer of a process; None when there is none in time."""
        try:
            return await method(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError:
            return None

    async def _missed(self, name: str, worker: _Worker) -> None:
        worker.strikes += 1
        if worker.strikes >= STRIKES and self._workers.get(name) is worker:
            log.error("The process %s of this proxy does not answer; it is replaced.", name)
            await self._launcher.kill(name)

    # -- metrics -----------------------------------------------------------------------------------------------------

    def processes(self) -> list[Process]:
        """The other processes, to be asked for their metrics."""
        return [worker.process for worker in self._workers.values()]

    async def close(self) -> None:
        """Ends the other processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._launcher.kill(name) for name in self._workers))
        for worker in self._workers.values():
            await worker.close()
        self._workers.clear()


class NodeProcesses:
    """The processes that a scrape of this node asks: those the controller knows, and the workers of this proxy.

    Args:
        known: those the controller knows.
        workers: of this proxy.
    """

    def __init__(self, known: Processes, workers: Workers) -> None:
        self._known = known
        self._workers = workers

    async def processes(self) -> list[Process]:
        """See `proxy.metrics.Processes`."""
        return [*await self._known.processes(), *self._workers.processes()]


class FirstProcess:
    """The first process of a proxy, seen from another one, of the same node or of another: asked for the metrics of its
    node.

    Args:
        address: of its internal server.
        token: of the mesh.
    """

    def __init__(self, address: str, token: str) -> None:
        self._channel = internal_channel(address)
        self._stub: Any = proxy_control_pb2_grpc.ProxyControlServiceStub(self._channel)
        self._metadata = token_metadata(token)

    async def text(self) -> bytes:
        """All metrics of its node; empty while it does not answer."""
        try:
            answer = await self._stub.NodeMetrics(
                pb.NodeMetricsRequest(), timeout=2 * CHECK_TIMEOUT_S, metadata=self._metadata
            )
        except grpc.aio.AioRpcError:
            return b""
        return bytes(answer.text)

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()
