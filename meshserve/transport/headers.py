"""What gRPC says in HTTP/2 headers: the call, its metadata and deadline, its status.

See "gRPC over HTTP2" in the documentation of gRPC (PROTOCOL-HTTP2.md).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

import grpc

Metadata = tuple[tuple[str, str | bytes], ...]
Headers = list[tuple[str, str]]

CODES = {code.value[0]: code for code in grpc.StatusCode}
"""Status codes by their numbers."""

IDENTITY = "identity"
ENCODINGS = (IDENTITY, "deflate", "gzip")
"""How messages may be compressed."""

_ANSWER = [("content-type", "application/grpc"), ("grpc-accept-encoding", ",".join(ENCODINGS))]

_CONTENT_TYPE = re.compile(r"application/grpc([+;].*)?")

_KEY = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[ -~]*")

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
        http: the status of HTTP that goes with it when there is no other answer.
    """

    code: grpc.StatusCode
    details: str = ""
    trailers: Metadata = ()
    http: int = 200


@dataclass(slots=True)
class Request:
    """The head of a call; in the place of `grpc.HandlerCallDetails`.

    Attributes:
        method: `/package.Service/Method`.
        invocation_metadata: with it.
        timeout_s: until its deadline; None when it has none.
        encoding: how its messages are compressed.
        refusal: what is wrong with it as a call of gRPC.
    """

    method: str
    invocation_metadata: Metadata
    timeout_s: float | None = None
    encoding: str = IDENTITY
    refusal: Status | None = None


def block_of(headers: Headers) -> bytes:
    """A header block of literals that no table remembers (RFC 7541, 6.2.2): it depends on no block before it, and costs
    less than compressing would save between processes that talk for long."""
    made = bytearray()
    for pair in headers:
        made.append(0)
        for text in pair:
            data = text.encode()
            made += _integer(len(data))
            made += data
    return bytes(made)


def _integer(number: int) -> bytes:
    """An integer with a prefix of seven bits (RFC 7541, 5.1)."""
    if number < 127:
        return bytes((number,))
    made, number = bytearray((127,)), number - 127
    while number >= 128:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return bytes(made)


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


def request_from(headers: Headers, limit_bytes: int) -> Request:
    """The call that a client's headers begin.

    Args:
        limit_bytes: of all of them, as HTTP/2 counts them: 32 more for each.
    """
    try:
        plain, metadata = _split(headers)
    except ValueError as error:
        return Request("", (), refusal=Status(grpc.StatusCode.INTERNAL, str(error)))
    request = Request(plain.get(":path", ""), metadata, encoding=plain.get("grpc-encoding", IDENTITY))
    size_bytes = sum(len(key) + len(value) + 32 for key, value in headers)
    request.refusal = _refusal(plain, size_bytes, limit_bytes)
    timeout = plain.get("grpc-timeout")
    if timeout is not None and request.refusal is None:
        found = _TIMEOUT.fullmatch(timeout)
        if found is None:
            request.refusal = Status(grpc.StatusCode.INTERNAL, f"grpc-timeout {timeout!r} is none")
        else:
            request.timeout_s = int(found[1]) * _UNITS_S[found[2]]
    return request


def _refusal(plain: Mapping[str, str], size_bytes: int, limit_bytes: int) -> Status | None:
    """What is wrong with a call's headers, as grpc-go has it."""
    if size_bytes > limit_bytes:
        return Status(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"the metadata have {size_bytes} bytes, as HTTP/2 counts them; {limit_bytes} are the most",
        )
    if (method := plain.get(":method")) != "POST":
        return Status(grpc.StatusCode.INTERNAL, f"the :method is {method!r}, and should be POST", http=405)
    if not _CONTENT_TYPE.fullmatch(content_type := plain.get("content-type", "")):
        message = f"the content-type is {content_type!r}, and should be application/grpc"
        return Status(grpc.StatusCode.INVALID_ARGUMENT, message, http=415)
    if (scheme := plain.get(":scheme", "http")) not in ("http", "https"):
        return Status(grpc.StatusCode.INTERNAL, f"the :scheme is {scheme!r}, and should be http")
    if plain.get("te") != "trailers":
        return Status(
            grpc.StatusCode.INTERNAL, "te: trailers is missing, without which no status can be sent", http=400
        )
    if (encoding := plain.get("grpc-encoding", IDENTITY)) not in ENCODINGS:
        message = f"grpc-encoding {encoding!r} is none of {', '.join(ENCODINGS)}"
        return Status(grpc.StatusCode.UNIMPLEMENTED, message)
    return None


def response_headers(encoding: str = IDENTITY, metadata: Metadata = (), http: int = 200) -> Headers:
    """The headers that begin an answer."""
    found = [(":status", str(http)), *_ANSWER, *_encoded(metadata)]
    if encoding != IDENTITY:
        found.append(("grpc-encoding", encoding))
    return found


def trailers(status: Status) -> Headers:
    """The headers that end an answer; of a status whose metadata cannot be sent, one that says so."""
    found: Headers = [("grpc-status", str(status.code.value[0]))]
    if status.details:
        found.append(("grpc-message", quote(status.details, safe=_PRINTABLE, errors="replace")))
    try:
        return found + _encoded(status.trailers)
    except ValueError as error:
        return trailers(Status(grpc.StatusCode.INTERNAL, str(error)))


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


def _encoded(metadata: Metadata) -> Headers:
    """Metadata as headers.

    Raises:
        ValueError: gRPC allows no such key or value.
    """
    found = []
    for key, value in metadata:
        text = base64.b64encode(value).decode() if isinstance(value, bytes) else value
        if not (_KEY.fullmatch(key) and _VALUE.fullmatch(text) and isinstance(value, str) != key.endswith("-bin")):
            raise ValueError(
                f"the metadata {key!r}: {value!r} cannot be sent: keys are lower-case letters, digits and _.-, values "
                "printable ASCII, or bytes where the key ends in -bin"
            )
        found.append((key, text))
    return found


def _binary(key: str, text: str) -> bytes:
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except ValueError:
        raise ValueError(f"the metadata {key!r} are not in base64") from None


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
