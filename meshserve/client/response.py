"""What calls from outside return: one value to come, or a stream of them; with and without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import Future
from typing import Any

import grpc.aio

from meshserve.client.failures import error_of
from meshserve.errors import CallTimeoutError, RequestCancelledError
from meshserve.rpc.io_thread import LoopThread
from meshserve.v1.generic_pb2 import CallServiceCallResponse, CallServiceCallStreamResponse
from meshserve.wire.json_values import decode_json

Start = Coroutine[Any, Any, Any]


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
    """Values to come, one after the other: iterate with `for` or `async for`. The server waits while nobody asks.

    Args:
        call: the stream, opened on the I/O thread.
        io: the I/O thread.
        request_id: of the request.

    Attributes:
        request_id: under which the mesh's logs know the request.
    """

    def __init__(self, call: Coroutine[Any, Any, Any], io: LoopThread, request_id: str) -> None:
        self.request_id = request_id
        self._io = io
        self._call: Future[Any] = io.submit(call)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        found = self._io.run(self._next())
        if found is grpc.aio.EOF:
            raise StopIteration
        return found

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        found = await asyncio.wrap_future(self._io.submit(self._next()))
        if found is grpc.aio.EOF:
            raise StopAsyncIteration
        return found

    async def _next(self) -> Any:
        """The next value; EOF at the end. Raises as `Response.result`."""
        call = await asyncio.wrap_future(self._call)
        try:
            response = await call.read()
        except grpc.aio.AioRpcError as error:
            raise error_of(error, self.request_id) from None
        except asyncio.CancelledError:
            raise RequestCancelledError(self.request_id) from None
        return response if response is grpc.aio.EOF else value_of(response)

    def cancel(self) -> None:
        """Cancels the call, wherever it is."""
        self._io.call_soon(self._cancel)

    def _cancel(self) -> None:
        self._call.add_done_callback(lambda future: None if future.exception() else future.result().cancel())
