"""A proxy's HTTP ingress in front of real replicas, in this process: everything but Ray and the controller."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
from replicas import LocalMesh, LocalReplica

from meshserve.model.ids import DeploymentId
from meshserve.model.options import DeploymentOptions
from meshserve.model.targets import ApplicationRoute, RouteTable
from meshserve.proxy.applications import Applications
from meshserve.proxy.http_app import HttpApp
from meshserve.proxy.http_direct import Arrived, Connection
from meshserve.proxy.http_server import HttpServer
from meshserve.proxy.in_flight import InFlight
from meshserve.proxy.options import HttpOptions
from meshserve.routing.layers import CALLER_STACK
from meshserve.routing.service import Service, stack
from meshserve.rpc.io_thread import io_thread

NODE = "node-1"


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Waits for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


def settled(value: Callable[[], int]) -> int:
    """Waits until a value has stopped changing."""
    last, same = value(), 0
    while same < 30:
        time.sleep(0.01)
        last, same = (last, same + 1) if value() == last else (value(), 0)
    return last


class FakeServices:
    """A directory with the other end in hand."""

    def __init__(self) -> None:
        self.services: dict[DeploymentId, Service] = {}
        self.watchers: list[Callable[[RouteTable], None]] = []

    def service(self, deployment: DeploymentId) -> Service:
        return self.services[deployment]

    def watch_routes(self, on_change: Callable[[RouteTable], None]) -> None:
        self.watchers.append(on_change)


class HttpMesh:
    """Applications behind one HTTP server. Its methods are for the test's thread; everything runs on the I/O thread."""

    def __init__(self, options: HttpOptions | None = None) -> None:
        self.options = replace(options or HttpOptions(), host="127.0.0.1", port=0)
        self.services = FakeServices()
        self.in_flight = InFlight()
        self.meshes: dict[str, LocalMesh] = {}
        self.routes: dict[str, ApplicationRoute] = {}
        self.version = 0
        self.direct = 0  # requests served in callbacks
        self.applications = Applications(self.services, NODE)
        self.app = HttpApp(self.applications, self.options, self.in_flight)
        self.server = HttpServer(self.app, self.options, self._begin)
        self.url = ""

    def start(self) -> None:
        scheme = "https" if self.options.ssl_certfile else "http"
        self.url = f"{scheme}://{self.on_io(self.server.start())}"

    def stop(self) -> None:
        self.on_io(self.server.stop())
        for mesh in self.meshes.values():
            for replica in mesh.replicas:
                self.on_io(replica.user.destroy())
            self.on_io(mesh.__aexit__(None, None, None))

    def _begin(self, connection: Connection, request: Arrived) -> bool:
        taken = self.app.begin(connection, request)
        self.direct += taken
        return taken

    @staticmethod
    def on_io(coroutine: Any) -> Any:
        return io_thread().run(coroutine, timeout_s=30)

    @staticmethod
    def soon(function: Callable[..., Any], *args: Any) -> Any:
        async def call() -> Any:
            return function(*args)

        return HttpMesh.on_io(call())

    # -- applications ------------------------------------------------------------------------------------------------

    def deploy(
        self,
        target: Any,
        *args: Any,
        name: str = "app",
        prefix: str | None = "/",
        replicas: int = 1,
        options: DeploymentOptions | None = None,
        patterns: tuple[str, ...] = (),
    ) -> LocalMesh:
        """Deploys an application of one deployment and routes to it."""
        mesh = LocalMesh(*(LocalReplica(f"{name}-{i}", target, *args, options=options) for i in range(replicas)))
        self.on_io(mesh.__aenter__())
        ingress = DeploymentId(name, "Model")
        self.meshes[name] = mesh
        self.services.services[ingress] = stack(CALLER_STACK, mesh.router)
        self.routes[name] = ApplicationRoute(name, prefix, ingress, patterns)
        self.publish()
        return mesh

    def publish(self, **fields: Any) -> None:
        """Publishes the route table."""
        self.version += 1
        table = RouteTable((1, self.version), tuple(self.routes.values()), **fields)
        for watcher in self.services.watchers:
            self.soon(watcher, table)

    def user(self, name: str = "app") -> Any:
        """The user's object of the application's first replica."""
        return self.meshes[name].replicas[0].user.callable

    def client(self, **options: Any) -> httpx.Client:
        """A client of the ingress."""
        return httpx.Client(base_url=self.url, timeout=20, **options)


@dataclass
class Served:
    """An application and a client of it."""

    mesh: HttpMesh
    client: httpx.Client

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


@contextmanager
def serving(target: Any, *args: Any, http: HttpOptions | None = None, **fields: Any) -> Iterator[Served]:
    """Serves one application."""
    mesh = HttpMesh(http)
    mesh.start()
    try:
        mesh.deploy(target, *args, **fields)
        with mesh.client() as client:
            yield Served(mesh, client)
    finally:
        mesh.stop()
