"""One scrape for a whole node: this proxy's metrics, those of the node's replicas, and the controller's if it is here.

A process that does not answer in time is shown as it was last; a replica that is gone leaves its counters behind
(`telemetry.merging.Tombstones`). So no sum over a deployment falls, whatever happens to its replicas.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Protocol

import grpc.aio

from meshserve.proxy.discovery import Process
from meshserve.rpc.channel import internal_channel
from meshserve.rpc.token import token_metadata
from meshserve.telemetry import catalogue
from meshserve.telemetry.exposition import process_text
from meshserve.telemetry.merging import Tombstones, merge
from meshserve.telemetry.registry import PROCESS
from meshserve.telemetry.series import Reading
from meshserve.v1 import metrics_pb2, metrics_pb2_grpc

TIMEOUT_S = 2.0
"""How long a process may take. Prometheus itself waits 10 s for all."""


class Processes(Protocol):
    """Who is to be asked: `proxy.discovery.Discovery`."""

    async def processes(self) -> list[Process]:
        """The other processes of this node."""


class ScrapeMetrics:
    """How many processes answered, and how many did not."""

    def __init__(self) -> None:
        self.fresh = 0
        self.stale = 0

    def read(self) -> Iterator[Reading]:
        """See `telemetry.series.Recorder`."""
        yield catalogue.SCRAPE_PROCESSES, ("fresh",), self.fresh
        yield catalogue.SCRAPE_PROCESSES, ("stale",), self.stale


class _Peer:
    """One process of this node.

    Args:
        process: which.
        token: of the mesh.

    Attributes:
        last: what it said last; empty before it said anything.
    """

    def __init__(self, process: Process, token: str) -> None:
        self.process = process
        self.last = b""
        self._token = token
        self._channel = internal_channel(process.address)
        self._stub: Any = metrics_pb2_grpc.MetricsServiceStub(self._channel)

    async def ask(self) -> bool:
        """Asks; whether it has answered in time."""
        try:
            answer = await self._stub.Collect(
                metrics_pb2.CollectRequest(), timeout=TIMEOUT_S, metadata=token_metadata(self._token)
            )
        except grpc.aio.AioRpcError:
            return False
        self.last = answer.text
        return True

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()


class NodeMetrics:
    """See the module. Lives on the I/O thread.

    Args:
        processes: who is to be asked.
        token: of the mesh.
    """

    def __init__(self, processes: Processes, token: str) -> None:
        self._processes = processes
        self._token = token
        self._peers: dict[Process, _Peer] = {}
        self._tombstones = Tombstones()
        self._metrics = PROCESS.recorder(ScrapeMetrics)
        self._lock = asyncio.Lock()

    async def text(self) -> bytes:
        """All metrics of this node; scrapes at the same time are answered one after the other."""
        async with self._lock:
            gone = await self._follow(await self._processes.processes())
            peers = tuple(self._peers.values())
            answered = await asyncio.gather(*(peer.ask() for peer in peers))
            self._metrics.fresh = sum(answered)
            self._metrics.stale = len(answered) - sum(answered)
            return await asyncio.to_thread(self._merge, gone, [peer.last for peer in peers])

    async def _follow(self, processes: list[Process]) -> list[_Peer]:
        """Makes the peers those that there are; returns those that are gone."""
        there = set(processes)
        gone = [self._peers.pop(process) for process in tuple(self._peers) if process not in there]
        for process in processes:
            if process not in self._peers:
                self._peers[process] = _Peer(process, self._token)
        for peer in gone:
            await peer.close()
        return gone

    def _merge(self, gone: list[_Peer], texts: list[bytes]) -> bytes:
        for peer in gone:
            if peer.process.deployment and peer.last:
                self._tombstones.bury(peer.process.application, peer.process.deployment, peer.last)
        return merge([process_text(), *texts, self._tombstones.text()])

    async def close(self) -> None:
        """Ends all connections."""
        for peer in self._peers.values():
            await peer.close()
        self._peers.clear()
