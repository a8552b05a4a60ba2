"""A call that a replica accepted, from the door to its end: the `Invocation` of adapters, and its crossing between
threads.

Three threads touch one: the I/O thread (frames in and out), the user's loop, and a worker thread for synchronous code.
Every field has one writer. Credits are two counters that only grow, one written by each side, so that no lock is
needed.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Protocol

from meshserve.model.call import Call, CallKind, Encoding, Finish, Payload
from meshserve.model.failure import Failure
from meshserve.routing.scope import RequestScope
from meshserve.routing.service import credit_cost, item_cost
from meshserve.rpc.mailbox import Mailbox


class Peer(Protocol):
    """Where a running call's frames go; on the I/O thread."""

    def items_ready(self, running: Running) -> None:
        """The call's outbox has items."""

    def completed(self, running: Running, payload: Payload | None, failure: Failure | None) -> None:
        """The call is over."""

    def input_consumed(self, running: Running, credits: int) -> None:
        """The call has consumed input worth so many credits."""


IoMail = tuple[Any, ...]
"""A function and its arguments, for the I/O thread."""


class Running:
    """One accepted call.

    Args:
        call: the call.
        call_id: in its session.
        peer: where its frames go.
        credits: the first allowance for output.
        io: the crossing to the I/O thread.
        user_loop: where user code runs.

    Attributes:
        accepted_at: on the monotonic clock.
        begun: whether user code's task has taken its first step.
        verb: the method of an HTTP request; empty for other calls. The adapter sets it.
        status: of its response; 0 before there is one. The adapter sets it.
    """

    # On the class: most calls are unary, and need none of these.
    accepted_at = 0.0
    begun = False
    cancelled = False
    deadline_timer: asyncio.TimerHandle | None = None
    finish: Finish | None = None
    keys: tuple[str, ...] = ()
    outbox: deque[Payload] = deque(maxlen=0)
    over = False
    status = 0
    task: asyncio.Task[None] | None = None
    verb = ""
    _armed = False
    _input: deque[Payload] = deque(maxlen=0)
    _input_ended = False
    _input_waiter: asyncio.Future[None] | None = None
    _room_event: threading.Event | None = None
    _room_waiter: asyncio.Future[None] | None = None
    _spent = 0

    def __init__(
        self,
        call: Call,
        call_id: int,
        peer: Peer,
        credits: int,
        io: Mailbox[IoMail],
        user_loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.call = call
        self.call_id = call_id
        self.peer = peer
        self.scope = RequestScope(call.context, call.deadline)
        self._granted = credits
        self._io = io
        self._user_loop = user_loop
        if call.kind is not CallKind.UNARY:
            self.outbox = deque()
            self._input = deque()

    # -- user side -----------------------------------------------------------------------------------------------

    def try_send(self, item: Payload) -> bool:
        """See `replica.adapter.Invocation`."""
        if self.over:
            return True  # it has nowhere to go any more
        if self._spent >= self._granted:
            return False
        self._spent += item_cost(item)
        self.outbox.append(item)
        if not self._armed:
            self._armed = True
            self._user_loop.call_soon(self._post_flush)
        return True

    def _post_flush(self) -> None:
        """After the step of user code that sent: if that was its last one, the items leave with the end instead."""
        if not self.over:
            self._io.post((self._flush,))

    async def send(self, item: Payload) -> None:
        """See `replica.adapter.Invocation`."""
        while not self.try_send(item):
            waiter = self._room_waiter = asyncio.get_running_loop().create_future()
            if self._spent < self._granted:  # granted between the look and the wait
                self._room_waiter = None
                continue
            await waiter
            self._room_waiter = None

    def send_from_thread(self, item: Payload) -> bool:
        """See `replica.adapter.Invocation`."""
        while self._spent >= self._granted:
            if self.cancelled or self.over:
                return False
            event = self._room_event = threading.Event()
            if self._spent < self._granted or self.cancelled:
                continue
            event.wait()
            self._room_event = None
        self._spent += item_cost(item)
        self.outbox.append(item)
        if not self._armed:
            self._armed = True
            self._io.post((self._flush,))
        return not self.cancelled

    async def inputs(self) -> AsyncIterator[Payload]:
        """See `replica.adapter.Invocation`."""
        consumed = 0
        while True:
            while self._input:
                item = self._input.popleft()
                consumed += credit_cost(item.size_bytes)
                yield item
            if consumed:
                self._io.post((self.peer.input_consumed, self, consumed))
                consumed = 0
            if self._input_ended or self.over:
                return
            self._input_waiter = asyncio.get_running_loop().create_future()
            if not self._input and not self._input_ended:
                await self._input_waiter
            self._input_waiter = None

    def complete(self, payload: Payload | None, failure: Failure | None) -> None:
        """Ends the call; from any thread, once."""
        self.over = True
        self._io.post((self._complete, payload, failure))

    # -- I/O thread ----------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._armed = False
        self.peer.items_ready(self)

    def _complete(self, payload: Payload | None, failure: Failure | None) -> None:
        if self.deadline_timer is not None:
            self.deadline_timer.cancel()
        if self.cancelled or failure is not None:
            self.scope.cancel_children()
        self.peer.completed(self, payload, failure)

    def grant(self, credits: int) -> None:
        """The consumer allows more output."""
        self._granted += credits
        if self._room_waiter is not None:
            self._user_loop.call_soon_threadsafe(self._wake_sender)
        if self._room_event is not None:
            self._room_event.set()

    def last_item(self) -> Payload | None:
        """Takes the one item that is left, if it can leave with the end of the call."""
        if len(self.outbox) != 1 or self.finish is not None:
            return None
        item = self.outbox[0]
        if type(item) is not Payload or item.encoding is Encoding.CLAIM or not item.body or len(item.buffers) > 1:
            return None
        return self.outbox.popleft()

    @property
    def waits_for_credits(self) -> bool:
        """Whether it has output that its consumer has no room for."""
        return self._room_waiter is not None or self._room_event is not None

    def _wake_sender(self) -> None:
        if self._room_waiter is not None and not self._room_waiter.done():
            self._room_waiter.set_result(None)

    def feed(self, items: list[Payload]) -> None:
        """Input has arrived."""
        self._input.extend(items)
        self._user_loop.call_soon_threadsafe(self._wake_reader)

    def end_input(self) -> None:
        """No more input will come."""
        self._input_ended = True
        self._user_loop.call_soon_threadsafe(self._wake_reader)

    def _wake_reader(self) -> None:
        if self._input_waiter is not None and not self._input_waiter.done():
            self._input_waiter.set_result(None)

    def cancel(self) -> None:
        """Cancels user code at its next await, and its children; a synchronous method runs on, unheard."""
        if self.cancelled or self.over:
            return
        self.cancelled = True
        self.scope.cancel_children()
        if self._room_event is not None:
            self._room_event.set()
        try:
            self._user_loop.call_soon_threadsafe(self._cancel_task)
        except RuntimeError:
            pass  # the user's loop is closed: the replica is ending

    def _cancel_task(self) -> None:
        if self.task is not None and self.begun:  # else its first step finds that it was cancelled
            self.task.cancel()
