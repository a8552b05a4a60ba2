"""uvicorn's HTTP/1.1 protocol with what a server that faces the world needs besides: limits, and word of lost clients.

uvicorn bounds neither the head of a request nor the time a client takes over it. ASGI tells of a lost client only to
who waits for it, which would cost a task per request, and uvicorn knows no trailers. The connection is therefore
handed to the application in the scope's extensions, as a `Client`.

A request whose body is small is held back until that is there, which it is at once or with the next packet. It is then
offered to `begin`, which may serve it in callbacks (`http_direct`). One whose body takes longer becomes a task as any
other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias, cast
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from meshserve.proxy.http_answers import Answer, head_too_large
from meshserve.proxy.http_client import EXTENSION, Client
from meshserve.proxy.http_direct import Arrived, DirectRequest
from meshserve.proxy.http_head import header_lines, response_head
from meshserve.proxy.http_request import facts_of
from meshserve.proxy.options import HttpOptions

HOLD_S = 0.05
"""How long a small body may take before its request becomes a task."""

LINGER_S = 2.0
"""How long a refused client may take to read why."""


class Dated(ServerState):
    """uvicorn's state of a server.

    Attributes:
        lines: the headers that every response has, as lines.
    """

    lines = b""

    def show(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Says what every response has."""
        self.default_headers = headers
        self.lines = header_lines([part for header in headers for part in header])


Begin: TypeAlias = Callable[["IngressProtocol", Arrived], bool]
"""Serves a request that is complete; False when it needs a task."""


class IngressProtocol(HttpToolsProtocol):
    """See the module.

    Args:
        config: uvicorn's.
        server_state: shared by all connections of the server.
        options: the limits.
        begin: see the module; None when every request is to be a task.
    """

    server_state: Dated

    def __init__(self, config: Config, server_state: Dated, options: HttpOptions, begin: Begin | None) -> None:
        super().__init__(config, server_state, {}, asyncio.get_running_loop())
        self.lost_callback: Callable[[], object] | None = None
        self._options = options
        self._begin = begin
        self._held: Arrived | None = None
        self._hold_timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head_bytes = 0
        self._hosts = 0
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
        self._disarm_idle_timer()
        self._release()
        super().connection_lost(exc)
        if self.lost_callback is not None:
            self.lost_callback()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self._refused:
            return
        self._chunk_bytes = len(data)
        self._spans_chunks = self._in_head
        # A chunk in which a head begins may hold other requests before it, so what it holds of the head is not known
        # yet: its begin sets this back. The chunks after it are nothing but head. Trailers are counted likewise.
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > self._options.max_header_bytes:
            self._refuse(head_too_large(self._options.max_header_bytes))
        elif self._in_head and self._head_timer is None and not self._refused:
            self._arm_head_timer()

    def shutdown(self) -> None:
        """Called when the server stops: a request in hand is the last one."""
        self._held_for_long()
        super().shutdown()

    # -- a request's head --------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Called by the parser at a request's first byte."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._hosts = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser, for trailers of a chunked body too. These are dropped: as headers they would say what a
        server in front may have kept from the application (RFC 9110, 6.5.1)."""
        if self._in_head:
            name = name.lower()
            if name == b"host":
                self._hosts += 1
            elif name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Called by the parser; raising ends the connection by way of `send_400_response`."""
        self._in_head = False
        self._head_bytes = 0
        if self._head_timer is not None:
            self._disarm_head_timer()
        if self._hosts > 1:  # servers in front may go by another one than the application (RFC 9112, 3.2)
            raise ValueError("more than one host")
        if self._spans_chunks or self._chunk_bytes > self._options.max_header_bytes:
            self._check_head()
        if self.expect_100_continue and self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # such a client cannot understand that it is asked (RFC 9110, 10.1.1)
        before = self.cycle
        if self._begin is not None and (before is None or before.response_complete) and self._hold():
            return
        super().on_headers_complete()
        if self.cycle is not before:
            self._introduce(self.cycle)

    def _introduce(self, cycle: RequestResponseCycle) -> None:
        extensions: dict[str, Any] = {EXTENSION: Client(self, cycle)}
        cycle.scope["extensions"] = extensions

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
        self._release()
        head = response_head(answer.status, answer.headers())
        data, _ = head.with_body(self.server_lines, answer.body, is_head=False, keep_alive=False)
        self.transport.write(data)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._head_timer = self.loop.call_later(LINGER_S, self.transport.close)
        else:
            self.transport.close()

    # -- a small request ---------------------------------------------------------------------------------------------

    def _hold(self) -> bool:
        """Holds a request back, if it is one that may be served in callbacks."""
        parser, scope = self.parser, self.scope
        if parser.should_upgrade():
            return False
        facts = facts_of(self.headers, self._options.request_timeout_s)
        if not facts.is_plain:
            return False
        version = parser.get_http_version()
        if version != "1.1":
            scope["http_version"] = version
        scope["method"] = parser.get_method().decode("ascii")
        url = httptools.parse_url(self.url)
        scope["raw_path"] = url.path
        path = url.path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["query_string"] = url.query or b""
        keep_alive = version != "1.0" and parser.should_keep_alive()
        self._held = Arrived(scope, facts, b"", keep_alive)  # type: ignore[arg-type]  # uvicorn's scope is a TypedDict
        if facts.content_length:
            self._hold_timer = self.loop.call_later(HOLD_S, self._held_for_long)
        return True

    def _release(self) -> Arrived | None:
        """Gives up the request that is held back."""
        held, self._held = self._held, None
        if self._hold_timer is not None:
            self._hold_timer.cancel()
            self._hold_timer = None
        return held

    def _held_for_long(self) -> None:
        held = self._release()
        if held is not None:
            self.cycle = self._as_task(held, self.app, complete=False)

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._head_bytes = 0
        if self._held is None:
            super().on_body(body)
        else:
            self._held.body += body

    def on_message_complete(self) -> None:
        """Called by the parser at a request's end."""
        held = self._release()
        if held is not None:
            assert self._begin is not None
            if not self._begin(self, held):
                self.cycle = self._as_task(held, self.app, complete=True)
            return
        super().on_message_complete()
        if self._lingers:
            self._lingers = False
            self._disarm_head_timer()
            idle_s = self.timeout_keep_alive
            self.timeout_keep_alive_task = self.loop.call_later(idle_s, self.timeout_keep_alive_handler)

    def _as_task(self, request: Arrived, app: Any, *, complete: bool) -> RequestResponseCycle:
        """Serves a request as uvicorn would have served it."""
        cycle = RequestResponseCycle(
            scope=request.scope,  # type: ignore[arg-type]  # as above
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=request.keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.disconnected = self.transport.is_closing()
        cycle.body += request.body
        cycle.more_body = not complete
        if complete or request.body:
            cycle.message_event.set()
        self._introduce(cycle)
        self._start_asgi_task(cycle, app)
        return cycle

    # -- for direct requests -----------------------------------------------------------------------------------------

    @property
    def server_lines(self) -> bytes:
        """See `http_client.Connection`."""
        return self.server_state.lines

    @property
    def is_writable(self) -> bool:
        """See `http_direct.Connection`."""
        return not self.flow.write_paused

    @property
    def is_gone(self) -> bool:
        """See `http_direct.Connection`."""
        return self._refused or self.transport.is_closing()

    def serve(self, direct: DirectRequest) -> None:
        """See `http_direct.Connection`."""
        self.cycle = direct  # type: ignore[assignment]  # uvicorn asks it for the attributes that a cycle has

    def respond(self, data: bytes, keep_alive: bool) -> None:
        """See `http_direct.Connection`."""
        if self.is_gone:
            return
        self.transport.write(data)
        if not keep_alive:
            self.transport.close()
        elif self.pipeline:
            self.on_response_complete()
        else:
            self._rest()

    def resume(self, direct: DirectRequest) -> None:
        """See `http_direct.Connection`."""
        cycle, present = self._as_task(direct.request, direct.run, complete=True), cast("object", self.cycle)
        if present is direct:  # else another one came behind it
            self.cycle = cycle

    # -- a request's body, when its response came first ------------------------------------------------------------

    def on_response_complete(self) -> None:
        """Called by a request's cycle. What is left of the body is read and dropped: closing at once would reset the
        connection, and the client would lose the response."""
        super().on_response_complete()
        self._idle_since = self.loop.time()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._lingers = True
            self._arm_head_timer()

    # -- the clock -----------------------------------------------------------------------------------------------------

    def _arm_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self._options.receive_timeout_s, self._head_timed_out)

    def _disarm_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _rest(self) -> None:
        """The connection is idle. One timer does for many requests: to set and cancel one for each costs 4 us."""
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._rested)

    def _rested(self) -> None:
        self._idle_timer = None
        if self._in_head or self._held is not None or not self.cycle.response_complete:
            return  # it is set again when the connection is idle again
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._idle_timer = self.loop.call_later(left_s, self._rested)
        else:
            self.timeout_keep_alive_handler()

    def _disarm_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def handle_websocket_upgrade(self) -> None:
        """Called when the connection becomes a WebSocket's, which may be silent for as long as it likes."""
        self._disarm_idle_timer()
        super().handle_websocket_upgrade()

    def _head_timed_out(self) -> None:
        self._head_timer = None
        if not self._in_head:
            self.transport.close()  # nothing was asked
            return
        text = f"The request's head did not arrive within {self._options.receive_timeout_s:g}s.".encode()
        self._refuse(Answer(408, text, closes=True))
