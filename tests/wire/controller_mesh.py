"""A real controller over loopback, with a launcher and a store that stand in for Ray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from meshserve.controller.process import ControllerProcess
from meshserve.model.control import ApplicationSpec, DeploymentSpec
from meshserve.model.ids import DeploymentId
from meshserve.model.options import DeploymentOptions
from meshserve.rpc.channel import internal_channel
from meshserve.rpc.io_thread import io_thread
from meshserve.rpc.token import token_metadata
from meshserve.testing.fakes import LOOPBACK, FakeLauncher, FakeReplica, MemoryStore
from meshserve.v1 import controller_pb2, controller_pb2_grpc, proxy_control_pb2, watch_pb2, watch_pb2_grpc
from meshserve.wire.application import application_to_proto

TOKEN = "a-token-for-tests"


def application(
    name: str = "app",
    version: str = "v1",
    deployments: tuple[str, ...] = ("Model",),
    prefix: str | None = None,
    **options: Any,
) -> ApplicationSpec:
    """An application; the first of its deployments is its ingress and uses the others."""
    ids = [DeploymentId(name, deployment) for deployment in deployments]
    options.setdefault("graceful_shutdown_wait_loop_s", 0.01)
    return ApplicationSpec(
        name,
        tuple(
            DeploymentSpec(
                one,
                version,
                DeploymentOptions(**options),
                b"code-" + version.encode(),
                tuple(ids[1:]) if not at else (),
            )
            for at, one in enumerate(ids)
        ),
        deployments[0],
        prefix,
        external_scaler_enabled=True,
    )


class LocalMesh:
    """A controller, and what it needs."""

    def __init__(self, store: MemoryStore, launcher: FakeLauncher) -> None:
        self.store = store
        self.launcher = launcher
        self.controller: ControllerProcess | None = None
        self._channel: grpc.aio.Channel | None = None

    async def start_controller(self) -> None:
        """Starts a controller on the store as it is."""
        boot = {"token": TOKEN, "host": LOOPBACK, "node_id": "node", "declarations": "meshserve.api.declarations"}
        self.controller = ControllerProcess(boot, self.launcher, self.launcher.actors, self.store, io_thread())
        await self.controller.start()
        self._channel = internal_channel(self.controller.address)
        self.api: Any = controller_pb2_grpc.ControllerServiceStub(self._channel)

    async def kill_controller(self) -> None:
        """The controller goes away without a word; processes and store stay."""
        assert self._channel is not None and self.controller is not None
        await self._channel.close()
        await self.controller.close()

    async def restart_controller(self) -> None:
        """The controller dies and comes back."""
        await self.kill_controller()
        await self.start_controller()

    async def close(self) -> None:
        """Ends everything."""
        await self.kill_controller()
        await self.launcher.close()

    async def call(self, method: str, request: Any) -> Any:
        """Calls the control API."""
        return await getattr(self.api, method)(request, metadata=token_metadata(TOKEN), timeout=10)

    async def apply(self, *specs: ApplicationSpec) -> int:
        """Sets applications; returns the generation."""
        request = controller_pb2.ApplyRequest(applications=[application_to_proto(spec) for spec in specs])
        return int((await self.call("Apply", request)).generation)

    async def delete(self, name: str) -> None:
        """Begins to delete an application."""
        await self.call("Delete", controller_pb2.DeleteRequest(names=[name]))

    async def start_proxies(self, location: str = "EveryNode") -> Any:
        """Starts proxies."""
        options = proxy_control_pb2.ProxyOptions(location=location)
        return await self.call("StartProxies", controller_pb2.StartProxiesRequest(options=options))

    async def status(self) -> controller_pb2.StatusResponse:
        """Status now."""
        return await self.call("Status", controller_pb2.StatusRequest())

    async def wait(self, condition: Callable[[controller_pb2.StatusResponse], object], timeout_s: float = 10.0) -> Any:
        """Watches status until a condition holds, and returns that status."""
        stream = self.api.WatchStatus(controller_pb2.WatchStatusRequest(), metadata=token_metadata(TOKEN))
        last = None
        try:
            async with asyncio.timeout(timeout_s):
                async for message in stream:
                    last = message.status
                    if condition(last):
                        return last
        except TimeoutError as error:
            raise AssertionError(f"still {last}") from error
        finally:
            stream.cancel()

    async def until_state(self, state: str, app: str = "app") -> Any:
        """Waits for an application's state; returns the application's status."""
        status = await self.wait(
            lambda found: any(one.name == app and one.status == state for one in found.applications)
        )
        return next(one for one in status.applications if one.name == app)

    @property
    def replicas(self) -> list[FakeReplica]:
        """The replicas that live."""
        return [self.launcher.replicas[name] for name in self.launcher.running if name in self.launcher.replicas]

    @asynccontextmanager
    async def watching(self, deployment: DeploymentId) -> AsyncIterator[Watcher]:
        """A stream that watches a deployment and the routes."""
        assert self._channel is not None
        stream: Any = watch_pb2_grpc.WatchServiceStub(self._channel).Watch(metadata=token_metadata(TOKEN))
        key = watch_pb2.DeploymentKey(app=deployment.app, deployment=deployment.name)
        await stream.write(watch_pb2.WatchRequest(deployments=[key], routes=True, watcher="w", role="driver"))
        try:
            yield Watcher(stream)
        finally:
            stream.cancel()


class Watcher:
    """The client's end of a watch stream; keeps the newest snapshots."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.targets: watch_pb2.DeploymentTargets | None = None
        self.routes: watch_pb2.RouteTable | None = None
        self.versions: list[tuple[int, int]] = []

    async def until(self, condition: Callable[[Watcher], object], timeout_s: float = 10.0) -> None:
        """Reads until a condition holds."""
        async with asyncio.timeout(timeout_s):
            while not condition(self):
                message = await self.stream.read()
                for targets in message.deployments:
                    self.targets = targets
                    self.versions.append((targets.epoch, targets.version))
                if message.HasField("routes"):
                    self.routes = message.routes

    async def until_replicas(self, count: int) -> set[str]:
        """Reads until so many replicas are published; returns their tags."""
        await self.until(lambda seen: seen.targets is not None and len(seen.targets.replicas) == count)
        assert self.targets is not None
        return {replica.replica_tag for replica in self.targets.replicas}


@asynccontextmanager
async def local_mesh() -> AsyncIterator[LocalMesh]:
    """A mesh with nothing in it."""
    mesh = LocalMesh(MemoryStore(), FakeLauncher())
    await mesh.start_controller()
    try:
        yield mesh
    finally:
        await mesh.close()
