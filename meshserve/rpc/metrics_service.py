"""What a process has counted, shown to the proxy of its node. Part of every internal server; see metrics.proto."""

from __future__ import annotations

import asyncio
from typing import Any

from meshserve.telemetry.exposition import process_text
from meshserve.v1 import metrics_pb2, metrics_pb2_grpc


class MetricsService(metrics_pb2_grpc.MetricsServiceServicer):
    """See metrics.proto."""

    async def Collect(  # noqa: N802 - the RPC's name
        self, request: metrics_pb2.CollectRequest, context: Any
    ) -> metrics_pb2.CollectResponse:
        """See metrics.proto. A thousand series take milliseconds to write, which calls should not wait for."""
        return metrics_pb2.CollectResponse(text=await asyncio.to_thread(process_text))
