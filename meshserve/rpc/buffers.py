"""Where buffers are in memory, and copies that do not hold up the other threads of the process.

`memoryview` copies under Python's lock: 50 MB take some 11 ms, in which no thread of the process runs, the I/O thread
included. `memmove` by ctypes lets go of the lock.
"""

from __future__ import annotations

import ctypes
from typing import Any, ClassVar

_APART_FROM_BYTES = 4 << 20
"""From here on it is worth giving up the lock, which may take 5 ms to get back from a thread that computes."""


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
    if target.nbytes >= _APART_FROM_BYTES:
        ctypes.memmove(address_of(target), address_of(source), target.nbytes)
    else:
        target[:] = source if type(source) is bytes else memoryview(source).cast("B")
