"""ASGI messages and scopes <-> payloads. Proxy and replica speak ASGI on their sides; this is what lies between.

See http.proto for the contract. What runs once per request does as little as possible: headers go over as one flat
list, a body is never inside a message but beside it, and a piece of a body is no message at all. Messages are filled
field by field, which costs less than keywords.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, TypeAlias

from meshserve.model.call import Encoding, Payload
from meshserve.v1 import http_pb2

Message: TypeAlias = dict[str, Any]
"""An ASGI message."""

Scope: TypeAlias = dict[str, Any]
"""An ASGI connection scope."""

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""ASGI headers: names in lower case, in the order received."""

PIECE_BYTES = 256 * 1024
"""The largest piece of a body in one item; a larger one would hold up the session for others."""

_TEXT_PIECE_CHARS = PIECE_BYTES // 4
"""Characters of a WebSocket text in one item: at most so many bytes as UTF-8."""


_REASON_BYTES = 123
"""What a WebSocket's close frame has room for, beside its code (RFC 6455, 5.5)."""

_flat = chain.from_iterable
"""Pairs of name and value as one list: a name, its value, the next name, ..."""


def pairs(flat: Iterable[bytes]) -> Headers:
    """Flat headers as pairs of name and value."""
    parts = iter(flat)
    return list(zip(parts, parts, strict=False))


# -- the request's head --------------------------------------------------------------------------------------------


def request_payload(scope: Scope, root_path: str, body: bytes) -> Payload:
    """The arguments of a call for an HTTP request or a WebSocket.

    Args:
        scope: as the server made it, with the full path.
        root_path: the prefix under which the application is mounted.
        body: the whole body if that is known already, else empty.
    """
    raw_path: bytes = scope["raw_path"]
    head = http_pb2.HttpRequestHead()
    head.raw_path = raw_path
    head.headers.extend(_flat(scope["headers"]))
    if query := scope["query_string"]:
        head.query_string = query
    if b"%" in raw_path:
        head.path = scope["path"]
    is_http = scope["type"] == "http"
    if not is_http:
        head.subprotocols.extend(scope["subprotocols"])
    shared = _shared_head(
        scope["method"] if is_http else None,
        root_path,
        scope["http_version"],
        scope["scheme"],
        scope.get("client"),
        scope.get("server"),
    )
    # Serialized messages one after the other are the message with the fields of both.
    return Payload(head.SerializeToString() + shared, Encoding.HTTP, (body,) if body else ())


@lru_cache(maxsize=4096)
def _shared_head(
    method: str | None,
    root_path: str,
    http_version: str,
    scheme: str,
    client: tuple[str, int] | None,
    server: tuple[str, int | None] | None,
) -> bytes:
    """What requests of one connection have in common, as a serialized head; without a method that of a WebSocket."""
    head = http_pb2.HttpRequestHead()
    if root_path:
        head.root_path = root_path
    if http_version != "1.1":
        head.http_version = http_version
    if scheme in ("https", "wss"):
        head.scheme = scheme
    if client:
        head.client_host, head.client_port = client
    if server:
        head.server_host, head.server_port = server[0], server[1] or 0
    if method is None:
        head.websocket = True
    else:
        head.method = method
    return head.SerializeToString()


def scope_of(payload: Payload) -> Scope:
    """The ASGI scope of a call's arguments. Its `state` is left to the caller."""
    head = http_pb2.HttpRequestHead.FromString(payload.body)
    raw_path = head.raw_path
    scope: Scope = {
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": head.http_version or "1.1",
        "path": head.path or raw_path.decode("ascii", "replace"),
        "raw_path": raw_path,
        "query_string": head.query_string,
        "root_path": head.root_path,
        "headers": pairs(head.headers),
        "client": (head.client_host, head.client_port) if head.client_host else None,
        "server": (head.server_host, head.server_port or None) if head.server_host else None,
    }
    if head.websocket:
        scope["type"] = "websocket"
        scope["scheme"] = head.scheme or "ws"
        scope["subprotocols"] = list(head.subprotocols)
        scope["extensions"] = {"websocket.http.response": {}}
    else:
        scope["type"] = "http"
        scope["scheme"] = head.scheme or "http"
        scope["method"] = head.method
        scope["extensions"] = {"http.response.trailers": {}}
    return scope


# -- bodies and responses ------------------------------------------------------------------------------------------


def body_pieces(body: bytes) -> Iterator[Payload]:
    """A stretch of a body with more to follow, in pieces that fit into an item."""
    if len(body) <= PIECE_BYTES:
        yield Payload(body, Encoding.RAW)
        return
    for at in range(0, len(body), PIECE_BYTES):
        yield Payload(body[at : at + PIECE_BYTES], Encoding.RAW)


def body_end(last: bytes) -> Iterator[Payload]:
    """The end of a body, with its last stretch."""
    whole = (len(last) - 1) // PIECE_BYTES * PIECE_BYTES if last else 0
    if whole:
        yield from body_pieces(last[:whole])
    event = http_pb2.HttpEvent(body_end=http_pb2.HttpBodyEnd())
    yield _with_buffer(event, last[whole:])


def response_items(
    status: int, headers: Iterable[Iterable[bytes]], body: bytes, *, more: bool, trailers: bool = False
) -> Iterator[Payload]:
    """A response's start together with the first stretch of its body.

    Args:
        status: the status code.
        headers: pairs of name and value.
        body: what is there of the body.
        more: whether the body goes on after that.
        trailers: whether trailers follow it.
    """
    complete = not more and not trailers and len(body) <= PIECE_BYTES
    names = tuple(_flat(headers))
    start = (_few_headers if len(names) <= FEW_NAMES else _response_start)(status, names, trailers, complete)
    yield Payload(start, Encoding.HTTP, (body[:PIECE_BYTES],) if body else ())
    if complete:
        return
    rest = body[PIECE_BYTES:]
    if not more:
        yield from body_end(rest)
    elif rest:
        yield from body_pieces(rest)


FEW_NAMES = 8
"""Names and values of a response that may well be those of the next one, too: its start is remembered."""


def _response_start(status: int, headers: tuple[bytes, ...], trailers: bool, complete: bool) -> bytes:
    """The start of a response as a serialized event."""
    event = http_pb2.HttpEvent()
    start = event.response_start
    start.status = status
    start.headers.extend(headers)
    if trailers:
        start.trailers = True
    if complete:
        start.complete = True
    return event.SerializeToString()


_few_headers = lru_cache(maxsize=512)(_response_start)


def body_wanted_item() -> Payload:
    """The application asks for the body of a client that waits to be asked."""
    return _with_buffer(http_pb2.HttpEvent(body_wanted=http_pb2.HttpBodyWanted()), b"")


def waits_to_be_asked(headers: Headers) -> bool:
    """Whether a request's client sends the body only when it is asked for it."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)


def trailers_item(headers: Iterable[Iterable[bytes]], *, more: bool) -> Payload:
    """Response trailers."""
    trailers = http_pb2.HttpTrailers(headers=_flat(headers), more=more)
    return _with_buffer(http_pb2.HttpEvent(trailers=trailers), b"")


def _with_buffer(event: http_pb2.HttpEvent, body: bytes) -> Payload:
    return Payload(event.SerializeToString(), Encoding.HTTP, (body,) if body else ())


@dataclass(slots=True)
class ResponseStart:
    """Status and headers, with what has come of the body.

    Attributes:
        headers: a name, its value, the next name, ...
        body: the first piece of the body; all of it when `complete`.
        trailers: whether trailers follow the body.
    """

    status: int
    headers: list[bytes]
    body: bytes
    complete: bool
    trailers: bool


@dataclass(slots=True)
class BodyPiece:
    """A piece of the body, with more to follow."""

    body: bytes


@dataclass(slots=True)
class BodyEnd:
    """The last piece of the body; may be empty."""

    body: bytes


@dataclass(slots=True)
class Trailers:
    """Trailers; headers as in `ResponseStart`."""

    headers: list[bytes]
    more: bool


@dataclass(slots=True)
class BodyWanted:
    """The application asks for the request's body."""


ResponseEvent: TypeAlias = ResponseStart | BodyPiece | BodyEnd | Trailers | BodyWanted


def response_event(item: Payload) -> ResponseEvent:
    """Reads an output item of an HTTP request.

    Raises:
        ValueError: it is none.
    """
    if item.encoding is Encoding.RAW:
        return BodyPiece(item.body)
    event = http_pb2.HttpEvent.FromString(item.body)
    kind = event.WhichOneof("event")
    if kind == "response_start":
        start = event.response_start
        return ResponseStart(start.status, list(start.headers), _buffer(item), start.complete, start.trailers)
    if kind == "body_end":
        return BodyEnd(_buffer(item))
    if kind == "trailers":
        return Trailers(list(event.trailers.headers), event.trailers.more)
    if kind == "body_wanted":
        return BodyWanted()
    raise ValueError(f"an HTTP response cannot carry {kind!r}")


def _buffer(item: Payload) -> bytes:
    return bytes(item.buffers[0]) if item.buffers else b""


# -- WebSockets ----------------------------------------------------------------------------------------------------


def accept_item(message: Message) -> Payload:
    """`websocket.accept`."""
    accept = http_pb2.WebSocketAccept(
        subprotocol=message.get("subprotocol") or "", headers=_flat(message.get("headers") or ())
    )
    return _with_buffer(http_pb2.HttpEvent(accept=accept), b"")


def close_item(message: Message) -> Payload:
    """`websocket.close` or `websocket.disconnect`. A reason may be no text: FastAPI gives a list of what is wrong with
    a handshake's parameters."""
    reason = str(message.get("reason") or "").encode()[:_REASON_BYTES].decode(errors="ignore")
    close = http_pb2.WebSocketClose(code=message.get("code") or 1000, reason=reason)
    return _with_buffer(http_pb2.HttpEvent(close=close), b"")


def message_items(message: Message) -> Iterator[Payload]:
    """`websocket.send` or `websocket.receive`, in pieces that fit into an item."""
    data: bytes | str | None = message.get("bytes")
    if data is None:
        data = message.get("text") or ""
    if isinstance(data, str):
        size = _TEXT_PIECE_CHARS
    else:
        data, size = bytes(data), PIECE_BYTES
    for at in range(0, max(len(data), 1), size):
        piece = data[at : at + size]
        event = http_pb2.WebSocketMessage(more=at + size < len(data))
        if isinstance(piece, str):
            event.text = piece
        else:
            event.data = piece
        yield _with_buffer(http_pb2.HttpEvent(message=event), b"")


class WebSocketDecoder:
    """Items of one direction of a WebSocket -> ASGI messages; puts long messages together again.

    Args:
        message_type: of messages: `websocket.send` on the way to the client, `websocket.receive` from it.
        close_type: of the close: `websocket.close` or `websocket.disconnect`.
    """

    def __init__(self, message_type: str, close_type: str) -> None:
        self._message_type = message_type
        self._close_type = close_type
        self._pieces: list[Any] = []

    def decode(self, item: Payload) -> tuple[Message, ...]:
        """The messages of an item; none while a message is not complete."""
        if item.encoding is Encoding.RAW:
            return _denial(item)
        event = http_pb2.HttpEvent.FromString(item.body)
        kind = event.WhichOneof("event")
        if kind == "message":
            return self._message(event.message)
        if kind == "accept":
            accept = event.accept
            subprotocol = accept.subprotocol or None
            return ({"type": "websocket.accept", "subprotocol": subprotocol, "headers": pairs(accept.headers)},)
        if kind == "close":
            return ({"type": self._close_type, "code": event.close.code, "reason": event.close.reason},)
        return _denial(item)

    def _message(self, message: http_pb2.WebSocketMessage) -> tuple[Message, ...]:
        is_text = message.WhichOneof("payload") == "text"
        piece: str | bytes = message.text if is_text else message.data
        if message.more or self._pieces:
            self._pieces.append(piece)
            if message.more:
                return ()
            piece = ("" if is_text else b"").join(self._pieces)
            self._pieces = []
        return ({"type": self._message_type, "text" if is_text else "bytes": piece},)


def _denial(item: Payload) -> tuple[Message, ...]:
    """The messages of an HTTP response that takes the place of the handshake."""
    match response_event(item):
        case ResponseStart() as start:
            message = {"status": start.status, "headers": pairs(start.headers)}
            body = _denial_body(start.body, more=not start.complete)
            return {"type": "websocket.http.response.start", **message}, body
        case BodyPiece(body):
            return (_denial_body(body, more=True),)
        case BodyEnd(body):
            return (_denial_body(body, more=False),)
        case Trailers() | BodyWanted():
            return ()


def _denial_body(body: bytes, *, more: bool) -> Message:
    return {"type": "websocket.http.response.body", "body": body, "more_body": more}
