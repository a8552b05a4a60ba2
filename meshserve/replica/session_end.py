"""The replica's end of one session: frames in, frames out, many calls per message."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from meshserve.model.call import CallKind, Encoding, Payload, SharedPayload
from meshserve.model.failure import Failure, FailureKind
from meshserve.replica.rejecting import NOT_RESERVED, rejected
from meshserve.replica.running import Running
from meshserve.routing.crossing import to_io
from meshserve.routing.service import too_large
from meshserve.rpc.attachments import MEMORY_KEY, can_read, memory_probe, read_in_place
from meshserve.rpc.batch_writer import BatchWriter, Young
from meshserve.rpc.segments import promised
from meshserve.settings import INLINE_LIMIT_BYTES, LARGEST_BODY_BYTES, SESSION_MESSAGE_BYTES
from meshserve.v1 import replica_pb2
from meshserve.wire.batches import ResultBatches, calls_from_batch
from meshserve.wire.calls import add_items, call_from_start, fill_failure, fill_result, items_from_proto

if TYPE_CHECKING:
    from meshserve.replica.door import Door

ACCEPT_WITHIN_S = 0.05
"""Acceptance rides with the next message, and is worth one of its own only after this: a short call has its result
ready sooner, and a message costs as much as ten calls (measured: half of the messages under HTTP load)."""

ABANDONED = Failure(
    FailureKind.REPLICA_LOST,
    "The replica ended while it had this call, which took longer than graceful_shutdown_timeout_s allows. The call has "
    "begun to run and was not tried again.",
    exception_type="ReplicaDiedError",
)

PLENTY = 8
"""Items of one stream that are worth a message."""

ITEM_QUANTUM_BYTES = 64 * 1024
"""What one stream may put into a message before the next one has its turn."""


class SessionEnd:
    """See the module; a `Peer` of the calls that came by it.

    Args:
        door: admission and start of calls.
        context: the stream.
    """

    def __init__(self, door: Door, context: Any) -> None:
        self._door = door
        self._context = context
        self._running: dict[int, Running] = {}
        self._young = Young(self._running)
        self._reserved: set[int] = set()
        self._accepted: list[int] = []
        self._accept_by = 0.0
        self._accept_timer: asyncio.TimerHandle | None = None
        self._retained: list[int] = []
        self._rejected: list[replica_pb2.RejectedFrame] = []
        self._results: deque[tuple[Running, Payload | None, Failure | None]] = deque()
        self._streams: dict[int, Running] = {}
        self._ends: dict[int, tuple[Running, Payload | None, Failure | None]] = {}
        self._credits: dict[int, int] = {}
        self._announce = True  # the first message is the greeting
        self._greeted = False
        self._hungry = False
        self._models: tuple[str, ...] | None = None
        self._writer: BatchWriter[replica_pb2.SessionResponse] = BatchWriter(self._build, self._in_company)
        self._drained = asyncio.Event()
        self._closed = asyncio.Event()

    async def run(self) -> None:
        """Serves the stream until the caller ends or breaks it, or `close` is called; then cancels what is running.

        Raises:
            Unusable: a message could not be made or understood. The caller must not take that for a good end of the
                stream, after which it sends what is not answered elsewhere: some of that has run.
        """
        self._context.deliver(self._receive)
        self._writer.begin(self._context)
        tasks = [asyncio.ensure_future(work) for work in (self._context.ended(), self._closed.wait())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._writer.end()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for running in self._running.values():
                running.cancel()
            for call_id in tuple(self._reserved):
                self._release(call_id)

    def _receive(self, message: replica_pb2.SessionRequest) -> None:
        running = self._running
        for frame in message.starts:
            self._start(frame)
        for batch in message.batches:
            credits = batch.template.initial_credits
            for call_id, call in calls_from_batch(batch, self._door.deployment, time.monotonic()):
                self._entered(self._door.enter(call, call_id, credits, self))
        for items in message.items:
            fed = running.get(items.call_id)
            encoding = fed.call.payload.encoding if fed is not None else Encoding.CLAIM
            fed_items = items_from_proto(items, encoding)
            if items.encoding == int(Encoding.CLAIM):
                fed_items = self._read_in_place(fed, fed_items)
            if fed is not None:
                fed.feed(fed_items)
        for call_id in message.ends:
            ended = running.get(call_id)
            if ended is not None:
                ended.end_input()
        for call_id in message.cancels:
            cancelled = running.get(call_id)
            if cancelled is not None:
                cancelled.cancel()
            elif call_id in self._reserved:
                self._release(call_id)
        for credit in message.credits:
            granted = running.get(credit.call_id)
            if granted is not None:
                granted.grant(credit.credits)
        for retain in message.retains:
            kept = running.get(retain.call_id)
            if kept is not None:
                kept.keys += (retain.key,)
                self._door.kept.expect(retain.key, partial(to_io, kept.cancel))
                self._retained.append(retain.call_id)
                self._writer.wake()

    def _read_in_place(self, fed: Running | None, items: list[Payload]) -> list[Payload]:
        """Large input; read also when nobody waits for it, so that its memory is free."""
        found = read_in_place(items)
        if fed is not None and len(found) < len(items):
            fed.cancel()  # its caller has ended, and cannot be told
        kept = self._door.kept
        return [kept.arriving(item) if item.encoding is Encoding.CLAIM else item for item in found]

    def _start(self, frame: replica_pb2.StartFrame) -> None:
        if frame.reserve:
            self._reserve(frame.call_id)
            return
        self._entered(self._enter(frame))

    def _entered(self, outcome: Running | replica_pb2.RejectedFrame) -> None:
        if isinstance(outcome, Running):
            self._running[outcome.call_id] = outcome
            if outcome.call.kind is not CallKind.UNARY:
                if not self._accepted:
                    self._accept_by = outcome.accepted_at + ACCEPT_WITHIN_S
                    if self._accept_timer is None:
                        self._accept_later(ACCEPT_WITHIN_S)
                self._accepted.append(outcome.call_id)
            return
        self._reject(outcome)

    def _accept_later(self, wait_s: float) -> None:
        self._accept_timer = asyncio.get_running_loop().call_later(wait_s, self._send_accepted)

    def _send_accepted(self) -> None:
        """Sends word of calls that have run for so long; others, which came after those it was set for, have time."""
        self._accept_timer = None
        if not self._accepted:
            return
        wait_s = self._accept_by - time.monotonic()
        if wait_s > 0:
            self._accept_later(wait_s)
        else:
            self._writer.wake()

    def _reject(self, frame: replica_pb2.RejectedFrame) -> None:
        self._rejected.append(frame)
        if not frame.HasField("failure") and not self._hungry:
            self._hungry = True
            self._door.admission.when_room(self._has_room)
        self._writer.wake()

    def _reserve(self, call_id: int) -> None:
        """Holds a slot until a call names it, it is cancelled, or the session ends."""
        if self._door.admission.admit():
            self._reserved.add(call_id)
            self._accepted.append(call_id)
            self._writer.wake()
        else:
            self._reject(replica_pb2.RejectedFrame(call_id=call_id))

    def _enter(self, frame: replica_pb2.StartFrame) -> Running | replica_pb2.RejectedFrame:
        reserved = frame.reservation != 0
        if reserved:
            if frame.reservation not in self._reserved:
                return rejected(frame.call_id, NOT_RESERVED)
            self._reserved.discard(frame.reservation)
        call = call_from_start(frame, self._door.deployment, time.monotonic())
        return self._door.enter(call, frame.call_id, frame.initial_credits, self, reserved)

    def _release(self, call_id: int) -> None:
        self._reserved.discard(call_id)
        self._door.admission.release()

    def _has_room(self) -> None:
        self._hungry = False
        self.announce()

    # -- Peer ----------------------------------------------------------------------------------------------------

    def items_ready(self, running: Running) -> None:
        """See `replica.running.Peer`."""
        if running.call_id in self._running:
            self._streams[running.call_id] = running
            self._writer.wake()
        else:
            running.outbox.clear()

    def completed(self, running: Running, payload: Payload | None, failure: Failure | None) -> None:
        """See `replica.running.Peer`."""
        if self._running.pop(running.call_id, None) is None:
            return  # it was abandoned, and said to be
        for key in running.keys:
            self._door.kept.keep(key, payload, failure)
        if type(payload) is SharedPayload or (
            payload is not None and running.call.accepts_claims and payload.size_bytes > INLINE_LIMIT_BYTES
        ):
            payload = self._door.claim(payload)
        if payload is not None and payload.size_bytes > LARGEST_BODY_BYTES:
            failure = Failure(FailureKind.INVALID, too_large("the result", payload.size_bytes))
            payload = None
        self._door.ended(running, failure)
        if failure is None and (item := running.last_item()) is not None:
            self._streams.pop(running.call_id, None)
            self._results.append((running, item, None))
        elif running.outbox:
            self._streams[running.call_id] = running
            self._ends[running.call_id] = (running, payload, failure)
        else:
            self._results.append((running, payload, failure))
        self._writer.wake()

    def input_consumed(self, running: Running, credits: int) -> None:
        """See `replica.running.Peer`."""
        if running.call_id in self._running:
            self._credits[running.call_id] = self._credits.get(running.call_id, 0) + credits
            self._writer.wake()

    # -- towards the caller --------------------------------------------------------------------------------------

    def announce(self) -> None:
        """Sends the load, with whatever else is ready."""
        self._announce = True
        self._writer.wake()

    @property
    def waiting_streams(self) -> int:
        """Calls with output that the caller has no room for."""
        return sum(running.waits_for_credits for running in tuple(self._running.values()))

    async def close(self) -> None:
        """Ends the stream once all that was accepted is answered; what still runs is answered with a failure."""
        for running in tuple(self._running.values()):
            self.completed(running, None, ABANDONED)
            running.cancel()
        self._announce = True
        self._drained.clear()
        self._writer.wake()
        await self._drained.wait()
        self._closed.set()

    def _in_company(self) -> bool:
        if not (self._results or self._streams) or self._rejected or self._announce:
            return True
        if len(self._streams) >= self._young.count():
            return True
        return any(len(running.outbox) >= PLENTY for running in self._streams.values())

    def _build(self) -> replica_pb2.SessionResponse | None:
        """The next message: everything that is ready, up to about the size limit."""
        if not (
            self._results
            or self._streams
            or self._accepted
            or self._retained
            or self._rejected
            or self._credits
            or self._announce
        ):
            self._drained.set()
            return None
        message = replica_pb2.SessionResponse()
        size = self._add_results(message)
        if self._streams:
            size += self._add_streams(message, size)
            if self._results:  # the ends of streams whose last items are in this message
                size += self._add_results(message)
        if self._accepted:
            message.accepted.extend(self._accepted)
            self._accepted.clear()
        if self._retained:
            message.retained.extend(self._retained)
            self._retained.clear()
        if self._rejected:
            message.rejected.extend(self._rejected)
            self._rejected.clear()
        if self._credits:
            for call_id, credits in self._credits.items():
                message.credits.add(call_id=call_id, credits=credits)
            self._credits.clear()
        if not self._greeted:
            self._greet(message)
        self._announce = False
        self._add_load(message.load)
        results = len(message.results) + sum(len(batch.call_ids) for batch in message.result_batches)
        self._door.sending.sent(results + len(message.items) + len(message.rejected), size)
        return message

    def _greet(self, message: replica_pb2.SessionResponse) -> None:
        """What the first message says besides: whether the two processes can read each other's memory."""
        self._greeted = True
        message.memory_probe = memory_probe()
        metadata = dict(self._context.invocation_metadata() or ())
        message.shares_memory = can_read(metadata.get(MEMORY_KEY, ""))

    def _add_load(self, load: replica_pb2.Load) -> None:
        admission = self._door.admission
        load.ongoing = admission.ongoing
        load.own = len(self._running) + len(self._reserved)
        load.limit = admission.limit
        if admission.draining:
            load.draining = True
        models = self._door.models()
        if models is not self._models:
            self._models = models
            load.models_changed = True
            load.multiplexed_model_ids.extend(models)

    def _add_results(self, message: replica_pb2.SessionResponse) -> int:
        size = 0
        results, batches = self._results, ResultBatches(message.result_batches)
        while results and size < SESSION_MESSAGE_BYTES:
            running, payload, failure = results.popleft()
            if failure is not None:
                fill_failure(
                    message.results.add(), running.call_id, self._door.refine(running, failure), running.finish
                )
                size += 256
                continue
            encoding = running.call.payload.encoding
            if running.finish is None and (payload is None or len(payload.buffers) <= 1):
                batches.add(running.call_id, payload, encoding)
            else:
                fill_result(message.results.add(), running.call_id, payload, encoding, running.finish)
            size += payload.size_bytes + 8 if payload is not None else 8
        batches.close()
        return size

    def _add_streams(self, message: replica_pb2.SessionResponse, before: int) -> int:
        """Gives each stream with items its turn; one that has more goes to the end of the line.

        Args:
            before: bytes that the message holds already.

        Returns:
            Bytes that were added.
        """
        size = before
        for call_id, running in tuple(self._streams.items()):
            if size >= SESSION_MESSAGE_BYTES:
                break
            taken: list[Payload] = []
            quantum = ITEM_QUANTUM_BYTES
            outbox = running.outbox
            while outbox and quantum > 0:
                item = promised(outbox.popleft())
                taken.append(item)
                quantum -= item.size_bytes + 8
            size += ITEM_QUANTUM_BYTES - quantum
            add_items(message.items, call_id, taken, running.call.payload.encoding)
            del self._streams[call_id]
            if outbox:
                self._streams[call_id] = running
            elif (end := self._ends.pop(call_id, None)) is not None:
                self._results.append(end)
        return size - before
