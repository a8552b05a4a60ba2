"""Cuts a stream of bytes into pieces that begin with their length: frames of HTTP/2, and messages of gRPC in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator


class Cutter:
    """Collects bytes as they come and gives every piece that is whole.

    Args:
        head_bytes: the length of a piece's head.
        measure: the length of the piece, head and all, whose head begins at an offset of some bytes; what it raises
            reaches who feeds.
    """

    __slots__ = ("_chunks", "_have", "_head_bytes", "_measure", "_need")

    def __init__(self, head_bytes: int, measure: Callable[[bytes, int], int]) -> None:
        self._head_bytes = head_bytes
        self._measure = measure
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 0

    def feed(self, data: bytes) -> Iterator[tuple[bytes, int, int]]:
        """Takes more bytes. To be iterated to its end.

        Yields:
            Each whole piece, as the bytes it is in with its begin and end.
        """
        if self._have:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._chunks)
            self._chunks = []
            self._have = 0
        begin, end = 0, len(data)
        need = self._head_bytes
        while end - begin >= self._head_bytes:
            need = self._measure(data, begin)
            if begin + need > end:
                break
            yield data, begin, begin + need
            begin += need
            need = self._head_bytes
        if begin < end:
            self._chunks.append(data[begin:])
            self._have = end - begin
            self._need = need

    @property
    def holds(self) -> int:
        """Bytes of a piece that is not whole."""
        return self._have
