"""How the controller steers this proxy; see proxy_control.proto."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Protocol

from meshserve.proxy.applications import Applications
from meshserve.proxy.in_flight import InFlight
from meshserve.proxy.metrics_pages import NodeText
from meshserve.proxy.workers import Workers
from meshserve.telemetry.logs import log_path
from meshserve.telemetry.tracing import send_last_spans
from meshserve.v1 import proxy_control_pb2 as pb
from meshserve.v1 import proxy_control_pb2_grpc


class Ingresses(Protocol):
    """What of a proxy the controller asks about.

    Attributes:
        failure: why it does not serve; empty when it does.
        remark: what there is to know of it though it serves.
        http_address: where HTTP is served; empty when it is not.
        grpc_address: where gRPC is served; empty when it is not.
    """

    failure: str
    remark: str
    http_address: str
    grpc_address: str


class ProxyControl(proxy_control_pb2_grpc.ProxyControlServiceServicer):
    """Steering of one proxy, on the I/O thread.

    Args:
        applications: of this proxy.
        in_flight: the requests in hand.
        ingresses: see `Ingresses`.
        workers: the other processes of the proxy.
        metrics: of the node.
    """

    def __init__(
        self,
        applications: Applications,
        in_flight: InFlight,
        ingresses: Ingresses,
        workers: Workers,
        metrics: NodeText,
    ) -> None:
        self._applications = applications
        self._in_flight = in_flight
        self._ingresses = ingresses
        self._workers = workers
        self._metrics = metrics

    async def Check(self, request: pb.CheckRequest, context: Any) -> pb.CheckResponse:  # noqa: N802 - the RPC's name
        """See proxy_control.proto."""
        table = self._applications.table
        epoch, version = table.version if table is not None else (0, 0)
        own = pb.CheckResponse(
            failure=self._ingresses.failure,
            remark=self._ingresses.remark,
            http_address=self._ingresses.http_address,
            grpc_address=self._ingresses.grpc_address,
            ongoing=self._in_flight.count,
            draining=self._applications.draining,
            routes_version=version,
            routes_epoch=epoch,
            pid=os.getpid(),
            log_path=log_path(),
        )
        return await self._workers.check(own)

    async def DrainProxy(  # noqa: N802 - the RPC's name
        self, request: pb.DrainProxyRequest, context: Any
    ) -> pb.DrainProxyResponse:
        """See proxy_control.proto. New requests are served while the proxy drains: load balancers need a moment."""
        self._applications.drain(request.draining)
        elsewhere = asyncio.ensure_future(self._workers.drain(request))
        if request.draining and request.timeout_s > 0:
            await self._in_flight.wait_idle(request.timeout_s)
        if request.draining:
            await send_last_spans()
        return pb.DrainProxyResponse(ongoing=await elsewhere + self._in_flight.count)

    async def NodeMetrics(  # noqa: N802 - the RPC's name
        self, request: pb.NodeMetricsRequest, context: Any
    ) -> pb.NodeMetricsResponse:
        """See proxy_control.proto."""
        return pb.NodeMetricsResponse(text=await self._metrics.text())
