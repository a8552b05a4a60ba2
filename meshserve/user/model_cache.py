"""A replica's models by id: the least recently used one leaves when a new one needs room.

One model is loaded or unloaded at a time; a hit waits for nobody. Room is made **before** loading: few machines have
memory for a model too many. Calls for a model that is being loaded wait for that one load; it goes on when they give
up, since a load that takes longer than every caller waits would otherwise never end.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any

from meshserve.errors import MeshServeException
from meshserve.telemetry.functions import ModelMetrics
from meshserve.telemetry.registry import PROCESS
from meshserve.user.shared_work import detach

log = logging.getLogger(__name__)

UNLIMITED = -1


class ModelCache:
    """The models of one loading function; to be used on one loop only.

    Args:
        load: the user's function, without `self`.
        limit: the most models held at a time; -1 for no limit.
        on_change: called when `model_ids` has changed.
    """

    def __init__(self, load: Callable[[str], Awaitable[Any]], limit: int, on_change: Callable[[], None]) -> None:
        self._load = load
        self._limit = limit
        self._on_change = on_change
        self._models: OrderedDict[str, Any] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Any]] = {}
        self._lock = asyncio.Lock()
        self._metrics = PROCESS.recorder(ModelMetrics)

    @property
    def model_ids(self) -> tuple[str, ...]:
        """Models held, least recently used first, and models being loaded: their calls may come here already."""
        return (*self._models, *self._loading)

    async def get(self, model_id: str) -> Any:
        """The model, loaded if need be.

        Raises:
            Exception: what loading raised; it is not kept, the next call loads again.
            MeshServeException: loading was cancelled from inside.
        """
        if model_id in self._models:
            self._metrics.hits += 1
            self._models.move_to_end(model_id)
            return self._models[model_id]
        task = self._loading.get(model_id)
        if task is not None:
            self._metrics.hits += 1
        else:
            self._metrics.misses += 1
            context = detach(copy_context())
            task = asyncio.get_running_loop().create_task(self._load_model(model_id), context=context)
            self._loading[model_id] = task
            self._on_change()
        return await asyncio.shield(task)

    async def unload_all(self) -> None:
        """Unloads every model; for the end of the replica."""
        async with self._lock:
            while self._models:
                await self._unload_oldest()

    async def _load_model(self, model_id: str) -> Any:
        try:
            async with self._lock:
                while self._limit != UNLIMITED and len(self._models) >= self._limit:
                    await self._unload_oldest()
                began = time.monotonic()
                self._models[model_id] = model = await self._load(model_id)
                self._metrics.loaded(time.monotonic() - began)
                return model
        except Exception:
            self._metrics.failures += 1
            raise
        except asyncio.CancelledError as error:
            # Those who wait were not cancelled themselves and must not look as if they were.
            raise MeshServeException(f"Loading model {model_id!r} was cancelled.") from error
        finally:
            del self._loading[model_id]
            self._on_change()

    async def _unload_oldest(self) -> None:
        model_id, model = self._models.popitem(last=False)
        self._on_change()
        began = time.monotonic()
        try:
            await destroy(model)
        except Exception:  # user code; the model is gone from here either way
            log.exception("the destructor of model %r failed", model_id)
        self._metrics.unloaded(time.monotonic() - began)


async def destroy(model: Any) -> None:
    """Runs a model's `__del__` now, off the loop unless it is async, and keeps it from running a second time.

    Raises:
        Exception: what `__del__` raised.
    """
    destructor = getattr(type(model), "__del__", None)
    if destructor is None:
        return
    try:
        if inspect.iscoroutinefunction(destructor):
            await destructor(model)
        else:
            await asyncio.get_running_loop().run_in_executor(None, destructor, model)
    finally:
        _disarm(model)


def _disarm(model: Any) -> None:
    # Python looks a destructor up on the class, so the object gets a class that differs in nothing else.
    cls = type(model)
    metaclass: Any = type(cls)
    body = {"__del__": _nothing, "__slots__": (), "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    try:
        object.__setattr__(model, "__class__", metaclass(cls.__name__, (cls,), body))
    except TypeError:  # a class that cannot be derived from or exchanged
        log.warning("__del__ of %r will run again when it is collected", cls)


def _nothing(_model: Any) -> None:
    """What is left to do for a model that was destroyed."""
