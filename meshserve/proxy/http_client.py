"""The client of a request: what ASGI has no words for, about the connection that a request came by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from meshserve.proxy.http_head import header_lines, response_head

EXTENSION = "meshserve.client"
"""Where a scope holds its `Client`."""


class Connection(Protocol):
    """What a client needs of the connection's protocol.

    Attributes:
        lost_callback: called when the connection is lost.
        server_lines: the headers that every response has, as lines.
    """

    lost_callback: Callable[[], object] | None

    @property
    def server_lines(self) -> bytes:
        """See above."""


class Client:
    """See the module.

    Args:
        connection: the connection.
        cycle: the request's; pipelined ones share a connection.
    """

    __slots__ = ("_connection", "_cycle")

    def __init__(self, connection: Connection, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle

    def on_lost(self, callback: Callable[[], object] | None) -> None:
        """Calls back when the client is gone, at once if it is; None to stop."""
        self._connection.lost_callback = callback
        if callback is not None and self._cycle.disconnected:
            callback()

    async def respond(self, status: int, headers: Sequence[bytes], body: bytes) -> bool:
        """Sends a whole response with one write; by two messages it would be two system calls, and two wake-ups of
        the client.

        Args:
            headers: a name, its value, the next name, ...

        Returns:
            Whether there is a client to send it to.

        Raises:
            ValueError: it cannot be sent as it is; nothing of it was.
        """
        cycle = self._cycle
        if cycle.flow.write_paused:
            await cycle.flow.drain()
        if cycle.disconnected:
            return False
        self.stop_asking()
        data, cycle.keep_alive = response_head(status, headers).with_body(
            self._connection.server_lines,
            body,
            is_head=cycle.scope["method"] == "HEAD",
            keep_alive=cycle.keep_alive,
        )
        cycle.response_started = True
        cycle.transport.write(data)
        self._complete()
        return True

    def stop_asking(self) -> None:
        """A response leaves while the client waits to be asked for its body. It may send that or not, so that what
        comes next on the connection could be told by nobody: nothing does. One that has begun to send does not wait."""
        cycle = self._cycle
        if cycle.waiting_for_100_continue and cycle.more_body and not cycle.body:
            cycle.keep_alive = False

    async def send_pieces(self, pieces: Sequence[bytes]) -> None:
        """Sends pieces of a body that has begun with one write; clients see each as a chunk of its own.

        Raises:
            RuntimeError: the body is longer than was announced.
        """
        cycle = self._cycle
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
        if cycle.disconnected or cycle.response_complete:
            return
        if cycle.chunked_encoding and cycle.scope["method"] != "HEAD":
            cycle.transport.write(b"0\r\n" + header_lines(headers) + b"\r\n")
        self._complete()

    def _complete(self) -> None:
        cycle = self._cycle
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    def break_off(self) -> None:
        """Closes the connection in the middle of a response: the only way left to say that it failed."""
        self._cycle.disconnected = True
        self._cycle.transport.close()


def _chunk(piece: bytes) -> tuple[bytes, ...]:
    """A piece of a body in chunked encoding; an empty one would be the body's end."""
    return b"%x\r\n" % len(piece), piece, b"\r\n"
