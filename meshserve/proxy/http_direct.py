"""A small request with a small response, served in callbacks: no task, no ASGI, one write.

Most requests have their whole body with their head, and most responses come whole, as one item of the call. Such a
request costs half of what it costs as a task with an `Exchange` (see README). It is an object with three states: the
call is on its way; the response is sent; or the request turned out to need more (its response streams, the client reads
slowly) and goes on as a task, in an `Exchange` as any other. To uvicorn's protocol it is the present cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from meshserve.model.call import Encoding, Finish, Payload
from meshserve.model.failure import Failure
from meshserve.proxy.http_client import EXTENSION
from meshserve.proxy.http_exchange import INCOMPLETE, TRANSFER_ENCODING, Exchange, Receive, Send, answer_to_failed
from meshserve.proxy.http_head import ResponseHead, response_head
from meshserve.proxy.http_request import RequestFacts
from meshserve.proxy.in_flight import InFlight
from meshserve.proxy.metrics_http import HttpRecord
from meshserve.routing.service import ReplyStream
from meshserve.wire.http import ResponseStart, Scope, response_event

REMEMBERED_BYTES = 1024
"""The longest head of a response that is remembered, as it came from the replica."""

REMEMBERED_HEADS = 2048


class Connection(Protocol):
    """What a direct request does with its connection.

    Attributes:
        lost_callback: called when the connection is lost.
        server_lines: the headers that every response has, as lines.
        is_writable: whether a response would leave at once.
        is_gone: whether nobody reads a response.
    """

    lost_callback: Callable[[], object] | None

    @property
    def server_lines(self) -> bytes:
        """See above."""

    @property
    def is_writable(self) -> bool:
        """See above."""

    @property
    def is_gone(self) -> bool:
        """See above."""

    def serve(self, direct: DirectRequest) -> None:
        """Takes this as the connection's present request."""

    def respond(self, data: bytes, keep_alive: bool) -> None:
        """Sends the response of a request, which is over; a client that is gone misses it.

        Args:
            keep_alive: whether the connection may serve another one.
        """

    def resume(self, direct: DirectRequest) -> None:
        """Lets the request go on as a task: `direct.run`."""


@dataclass(slots=True)
class Arrived:
    """A request that is there with its whole body.

    Attributes:
        scope: of ASGI.
        keep_alive: whether its connection may serve another one.
    """

    scope: Scope
    facts: RequestFacts
    body: bytes
    keep_alive: bool


class _Unheard:
    """Stands where uvicorn keeps an event for those who wait for a body."""

    def set(self) -> None:
        """Nobody waits."""


class DirectRequest:
    """See the module. A `routing.service.StreamListener` of its call.

    Args:
        connection: which it came by.
        request: the request.
        deadline: on the monotonic clock, or None.
        record: told when it is over.
        in_flight: counts it while it is not.

    Attributes:
        request: the request.
        keep_alive: see uvicorn's `RequestResponseCycle`, as what follows.
    """

    __slots__ = (
        "_connection",
        "_deadline",
        "_in_flight",
        "_record",
        "_stream",
        "disconnected",
        "keep_alive",
        "request",
        "response_complete",
    )

    more_body = False
    message_event = _Unheard()

    def __init__(
        self, connection: Connection, request: Arrived, deadline: float | None, record: HttpRecord, in_flight: InFlight
    ) -> None:
        self.request = request
        self.keep_alive = request.keep_alive
        self.disconnected = False
        self.response_complete = False
        self._connection = connection
        self._deadline = deadline
        self._record = record
        self._in_flight = in_flight
        self._stream: ReplyStream | None = None

    def start(self, stream: ReplyStream) -> None:
        """Serves the request with the output of its call."""
        self._connection.serve(self)
        self._in_flight.begin()
        self._stream = stream
        if self.request.facts.watches_disconnect:
            self._connection.lost_callback = stream.cancel
        stream.listen(self)

    # -- StreamListener --------------------------------------------------------------------------------------------

    def on_items(self, items: Sequence[Payload]) -> None:
        """See `StreamListener`. The call may go on behind its response; nobody listens."""
        if self.response_complete:
            return
        item = items[0]
        head = whole_head(item)
        if head is None or not self._connection.is_writable:
            self._resume(items)
            return
        try:
            self._send(head, item.buffers[0] if item.buffers else b"")
        except ValueError:
            self._resume(items)  # which logs it

    def on_finished(self, failure: Failure | None, finish: Finish | None) -> None:
        """See `StreamListener`."""
        if self.response_complete:
            return
        if self._connection.is_gone:
            self._over(0)
            return
        if not self._connection.is_writable:
            self._resume(())
            return
        answer = answer_to_failed(failure or INCOMPLETE, self.request.facts, self._deadline)
        self._send(response_head(answer.status, answer.headers()), answer.body)

    def _send(self, head: ResponseHead, body: bytes | memoryview) -> None:
        """Sends the response; ValueError when it cannot be sent as it is."""
        data, self.keep_alive = head.with_body(
            self._connection.server_lines,
            body,
            is_head=self.request.scope["method"] == "HEAD",
            keep_alive=self.keep_alive,
            own_lines=b"" if head.has_request_id else self.request.facts.request_id_line(),
        )
        self._over(head.status)
        self._connection.respond(data, self.keep_alive)

    def _over(self, status: int) -> None:
        self.response_complete = True
        self._connection.lost_callback = None
        self._in_flight.end()
        self._record.ended(status)

    # -- as a task ---------------------------------------------------------------------------------------------------

    def _resume(self, items: Sequence[Payload]) -> None:
        assert self._stream is not None
        self.response_complete = True  # as far as this object is concerned
        self.request.keep_alive = self.keep_alive
        self._stream.keep(items)
        self._connection.resume(self)

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Goes on with what came so far; an ASGI application."""
        exchange = Exchange(self.request.facts, self._deadline, scope["extensions"][EXTENSION], send)
        try:
            assert self._stream is not None
            await exchange.run(self._stream, None)
        finally:
            self._in_flight.end()
            self._record.ended(exchange.status)


def whole_head(item: Payload) -> ResponseHead | None:
    """The head of a response that is whole; None of one that is not, or that cannot be sent with one write.

    Responses of an application have few different heads, and reading and checking one costs as much as all the rest.
    """
    if item.encoding is not Encoding.HTTP:
        return None
    return _remembered(item.body) if len(item.body) <= REMEMBERED_BYTES else _read(item.body)


def _read(event: bytes) -> ResponseHead | None:
    try:
        start = response_event(Payload(event, Encoding.HTTP))
        if type(start) is not ResponseStart or not start.complete or TRANSFER_ENCODING in start.headers:
            return None
        return response_head(start.status, start.headers)
    except ValueError:
        return None


_remembered = lru_cache(REMEMBERED_HEADS)(_read)
