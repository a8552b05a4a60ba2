"""Which processes a scrape of this node has to ask, and which proxies Prometheus has to scrape.

The controller knows both. It is asked when somebody scrapes, and then not again for some seconds; while it does not
answer, what it said last stays in force.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio

from meshserve.errors import ControllerUnreachableError
from meshserve.launch.locator import MeshAddress
from meshserve.model.status import ProxyState
from meshserve.rpc.channel import internal_channel
from meshserve.rpc.token import token_metadata
from meshserve.v1 import controller_pb2, controller_pb2_grpc

KEPT_S = 5.0
"""How long an answer of the controller is good; scrapes are 15 s apart, and there may be several who scrape."""

TIMEOUT_S = 2.0

_LOOPBACK = "127.0.0.1"
_EVERY_ADDRESS = ("0.0.0.0", "[::]", "::", "")


_SERVING = (ProxyState.HEALTHY.value, ProxyState.DRAINING.value)

SMALL_REPLICAS = 200
"""A mesh of at most so many replicas is shown as a whole: a larger one would send megabytes for each look."""


@dataclass(frozen=True, slots=True)
class Process:
    """One to ask.

    Attributes:
        address: of its internal server.
        application: of a replica; empty for the controller.
        deployment: of a replica; empty for the controller.
    """

    address: str
    application: str = ""
    deployment: str = ""


class Discovery:
    """See the module. Lives on the I/O thread.

    Args:
        locate: finds the controller.
        node_id: of this proxy.
    """

    def __init__(self, locate: Callable[[], Awaitable[MeshAddress]], node_id: str) -> None:
        self._locate = locate
        self._node_id = node_id
        self._status = controller_pb2.StatusResponse()
        self._asked_at = self._heard_at = -math.inf
        self._lock = asyncio.Lock()

    async def processes(self) -> list[Process]:
        """The other processes of this node: its replicas, also those that are ending, and the controller."""
        status = await self.status()
        found = [
            Process(replica.address, application.name, deployment.name)
            for application in status.applications
            for deployment in application.deployments
            for replica in deployment.replicas
            if replica.node_id == self._node_id and replica.address
        ]
        controller = status.controller
        if controller.node_id == self._node_id and controller.address:
            found.append(Process(controller.address))
        return found

    async def elsewhere(self) -> dict[str, str]:
        """The proxies of other nodes that serve: their internal addresses, by node. None in a mesh that is too large to
        be asked as a whole."""
        status = await self.status()
        if not _is_small(status):
            return {}
        others = (proxy for proxy in status.proxies if proxy.node_id != self._node_id and proxy.address)
        return {proxy.node_id: proxy.address for proxy in others if proxy.status in _SERVING}

    async def speakers(self) -> list[Process]:
        """Who has something to say to those who watch: the controller, and the replicas of this node; of all nodes, if
        the mesh is small."""
        status = await self.status()
        found = [Process(status.controller.address)] if status.controller.address else []
        small = _is_small(status)
        found += (
            Process(replica.address, application.name, deployment.name)
            for application in status.applications
            for deployment in application.deployments
            for replica in deployment.replicas
            if replica.address and (small or replica.node_id == self._node_id)
        )
        return found

    async def targets(self, scheme: str, port: int | None = None) -> list[dict[str, Any]]:
        """Every proxy's `/metrics`, as Prometheus's HTTP service discovery wants it.

        Args:
            scheme: "http" or "https".
            port: of the metrics, where they have one of their own; None for that of HTTP.
        """
        status = await self.status()
        return [
            {
                "targets": [_reachable(proxy.http_address, proxy.node_ip, port)],
                "labels": {"__scheme__": scheme, "__metrics_path__": "/metrics", "node_id": proxy.node_id},
            }
            for proxy in status.proxies
            if proxy.http_address or (port is not None and proxy.node_ip)
        ]

    async def status(self, fresh_s: float = KEPT_S) -> controller_pb2.StatusResponse:
        """What the controller says, or has said last.

        Args:
            fresh_s: an answer of so long ago is good enough.
        """
        async with self._lock:
            if time.monotonic() >= self._asked_at + fresh_s:
                heard = False
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        self._status = await self._ask()
                    heard = True
                except (TimeoutError, ControllerUnreachableError, grpc.aio.AioRpcError):
                    pass  # the controller is away; its last answer stays in force
                self._asked_at = time.monotonic()
                self._heard_at = self._asked_at if heard else self._heard_at
            return self._status

    @property
    def silent_s(self) -> float | None:
        """For how long the controller has not answered: 0 if it did when it was last asked, None if it never has."""
        if self._heard_at == -math.inf:
            return None
        return 0.0 if self._heard_at >= self._asked_at else self._asked_at - self._heard_at

    async def _ask(self) -> controller_pb2.StatusResponse:
        mesh = await self._locate()
        channel = internal_channel(mesh.address)
        try:
            stub: Any = controller_pb2_grpc.ControllerServiceStub(channel)
            status: controller_pb2.StatusResponse = await stub.Status(
                controller_pb2.StatusRequest(), metadata=token_metadata(mesh.token)
            )
            return status
        finally:
            await channel.close()


def _is_small(status: controller_pb2.StatusResponse) -> bool:
    deployments = (deployment for application in status.applications for deployment in application.deployments)
    return sum(len(deployment.replicas) for deployment in deployments) <= SMALL_REPLICAS


def _reachable(address: str, node_ip: str, own_port: int | None) -> str:
    """An address that others can use: a server that listens everywhere is found at its node's address."""
    host, _, port = address.rpartition(":")
    host = node_ip if address and host in _EVERY_ADDRESS and node_ip else host or _LOOPBACK
    return f"{host}:{port if own_port is None else own_port}"
