"""The real gRPC ingress in front of real replicas, all in this process: no Ray, no controller.

client -> GrpcIngress -> layers -> Router -> session over loopback -> Door -> GrpcAdapter -> user code
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any

import grpc.aio
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from replicas import LocalMesh, LocalReplica
from rpcs.v1.shapes_pb2 import Note
from rpcs.v1.shapes_pb2_grpc import OtherServiceStub, ShapesServiceStub

from meshserve.model.ids import DeploymentId
from meshserve.model.options import DeploymentOptions
from meshserve.model.targets import ApplicationRoute, RouteTable
from meshserve.proxy.applications import Applications
from meshserve.proxy.grpc_ingress import GrpcIngress
from meshserve.proxy.in_flight import InFlight
from meshserve.routing.layers import CALLER_STACK
from meshserve.routing.service import Service, stack

SHAPES = "rpcs.v1.shapes_pb2_grpc.add_ShapesServiceServicer_to_server"
OTHER = "rpcs.v1.shapes_pb2_grpc:add_OtherServiceServicer_to_server"


class LocalServices:
    """Stands for the directory of a proxy: services by deployment, and the route table."""

    def __init__(self) -> None:
        self.services: dict[DeploymentId, Service] = {}
        self.failed: set[DeploymentId] = set()
        self._table = RouteTable((1, 0))
        self._callbacks: list[Callable[[RouteTable], None]] = []

    def service(self, deployment: DeploymentId) -> Service:
        return self.services[deployment]

    def watch_routes(self, on_change: Callable[[RouteTable], None]) -> None:
        self._callbacks.append(on_change)
        if self._table.version[1]:
            on_change(self._table)

    def publish(self, *routes: ApplicationRoute) -> None:
        self._table = RouteTable((1, self._table.version[1] + 1), routes)
        for callback in self._callbacks:
            callback(self._table)


class GrpcMesh:
    """An ingress and applications; an asynchronous context manager for the I/O thread.

    Args:
        apps: user code by application: what `LocalReplica` takes, or a `Service`.
        functions: servicer functions of the ingress's options.
        replica: options of the applications' deployments.
        options: further options of the ingress.
    """

    def __init__(
        self,
        apps: dict[str, Any],
        *,
        functions: tuple[str, ...] = (SHAPES, OTHER),
        replica: DeploymentOptions | None = None,
        **options: Any,
    ) -> None:
        self.directory = LocalServices()
        self.applications = Applications(self.directory, "node", refuses=self.directory.failed.__contains__)
        self.in_flight = InFlight()
        fields = {"host": "127.0.0.1", "port": 0, "grpc_servicer_functions": functions, **options}
        self.ingress = GrpcIngress(self.applications, json.dumps(fields), self.in_flight)
        self._apps = apps
        self._replica = replica
        self._meshes: dict[str, LocalMesh] = {}

    async def __aenter__(self) -> GrpcMesh:
        for name in self._apps:
            await self._serve(name)
        self.directory.publish(*(route(name) for name in self._apps))
        self.address = await self.ingress.start()
        self.channel = grpc.aio.insecure_channel(self.address)
        self.shapes, self.other = ShapesServiceStub(self.channel), OtherServiceStub(self.channel)
        return self

    async def _serve(self, name: str) -> None:
        target = self._apps[name]
        deployment = route(name).ingress
        if hasattr(target, "unary"):
            self.directory.services[deployment] = target
            return
        mesh = self._meshes[name] = LocalMesh(LocalReplica(name, target, options=self._replica))
        await mesh.__aenter__()
        self.directory.services[deployment] = stack(CALLER_STACK, mesh.router)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.channel.close()
        await self.ingress.stop()
        for mesh in self._meshes.values():
            await mesh.__aexit__(None, None, None)

    async def until_served(self, service: str, *, served: bool = True) -> None:
        """Waits until health knows a service, or knows it no longer."""
        check = HealthStub(self.channel).Check

        async def known() -> bool:
            code = await check(HealthCheckRequest(service=service)).code()
            return code is grpc.StatusCode.OK

        async with asyncio.timeout(10):
            while await known() is not served:
                await asyncio.sleep(0.005)

    async def blocking(self, work: Callable[[ShapesServiceStub], Any]) -> Any:
        """Runs work with the synchronous client. The asynchronous one makes an INTERNAL of its own of whatever status
        arrives while it sends a request, so it cannot tell how a call ended that the server cut short."""

        def run() -> Any:
            with grpc.insecure_channel(self.address) as channel:
                return work(ShapesServiceStub(channel))

        return await asyncio.to_thread(run)

    @staticmethod
    def note(number: int) -> Note:
        """A request for the shapes."""
        return Note(number=number)

    def user(self, app: str) -> Any:
        """The user's object of an application."""
        return self._meshes[app].replicas[0].user.callable

    def ongoing(self, app: str) -> int:
        """Calls that an application's replica has in hand."""
        return self._meshes[app].replicas[0].admission.ongoing


def route(app: str, *functions: str, import_paths: tuple[str, ...] = ()) -> ApplicationRoute:
    """An application without a route prefix: not reachable by HTTP, but by gRPC."""
    return ApplicationRoute(app, None, DeploymentId(app, "Model"), (), functions, import_paths)


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """The rich error; fails when it does not agree with the code and message beside it."""
    found = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(found)
    assert (status.code, status.message) == (error.code().value[0], error.details())
    return status


def detail(error: grpc.aio.AioRpcError, kind: Any) -> Any:
    """One detail of the rich error."""
    for packed in status_of(error).details:
        if packed.Is(kind.DESCRIPTOR):
            message = kind()
            packed.Unpack(message)
            return message
    raise AssertionError(f"no {kind.DESCRIPTOR.name} among the details")


def error_info(error: grpc.aio.AioRpcError) -> Any:
    return detail(error, error_details_pb2.ErrorInfo)
