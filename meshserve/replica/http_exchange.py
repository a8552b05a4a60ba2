"""One HTTP request in the replica: ASGI's receive and send on one side, the invocation's items on the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from meshserve.model.call import Payload
from meshserve.replica.adapter import Invocation
from meshserve.replica.http_channel import Inlet, Outlet
from meshserve.wire.http import (
    PIECE_BYTES,
    Message,
    body_end,
    body_pieces,
    body_wanted_item,
    response_items,
    trailers_item,
)

DISCONNECT: Message = {"type": "http.disconnect"}


def _body_of(item: Payload) -> bytes:
    return item.body


class HttpExchange:
    """Receives the request's body, sends the response.

    The response's start is held back until the application gives way to others or sends a piece of the body, so that a
    small response leaves as one item.

    Args:
        invocation: the call; it streams in when the body does.
        body: the first piece of the body, or all of it when the call does not stream in.
        asks: whether the client waits to be asked for the body.

    Attributes:
        started: whether the response has begun.
        over: whether the response is complete.
    """

    __slots__ = (
        "_asks",
        "_body",
        "_inlet",
        "_invocation",
        "_loop",
        "_outlet",
        "_start",
        "_trailers",
        "_waiter",
        "over",
        "started",
    )

    def __init__(self, invocation: Invocation, body: bytes, *, asks: bool = False) -> None:
        self.started = False
        self.over = False
        self._asks = asks
        self._invocation = invocation
        self._loop = asyncio.get_running_loop()
        self._outlet = Outlet(invocation)
        self._inlet = Inlet(invocation, _body_of) if invocation.call.kind.streams_in else None
        self._body: bytes | None = body
        self._start: Message | None = None
        self._trailers = False
        self._waiter: asyncio.Event | None = None

    # -- the request's body --------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """See ASGI: `http.request` until the body has ended, then `http.disconnect` once the response is complete.

        A client that disconnects earlier is not reported here: the call is cancelled.
        """
        if self.over:
            return DISCONNECT
        if self._body is not None:
            return await self._next_piece(self._body)
        if self._waiter is None:
            self._waiter = asyncio.Event()
        await self._waiter.wait()
        return DISCONNECT

    async def _next_piece(self, body: bytes) -> Message:
        if self._inlet is None:
            self._body = None
            return {"type": "http.request", "body": body, "more_body": False}
        if self._asks:
            await self._outlet.put((body_wanted_item(),))
            self._asks = False
        piece = await self._inlet.get()
        if piece is None:
            self._body = None
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": piece, "more_body": True}

    # -- the response ----------------------------------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        """See ASGI: the response's start, body and trailers.

        Raises:
            RuntimeError: the message does not fit what was sent before.
        """
        kind = message["type"]
        if kind == "http.response.start" and not self.started:
            self.started = True
            self._start = message
            self._invocation.status = message["status"]
            self._trailers = bool(message.get("trailers"))
            self._loop.call_soon(self._release_start)
        elif kind == "http.response.body" and self.started and not self.over:
            more = bool(message.get("more_body"))
            await self._send_body(bytes(message.get("body", b"")), more)
        elif kind == "http.response.trailers" and self._trailers and not self.over:
            more = bool(message.get("more_trailers"))
            await self._outlet.put((trailers_item(message.get("headers", ()), more=more),))
            if not more:
                self._finish()
        else:
            raise RuntimeError(f"The application sent {kind!r}, which has no place here: {self._progress()}.")

    def _progress(self) -> str:
        if self.over:
            return "its response is complete"
        return "its response has begun" if self.started else "its response has not begun"

    def _release_start(self) -> None:
        """Sends the start alone, unless the body has come or there is no room (then it goes with the body)."""
        start = self._start
        if start is not None:
            (item,) = response_items(start["status"], start.get("headers", ()), b"", more=True, trailers=self._trailers)
            if self._outlet.try_put(item):
                self._start = None

    async def _send_body(self, body: bytes, more: bool) -> None:
        start, self._start = self._start, None
        items: Iterable[Payload]
        if start is not None:
            items = response_items(start["status"], start.get("headers", ()), body, more=more, trailers=self._trailers)
        else:
            items = body_pieces(body) if more else body_end(body)
        if not more and not self._trailers:
            self._finish()
        await self._outlet.put(items)

    async def respond(self, status: int, headers: Iterable[Iterable[bytes]], body: bytes) -> Payload | None:
        """Sends a whole response; gives a small one back instead, to leave as the result of the call."""
        self.started = True
        self._invocation.status = status
        self._finish()
        items = response_items(status, headers, body, more=False)
        if len(body) <= PIECE_BYTES:
            (item,) = items
            return item
        await self._outlet.put(items)
        return None

    def _finish(self) -> None:
        self.over = True
        if self._waiter is not None:
            self._waiter.set()

    def close(self) -> None:
        """The application has returned, or failed."""
        self._finish()
        if self._inlet is not None:
            self._inlet.close()
