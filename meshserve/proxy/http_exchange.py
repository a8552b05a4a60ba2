"""One HTTP request on its way through the proxy: the server on one side, a stream of items on the other."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from meshserve.model.call import Payload
from meshserve.model.failure import Failure, FailureKind
from meshserve.proxy.http_answers import INTERNAL_ERROR, Answer, answer_to, too_large, too_silent
from meshserve.proxy.http_head import REQUEST_ID
from meshserve.proxy.http_request import RequestFacts
from meshserve.routing.service import CallFailed, ReplyStream
from meshserve.wire.http import (
    BodyEnd,
    BodyPiece,
    BodyWanted,
    Message,
    ResponseEvent,
    ResponseStart,
    Trailers,
    body_pieces,
    pairs,
    response_event,
)

Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

TRANSFER_ENCODING = b"transfer-encoding"

EARLY_S = 0.05
"""How much too early a timer may fire: the loop's clock is coarse, and read once per round."""

log = logging.getLogger(__name__)


class ClientConnection(Protocol):
    """What an exchange does with the connection that its request came by; see `http_client.Client`."""

    def on_lost(self, callback: Callable[[], object] | None) -> None:
        """Calls back when the client is gone; None to stop."""

    async def respond(self, status: int, headers: Sequence[bytes], body: bytes) -> bool:
        """Sends a whole response; False when the client is gone, ValueError when it cannot be sent as it is."""

    def stop_asking(self) -> None:
        """A response begins; who has not been asked for the body of the request will not be."""

    async def send_pieces(self, pieces: Sequence[bytes]) -> None:
        """Sends pieces of a body that has begun, with more to follow."""

    def finish_with_trailers(self, headers: Sequence[bytes]) -> None:
        """Ends a chunked response with trailers."""

    def break_off(self) -> None:
        """Closes the connection in the middle of a response."""


class Refused(Exception):
    """The request is answered by the proxy itself.

    Attributes:
        answer: the answer.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body.decode())
        self.answer = answer


class ClientGone(Exception):
    """The client went away before its request was complete; nobody waits for an answer."""


class Body:
    """The request's body as the client sends it, within its limits.

    Args:
        receive: the server's.
        limit_bytes: the most, or None.
        silence_s: how long the client may send nothing.
    """

    __slots__ = ("_limit_bytes", "_receive", "_silence_s", "_size_bytes", "complete")

    def __init__(self, receive: Receive, limit_bytes: int | None, silence_s: float) -> None:
        self.complete = False
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._silence_s = silence_s
        self._size_bytes = 0

    async def next(self) -> bytes:
        """The next stretch; sets `complete` with the last.

        Raises:
            Refused: it is too large, or nothing came for too long.
            ClientGone: the client went away.
        """
        try:
            async with asyncio.timeout(self._silence_s):
                message = await self._receive()
        except TimeoutError:
            raise Refused(too_silent(self._silence_s)) from None
        if message["type"] != "http.request":
            raise ClientGone
        body: bytes = message["body"]
        self.complete = not message["more_body"]
        self._size_bytes += len(body)
        if self._limit_bytes is not None and self._size_bytes > self._limit_bytes:
            raise Refused(too_large(self._limit_bytes))
        return body

    async def rest(self) -> bytes:
        """All of a small body."""
        pieces = [await self.next()]
        while not self.complete:
            pieces.append(await self.next())
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Exchange:
    """Carries one call's response to the client, and the rest of the request's body to the call.

    Args:
        facts: of the request.
        deadline: on the monotonic clock, or None.
        client: the connection.
        send: the server's.

    Attributes:
        status: of the response; 0 before there is one.
    """

    __slots__ = (
        "_client",
        "_deadline",
        "_facts",
        "_over",
        "_refusal",
        "_send",
        "_start_upload",
        "_started",
        "_trailers",
        "_upload_task",
        "status",
    )

    def __init__(self, facts: RequestFacts, deadline: float | None, client: ClientConnection, send: Send) -> None:
        self.status = 0
        self._started = False
        self._over = False
        self._facts = facts
        self._deadline = deadline
        self._client = client
        self._send = send
        self._trailers = False
        self._refusal: Answer | None = None
        self._start_upload: Callable[[], None] | None = None
        self._upload_task: asyncio.Task[None] | None = None

    async def run(self, stream: ReplyStream, body: Body | None) -> None:
        """Serves the call to the end of its response. The call may go on behind that; nobody waits for it.

        Args:
            stream: the call.
            body: what is still to come of the request's body; None when the call has it all.
        """
        if self._facts.watches_disconnect:
            self._client.on_lost(stream.cancel)
        if body is not None:
            self._start_upload = lambda: self._begin_upload(stream, body)
            if not self._facts.expects_continue:
                self._start_upload()
        try:
            while not self._over:
                items = await stream.take()
                if not items:
                    raise CallFailed(INCOMPLETE)
                await self._forward(items)
        except CallFailed as failed:
            await self._fail(failed.failure)
        except asyncio.CancelledError:  # the server is closing
            stream.cancel()
            raise
        finally:
            self._client.on_lost(None)
            self._start_upload = None
            if self._upload_task is not None:
                self._upload_task.cancel()

    # -- the request's body ----------------------------------------------------------------------------------------

    def _begin_upload(self, stream: ReplyStream, body: Body) -> None:
        """Reads the body from now on; reading it is what asks a client for it that waits for that."""
        self._start_upload = None
        self._upload_task = asyncio.get_running_loop().create_task(self._upload(stream, body))

    async def _upload(self, stream: ReplyStream, body: Body) -> None:
        """Sends the body as fast as the application takes it; what the client does wrong ends the call."""
        try:
            while not body.complete:
                piece = await body.next()
                for item in body_pieces(piece) if piece else ():
                    if not await stream.send(item):
                        return
        except Refused as refused:
            self._refusal = refused.answer
            stream.cancel()
        except ClientGone:
            stream.cancel()
        else:
            stream.end_input()

    # -- the response ----------------------------------------------------------------------------------------------

    async def _forward(self, items: list[Payload]) -> None:
        """Sends items on; pieces that came together leave together, each as the chunk that the application made."""
        pieces: list[bytes] = []
        for item in items:
            event = response_event(item)
            if type(event) is BodyPiece:
                pieces.append(event.body)
                continue
            if pieces:
                await self._client.send_pieces(pieces)
                pieces.clear()
            await self._send_event(event)
        if pieces:
            await self._client.send_pieces(pieces)

    async def _send_event(self, event: ResponseEvent) -> None:
        match event:
            case ResponseStart():
                await self._start(event)
            case BodyPiece(body):
                await self._send_body(body, more=True)
            case BodyEnd(body):
                self._over = not self._trailers
                await self._send_body(body, more=self._trailers)
            case BodyWanted():
                if self._start_upload is not None:
                    self._start_upload()
            case Trailers(headers, more):
                if not more:
                    self._over = True
                    self._client.finish_with_trailers(headers)

    async def _start(self, start: ResponseStart) -> None:
        self.status = start.status
        headers = start.headers
        if not any(name.lower() == REQUEST_ID for name in headers[::2]):
            headers += (REQUEST_ID, self._facts.request_id.encode("latin-1"))
        if start.complete and TRANSFER_ENCODING not in headers:
            await self._send_whole(start.status, headers, start.body)
            return
        self._started = True
        self._over = start.complete
        self._trailers = start.trailers
        self._client.stop_asking()
        await self._send({"type": "http.response.start", "status": start.status, "headers": pairs(headers)})
        if start.body or start.complete:
            await self._send_body(start.body, more=not start.complete)

    async def _send_whole(self, status: int, headers: list[bytes], body: bytes) -> None:
        self._over = True
        try:
            await self._client.respond(status, headers, body)
        except ValueError as error:
            log.error("Request %s: its response cannot be sent: %s.", self._facts.request_id, error)
            await self.answer(INTERNAL_ERROR)

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def answer(self, answer: Answer) -> None:
        """Answers without the application."""
        self._over = True
        headers = [*answer.headers(), REQUEST_ID, self._facts.request_id.encode("latin-1")]
        sent = await self._client.respond(answer.status, headers, answer.body)
        self.status = answer.status if sent else 0

    async def _fail(self, failure: Failure) -> None:
        if not self._started:
            await self.answer(self._refusal or answer_to_failed(failure, self._facts, self._deadline))
            return
        log_fault(failure, self._facts)
        self._client.break_off()


def answer_to_failed(failure: Failure, facts: RequestFacts, deadline: float | None) -> Answer:
    """The answer to a request whose call has failed; logs what nobody else would.

    Args:
        deadline: of the request.
    """
    log_fault(failure, facts)
    timed_out = deadline is not None and time.monotonic() >= deadline - EARLY_S
    return answer_to(failure, facts.request_id, facts.timeout_s if timed_out else None)


def log_fault(failure: Failure, facts: RequestFacts) -> None:
    """Logs what went wrong outside user code: what that raised is in its replica's log."""
    if failure.kind in (FailureKind.REPLICA_LOST, FailureKind.INVALID, FailureKind.INTERNAL):
        log.warning("Request %s failed: %s", facts.request_id, failure.message)


INCOMPLETE = Failure(FailureKind.INTERNAL, "The call ended before its response was complete.")
