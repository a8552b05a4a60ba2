"""What a plain callable returned -> an HTTP response."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.responses import Response, StreamingResponse

from meshserve.user.json_body import to_json

Whole = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers and body of a response that is complete."""

_BYTES_TYPE = b"text/plain"
_TEXT_TYPE = b"text/plain; charset=utf-8"
_JSON_TYPE = b"application/json"


def response_of(result: Any) -> Whole | Response:
    """Maps a result to a response.

    | returned                              | response                                                 |
    |---------------------------------------|----------------------------------------------------------|
    | Starlette `Response` of any kind      | itself                                                   |
    | None                                  | 200, empty, `text/plain`                                 |
    | bytes, bytearray, memoryview          | 200, `text/plain`                                        |
    | str                                   | 200, `text/plain; charset=utf-8`                         |
    | generator, asynchronous or not        | 200, streamed: bytes and str as they are, else JSON lines |
    | anything else                         | 200, compact JSON                                        |

    Raises:
        ValueError, TypeError: the result cannot be encoded as JSON.
    """
    if isinstance(result, Response):
        return _whole(result)
    if isinstance(result, str):
        return _ok(_TEXT_TYPE, result.encode())
    if isinstance(result, bytes | bytearray | memoryview):
        return _ok(_BYTES_TYPE, bytes(result))
    if result is None:
        return _ok(_BYTES_TYPE, b"")
    if inspect.isasyncgen(result):
        return StreamingResponse(_chunks(result), media_type="text/plain")
    if inspect.isgenerator(result):
        return StreamingResponse(_chunks_sync(result), media_type="text/plain")
    return _ok(_JSON_TYPE, to_json(result))


def _ok(media_type: bytes, body: bytes) -> Whole:
    return 200, [(b"content-length", b"%d" % len(body)), (b"content-type", media_type)], body


def _whole(response: Response) -> Whole | Response:
    """A response that is nothing but its content needs no ASGI to be sent."""
    if type(response).__call__ is not Response.__call__ or response.background is not None:
        return response
    return response.status_code, response.raw_headers, bytes(response.body)


async def _chunks(items: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for item in items:
        yield _chunk(item)


def _chunks_sync(items: Iterator[Any]) -> Iterator[bytes]:
    for item in items:
        yield _chunk(item)


def _chunk(item: Any) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    return to_json(item) + b"\n"
