"""One WebSocket on its way through the proxy: the server on one side, a stream of items on the other."""

from __future__ import annotations

import asyncio
import time

from meshserve.model.failure import Failure, FailureKind
from meshserve.proxy.http_answers import Answer, answer_to
from meshserve.proxy.http_exchange import Receive, Send
from meshserve.proxy.http_head import REQUEST_ID
from meshserve.proxy.http_request import RequestFacts
from meshserve.routing.service import CallFailed, ReplyStream
from meshserve.wire.http import Message, WebSocketDecoder, close_item, message_items, pairs

SWITCHING = 101
FORBIDDEN = 403
"""How the server answers the handshake when the application closes instead of accepting."""

UNHEARD_S = 10.0
"""How long an application may go on sending to a client that is gone before its call is cancelled."""


def _closing(failure: Failure) -> tuple[int, str]:
    """How a WebSocket is closed whose call failed: 1012 ("service restart") tells its client to connect again."""
    if failure.kind is FailureKind.REPLICA_LOST and not failure.exception:
        return 1012, "the replica ended; connect again"
    return 1011, "the application failed"


class WebSocketTunnel:
    """Carries messages both ways between a client and a call.

    Once the WebSocket is accepted, a client that goes away does not cancel the call: the application receives the
    disconnect and ends by itself.

    Args:
        facts: of the request.
        receive: the server's.
        send: the server's.
        unheard_s: see `UNHEARD_S`.

    Attributes:
        status: with which the handshake was answered; 0 before that.
    """

    __slots__ = ("_accepted", "_closed", "_decoder", "_facts", "_gone_at", "_receive", "_send", "_unheard_s", "status")

    def __init__(self, facts: RequestFacts, receive: Receive, send: Send, unheard_s: float = UNHEARD_S) -> None:
        self.status = 0
        self._facts = facts
        self._receive = receive
        self._send = send
        self._decoder = WebSocketDecoder("websocket.send", "websocket.close")
        self._accepted = False
        self._closed = False
        self._gone_at: float | None = None
        self._unheard_s = unheard_s

    async def run(self, stream: ReplyStream) -> None:
        """Serves the call to its end."""
        upload = asyncio.get_running_loop().create_task(self._upload(stream))
        try:
            while items := await stream.take():
                for item in items:
                    for message in self._decoder.decode(item):
                        await self._forward(stream, message)
            await self._close(1000, "")
        except CallFailed as failed:
            if self._accepted:
                await self._close(*_closing(failed.failure))
            else:
                await self.deny(answer_to(failed.failure, self._facts.request_id, None))
        except asyncio.CancelledError:  # the server is closing
            stream.cancel()
            raise
        finally:
            upload.cancel()

    # -- from the client -------------------------------------------------------------------------------------------

    async def _upload(self, stream: ReplyStream) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._gone_at = time.monotonic()
                self._closed = True
                if self._accepted:
                    await stream.send(close_item(message | {"code": message.get("code") or 1005}))
                    stream.end_input()
                else:
                    stream.cancel()
                return
            for item in message_items(message):
                if not await stream.send(item):
                    return

    # -- to the client ---------------------------------------------------------------------------------------------

    async def _forward(self, stream: ReplyStream, message: Message) -> None:
        if self._closed:
            if self._gone_at is not None and time.monotonic() - self._gone_at > self._unheard_s:
                stream.cancel()
            return
        kind = message["type"]
        if kind == "websocket.accept":
            self._accepted, self.status = True, SWITCHING
            message["headers"].append((REQUEST_ID, self._facts.request_id.encode("latin-1")))
        elif kind == "websocket.close" or (kind == "websocket.http.response.body" and not message["more_body"]):
            self._closed = True
            self.status = self.status or FORBIDDEN
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
            message["headers"].append((REQUEST_ID, self._facts.request_id.encode("latin-1")))
        await self._send_unless_gone(message)

    async def _send_unless_gone(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:  # the client left at this very moment; `_upload` hears of it
            self._closed = True

    async def _close(self, code: int, reason: str) -> None:
        if not self._closed:
            self._closed = True
            await self._send_unless_gone({"type": "websocket.close", "code": code, "reason": reason})

    async def deny(self, answer: Answer) -> None:
        """Answers the handshake with an HTTP response."""
        if self._closed:
            return
        self._closed = True
        self.status = answer.status
        headers = [*pairs(answer.headers()), (REQUEST_ID, self._facts.request_id.encode("latin-1"))]
        await self._send_unless_gone(
            {"type": "websocket.http.response.start", "status": answer.status, "headers": headers}
        )
        await self._send_unless_gone({"type": "websocket.http.response.body", "body": answer.body, "more_body": False})
