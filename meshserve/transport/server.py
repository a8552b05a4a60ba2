"""The server's end: serves servicers of generated code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any, NoReturn

import grpc
import grpc.aio

from meshserve.transport.connection import HEADER_BYTES, Connection
from meshserve.transport.frames import (
    END_STREAM,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    PREFACE,
    RST_STREAM,
    ConnectionBroken,
    ErrorCode,
    frame,
)
from meshserve.transport.headers import (
    Headers,
    Metadata,
    Request,
    Status,
    request_from,
    response_headers,
    trailers,
)
from meshserve.transport.stream import Stream

log = logging.getLogger(__name__)

CALLS_OF_A_CLIENT = 10_000
"""Calls that one connection may have under way."""

OK = Status(grpc.StatusCode.OK)

Handler = Any
"""A `grpc.RpcMethodHandler` whose behaviour is a coroutine function or an asynchronous generator."""

Check = Callable[[Metadata], Status | None]
"""Says by a call's metadata why it is refused."""


class Aborted(Exception):
    """A handler has ended its call with a status."""


class Server:
    """Serves what generated code adds to it. Lives on the loop where it is started.

    Args:
        check: looks at every call before anything of it is read.
    """

    def __init__(self, check: Check) -> None:
        self.check = check
        self.connections: set[ServerConnection] = set()
        self._handlers: dict[str, Handler] = {}
        self._listening: asyncio.Server | None = None

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """Adds the methods of a service; called by generated code."""
        for method, handler in handlers.items():
            self._handlers[f"/{service}/{method}"] = handler

    def add_generic_rpc_handlers(self, handlers: Iterable[object]) -> None:
        """Called by generated code for grpcio's older servers; the same methods are registered by name."""

    def handler(self, path: str) -> Handler | None:
        """What serves a method; None if nothing does."""
        return self._handlers.get(path)

    async def start(self, host: str, port: int) -> int:
        """Listens.

        Args:
            port: 0 for any free one.

        Returns:
            The port.

        Raises:
            RuntimeError: the port cannot be bound.
        """
        loop = asyncio.get_running_loop()
        try:
            self._listening = await loop.create_server(
                lambda: ServerConnection(self), host.strip("[]"), port, backlog=4096
            )
        except OSError as error:
            raise RuntimeError(f"{host}:{port} cannot be bound: {error}") from error
        return int(self._listening.sockets[0].getsockname()[1])

    async def stop(self, grace_s: float | None) -> None:
        """Takes no more calls; those under way have `grace_s` seconds to end, and are cancelled then."""
        if self._listening is not None:
            self._listening.close()
        for connection in tuple(self.connections):
            connection.leave()
        tasks = [task for connection in self.connections for task in connection.tasks]
        if tasks and grace_s:
            await asyncio.wait(tasks, timeout=grace_s)
        for connection in tuple(self.connections):
            for task in tuple(connection.tasks):
                task.cancel()
            connection.hang_up()


class ServerConnection(Connection):
    """A client's connection.

    Args:
        server: what it serves.

    Attributes:
        tasks: of the calls under way.
    """

    def __init__(self, server: Server) -> None:
        super().__init__({MAX_CONCURRENT_STREAMS: CALLS_OF_A_CLIENT, MAX_HEADER_LIST_SIZE: HEADER_BYTES})
        self.tasks: set[asyncio.Task[None]] = set()
        self._server = server
        self._greeting = b""
        self._greeted = False
        self._last_stream = 0
        self._leaving = False

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        self._server.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone, or was sent away."""
        self._server.connections.discard(self)
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """The client's greeting, then frames."""
        if not self._greeted:
            self._greeting += data
            size = len(PREFACE)
            if self._greeting[:size] != PREFACE[: len(self._greeting)]:
                self.hang_up()  # whoever that is, it would not understand an answer
                return
            if len(self._greeting) < size:
                return
            self._greeted, data = True, self._greeting[size:]
        super().data_received(data)

    def on_headers(self, stream_id: int, headers: Headers, last: bool) -> None:
        """A call begins, or a client ends its side with trailers."""
        if stream_id in self.streams:
            super().on_headers(stream_id, headers, last)
            return
        if stream_id % 2 == 0 or stream_id <= self._last_stream:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, f"stream {stream_id} cannot begin")
        self._last_stream = stream_id
        if self._leaving or len(self.streams) >= CALLS_OF_A_CLIENT:
            self.write(frame(RST_STREAM, 0, stream_id, ErrorCode.REFUSED_STREAM.to_bytes(4, "big")))
            return
        self._begin(stream_id, request_from(headers), last)

    def _begin(self, stream_id: int, request: Request, last: bool) -> None:
        handler = self._server.handler(request.path)
        call = ServerCall(self, stream_id, handler, request)
        self.streams[stream_id] = call
        if last:
            call.input_over()
        if (refused := self._server.check(request.metadata)) is not None:
            call.finish(refused)
        elif request.refusal:
            call.finish(Status(grpc.StatusCode.UNIMPLEMENTED, request.refusal))
        elif handler is None:
            call.finish(Status(grpc.StatusCode.UNIMPLEMENTED, f"there is no method {request.path!r} here"))
        else:
            call.task = task = asyncio.get_running_loop().create_task(serve(call, handler))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def leave(self) -> None:
        """Takes no more calls."""
        self._leaving = True
        self.say_goodbye(self._last_stream, ErrorCode.NO_ERROR, "the server stops")


class ServerCall(Stream):
    """A call from a client; what servicers get as their context.

    Attributes:
        task: which serves it.
    """

    task: asyncio.Task[None] | None = None

    def __init__(self, connection: ServerConnection, stream_id: int, handler: Handler | None, request: Request) -> None:
        serialize = handler.response_serializer if handler is not None else None
        deserialize = handler.request_deserializer if handler is not None else None
        super().__init__(connection, stream_id, serialize, deserialize)
        self._request = request
        self._begun = False
        self._timer: asyncio.TimerHandle | None = None
        if request.timeout_s is not None:
            self._timer = asyncio.get_running_loop().call_later(request.timeout_s, self._expire)

    def invocation_metadata(self) -> Metadata:
        """What the client sent along."""
        return self._request.metadata

    def send(self, message: Any) -> None:
        """See `Stream`."""
        if not self._begun and not self._over:
            self._begun = True
            self.connection.write(self.connection.header_frames(self.id, response_headers()))
        super().send(message)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """Ends the call with a status.

        Raises:
            Aborted: always, so that the handler ends.
        """
        self.finish(Status(code, details, trailing_metadata))
        raise Aborted(details)

    def finish(self, status: Status) -> None:
        """Ends the call with a status, after the messages that were sent; does nothing when it is over."""
        if self._over:
            return
        headers = trailers(status) if self._begun else response_headers() + trailers(status)
        # Made when it is their turn: headers are compressed in the order in which they go out.
        self.send_last(lambda: self.connection.header_frames(self.id, headers, END_STREAM))

    def finished(self) -> None:
        """See `Stream`; a client that still sends is told that nobody reads."""
        self.connection.streams.pop(self.id, None)
        if not self._input_over:
            self.connection.write(frame(RST_STREAM, 0, self.id, ErrorCode.NO_ERROR.to_bytes(4, "big")))
        self._settle()

    def gone(self) -> None:
        """See `Stream`; the handler is cancelled."""
        super().gone()
        self._settle()
        if self.task is not None:
            self.task.cancel()

    def _expire(self) -> None:
        self.finish(Status(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed"))
        if self.task is not None:
            self.task.cancel()

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def serve(call: ServerCall, handler: Handler) -> None:
    """Runs the handler of a call, and sends how it ended."""
    try:
        await _answer(call, handler)
        call.finish(OK)
    except Aborted:
        pass
    except asyncio.CancelledError:  # the client is gone, or the server stops: this task has nothing else to end
        call.finish(Status(grpc.StatusCode.CANCELLED, "the server has cancelled the call"))
    except Exception as error:
        log.exception("A method of the mesh failed.")
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
