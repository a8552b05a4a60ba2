"""From a name to a service: the routers of this process, kept current by one watch stream to the controller.

The first call to a deployment subscribes to it. While the controller is away the last snapshots stay in force, so the
data plane goes on; new names wait until it is back.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import grpc.aio

from meshserve.errors import ControllerUnreachableError, DeploymentUnavailableError
from meshserve.launch.locator import MeshAddress, locate
from meshserve.launch.ray_nodes import this_node_id
from meshserve.model.control import ApplicationSpec
from meshserve.model.ids import DeploymentId
from meshserve.model.targets import DeploymentTargets, RouteTable
from meshserve.routing.layers import caller_stack
from meshserve.routing.open_replicas import SAME_NODE, SAME_ZONE
from meshserve.routing.router import Router
from meshserve.routing.service import Service, stack
from meshserve.rpc.channel import internal_channel
from meshserve.rpc.io_thread import LoopThread, io_thread
from meshserve.rpc.token import token_metadata
from meshserve.settings import Settings
from meshserve.v1 import watch_pb2, watch_pb2_grpc
from meshserve.wire.failures import failure_of
from meshserve.wire.targets import routes_from_proto, targets_from_proto

REPORT_PERIOD_S = 0.5
"""How often routers tell the controller what they have in hand, when it has changed."""

IDLE_REPORT_PERIOD_S = 2.0
"""... when they last had nothing in hand. A call that no replica can serve is told of at once."""

CATCH_UP_S = 5.0
"""How long to wait for snapshots that are on their way; without the controller they may never come."""

_LOOK_S = 0.02


@dataclass(slots=True)
class _Entry:
    router: Router
    service: Service
    reported: tuple[int, int] = (0, 0)


class Directory:
    """The services this process can call. Lives on the I/O thread.

    Args:
        locate: finds the controller.
        role: "proxy", "replica" or "driver".
        node_id: of this process; empty to ask Ray when a router needs it, which a driver may not have joined yet.
        io: the I/O thread.
        rng: chance.
    """

    is_local = False
    """Whether deployments are objects of this process (local testing mode)."""

    local_applications: Mapping[str, ApplicationSpec] = {}
    """Those that run in this process, by name."""

    def __init__(
        self, locate: Callable[[], Awaitable[MeshAddress]], role: str, node_id: str, io: LoopThread, rng: Random
    ) -> None:
        self.io = io
        self._locate = locate
        self._role = role
        self._node_id = node_id
        self._rng = rng
        self._watcher = f"{role}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._entries: dict[DeploymentId, _Entry] = {}
        self._on_targets: dict[DeploymentId, list[Callable[[DeploymentTargets], None]]] = {}
        self._on_routes: list[Callable[[RouteTable], None]] = []
        self._routes: RouteTable | None = None
        self._token = ""
        self._outgoing = asyncio.Event()
        self._received = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unsent: list[DeploymentId] = []
        self._routes_unsent = False

    def service(self, deployment: DeploymentId) -> Service:
        """The full stack for a deployment; on the I/O thread. Calls wait until its first snapshot has come."""
        return self._entry(deployment).service

    def router(self, deployment: DeploymentId) -> Router:
        """The router at the bottom of that stack."""
        return self._entry(deployment).router

    def _entry(self, deployment: DeploymentId) -> _Entry:
        entry = self._entries.get(deployment)
        if entry is None:
            router = Router(
                deployment,
                self._node_id or this_node_id(),
                lambda: self._token,
                time.monotonic,
                self._rng,
                self.io.spawn,
                preferred=_preferred(self._role),
                starved=self.nudge,
            )
            entry = self._entries[deployment] = _Entry(router, stack(caller_stack(), router))
            self._unsent.append(deployment)
            self._start()
        return entry

    def watch_routes(self, on_change: Callable[[RouteTable], None]) -> None:
        """Calls back with the route table, now if it is known and at every change; on the I/O thread."""
        self._on_routes.append(on_change)
        if self._routes is not None:
            on_change(self._routes)
        self._routes_unsent = True
        self._start()

    def watch_targets(self, deployment: DeploymentId, on_change: Callable[[DeploymentTargets], None]) -> None:
        """Calls back with every snapshot of a deployment that is to come; on the I/O thread."""
        self._on_targets.setdefault(deployment, []).append(on_change)
        self._unsent.append(deployment)
        self._start()

    def _start(self) -> None:
        self._outgoing.set()
        if self._task is None:
            self._task = self.io.spawn(self._run())

    # -- the watch stream ----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        delay_s = 0.05
        while True:
            try:
                address = await self._locate()
                self._token = address.token
                if await self._watch(address):
                    delay_s = 0.05
            except ControllerUnreachableError as error:
                self._no_mesh(error)
            except grpc.aio.AioRpcError:
                pass  # the controller is away; the snapshots in force stay in force
            await asyncio.sleep(delay_s * (0.5 + self._rng.random()))
            delay_s = min(delay_s * 2, 1.0)

    def _no_mesh(self, error: ControllerUnreachableError) -> None:
        """Nobody will ever answer those who wait for a first snapshot."""
        for deployment, entry in self._entries.items():
            if not entry.router.informed:
                entry.router.fail_line(failure_of(DeploymentUnavailableError(str(deployment), str(error))))

    async def _watch(self, address: MeshAddress) -> bool:
        """Watches until the stream ends; whether anything was received."""
        received = False
        channel = internal_channel(address.address)
        try:
            call: Any = watch_pb2_grpc.WatchServiceStub(channel).Watch(metadata=token_metadata(address.token))
            self._subscribe_again()
            writing = asyncio.create_task(self._write(call))
            try:
                while (message := await call.read()) is not grpc.aio.EOF:
                    received = True
                    self._receive(message)
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
        finally:
            await channel.close()
        return received

    def _subscribe_again(self) -> None:
        """A new stream knows nothing: name everything again."""
        self._unsent = [*self._entries, *self._on_targets]
        self._routes_unsent = bool(self._on_routes)
        for entry in self._entries.values():
            entry.reported = (0, 0)
        self._outgoing.set()

    async def _write(self, call: Any) -> None:
        request = watch_pb2.WatchRequest(watcher=self._watcher, role=self._role)
        while True:
            self._outgoing.clear()
            for deployment in self._unsent:
                request.deployments.add(app=deployment.app, deployment=deployment.name)
            self._unsent.clear()
            request.routes, self._routes_unsent = self._routes_unsent, False
            self._add_reports(request)
            if request.ByteSize():
                await call.write(request)
            request = watch_pb2.WatchRequest()
            try:
                await asyncio.wait_for(self._outgoing.wait(), REPORT_PERIOD_S if self._busy else IDLE_REPORT_PERIOD_S)
            except TimeoutError:
                pass  # time for a report

    @property
    def _busy(self) -> bool:
        """Whether the controller was last told of anything in hand."""
        return any(entry.reported != (0, 0) for entry in self._entries.values())

    def _add_reports(self, request: watch_pb2.WatchRequest) -> None:
        for deployment, entry in self._entries.items():
            now = (entry.router.queued, entry.router.running)
            if now != entry.reported:
                entry.reported = now
                report = request.reports.add(queued=now[0], running=now[1])
                report.key.app, report.key.deployment = deployment.app, deployment.name

    def _receive(self, message: watch_pb2.WatchResponse) -> None:
        for proto in message.deployments:
            targets = targets_from_proto(proto)
            entry = self._entries.get(targets.deployment)
            if entry is not None:
                entry.router.update(targets)
            for on_change in self._on_targets.get(targets.deployment, ()):
                on_change(targets)
        if message.HasField("routes"):
            routes = routes_from_proto(message.routes)
            if self._routes is None or routes.version >= self._routes.version:
                self._routes = routes
                for on_routes in self._on_routes:
                    on_routes(routes)

        self._received.set()
        self._received = asyncio.Event()

    async def catch_up(self, published: Mapping[DeploymentId, tuple[int, int]]) -> None:
        """Waits until the routers of this process know these snapshots, or newer ones; a while at most.

        Args:
            published: versions of what the controller has told; deployments that nobody here calls are left out.
        """
        try:
            async with asyncio.timeout(CATCH_UP_S):
                while any(one in self._entries and self.router(one).version < of for one, of in published.items()):
                    await self._received.wait()
        except TimeoutError:
            pass

    def nudge(self) -> None:
        """Reports now: a call waits for a deployment that has no replica."""
        self._outgoing.set()

    async def quiet(self) -> None:
        """Waits until no call from here waits or runs; for the end of a process."""
        # Looked for once in a process's life; no call should pay for being told of.
        while any(entry.router.queued or entry.router.running for entry in self._entries.values()):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)

    async def close(self) -> None:
        """Ends the watch stream and every session."""
        if self._task is not None:
            self._task.cancel()
        for entry in self._entries.values():
            await entry.router.close()
        self._entries.clear()


def _preferred(role: str) -> Collection[int]:
    """Which distances count in a process."""
    settings = Settings.from_environment()
    counts = {SAME_NODE: role != "proxy" or settings.prefer_same_node, SAME_ZONE: settings.prefer_same_zone}
    return [distance for distance, wanted in counts.items() if wanted]


_directory: Directory | None = None
_lock = threading.Lock()


def process_directory() -> Directory:
    """The directory of this process: that of its role, or a driver's, made on first use."""
    if _directory is None:
        with _lock:
            if _directory is None:
                set_process_directory(Directory(locate, "driver", "", io_thread(), Random()))
    assert _directory is not None
    return _directory


def set_process_directory(directory: Directory | None) -> None:
    """Says which directory this process uses; None forgets the present one (after `shutdown`, or a fork)."""
    global _directory
    _directory = directory


os.register_at_fork(after_in_child=lambda: set_process_directory(None))
