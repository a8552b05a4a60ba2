"""The server's end: serves servicers of generated code, or generic handlers."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

import grpc

from meshserve.transport.connection import Connection
from meshserve.transport.frames import (
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    PREFACE,
    RST_STREAM,
    ConnectionBroken,
    ErrorCode,
    frame,
)
from meshserve.transport.headers import Headers, Metadata, Request, Status, request_from
from meshserve.transport.limits import TRUSTED, Limits
from meshserve.transport.server_call import Handler, ServerCall, serve

BACKLOG = 4096
"""Clients that may wait to be accepted, where the system allows as many."""

PING_STRIKES = 2
"""Pings that come too soon until a client is sent away."""

Check = Callable[[Metadata], Status | None]
"""Says by a call's metadata why it is refused."""


def nothing_to_check(metadata: Metadata) -> None:
    """Refuses no call."""


class Server:
    """Serves what generated code adds to it. Lives on the loop where it is started.

    Args:
        check: looks at every call before anything of it is read.
        limits: of every connection.
    """

    def __init__(self, check: Check = nothing_to_check, limits: Limits = TRUSTED) -> None:
        self.check = check
        self.limits = limits
        self.connections: set[ServerConnection] = set()
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._sockets: list[socket.socket] = []
        self._listening: list[asyncio.Server] = []

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Adds what says who serves a method; called by generated code, too."""
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """Called by generated code, which has added the same as generic handlers."""

    def handler(self, request: Request) -> Handler | None:
        """What serves a call; None if nothing does."""
        details: Any = request
        return next((found for one in self._handlers if (found := one.service(details)) is not None), None)

    def bind(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Takes a port; clients are accepted from `start` on.

        Args:
            host: an address or a name; `::` means every address of the machine, in IPv4 as well.
            port: 0 for any free one.
            reuse_port: whether other processes may listen there, too.

        Returns:
            The port.

        Raises:
            OSError: it cannot be bound.
        """
        host = host.strip("[]")
        if everywhere := host in ("", "::"):
            host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
        dual = everywhere and host == "::"
        family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
        bound = socket.create_server(
            (host, port), family=family, backlog=BACKLOG, reuse_port=reuse_port, dualstack_ipv6=dual
        )
        bound.setblocking(False)
        self._sockets.append(bound)
        return int(bound.getsockname()[1])

    async def start(self) -> None:
        """Accepts clients."""
        loop = asyncio.get_running_loop()
        for bound in self._sockets:
            self._listening.append(
                await loop.create_server(lambda: ServerConnection(self), sock=bound, backlog=BACKLOG)
            )

    async def stop(self, grace_s: float | None) -> None:
        """Takes no more calls; those under way have `grace_s` seconds to end, and are cancelled then."""
        for listening in self._listening:
            listening.close()
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
        peer: the client, as gRPC names it.
    """

    def __init__(self, server: Server) -> None:
        limits = server.limits
        settings = {MAX_CONCURRENT_STREAMS: limits.streams, MAX_HEADER_LIST_SIZE: limits.header_bytes}
        super().__init__(settings, limits)
        self.tasks: set[asyncio.Task[None]] = set()
        self.peer = ""
        self._server = server
        self._greeting = b""
        self._greeted = False
        self._last_stream = 0
        self._leaving = False
        self._headers: Headers = []
        self._request = Request("", ())
        self._pinged_at = 0.0
        self._strikes = 0

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        self._server.connections.add(self)
        self.peer = _peer(transport.get_extra_info("peername"))
        self._impatient = asyncio.get_running_loop().call_later(self.limits.greeting_s, self.hang_up)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone, or was sent away."""
        self._impatient.cancel()
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
            self._impatient.cancel()
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
        if self._leaving or len(self.streams) >= self.limits.streams:
            self.write(frame(RST_STREAM, 0, stream_id, ErrorCode.REFUSED_STREAM.to_bytes(4, "big")))
            return
        if headers is not self._headers:
            self._headers, self._request = headers, request_from(headers, self.limits.header_bytes)
        self._begin(stream_id, self._request, last)

    def on_ping(self) -> None:
        """A client that pings too often is sent away (grpc.io, "Keepalive")."""
        now, since = time.monotonic(), self._pinged_at
        self._pinged_at = now
        if self.wrote:  # clients ping to measure what they are sent
            self.wrote, self._strikes = False, 0
        if not self.limits.ping_interval_s or now - since >= self.limits.ping_interval_s:
            return
        self._strikes += 1
        if self._strikes > PING_STRIKES:
            raise ConnectionBroken(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")

    def _begin(self, stream_id: int, request: Request, last: bool) -> None:
        self._strikes = 0
        handler = self._server.handler(request)
        call = ServerCall(self, stream_id, handler, request)
        self.streams[stream_id] = call
        if last:
            call.input_over()
        if (refused := self._server.check(request.invocation_metadata) or request.refusal) is not None:
            call.finish(refused)
        elif handler is None:
            call.finish(Status(grpc.StatusCode.UNIMPLEMENTED, f"there is no method {request.method!r} here"))
        else:
            call.task = task = asyncio.get_running_loop().create_task(serve(call, handler))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def leave(self) -> None:
        """Takes no more calls."""
        self._leaving = True
        self.say_goodbye(self._last_stream, ErrorCode.NO_ERROR, "the server stops")


def _peer(name: Any) -> str:
    """As gRPC has it: `ipv4:127.0.0.1:50051`, `ipv6:%5B::1%5D:50051`, or `unix:`."""
    if not isinstance(name, tuple):
        return "unix:"
    host, port = name[0].removeprefix("::ffff:"), name[1]
    return f"ipv6:{quote(f'[{host}]', safe=':')}:{port}" if ":" in host else f"ipv4:{host}:{port}"
