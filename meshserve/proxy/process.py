"""The proxy process: the HTTP and the gRPC ingress of a node, and a server by which the controller steers them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

from meshserve.launch.launcher import Launcher, ProcessSpec
from meshserve.launch.locator import locate
from meshserve.launch.ray_launcher import RayLauncher
from meshserve.launch.ray_nodes import live_nodes
from meshserve.proxy.applications import Applications
from meshserve.proxy.control import ProxyControl
from meshserve.proxy.discovery import Discovery
from meshserve.proxy.grpc_ingress import GrpcIngress
from meshserve.proxy.grpc_options import GrpcOptions, PortTakenError
from meshserve.proxy.http_app import HttpApp
from meshserve.proxy.http_server import HttpServer
from meshserve.proxy.in_flight import InFlight
from meshserve.proxy.metrics import NodeMetrics
from meshserve.proxy.metrics_pages import NodeText
from meshserve.proxy.operations import Operations
from meshserve.proxy.options import HttpOptions
from meshserve.proxy.worker_process import shared_grpc, worker_boot, worker_process
from meshserve.proxy.workers import FirstProcess, NodeProcesses, Workers
from meshserve.routing.directory import Directory, set_process_directory
from meshserve.rpc.garbage import settle_garbage
from meshserve.rpc.io_thread import LoopThread, io_thread
from meshserve.rpc.server import start_internal_server
from meshserve.settings import Settings
from meshserve.telemetry.log_options import Identity
from meshserve.telemetry.logs import start_process
from meshserve.telemetry.loop_lag import watch_loop
from meshserve.telemetry.tracing import start_tracing
from meshserve.telemetry.tracing_options import TracingOptions
from meshserve.transport.server import Server
from meshserve.v1 import proxy_control_pb2, proxy_control_pb2_grpc

GRPC_RETRY_S = 10.0
"""Pause between two tries to take a port for gRPC that somebody else has and that nobody asked for."""

log = logging.getLogger(__name__)


def main(boot: Mapping[str, Any]) -> ProxyProcess:
    """Starts the proxy; a port that cannot be bound does not end it, but is told to the controller.

    Args:
        boot: token, host, options (a serialized ProxyOptions); `node_id`, `node_ip` and `log_dir` of the node. Of
            another process of a proxy also `worker`: its number, and `first`: the address of the first process.
    """
    io = io_thread()
    is_head = any(node.is_head for node in live_nodes() if node.node_id == boot["node_id"])
    boot = {**boot, "is_head": is_head}
    _tell_who(boot)
    watch_loop("io", io.loop)
    directory = Directory(locate, "proxy", str(boot["node_id"]), io, Random())
    set_process_directory(directory)
    process = io.run(start(boot, io, directory, RayLauncher()))
    settle_garbage()
    return process


def _tell_who(boot: Mapping[str, Any]) -> None:
    """Says to metrics, logs and traces who this is."""
    options = proxy_control_pb2.ProxyOptions.FromString(boot["options"])
    who = Identity.of_proxy(str(boot["node_id"]), boot.get("node_ip", ""), boot.get("worker", ""))
    who = replace(who, process=boot.get("process", {}))
    log_dir = boot.get("log_dir", "")
    start_process(who, log_dir, json.loads(options.logging_json or "null"))
    default = TracingOptions.from_settings(Settings.from_environment())
    start_tracing(TracingOptions.from_json(options.tracing_json, default), who, log_dir)


async def start(
    boot: Mapping[str, Any],
    io: LoopThread,
    directory: Directory,
    launcher: Launcher,
    *,
    grpc_retry_s: float = GRPC_RETRY_S,
) -> ProxyProcess:
    """Starts the proxy with a directory; to be awaited on the I/O thread.

    Args:
        boot: as for `main`, and `is_head`: whether it is on the head node; it is, if nothing is said.
        grpc_retry_s: see `GRPC_RETRY_S`.
    """
    process = ProxyProcess(boot, io, directory, launcher, grpc_retry_s)
    process.server, process.address = await start_internal_server(
        boot["token"],
        boot["host"],
        [lambda server: proxy_control_pb2_grpc.add_ProxyControlServiceServicer_to_server(process.control, server)],
    )
    options = proxy_control_pb2.ProxyOptions.FromString(boot["options"])
    http = HttpOptions.from_json(options.http_json)
    if "worker" in boot:
        await process.know_applications()
    await process.serve_http(http)
    await process.serve_grpc(options.grpc_json, http)
    if "worker" not in boot:
        await process.serve_operations(http)
        process.start_workers(http.workers)
    return process


class ProxyProcess:
    """Everything of one process of a proxy; see `launch.launcher.Hosted`. Made on the I/O thread.

    Attributes:
        address: of the internal server.
        failure: why an ingress does not serve that should; empty when there is none.
        remark: what there is to know of an ingress that does not serve and need not.
        http_address: where HTTP is served; empty when it is not.
        grpc_address: where gRPC is served; empty when it is not.
    """

    def __init__(
        self,
        boot: Mapping[str, Any],
        io: LoopThread,
        directory: Directory,
        launcher: Launcher,
        grpc_retry_s: float = GRPC_RETRY_S,
    ) -> None:
        self.address = ""
        self.failure = ""
        self.remark = ""
        self.http_address = ""
        self.grpc_address = ""
        self.server: Server | None = None
        self._boot = boot
        self._io = io
        self._directory = directory
        self._in_flight = InFlight()
        has_replicas = None if boot.get("is_head", True) else lambda id_: bool(directory.router(id_).replicas)
        discovery = Discovery(locate, str(boot["node_id"]))
        self._workers = Workers(launcher, boot["token"])
        self._metrics: NodeText = (
            FirstProcess(boot["first"], boot["token"])
            if "first" in boot
            else NodeMetrics(NodeProcesses(discovery, self._workers), boot["token"])
        )
        self._operations = Operations(discovery, self._metrics, boot["token"], str(boot["node_id"]))
        self._applications = Applications(
            directory, str(boot["node_id"]), has_replicas, lambda id_: directory.router(id_).refusal is not None
        )
        self.control = ProxyControl(self._applications, self._in_flight, self, self._workers, self._metrics)
        self._http: HttpServer | None = None
        self._grpc: GrpcIngress | None = None
        self._grpc_later: asyncio.Task[None] | None = None
        self._grpc_retry_s = grpc_retry_s

    async def know_applications(self) -> None:
        """Waits for the applications. The first process of a proxy gets no traffic before the controller knows that it
        has them; another one gets its share as soon as it listens."""
        await self._applications.wait_for_table()

    async def serve_http(self, options: HttpOptions) -> None:
        """Starts the HTTP ingress, unless the options say that there is none."""
        if options.host is None:
            return
        pages = self._operations.beside(options)
        try:
            app = HttpApp(self._applications, options, self._in_flight, pages)
            http = HttpServer(app, options, app.begin)
            self.http_address = await http.start()
        except Exception as error:  # noqa: BLE001 - middlewares are users' code; the controller shows what it raises
            self._fail(error)
        else:
            self._http = http

    async def serve_operations(self, options: HttpOptions) -> None:
        """Opens the port for whoever operates the mesh, if it has one of its own."""
        try:
            await self._operations.serve(options)
        except (OSError, ValueError) as error:
            self._fail(error)

    async def serve_grpc(self, grpc_json: str, http: HttpOptions) -> None:
        """Starts the gRPC ingress; how many processes share its port is said by the HTTP options."""
        try:
            await self._listen_for_grpc(grpc_json, http)
        except PortTakenError as error:
            if GrpcOptions.from_json(grpc_json).asked_for:
                self._fail(error)
            else:
                self.remark = f"gRPC is not served: {error} Free the port, or choose another one in grpc_options."
                log.warning(self.remark)
                self._grpc_later = asyncio.create_task(self._serve_grpc_later(grpc_json, http))
        except Exception as error:  # noqa: BLE001 - it imports modules that users name; the controller shows what they raise
            self._fail(error)

    async def _listen_for_grpc(self, grpc_json: str, http: HttpOptions) -> None:
        chosen = shared_grpc(grpc_json, http) if http.workers > 1 else grpc_json
        ingress = GrpcIngress(self._applications, chosen, self._in_flight)
        self.grpc_address = await ingress.start()
        self._grpc = ingress

    async def _serve_grpc_later(self, grpc_json: str, http: HttpOptions) -> None:
        """Tries now and then until it has the port: whoever has it may go away."""
        while self._grpc is None:
            await asyncio.sleep(self._grpc_retry_s)
            with suppress(PortTakenError):
                await self._listen_for_grpc(grpc_json, http)
        self.remark = ""
        log.info("gRPC is served on %s: the port has become free.", self.grpc_address)

    def start_workers(self, count: int) -> None:
        """Starts the other processes, on the ports that this one has by then."""
        if self.failure:
            return  # the controller starts the proxy again
        self._workers.start(count, self._worker)

    def _worker(self, number: int) -> ProcessSpec:
        boot = worker_boot(self._boot, self.address, self.http_address, self.grpc_address)
        return worker_process(boot, number)

    def _fail(self, error: Exception) -> None:
        text = (error.strerror if isinstance(error, OSError) else None) or f"{error}"
        self.failure = f"{self.failure}\n{text}".strip()

    def stop(self) -> None:
        """Ends everything at once."""
        self._io.run(self.close(), timeout_s=5)

    async def close(self) -> None:
        """Ends everything at once; to be awaited on the I/O thread."""
        await self._workers.close()
        if self._grpc_later is not None:
            self._grpc_later.cancel()
        if self._http is not None:
            await self._http.stop()
        if self._grpc is not None:
            await self._grpc.stop()
        if self.server is not None:
            await self.server.stop(0)
        await self._operations.close()
        await self._directory.close()
