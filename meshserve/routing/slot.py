"""A slot held at a replica: who has it may send one call there, which is sure to be accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from meshserve.model.call import Call
from meshserve.model.failure import Failure
from meshserve.model.targets import ReplicaTarget
from meshserve.routing.service import CANCELLED, Reply, ReplyStream
from meshserve.wire.failures import failure_of

if TYPE_CHECKING:
    from meshserve.routing.flight import Flight
    from meshserve.routing.replica import Replica


class SlotOwner(Protocol):
    """What a slot needs of the router it came from."""

    def unary_at(self, replica: Replica, call: Call) -> Reply:
        """Sends a call to one replica."""

    def stream_at(self, replica: Replica, call: Call) -> ReplyStream:
        """Sends a call to one replica."""

    def unavailable_replica(self, replica: Replica) -> Failure:
        """Why a call meant for a replica fails when that is gone."""


class HeldSlot:
    """See `routing.service.Slot`. On the I/O thread.

    Args:
        flight: the call that reserved; it stays in its session until the slot is used or given back.
    """

    def __init__(self, flight: Flight) -> None:
        assert flight.replica is not None
        self.target: ReplicaTarget = flight.replica.target
        self._replica = flight.replica
        self._flight = flight
        self._used = False
        self._released = False

    def unary(self, call: Call) -> Reply:
        """See `routing.service.Service`."""
        failure = self._why_not()
        if failure is not None:
            reply = Reply()
            reply.resolve(None, failure)
            return reply
        call.reservation = self._flight.call_id
        reply = self._flight.router.unary_at(self._replica, call)
        self._taken_over()
        return reply

    def stream(self, call: Call) -> ReplyStream:
        """See `routing.service.Service`."""
        failure = self._why_not()
        if failure is not None:
            stream = ReplyStream()
            stream.finished(failure)
            return stream
        call.reservation = self._flight.call_id
        stream = self._flight.router.stream_at(self._replica, call)
        self._taken_over()
        return stream

    def _why_not(self) -> Failure | None:
        if self._used:
            return failure_of(RuntimeError("This selection was dispatched already: choose a replica for each call."))
        if self._released:
            return failure_of(
                RuntimeError(
                    "This selection holds no reservation: dispatch inside the `async with` block of choose_replica()."
                )
            )
        if not self._flight.is_sent:
            return self._flight.router.unavailable_replica(self._replica)
        return None

    def _taken_over(self) -> None:
        """The replica counts the slot once: for the call that uses it."""
        self._used = True
        if self._replica.session is not None:
            self._replica.session.forget(self._flight)

    def release(self) -> None:
        """See `routing.service.Slot`."""
        if not self._used and not self._released:
            self._released = True
            self._flight.cancel(CANCELLED)
