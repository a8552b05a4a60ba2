"""What every call of this process passes before it reaches the router of its deployment."""

from __future__ import annotations

import asyncio
import time

from meshserve.model.call import Call
from meshserve.model.failure import Failure, FailureKind
from meshserve.routing.service import Layer, Reply, ReplyStream, Service
from meshserve.routing.traced import Traced
from meshserve.telemetry.tracing import active


class Deadline:
    """Ends a call whose deadline passes, wherever it is: waiting for a replica, at one, or coming back."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Service) -> None:
        self._inner = inner

    def unary(self, call: Call) -> Reply:
        """See `routing.service.Service`."""
        reply = self._inner.unary(call)
        if call.deadline is not None and not reply.done:
            timer = _timer(call, reply)
            reply.on_done(lambda _: timer.cancel())
        return reply

    def stream(self, call: Call) -> ReplyStream:
        """See `routing.service.Service`."""
        stream = self._inner.stream(call)
        if call.deadline is not None and not stream.done:
            stream.timer = _timer(call, stream)
        return stream


def _timer(call: Call, outcome: Reply | ReplyStream) -> asyncio.TimerHandle:
    assert call.deadline is not None
    failure = Failure(
        FailureKind.DEADLINE,
        f"The call to {call.method!r} of deployment {call.deployment} did not end before its deadline.",
        exception_type="CallTimeoutError",
    )
    return asyncio.get_running_loop().call_later(max(call.deadline - time.monotonic(), 0), outcome.cancel, failure)


def caller_stack() -> list[Layer]:
    """The layers of a caller, outermost first; with tracing when it is on in this process."""
    # Outside the deadline, so that a call that ran out of time has a span that says so.
    return [Traced, *CALLER_STACK] if active() is not None else CALLER_STACK


CALLER_STACK: list[Layer] = [
    # Outermost, so that the time in queues and between retries counts.
    Deadline,
]
"""The layers of every caller, outermost first."""
