"""Stand-ins for Ray and for the processes it would start: a store in memory, and processes that are gRPC servers here.

What they stand in for is the `Store` and `Launcher` protocols and the steering services of replicas and proxies; the
controller that uses them is the real one, over real connections. Everything lives on the loop that awaits it. A test
holds the other end: it can let a constructor fail or wait, let a process die, and see what was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshserve.launch.launcher import LaunchError, Node, ProcessSpec, Started, WorkSpec
from meshserve.rpc.import_path import import_object
from meshserve.rpc.server import start_internal_server
from meshserve.testing.fake_actors import FakeActors
from meshserve.transport.server import Server
from meshserve.v1 import proxy_control_pb2 as proxy_pb
from meshserve.v1 import proxy_control_pb2_grpc, replica_control_pb2_grpc
from meshserve.v1 import replica_control_pb2 as replica_pb

LOOPBACK = "127.0.0.1"


class MemoryStore:
    """A `Store` that outlives controllers, not the test."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        return self.values.get(key)

    async def put(self, key: str, value: bytes) -> None:
        """See `Store.put`."""
        self.values[key] = value

    async def delete(self, key: str) -> None:
        """See `Store.delete`."""
        self.values.pop(key, None)

    async def keys(self, prefix: str) -> tuple[str, ...]:
        """See `Store.keys`."""
        return tuple(key for key in self.values if key.startswith(prefix))


class FakeReplica(replica_control_pb2_grpc.ReplicaControlServiceServicer):
    """A replica that constructs nothing and does as it is told.

    Attributes:
        request: what it was told to become.
        constructed: its constructor waits until this is set.
        constructor_failure: what its constructor raises; empty for none.
        health_failure: what its health check says; empty for well.
        measured: what its user code measures of itself; it has no such methods where this is empty.
        reconfigured: every reconfiguration it took.
        drained: it ends its drain when this is set.
        drains: every drain it was asked for.
    """

    def __init__(self, boot: Mapping[str, Any]) -> None:
        self.boot = boot
        self.request = replica_pb.InitializeRequest()
        self.ready = False
        self.constructed = asyncio.Event()
        self.constructed.set()
        self.constructor_failure = ""
        self.health_failure = ""
        self.measured = replica_pb.RecordStatsResponse()
        self.reconfigured: list[replica_pb.ReconfigureRequest] = []
        self.drains: list[replica_pb.DrainRequest] = []
        self.drained = asyncio.Event()
        self.drained.set()

    async def Initialize(self, request: replica_pb.InitializeRequest, context: Any) -> Any:  # noqa: N802
        """See replica_control.proto."""
        self.request = request
        await self.constructed.wait()
        self.ready = not self.constructor_failure
        return self._introduction()

    def _introduction(self) -> replica_pb.InitializeResponse:
        return replica_pb.InitializeResponse(
            failure=self.constructor_failure,
            records_routing_stats=bool(self.measured.routing_stats_json),
            records_autoscaling_stats=bool(self.measured.autoscaling_stats_json),
        )

    async def Reconfigure(self, request: replica_pb.ReconfigureRequest, context: Any) -> Any:  # noqa: N802
        """See replica_control.proto."""
        self.reconfigured.append(request)
        self.request.options_json, self.request.generation = request.options_json, request.generation
        self.request.route_prefix = request.route_prefix
        self.request.rank.CopyFrom(request.rank)
        return replica_pb.ReconfigureResponse()

    async def CheckHealth(self, request: replica_pb.CheckHealthRequest, context: Any) -> Any:  # noqa: N802
        """See replica_control.proto."""
        return replica_pb.CheckHealthResponse(failure=self.health_failure)

    async def RecordStats(self, request: replica_pb.RecordStatsRequest, context: Any) -> Any:  # noqa: N802
        """See replica_control.proto."""
        return replica_pb.RecordStatsResponse(
            routing_stats_json=self.measured.routing_stats_json if request.routing else "",
            autoscaling_stats_json=self.measured.autoscaling_stats_json if request.autoscaling else "",
        )

    async def Drain(self, request: replica_pb.DrainRequest, context: Any) -> Any:  # noqa: N802
        """See replica_control.proto."""
        self.drains.append(request)
        await self.drained.wait()
        return replica_pb.DrainResponse()

    async def Describe(self, request: replica_pb.DescribeRequest, context: Any) -> Any:  # noqa: N802
        """See replica_control.proto."""
        own = self.request
        return replica_pb.DescribeResponse(
            ready=self.ready,
            code_version=own.code_version,
            generation=own.generation,
            rank=own.rank if own.code_version else None,
            draining=bool(self.drains),
            options_json=own.options_json,
            route_prefix=own.route_prefix,
            initialized=self._introduction(),
            gang=own.gang if own.HasField("gang") else None,
        )

    async def Metrics(self, request: replica_pb.MetricsRequest, context: Any) -> Any:  # noqa: N802
        """See replica_control.proto; it measures nothing."""
        return replica_pb.MetricsResponse()


class FakeProxy(proxy_control_pb2_grpc.ProxyControlServiceServicer):
    """A proxy that serves nothing, at once, by the newest routes.

    Attributes:
        failure: why it does not serve; empty when it does.
    """

    def __init__(self, boot: Mapping[str, Any]) -> None:
        self.boot = boot
        self.failure = ""
        self.draining = False

    async def Check(self, request: proxy_pb.CheckRequest, context: Any) -> Any:  # noqa: N802
        """See proxy_control.proto."""
        return proxy_pb.CheckResponse(failure=self.failure, http_address="127.0.0.1:1", routes_epoch=1 << 40)

    async def DrainProxy(self, request: proxy_pb.DrainProxyRequest, context: Any) -> Any:  # noqa: N802
        """See proxy_control.proto."""
        self.draining = request.draining
        return proxy_pb.DrainProxyResponse()

    async def NodeMetrics(self, request: proxy_pb.NodeMetricsRequest, context: Any) -> Any:  # noqa: N802
        """See proxy_control.proto."""
        return proxy_pb.NodeMetricsResponse()


@dataclass
class FakeProcess:
    """One process: a server on this loop."""

    spec: ProcessSpec
    started: Started
    server: Server
    dead: asyncio.Event = field(default_factory=asyncio.Event)


class FakeLauncher:
    """A `Launcher` whose processes are servers on this loop.

    Attributes:
        replicas: every replica ever started, by process name.
        proxies: the newest proxy of each node.
        running: the processes that live.
        groups: the placement groups that processes share.
        prepare: called with every new fake before it listens; raises LaunchError to let its start fail.
        machines: what `nodes` answers.
        room: cleared while nothing has room to start.
        work: all work that was ever asked for.
        actors: the actors of users' classes.
    """

    def __init__(self) -> None:
        self.replicas: dict[str, FakeReplica] = {}
        self.proxies: dict[str, FakeProxy] = {}
        self.running: dict[str, FakeProcess] = {}
        self.groups: set[str] = set()
        self.prepare: Callable[[Any], None] = lambda fake: None
        self.machines: tuple[Node, ...] = (Node("node", LOOPBACK, is_head=True, total={"CPU": 2}),)
        self.room = asyncio.Event()
        self.room.set()
        self.work: list[WorkSpec] = []
        self.actors = FakeActors()
        self._waiting: dict[str, asyncio.Event] = {}

    async def start(self, spec: ProcessSpec) -> Started:
        """See `Launcher.start`."""
        if spec.placement_group:
            self.groups.add(spec.placement_group)
        await self._wait_for_room(spec.name)
        fake: Any = FakeReplica(spec.boot) if "replica" in spec.entry else FakeProxy(spec.boot)
        self.prepare(fake)
        if isinstance(fake, FakeReplica):
            self.replicas[spec.name] = fake
        else:
            self.proxies[spec.node_id] = fake
        server, address = await start_internal_server(spec.boot["token"], LOOPBACK, [lambda on: _add(fake, on)])
        started = Started(spec.name, address, spec.node_id or self.machines[0].node_id, LOOPBACK, 1)
        self.running[spec.name] = FakeProcess(spec, started, server)
        return started

    async def _wait_for_room(self, name: str) -> None:
        killed = self._waiting[name] = asyncio.Event()
        waits = [asyncio.create_task(event.wait()) for event in (self.room, killed)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.pop(name, None)
            for wait in waits:
                wait.cancel()
        if killed.is_set():
            raise LaunchError(f"{name} was killed while it was starting")

    async def run(self, spec: WorkSpec) -> bytes:
        """See `Launcher.run`; in a thread of this process."""
        self.work.append(spec)
        await self.room.wait()
        result: bytes = await asyncio.to_thread(import_object(spec.entry), spec.argument)
        return result

    async def wait_for_death(self, name: str) -> None:
        """See `Launcher.wait_for_death`."""
        if name in self.running:
            await self.running[name].dead.wait()

    async def kill(self, name: str) -> None:
        """See `Launcher.kill`; also how a test lets a process die."""
        self.groups.discard(name)
        if name in self._waiting:
            self._waiting[name].set()
        process = self.running.pop(name, None)
        if process is not None:
            await process.server.stop(None)
            process.dead.set()

    async def find(self, name: str) -> Started | None:
        """See `Launcher.find`."""
        return self.running[name].started if name in self.running else None

    async def names(self) -> tuple[str, ...]:
        """See `Launcher.names`."""
        return (*self.running, *self.actors.running, *self.groups)

    async def nodes(self) -> tuple[Node, ...]:
        """See `Launcher.nodes`."""
        return self.machines

    async def close(self) -> None:
        """Ends every process."""
        for name in tuple(self.running):
            await self.kill(name)


def _add(fake: Any, server: Any) -> None:
    if isinstance(fake, FakeReplica):
        replica_control_pb2_grpc.add_ReplicaControlServiceServicer_to_server(fake, server)
    else:
        proxy_control_pb2_grpc.add_ProxyControlServiceServicer_to_server(fake, server)
