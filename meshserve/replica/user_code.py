"""The user's object: constructed, configured, called, asked for its health, destroyed.

It lives on a loop of its own, on a thread of its own: its constructor, destructor and asynchronous methods run there,
its synchronous methods in a pool of threads. Nothing here runs on the I/O thread, so whatever user code does, the
replica still answers; unless the operator has decided that code which never blocks shares the I/O loop
(`Settings.user_code_apart`).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any

import cloudpickle

from meshserve.errors import InvalidCallError, MeshServeException
from meshserve.model.control import ReplicaRank
from meshserve.model.options import DeploymentOptions, Json
from meshserve.rpc.garbage import settle_garbage
from meshserve.rpc.io_thread import LoopThread, io_thread
from meshserve.user.context import ReplicaContext, set_replica_context


class UserCode:
    """One user object in a replica.

    Args:
        context: of this replica.
        options: of the deployment.
        apart: False to run asynchronous code on the I/O loop.

    Attributes:
        callable: the user's instance, or the function; None until constructed.
        is_function: whether the deployment is a function.
        loop: where asynchronous user code runs.
    """

    def __init__(self, context: ReplicaContext, options: DeploymentOptions, *, apart: bool = True) -> None:
        self.context = context
        self.options = options
        self.callable: Any = None
        self.is_function = False
        self._thread = LoopThread("meshserve-user").start() if apart else io_thread()
        self.loop = self._thread.loop
        self._pool = _pool(options.max_ongoing_requests)
        self._methods: dict[str, tuple[Callable[..., Any], bool]] = {}
        self._configured: tuple[Json, ReplicaRank] | None = None
        self._destroyed = False

    # -- life ----------------------------------------------------------------------------------------------------

    async def on_loop(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs a function on the user's loop, awaiting what it returns; to be awaited on another loop."""

        async def run() -> Any:
            result = function(*args)
            return await result if inspect.isawaitable(result) else result

        return await asyncio.wrap_future(self._thread.submit(run()))

    async def construct(self, code: bytes) -> None:
        """Loads the code and runs the constructor on the user's loop; raises what it raises."""
        set_replica_context(self.context)
        await self.on_loop(self._construct, code)
        self.context.servable_object = self.callable

    async def _construct(self, code: bytes) -> None:
        self._offer_pool()
        target, args, kwargs = cloudpickle.loads(code)
        if not inspect.isclass(target):
            self.is_function = True
            self.callable = target
            return
        # Known from here on, so that a replica that is to end meanwhile can destroy what there is of it.
        instance = self.callable = target.__new__(target)
        # The constructor may be asynchronous (an ASGI ingress runs its lifespan in it).
        result = target.__init__(instance, *args, **kwargs)
        if inspect.isawaitable(result):
            await result

    def _offer_pool(self) -> None:
        """Lets `asyncio.to_thread` use the pool, on a loop that is only the user's; the I/O loop keeps its own."""
        if self._thread is not io_thread():
            self.loop.set_default_executor(self._pool)

    async def reconfigure(self, options: DeploymentOptions, rank: ReplicaRank) -> None:
        """Applies options; calls the user's `reconfigure` if its user_config or rank changed.

        Raises:
            MeshServeException: there is a user_config and nothing to hand it to.
        """
        if options.max_ongoing_requests != self.options.max_ongoing_requests:
            retired, self._pool = self._pool, _pool(options.max_ongoing_requests)
            self.loop.call_soon_threadsafe(self._offer_pool)
            self.loop.call_soon_threadsafe(partial(retired.shutdown, wait=False))
        self.options = options
        self.context.rank = rank
        self.context.world_size = options.num_replicas
        self.context.max_ongoing_requests = options.max_ongoing_requests
        hook = None if self.is_function else getattr(self.callable, "reconfigure", None)
        takes_rank = hook is not None and "rank" in inspect.signature(hook).parameters
        wanted = (options.user_config, rank if takes_rank else ReplicaRank())
        if wanted == self._configured or (options.user_config is None and not takes_rank):
            self._configured = wanted
            return
        if self.is_function:
            raise ValueError("A function deployment cannot have a user_config: make it a class with `reconfigure`.")
        if hook is None:
            raise MeshServeException(
                f"user_config is set, but {type(self.callable).__name__} has no method "
                "`reconfigure(self, user_config)`."
            )
        kwargs = {"rank": rank} if takes_rank else {}
        await self.on_loop(lambda: hook(options.user_config, **kwargs))
        self._configured = wanted

    def settle(self) -> None:
        """After construction: see `rpc.garbage`."""
        settle_garbage()

    async def destroy(self) -> None:
        """Runs the user's destructor, once."""
        if self._destroyed or self.callable is None:
            return
        self._destroyed = True
        hook = None if self.is_function else getattr(type(self.callable), "__del__", None)
        if hook is not None:
            await self.on_loop(hook, self.callable)
            _disarm(self.callable)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Ends the user's loop and threads, where the process outlives the object; nothing may run on them any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._thread is not io_thread():
            self._thread.stop()

    # -- calls ---------------------------------------------------------------------------------------------------

    def method(self, name: str) -> Callable[..., Any]:
        """The method to call; a function answers to every name.

        Raises:
            InvalidCallError: there is no such method; names those there are.
        """
        return self._find(name)[0]

    def is_sync(self, name: str) -> bool:
        """Whether the method blocks its thread; False for an unknown one."""
        try:
            return self._find(name)[1]
        except InvalidCallError:
            return False

    def _find(self, name: str) -> tuple[Callable[..., Any], bool]:
        found = self._methods.get(name)
        if found is None:
            method = self.callable if self.is_function else getattr(self.callable, name, None)
            if not callable(method):
                raise InvalidCallError(self._no_method(name))
            found = self._methods[name] = (method, not is_async(method))
        return found

    def _no_method(self, name: str) -> str:
        there_are = [
            attribute
            for attribute in dir(type(self.callable))
            if not attribute.startswith("__") and callable(getattr(type(self.callable), attribute, None))
        ]
        return f"Deployment {self.context.deployment!r} has no method {name!r}. Available methods: {there_are}."

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Runs a function on a worker thread; from any thread."""
        try:
            return self._pool.submit(function, *args)
        except RuntimeError:  # the pool was exchanged by a reconfigure between the look and the call
            return self._pool.submit(function, *args)

    async def in_thread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs a synchronous function on a worker thread with the current context; on the user's loop."""
        context = copy_context()
        return await asyncio.wrap_future(self.submit(lambda: context.run(function, *args, **kwargs)))

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls user code of either colour; on the user's loop."""
        if is_async(function):
            result = function(*args, **kwargs)
        else:
            result = await self.in_thread(function, *args, **kwargs)
        return await result if inspect.isawaitable(result) else result


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it returns at once with something to await or to iterate."""
    if not inspect.isroutine(function) and not inspect.isclass(function) and callable(function):
        # A partial, or an object that is called.
        function = getattr(function, "func", None) or type(function).__call__
    return (
        inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
        or bool(getattr(function, "_meshserve_is_async", False))
    )


def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=max(1, threads), thread_name_prefix="meshserve-sync")


def _disarm(instance: Any) -> None:
    """Sees to it that a destructor that was run is not run again when the instance is collected.

    The class itself is left alone if it lets itself be derived from: it may have other instances in this process.
    """
    own = type(instance)
    try:
        instance.__class__ = type(own.__name__, (own,), {"__slots__": (), "__del__": _spent})
    except Exception:  # noqa: BLE001 - user classes may refuse subclasses in any way
        own.__del__ = _spent


def _spent(_self: object) -> None:
    """A destructor that does nothing."""
