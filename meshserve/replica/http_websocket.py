"""One WebSocket in the replica: ASGI's receive and send on one side, the invocation's items on the other."""

from __future__ import annotations

from meshserve.model.call import Payload
from meshserve.replica.adapter import Invocation
from meshserve.replica.http_channel import Inlet, Outlet
from meshserve.wire.http import (
    Message,
    WebSocketDecoder,
    accept_item,
    body_end,
    body_pieces,
    close_item,
    message_items,
    response_items,
)

SWITCHING = 101
"""The status with which a handshake is accepted."""


class WebSocketExchange:
    """Receives the client's messages, sends the application's.

    Args:
        invocation: the call; it streams both ways.
    """

    __slots__ = ("_connected", "_decoder", "_denial", "_gone", "_inlet", "_invocation", "_outlet", "closed")

    def __init__(self, invocation: Invocation) -> None:
        self.closed = False
        self._invocation = invocation
        self._outlet = Outlet(invocation)
        self._inlet = Inlet(invocation, self._decode)
        self._decoder = WebSocketDecoder("websocket.receive", "websocket.disconnect")
        self._gone: Message | None = None
        self._connected = False
        self._denial: Message | None = None

    def _decode(self, item: Payload) -> Message | None:
        """The message that an item completes. Runs ahead of the application, which learns here on its next `send`
        that the client is gone, even when it never receives."""
        messages = self._decoder.decode(item)
        if not messages:
            return None
        (message,) = messages
        if message["type"] == "websocket.disconnect":
            self.closed = True
        return message

    async def receive(self) -> Message:
        """See ASGI: `websocket.connect`, messages, and `websocket.disconnect` from then on for ever."""
        if not self._connected:
            self._connected = True
            self._inlet.open()
            return {"type": "websocket.connect"}
        if self._gone is not None:
            return self._gone
        message = await self._inlet.get()
        if message is None:
            message = {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        if message["type"] == "websocket.disconnect":
            self._gone = message
        return message

    async def send(self, message: Message) -> None:
        """See ASGI: accept, messages, close, or an HTTP response instead of accepting.

        Raises:
            OSError: the client is gone.
            RuntimeError: the message is none of these.
        """
        if self.closed:
            raise OSError("the WebSocket is closed")
        kind = message["type"]
        if kind == "websocket.send":
            await self._outlet.put(message_items(message))
        elif kind == "websocket.accept":
            self._invocation.status = SWITCHING
            await self._outlet.put((accept_item(message),))
        elif kind == "websocket.close":
            self.closed = True
            await self._outlet.put((close_item(message),))
        elif kind == "websocket.http.response.start":
            self._denial = message
        elif kind == "websocket.http.response.body":
            await self._deny(message)
        else:
            raise RuntimeError(f"The application sent {kind!r}, which is no message of a WebSocket.")

    async def _deny(self, message: Message) -> None:
        start, self._denial = self._denial, None
        body, more = bytes(message.get("body", b"")), bool(message.get("more_body"))
        if start is not None:
            await self._outlet.put(response_items(start["status"], start.get("headers", ()), body, more=more))
        else:
            await self._outlet.put(body_pieces(body) if more else body_end(body))
        self.closed = not more

    def close(self) -> None:
        """The application has returned, or failed."""
        self._inlet.close()
