"""What a process has counted and has to say, shown to the proxy of its node. Part of every internal server; see
metrics.proto."""

from __future__ import annotations

import asyncio
from typing import Any

from meshserve.telemetry.exposition import process_text
from meshserve.telemetry.notices import NOTICES
from meshserve.v1 import metrics_pb2, metrics_pb2_grpc
from meshserve.wire.notices import notice_to_proto


class MetricsService(metrics_pb2_grpc.MetricsServiceServicer):
    """See metrics.proto."""

    async def Collect(  # noqa: N802 - the RPC's name
        self, request: metrics_pb2.CollectRequest, context: Any
    ) -> metrics_pb2.CollectResponse:
        """See metrics.proto. A thousand series take milliseconds to write, which calls should not wait for."""
        return metrics_pb2.CollectResponse(text=await asyncio.to_thread(process_text))

    async def Notices(  # noqa: N802 - the RPC's name
        self, request: metrics_pb2.NoticesRequest, context: Any
    ) -> metrics_pb2.NoticesResponse:
        """See metrics.proto."""
        return metrics_pb2.NoticesResponse(notices=[notice_to_proto(notice) for notice in NOTICES.newest()])
