"""Large values in the shared memory of other processes, read in place; see `rpc.segments` for the other side.

A result that lies within the arguments of its own call, such as an array that is handed back, is not copied at all: the
caller has the arguments in use until it has the result, so that a claim on where they are is enough.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from uuid import uuid4

from meshserve.model.call import Encoding, Payload, SharedPayload
from meshserve.rpc.io_thread import io_thread
from meshserve.rpc.segments import IDLE_S, KEY_BYTES, TAKEN_AT, exported, most_segments, offsets
from meshserve.wire.buffers import address_of
from meshserve.wire.claims import Claim, Segment, decode_claim, encode_claim
from meshserve.wire.values import owned

MEMORY_KEY = "meshserve-memory"
"""The metadata key of a memory probe."""

_PASSED_ON = 1024
"""Results within arguments that other machines may still ask for."""

_LONGEST_BODY_BYTES = 4096
"""What of a value may ride in a claim."""


class _Mapping:
    """A segment of another process, mapped here; locked while values of it are in use."""

    __slots__ = ("address", "capacity", "dropped", "fd", "idle_since", "mapping", "users")

    def __init__(self, place: Segment) -> None:
        self.fd = os.open(f"/proc/{place.pid}/fd/{place.fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            self.mapping = mmap.mmap(self.fd, place.capacity_bytes)
        except (OSError, ValueError):
            os.close(self.fd)
            raise
        self.capacity = place.capacity_bytes
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.mapping))
        self.users = 0
        self.dropped = False
        self.idle_since = 0.0

    def take(self, key: str) -> bool:
        """Locks it, if it still holds the value of this key."""
        # Counted first: the end of another value in it, which may come in between, must not unlock it.
        self.users += 1
        try:
            fcntl.flock(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:  # its owner is about to use it again
            self.users -= 1
            return False
        if self.mapping[:KEY_BYTES] != key.encode():
            self.users -= 1
            if not self.users:
                fcntl.flock(self.fd, fcntl.LOCK_UN)
            return False
        self.mapping[TAKEN_AT] = 1
        return True

    def close(self) -> None:
        """Unmaps it."""
        self.mapping.close()
        os.close(self.fd)


class Attachments:
    """The segments of other processes that are mapped here; from any thread.

    A mapping stays for a while when it is not in use: its owner will use the segment again, and memory that is mapped
    already is read at once.

    Args:
        now: the monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._pid = os.getpid()
        # Reentrant: the end of a value may come by garbage collection, in the middle of anything.
        self._lock = threading.RLock()
        self._mappings: dict[tuple[int, int], _Mapping] = {}
        self._passed_on: dict[str, Payload] = {}
        self._sweeping = False

    def attach(self, payload: Payload) -> Payload | None:
        """The value of a claim, read in place; None when the claim is not on shared memory that this process can read.

        The value stays as it is for as long as anything refers to it. It is a copy when too many are in use here.
        """
        claim = decode_claim(payload)
        if claim.segment is None:
            return None
        try:
            with self._lock:
                mapping = self._taken(claim, claim.segment)
        except (OSError, ValueError):  # its owner is gone
            return None
        if mapping is None:
            return None
        place, whole = claim.segment, exported(mapping.mapping, mapping.capacity, lambda: self._unused(mapping))
        if place.offsets:
            inner = zip(place.offsets, place.lengths[1:], strict=True)
            buffers = [whole[begin : begin + length].toreadonly() for begin, length in inner]
            found = SharedPayload(place.body, Encoding.PICKLE, buffers, payload, whole)
        else:
            parts = [whole[begin:end].toreadonly() for begin, end in offsets(place.lengths)]
            found = SharedPayload(bytes(parts[0]), Encoding.PICKLE, parts[1:], payload, whole)
        return owned(found) if mapping.dropped else found

    def within(self, arguments: Payload, result: Payload, actor_name: str) -> SharedPayload | None:
        """A result whose buffers all lie within the arguments of its call, where they are; None when they do not.

        Args:
            arguments: the claim on the arguments, which are in use here.
            result: the encoded result.
            actor_name: the Ray actor of this process, at which processes of other machines collect it.
        """
        claim = decode_claim(arguments)
        place = claim.segment
        mapping = self._mappings.get((place.pid, place.fd)) if place is not None else None
        if place is None or mapping is None or not result.buffers or len(result.body) > _LONGEST_BODY_BYTES:
            return None
        sizes = [memoryview(buffer).nbytes for buffer in result.buffers]
        begins = [address_of(buffer) - mapping.address for buffer in result.buffers]
        inside = all(
            begin >= 0 and begin + size <= place.capacity_bytes for begin, size in zip(begins, sizes, strict=True)
        )
        if not inside or mapping.mapping[:KEY_BYTES] != claim.key.encode():
            return None
        lengths = (len(result.body), *sizes)
        segment = Segment(place.pid, place.fd, place.capacity_bytes, lengths, begins, bytes(result.body))
        made = encode_claim(Claim(actor_name, claim.key, sum(lengths), segment))
        self._passed_on[claim.key] = made
        if len(self._passed_on) > _PASSED_ON:
            self._passed_on.pop(next(iter(self._passed_on)), None)
        return SharedPayload(result.body, Encoding.PICKLE, result.buffers, made)

    def passed_on(self, key: str) -> Payload | None:
        """A result within arguments, as long as it is there."""
        claim = self._passed_on.get(key)
        return self.attach(claim) if claim is not None else None

    def _taken(self, claim: Claim, place: Segment) -> _Mapping | None:
        where = (place.pid, place.fd)
        mapping = self._mappings.get(where)
        if mapping is not None:
            if mapping.take(claim.key):
                return mapping
            del self._mappings[where]  # the owner has closed it, and may have another one by this number
            mapping.dropped = True
            if not mapping.users:
                mapping.close()
        mapping = _Mapping(place)
        if not mapping.take(claim.key):
            mapping.close()
            return None
        if len(self._mappings) >= most_segments():
            self._close_idle(float("inf"))
        if len(self._mappings) >= most_segments():
            mapping.dropped = True
            return mapping
        self._mappings[where] = mapping
        if not self._sweeping:
            self._sweeping = True
            io_thread().call_soon(self._sweep_later)
        return mapping

    def _unused(self, mapping: _Mapping) -> None:
        if os.getpid() != self._pid:
            return  # in a forked child, whose file locks are those of its parent
        with self._lock:
            mapping.users -= 1
            if mapping.users:
                return
            mapping.idle_since = self._now()
            fcntl.flock(mapping.fd, fcntl.LOCK_UN)
            if mapping.dropped:
                os.close(mapping.fd)  # the mapping goes with its last reference, which is about to

    def _close_idle(self, before: float) -> None:
        for where, mapping in tuple(self._mappings.items()):
            if not mapping.users and mapping.idle_since < before:
                with suppress(BufferError):  # its last value is just being let go of, on another thread
                    mapping.close()
                    del self._mappings[where]

    def _sweep_later(self) -> None:
        io_thread().loop.call_later(IDLE_S / 2, self._sweep)

    def _sweep(self) -> None:
        """Unmaps what was not in use for a while."""
        with self._lock:
            self._close_idle(self._now() - IDLE_S)
            self._sweeping = bool(self._mappings)
        if self._sweeping:
            self._sweep_later()


@cache
def attachments() -> Attachments:
    """Those of this process."""
    return Attachments()


def read_in_place(items: Sequence[Payload]) -> list[Payload]:
    """The values of claims, up to the first that is gone; claims that are not on shared memory stay claims."""
    found: list[Payload] = []
    for claim in items:
        payload = attachments().attach(claim) if decode_claim(claim).segment is not None else claim
        if payload is None:
            break
        found.append(payload)
    return found


@cache
def memory_probe() -> str:
    """By what another process finds out whether it can read this one's shared memory; empty where there is none."""
    if not hasattr(os, "memfd_create"):
        return ""
    key = uuid4().hex
    try:
        fd = os.memfd_create("meshserve-probe", os.MFD_CLOEXEC)
        os.write(fd, key.encode())
    except OSError:  # no file descriptors, or no memory: sessions do without
        return ""
    return f"{os.getpid()}:{fd}:{key}"


def can_read(probe: str) -> bool:
    """Whether the shared memory of the process with this probe can be read here."""
    try:
        pid, fd, key = probe.split(":")
        with open(f"/proc/{int(pid)}/fd/{int(fd)}", "rb") as file:
            return file.read(KEY_BYTES) == key.encode()
    except (OSError, ValueError):
        return False


def _forget_after_fork() -> None:
    attachments.cache_clear()
    memory_probe.cache_clear()


os.register_at_fork(after_in_child=_forget_after_fork)
