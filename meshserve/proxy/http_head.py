"""A whole HTTP/1.1 response as bytes, checked before it is sent. Headers are flat: name, value, name, ..."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

BODILESS = (204, 304)

REQUEST_ID = b"x-request-id"

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
"""What a header's name, in lower case, may be made of (RFC 9110, 5.6.2); clients refuse responses with other names."""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The head of a response whose body is known; many responses have the same.

    Attributes:
        lines: status and headers as they are sent, without the empty line.
        length: the content-length that it says, or None.
        closes: whether it says that the connection is not to be used further.
        has_request_id: whether the application named the request itself.
    """

    status: int
    lines: bytes
    length: bytes | None
    closes: bool
    has_request_id: bool

    def with_body(
        self, server_lines: bytes, body: bytes | memoryview, *, is_head: bool, keep_alive: bool, own_lines: bytes = b""
    ) -> tuple[bytes, bool]:
        """The bytes of a response.

        Args:
            server_lines: headers that the server adds to every response, as lines.
            is_head: whether the request's method is HEAD: the headers speak of a body that is not sent.
            keep_alive: whether the connection may serve another request.
            own_lines: further headers of this response, as lines.

        Returns:
            The bytes, and whether the connection may serve another request after them.

        Raises:
            ValueError: the headers lie about the body.
        """
        bodiless = is_head or self.status in BODILESS
        length = b"%d" % len(body)
        if self.length is None:
            if self.status not in BODILESS:
                own_lines += b"content-length: " + length + b"\r\n"
        elif self.length != length and not bodiless:
            raise ValueError(f"content-length is {self.length!r}, but the body has {len(body)} bytes")
        if self.closes:
            keep_alive = False
        elif not keep_alive:
            own_lines += b"connection: close\r\n"
        return b"".join((self.lines, server_lines, own_lines, b"\r\n", b"" if bodiless else body)), keep_alive


def response_head(status: int, headers: Sequence[bytes]) -> ResponseHead:
    """Checks the head of a response.

    Raises:
        ValueError: it cannot be sent.
    """
    names = [name.lower() for name in headers[::2]]
    closes, length = False, None
    if b"connection" in names:
        closes = b"close" in headers[2 * names.index(b"connection") + 1].lower()
    if b"content-length" in names:
        length = headers[2 * names.index(b"content-length") + 1].strip()
    if status not in STATUS_LINE:
        raise ValueError(f"{status} is no status of a response")
    for name in names:
        if _TOKEN.fullmatch(name) is None:
            raise ValueError(f"{name!r} is no name of a header")
    return ResponseHead(status, STATUS_LINE[status] + header_lines(headers), length, closes, REQUEST_ID in names)


def header_lines(headers: Sequence[bytes]) -> bytes:
    """Headers as lines.

    Raises:
        ValueError: one of them would not stay on its line.
    """
    count = len(headers) // 2
    parts = [b""] * (4 * count)
    parts[::4] = headers[::2]
    parts[1::4] = [b": "] * count
    parts[2::4] = headers[1::2]
    parts[3::4] = [b"\r\n"] * count
    lines = b"".join(parts)
    if lines.count(b"\n") != count or lines.count(b"\r") != count or b"\0" in lines:
        raise ValueError("a header holds a line break or a zero byte")
    return lines
