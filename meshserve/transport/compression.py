"""Messages that are compressed one by one, as gRPC has it: "deflate" is zlib's format, "gzip" that of gzip."""

from __future__ import annotations

import zlib

_WBITS = {"deflate": 15, "gzip": 31}
"""What zlib calls the formats."""


class TooLarge(Exception):
    """A message is larger than may be."""


def compress(body: bytes, encoding: str) -> bytes:
    """The message in this encoding."""
    squeezing = zlib.compressobj(wbits=_WBITS[encoding])
    return squeezing.compress(body) + squeezing.flush()


def decompress(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The message that was compressed.

    Raises:
        TooLarge: it has more than `limit_bytes`, of which no more were made.
        ValueError: it is not in this encoding.
    """
    if encoding not in _WBITS:
        raise ValueError("a message is compressed, and nobody said how")
    unpacking = zlib.decompressobj(wbits=_WBITS[encoding])
    try:
        found = unpacking.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise ValueError(f"a message is not {encoding}: {error}") from None
    if len(found) > limit_bytes:
        raise TooLarge
    if not unpacking.eof:
        raise ValueError(f"a message of {encoding} has no end")
    return found
