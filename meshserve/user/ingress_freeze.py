"""A private copy of an ASGI application, made when a class is decorated.

What is done to the application object afterwards does not reach the copy. It is a copy by pickle in which functions,
classes and modules stay what they are: an endpoint keeps its globals, also those that its module defines further down.
Only closures are copied, with what they hold: FastAPI has some that hold the application itself.
Locks come out new and open. The copy travels to the replicas inside its class, by an ordinary pickle, so what does
not pickle by itself is exchanged here for something that does.
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType, TracebackType
from typing import Any

import cloudpickle

_KEPT = (type, BuiltinFunctionType, ModuleType, CodeType)
_LOCK_TYPES = (type(threading.Lock()), type(threading.RLock()))


class FreshLock:
    """A lock that arrives open wherever it is unpickled.

    Args:
        reentrant: whether its holder may take it again.
    """

    def __init__(self, reentrant: bool = False) -> None:
        self._reentrant = reentrant
        self._lock: Any = threading.RLock() if reentrant else threading.Lock()
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def __enter__(self) -> bool:
        return bool(self._lock.__enter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, error, traceback)

    def __reduce__(self) -> tuple[type[FreshLock], tuple[bool]]:
        return FreshLock, (self._reentrant,)


class _Freezer(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles everything but what is kept as it is."""

    def __init__(self, file: io.BytesIO, kept: list[Any]) -> None:
        super().__init__(file, protocol=5)
        self._kept = kept
        self._globals: set[int] = set()

    def persistent_id(self, obj: Any) -> int | None:
        """The place of an object that is kept, or None for one that is copied."""
        plain_function = isinstance(obj, FunctionType) and obj.__closure__ is None
        if not (plain_function or isinstance(obj, _KEPT) or id(obj) in self._globals):
            return None
        self._kept.append(obj)
        return len(self._kept) - 1

    def reducer_override(self, obj: Any) -> Any:
        """Called for what has no pickling of its own."""
        if isinstance(obj, FunctionType):
            self._globals.add(id(obj.__globals__))
            made_from = (obj.__code__, obj.__globals__, obj.__name__)
            return _make_closure, made_from, _closure_state(obj), None, None, _fill_closure
        if isinstance(obj, _LOCK_TYPES):
            return _fresh(obj).__reduce__()
        reduction = web_reduction(obj)
        return super().reducer_override(obj) if reduction is NotImplemented else reduction


def web_reduction(obj: Any) -> Any:
    """How an object of FastAPI's or Starlette's is pickled which does not pickle by itself: as itself, but with new
    locks, and with a state that finds its content again.

    Returns:
        See `pickle.Pickler.reducer_override`; NotImplemented for any other object.
    """
    if type(obj).__module__.partition(".")[0] not in ("fastapi", "starlette") or isinstance(obj, type):
        return NotImplemented
    if type(obj) is sys.modules["starlette.datastructures"].State:
        from meshserve.user.ingress_starlette import PortableState  # noqa: PLC0415 - imports Starlette

        return PortableState, (obj._state,)
    content = getattr(obj, "__dict__", {})
    locks = {name: _fresh(value) for name, value in content.items() if isinstance(value, _LOCK_TYPES)}
    if not locks:
        return NotImplemented
    make, arguments, _, *rest = obj.__reduce_ex__(5)
    return make, arguments, content | locks, *rest


def _fresh(lock: Any) -> FreshLock:
    return FreshLock(isinstance(lock, _LOCK_TYPES[1]))


def _make_closure(code: CodeType, namespace: dict[str, Any], name: str) -> FunctionType:
    """A function with empty cells; filled later, because what they hold may hold the function."""
    return FunctionType(code, namespace, name, None, tuple(CellType() for _ in code.co_freevars))


def _closure_state(function: FunctionType) -> dict[str, Any]:
    cells = {}
    for at, cell in enumerate(function.__closure__ or ()):
        try:
            cells[at] = cell.cell_contents
        except ValueError:
            pass  # the cell is empty, and stays so
    return {
        "cells": cells,
        "attributes": vars(function),
        "__defaults__": function.__defaults__,
        "__kwdefaults__": function.__kwdefaults__,
        "__annotations__": function.__annotations__,
        "__qualname__": function.__qualname__,
        "__module__": function.__module__,
        "__doc__": function.__doc__,
    }


def _fill_closure(function: FunctionType, state: dict[str, Any]) -> None:
    cells = function.__closure__ or ()
    for at, content in state.pop("cells").items():
        cells[at].cell_contents = content
    vars(function).update(state.pop("attributes"))
    for name, value in state.items():
        setattr(function, name, value)


class _Thawer(pickle.Unpickler):
    """Reads what `_Freezer` wrote in this process."""

    def __init__(self, file: io.BytesIO, kept: list[Any]) -> None:
        super().__init__(file)
        self._kept = kept

    def persistent_load(self, pid: int) -> Any:
        """The object that was kept at this place."""
        return self._kept[pid]


def frozen_copy(app: Any) -> Any:
    """Copies an application.

    Raises:
        TypeError: something in it cannot be copied; says what.
    """
    kept: list[Any] = []
    file = io.BytesIO()
    try:
        _Freezer(file, kept).dump(app)
        file.seek(0)
        return _Thawer(file, kept).load()
    except Exception as error:
        raise TypeError(
            f"cannot copy the ASGI application {type(app).__name__}: {error}. It travels to the replicas, so what it "
            "holds must be picklable; build the rest in a builder function or in the lifespan."
        ) from error
