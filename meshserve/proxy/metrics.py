"""One scrape for a whole node: this proxy's metrics, those of the node's replicas, and the controller's if it is here.

A process that does not answer in time is shown as it was last; a replica that is gone leaves its counters behind
(`telemetry.merging.Tombstones`). So no sum over a deployment falls, whatever happens to its replicas.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Protocol

from meshserve.proxy.discovery import Process
from meshserve.proxy.peers import Peer, Peers
from meshserve.telemetry import catalogue
from meshserve.telemetry.exposition import process_text
from meshserve.telemetry.merging import Tombstones, merge
from meshserve.telemetry.registry import PROCESS
from meshserve.telemetry.series import Reading


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


class NodeMetrics:
    """See the module. Lives on the I/O thread.

    Args:
        processes: who is to be asked.
        token: of the mesh.
    """

    def __init__(self, processes: Processes, token: str) -> None:
        self._processes = processes
        self._peers = Peers(token)
        self._tombstones = Tombstones()
        self._metrics = PROCESS.recorder(ScrapeMetrics)
        self._lock = asyncio.Lock()

    async def text(self) -> bytes:
        """All metrics of this node; scrapes at the same time are answered one after the other."""
        async with self._lock:
            gone = await self._peers.follow(await self._processes.processes())
            peers = tuple(self._peers)
            answered = await asyncio.gather(*(peer.collect() for peer in peers))
            self._metrics.fresh = sum(answered)
            self._metrics.stale = len(answered) - sum(answered)
            return await asyncio.to_thread(self._merge, gone, [peer.text for peer in peers])

    def _merge(self, gone: list[Peer], texts: list[bytes]) -> bytes:
        for peer in gone:
            if peer.process.deployment and peer.text:
                self._tombstones.bury(peer.process.application, peer.process.deployment, peer.text)
        return merge([process_text(), *texts, self._tombstones.text()])

    async def close(self) -> None:
        """Ends all connections."""
        await self._peers.close()
