"""The span of a batch, when requests are traced: a child of its first request, linked to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from meshserve.routing.scope import request_scope
from meshserve.telemetry.tracing import active
from meshserve.user.batch_call import BatchCall

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from meshserve.telemetry.otel import Tracing


class BatchSpan:
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
    def begin(function: str, calls: Sequence[BatchCall]) -> BatchSpan | None:
        """Begins it, in the context that the batch will run in; None when nothing is traced, or no call has a request.

        Args:
            function: the name of the user's function.
            calls: the batch.
        """
        tracing = active()
        scopes = [scope for call in calls if (scope := call.context.get(request_scope)) is not None]
        if tracing is None or not scopes:
            return None
        span = tracing.batch(f"batch {function}", [scope.context for scope in scopes])
        tracing.enter(span)
        return BatchSpan(tracing, span)

    def ended(self, task: asyncio.Task[None]) -> None:
        """The batch's task is over."""
        self._tracing.end(self._span, "cancelled" if task.cancelled() else "")
