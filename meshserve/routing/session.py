"""The one stream from this process to a replica: all calls to it, many per message.

This is the heart of the data plane. A Python gRPC message costs 100-250 us of CPU however small it is, a call packed
into a message that carries many costs 10-20 us. So a session writes one message at a time and puts into it everything
that became ready while the one before was under way.

What may be sent again: nothing that was written, unless the replica rejected it or ended the stream in good order
(it answers everything it accepted before it does that). Calls that were not yet written are given back to the router
when the stream breaks. No call is written before the replica's first message has come, so that a connection that
never stood loses nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import grpc
import grpc.aio

from meshserve.model.call import Encoding, Payload, SharedPayload
from meshserve.model.failure import Failure, FailureKind
from meshserve.routing.flight import Flight, Stage
from meshserve.routing.service import too_large
from meshserve.rpc.attachments import MEMORY_KEY, attachments, can_read, memory_probe, read_in_place
from meshserve.rpc.batch_writer import BatchWriter, Young
from meshserve.rpc.token import token_metadata
from meshserve.settings import INITIAL_CREDITS, LARGEST_BODY_BYTES, SESSION_MESSAGE_BYTES
from meshserve.telemetry.caller import CALLER, SessionMetrics
from meshserve.transport.client import connect
from meshserve.v1 import replica_pb2, replica_pb2_grpc
from meshserve.wire.batches import StartBatches, fits_batch, results_from_batch
from meshserve.wire.calls import (
    ENCODINGS,
    HAS_FAILURE,
    HAS_FINISH,
    add_items,
    fill_reserve,
    fill_start,
    finish_from_proto,
    items_from_proto,
    result_payload,
)
from meshserve.wire.claims import Claim, decode_claim, encode_claim
from meshserve.wire.failures import failure_from_proto

HELLO_TIMEOUT_S = 10.0
"""How long a replica may take to greet; a vanished node would keep the calls waiting for longer otherwise."""

GONE = Failure(FailureKind.INTERNAL, "A large item of the stream is gone: the process that made it has ended.")


class SessionOwner(Protocol):
    """Whom a session tells."""

    def on_load(self, load: replica_pb2.Load) -> None:
        """The replica's load, with every message."""

    def on_rejected(self, flight: Flight, failure: Failure | None) -> None:
        """The replica refused a call; without a failure another replica may be tried."""

    def on_answered(self, flight: Flight) -> None:
        """A call has its result, or the first item of its stream."""

    def on_over(self, flight: Flight) -> None:
        """A call has ended; its slot is free."""

    def on_lost(self, flight: Flight) -> None:
        """A call has ended with the stream; `on_closed` follows."""

    def on_closed(self, unsent: list[Flight], reason: str) -> None:
        """The stream is gone; these calls did not run."""


class Session:
    """One stream to one replica. Lives on the I/O thread.

    Args:
        address: of the replica.
        token: the mesh token.
        owner: see `SessionOwner`.
        now: the monotonic clock.

    Attributes:
        metrics: of sessions to the replica's deployment; the owner may set another recorder.
    """

    def __init__(self, address: str, token: str, owner: SessionOwner, now: Callable[[], float]) -> None:
        self._address = address
        self._token = token
        self._owner = owner
        self._now = now
        self._next_id = 1
        self._flights: dict[int, Flight] = {}
        self._young = Young(self._flights)
        self._starts: deque[Flight] = deque()
        self._inputs: dict[int, Flight] = {}
        self._cancels: list[int] = []
        self._credits: dict[int, int] = {}
        self._retains: list[tuple[int, str]] = []
        self._shares_memory = False
        self.task: asyncio.Task[None] | None = None
        self.metrics = SessionMetrics(CALLER, "", "")
        self._writer: BatchWriter[replica_pb2.SessionRequest] = BatchWriter(self._build, self._in_company)

    # -- towards the replica -------------------------------------------------------------------------------------

    def start(self, flight: Flight) -> None:
        """Sends a call; the owner has counted its slot."""
        flight.call_id = call_id = self._next_id
        self._next_id = call_id + 1
        flight.stage = Stage.ASSIGNED
        self._flights[call_id] = flight
        if flight.stream is not None:
            flight.stream.granter = lambda credits: self._grant(call_id, credits)
            if flight.input is not None:
                self._inputs[call_id] = flight
        if flight.call.on_assigned is not None:
            assert flight.replica is not None
            flight.call.on_assigned(flight.replica.target.actor_name)
        if flight.retains:
            self._retains.extend((call_id, key) for key, _ in flight.retains)
        self._starts.append(flight)
        self._writer.wake()

    def cancel(self, flight: Flight) -> None:
        """Cancels a call; the caller was told already."""
        if self._flights.pop(flight.call_id, None) is None:
            return
        self._inputs.pop(flight.call_id, None)
        if flight.stage is Stage.SENT:
            self._cancels.append(flight.call_id)
            self._writer.wake()
        flight.stage = Stage.DONE  # if it was not yet written, it never will be
        self._owner.on_over(flight)

    def forget(self, flight: Flight) -> None:
        """Another call has taken over this one's slot; the replica knows."""
        if self._flights.pop(flight.call_id, None) is not None:
            flight.stage = Stage.DONE
            self._owner.on_over(flight)

    def take_back(self) -> list[Flight]:
        """Gives back the calls that were not written yet; they are no longer in its hands."""
        unwritten = [flight for flight in self._starts if flight.stage is Stage.ASSIGNED]
        self._starts.clear()
        for flight in unwritten:
            del self._flights[flight.call_id]
            self._inputs.pop(flight.call_id, None)
        return unwritten

    def retain(self, flight: Flight, key: str) -> None:
        """Asks the replica to keep the call's result for collection."""
        if flight.call_id in self._flights:
            self._retains.append((flight.call_id, key))
            self._writer.wake()

    def input_ready(self, flight: Flight) -> None:
        """A call has input items or the end of its input to send."""
        if flight.call_id in self._flights:
            self._inputs[flight.call_id] = flight
            self._writer.wake()

    def _grant(self, call_id: int, credits: int) -> None:
        if call_id in self._flights:
            self._credits[call_id] = self._credits.get(call_id, 0) + credits
            # Credits alone are not worth a message until they are worth a batch.
            if self._credits[call_id] >= INITIAL_CREDITS // 4:
                self._writer.wake()

    def close(self) -> None:
        """Ends the stream; calls in flight are settled as when it breaks."""
        if self.task is not None:
            self.task.cancel()

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight."""
        return not self._flights

    @property
    def calls(self) -> int:
        """Calls begun in its time."""
        return self._next_id - 1

    def _in_company(self) -> bool:
        ready = len(self._starts) + len(self._inputs)
        return not ready or ready >= self._young.count() or bool(self._cancels)

    def _build(self) -> replica_pb2.SessionRequest | None:
        """The next message: everything that is ready, up to about the size limit."""
        message = replica_pb2.SessionRequest()
        size, now = 0, self._now()
        starts, batches = self._starts, StartBatches(message, now)
        count = 0
        while starts and size < SESSION_MESSAGE_BYTES:
            flight = starts[0]
            if flight.stage is not Stage.ASSIGNED:  # cancelled meanwhile
                starts.popleft()
                continue
            call, payload = flight.call, flight.call.payload
            if type(payload) is SharedPayload:
                payload = self._shared(flight, payload)
            if flight.stream is not None and not self._shares_memory:
                call.accepts_segments = False  # items cannot be had in another way, as results can
            length = payload.size_bytes
            if length > LARGEST_BODY_BYTES:
                starts.popleft()
                self._refuse(flight, too_large("the arguments", length))
                continue
            fits = fits_batch(call, payload)
            if batches and not fits:
                break  # batches are read after calls that stand alone: this one would overtake them
            starts.popleft()
            flight.stage = Stage.SENT
            flight.sent_at = now
            credits = INITIAL_CREDITS if flight.stream is not None else 0
            if fits:
                batches.add(flight.call_id, call, payload, credits)
            elif call.reserve:
                fill_reserve(message.starts.add(), flight.call_id, call)
            else:
                fill_start(message.starts.add(), flight.call_id, call, payload, now, credits)
            size += length + 64
            count += 1
        batches.close()
        for call_id in tuple(self._inputs) if self._inputs else ():
            if size >= SESSION_MESSAGE_BYTES:
                break
            size += self._add_input(message, call_id)
        if self._cancels:
            message.cancels.extend(self._cancels)
            self._cancels.clear()
        if self._credits:
            for call_id, credits in self._credits.items():
                message.credits.add(call_id=call_id, credits=credits)
            self._credits.clear()
            size += 1
        if self._retains:
            self._add_retains(message)
        if not (size or message.cancels or message.ends or message.retains):
            return None
        self.metrics.sent(count + len(message.items) + len(message.cancels), size)
        return message

    def _refuse(self, flight: Flight, message: str) -> None:
        """Fails a call that cannot be written."""
        del self._flights[flight.call_id]
        self._inputs.pop(flight.call_id, None)
        self._owner.on_over(flight)
        flight.finish(None, Failure(FailureKind.INVALID, message))

    def _shared(self, flight: Flight, payload: SharedPayload) -> Payload:
        """What is sent for arguments in shared memory: the claim on them, or themselves to who cannot read them."""
        if self._shares_memory:
            return payload.claim
        if flight.call.on_unshared is None:
            return payload
        assert flight.replica is not None
        flight.call.on_unshared(flight.replica.target.actor_name)
        return encode_claim(Claim("", decode_claim(payload.claim).key, payload.size_bytes))

    def _add_retains(self, message: replica_pb2.SessionRequest) -> None:
        """Those of calls that were written; the replica confirms them in this order."""
        early = []
        for call_id, key in self._retains:
            flight = self._flights.get(call_id)
            if flight is not None and flight.stage is Stage.SENT:
                message.retains.add(call_id=call_id, key=key)
            elif flight is not None:
                early.append((call_id, key))
        self._retains = early

    def _add_input(self, message: replica_pb2.SessionRequest, call_id: int) -> int:
        flight = self._inputs[call_id]
        if flight.stage is not Stage.SENT:
            return 0
        del self._inputs[call_id]
        assert flight.input is not None
        items = flight.input.take_unsent(self._shares_memory)
        add_items(message.items, call_id, items, flight.input.encoding)
        if flight.input.ended:
            message.ends.append(call_id)
        return sum(item.size_bytes + 8 for item in items)

    # -- from the replica ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps the stream until it ends, breaks or is cancelled; then settles every call."""
        in_good_order, reason = False, "the session was closed"
        channel: Any = None  # a `Channel`: generated code knows only grpcio's
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                channel = await connect(self._address)
                call = replica_pb2_grpc.ReplicaServiceStub(channel).Session(
                    metadata=(*token_metadata(self._token), (MEMORY_KEY, memory_probe()))
                )
                greeting = await call.read()
            if greeting is not grpc.aio.EOF:
                self._shares_memory = greeting.shares_memory and can_read(greeting.memory_probe)
                self._receive(greeting)
                call.deliver(self._receive)
                self._writer.begin(call)
            status = await call.status()
            in_good_order = status.code is grpc.StatusCode.OK
            reason = f"{status.code.name}: {status.details or 'the stream ended'}"
        except TimeoutError:
            reason = f"it did not answer within {HELLO_TIMEOUT_S:.0f} s"
        except OSError as error:
            reason = f"{grpc.StatusCode.UNAVAILABLE.name}: {error}"
        except asyncio.CancelledError:  # closed by the owner; the calls are settled all the same
            pass
        finally:
            self._writer.end()
            self._settle(in_good_order, reason)
            if channel is not None:
                channel.close()

    def _settle(self, in_good_order: bool, reason: str) -> None:
        """Gives back what did not run, fails what may have run."""
        flights, self._flights = self._flights, {}
        unsent = []
        for flight in flights.values():
            accepted = flight.stream is not None and flight.stream.accepted
            if flight.stage is not Stage.SENT or (in_good_order and not accepted):
                unsent.append(flight)
                continue
            message = (
                f"The replica of {flight.call.deployment} at {self._address} died, or the connection to it broke, "
                f"while it had this call ({reason}). The call may have run and was not tried again."
            )
            self._owner.on_lost(flight)
            flight.finish(None, Failure(FailureKind.REPLICA_LOST, message, exception_type="ReplicaDiedError"))
        self.metrics.broken += bool(flights)
        self._owner.on_closed(unsent, reason)

    def _receive(self, message: replica_pb2.SessionResponse) -> None:
        flights = self._flights
        for call_id in message.retained:
            flight = flights.get(call_id)
            if flight is not None:
                flight.retained()
        for call_id in message.accepted:
            flight = flights.get(call_id)
            if flight is not None:
                flight.accepted()
        for items in message.items:
            flight = flights.get(items.call_id)
            if flight is not None and flight.stream is not None:
                if flight.sent_at:
                    self._owner.on_answered(flight)
                flight.stream.push(self._items(flight, items))
            elif items.encoding == int(Encoding.CLAIM):
                read_in_place(items_from_proto(items, Encoding.CLAIM))  # nobody waits for them: their memory is free
        for result in message.results:
            flight = flights.pop(result.call_id, None)
            if flight is not None:
                self._over(flight, result)
        for batch in message.result_batches:
            self._over_plainly(batch)
        if message.rejected:
            for rejected in message.rejected:
                flight = flights.pop(rejected.call_id, None)
                if flight is not None:
                    self._inputs.pop(rejected.call_id, None)
                    failure = failure_from_proto(rejected.failure) if rejected.HasField("failure") else None
                    self._owner.on_rejected(flight, failure)
        for credit in message.credits:
            flight = flights.get(credit.call_id)
            if flight is not None and flight.input is not None:
                flight.input.grant(credit.credits)
        self._owner.on_load(message.load)

    def _items(self, flight: Flight, frame: replica_pb2.ItemsFrame) -> list[Payload]:
        items = items_from_proto(frame, flight.call.payload.encoding)
        if frame.encoding != int(Encoding.CLAIM):
            return items
        found = read_in_place(items)
        if len(found) < len(items):
            flight.cancel(GONE)
        return found

    def _over_plainly(self, batch: replica_pb2.ResultBatch) -> None:
        named = ENCODINGS[batch.encoding] if batch.encoding else None
        flights, owner = self._flights, self._owner
        for call_id, body, buffers in results_from_batch(batch):
            flight = flights.pop(call_id, None)
            if flight is None:
                if named is Encoding.CLAIM:
                    attachments().attach(Payload(body, named))  # nobody waits for it: its memory is free
                continue
            if flight.input is not None:
                self._inputs.pop(call_id, None)
            owner.on_over(flight)
            if flight.sent_at:
                owner.on_answered(flight)
            payload = Payload(body, named or flight.call.payload.encoding, buffers)
            if named is Encoding.CLAIM:
                payload = attachments().attach(payload) or payload
            flight.finish(payload, None)

    def _over(self, flight: Flight, result: replica_pb2.ResultFrame) -> None:
        if flight.input is not None:
            self._inputs.pop(flight.call_id, None)
        self._owner.on_over(flight)
        parts = result.parts
        finish = finish_from_proto(result.finish) if parts & HAS_FINISH else None
        if parts & HAS_FAILURE:
            flight.finish(None, failure_from_proto(result.failure), finish)
        else:
            if flight.sent_at:
                self._owner.on_answered(flight)
            payload = result_payload(result, parts, flight.call.payload.encoding)
            if payload.encoding is Encoding.CLAIM:
                payload = attachments().attach(payload) or payload
            flight.finish(payload, None, finish)
