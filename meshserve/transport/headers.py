"""What gRPC says in HTTP/2 headers: the call, its metadata and deadline, its status.

See "gRPC over HTTP2" in the documentation of gRPC (PROTOCOL-HTTP2.md).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

import grpc

from meshserve.transport.frames import ConnectionBroken, ErrorCode

Metadata = tuple[tuple[str, str | bytes], ...]
Headers = list[tuple[str, str]]

CODES = {code.value[0]: code for code in grpc.StatusCode}
"""Status codes by their numbers."""

_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

_PRINTABLE = "".join(chr(one) for one in range(0x20, 0x7F) if one != ord("%"))
"""What the text of a status may hold as it is."""

_OURS = ("grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "grpc-status", "grpc-message", "te", "content-type")
"""Headers that are not metadata."""

_HTTP_CODES = {
    "400": grpc.StatusCode.INTERNAL,
    "401": grpc.StatusCode.UNAUTHENTICATED,
    "403": grpc.StatusCode.PERMISSION_DENIED,
    "404": grpc.StatusCode.UNIMPLEMENTED,
    **dict.fromkeys(("429", "502", "503", "504"), grpc.StatusCode.UNAVAILABLE),
}
"""What an answer that is not of gRPC means (http-grpc-status-mapping.md)."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a call ended.

    Attributes:
        code: its status code.
        details: in words.
        trailers: the metadata that came with it.
    """

    code: grpc.StatusCode
    details: str = ""
    trailers: Metadata = ()


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a call.

    Attributes:
        path: `/package.Service/Method`.
        metadata: with it.
        timeout_s: until its deadline; None when it has none.
        refusal: what is wrong with it as a call of gRPC; empty when nothing is.
    """

    path: str
    metadata: Metadata
    timeout_s: float | None
    refusal: str


def request_headers(path: str, authority: str, metadata: Metadata) -> Headers:
    """The headers that begin a call."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *_encoded(metadata),
    ]


def request_from(headers: Iterable[tuple[str, str]]) -> Request:
    """The call that a client's headers begin."""
    plain, metadata = _split(headers)
    refusal = ""
    if plain.get(":method") != "POST" or not plain.get("content-type", "").startswith("application/grpc"):
        refusal = "this port speaks gRPC: POST with the content type application/grpc"
    elif (encoding := plain.get("grpc-encoding", "identity")) != "identity":
        refusal = f"messages are compressed with {encoding!r}, which this port does not read"
    return Request(plain.get(":path", ""), metadata, _timeout_s(plain.get("grpc-timeout")), refusal)


def response_headers() -> Headers:
    """The headers that begin an answer."""
    return [(":status", "200"), ("content-type", "application/grpc"), ("grpc-accept-encoding", "identity")]


def trailers(status: Status) -> Headers:
    """The headers that end an answer."""
    found: Headers = [("grpc-status", str(status.code.value[0]))]
    if status.details:
        found.append(("grpc-message", quote(status.details, safe=_PRINTABLE)))
    return found + _encoded(status.trailers)


def status_from(headers: Iterable[tuple[str, str]]) -> Status:
    """The status that a server's last headers tell."""
    plain, metadata = _split(headers)
    number = plain.get("grpc-status", "")
    if not number:
        http = plain.get(":status", "")
        code = _HTTP_CODES.get(http, grpc.StatusCode.UNKNOWN)
        return Status(code, f"the answer has no grpc-status, its HTTP status is {http or 'missing'}", metadata)
    code = CODES.get(int(number), grpc.StatusCode.UNKNOWN) if number.isdecimal() else grpc.StatusCode.UNKNOWN
    return Status(code, unquote(plain.get("grpc-message", "")), metadata)


def _timeout_s(text: str | None) -> float | None:
    found = _TIMEOUT.fullmatch(text) if text else None
    return int(found[1]) * _UNITS_S[found[2]] if found else None


def _encoded(metadata: Metadata) -> Headers:
    return [(key, base64.b64encode(value).decode() if isinstance(value, bytes) else value) for key, value in metadata]


def _binary(key: str, text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, f"the metadata {key!r} is not in base64") from None


def _split(headers: Iterable[tuple[str, str]]) -> tuple[dict[str, str], Metadata]:
    """Headers of the protocol, and metadata."""
    plain: dict[str, str] = {}
    metadata: list[tuple[str, str | bytes]] = []
    for key, value in headers:
        if key.startswith(":") or key in _OURS:
            plain[key] = value
        elif key.endswith("-bin"):
            metadata.extend((key, _binary(key, one)) for one in value.split(","))
        else:
            metadata.append((key, value))
    return plain, tuple(metadata)
