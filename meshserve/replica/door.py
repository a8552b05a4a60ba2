"""Where calls enter a replica: the session stream, and the plain RPCs beside it. One door, one admission.

Everything here runs on the I/O thread and nothing here runs user code.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import grpc

from meshserve.model.call import Call as MeshCall
from meshserve.model.call import Encoding, Payload, SharedPayload
from meshserve.model.failure import Failure, FailureKind
from meshserve.model.ids import DeploymentId
from meshserve.replica.admission import Admission
from meshserve.replica.kept import Kept
from meshserve.replica.plain_call import PlainCall
from meshserve.replica.rejecting import EXPIRED, rejected
from meshserve.replica.running import IoMail, Peer, Running
from meshserve.replica.session_end import SessionEnd
from meshserve.rpc.mailbox import Mailbox
from meshserve.rpc.segments import promised
from meshserve.telemetry.access_log import ACCESS, outcome
from meshserve.telemetry.caller import REPLICA, SessionMetrics
from meshserve.telemetry.failed_calls import log_failed
from meshserve.telemetry.registry import PROCESS
from meshserve.telemetry.replica import ReplicaMetrics
from meshserve.transport.stream import Unusable
from meshserve.v1 import replica_pb2, replica_pb2_grpc
from meshserve.wire.claims import Claim, encode_claim


class Door(replica_pb2_grpc.ReplicaServiceServicer):
    """The data plane of one replica.

    Args:
        deployment: of the replica.
        replica_tag: of the replica.
        admission: says yes or no.
        begin: starts an accepted call.
        io: the crossing to the I/O thread.
        models: the multiplexed models held now.

    Attributes:
        kept: values that wait here.
        actor_name: by which others collect them; empty when Ray does not host this replica.
        user_loop: where user code runs, once there is any.
        sending: counts what sessions send.
    """

    def __init__(
        self,
        deployment: DeploymentId,
        replica_tag: str,
        admission: Admission,
        begin: Callable[[Running], None],
        io: Mailbox[IoMail],
        models: Callable[[], tuple[str, ...]],
    ) -> None:
        self.deployment = deployment
        self.replica_tag = replica_tag
        self.admission = admission
        self._begin = begin
        self._io = io
        self._models = models
        self.kept = Kept()
        self.actor_name = ""
        self._sessions: set[SessionEnd] = set()
        self._session_over = asyncio.Event()
        self.user_loop: asyncio.AbstractEventLoop | None = None
        self.sending = PROCESS.recorder(SessionMetrics, REPLICA, deployment.app, deployment.name)
        self._metrics = PROCESS.recorder(ReplicaMetrics, deployment.app, deployment.name)
        self._metrics.doors.add(self)

    # -- RPCs ----------------------------------------------------------------------------------------------------

    async def Session(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802 - reads and writes the context
        """See replica.proto."""
        end = SessionEnd(self, context)
        self._sessions.add(end)
        try:
            await end.run()
        except Unusable as error:
            await context.abort(grpc.StatusCode.INTERNAL, str(error))
        finally:
            self._sessions.discard(end)
            self._session_over.set()

    async def Call(self, request: replica_pb2.CallRequest, context: Any) -> replica_pb2.CallResponse:  # noqa: N802
        """See replica.proto."""
        call = PlainCall(self)
        try:
            return await call.unary(request.start)
        finally:
            call.gone()

    async def CallStream(  # noqa: N802 - the RPC's name
        self, request: replica_pb2.CallStreamRequest, context: Any
    ) -> AsyncIterator[replica_pb2.CallStreamResponse]:
        """See replica.proto."""
        call = PlainCall(self)
        try:
            async for message in call.stream(request.start):
                yield message
        finally:
            call.gone()

    # -- what both kinds of RPC share ----------------------------------------------------------------------------

    def enter(
        self, call: MeshCall, call_id: int, credits: int, peer: Peer, reserved: bool = False
    ) -> Running | replica_pb2.RejectedFrame:
        """Accepts a call and starts it, or says why not.

        Args:
            call: the call.
            call_id: in its session.
            credits: the first allowance for output.
            peer: where its frames go.
            reserved: a slot is held for it; it is given back if the call cannot use it.
        """
        now = time.monotonic()
        if call.deadline is not None and call.deadline <= now:
            self._metrics.expired += 1
            if reserved:
                self.admission.release()
            return rejected(call_id, EXPIRED)
        if reserved:
            pass
        elif call.bypass_limit and not self.admission.draining:
            self.admission.force()
        elif not self.admission.admit():
            self._metrics.refused(self.admission.draining)
            return replica_pb2.RejectedFrame(call_id=call_id)
        assert self.user_loop is not None
        running = Running(call, call_id, peer, credits, self._io, self.user_loop)
        running.accepted_at = now
        if call.deadline is not None:
            running.deadline_timer = asyncio.get_running_loop().call_later(call.deadline - now, running.cancel)
        self._begin(running)
        return running

    def ended(self, running: Running, failure: Failure | None) -> None:
        """An accepted call is over: its slot is free, it is counted and logged."""
        self.admission.release()
        now, call = time.monotonic(), running.call
        seconds = now - running.accepted_at
        kind = None
        if failure is not None:
            failure = self.refine(running, failure)
            kind = failure.kind
            log_failed(call.context, failure)
        self._metrics.ended(call.method, seconds, kind)
        if ACCESS.enabled:
            ACCESS.add((now, call.context.request_id, *_described(running, failure), seconds))

    def refine(self, running: Running, failure: Failure) -> Failure:
        """A cancellation because the deadline passed is reported as that."""
        deadline = running.call.deadline
        if failure.kind is not FailureKind.CANCELLED or deadline is None or deadline > time.monotonic():
            return failure
        return Failure(FailureKind.DEADLINE, f"The call to {running.call.method!r} did not end before its deadline.")

    def claim(self, payload: Payload) -> Payload:
        """Keeps a large result here, and gives a claim on it to be sent instead."""
        if type(payload) is SharedPayload:
            return promised(payload)
        if not self.actor_name or payload.encoding is not Encoding.PICKLE:
            return payload
        claim = Claim(self.actor_name, uuid4().hex, payload.size_bytes)
        self.kept.keep_parcel(claim.key, payload)
        return encode_claim(claim)

    @property
    def ongoing(self) -> int:
        """Calls accepted and not ended."""
        return self.admission.ongoing

    @property
    def limit(self) -> int:
        """Calls accepted at a time."""
        return self.admission.limit

    @property
    def waiting_streams(self) -> int:
        """Streams that wait for credits to send more."""
        return sum(session.waiting_streams for session in tuple(self._sessions))

    def load(self) -> replica_pb2.Load:
        """The load as it is now."""
        admission = self.admission
        return replica_pb2.Load(ongoing=admission.ongoing, limit=admission.limit, draining=admission.draining)

    def models(self) -> tuple[str, ...]:
        """The multiplexed models held now."""
        return self._models()

    def announce(self) -> None:
        """Sends every caller the load: the limit changed, models changed, or draining began."""
        for session in self._sessions:
            session.announce()

    async def sessions_over(self) -> None:
        """Waits until every caller has closed its session."""
        while self._sessions:
            self._session_over.clear()
            await self._session_over.wait()

    async def close_sessions(self) -> None:
        """Ends every stream in good order, after all that was accepted has been answered."""
        await asyncio.gather(*(session.close() for session in tuple(self._sessions)))


def _described(running: Running, failure: Failure | None) -> tuple[str, str, str, str]:
    """Route, verb, what was called and how that ended, for the access log; an HTTP request as HTTP has it."""
    call = running.call
    if not running.verb:
        return "", "CALL", call.method, outcome(failure.kind if failure is not None else None)
    route = call.context.route or "/"
    status = running.status or (failure.status if failure is not None else 0)
    return route, running.verb, route, str(status)
