"""uvicorn's HTTP/1.1 protocol with what a server that faces the world needs besides: limits, and word of lost clients.

uvicorn bounds neither the head of a request nor the time a client takes over it. ASGI tells of a lost client only to
who waits for it, which would cost a task per request, and uvicorn knows no trailers. The connection is therefore
handed to the application in the scope's extensions, as a `Client`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from meshserve.proxy.http_answers import Answer, head_too_large
from meshserve.proxy.http_head import header_lines, whole_response
from meshserve.proxy.options import HttpOptions

EXTENSION = "meshserve.client"
"""Where a scope holds its `Client`."""


LINGER_S = 2.0
"""How long a refused client may take to read why."""


class Client:
    """What ASGI has no words for, about the connection that a request came by."""

    __slots__ = ("_cycle", "_protocol")

    def __init__(self, protocol: IngressProtocol) -> None:
        self._protocol = protocol
        self._cycle: RequestResponseCycle | None = None

    def begin(self, cycle: RequestResponseCycle) -> None:
        """Says which request this is about; pipelined ones share a connection."""
        self._cycle = cycle

    def on_lost(self, callback: Callable[[], object] | None) -> None:
        """Calls back when the client is gone, at once if it is; None to stop."""
        self._protocol.lost_callback = callback
        if callback is not None and self._cycle is not None and self._cycle.disconnected:
            callback()

    async def respond(self, status: int, headers: Sequence[bytes], body: bytes) -> None:
        """Sends a whole response with one write; by two messages it would be two system calls, and two wake-ups of
        the client.

        Args:
            headers: a name, its value, the next name, ...

        Raises:
            ValueError: it cannot be sent as it is; nothing of it was.
        """
        cycle = self._cycle
        if cycle is None:
            return
        if cycle.flow.write_paused:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        data, cycle.keep_alive = whole_response(
            status,
            cycle.default_headers,
            headers,
            body,
            is_head=cycle.scope["method"] == "HEAD",
            keep_alive=cycle.keep_alive,
        )
        cycle.response_started = True
        cycle.transport.write(data)
        self._complete(cycle)

    async def send_pieces(self, pieces: Sequence[bytes]) -> None:
        """Sends pieces of a body that has begun with one write; clients see each as a chunk of its own.

        Raises:
            RuntimeError: the body is longer than was announced.
        """
        cycle = self._cycle
        if cycle is None:
            return
        if not cycle.chunked_encoding or cycle.scope["method"] == "HEAD":
            await cycle.send({"type": "http.response.body", "body": b"".join(pieces), "more_body": True})
            return
        if cycle.flow.write_paused:
            await cycle.flow.drain()
        if not cycle.disconnected:
            cycle.transport.write(b"".join([part for piece in pieces if piece for part in _chunk(piece)]))

    def finish_with_trailers(self, headers: Sequence[bytes]) -> None:
        """Ends a chunked response with trailers; any other response cannot have any, and just ends."""
        cycle = self._cycle
        if cycle is None or cycle.disconnected or cycle.response_complete:
            return
        if cycle.chunked_encoding and cycle.scope["method"] != "HEAD":
            cycle.transport.write(b"0\r\n" + header_lines(headers) + b"\r\n")
        self._complete(cycle)

    def _complete(self, cycle: RequestResponseCycle) -> None:
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    def break_off(self) -> None:
        """Closes the connection in the middle of a response: the only way left to say that it failed."""
        cycle = self._cycle
        if cycle is not None:
            cycle.disconnected = True
            cycle.transport.close()


def _chunk(piece: bytes) -> tuple[bytes, ...]:
    """A piece of a body in chunked encoding; an empty one would be the body's end."""
    return b"%x\r\n" % len(piece), piece, b"\r\n"


class IngressProtocol(HttpToolsProtocol):
    """See the module.

    Args:
        config: uvicorn's.
        server_state: uvicorn's.
        options: the limits.
    """

    def __init__(self, config: Config, server_state: ServerState, options: HttpOptions) -> None:
        super().__init__(config, server_state, {}, asyncio.get_running_loop())
        self.lost_callback: Callable[[], object] | None = None
        self._options = options
        self._client = Client(self)
        self._in_head = False
        self._head_bytes = 0
        self._chunk_bytes = 0
        self._spans_chunks = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._refusal: Answer | None = None
        self._refused = False
        self._lingers = False

    # -- the connection --------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Called by asyncio."""
        super().connection_made(transport)
        self._arm_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._disarm_head_timer()
        super().connection_lost(exc)
        if self.lost_callback is not None:
            self.lost_callback()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self._refused:
            return
        self._chunk_bytes = len(data)
        self._spans_chunks = self._in_head
        super().data_received(data)
        if self._in_head:
            # A chunk in which a head begins may hold other requests before it, so what it holds of the head is
            # not known yet; the chunks after it are nothing but head.
            self._head_bytes += self._chunk_bytes if self._spans_chunks else 0
            if self._head_bytes > self._options.max_header_bytes:
                self._refuse(head_too_large(self._options.max_header_bytes))
            elif self._head_timer is None and not self._refused:
                self._arm_head_timer()

    # -- a request's head --------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Called by the parser at a request's first byte."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        self._client = Client(self)
        extensions: dict[str, Any] = {EXTENSION: self._client}
        self.scope["extensions"] = extensions

    def on_headers_complete(self) -> None:
        """Called by the parser; raising ends the connection by way of `send_400_response`."""
        self._in_head = False
        if self._head_timer is not None:
            self._disarm_head_timer()
        if self._spans_chunks or self._chunk_bytes > self._options.max_header_bytes:
            self._check_head()
        super().on_headers_complete()
        if self.cycle is not None:
            self._client.begin(self.cycle)

    def _check_head(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._options.max_header_bytes:
            self._refusal = head_too_large(self._options.max_header_bytes)
            raise ValueError(self._refusal.body.decode())

    def send_400_response(self, msg: str) -> None:
        """Answers what cannot be parsed, or what was refused while it was being parsed."""
        self._refuse(self._refusal or Answer(400, msg.encode(), closes=True))

    def _refuse(self, answer: Answer) -> None:
        """Answers without a request, and closes the connection: for writing at once, for reading when the client has
        had time for the answer. Closing both at once would reset the connection, and the answer would be lost."""
        self._in_head = False
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._disarm_head_timer()
        data, _ = whole_response(
            answer.status,
            self.server_state.default_headers,
            answer.headers(),
            answer.body,
            is_head=False,
            keep_alive=False,
        )
        self.transport.write(data)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._head_timer = self.loop.call_later(LINGER_S, self.transport.close)
        else:
            self.transport.close()

    # -- a request's body, when its response came first ------------------------------------------------------------

    def on_response_complete(self) -> None:
        """Called by a request's cycle. What is left of the body is read and dropped: closing at once would reset the
        connection, and the client would lose the response."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._lingers = True
            self._arm_head_timer()

    def on_message_complete(self) -> None:
        """Called by the parser at a request's end."""
        super().on_message_complete()
        if self._lingers:
            self._lingers = False
            self._disarm_head_timer()
            idle_s = self.timeout_keep_alive
            self.timeout_keep_alive_task = self.loop.call_later(idle_s, self.timeout_keep_alive_handler)

    # -- the clock -----------------------------------------------------------------------------------------------------

    def _arm_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self._options.receive_timeout_s, self._head_timed_out)

    def _disarm_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_timed_out(self) -> None:
        self._head_timer = None
        if not self._in_head:
            self.transport.close()  # nothing was asked
            return
        text = f"The request's head did not arrive within {self._options.receive_timeout_s:g}s.".encode()
        self._refuse(Answer(408, text, closes=True))
