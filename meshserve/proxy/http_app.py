"""The HTTP ingress as an ASGI application: from a path to a call, from a call to a response.

Any ASGI server could run it, given the `Client` extension; `http_server` does with uvicorn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from meshserve.core.routes import label_of
from meshserve.model.call import Call, CallKind
from meshserve.model.targets import ApplicationRoute
from meshserve.proxy.applications import NOT_POPULATED, Applications
from meshserve.proxy.http_answers import Answer, Page, about_server, not_found, timed_out, too_large, unavailable
from meshserve.proxy.http_builtin import Builtin
from meshserve.proxy.http_client import EXTENSION
from meshserve.proxy.http_direct import Arrived, Connection, DirectRequest
from meshserve.proxy.http_exchange import Body, ClientGone, Exchange, Receive, Refused, Send
from meshserve.proxy.http_request import RequestFacts, facts_of, mount
from meshserve.proxy.http_websocket import WebSocketTunnel
from meshserve.proxy.in_flight import InFlight
from meshserve.proxy.metrics_http import WEBSOCKET, HttpRecord
from meshserve.proxy.metrics_pages import MetricsPages
from meshserve.proxy.options import HttpOptions
from meshserve.wire.http import Scope, request_payload

METHOD = "__call__"

WHOLE_SERVER = "*"
"""Stands where a request has its path when it is about no path."""


class HttpApp:
    """See the module.

    Args:
        applications: of this proxy.
        options: of the ingress.
        in_flight: counts requests; those for the ingress itself are left out.
        pages: what is answered here besides the ingress's own paths, by path.
    """

    def __init__(
        self,
        applications: Applications,
        options: HttpOptions,
        in_flight: InFlight,
        pages: Mapping[str, Page] | None = None,
    ) -> None:
        self._applications = applications
        self._options = options
        self._in_flight = in_flight
        self._root_path = options.root_path.rstrip("/")
        self._builtin = {**Builtin(applications).pages, **(MetricsPages().pages if pages is None else pages)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            await self._serve_http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._serve_websocket(scope, receive, send)

    # -- HTTP --------------------------------------------------------------------------------------------------------

    async def _serve_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        facts = facts_of(scope["headers"], self._options.request_timeout_s)
        deadline = None if facts.timeout_s is None else time.monotonic() + facts.timeout_s
        exchange = Exchange(facts, deadline, scope["extensions"][EXTENSION], send)
        path = self._path(scope)
        if path == WHOLE_SERVER:
            await exchange.answer(about_server(scope["method"]))
            return
        if (page := self._builtin.get(path)) is not None:
            await exchange.answer(await page())
            return
        route = self._applications.match(path)
        record = HttpRecord(scope["method"], facts.request_id, route)
        try:
            if route is None:
                await exchange.answer(self._no_route(scope))
                return
            with self._in_flight:
                await self._serve_route(route, record, scope, receive, exchange, facts, deadline)
        except Refused as refused:
            await exchange.answer(refused.answer)
        except ClientGone:
            pass  # it left before its request was complete: there is no call, and nobody to answer
        finally:
            record.ended(exchange.status)

    def begin(self, connection: Connection, request: Arrived) -> bool:
        """Serves a request in callbacks; False when it needs more than a call, and nothing was done."""
        scope, facts = request.scope, request.facts
        path = self._path(scope)
        route = None if path in self._builtin or path == WHOLE_SERVER else self._applications.match(path)
        limit_bytes = self._options.max_body_bytes
        if route is None or (limit_bytes is not None and len(request.body) > limit_bytes):
            return False
        deadline = None if facts.timeout_s is None else time.monotonic() + facts.timeout_s
        record = HttpRecord(scope["method"], facts.request_id, route)
        call = self._call(route, scope, facts, deadline, CallKind.SERVER_STREAM, request.body)
        record.called(call)
        direct = DirectRequest(connection, request, deadline, record, self._in_flight)
        direct.start(self._applications.service(route).stream(call))
        return True

    async def _serve_route(
        self,
        route: ApplicationRoute,
        record: HttpRecord,
        scope: Scope,
        receive: Receive,
        exchange: Exchange,
        facts: RequestFacts,
        deadline: float | None,
    ) -> None:
        body, limit_bytes = b"", self._options.max_body_bytes
        if facts.content_length is not None and limit_bytes is not None and facts.content_length > limit_bytes:
            raise Refused(too_large(limit_bytes))
        source: Body | None = None
        if facts.chunked or facts.content_length:
            source = Body(receive, limit_bytes, self._options.receive_timeout_s)
            if facts.has_small_body:
                body, source = await _small_body(source, facts, deadline), None
        kind = CallKind.SERVER_STREAM if source is None else CallKind.BIDI_STREAM
        call = self._call(route, scope, facts, deadline, kind, body)
        record.called(call)
        await exchange.run(self._applications.service(route).stream(call), source)

    def _call(
        self,
        route: ApplicationRoute,
        scope: Scope,
        facts: RequestFacts,
        deadline: float | None,
        kind: CallKind,
        body: bytes,
    ) -> Call:
        prefix = route.route_prefix or ""
        root_path = self._root_path + prefix if prefix != "/" else self._root_path
        label = label_of(route, scope["path"][len(self._root_path) :], scope.get("method", ""))
        payload = request_payload(scope, root_path, body)
        return Call(route.ingress, METHOD, kind, payload, facts.context(route.app, label, scope["client"]), deadline)

    # -- WebSockets ----------------------------------------------------------------------------------------------------

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        facts = facts_of(scope["headers"], None)
        tunnel = WebSocketTunnel(facts, receive, send)
        route = self._applications.match(self._path(scope))
        record = HttpRecord(WEBSOCKET, facts.request_id, route)
        try:
            if route is None:
                await tunnel.deny(self._no_route(scope))
                return
            call = self._call(route, scope, facts, None, CallKind.BIDI_STREAM, b"")
            record.called(call)
            with self._in_flight:
                await tunnel.run(self._applications.service(route).stream(call))
        finally:
            record.ended(tunnel.status)

    # -- paths ---------------------------------------------------------------------------------------------------------

    def _path(self, scope: Scope) -> str:
        """The path that routes are matched with; completes the scope's."""
        path: str = scope["path"]
        if not self._root_path or path == WHOLE_SERVER:
            return path
        mount(scope, self._root_path)
        return str(scope["path"][len(self._root_path) :]) or "/"

    def _no_route(self, scope: Scope) -> Answer:
        if self._applications.table is None:
            return unavailable(NOT_POPULATED)
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
        return not_found(scope["path"], f"{scheme}://{host}{self._root_path}/-/routes")


async def _small_body(source: Body, facts: RequestFacts, deadline: float | None) -> bytes:
    """A small body, whole.

    Raises:
        Refused: it did not come in time.
        ClientGone: the client went away.
    """
    if deadline is None:
        return await source.rest()
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await source.rest()
    except TimeoutError:
        assert facts.timeout_s is not None
        raise Refused(timed_out(facts.request_id, facts.timeout_s)) from None
