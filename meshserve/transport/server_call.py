"""One call at a server, and how it is served: the context that servicers get, and what becomes of what they do."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio

from meshserve.transport.frames import END_STREAM
from meshserve.transport.headers import IDENTITY, Metadata, Request, Status, response_headers, trailers
from meshserve.transport.stream import Stream, Unusable

if TYPE_CHECKING:
    from meshserve.transport.server import ServerConnection

log = logging.getLogger(__name__)

HOLD_S = 0.05
"""How long a refusal waits for the client's first message."""

OK = Status(grpc.StatusCode.OK)

_COMPRESSIONS = {grpc.Compression.Gzip: "gzip", grpc.Compression.Deflate: "deflate"}

Handler = Any
"""A `grpc.RpcMethodHandler` whose behaviour is a coroutine function or an asynchronous generator."""


class ServerCall(Stream):
    """A call from a client; what servicers get as their context.

    Attributes:
        task: which serves it.
    """

    connection: ServerConnection
    task: asyncio.Task[None] | None = None
    _begun = False
    _status: Status | None = None
    _timer: asyncio.TimerHandle | None = None
    _holding: asyncio.TimerHandle | None = None
    _deadline: float | None = None
    _trailers: Metadata = ()

    def __init__(self, connection: ServerConnection, stream_id: int, handler: Handler | None, request: Request) -> None:
        serialize = handler.response_serializer if handler is not None else None
        deserialize = handler.request_deserializer if handler is not None else None
        super().__init__(connection, stream_id, serialize, deserialize)
        self.accepts = request.encoding
        self._request = request
        if request.timeout_s is not None:
            self._deadline = time.monotonic() + request.timeout_s
            self._timer = asyncio.get_running_loop().call_later(request.timeout_s, self._expire)

    # -- grpc.aio.ServicerContext --------------------------------------------------------------------------------

    def invocation_metadata(self) -> Metadata:
        """What the client sent along."""
        return self._request.invocation_metadata

    def peer(self) -> str:
        """The client, as gRPC names it."""
        return self.connection.peer

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None when there is none."""
        return max(0.0, self._deadline - time.monotonic()) if self._deadline is not None else None

    def code(self) -> grpc.StatusCode | None:
        """What the call has ended with; None while it goes on."""
        return self._status.code if self._status is not None else None

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """What is sent with the status."""
        self._trailers = tuple(metadata or ())

    def set_compression(self, compression: grpc.Compression) -> None:
        """How messages are compressed from the first on; has no effect once one was sent."""
        if not self._begun:
            self.encoding = _COMPRESSIONS.get(compression, IDENTITY)

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Sends metadata ahead of the first message."""
        self._head(metadata)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """Ends the call with a status.

        Raises:
            AbortError: always, so that the handler ends.
        """
        self.finish(Status(code, details, tuple(trailing_metadata) or self._trailers))
        raise grpc.aio.AbortError(details)

    # -- Stream --------------------------------------------------------------------------------------------------

    def send(self, message: Any) -> None:
        """See `Stream`."""
        if not self._begun:
            self._head()
        super().send(message)

    async def read(self) -> Any:
        """See `Stream`.

        Raises:
            AbortError: what came is no message; the client is told.
        """
        try:
            message = await super().read()
        except Unusable as error:
            self._fault = error
        if self._fault is not None:
            await self.abort(self._fault.code, str(self._fault))
        return message

    def finish(self, status: Status) -> None:
        """Ends the call with a status, after the messages that were sent; does nothing when it has one.

        A client of grpc.aio that hears a refusal before it has sent anything takes its first message's failure for
        what went wrong. So a refusal waits for a sign of the client, but not for long.
        """
        if self._over or self._status is not None:
            return
        self._status = status
        if status.code is grpc.StatusCode.OK or self._input_over or self._received:
            self._send_status()
        else:
            self._holding = asyncio.get_running_loop().call_later(HOLD_S, self._send_status)

    def _send_status(self) -> None:
        self._let_go()
        if self._over or self._status is None:
            return
        headers = trailers(self._status)
        if not self._begun:
            headers = response_headers(http=self._status.http) + headers
        self.send_last(lambda: self.connection.header_frames(self.id, headers, END_STREAM))

    def arrived(self, payload: bytes, size: int) -> None:
        """See `Stream`."""
        super().arrived(payload, size)
        if self._holding is not None:
            self._send_status()

    def input_over(self) -> None:
        """See `Stream`."""
        super().input_over()
        if self._holding is not None:
            self._send_status()

    def fail(self, error: Unusable) -> None:
        """See `Stream`; a handler that reads by itself hears no more."""
        super().fail(error)
        if self._receive is None:  # soon, so that a handler that does not care for messages can say its own first
            asyncio.get_running_loop().call_soon(self._cut_off, Status(error.code, str(error), self._trailers))

    def finished(self) -> None:
        """See `Stream`. A client that still sends is not interrupted: it has the status."""
        self.connection.streams.pop(self.id, None)
        self._settle()

    def gone(self) -> None:
        """See `Stream`; the handler is cancelled."""
        self._let_go()
        super().gone()
        self._settle()
        if self.task is not None:
            self.task.cancel()

    def end_well(self) -> None:
        """The handler has returned."""
        self.finish(Status(grpc.StatusCode.OK, "", self._trailers) if self._trailers else OK)

    def _head(self, metadata: Metadata = ()) -> None:
        if not self._begun and not self._over:
            self._begun = True
            headers = response_headers(self.encoding, metadata)
            self.connection.write(self.connection.header_frames(self.id, headers))

    def _expire(self) -> None:
        self._cut_off(Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", self._trailers))

    def _cut_off(self, status: Status) -> None:
        self.finish(status)
        if self.task is not None:
            self.task.cancel()

    def _let_go(self) -> None:
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def serve(call: ServerCall, handler: Handler) -> None:
    """Runs the handler of a call, and sends how it ended."""
    try:
        await _answer(call, handler)
        call.end_well()
    except grpc.aio.AbortError:
        pass
    except asyncio.CancelledError:  # the client is gone, or the server stops: this task has nothing else to end
        call.finish(Status(grpc.StatusCode.CANCELLED, "the server has cancelled the call"))
    except Unusable as error:
        call.finish(Status(error.code, str(error)))
    except Exception as error:
        log.exception("A method failed that is served at %s.", call.connection)
        call.finish(Status(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}"))


async def _answer(call: ServerCall, handler: Handler) -> None:
    request: Any = call
    if not handler.request_streaming:
        request = await call.read()
        if request is grpc.aio.EOF:
            await call.abort(grpc.StatusCode.INTERNAL, "the client ended its stream without a whole request message")
    if not handler.response_streaming:
        behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
        call.send(await behaviour(request, call))
        return
    behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
    answer = behaviour(request, call)
    if asyncio.iscoroutine(answer):  # it writes by itself
        await answer
        return
    async with aclosing(answer):
        async for message in answer:
            await call.write(message)
