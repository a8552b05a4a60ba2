"""Large values are copied, and read where that is a copy, on threads of their own: the loop at hand goes on meanwhile.

50 MB take 10 ms and more to copy. In the loop that sends them every other coroutine waits for that: beside such calls
small ones of the same caller took 14 ms (p50; p99 23), and 1.7 (p99 8.6) with the copies made here.

A value is encoded where it is sent. What it is made of is settled then, but for the contents of its large buffers,
which are lent: an array that is changed before the copy is made, in a coroutine that did not wait for the call, is sent
as changed. `settled` makes the copy.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import is_dataclass
from functools import partial
from typing import Any

from meshserve.model.call import BorrowedPayload, Payload
from meshserve.rpc.segments import segment_pool
from meshserve.wire.buffers import APART_FROM_BYTES
from meshserve.wire.parts import is_copied_by_reading
from meshserve.wire.values import Store, decode_value, is_plain, owned

threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="meshserve-copy")
"""Two, so that one huge value does not hold up another process's worth of large ones. No more, and these for reading as
well: what the `bytes` of a thread took is kept for it by glibc, up to 64 MB, and a program has many threads."""


def lend(payload: Payload) -> Payload:
    """A `Store` that makes no copy."""
    return BorrowedPayload(payload.body, payload.encoding, payload.buffers)


def settled(payload: Payload, store: Store | None = None) -> Payload:
    """The copy of a lent payload, in shared memory or, without room there, in this process; others as they are.

    Args:
        store: where the copy is put; None for this process's segments.
    """
    if type(payload) is not BorrowedPayload:
        return payload
    return (store or segment_pool().store)(payload) or owned(payload)


def is_of_bytes(payload: BorrowedPayload) -> bool:
    """Whether all that is lent are `bytes`, which nobody can change."""
    return all(type(memoryview(buffer).obj) is bytes for buffer in payload.buffers)


def in_loop() -> bool:
    """Whether an event loop runs in this thread, which should not wait for a large copy."""
    return asyncio._get_running_loop() is not None


def references_to(value: object) -> int:
    """How many there are, for `is_fixed`; to be asked of a local variable, in a statement of its own."""
    return sys.getrefcount(value)


def _references_to_one() -> int:
    value = object()
    return references_to(value)


_ALONE = _references_to_one()


def is_fixed(value: object, references: int) -> bool:
    """Whether a large value stays as it is while it is copied: nobody can change it, or nobody else has it.

    Said of numpy arrays, and of dicts, lists, tuples and dataclasses of such and of plain values.

    Args:
        references: to the value, from `references_to`. None that its encoded form has on parts of it.
    """
    if references != _ALONE:
        return False
    if _is_array(value):
        array: Any = value
        return array.base is None and array.nbytes >= APART_FROM_BYTES
    return _is_container(value) and _has_parts_alone(value)


_MOST_PARTS = 256
"""A value of more parts is not looked through: that would take longer than is gained."""


def _has_parts_alone(value: object) -> bool:
    """Whether all that can change in a value is referred to by nobody else."""
    containers, parts = [value], 0
    while containers:
        for part in gc.get_referents(containers.pop()):
            parts += 1
            if _never_changes(part):
                continue
            if sys.getrefcount(part) != _ALONE_INSIDE or parts > _MOST_PARTS:
                return False
            if _is_container(part):
                containers.append(part)
            elif not _is_array(part) or part.base is not None:
                return False
    return True


def _is_container(value: object) -> bool:
    """Whether a value is sent as its parts, and nothing but them: a class may send what it likes instead."""
    kind: Any = type(value)
    if kind in (dict, list, tuple):
        return True
    return is_dataclass(kind) and all(getattr(kind, name) is getattr(object, name) for name in _PICKLED_BY)


_PICKLED_BY = ("__reduce_ex__", "__reduce__", "__getstate__")


def _references_to_part() -> int:
    container = [object()]
    for part in gc.get_referents(container):
        return sys.getrefcount(part)
    raise AssertionError("a list refers to what is in it")


_ALONE_INSIDE = _references_to_part()


def _never_changes(value: object) -> bool:
    if type(value) is tuple:
        return all(map(_never_changes, value))
    return is_plain(value) or type(value) is type


def _is_array(value: object) -> bool:
    kind = type(value)
    return kind.__name__ == "ndarray" and kind.__module__ == "numpy"  # which may not be installed


async def settled_apart(payload: Payload, store: Store | None = None) -> Payload:
    """As `settled`, in a loop that does not wait for a large copy."""
    if type(payload) is BorrowedPayload and payload.size_bytes >= APART_FROM_BYTES:
        return await asyncio.get_running_loop().run_in_executor(threads, settled, payload, store)
    return settled(payload, store)


async def decoded_apart(payload: Payload) -> Any:
    """The value of a payload, in a loop that does not wait for a large copy; raises what unpickling raises."""
    if is_copied_by_reading(payload):
        decode = partial(copy_context().run, decode_value, payload)
        return await asyncio.get_running_loop().run_in_executor(threads, decode)
    return decode_value(payload)
