"""HTTP requests that can be sent on: their body is there, and what binds them to a connection is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NoReturn

from starlette.requests import Request

_SENT_ON = (
    "type",
    "asgi",
    "http_version",
    "method",
    "scheme",
    "path",
    "raw_path",
    "query_string",
    "root_path",
    "headers",
    "client",
    "server",
    "path_params",
)
"""The parts of the scope that are plain data. The rest belongs to the process that received the request."""


class BufferedRequest(Request):
    """A Starlette request with its whole body; pickles.

    Args:
        scope: of the request.
        body: its body.
    """

    def __init__(self, scope: Mapping[str, Any], body: bytes) -> None:
        super().__init__({key: scope[key] for key in _SENT_ON if key in scope}, _nothing_more)
        self._body = body

    def __reduce__(self) -> tuple[type[BufferedRequest], tuple[dict[str, Any], bytes]]:
        return BufferedRequest, (dict(self.scope), self._body)


async def buffered(request: Request) -> BufferedRequest:
    """Reads the rest of a request's body."""
    return BufferedRequest(request.scope, await request.body())


async def _nothing_more() -> NoReturn:
    """In the place of the connection: it neither brings more nor is known to end."""
    await asyncio.Event().wait()
    raise AssertionError("an event that nobody sets was set")
