"""The one interface met at every hop between ingress and user code, and what it returns.

`Service` has two methods. Neither is a coroutine: they return at once with an object that will have the outcome,
so that a call costs no task on the way (a task per layer and call was a third of the cost of a hop). Everything
here lives on the I/O thread's loop; `handle` carries results to other threads.

A `Layer` wraps a service in a service. A stack is a list of layers, outermost first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeAlias

from meshserve.model.call import BroughtPayload, Call, Finish, Payload, SharedPayload
from meshserve.model.failure import Failure, FailureKind
from meshserve.model.targets import ReplicaTarget
from meshserve.settings import LARGEST_BODY_BYTES

CANCELLED = Failure(FailureKind.CANCELLED, "The call was cancelled by its caller.")


class CallFailed(Exception):
    """A call ended with a failure; raised on the I/O thread only, where nothing is unpickled.

    Attributes:
        failure: why.
        finish: status and trailers that user code had set, or None.
    """

    def __init__(self, failure: Failure, finish: Finish | None = None) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.finish = finish


class Reply:
    """The outcome of a unary call, now or later.

    Await it, or give it a callback. Exactly one of `payload` and `failure` is set once `done`.

    Attributes:
        canceller: ends the call with a failure; None once it is over.
        retainer: has the result kept where it is made, see `routing.flight.Flight.retain`; None once it is over.
        slot: what a call that only reserves has got.
    """

    # On the class: one is made per call.
    done = False
    payload: Payload | None = None
    failure: Failure | None = None
    finish: Finish | None = None
    canceller: Callable[[Failure], None] | None = None
    retainer: Callable[[str, Callable[[str], None]], None] | None = None
    slot: Slot | None = None
    _callback: Callable[[Reply], None] | None = None
    _waiter: asyncio.Future[None] | None = None

    def resolve(self, payload: Payload | None, failure: Failure | None, finish: Finish | None = None) -> None:
        """Sets the outcome; a second one is ignored."""
        if self.done:
            return
        self.done = True
        self.payload = payload
        if failure is not None or finish is not None:
            self.failure, self.finish = failure, finish
        self.canceller = self.retainer = None
        callback, self._callback = self._callback, None  # kept, it would be a cycle with whoever holds the reply
        if callback is not None:
            callback(self)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def on_done(self, callback: Callable[[Reply], None]) -> None:
        """Calls back with the reply once it is done, at once if it is; earlier callbacks are called first."""
        if self.done:
            callback(self)
        elif (earlier := self._callback) is None:
            self._callback = callback
        else:

            def both(reply: Reply) -> None:
                earlier(reply)
                callback(reply)

            self._callback = both

    def cancel(self, failure: Failure = CANCELLED) -> None:
        """Cancels the call wherever it is; the failure given becomes its outcome."""
        if self.canceller is not None:
            self.canceller(failure)

    def __await__(self) -> Generator[asyncio.Future[None], None, Payload]:
        """Waits. Cancelling the waiting task cancels the call.

        Raises:
            CallFailed: the call has no result.
        """
        if not self.done:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                yield from self._waiter
            except asyncio.CancelledError:
                self.cancel()
                raise
        if self.failure is not None:
            raise CallFailed(self.failure, self.finish)
        assert self.payload is not None
        return self.payload


class ReplyStream:
    """A streaming call: its output items, and its input.

    Output is bounded by credits: `take` grants the callee more as items are consumed. The call's producer side
    (a router) fills in the three hooks `canceller`, `granter` and `sender`.

    Attributes:
        done: no more items will arrive (some may still be buffered).
        failure: why the stream ended early, or None.
        timer: of the deadline, cancelled at the end.
        finish: status and trailers that user code set, once done.
    """

    __slots__ = (
        "_items",
        "_listener",
        "_on_done",
        "_waiter",
        "accepted",
        "canceller",
        "done",
        "failure",
        "finish",
        "granter",
        "input_waiters",
        "sender",
        "timer",
    )

    def __init__(self) -> None:
        self.done = False
        self.accepted = False
        self.failure: Failure | None = None
        self.finish: Finish | None = None
        self.canceller: Callable[[Failure], None] | None = None
        self.granter: Callable[[int], None] | None = None
        self.sender: InputSender | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.input_waiters: deque[asyncio.Future[None]] = deque()
        self._items: deque[Payload] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._listener: StreamListener | None = None
        self._on_done: Callable[[Failure | None], None] | None = None

    # -- the producer's side -------------------------------------------------------------------------------------

    def push(self, items: Sequence[Payload]) -> None:
        """Adds output items."""
        if self._listener is not None:
            self._listener.on_items(items)
            return
        self._items.extend(items)
        self._wake()

    def finished(self, failure: Failure | None, finish: Finish | None = None) -> None:
        """Ends the output; a second end is ignored. Items pushed before stay readable."""
        if self.done:
            return
        self.done, self.failure, self.finish = True, failure, finish
        self.canceller = self.granter = self.sender = None
        if self.timer is not None:
            self.timer.cancel()
        for waiter in self.input_waiters:
            if not waiter.done():
                waiter.set_result(None)
        on_done, listener = self._on_done, self._listener
        self._on_done = self._listener = None  # kept, they would be cycles with whoever holds the stream
        if on_done is not None:
            on_done(failure)
        if listener is not None:
            listener.on_finished(failure, finish)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- the consumer's side -------------------------------------------------------------------------------------

    def listen(self, listener: StreamListener) -> None:
        """Sends items and the end to a listener instead of buffering; the listener grants credits itself."""
        self._listener = listener
        if self._items:
            items = list(self._items)
            self._items.clear()
            listener.on_items(items)
        if self.done:
            listener.on_finished(self.failure, self.finish)

    def keep(self, items: Sequence[Payload]) -> None:
        """Buffers again: for a listener that gives back what it was told last."""
        self._listener = None
        self._items.extendleft(reversed(items))

    def on_done(self, callback: Callable[[Failure | None], None]) -> None:
        """Calls back once with the failure when the stream has ended, at once if it has; there is one callback."""
        if self.done:
            callback(self.failure)
        else:
            self._on_done = callback

    def grant(self, credits: int) -> None:
        """Allows the callee more output items."""
        if self.granter is not None:
            self.granter(credits)

    async def take(self) -> list[Payload]:
        """Waits for output; returns all that is there, an empty list at the end. Grants credits for what it returns.

        Raises:
            CallFailed: the stream ended with a failure (after all items before it were taken).
        """
        while not self._items:
            if self.done:
                if self.failure is not None:
                    raise CallFailed(self.failure, self.finish)
                return []
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        items = list(self._items)
        self._items.clear()
        if self.granter is not None:
            self.granter(sum(credit_cost(item.size_bytes) for item in items))
        return items

    async def send(self, item: Payload) -> bool:
        """Sends an input item once credits allow; False when the call has ended and nobody reads it."""
        while self.sender is not None and not self.sender.send(item):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.input_waiters.append(waiter)
            await waiter
        return not self.done

    def end_input(self) -> None:
        """Says that no more input follows."""
        if self.sender is not None:
            self.sender.end()

    def wake_senders(self) -> None:
        """Lets waiting `send`s try again; called by the producer when credits arrive or the call moves."""
        while self.input_waiters:
            waiter = self.input_waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def cancel(self, failure: Failure = CANCELLED) -> None:
        """Cancels the call wherever it is; the stream ends with the failure given."""
        if self.canceller is not None:
            self.canceller(failure)


class StreamListener(Protocol):
    """Receives a stream's output on the I/O thread."""

    def on_items(self, items: Sequence[Payload]) -> None:
        """Items arrived."""

    def on_finished(self, failure: Failure | None, finish: Finish | None) -> None:
        """The stream ended."""


class InputSender(Protocol):
    """The way of input items to the callee."""

    def send(self, item: Payload) -> bool:
        """Sends if credits allow; False to try again when `wake_senders` is called."""

    def end(self) -> None:
        """No more input."""


class SingleItem:
    """The one response of a client-streaming call, as a reply.

    Args:
        stream: the call.
    """

    def __init__(self, stream: ReplyStream) -> None:
        self.reply = Reply()
        self.reply.canceller = stream.cancel
        self._item: Payload | None = None
        stream.listen(self)

    def on_items(self, items: Sequence[Payload]) -> None:
        """See `StreamListener`."""
        self._item = items[0]

    def on_finished(self, failure: Failure | None, finish: Finish | None) -> None:
        """See `StreamListener`."""
        self.reply.resolve(self._item, failure, finish)


class Service(Protocol):
    """Something that serves calls: a session, a router, a stack of layers."""

    def unary(self, call: Call) -> Reply:
        """Starts a unary call. Never raises; failures are on the reply."""

    def stream(self, call: Call) -> ReplyStream:
        """Starts a call with a stream on either side; a client-streaming call's one response is its only item.

        Never raises; failures are on the stream.
        """


class Slot(Service, Protocol):
    """A slot held at a replica, as a service for the one call that may use it.

    Attributes:
        target: the replica.
    """

    target: ReplicaTarget

    def release(self) -> None:
        """Gives the slot back unless it was used; may be repeated."""


Layer: TypeAlias = Callable[[Service], Service]


def stack(layers: Sequence[Layer], service: Service) -> Service:
    """Wraps a service in layers, outermost first."""
    for layer in reversed(layers):
        service = layer(service)
    return service


def item_cost(item: Payload) -> int:
    """The credits of an item that is to be sent.

    Raises:
        ValueError: no message can carry it.
    """
    if item.size_bytes > LARGEST_BODY_BYTES and not isinstance(item, SharedPayload | BroughtPayload):
        raise ValueError(too_large("an item", item.size_bytes))
    return credit_cost(item.size_bytes)


def too_large(what: str, size_bytes: int) -> str:
    """What to say of a body that no message can carry."""
    return (
        f"{what} of {size_bytes:,} bytes cannot be sent; at most {LARGEST_BODY_BYTES:,} can. Send it in parts, or send "
        "where it is."
    )


def credit_cost(size_bytes: int) -> int:
    """The credits an item costs: one for each started 4 KiB, at least one."""
    return 1 + (size_bytes - 1) // 4096 if size_bytes > 4096 else 1
