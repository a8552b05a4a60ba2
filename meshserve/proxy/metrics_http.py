"""What is told of each HTTP request: counted, logged, and traced when tracing is on."""

from __future__ import annotations

import time
from typing import Any

from meshserve.model.call import Call, CallContext
from meshserve.model.targets import ApplicationRoute
from meshserve.telemetry.access_log import ACCESS
from meshserve.telemetry.ingress import HttpMetrics
from meshserve.telemetry.registry import PROCESS
from meshserve.telemetry.tracing import active

CLIENT_GONE = 499
"""The status of a request whose client went away before there was a response, as web servers log it."""

SERVER_ERROR = 500

WEBSOCKET = "WEBSOCKET"
"""Stands where a request has its method."""

_METRICS = PROCESS.recorder(HttpMetrics)


class HttpRecord:
    """One request, from its head to the end of its response.

    Args:
        method: of HTTP, or `WEBSOCKET`.
        request_id: of the request.
        route: where its path leads to; None for nowhere.
    """

    __slots__ = ("_began", "_context", "_method", "_request_id", "_route", "_span")

    def __init__(self, method: str, request_id: str, route: ApplicationRoute | None) -> None:
        self._began = time.monotonic()
        self._method = method
        self._request_id = request_id
        self._route = route
        self._context: CallContext | None = None
        self._span: Any = None
        _METRICS.began += 1

    def called(self, call: Call) -> None:
        """The request's call is about to be made."""
        self._context = context = call.context
        tracing = active()
        if tracing is not None:
            attributes = {
                "http.request.method": self._method,
                "http.route": context.route,
                "meshserve.application": context.app,
                "client.address": context.client,
            }
            self._span = tracing.begin(f"{self._method} {context.route}", "server", context, attributes)
            tracing.follow(self._span, context)

    def ended(self, status: int) -> None:
        """The request is over; 0 when its client was gone before there was a status."""
        now, context, status = time.monotonic(), self._context, status or CLIENT_GONE
        if context is None:
            context = _context_of(self._request_id, self._route)
        seconds = now - self._began
        _METRICS.ended(context.app, context.route, self._method, status, seconds)
        if ACCESS.enabled:
            route = context.route or "-"
            ACCESS.add((now, context.request_id, route, self._method, route, str(status), seconds))
        if self._span is not None and (tracing := active()) is not None:
            failed = f"status {status}" if status >= SERVER_ERROR else ""
            tracing.end(self._span, failed, {"http.response.status_code": status})


def _context_of(request_id: str, route: ApplicationRoute | None) -> CallContext:
    """What is known of a request that never was a call."""
    if route is None:
        return CallContext(request_id)
    return CallContext(request_id, route.app, route.route_prefix or "")
