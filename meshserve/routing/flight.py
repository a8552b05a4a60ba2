"""One call between router and session: where it is, and whom to tell."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from meshserve.model.call import BroughtPayload, Call, Encoding, Finish, Payload
from meshserve.model.failure import Failure
from meshserve.routing.service import Reply, ReplyStream, item_cost
from meshserve.routing.slot import HeldSlot, SlotOwner
from meshserve.rpc.segments import promised
from meshserve.settings import INITIAL_CREDITS
from meshserve.telemetry.caller import RouterMetrics
from meshserve.wire.values import encode_value

if TYPE_CHECKING:
    from meshserve.routing.replica import Replica


_HELD = encode_value(None)
"""The result of a call that only reserves a slot."""


class Stage(IntEnum):
    """How far a call has come. From SENT on it may have run, so nobody may send it again unless it was rejected."""

    WAITING = 0
    ASSIGNED = 1
    SENT = 2
    DONE = 3


class FlightOwner(SlotOwner, Protocol):
    """Where a flight is cancelled, and counted.

    Attributes:
        metrics: of calls to the flight's deployment.
    """

    metrics: RouterMetrics

    def cancel(self, flight: Flight, failure: Failure) -> None:
        """Ends a flight that is not over."""


class Flight:
    """A call in the router's and the session's hands.

    Attributes:
        reply: of a unary call, else None.
        stream: of a streaming call, else None.
        arrival: its position in the order of arrival, kept when it has to find another replica.
        replica: where it is assigned to, or None.
        call_id: in the replica's session.
        rejections: how often it was refused.
        waiting_since: when it began to wait for a replica; 0 when it never had to.
        sent_at: when it was written to the replica; 0 before, and once the time to its answer was taken.
        retains: the keys under which the replica is to keep the result, not yet confirmed, each with whom to tell the
            name of the actor that keeps it.
    """

    # On the class: one is made per call.
    call_id = 0
    input: FlightInput | None = None
    rejections = 0
    replica: Replica | None = None
    reply: Reply | None = None
    retains: tuple[tuple[str, Callable[[str], None]], ...] = ()
    sent_at = 0.0
    stage = Stage.WAITING
    stream: ReplyStream | None = None
    waiting_since = 0.0

    def __init__(self, call: Call, arrival: int, router: FlightOwner) -> None:
        self.call = call
        self.arrival = arrival
        self.router = router

    def open_stream(self) -> ReplyStream:
        """Makes the stream of a streaming call, with its input if it has one."""
        self.stream = ReplyStream()
        if self.call.kind.streams_in:
            self.input = FlightInput(self)
            self.stream.sender = self.input
        return self.stream

    @property
    def is_sent(self) -> bool:
        """Whether a replica has it."""
        return self.stage is Stage.SENT

    @property
    def pinned(self) -> bool:
        """Whether it is meant for one replica and goes nowhere else."""
        return self.call.bypass_limit or self.call.reservation != 0

    def accepted(self) -> None:
        """The replica has it: a streaming call runs, a reservation is held."""
        if self.stream is not None:
            self.stream.accepted = True
        elif self.call.reserve and self.reply is not None:
            self.reply.slot = HeldSlot(self)
            self.reply.resolve(_HELD, None)

    def __lt__(self, other: Flight) -> bool:
        """Earlier arrivals first, within a priority."""
        mine, theirs = self.call.context.priority, other.call.context.priority
        return self.arrival < other.arrival if mine == theirs else mine > theirs

    def cancel(self, failure: Failure) -> None:
        """Ends the call with a failure, wherever it is."""
        if self.stage is not Stage.DONE:
            self.router.cancel(self, failure)

    def retain(self, key: str, on_retained: Callable[[str], None]) -> None:
        """Asks for the result to be kept where it is made; `on_retained` is not called if the call ends first."""
        self.retains += ((key, on_retained),)
        if self.replica is not None and self.replica.session is not None:
            self.replica.session.retain(self, key)

    def retained(self) -> None:
        """The replica will keep the result under the first key that it had not yet confirmed."""
        if self.retains and self.replica is not None:
            (_, on_retained), *rest = self.retains
            self.retains = tuple(rest)
            on_retained(self.replica.target.actor_name)

    def finish(self, payload: Payload | None, failure: Failure | None, finish: Finish | None = None) -> None:
        """Ends the call towards its caller."""
        self.stage = Stage.DONE
        if failure is not None:
            self.router.metrics.failed(failure.kind)
        if self.reply is not None:
            self.reply.resolve(payload, failure, finish)
        elif self.stream is not None:
            if payload is not None and (payload.body or payload.buffers or not self.call.kind.streams_out):
                self.stream.push((payload,))
            self.stream.finished(failure, finish)


class FlightInput:
    """The input side of a flight: items wait here for credits, and for the flight to have a replica.

    Items are kept until the call was accepted, so that a rejected call can begin again elsewhere.
    """

    __slots__ = ("credits", "ended", "flight", "kept", "next_index")

    def __init__(self, flight: Flight) -> None:
        self.flight = flight
        self.credits = INITIAL_CREDITS
        self.kept: list[Payload] = []
        self.next_index = 0
        self.ended = False

    def send(self, item: Payload) -> bool:
        """Takes an item if there are credits left; see `routing.service.InputSender`."""
        if self.credits <= 0:
            return False
        self.credits -= item_cost(item)
        self.kept.append(item)
        self._wake()
        return True

    def end(self) -> None:
        """No more input."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        replica = self.flight.replica
        if replica is not None and replica.session is not None:
            replica.session.input_ready(self.flight)

    def take_unsent(self, shares_memory: bool) -> list[Payload]:
        """Items to write now; they are forgotten once the call was accepted.

        Args:
            shares_memory: whether the replica can read this process's.
        """
        items = [self._as_sent(item, shares_memory) for item in self.kept[self.next_index :]]
        stream = self.flight.stream
        if stream is not None and stream.accepted:
            self.kept.clear()
            self.next_index = 0
        else:
            self.next_index = len(self.kept)
        return items

    def _as_sent(self, item: Payload, shares_memory: bool) -> Payload:
        if type(item) is not BroughtPayload:
            return promised(item) if shares_memory else item
        if shares_memory and item.nearby is not None:
            return promised(item.nearby)
        assert item.bring is not None and self.flight.replica is not None
        item.bring(self.flight.replica.target.actor_name)
        return Payload(item.body, item.encoding)

    def rewind(self) -> None:
        """Begins again, after a rejection."""
        self.next_index = 0

    def grant(self, credits: int) -> None:
        """More credits from the callee."""
        self.credits += credits
        if self.credits > 0 and self.flight.stream is not None:
            self.flight.stream.wake_senders()

    @property
    def encoding(self) -> Encoding:
        """Of the arguments; the default for items."""
        return self.flight.call.payload.encoding
