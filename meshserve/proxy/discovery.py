"""Which processes a scrape of this node has to ask, and which proxies Prometheus has to scrape.

The controller knows both. It is asked when somebody scrapes, and then not again for some seconds; while it does not
answer, what it said last stays in force.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio

from meshserve.errors import ControllerUnreachableError
from meshserve.launch.locator import MeshAddress
from meshserve.rpc.channel import internal_channel
from meshserve.rpc.token import token_metadata
from meshserve.v1 import controller_pb2, controller_pb2_grpc

KEPT_S = 5.0
"""How long an answer of the controller is good; scrapes are 15 s apart, and there may be several who scrape."""

TIMEOUT_S = 2.0

_EVERY_ADDRESS = ("0.0.0.0", "[::]", "::", "")


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
        self._good_until = 0.0
        self._lock = asyncio.Lock()

    async def processes(self) -> list[Process]:
        """The other processes of this node: its replicas, also those that are ending, and the controller."""
        status = await self._current()
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

    async def targets(self, scheme: str) -> list[dict[str, Any]]:
        """Every proxy's `/metrics`, as Prometheus's HTTP service discovery wants it.

        Args:
            scheme: "http" or "https".
        """
        status = await self._current()
        return [
            {
                "targets": [_reachable(proxy.http_address, proxy.node_ip)],
                "labels": {"__scheme__": scheme, "__metrics_path__": "/metrics", "node_id": proxy.node_id},
            }
            for proxy in status.proxies
            if proxy.http_address
        ]

    async def _current(self) -> controller_pb2.StatusResponse:
        async with self._lock:
            if time.monotonic() >= self._good_until:
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        self._status = await self._ask()
                except (TimeoutError, ControllerUnreachableError, grpc.aio.AioRpcError):
                    pass  # the controller is away; its last answer stays in force
                self._good_until = time.monotonic() + KEPT_S
            return self._status

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


def _reachable(address: str, node_ip: str) -> str:
    """An address that others can use: a server that listens everywhere is found at its node's address."""
    host, _, port = address.rpartition(":")
    return f"{node_ip}:{port}" if host in _EVERY_ADDRESS and node_ip else address
