"""How the controller steers this replica: become, reconfigure, be well, drain. See replica_control.proto."""

from __future__ import annotations

import asyncio
import json
import os
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from meshserve.core.weights import actors_version, build_version
from meshserve.model.control import ReplicaRank
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.model.options import DeploymentOptions
from meshserve.replica.admission import Admission
from meshserve.replica.door import Door
from meshserve.replica.health import LoopWatch
from meshserve.replica.stats import AUTOSCALING, ROUTING, hook, record
from meshserve.replica.user_code import UserCode
from meshserve.routing.directory import process_directory
from meshserve.rpc.import_path import import_from
from meshserve.settings import Settings
from meshserve.telemetry.exposition import process_text
from meshserve.telemetry.logs import configure_log, log_path
from meshserve.telemetry.loop_lag import watch_loop
from meshserve.telemetry.tracing import send_last_spans
from meshserve.user.context import ReplicaContext
from meshserve.user.multiplex import ModelRegistry
from meshserve.v1 import replica_control_pb2 as pb
from meshserve.v1 import replica_control_pb2_grpc
from meshserve.wire.failures import user_traceback
from meshserve.wire.gangs import gang_from_proto
from meshserve.wire.options import options_from_json

FAREWELL_S = 5.0
"""What callers get to close their sessions; one that is stuck must not keep a replica from ending."""

LAST_CALLS_S = 0.5
"""For the calls of destructors; within what the controller allows a destruction (`core.stopping`)."""


class ReplicaControl(replica_control_pb2_grpc.ReplicaControlServiceServicer):
    """Steering of one replica. Its methods run on the I/O thread; user code runs on the user's loop.

    Args:
        door: the data plane; its admission opens when user code is ready.
        install: puts the user's code behind the door.
    """

    def __init__(self, door: Door, install: Callable[[UserCode], None]) -> None:
        self._door = door
        self._install = install
        self._user: UserCode | None = None
        self._watch: LoopWatch | None = None
        self._initializing: asyncio.Task[pb.InitializeResponse] | None = None
        self._draining: asyncio.Task[pb.DrainResponse] | None = None
        self._request = pb.InitializeRequest()
        self._response = pb.InitializeResponse()
        self._ready = False
        self._started_at = time.time()
        self._lock = asyncio.Lock()

    @property
    def _admission(self) -> Admission:
        return self._door.admission

    # -- becoming ------------------------------------------------------------------------------------------------

    async def Initialize(self, request: pb.InitializeRequest, context: Any) -> pb.InitializeResponse:  # noqa: N802
        """See replica_control.proto; a repeated one joins the first."""
        if self._initializing is None:
            self._initializing = asyncio.create_task(self._initialize(request))
        return await asyncio.shield(self._initializing)

    async def _initialize(self, request: pb.InitializeRequest) -> pb.InitializeResponse:
        self._request = request  # told to a restarted controller also while user code is being constructed
        import_from(request.import_paths)
        try:
            options = options_from_json(request.options_json)
            rank = _rank(request.rank)
            replica_id = ReplicaId(DeploymentId(request.app, request.deployment), request.replica_tag)
            actors = actors_version(build_version(request.code_version, options), options)
            replica_context = ReplicaContext(
                replica_id,
                None,
                rank,
                options.num_replicas,
                request.code_version,
                options.max_ongoing_requests,
                gang_from_proto(request.gang),
                actors,
            )
            configure_log(options.logging_config)
            apart = Settings.from_environment().user_code_apart
            user = self._user = UserCode(replica_context, options, apart=apart)
            await user.construct(request.code)
            await user.reconfigure(options, rank)
            self._watch = LoopWatch(user.loop)
            watch_loop("user", user.loop)
            await self._user_check_health()
            response = pb.InitializeResponse(
                metadata_json=await self._metadata(),
                docs_path=getattr(user.callable, "__meshserve_docs_path__", None) or "",
                route_patterns=getattr(user.callable, "__meshserve_route_patterns__", ()),
                log_path=log_path(),
                records_routing_stats=hook(user, ROUTING) is not None,
                records_autoscaling_stats=hook(user, AUTOSCALING) is not None,
            )
        except Exception as error:  # noqa: BLE001 - user code may raise anything; the controller shows it
            return pb.InitializeResponse(failure=user_traceback(error))
        user.settle()
        self._admission.limit = options.max_ongoing_requests
        self._admission.draining = False
        self._install(user)
        self._response, self._ready = response, True
        self._door.announce()
        return response

    async def _metadata(self) -> str:
        value = await self._ask("record_replica_metadata")
        if value is not None and not isinstance(value, dict):
            raise TypeError(f"record_replica_metadata must return a dict or None, not {type(value).__name__}.")
        return json.dumps(value) if value else ""

    async def _ask(self, hook: str) -> Any:
        """What a hook of the user's class returns; None when there is none."""
        assert self._user is not None
        if self._user.is_function or (function := getattr(self._user.callable, hook, None)) is None:
            return None
        return await self._user.on_loop(function)

    async def Reconfigure(self, request: pb.ReconfigureRequest, context: Any) -> pb.ReconfigureResponse:  # noqa: N802
        """See replica_control.proto."""
        async with self._lock:
            if not self._ready or self._user is None:
                return pb.ReconfigureResponse(failure="the replica is not initialized")
            if request.generation < self._request.generation:
                return pb.ReconfigureResponse(log_path=log_path())
            options: DeploymentOptions = options_from_json(request.options_json)
            try:
                configure_log(options.logging_config)
                await self._user.reconfigure(options, _rank(request.rank))
            except Exception as error:  # noqa: BLE001 - user code may raise anything; the controller shows it
                return pb.ReconfigureResponse(failure=user_traceback(error))
            self._request.options_json = request.options_json
            self._request.generation = request.generation
            self._request.route_prefix = request.route_prefix
            self._request.rank.CopyFrom(request.rank)
            self._admission.limit = options.max_ongoing_requests
            self._door.announce()
            return pb.ReconfigureResponse(log_path=log_path())

    # -- being -----------------------------------------------------------------------------------------------------

    async def CheckHealth(self, request: pb.CheckHealthRequest, context: Any) -> pb.CheckHealthResponse:  # noqa: N802
        """See replica_control.proto."""
        response = pb.CheckHealthResponse(ongoing=self._admission.ongoing)
        response.multiplexed_model_ids.extend(self._door.models())
        if not self._ready:
            return response
        try:
            await self._user_check_health()
        except Exception as error:  # noqa: BLE001 - user code may raise anything; the controller shows it
            response.failure = user_traceback(error)
        return response

    async def RecordStats(self, request: pb.RecordStatsRequest, context: Any) -> pb.RecordStatsResponse:  # noqa: N802
        """See replica_control.proto."""
        response = pb.RecordStatsResponse()
        if not self._ready or self._user is None:
            return response
        if request.routing:
            response.routing_stats_json = await record(self._user, ROUTING)
        if request.autoscaling:
            response.autoscaling_stats_json = await record(self._user, AUTOSCALING)
        return response

    async def _user_check_health(self) -> None:
        assert self._user is not None and self._watch is not None
        if self._user.is_function or not hasattr(self._user.callable, "check_health"):
            self._watch.check(time.monotonic())
        else:
            await self._ask("check_health")

    async def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.DescribeResponse:  # noqa: N802
        """See replica_control.proto."""
        own = self._request
        return pb.DescribeResponse(
            ready=self._ready,
            code_version=own.code_version,
            generation=own.generation,
            rank=own.rank,
            gang=own.gang if own.HasField("gang") else None,
            draining=self._draining is not None,
            app=self._door.deployment.app,
            deployment=self._door.deployment.name,
            replica_tag=self._door.replica_tag,
            pid=os.getpid(),
            options_json=own.options_json,
            route_prefix=own.route_prefix,
            initialized=self._response,
            log_path=log_path(),
            start_time_s=self._started_at,
        )

    async def Metrics(self, request: pb.MetricsRequest, context: Any) -> pb.MetricsResponse:  # noqa: N802
        """See replica_control.proto."""
        return pb.MetricsResponse(text=process_text())

    # -- ending ----------------------------------------------------------------------------------------------------

    async def Drain(self, request: pb.DrainRequest, context: Any) -> pb.DrainResponse:  # noqa: N802
        """See replica_control.proto; a repeated one joins the first."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(request.timeout_s, request.wait_loop_s))
        return await asyncio.shield(self._draining)

    async def _drain(self, timeout_s: float, wait_loop_s: float) -> pb.DrainResponse:
        """Serves stragglers for a while, then refuses, then destroys the user's object."""
        deadline = time.monotonic() + timeout_s
        while wait_loop_s > 0:  # 0: the whole mesh is going down, nobody is to be served any more
            # Routers need a moment to learn that this replica is no target any more; what they still send is served.
            # Those that have learned it close their sessions: once all have, there is nobody to wait for.
            await _at_most(min(wait_loop_s, max(deadline - time.monotonic(), 0.0)), self._quiet())
            if not self._admission.ongoing or time.monotonic() >= deadline:
                break
        self._admission.draining = True
        self._door.announce()
        await _at_most(max(deadline - time.monotonic(), 0.0), self._idle())
        abandoned = self._admission.ongoing
        if not abandoned:
            # Callers that have heard of it leave once all is answered. Who is left first loses what is on its way: a
            # write that fails hides the good end of a stream, and a process that ends resets its connections.
            await _at_most(min(FAREWELL_S, max(deadline - time.monotonic(), 0.0)), self._door.sessions_over())
        await _at_most(1.0, self._door.close_sessions())
        if self._user is not None:
            await _at_most(max(deadline - time.monotonic(), 1.0), self._destroy(self._user))
            # Calls that destructors have begun, to free what is held elsewhere, would die with this process.
            await _at_most(LAST_CALLS_S, process_directory().quiet())
        await send_last_spans()
        return pb.DrainResponse(abandoned=abandoned)

    async def _destroy(self, user: UserCode) -> None:
        try:
            await user.on_loop(ModelRegistry.unload_all)
            await user.destroy()
        except Exception:  # noqa: BLE001 - a destructor that raises must not keep the replica alive
            traceback.print_exc()

    async def _quiet(self) -> None:
        """Waits until every caller has closed its session, and nothing runs."""
        await self._door.sessions_over()
        await self._idle()

    async def _idle(self) -> None:
        """Waits until nothing runs."""
        idle = asyncio.Event()
        self._admission.when_idle(idle.set)
        await idle.wait()


async def _at_most(timeout_s: float, work: Awaitable[Any]) -> None:
    """Waits for work, but not for longer than that."""
    try:
        await asyncio.wait_for(work, timeout_s)
    except TimeoutError:
        pass


def _rank(proto: pb.ReplicaRank) -> ReplicaRank:
    return ReplicaRank(proto.rank, proto.node_rank, proto.local_rank)
