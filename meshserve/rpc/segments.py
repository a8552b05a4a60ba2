"""Large values in shared memory: copied once by whoever makes them, read in place by the processes of the machine.

A segment is an anonymous file in memory (memfd). Its owner copies an encoded value into it and sends a claim: process,
file descriptor, key. A reader opens the file through /proc, maps it, and holds a shared lock (flock) for as long as
anything refers to the value. The owner uses a segment again when nothing here refers to the value, whoever it was
promised to has begun to read, and an exclusive lock can be had: then nobody reads it anywhere. No message says so and
no count can be lost; the kernel drops the locks of a process that dies, and the memory of one that owned.

Used again, because memory that was touched before is faster to write (measured: 50 MB in 8 ms; fresh memory takes 20
by way of the file, and 42 through its mapping, most of it page faults).
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import resource
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from uuid import uuid4

from meshserve.model.call import Encoding, Payload, SharedPayload
from meshserve.rpc.io_thread import io_thread
from meshserve.settings import Settings
from meshserve.wire.buffers import copy_into, write_at
from meshserve.wire.claims import Claim, decode_claim, encode_claim
from meshserve.wire.claims import Segment as Place

HEADER_BYTES = 64
"""The key, and the byte that the first reader sets."""

KEY_BYTES = 32
TAKEN_AT = KEY_BYTES

IDLE_S = 30.0
"""A segment that was not used for so long is given back to the system."""

PROMISE_S = 60.0
"""A promised value that nobody began to read is dropped after this: its caller has died without a word. One that lives
reads as soon as it hears, and is taken for dead after 30 s of silence."""

SEARCH_SHARE = 0.1
"""The most of its time that a process spends on searching a full pool for what can be used again: with 4,096 values
that nobody gave back a search took 14 ms, and every further value began one."""

_SMALLEST_BYTES = 1 << 17
_ALIGNMENT = 64
_LOOKED_AT = 8
"""Lent segments that a store looks at for one to use again: enough to keep up, few enough to cost nothing."""


def offsets(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where each part of a value begins and ends in its segment."""
    at = HEADER_BYTES
    for length in lengths:
        yield at, at + length
        at += -(-length // _ALIGNMENT) * _ALIGNMENT


def exported(mapping: mmap.mmap, capacity: int, on_unused: Callable[[], object]) -> memoryview:
    """All of a mapping; calls back, on any thread, once nothing refers to any part of it."""
    # A ctypes array exports memory and can be watched, which neither mmap nor memoryview does.
    whole = (ctypes.c_char * capacity).from_buffer(mapping)
    weakref.finalize(whole, on_unused).atexit = False
    return memoryview(whole).cast("B")


def most_segments() -> int:
    """How many segments a process owns at most, and reads at most: each takes two file descriptors, so that half of
    those it may have are left for everything else."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if allowed == resource.RLIM_INFINITY else allowed // 8


def _capacity(needed: int) -> int:
    """The size of a value's segment: one of four between two powers of two, so that many values fit each."""
    step = max(_SMALLEST_BYTES, 1 << (needed.bit_length() - 3))
    return -(-needed // step) * step


class _Segment:
    """One piece of shared memory, mapped in the process that owns it."""

    __slots__ = ("capacity", "fd", "fresh", "idle_since", "in_use", "key", "lengths", "mapping", "promised_at")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.fd = os.memfd_create("meshserve", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.fd, capacity)
            self.mapping = mmap.mmap(self.fd, capacity)
        except OSError:
            os.close(self.fd)
            raise
        self.fresh = True
        self.key = ""
        self.lengths: list[int] = []
        self.in_use = False
        self.promised_at: float | None = None
        self.idle_since = 0.0

    def is_free(self, now: float) -> bool:
        """Whether nobody reads it, or will, in any process."""
        if self.in_use:
            return False
        if self.promised_at is not None and not self.mapping[TAKEN_AT] and now - self.promised_at < PROMISE_S:
            return False
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # A claim that comes late finds no key.
        self.mapping[0:HEADER_BYTES] = bytes(HEADER_BYTES)
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        self.promised_at = None
        return True

    def fill(self, whole: memoryview, places: Sequence[tuple[int, int]], parts: Sequence[bytes | memoryview]) -> None:
        """Copies the parts of a value to their places.

        Raises:
            OSError: there is no memory.
        """
        for (begin, end), part in zip(places, parts, strict=True):
            if self.fresh:
                write_at(self.fd, begin, part)
            else:
                copy_into(whole[begin:end], part)
        self.fresh = False
        whole[:KEY_BYTES] = self.key.encode()

    def close(self) -> None:
        """Gives the memory back, also what readers still have mapped and do not look at."""
        self.mapping.madvise(mmap.MADV_REMOVE)
        self.mapping.close()
        os.close(self.fd)


class SegmentPool:
    """The segments that a process owns; from any thread.

    Args:
        limit_bytes: the most memory it takes; 0 for none at all.
        now: the monotonic clock.

    Attributes:
        actor_name: the Ray actor at which processes of other machines collect what is stored here; empty for none.
    """

    def __init__(self, limit_bytes: int, now: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit_bytes if hasattr(os, "memfd_create") else 0
        self._now = now
        self._lock = threading.Lock()
        self._lent: dict[str, _Segment] = {}
        self._free: dict[int, list[_Segment]] = {}
        self._size = 0
        self._count = 0
        self._search_at = 0.0
        self._sweeping = False
        self.actor_name = ""

    @property
    def size_bytes(self) -> int:
        """What it takes of the machine's memory, at most."""
        return self._size

    def store(self, payload: Payload) -> SharedPayload | None:
        """Copies an encoded value into shared memory; None when there is no room."""
        parts = (payload.body, *payload.buffers)
        lengths = [memoryview(part).nbytes for part in parts]
        places = list(offsets(lengths))
        segment = self._borrow(places[-1][1])
        if segment is None:
            return None
        segment.lengths = lengths
        whole = exported(segment.mapping, segment.capacity, lambda: setattr(segment, "in_use", False))
        try:
            segment.fill(whole, places, parts)
        except OSError:  # no memory; what was written waits, in use by nobody, for a value that fits
            return None
        buffers = [whole[begin:end].toreadonly() for begin, end in places[1:]]
        place = Place(os.getpid(), segment.fd, segment.capacity, lengths)
        claim = encode_claim(Claim(self.actor_name, segment.key, sum(lengths), place))
        return SharedPayload(payload.body, Encoding.PICKLE, buffers, claim, whole)

    def promise(self, key: str) -> None:
        """A claim goes to somebody who will read the value, though nothing here refers to it any more."""
        segment = self._lent.get(key)
        if segment is not None:
            segment.promised_at = self._now()

    def find(self, key: str) -> Payload | None:
        """A copy of a value that is still there."""
        segment = self._lent.get(key)
        if segment is None:
            return None
        body, *buffers = [segment.mapping[begin:end] for begin, end in offsets(segment.lengths)]
        return Payload(body, Encoding.PICKLE, buffers) if self._lent.get(key) is segment else None

    def _borrow(self, needed: int) -> _Segment | None:
        capacity = _capacity(needed)
        with self._lock:
            self._reclaim(_LOOKED_AT)
            free = self._free.get(capacity)
            if free:
                segment = free.pop()
            elif (made := self._make(capacity)) is not None:
                segment = made
            else:
                return None
            segment.key, segment.in_use = uuid4().hex, True
            self._lent[segment.key] = segment
            if not self._sweeping:
                self._sweeping = True
                io_thread().call_soon(self._sweep_later)
            return segment

    def _make(self, capacity: int) -> _Segment | None:
        if not self._has_room(capacity):
            self._search()
        if not self._has_room(capacity):
            return None
        try:
            segment = _Segment(capacity)
        except OSError:  # no file descriptors, or no memory
            return None
        self._size += capacity
        self._count += 1
        return segment

    def _has_room(self, capacity: int) -> bool:
        return self._size + capacity <= self._limit and self._count < most_segments()

    def _search(self) -> None:
        """Gives back all that nobody uses, unless that was tried just now."""
        began = self._now()
        if began >= self._search_at:
            self._reclaim(len(self._lent))
            self._close_idle(float("inf"))
            ended = self._now()
            self._search_at = ended + (ended - began) / SEARCH_SHARE

    def _reclaim(self, most: int) -> None:
        """Looks at the oldest lent segments; those still read go to the end of the line."""
        now = self._now()
        for key in tuple(islice(self._lent, most)):
            segment = self._lent.pop(key)
            if segment.is_free(now):
                segment.idle_since = now
                self._free.setdefault(segment.capacity, []).append(segment)
            else:
                self._lent[key] = segment

    def _close_idle(self, before: float) -> None:
        for capacity, segments in self._free.items():
            for segment in [segment for segment in segments if segment.idle_since < before]:
                with suppress(BufferError):  # its last value is just being let go of, on another thread
                    segment.close()
                    segments.remove(segment)
                    self._size -= capacity
                    self._count -= 1

    def _sweep_later(self) -> None:
        io_thread().loop.call_later(IDLE_S / 2, self._sweep)

    def _sweep(self) -> None:
        with self._lock:
            self._reclaim(len(self._lent))
            self._close_idle(self._now() - IDLE_S)
            self._sweeping = self._size > 0
        if self._sweeping:
            self._sweep_later()


def promised(payload: Payload) -> Payload:
    """What is sent for a value to a process that can read this one's memory: the claim on it if it is in a segment."""
    if type(payload) is not SharedPayload:
        return payload
    segment_pool().promise(decode_claim(payload.claim).key)
    return payload.claim


_pool: SegmentPool | None = None


def segment_pool() -> SegmentPool:
    """The pool of this process."""
    global _pool
    if _pool is None:
        _pool = SegmentPool(Settings.from_environment().shared_memory_bytes)
    return _pool


def _forget_after_fork() -> None:
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget_after_fork)
