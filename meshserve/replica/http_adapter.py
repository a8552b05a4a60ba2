"""HTTP calls on user code: an ASGI application as it is, a plain callable with a Starlette request.

A failure is not answered here. What user code raises ends the call, and the ingress knows which answer fits: 500 with
nothing of it told, 503 or 429 for a child call that found no room. The traceback is in this replica's log.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from meshserve.model.call import Payload
from meshserve.replica.adapter import Invocation
from meshserve.replica.http_exchange import HttpExchange
from meshserve.replica.http_result import response_of
from meshserve.replica.http_websocket import WebSocketExchange
from meshserve.replica.user_code import UserCode
from meshserve.user.ingress import AsgiIngress
from meshserve.wire.http import Scope, scope_of, waits_to_be_asked

WEBSOCKET = "WEBSOCKET"


class HttpAdapter:
    """See `replica.adapter.Adapter`.

    Args:
        user: the user's code.
    """

    def __init__(self, user: UserCode) -> None:
        self._user = user
        self._asgi: AsgiIngress | None = user.callable if isinstance(user.callable, AsgiIngress) else None
        self._is_sync = user.is_sync("__call__")
        self._call: Callable[..., Any] | None = None
        self._takes_request = True

    async def run(self, invocation: Invocation) -> Payload | None:
        """See `replica.adapter.Adapter`."""
        arguments = invocation.call.payload
        scope = scope_of(arguments)
        if scope["type"] == "websocket":
            invocation.verb = WEBSOCKET
            await self._serve_websocket(invocation, scope)
            return None
        invocation.verb = scope["method"]
        body = bytes(arguments.buffers[0]) if arguments.buffers else b""
        asks = invocation.call.kind.streams_in and waits_to_be_asked(scope["headers"])
        exchange = HttpExchange(invocation, body, asks=asks)
        try:
            if self._asgi is None:
                return await self._serve_plain(exchange, scope)
            await self._serve_asgi(self._asgi, exchange, scope)
        finally:
            exchange.close()
        return None

    async def _serve_asgi(self, app: AsgiIngress, exchange: HttpExchange, scope: Scope) -> None:
        scope["state"] = dict(app.lifespan_state)
        await app(scope, exchange.receive, exchange.send)
        if not exchange.over:
            raise RuntimeError("The ASGI application returned without completing its response.")

    async def _serve_plain(self, exchange: HttpExchange, scope: Scope) -> Payload | None:
        """Calls a plain callable; gives the response back if it is one item."""
        call = self._call
        if call is None:
            call = self._call = self._user.method("__call__")
            self._takes_request = bool(inspect.signature(call).parameters)
        arguments = (Request(scope, exchange.receive, exchange.send),) if self._takes_request else ()  # type: ignore[arg-type]  # Starlette's messages are mutable mappings
        result = await self._user.in_thread(call, *arguments) if self._is_sync else call(*arguments)
        if inspect.isawaitable(result):
            result = await result
        response = response_of(result)
        if isinstance(response, Response):
            await response(scope, exchange.receive, exchange.send)  # type: ignore[arg-type]  # as above
            return None
        return await exchange.respond(*response)

    async def _serve_websocket(self, invocation: Invocation, scope: Scope) -> None:
        exchange = WebSocketExchange(invocation)
        try:
            if self._asgi is None:
                await exchange.send({"type": "websocket.close"})
                return
            scope["state"] = dict(self._asgi.lifespan_state)
            await self._asgi(scope, exchange.receive, exchange.send)
        finally:
            exchange.close()
