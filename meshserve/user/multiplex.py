"""`@serve.multiplexed`: many models behind one deployment, a few of them in each replica.

The decorated function loads a model; calling it returns the model with that id from the replica's cache
(`user.model_cache`). Which models a replica holds is known to `ModelRegistry`, from where the replica tells routers, so
that calls for a model go where it is.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar, overload
from weakref import WeakKeyDictionary, WeakSet

from meshserve.telemetry.functions import ModelMetrics
from meshserve.telemetry.registry import PROCESS
from meshserve.user.context import current_replica
from meshserve.user.methods import MethodOwner
from meshserve.user.model_cache import UNLIMITED, ModelCache

F = TypeVar("F", bound=Callable[..., Any])


class ModelRegistry:
    """The models of this process: what it holds and what it is loading. There is one; it has no instances."""

    _caches: ClassVar[WeakSet[ModelCache]] = WeakSet()
    _models: ClassVar[tuple[str, ...]] = ()
    _listeners: ClassVar[list[Callable[[], object]]] = []

    @classmethod
    def current_models(cls) -> tuple[str, ...]:
        """Ids of the models held or being loaded, sorted; from any thread."""
        return cls._models

    @classmethod
    def on_change(cls, callback: Callable[[], object]) -> Callable[[], None]:
        """Calls back, on the loop of user code, whenever `current_models` has changed; returns what ends that."""
        cls._listeners.append(callback)
        return lambda: cls._listeners.remove(callback)

    @classmethod
    def new_cache(cls, load: Callable[[str], Awaitable[Any]], limit: int) -> ModelCache:
        """Makes a cache that is counted here for as long as it lives."""
        cache = ModelCache(load, limit, cls._look)
        cls._caches.add(cache)
        PROCESS.recorder(ModelMetrics).held = lambda: len(cls._models)
        return cache

    @classmethod
    async def unload_all(cls) -> None:
        """Unloads every model; for the end of the replica, on the loop of user code."""
        for cache in tuple(cls._caches):
            await cache.unload_all()

    @classmethod
    def _look(cls) -> None:
        models = tuple(sorted({model_id for cache in cls._caches for model_id in cache.model_ids}))
        if models != cls._models:
            cls._models = models
            for listener in tuple(cls._listeners):
                listener()


class ModelLoader:
    """Finds the cache of one decorated function. Pickles as what it was made of, without models.

    Args:
        function: the user's.
        limit: models a replica holds at a time.
    """

    def __init__(self, function: Callable[..., Any], limit: int) -> None:
        self._function = function
        self._limit = limit
        self._attribute = f"_meshserve_models_of_{function.__qualname__}"
        self._owner = MethodOwner(function)
        self._caches: WeakKeyDictionary[asyncio.AbstractEventLoop, ModelCache] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[Any, ...]:
        return ModelLoader, (self._function, self._limit)

    async def get(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The model that a call of the decorated function asks for."""
        owner, rest = self._owner.split(args)
        if len(rest) + len(kwargs) != 1:
            inspect.signature(self._function).bind(*args, **kwargs)  # raises what a plain call would raise
        model_id = rest[0] if rest else next(iter(kwargs.values()))
        if not isinstance(model_id, str):
            raise TypeError(f"a model id must be a str, not {model_id!r}.")
        if not model_id:
            raise ValueError("the model id is empty; give the request one by header, metadata or handle option.")
        if current_replica() is None:
            raise RuntimeError(
                "A function with @serve.multiplexed can only be used within a deployment; this process is no replica."
            )
        return await self._cache(owner).get(model_id)

    def _cache(self, owner: tuple[Any, ...]) -> ModelCache:
        """A method's cache lives as long as its instance, a function's as long as its loop."""
        if not owner:
            loop = asyncio.get_running_loop()
            if loop not in self._caches:
                self._caches[loop] = ModelRegistry.new_cache(self._function, self._limit)
            return self._caches[loop]
        instance = owner[0]
        cache: ModelCache | None = getattr(instance, self._attribute, None)
        if cache is None:
            cache = ModelRegistry.new_cache(functools.partial(self._function, instance), self._limit)
            object.__setattr__(instance, self._attribute, cache)
        return cache


@overload
def multiplexed(func: F, /) -> F: ...


@overload
def multiplexed(func: None = None, max_num_models_per_replica: int = 3) -> Callable[[F], F]: ...


def multiplexed(func: Any = None, max_num_models_per_replica: int = 3) -> Any:
    """Makes a function that loads a model one that keeps a few of them.

    The function is `async def`, takes a model id (after `self`, for a method) and returns the model. A model that has
    to leave is destroyed by its `__del__`, sync or async, before the next one is loaded.

    Args:
        max_num_models_per_replica: how many models a replica holds; -1 for no limit.

    Raises:
        TypeError: the function is not async or takes other arguments; the limit is no whole number.
        ValueError: the limit is 0 or less, and not -1.
    """
    if isinstance(max_num_models_per_replica, bool) or not isinstance(max_num_models_per_replica, int):
        raise TypeError(f"max_num_models_per_replica must be a whole number, not {max_num_models_per_replica!r}.")
    if max_num_models_per_replica <= 0 and max_num_models_per_replica != UNLIMITED:
        raise ValueError(
            f"max_num_models_per_replica must be positive, or -1 for no limit, not {max_num_models_per_replica}."
        )

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        _check_loads_by_id(function)
        loader = ModelLoader(function, max_num_models_per_replica)

        @functools.wraps(function)
        async def get_model(*args: Any, **kwargs: Any) -> Any:
            return await loader.get(args, kwargs)

        return get_model

    return decorate if func is None else decorate(func)


def _check_loads_by_id(function: Any) -> None:
    if not inspect.iscoroutinefunction(function):
        raise TypeError(
            f"@serve.multiplexed can only be used to decorate async functions or methods, not {function!r}."
        )
    names = list(inspect.signature(function).parameters)
    owner = MethodOwner(function)
    allowed = {2} if owner.takes_self else {1, 2} if owner.may_be_method else {1}
    if len(names) not in allowed:
        raise TypeError(
            "@serve.multiplexed can only be used to decorate functions or methods with exactly one argument "
            f"'model_id: str'; this one takes {names}."
        )
