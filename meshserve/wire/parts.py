"""Pickles in parts: large `bytes` and texts, at any depth, are not copied into the stream but stand beside it.

The pickler writes what is long by itself, and hands over the very object where that is `bytes`. So the stream is kept
as what was written, and a value with something large in it is sent as a small pickle of its parts, each long one a
buffer of its own, as those of arrays are. It is read from there, each of its `bytes` copied once, without Python's
lock. That keeps what pickling promises: objects that were the same are so again.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from meshserve.model.call import Payload
from meshserve.settings import SHARED_FROM_BYTES
from meshserve.wire.buffers import APART_FROM_BYTES, bytes_of, copy_into, in_large_pages


class Stream:
    """What a pickler writes to.

    Attributes:
        parts: what was written.
        write: what the pickler calls.
    """

    __slots__ = ("parts", "write")

    def __init__(self) -> None:
        self.parts: list[bytes | bytearray] = []
        self.write = self.parts.append


class _Divided:
    """Stands for a value while its parts are pickled; read again it is the value."""

    __slots__ = ("_buffers", "_parts")

    def __init__(self, parts: Sequence[bytes], buffers: Sequence[memoryview]) -> None:
        self._parts = parts
        self._buffers = buffers

    def __reduce_ex__(self, protocol: Any) -> Any:
        parts = [pickle.PickleBuffer(part) if _is_large(part) else part for part in self._parts]
        return read_parts, (parts, [pickle.PickleBuffer(buffer) for buffer in self._buffers])


def body_of(parts: Sequence[bytes | bytearray], buffers: list[memoryview]) -> tuple[bytes, list[memoryview]]:
    """A pickle's stream in one, with its buffers; where a part is large, of a value that is read from its parts."""
    if len(parts) == 1 and not _is_large(parts[0]):
        return bytes(parts[0]), buffers  # as most are
    if not any(map(_is_large, parts)):
        return b"".join(parts), buffers
    divided, beside = _Divided(_with_small_ones_joined(parts), buffers), list[memoryview]()
    body = pickle.dumps(divided, 5, buffer_callback=lambda buffer: beside.append(buffer.raw()))
    return body, beside


def read_parts(parts: Sequence[bytes | memoryview], buffers: Iterable[Any]) -> Any:
    """The value of a stream in parts; raises whatever the unpickling of user classes raises."""
    return pickle.Unpickler(io.BufferedReader(_Joined(parts)), buffers=buffers).load()


def is_copied_by_reading(payload: Payload) -> bool:
    """Whether it takes long to read: large `bytes` are copied, where arrays are read in place."""
    if not payload.buffers or payload.size_bytes < APART_FROM_BYTES:
        return False
    return read_parts.__name__.encode() in payload.body


class _Joined(io.RawIOBase):
    """Parts, read as one file."""

    def __init__(self, parts: Sequence[bytes | memoryview]) -> None:
        self._parts = iter(parts)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        """Reads from one part, as much as there is room for; 0 at the end of them all."""
        while not self._rest:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._rest = memoryview(part)
        room = memoryview(target)
        count = min(len(room), len(self._rest))
        in_large_pages(room[:count])
        copy_into(room[:count], self._rest[:count])
        self._rest = self._rest[count:]
        return count


def _is_large(part: bytes | bytearray) -> bool:
    return len(part) >= SHARED_FROM_BYTES


def _with_small_ones_joined(parts: Sequence[bytes | bytearray]) -> list[bytes]:
    """The same stream in few parts, none of which can change: a `bytearray` is copied."""
    joined: list[bytes] = []
    for large, group in groupby(parts, _is_large):
        run = list(group)
        joined += map(bytes_of, run) if large else [b"".join(run)]
    return joined
