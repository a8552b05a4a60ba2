"""The other processes of a node, each with the connection over which a proxy asks what it has counted and to say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import grpc.aio

from meshserve.model.notice import Notice
from meshserve.proxy.discovery import Process
from meshserve.rpc.channel import internal_channel
from meshserve.rpc.token import token_metadata
from meshserve.v1 import metrics_pb2, metrics_pb2_grpc
from meshserve.wire.notices import notice_from_proto

TIMEOUT_S = 2.0
"""How long a process may take. Prometheus itself waits 10 s for all."""


class Peer:
    """One process.

    Args:
        process: which.
        token: of the mesh.

    Attributes:
        text: the metrics it showed last; empty before it showed any.
    """

    def __init__(self, process: Process, token: str) -> None:
        self.process = process
        self.text = b""
        self._metadata = token_metadata(token)
        self._channel = internal_channel(process.address)
        self._stub: Any = metrics_pb2_grpc.MetricsServiceStub(self._channel)

    async def collect(self) -> bool:
        """Asks for its metrics; whether it has answered in time."""
        try:
            answer = await self._stub.Collect(metrics_pb2.CollectRequest(), timeout=TIMEOUT_S, metadata=self._metadata)
        except grpc.aio.AioRpcError:
            return False
        self.text = answer.text
        return True

    async def notices(self) -> list[Notice]:
        """What it has to say; nothing when it does not answer in time."""
        try:
            answer = await self._stub.Notices(metrics_pb2.NoticesRequest(), timeout=TIMEOUT_S, metadata=self._metadata)
        except grpc.aio.AioRpcError:
            return []
        return [notice_from_proto(one) for one in answer.notices]

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()


class Peers:
    """Those that there are. Lives on the I/O thread.

    Args:
        token: of the mesh.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self._peers: dict[Process, Peer] = {}

    def __iter__(self) -> Iterator[Peer]:
        return iter(tuple(self._peers.values()))

    async def follow(self, processes: Iterable[Process]) -> list[Peer]:
        """Makes the peers those that there are; returns those that are gone."""
        there = dict.fromkeys(processes)
        gone = [self._peers.pop(process) for process in tuple(self._peers) if process not in there]
        for process in there:
            if process not in self._peers:
                self._peers[process] = Peer(process, self._token)
        for peer in gone:
            await peer.close()
        return gone

    async def close(self) -> None:
        """Ends all connections."""
        await self.follow(())
