"""grpc.health.v1 for an ingress: who serves is asked anew for every answer; watchers wait for changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshserve.rpc.status_details import abort, refusal, request_id_of

WHOLE_SERVER = ""

LOOK_AGAIN_S = 1.0
"""Watchers look that often besides: a first replica makes a server healthy without anybody saying so."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health_pb2_grpc.HealthServicer):
    """The servicer; belongs to one event loop.

    Args:
        who_serves: whether each name serves now; names that are missing are unknown to clients.
    """

    def __init__(self, who_serves: Callable[[], Mapping[str, bool]]) -> None:
        self._who_serves = who_serves
        self._change = asyncio.Event()
        self._closed = False

    def changed(self) -> None:
        """Says that `who_serves` may have another answer now."""
        self._change.set()
        self._change = asyncio.Event()

    def close(self) -> None:
        """Says NOT_SERVING for every name from now on, and ends every watch after it has said so."""
        self._closed = True
        self.changed()

    def _status(self, service: str) -> Any:
        serving = self._who_serves().get(service)
        if serving is None:
            return _SERVICE_UNKNOWN
        return _SERVING if serving and not self._closed else _NOT_SERVING

    async def Check(  # noqa: N802 - the RPC's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        """See health.proto."""
        status = self._status(request.service)
        if status == _SERVICE_UNKNOWN:
            message = f"no service or application {request.service!r}; List names those there are"
            facts = {"service": request.service[:256]}
            await abort(
                context,
                refusal(grpc.StatusCode.NOT_FOUND, message, "SERVICE_NOT_FOUND", request_id_of(context), facts),
            )
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(  # noqa: N802 - the RPC's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """See health.proto."""
        told = None
        while True:
            change, status = self._change, self._status(request.service)
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            if self._closed:
                message, request_id = "this server is going away", request_id_of(context)
                await abort(context, refusal(grpc.StatusCode.UNAVAILABLE, message, "GOING_AWAY", request_id, {}))
            await _set_within(change, LOOK_AGAIN_S)

    async def List(  # noqa: N802 - the RPC's name
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Any:
        """See health.proto."""
        response = health_pb2.HealthListResponse()  # type: ignore[attr-defined]  # the stubs are older than List
        for service in self._who_serves():
            response.statuses[service].status = self._status(service)
        return response


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        pass
