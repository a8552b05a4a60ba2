"""What a handle with `stream=True` gives back: the items of one streaming call, as they come."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Generic, NoReturn, TypeVar

from meshserve.errors import MeshServeException
from meshserve.model.call import Encoding, Finish, Payload
from meshserve.model.failure import Failure
from meshserve.routing.crossing import to_io
from meshserve.routing.response import HeldClaim, Pending, interop, refuse_in_loop, refuse_without_references
from meshserve.routing.scope import RequestScope
from meshserve.routing.service import ReplyStream, credit_cost
from meshserve.rpc.lending import decoded_apart
from meshserve.settings import INITIAL_CREDITS
from meshserve.wire.claims import decode_claim
from meshserve.wire.values import decode_value

R = TypeVar("R")


class StreamedItems(Pending):
    """The inbox of a streaming call: filled on the I/O thread, emptied by whoever iterates.

    Kept apart from `DeploymentResponseGenerator` so that the call in flight does not keep that alive: dropping
    the generator is how a consumer that loses interest ends the call.
    """

    def __init__(self, request_id: str, scope: RequestScope | None = None) -> None:
        super().__init__(request_id, scope)
        self.items: deque[Payload | HeldClaim] = deque()
        self.done = False
        self.consumed = 0

    # -- I/O thread ----------------------------------------------------------------------------------------------

    def _started(self, stream: ReplyStream) -> None:
        """The call is on its way."""
        self._flight = stream
        stream.listen(self)

    def on_items(self, items: Sequence[Payload]) -> None:
        """See `routing.service.StreamListener`."""
        for item in items:
            self.items.append(HeldClaim(decode_claim(item)) if item.encoding is Encoding.CLAIM else item)
        self.wake()

    def on_finished(self, failure: Failure | None, finish: Finish | None) -> None:
        """See `routing.service.StreamListener`."""
        if not self.done:
            self._failure = failure
            self.done = True
            self._forget()
            self.wake()

    def _failed(self, failure: Failure) -> None:
        self.on_finished(failure, None)

    @property
    def _over(self) -> bool:
        return self.done

    def abandon(self) -> None:
        """Nobody will read the rest."""
        if self._flight is not None and not self.done:
            self._flight.cancel()

    def _grant(self, credits: int) -> None:
        if self._flight is not None:
            self._flight.grant(credits)

    # -- the caller's side ---------------------------------------------------------------------------------------

    def take(self) -> Payload | HeldClaim:
        """Takes the next item that is there; allows the callee as much more."""
        item = self.items.popleft()
        self.consumed += credit_cost(item.size_bytes)
        if self.consumed >= INITIAL_CREDITS // 4 and not self.done:
            to_io(self._grant, self.consumed)
            self.consumed = 0
        return item

    def end(self) -> None:
        """Raises the failure the stream ended with, if any."""
        if self._failure is not None:
            raise self._exception(self._failure)

    async def more(self) -> bool:
        """Waits in a coroutine for an item; False at the end."""
        while not self.items:
            if self.done and not self.items:
                self.end()
                return False
            waiter = self.wait_async()
            if not self.items and not self.done:
                await waiter
        return True

    def more_sync(self) -> bool:
        """Waits in a thread for an item; False at the end."""
        while not self.items:
            if self.done and not self.items:
                try:
                    self.end()
                except asyncio.CancelledError as error:
                    raise self._cancellation() from error
                return False
            event = self.wait_sync()
            if not self.items and not self.done:
                event.wait()
        return True


class DeploymentResponseGenerator(Generic[R]):
    """The items of one streaming call; iterate it with `async for`, or with `for` in synchronous code.

    The callee is at most some thousand items (or 4 MiB) ahead of the iteration. Dropping the generator cancels the
    call.
    """

    __slots__ = ("_stream",)

    def __init__(self, stream: StreamedItems) -> None:
        self._stream = stream

    @property
    def request_id(self) -> str:
        """Of the request the call belongs to."""
        return self._stream.request_id

    def cancel(self) -> None:
        """Cancels the call: while it waits, on its way, or in user code. Best effort; may be repeated."""
        self._stream.cancel()

    def cancelled(self) -> bool:
        """Whether `cancel` was called; not whether it came in time."""
        return self._stream.cancelled()

    def __aiter__(self) -> AsyncIterator[R]:
        return self

    async def __anext__(self) -> R:
        stream = self._stream
        if not stream.items and not await stream.more():
            raise StopAsyncIteration
        item = stream.take()
        if type(item) is Payload:
            small: R = decode_value(item)
            return small
        payload = await interop().collect_parcel(item.claim) if isinstance(item, HeldClaim) else item
        large: R = await decoded_apart(payload)
        return large

    def __iter__(self) -> Iterator[R]:
        refuse_in_loop("iterating with `for`", "async for")
        return self

    def __next__(self) -> R:
        stream = self._stream
        if not stream.items:
            refuse_in_loop("next()", "await anext(response)")
            if not stream.more_sync():
                raise StopIteration
        item = stream.take()
        payload = interop().collect_parcel_sync(item.claim) if isinstance(item, HeldClaim) else item
        value: R = decode_value(payload)
        return value

    async def _to_object_ref_gen(self) -> AsyncIterator[Any]:
        """An iterator over the items as `ray.ObjectRef`s, as they come.

        Raises:
            RuntimeError: local testing mode, which has no ObjectRefs.
        """
        refuse_without_references()
        return self._references()

    async def _references(self) -> AsyncIterator[Any]:
        async for item in self:
            yield await interop().put(item)

    def _to_object_ref_gen_sync(
        self, _timeout_s: float | None = None, _allow_running_in_asyncio_loop: bool = False
    ) -> Iterator[Any]:
        """As `_to_object_ref_gen`, in synchronous code.

        Args:
            _timeout_s: accepted for compatibility; nothing is waited for before the first item is asked for.
            _allow_running_in_asyncio_loop: accepted for compatibility; iterating blocks, and refuses to in a loop.
        """
        refuse_without_references()
        refs: Iterator[Any] = interop().put_items(iter(self))
        return refs

    def __await__(self) -> NoReturn:
        raise TypeError(
            f"`{type(self).__name__}` cannot be awaited directly: a streaming call has no single result. "
            "Use `async for` or `await anext(response)`."
        )

    def result(self, **_: Any) -> NoReturn:
        """Not for a streaming call; raises TypeError."""
        raise TypeError(
            f"`{type(self).__name__}` doesn't support `.result()`: a streaming call has no single result. Use `for` or "
            "`async for`."
        )

    def __reduce__(self) -> NoReturn:
        raise MeshServeException("A streaming response cannot be sent: iterate it and send its items.")

    def __del__(self) -> None:
        if not self._stream.done:
            to_io(self._stream.abandon)
