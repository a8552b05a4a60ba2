"""What calls from outside return: one value to come, or a stream of them; with and without an event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import Future
from typing import Any

import grpc.aio

from meshserve.client.failures import error_of
from meshserve.errors import CallTimeoutError, RequestCancelledError
from meshserve.routing.waiting import Waitable
from meshserve.rpc.io_thread import LoopThread
from meshserve.v1.generic_pb2 import CallServiceCallResponse, CallServiceCallStreamResponse
from meshserve.wire.json_values import decode_json

Start = Coroutine[Any, Any, Any]

AHEAD_ITEMS = 256
AHEAD_BYTES = 1 << 20
"""How far a stream is read ahead of who iterates: one crossing of threads then gives many values."""


def value_of(response: CallServiceCallResponse | CallServiceCallStreamResponse) -> Any:
    """The value in a response: bytes, or what JSON can say."""
    if response.WhichOneof("output") == "raw":
        return response.raw
    return decode_json(response.json.SerializeToString())


class Response:
    """One value to come: await it, or ask for its `result`.

    Args:
        call: gives the value; runs on the I/O thread from now on.
        io: the I/O thread.
        request_id: of the request.

    Attributes:
        request_id: under which the mesh's logs know the request.
    """

    def __init__(self, call: Start, io: LoopThread, request_id: str) -> None:
        self.request_id = request_id
        self._future: Future[Any] = io.submit(call)

    def result(self, timeout_s: float | None = None) -> Any:
        """Waits for the value. What ends the wait after `timeout_s` does not end the call.

        Raises:
            CallTimeoutError: the wait or the call took too long.
            RequestCancelledError: the call was cancelled.
            MeshServeException: the call failed, see `meshserve.exceptions`.
        """
        try:
            return self._future.result(timeout_s)
        except FutureCancelled:
            raise RequestCancelledError(self.request_id) from None
        except TimeoutError:
            if self._future.done():  # the call's own end
                raise
            raise CallTimeoutError(f"no result within {timeout_s} s; the call goes on.") from None

    def __await__(self) -> Generator[Any, None, Any]:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        try:
            return await asyncio.wrap_future(self._future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the waiting task was cancelled, and the call with it
            raise RequestCancelledError(self.request_id) from None

    def done(self) -> bool:
        """Whether the call is over."""
        return self._future.done()

    def cancel(self) -> None:
        """Cancels the call, wherever it is."""
        self._future.cancel()


class ResponseStream:
    """Values to come, one after the other: iterate with `for` or `async for`.

    The mesh is at most `AHEAD_ITEMS` values, or `AHEAD_BYTES`, ahead of the iteration; beyond that it waits. Dropping
    the stream cancels the call.

    Args:
        call: opens the stream, on the I/O thread.
        io: the I/O thread.
        request_id: of the request.

    Attributes:
        request_id: under which the mesh's logs know the request.
    """

    def __init__(self, call: Callable[[], Start], io: LoopThread, request_id: str) -> None:
        self.request_id = request_id
        self._ahead = _Ahead(io, request_id)
        self._reading = io.submit(self._ahead.read(call))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        ahead = self._ahead
        while not ahead.over_or_ready():
            event = ahead.wait_sync()
            if not ahead.over_or_ready():
                event.wait()
        found = ahead.take()
        if found is grpc.aio.EOF:
            raise StopIteration
        return found

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        ahead = self._ahead
        while not ahead.over_or_ready():
            waiter = ahead.wait_async()
            if not ahead.over_or_ready():
                await waiter
        found = ahead.take()
        if found is grpc.aio.EOF:
            raise StopAsyncIteration
        return found

    def cancel(self) -> None:
        """Cancels the call, wherever it is; what came and was not asked for is lost."""
        self._ahead.cancelled = True
        self._reading.cancel()
        self._ahead.wake()

    def __del__(self) -> None:
        self._reading.cancel()


class _Ahead(Waitable):
    """What came of a stream and was not asked for yet: filled on the I/O thread, emptied by whoever iterates.

    Apart from `ResponseStream` so that the call does not keep that alive.

    Args:
        io: the I/O thread.
        request_id: of the request.

    Attributes:
        cancelled: the client has cancelled the call.
    """

    def __init__(self, io: LoopThread, request_id: str) -> None:
        self.cancelled = False
        self._io = io
        self._request_id = request_id
        self._items: deque[CallServiceCallStreamResponse] = deque()
        self._came_bytes = 0  # counted on the I/O thread
        self._taken_bytes = 0  # counted by whoever iterates
        self._room = asyncio.Event()
        self._waits_for_room = False
        self._over = False
        self._failure: Exception | None = None

    async def read(self, open_call: Callable[[], Start]) -> None:
        """Reads the stream to its end, as far ahead as is allowed; on the I/O thread."""
        try:
            call = await open_call()
            try:
                while (response := await call.read()) is not grpc.aio.EOF:
                    self._items.append(response)
                    self._came_bytes += response.ByteSize()
                    self.wake()
                    await self._wait_for_room()
            finally:
                call.cancel()  # only what is not over can be cancelled
        except grpc.aio.AioRpcError as error:
            self._failure = error_of(error, self._request_id)
        except asyncio.CancelledError:
            self._failure = RequestCancelledError(self._request_id)
            raise
        except Exception as error:  # noqa: BLE001 - the connection may be closed; whoever iterates hears of it
            self._failure = error
        finally:
            self._over = True
            self.wake()

    async def _wait_for_room(self) -> None:
        while self._fullness() >= 1:
            self._room.clear()
            self._waits_for_room = True
            # Looked at once more: who takes looks at the flag afterwards, so one of the two sees what the other did.
            if self._fullness() >= 1:
                await self._room.wait()
            self._waits_for_room = False

    def _fullness(self) -> float:
        """How much of what is allowed is there; 1 when the call has to wait."""
        return max(len(self._items) / AHEAD_ITEMS, (self._came_bytes - self._taken_bytes) / AHEAD_BYTES)

    # -- whoever iterates ------------------------------------------------------------------------------------------

    def over_or_ready(self) -> bool:
        """Whether there is a value, or none will come."""
        return bool(self._items) or self._over or self.cancelled

    def take(self) -> Any:
        """The next value; EOF at the end. Raises as `Response.result`."""
        if self.cancelled:
            raise RequestCancelledError(self._request_id)
        if not self._items:
            if self._failure is not None:
                raise self._failure
            return grpc.aio.EOF
        response = self._items.popleft()
        self._taken_bytes += response.ByteSize()
        if self._waits_for_room and self._fullness() <= 0.5:
            self._io.call_soon(self._room.set)
        return value_of(response)
