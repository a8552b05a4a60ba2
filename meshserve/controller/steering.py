"""Calls to replicas and proxies. Every function ends in the event that tells how it went.

Calls that wait for user code (Initialize, Reconfigure, Drain) have no deadline of their own and are repeated after a
lost connection: the replica joins a repeated call to the first. Their end is the answer, or the death of the process,
upon which they are cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from meshserve.controller.connections import Connections
from meshserve.core import actions as ac
from meshserve.core import events as ev
from meshserve.core.measuring import Question
from meshserve.core.seen import Process
from meshserve.core.stopping import DESTRUCTION_S
from meshserve.model.ids import ReplicaId
from meshserve.rpc.token import token_metadata
from meshserve.v1 import proxy_control_pb2, proxy_control_pb2_grpc, replica_control_pb2, replica_control_pb2_grpc
from meshserve.wire.steering import (
    described_from_proto,
    initialize_request,
    introduction_from_proto,
    measured_from_proto,
    proxy_report_from_proto,
    reconfigure_request,
    report_from_proto,
    stats_request,
)

logger = logging.getLogger("meshserve.controller")

DESCRIBE_ATTEMPTS = 3
DESCRIBE_TIMEOUT_S = 3.0
"""A replica that does not say within these what it is counts as lost."""

_REPEAT_S = 0.2
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""The connection broke; the process may be well."""


class Steering:
    """Calls processes on the I/O thread.

    Args:
        connections: channels to them.
        token: the mesh token.
        clock: the monotonic clock.
    """

    def __init__(self, connections: Connections, token: str, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._metadata = token_metadata(token)
        self._clock = clock

    async def initialize(self, action: ac.InitializeReplica) -> ev.Event:
        """Constructs user code."""
        request = initialize_request(action)
        try:
            answer = await self._repeated(lambda: self._replica(action.address).Initialize(request, **self._call()))
        except grpc.aio.AioRpcError as error:
            return ev.ReplicaFailed(action.replica, _reason(error))
        if answer.failure:
            return ev.ReplicaFailed(action.replica, answer.failure)
        return ev.ReplicaReady(action.replica, introduction_from_proto(answer), answer.log_path)

    async def reconfigure(self, action: ac.ReconfigureReplica) -> ev.Event:
        """Sends options and rank."""
        request = reconfigure_request(action)
        try:
            answer = await self._repeated(lambda: self._replica(action.address).Reconfigure(request, **self._call()))
        except grpc.aio.AioRpcError as error:
            return ev.ReplicaReconfigureFailed(action.replica, _reason(error))
        if answer.failure:
            return ev.ReplicaReconfigureFailed(action.replica, answer.failure)
        return ev.ReplicaReconfigured(action.replica, answer.log_path)

    async def check(self, action: ac.CheckReplica) -> ev.Event:
        """Checks health, within the timeout."""
        request = replica_control_pb2.CheckHealthRequest()
        try:
            answer = await self._replica(action.address).CheckHealth(request, **self._call(action.timeout_s))
        except grpc.aio.AioRpcError as error:
            return ev.ReplicaUnhealthy(action.replica, _reason(error, action.timeout_s))
        if answer.failure:
            return ev.ReplicaUnhealthy(action.replica, answer.failure)
        return ev.ReplicaHealthy(action.replica, report_from_proto(answer))

    async def record_stats(self, question: Question) -> ev.Event | None:
        """Asks user code for what it measures; None when it does not answer in time."""
        call = self._call(question.timeout_s)
        try:
            answer = await self._replica(question.address).RecordStats(stats_request(question), **call)
        except grpc.aio.AioRpcError as error:
            logger.warning("Replica %s measured nothing: %s", question.replica, _reason(error, question.timeout_s))
            return None
        return measured_from_proto(answer, question)

    async def drain(self, action: ac.DrainReplica) -> ev.Event:
        """Lets a replica end its calls; one that cannot be asked has none to end."""
        request = replica_control_pb2.DrainRequest(timeout_s=action.timeout_s, wait_loop_s=action.wait_loop_s)
        try:
            async with asyncio.timeout(action.timeout_s + DESTRUCTION_S):
                await self._repeated(lambda: self._replica(action.address).Drain(request, **self._call()))
        except (grpc.aio.AioRpcError, TimeoutError):
            pass
        return ev.ReplicaDrained(action.replica)

    async def describe(self, replica: ReplicaId, process: Process) -> ev.Event:
        """Asks a replica found by name what it is."""
        for _ in range(DESCRIBE_ATTEMPTS):
            request = replica_control_pb2.DescribeRequest()
            try:
                answer = await self._replica(process.address).Describe(request, **self._call(DESCRIBE_TIMEOUT_S))
                age_s = max(time.time() - answer.start_time_s, 0.0) if answer.start_time_s else 0.0
                process = Process(
                    process.address, process.node_id, process.node_ip, answer.pid or process.pid, answer.log_path
                )
                return described_from_proto(answer, replica, process, self._clock() - age_s)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(_REPEAT_S)
            except (TypeError, ValueError):  # options of another version of this program
                break
        return ev.ReplicaLost(replica)

    async def check_proxy(self, action: ac.CheckProxy, process: Process) -> ev.Event:
        """Checks a proxy, within the timeout."""
        try:
            answer = await self._proxy(action.address).Check(
                proxy_control_pb2.CheckRequest(), **self._call(action.timeout_s)
            )
        except grpc.aio.AioRpcError as error:
            return ev.ProxyUnreachable(action.node_id, _reason(error, action.timeout_s))
        found = Process(process.address, process.node_id, process.node_ip, answer.pid or process.pid, answer.log_path)
        return ev.ProxyChecked(action.node_id, proxy_report_from_proto(answer), found)

    async def drain_proxy(self, action: ac.DrainProxy) -> None:
        """Tells a proxy to drain, or to take that back; its checks tell how it goes."""
        request = proxy_control_pb2.DrainProxyRequest(draining=action.draining)
        try:
            await self._repeated(lambda: self._proxy(action.address).DrainProxy(request, **self._call()))
        except grpc.aio.AioRpcError:
            pass

    async def _repeated(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Repeats a call for as long as only the connection is at fault."""
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() not in _LOST:
                    raise
            await asyncio.sleep(_REPEAT_S)

    def _replica(self, address: str) -> Any:
        return replica_control_pb2_grpc.ReplicaControlServiceStub(self._connections.channel(address))

    def _proxy(self, address: str) -> Any:
        return proxy_control_pb2_grpc.ProxyControlServiceStub(self._connections.channel(address))

    def _call(self, timeout_s: float | None = None) -> dict[str, Any]:
        return {"metadata": self._metadata, "timeout": timeout_s}


def _reason(error: grpc.aio.AioRpcError, timeout_s: float = 0.0) -> str:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"It did not answer within {timeout_s:g} s."
    return f"{error.code().name}: {error.details()}"
