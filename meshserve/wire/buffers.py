"""Where buffers are in memory, and copies that do not hold up the other threads of the process.

`memoryview` and `bytes` copy under Python's lock: 50 MB take some 11 ms, and 40 in memory never touched before, in
which no thread of the process runs, the I/O thread included. `memmove` by ctypes and `pwrite` let go of the lock.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any, ClassVar

APART_FROM_BYTES = 4 << 20
"""From here on it is worth giving up the lock, which may take 5 ms to get back from a thread that computes, and worth a
change of thread where a loop would wait for the copy."""

_LARGE_PAGE_BYTES = 2 << 20


class _Buffer(ctypes.Structure):
    """Python's `Py_buffer`."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("address", ctypes.c_void_p),
        ("owner", ctypes.py_object),
        ("size_bytes", ctypes.c_ssize_t),
        ("item_bytes", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("dimensions", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


def address_of(buffer: bytes | memoryview) -> int:
    """Where a buffer is; ctypes' own way takes none that is read-only."""
    view = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(buffer), ctypes.byref(view), 0)
    address = view.address or 0
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(view))
    return address


def copy_into(target: memoryview, source: bytes | memoryview) -> None:
    """Copies a contiguous buffer into another one of the same size."""
    if target.nbytes >= APART_FROM_BYTES:
        ctypes.memmove(address_of(target), address_of(source), target.nbytes)
    else:
        target[:] = source if type(source) is bytes else memoryview(source).cast("B")


def write_at(fd: int, offset: int, source: bytes | memoryview) -> None:
    """Copies a contiguous buffer into a file in memory, for places not touched before: in half the time of a copy into
    a mapping, which enters the kernel for each page.

    Raises:
        OSError: there is no memory.
    """
    view = memoryview(source).cast("B")
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


_new_bytes = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_char_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
_madvise = getattr(ctypes.CDLL(None), "madvise", None) if hasattr(mmap, "MADV_HUGEPAGE") else None


def bytes_of(buffer: Any) -> bytes:
    """A contiguous buffer as `bytes`, copied if it is something else."""
    if type(buffer) is bytes:
        return buffer
    view = memoryview(buffer)
    if view.nbytes < APART_FROM_BYTES:
        return view.tobytes()
    made: bytes = _new_bytes(None, view.nbytes)  # not filled yet, which nobody else can see
    in_large_pages(made)
    ctypes.memmove(address_of(made), address_of(view), view.nbytes)
    return made


def in_large_pages(target: bytes | memoryview) -> None:
    """Has memory for something large, not touched yet, come in large pages: half the time of a first copy goes into
    small ones."""
    size_bytes = len(target)
    if _madvise is not None and size_bytes >= APART_FROM_BYTES:
        address = address_of(target)
        begin = -(-address // _LARGE_PAGE_BYTES) * _LARGE_PAGE_BYTES
        end = (address + size_bytes) // _LARGE_PAGE_BYTES * _LARGE_PAGE_BYTES
        _madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_HUGEPAGE)
