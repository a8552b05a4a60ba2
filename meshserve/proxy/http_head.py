"""A whole HTTP/1.1 response as bytes, checked before it is sent. Headers are flat: name, value, name, ..."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

BODILESS = (204, 304)


def whole_response(
    status: int,
    server_headers: Iterable[tuple[bytes, bytes]],
    headers: Sequence[bytes],
    body: bytes,
    *,
    is_head: bool,
    keep_alive: bool,
) -> tuple[bytes, bool]:
    """The bytes of a response whose body is known.

    Args:
        server_headers: those that the server adds to every response.
        is_head: whether the request's method is HEAD: the headers speak of a body that is not sent.
        keep_alive: whether the connection may serve another request.

    Returns:
        The bytes, and whether the connection may serve another request after them.

    Raises:
        ValueError: the headers cannot be sent, or lie about the body.
    """
    names = [name.lower() for name in headers[::2]]
    if b"connection" in names and b"close" in headers[2 * names.index(b"connection") + 1].lower():
        keep_alive = False
    elif not keep_alive:
        headers = [*headers, b"connection", b"close"]
    if b"content-length" in names:
        _check_length(headers[2 * names.index(b"content-length") + 1], body, is_head or status in BODILESS)
    elif status not in BODILESS:
        headers = [*headers, b"content-length", b"%d" % len(body)]
    if status not in STATUS_LINE:
        raise ValueError(f"{status} is no status of a response")
    head = STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % header for header in server_headers) + header_lines(headers)
    return head + b"\r\n" + (b"" if is_head or status in BODILESS else body), keep_alive


def _check_length(announced: bytes, body: bytes, is_bodiless: bool) -> None:
    if not is_bodiless and announced.strip() != b"%d" % len(body):
        raise ValueError(f"content-length is {announced!r}, but the body has {len(body)} bytes")


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
