"""The page about a mesh in this process: a controller that says what the test wants, and figures that it makes up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc.aio

from meshserve.errors import ControllerUnreachableError
from meshserve.launch.locator import MeshAddress
from meshserve.model.failure import FailureKind
from meshserve.model.ids import DeploymentId
from meshserve.model.notice import Notice
from meshserve.model.targets import RouteTable
from meshserve.proxy.applications import Applications
from meshserve.proxy.discovery import Discovery
from meshserve.proxy.http_app import HttpApp
from meshserve.proxy.http_server import HttpServer
from meshserve.proxy.in_flight import InFlight
from meshserve.proxy.operations import Operations
from meshserve.proxy.options import HttpOptions
from meshserve.rpc.server import start_internal_server
from meshserve.telemetry.caller import RouterMetrics
from meshserve.telemetry.exposition import render
from meshserve.telemetry.ingress import HttpMetrics
from meshserve.telemetry.merging import merge
from meshserve.telemetry.registry import Registry
from meshserve.telemetry.replica import ReplicaMetrics
from meshserve.v1 import controller_pb2, controller_pb2_grpc, metrics_pb2, metrics_pb2_grpc
from meshserve.wire.notices import notice_to_proto

TOKEN = "a-token-for-tests"
NODE = "node-1"
HOSTILE = "<img src=x onerror=alert(1)>"


class Busy:
    """A replica's door."""

    ongoing, limit, waiting_streams = 3, 8, 0


class Figures:
    """What the node's processes have counted: each has a registry of its own."""

    def __init__(self) -> None:
        self.proxy = Registry()
        self.replicas: dict[tuple[str, str, str], Registry] = {}
        self._doors = Busy()

    async def text(self) -> bytes:
        """See `proxy.metrics_pages.NodeText`."""
        texts = [render(self.proxy.collect(), {"component": "proxy"})]
        for (app, name, tag), registry in self.replicas.items():
            labels = {"component": "replica", "application": app, "deployment": name, "replica": tag}
            texts.append(render(registry.collect(), labels))
        return merge(texts)

    def request(self, app: str, status: int = 200, seconds: float = 0.02) -> None:
        """A request at the ingress."""
        self.proxy.recorder(HttpMetrics).ended(app, f"/{app}", "GET", status, seconds)

    def call(self, caller: tuple[str, str, str] | None, app: str, name: str, calls: int = 1) -> None:
        """Calls that somebody makes."""
        registry = self.proxy if caller is None else self.replicas.setdefault(caller, Registry())
        registry.recorder(RouterMetrics, app, name).at_once += calls

    def run(self, who: tuple[str, str, str], seconds: float = 0.01, *, failed: bool = False) -> None:
        """A call that a replica has ended."""
        metrics = self.replicas.setdefault(who, Registry()).recorder(ReplicaMetrics, *who[:2])
        metrics.doors.add(self._doors)
        metrics.ended("__call__", seconds, FailureKind.USER if failed else None)


class FakeController(controller_pb2_grpc.ControllerServiceServicer):
    """Says what the mesh is like.

    Attributes:
        away: it cannot be found.
    """

    def __init__(self) -> None:
        self.status = controller_pb2.StatusResponse()
        self.away = False

    async def Status(self, request: Any, context: Any) -> controller_pb2.StatusResponse:
        return self.status


class FakeSpeaker(metrics_pb2_grpc.MetricsServiceServicer):
    """A process that has something to say."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    async def Notices(self, request: Any, context: Any) -> metrics_pb2.NoticesResponse:
        return metrics_pb2.NoticesResponse(notices=[notice_to_proto(one) for one in self.notices])


class NoServices:
    def service(self, deployment: DeploymentId) -> Any:
        raise AssertionError(deployment)

    def watch_routes(self, on_change: Any) -> None:
        on_change(RouteTable((1, 1)))


class DashboardMesh:
    """A proxy that shows the page."""

    def __init__(self) -> None:
        self.controller = FakeController()
        self.speaker = FakeSpeaker()
        self.figures = Figures()
        self.url = ""
        self.address = ""

    async def locate(self) -> MeshAddress:
        """Where the controller is."""
        if self.controller.away:
            raise ControllerUnreachableError("it is away")
        return MeshAddress(self.address, TOKEN)


@asynccontextmanager
async def dashboard_mesh(options: HttpOptions | None = None) -> AsyncIterator[DashboardMesh]:
    """A mesh with such a proxy; to be used on the I/O thread."""
    mesh = DashboardMesh()
    add = controller_pb2_grpc.add_ControllerServiceServicer_to_server
    server, mesh.address = await start_internal_server(TOKEN, "127.0.0.1", [lambda on: add(mesh.controller, on)])
    speaker = grpc.aio.server()
    metrics_pb2_grpc.add_MetricsServiceServicer_to_server(mesh.speaker, speaker)
    said_at = f"127.0.0.1:{speaker.add_insecure_port('127.0.0.1:0')}"
    await speaker.start()
    mesh.controller.status.controller.node_id = NODE
    mesh.controller.status.controller.address = said_at

    options = replace(options or HttpOptions(), host="127.0.0.1", port=0)
    operations = Operations(Discovery(mesh.locate, NODE), mesh.figures, TOKEN, NODE)
    app = HttpApp(Applications(NoServices(), NODE), options, InFlight(), operations.beside(options))
    http = HttpServer(app, options)
    mesh.url = f"http://{await http.start()}"
    await operations.serve(options)
    try:
        yield mesh
    finally:
        await http.stop()
        await operations.close()
        await speaker.stop(0)
        await server.stop(0)


SHOP = {"Front": 2, "Embedder": 3, "Ranker": 2, "Cache": 1}
"""Deployments of the application `shop` and how many replicas they have; the first calls the others."""


def add_shop(mesh: DashboardMesh) -> None:
    """An application of four deployments that serves, one that cannot start, and what happened."""
    now = time.time()
    status = mesh.controller.status
    shop = status.applications.add(
        name="shop", status="RUNNING", route_prefix="/shop", ingress_deployment="Front", last_deployed_time_s=now - 300
    )
    for name, count in SHOP.items():
        added = shop.deployments.add(name=name, status="HEALTHY", target_num_replicas=count)
        added.replica_states["RUNNING"] = count
        for number in range(count):
            added.replicas.add(
                replica_tag=f"{name.lower()}-{number}",
                state="RUNNING",
                node_id=NODE,
                pid=4000 + number,
                start_time_s=now - 290,
                log_path=f"/logs/replica_shop_{name}_{number}.log",
            )
    for used in list(SHOP)[1:]:
        shop.deployments[0].uses.add(app="shop", deployment=used)
    broken = status.applications.add(name=HOSTILE, status="DEPLOY_FAILED", ingress_deployment="Vision")
    broken.message = (
        f"The deployment {HOSTILE} failed 3 times: Traceback (most recent call last):\n  File x\nOSError: full"
    )
    broken.deployments.add(name="Vision", status="DEPLOY_FAILED", message=broken.message, target_num_replicas=2)
    status.proxies.add(
        node_id=NODE, node_ip="10.0.0.1", status="HEALTHY", http_address="0.0.0.0:8000", log_path="/logs/proxy.log"
    )
    mesh.speaker.notices = [
        Notice(1, "controller 7", now - 200, "INFO", "Application 'shop' is RUNNING.", application="shop"),
        Notice(2, "controller 7", now - 90, "WARNING", "Deployment 'Vision' is DEPLOY_FAILED.", application=HOSTILE),
        Notice(
            1, "replica ranker-1", now - 5, "ERROR", f"Request failed. ValueError: {HOSTILE}", "id-1", "shop", "Ranker"
        ),
    ]


def traffic(mesh: DashboardMesh, requests: int) -> None:
    """So many requests for the shop; every tenth fails in the ranker."""
    figures = mesh.figures
    for number in range(requests):
        failed = number % 10 == 9
        front = ("shop", "Front", f"front-{number % 2}")
        figures.request("shop", 500 if failed else 200, 0.02 + number % 7 / 100)
        figures.call(None, "shop", "Front")
        for name, count in list(SHOP.items())[1:]:
            figures.call(front, "shop", name)
            figures.run(("shop", name, f"{name.lower()}-{number % count}"), 0.01, failed=failed and name == "Ranker")
        figures.run(front, 0.02, failed=failed)
