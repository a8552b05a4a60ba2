"""The span of user code, when requests are traced: what it calls and what it traces itself is inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshserve.model.call import Call
from meshserve.model.failure import Failure
from meshserve.telemetry.tracing import active

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from meshserve.telemetry.otel import Tracing


class UserSpan:
    """See the module.

    Args:
        tracing: of this process.
        span: what was begun.
    """

    __slots__ = ("_span", "_tracing")

    def __init__(self, tracing: Tracing, span: Span) -> None:
        self._tracing = tracing
        self._span = span

    @staticmethod
    def begin(call: Call) -> UserSpan | None:
        """Begins it, in the task or thread that is about to run user code; None when nothing is traced."""
        tracing = active()
        if tracing is None:
            return None
        context, deployment = call.context, call.deployment
        attributes = {
            "meshserve.application": deployment.app,
            "meshserve.deployment": deployment.name,
            "meshserve.method": call.method,
            "meshserve.route": context.route,
            "meshserve.multiplexed_model_id": context.multiplexed_model_id,
            "meshserve.streaming": call.kind.streams_in or call.kind.streams_out,
        }
        span = tracing.begin(f"{deployment.name}.{call.method}", "server", context, attributes)
        tracing.follow(span, context)
        tracing.enter(span)
        return UserSpan(tracing, span)

    def end(self, failure: Failure | None) -> None:
        """User code has ended, and how."""
        if failure is None:
            self._tracing.end(self._span)
        else:
            self._tracing.fail(self._span, failure)
