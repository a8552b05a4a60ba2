"""The gRPC ingress of a proxy: one server for users' services of all applications and for the built-in ones.

Owned by the proxy's process and living on its I/O thread. Applications may come and go with services of their own while
the server runs: gRPC asks for the handler of every call, so a new table of methods is all it takes.
"""

from __future__ import annotations

import asyncio

import grpc.aio

from meshserve.proxy.applications import Applications
from meshserve.proxy.grpc_answer import Answers
from meshserve.proxy.grpc_builtin import PEER_SERVICE, builtin_handlers
from meshserve.proxy.grpc_call import CallReader
from meshserve.proxy.grpc_forward import ForwardedMethod, Forwarding
from meshserve.proxy.grpc_inference import inference_handlers
from meshserve.proxy.grpc_methods import MethodTable, ServicerLoader
from meshserve.proxy.grpc_options import GrpcOptions, bind, make_server
from meshserve.proxy.in_flight import InFlight
from meshserve.proxy.metrics_grpc import counted
from meshserve.rpc.health import WHOLE_SERVER, Health
from meshserve.rpc.inference import SERVICE
from meshserve.rpc.reflection import reflection_handlers
from meshserve.rpc.servicers import Handlers, RpcMethod
from meshserve.transport.server import Server


class GrpcIngress:
    """See the module.

    Args:
        applications: those there are.
        grpc_json: `grpc_options` as JSON; see `GrpcOptions`.
        in_flight: counts the requests of the proxy.

    Attributes:
        address: `host:port` or `unix:PATH` once started; empty when there is no gRPC ingress.

    Raises:
        ValueError: an option is unknown or its value makes no sense.
    """

    def __init__(self, applications: Applications, grpc_json: str, in_flight: InFlight) -> None:
        self.address = ""
        self._applications = applications
        self._options = options = GrpcOptions.from_json(grpc_json)
        self._forwarding = Forwarding(CallReader(applications, options), Answers(options), in_flight)
        self._methods = MethodTable()
        self._loader = ServicerLoader(self._methods.failed)
        self._health = Health(self._who_serves)
        self._configured: list[RpcMethod] = []
        self._builtin: Handlers = {}
        self._inference: Handlers = {}
        self._services: set[str] = set()
        self._server: grpc.aio.Server | Server | None = None
        self._changed = asyncio.Event()
        self._loaded: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self._refresher: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Takes the port and serves.

        Returns:
            The address; empty when the options say that there is to be no gRPC ingress.

        Raises:
            ModuleNotFoundError: a servicer function or an interceptor cannot be imported.
            ValueError: it is not one.
            RuntimeError: the port cannot be bound.
            OSError: a certificate cannot be read.
        """
        if self._options.port < 0:
            return ""
        self._configured = await self._loader.load(self._options.grpc_servicer_functions)
        self._builtin = builtin_handlers(self._applications, self._health, self._forwarding, self._options)
        if self._options.enable_inference:
            self._inference = inference_handlers(self._applications, self._forwarding)
        self._publish([])
        server = make_server(self._options, self._methods)
        self.address = bind(server, self._options)
        await server.start()
        self._server = server
        self._applications.on_change(self._on_change)
        self._on_change()
        self._refresher = asyncio.create_task(self._refresh())
        return self.address

    async def drain(self, grace_s: float) -> None:
        """Says NOT_SERVING, takes no new calls, and waits until those in hand have ended, at most `grace_s`."""
        self._health.close()
        if self._refresher is not None:
            self._refresher.cancel()
        if self._server is not None:
            await self._server.stop(grace_s)

    async def stop(self) -> None:
        """Ends at once; calls in hand are cancelled."""
        await self.drain(0)

    # -- what changes while it runs ------------------------------------------------------------------------------

    async def _refresh(self) -> None:
        """Follows the applications: their services and their health."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            brought = self._brought()
            if brought != self._loaded:
                self._publish(await self._loader.load_what_can_be(*brought))
                self._loaded = brought
            if not self._changed.is_set():
                self._methods.settled.set()
            self._health.changed()

    def _on_change(self) -> None:
        if self._brought() != self._loaded:
            self._methods.settled.clear()
        self._changed.set()

    def _brought(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Servicer functions of the applications, and the folders to import them from."""
        routes = [route for route in self._applications.all() if route.grpc_servicer_functions]
        functions = tuple(name for route in routes for name in route.grpc_servicer_functions)
        return functions, tuple(path for route in routes for path in route.import_paths)

    def _publish(self, brought: list[RpcMethod]) -> None:
        """Serves the configured services and those that applications brought; built-in ones go before both, but
        a user's own implementation of the inference protocol goes before ours."""
        methods = (*brought, *self._configured)
        own_inference = any(method.service == SERVICE for method in methods)
        handlers: Handlers = {} if own_inference else dict(self._inference)
        for method in methods:
            forwarded = ForwardedMethod(method, self._forwarding).handler()
            handlers[method.full_name] = counted(forwarded, method.full_name, method.kind)
        handlers |= self._builtin
        # The service under the peer's name is served but, as with the peer, not listed.
        services = {name.split("/")[1] for name in handlers} - {PEER_SERVICE}
        if self._options.enable_reflection:
            handlers |= reflection_handlers(sorted(services))
        self._services = services
        self._methods.replace(handlers)

    def _who_serves(self) -> dict[str, bool]:
        """Health: the whole server, every application and every service."""
        well = not self._applications.unready()
        applications = {route.app: well and self._applications.serves(route) for route in self._applications.all()}
        return {**dict.fromkeys((WHOLE_SERVER, *self._services), well), **applications}
