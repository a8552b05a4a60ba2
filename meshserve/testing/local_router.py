"""What handles ask of a router, for a deployment that is one object of this process: `broadcast`, `choose_replica`."""

from __future__ import annotations

from collections.abc import Callable

from meshserve.model.call import Call
from meshserve.model.failure import Failure
from meshserve.model.targets import ReplicaTarget
from meshserve.routing.replica import Replica
from meshserve.routing.service import Reply, ReplyStream, Service
from meshserve.wire.failures import failure_of
from meshserve.wire.values import encode_value

LOCAL = ReplicaTarget("local", "local:0")


class LocalRouter:
    """See `routing.broadcast.EachReplica`: one replica, or none when the deployment does not run here.

    Args:
        service: of the deployment; None for none.
        refusal: why there is none.
    """

    def __init__(self, service: Service | None, refusal: Failure | None) -> None:
        self.refusal = refusal
        self.replicas = (Replica(LOCAL),) if service is not None else ()
        self._service = service

    def when_informed(self, callback: Callable[[Failure | None], None]) -> None:
        """See `routing.broadcast.EachReplica`."""
        callback(None)

    def unary_at(self, replica: Replica, call: Call) -> Reply:
        """See `routing.broadcast.EachReplica`."""
        assert self._service is not None
        return self._service.unary(call)

    def stream_at(self, replica: Replica, call: Call) -> ReplyStream:
        """See `routing.broadcast.EachReplica`."""
        assert self._service is not None
        return self._service.stream(call)


class LocalSlot:
    """See `routing.service.Slot`; there is no limit here, so nothing is held.

    Args:
        service: of the deployment.
    """

    def __init__(self, service: Service) -> None:
        self.target = LOCAL
        self._service = service
        self._over = ""

    def unary(self, call: Call) -> Reply:
        """See `routing.service.Service`."""
        failure = self._why_not()
        if failure is None:
            return self._service.unary(call)
        reply = Reply()
        reply.resolve(None, failure)
        return reply

    def stream(self, call: Call) -> ReplyStream:
        """See `routing.service.Service`."""
        failure = self._why_not()
        if failure is None:
            return self._service.stream(call)
        stream = ReplyStream()
        stream.finished(failure)
        return stream

    def _why_not(self) -> Failure | None:
        if self._over:
            return failure_of(RuntimeError(self._over))
        self._over = "This selection was dispatched already: choose a replica for each call."
        return None

    def release(self) -> None:
        """See `routing.service.Slot`."""
        self._over = self._over or "This selection holds no reservation any more."


def hold_slot(service: Service) -> Reply:
    """The reply of a call that only reserves."""
    reply = Reply()
    reply.slot = LocalSlot(service)
    reply.resolve(encode_value(None), None)
    return reply
