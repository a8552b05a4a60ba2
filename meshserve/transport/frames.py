"""Frames of HTTP/2 (RFC 9113, section 4 and 6), as far as gRPC needs them: bytes in, bytes out."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

DEFAULT_WINDOW = 65_535
"""Of a connection, and of a stream until a peer's settings say otherwise."""

DEFAULT_FRAME_BYTES = 16_384
"""The largest frame until a peer's settings say otherwise."""

LARGEST_WINDOW = (1 << 31) - 1

HEAD_BYTES = 9
HEAD = Struct(">HBBBL")
"""Length (in two numbers), type, flags, stream."""


class ErrorCode(IntEnum):
    """Why a stream or a connection is broken off (RFC 9113, section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionBroken(Exception):
    """The peer does not speak HTTP/2 as it should; the connection cannot go on.

    Attributes:
        code: told to the peer.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The head of a frame with a payload of `length` bytes."""
    return HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return head(len(payload), kind, flags, stream_id) + payload


def settings_frame(settings: dict[int, int]) -> bytes:
    """The frame that tells the peer of settings."""
    payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in settings.items())
    return frame(SETTINGS, 0, 0, payload)


def settings_of(payload: bytes) -> Iterator[tuple[int, int]]:
    """What a peer's settings frame says.

    Raises:
        ConnectionBroken: it is not made of whole settings, or a value is none.
    """
    if len(payload) % 6:
        raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "a SETTINGS frame is not made of whole settings")
    for at in range(0, len(payload), 6):
        key, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
        if key == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, f"a window of {value} bytes is too large")
        if key == MAX_FRAME_SIZE and not DEFAULT_FRAME_BYTES <= value < 1 << 24:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, f"a largest frame of {value} bytes is none")
        yield key, value


def number_of(payload: bytes, kind: str) -> int:
    """The one number in the payload of a RST_STREAM or WINDOW_UPDATE frame.

    Raises:
        ConnectionBroken: the payload is of another length.
    """
    if len(payload) != 4:
        raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, f"a {kind} frame of {len(payload)} bytes")
    return int.from_bytes(payload, "big")


def content_of(flags: int, payload: bytes) -> bytes:
    """The payload of a DATA or HEADERS frame without padding and priority.

    Raises:
        ConnectionBroken: it is shorter than its padding.
    """
    begin, end = 0, len(payload)
    if flags & PADDED:
        begin, end = 1, end - (payload[0] if payload else 0)
    if flags & PRIORITIZED:
        begin += 5
    if begin > end:
        raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a frame is shorter than its padding")
    return payload[begin:end]
