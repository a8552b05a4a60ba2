"""One call to every replica of a deployment: `handle.broadcast()`.

For what all replicas must hear, such as dropping a cache: the call goes to each replica there is now, also when it
is full, and does not stand in any line. A replica that goes away before it has the call is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from meshserve.errors import CallTimeoutError, DeploymentUnavailableError, ReplicaUnavailableError
from meshserve.model.call import Call
from meshserve.model.failure import Failure
from meshserve.routing.arguments import EncodedArguments
from meshserve.routing.crossing import to_io
from meshserve.routing.layers import CALLER_STACK
from meshserve.routing.replica import Replica
from meshserve.routing.response import DeploymentResponse, Pending, refuse_in_loop
from meshserve.routing.scope import RequestScope
from meshserve.routing.sending import when_complete
from meshserve.routing.service import CANCELLED, Reply, ReplyStream, stack
from meshserve.wire.failures import exception_of, failure_of

_LEFT_OUT: Any = object()


class EachReplica(Protocol):
    """What a broadcast needs of a router."""

    @property
    def refusal(self) -> Failure | None:
        """Why it takes no call now."""

    def when_informed(self, callback: Callable[[Failure | None], None]) -> None:
        """Calls back once it knows of replicas, or why it never will."""

    @property
    def replicas(self) -> Iterable[Replica]:
        """Those there are."""

    def unary_at(self, replica: Replica, call: Call) -> Reply:
        """Sends a call to one of them."""

    def stream_at(self, replica: Replica, call: Call) -> ReplyStream:
        """Sends a streaming call to one of them."""


class AtReplica:
    """One replica as a `Service`.

    Args:
        router: that knows it.
        replica: the one.
    """

    def __init__(self, router: EachReplica, replica: Replica) -> None:
        self._router = router
        self._replica = replica

    def unary(self, call: Call) -> Reply:
        """See `routing.service.Service`."""
        return self._router.unary_at(self._replica, call)

    def stream(self, call: Call) -> ReplyStream:
        """See `routing.service.Service`."""
        return self._router.stream_at(self._replica, call)


class DeploymentBroadcastResponse(Pending):
    """The outcomes of one broadcast; made by `DeploymentHandle.broadcast`.

    Args:
        deployment: whom it went to, for messages.
    """

    def __init__(self, request_id: str, scope: RequestScope | None, deployment: object) -> None:
        super().__init__(request_id, scope)
        self._deployment = deployment
        self._responses: list[DeploymentResponse[Any]] | None = None

    # -- I/O thread ----------------------------------------------------------------------------------------------

    def _started(self, replies: Iterable[Reply]) -> None:
        """The calls are on their way."""
        responses = []
        for reply in replies:
            response: DeploymentResponse[Any] = DeploymentResponse(self.request_id, self._scope)
            response._started(reply)
            responses.append(response)
        self._responses = responses
        self._forget()
        self.wake()

    def _failed(self, failure: Failure) -> None:
        if not self._over:
            self._failure = failure
            self._forget()
            self.wake()

    @property
    def _over(self) -> bool:
        return self._failure is not None or self._responses is not None

    def _cancel_flight(self) -> None:
        if self._responses is None:
            self._failed(CANCELLED)
        for response in self._responses or ():
            response._cancel_requested = self._cancel_requested
            response._cancel_flight()

    # -- the caller's side ---------------------------------------------------------------------------------------

    async def results_async(self, timeout_s: float | None = None, return_exceptions: bool = False) -> list[Any]:
        """Waits for the results of all replicas.

        Args:
            timeout_s: how long to wait; the calls go on after a timeout and can be waited for again.
            return_exceptions: whether exceptions are put among the results; else the first one is raised.

        Returns:
            One result for each replica that had the call, in no particular order.

        Raises:
            DeploymentUnavailableError: no replica had the call.
            TimeoutError: not there in time.
            ValueError: a negative timeout.
        """
        if timeout_s is not None and timeout_s < 0:
            raise ValueError(f"timeout_s must not be negative, it is {timeout_s}.")
        try:
            async with asyncio.timeout(timeout_s):
                outcomes = await self._outcomes(return_exceptions)
        except TimeoutError as error:
            if isinstance(error, CallTimeoutError):
                raise  # a deadline of the calls themselves
            raise CallTimeoutError(f"The broadcast did not end within {timeout_s} s; it goes on.") from None
        results = [outcome for outcome in outcomes if outcome is not _LEFT_OUT]
        if not results:
            raise DeploymentUnavailableError(str(self._deployment), "it has no running replica")
        return results

    async def _outcomes(self, return_exceptions: bool) -> list[Any]:
        while not self._over:
            waiter = self.wait_async()
            if not self._over:
                await waiter
        if self._failure is not None:
            raise exception_of(self._failure, self.request_id)
        waiting = [asyncio.ensure_future(_outcome(response)) for response in self._responses or ()]
        try:
            return await asyncio.gather(*waiting, return_exceptions=return_exceptions)
        finally:
            for task in waiting:
                task.cancel()

    def results(self, timeout_s: float | None = None, return_exceptions: bool = False) -> list[Any]:
        """As `results_async`, in synchronous code.

        Raises:
            RuntimeError: called inside a running event loop, which it would block.
        """
        refuse_in_loop("results()", "await response.results_async()")
        return asyncio.run(self.results_async(timeout_s, return_exceptions))

    def __repr__(self) -> str:
        state = "pending" if not self._over else f"{len(self._responses or ())} replicas"
        return f"<DeploymentBroadcastResponse {self.request_id} {state}>"


async def _outcome(response: DeploymentResponse[Any]) -> Any:
    try:
        return await response
    except ReplicaUnavailableError:
        reply = response._reply
        if reply is not None and reply.failure is not None and reply.failure.traceback:
            raise  # user code's own: it was raised somewhere
        return _LEFT_OUT


def start_broadcast(
    router: Callable[[], EachReplica], call: Call, response: DeploymentBroadcastResponse, arguments: EncodedArguments
) -> None:
    """Sends a call to every replica once its arguments are complete; from the caller's thread."""
    if arguments.input is not None:
        error = TypeError("A generator cannot be an argument of a broadcast: one stream cannot feed all replicas.")
        to_io(response._failed, failure_of(error))
        return
    response._holds = arguments.holds
    to_io(when_complete, router, call, response, arguments.upstream, _start)


def _start(connect: Callable[[], Any], call: Call, response: Any) -> None:
    """On the I/O thread."""
    router: EachReplica = connect()

    def begin(failure: Failure | None) -> None:
        if response._over:
            return
        if failure is not None or router.refusal is not None:
            response._failed(failure or router.refusal)
            return
        alive = [replica for replica in router.replicas if replica.usable]
        response._started([stack(CALLER_STACK, AtReplica(router, replica)).unary(call) for replica in alive])

    router.when_informed(begin)
