"""The WatchService: one stream for each process that routes. See watch.proto."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

from meshserve.controller.loads import Loads, RouterLoad
from meshserve.controller.publisher import Publisher, Subscription
from meshserve.v1 import watch_pb2, watch_pb2_grpc
from meshserve.wire.targets import key_from_proto


class WatchService(watch_pb2_grpc.WatchServiceServicer):
    """Sends snapshots down and takes reports of load up.

    Args:
        publisher: where snapshots come from.
        loads: where reports go.
    """

    def __init__(self, publisher: Publisher, loads: Loads) -> None:
        self._publisher = publisher
        self._loads = loads

    async def Watch(  # noqa: N802 - the name in the proto
        self, requests: AsyncIterator[watch_pb2.WatchRequest], context: Any
    ) -> AsyncIterator[watch_pb2.WatchResponse]:
        """See watch.proto."""
        subscription = self._publisher.subscribe()
        # A process that reconnects may be here twice for a moment: the old stream must not take the new reports along.
        stream = uuid.uuid4().hex
        reading = asyncio.create_task(self._read(requests, subscription, stream))
        telling: asyncio.Task[watch_pb2.WatchResponse] | None = None
        try:
            while True:
                telling = asyncio.create_task(subscription.next())
                await asyncio.wait((reading, telling), return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    return
                yield telling.result()
        finally:
            reading.cancel()
            if telling is not None:
                telling.cancel()
            subscription.close()
            self._loads.drop(stream)

    async def _read(
        self, requests: AsyncIterator[watch_pb2.WatchRequest], subscription: Subscription, stream: str
    ) -> None:
        async for request in requests:
            subscription.want(
                [key_from_proto(key) for key in request.deployments],
                [key_from_proto(key) for key in request.dropped],
                request.routes,
            )
            for report in request.reports:
                load = RouterLoad(report.queued, report.running)
                self._loads.report(stream, key_from_proto(report.key), load)
