"""What the HTTP ingress answers by itself: failures of calls, limits, unknown paths."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from meshserve.model.failure import Failure, FailureKind

TEXT = b"text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """A small response.

    Attributes:
        closes: the connection is not to be used further.
        own_headers: what else it says: a name, its value, the next name, ...
    """

    status: int
    body: bytes
    content_type: bytes = TEXT
    retry_after_s: float | None = None
    closes: bool = False
    own_headers: tuple[bytes, ...] = ()

    def headers(self) -> list[bytes]:
        """Its headers: a name, its value, the next name, ..."""
        headers = [b"content-type", self.content_type, *self.own_headers]
        if self.retry_after_s is not None:
            headers += (b"retry-after", b"%d" % math.ceil(self.retry_after_s))
        if self.closes:
            headers += (b"connection", b"close")
        return headers


Page: TypeAlias = Callable[[], Awaitable[Answer]]
"""What the ingress answers at a path by itself."""

INTERNAL_ERROR = Answer(500, b"Internal Server Error")


def not_found(path: str, routes_url: str) -> Answer:
    """No application has a prefix of the path."""
    return Answer(404, f"Path '{path}' not found. Ping {routes_url} for available routes.".encode())


def about_server(method: str) -> Answer:
    """A request for `*`, the server as a whole: OPTIONS asks whether it is well; no other may (RFC 9110, 9.3.7)."""
    return Answer(200, b"") if method == "OPTIONS" else Answer(400, b"Only OPTIONS may ask for '*'; give a path.")


def timed_out(request_id: str, timeout_s: float) -> Answer:
    """The request's own timeout has passed."""
    return Answer(408, f"Request {request_id} timed out after {timeout_s:g}s.".encode())


def too_silent(timeout_s: float) -> Answer:
    """The client did not send the body it had announced."""
    return Answer(408, f"The request's body did not arrive: nothing came for {timeout_s:g}s.".encode(), closes=True)


def too_large(limit_bytes: int) -> Answer:
    """The body is larger than allowed."""
    return Answer(413, f"The request's body is larger than {limit_bytes} bytes.".encode())


def head_too_large(limit_bytes: int) -> Answer:
    """The head is larger than allowed."""
    return Answer(431, f"The request's head is larger than {limit_bytes} bytes.".encode(), closes=True)


def unavailable(reason: str) -> Answer:
    """This proxy cannot serve at the moment."""
    return Answer(503, reason.encode(), retry_after_s=1)


def answer_to(failure: Failure, request_id: str, timeout_s: float | None) -> Answer:
    """The answer to a failed call.

    What user code raised is told to nobody outside. A deadline that is not the request's own (user code called
    something that took too long) is an error of user code, and so is a cancellation while the client is still there.

    Args:
        timeout_s: the request's timeout, when that has passed; else None.
    """
    if failure.kind in (FailureKind.BACKPRESSURE, FailureKind.UNAVAILABLE):
        return Answer(failure.status, failure.message.encode(), retry_after_s=failure.retry_after_s)
    if failure.kind is FailureKind.DEADLINE and timeout_s is not None:
        return timed_out(request_id, timeout_s)
    return INTERNAL_ERROR
