"""Spans of the caller's side, when requests are traced: one for each call, and one for its wait for a replica."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from meshserve.model.call import Call
from meshserve.model.failure import Failure
from meshserve.routing.service import Reply, ReplyStream, Service
from meshserve.telemetry.tracing import active

if TYPE_CHECKING:
    from opentelemetry.trace import Span


class Traced:
    """A layer that makes a span of each call, from here to its end; what the call leads to is inside.

    Args:
        inner: the service it wraps.
    """

    __slots__ = ("_inner",)

    def __init__(self, inner: Service) -> None:
        self._inner = inner

    def unary(self, call: Call) -> Reply:
        """See `routing.service.Service`."""
        span = _begin(call)
        reply = self._inner.unary(call)
        if span is not None:
            reply.on_done(lambda reply: _end(span, reply.failure))
        return reply

    def stream(self, call: Call) -> ReplyStream:
        """See `routing.service.Service`."""
        span = _begin(call)
        stream = self._inner.stream(call)
        if span is not None:
            stream.on_done(partial(_end, span))
        return stream


def _begin(call: Call) -> Span | None:
    tracing = active()
    if tracing is None:
        return None
    deployment = call.deployment
    attributes = {
        "meshserve.application": deployment.app,
        "meshserve.deployment": deployment.name,
        "meshserve.method": call.method,
        "meshserve.streaming": call.kind.streams_in or call.kind.streams_out,
    }
    span = tracing.begin(f"call {deployment.name}.{call.method}", "client", call.context, attributes)
    tracing.follow(span, call.context)
    return span


def _end(span: Span, failure: Failure | None) -> None:
    tracing = active()
    if tracing is None:
        return
    if failure is None:
        tracing.end(span)
    else:
        tracing.fail(span, failure)


def told_of_wait(call: Call, began: float) -> None:
    """Makes the span of a call's wait for a replica, which is over.

    Args:
        began: on the monotonic clock.
    """
    tracing = active()
    if tracing is not None:
        tracing.told("wait for a replica", call.context, began, {"meshserve.deployment": call.deployment.name})
