"""One call by itself: the `Call` and `CallStream` RPCs, for other languages and for debugging.

The same door, admission and user code as a session; gRPC's own flow control takes the place of credits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from meshserve.model.call import Payload
from meshserve.model.failure import Failure
from meshserve.replica.running import Running
from meshserve.routing.service import credit_cost
from meshserve.settings import INITIAL_CREDITS
from meshserve.v1 import replica_pb2
from meshserve.wire.calls import add_items, call_from_start, fill_failure, fill_result

if TYPE_CHECKING:
    from meshserve.replica.door import Door


class PlainCall:
    """A `Peer` for one call.

    Args:
        door: admission and start of calls.
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self._running: Running | None = None
        self._changed = asyncio.Event()
        self._result: replica_pb2.ResultFrame | None = None

    async def unary(self, start: replica_pb2.StartFrame) -> replica_pb2.CallResponse:
        """Runs a unary call."""
        outcome = self._enter(start, 0)
        if not isinstance(outcome, Running):
            return replica_pb2.CallResponse(rejected=outcome, load=self._door.load())
        self._running = outcome
        while self._result is None:
            await self._wait()
        return replica_pb2.CallResponse(result=self._result, load=self._door.load())

    async def stream(self, start: replica_pb2.StartFrame) -> AsyncIterator[replica_pb2.CallStreamResponse]:
        """Runs a call that streams out."""
        outcome = self._enter(start, INITIAL_CREDITS)
        if not isinstance(outcome, Running):
            yield replica_pb2.CallStreamResponse(rejected=outcome)
            return
        self._running = outcome
        while True:
            items = [outcome.outbox.popleft() for _ in range(len(outcome.outbox))]
            response = replica_pb2.SessionResponse()
            add_items(response.items, 0, items, outcome.call.payload.encoding)
            for frame in response.items:
                yield replica_pb2.CallStreamResponse(items=frame)
            if items:
                outcome.grant(sum(credit_cost(item.size_bytes) for item in items))
            elif self._result is not None:
                yield replica_pb2.CallStreamResponse(result=self._result)
                return
            else:
                await self._wait()

    def _enter(self, start: replica_pb2.StartFrame, credits: int) -> Running | replica_pb2.RejectedFrame:
        call = call_from_start(start, self._door.deployment, time.monotonic())
        return self._door.enter(call, start.call_id, credits, self)

    async def _wait(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    def gone(self) -> None:
        """The RPC is over, one way or the other."""
        if self._running is not None and self._result is None:
            self._running.cancel()

    # -- Peer ----------------------------------------------------------------------------------------------------

    def items_ready(self, running: Running) -> None:
        """See `replica.running.Peer`."""
        self._changed.set()

    def completed(self, running: Running, payload: Payload | None, failure: Failure | None) -> None:
        """See `replica.running.Peer`."""
        self._door.ended(running, failure)
        frame = replica_pb2.ResultFrame()
        if failure is not None:
            fill_failure(frame, running.call_id, self._door.refine(running, failure), running.finish)
        else:
            fill_result(frame, running.call_id, payload, running.call.payload.encoding, running.finish)
        self._result = frame
        self._changed.set()

    def input_consumed(self, running: Running, credits: int) -> None:
        """See `replica.running.Peer`; there is no input."""
