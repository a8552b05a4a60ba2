"""The thread of a process on which user-written request routers live, and one router there.

What is called from the I/O thread only posts; what comes back is posted to the I/O thread.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import pickle
import threading
from collections.abc import Callable
from typing import Any

from meshserve.errors import MeshServeException
from meshserve.model.failure import Failure
from meshserve.model.ids import DeploymentId
from meshserve.model.options import RouterOptions
from meshserve.routing.crossing import to_io
from meshserve.routing.open_replicas import OpenReplicas
from meshserve.routing.replica import Replica
from meshserve.routing.user_router import FIFOMixin, RequestRouter
from meshserve.routing.user_view import PendingRequest, RunningReplica
from meshserve.rpc.import_path import import_object
from meshserve.rpc.io_thread import LoopThread
from meshserve.rpc.mailbox import Mailbox
from meshserve.wire.failures import failure_of

log = logging.getLogger(__name__)

Ranks = tuple[tuple[Replica, ...], ...]
"""Groups of replicas, the preferred ones first."""

Told = Callable[[Ranks, Failure | None], None]
"""Whom to tell a decision, on the I/O thread."""

_HOOKS = (
    "on_request_routed",
    "on_request_completed",
    "on_request_cancelled",
    "on_replica_actor_died",
    "on_replica_actor_unavailable",
    "on_new_queue_len_info",
)

_thread: LoopThread | None = None
_lock = threading.Lock()


def routers_thread() -> LoopThread:
    """The thread of user-written routers, started on first use; a forked child gets its own."""
    global _thread
    with _lock:
        if _thread is None:
            _thread = LoopThread("meshserve-request-routers").start()
        return _thread


def _forget_after_fork() -> None:
    global _thread
    _thread = None


os.register_at_fork(after_in_child=_forget_after_fork)


class UserRouterHost:
    """One user-written router of one deployment in this process.

    Args:
        options: name it.
        deployment: whose calls it places.
        here: knows where this process is.
        on_loaded: told on the I/O thread whether it is a FIFO router, and which hooks it has.
        on_broken: told on the I/O thread why it could not be made.
    """

    def __init__(
        self,
        options: RouterOptions,
        deployment: DeploymentId,
        here: OpenReplicas,
        on_loaded: Callable[[bool, frozenset[str]], None],
        on_broken: Callable[[Failure], None],
    ) -> None:
        self._options = options
        self._deployment = deployment
        self._name = options.request_router_class
        self._on_loaded = on_loaded
        self._on_broken = on_broken
        self._router: RequestRouter | None = None
        self._candidates: list[RunningReplica] = []
        self._decisions: dict[int, asyncio.Task[None]] = {}
        self._thread = routers_thread()
        self._mailbox: Mailbox[tuple[Any, ...]] = Mailbox(self._thread.loop, _apply)
        self._mailbox.post((self._load, here.node_id, here.zone))

    # -- from the I/O thread -------------------------------------------------------------------------------------

    def decide(self, number: int, pending: PendingRequest, told: Told) -> None:
        """Asks for a decision.

        Args:
            number: to call it off with; unique among those under way.
        """
        self._mailbox.post((self._begin, number, pending, told))

    def call_off(self, number: int) -> None:
        """Nobody waits for that decision any more."""
        self._mailbox.post((self._cancel, number))

    def update(self, candidates: list[RunningReplica]) -> None:
        """These are the replicas now."""
        self._mailbox.post((self._update, candidates))

    def tell(self, hook: str, *args: Any) -> None:
        """Calls a hook."""
        self._mailbox.post((self._call_hook, hook, *args))

    # -- on the thread of routers --------------------------------------------------------------------------------

    def _load(self, node_id: str, zone: str) -> None:
        try:
            router = _class(self._options)(self._deployment, node_id, zone or None)
            router.initialize_state(**self._options.request_router_kwargs)
        except Exception as error:  # noqa: BLE001 - importing and making the user's class may raise anything
            to_io(self._on_broken, self._failure("could not be made", error))
            return
        self._router = router
        hooks = {hook for hook in _HOOKS if getattr(type(router), hook) is not getattr(RequestRouter, hook)}
        to_io(self._on_loaded, isinstance(router, FIFOMixin), frozenset(hooks))

    def _failure(self, what: str, error: BaseException) -> Failure:
        message = f"The request router {self._name} of deployment {self._deployment} {what}: {_described(error)}."
        log.error(message, exc_info=error)
        wrapped = MeshServeException(message)
        wrapped.__cause__ = error
        return failure_of(wrapped)

    def _begin(self, number: int, pending: PendingRequest, told: Told) -> None:
        if self._router is not None:
            self._decisions[number] = self._thread.spawn(self._decide(self._router, number, pending, told))

    async def _decide(self, router: RequestRouter, number: int, pending: PendingRequest, told: Told) -> None:
        try:
            ranks = _checked(await router.choose_replicas(list(self._candidates), pending))
        except asyncio.CancelledError as error:
            called_off = number not in self._decisions  # else user code has cancelled itself
            to_io(told, (), None if called_off else self._failure("was cancelled", error))
            raise
        except Exception as error:  # noqa: BLE001 - user code may raise anything; the call fails with it
            to_io(told, (), self._failure("has failed", error))
        else:
            to_io(told, ranks, None)
        finally:
            self._decisions.pop(number, None)

    def _cancel(self, number: int) -> None:
        task = self._decisions.pop(number, None)
        if task is not None:
            task.cancel()

    def _update(self, candidates: list[RunningReplica]) -> None:
        self._candidates = candidates
        self._call_hook("update_replicas", list(candidates))

    def _call_hook(self, hook: str, *args: Any) -> None:
        if self._router is None:
            return
        try:
            getattr(self._router, hook)(*args)
        except Exception:  # a hook that fails must not fail calls
            log.exception(
                "%s of the request router %s of deployment %s has failed.", hook, self._name, self._deployment
            )


def _apply(mail: tuple[Any, ...]) -> None:
    mail[0](*mail[1:])


def _described(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _class(options: RouterOptions) -> type[RequestRouter]:
    """The user's class.

    Raises:
        TypeError: it is no request router.
        Exception: whatever importing it raises.
    """
    if options.request_router_pickle:
        found = pickle.loads(base64.b64decode(options.request_router_pickle))
    else:
        found = import_object(options.request_router_class)
    if not (isinstance(found, type) and issubclass(found, RequestRouter)):
        raise TypeError(f"{found!r} is not a subclass of meshserve.request_router.RequestRouter")
    return found


def _checked(ranks: Any) -> Ranks:
    """What a router returned, as replicas.

    Raises:
        TypeError: it is not a list of lists of the candidates.
    """
    groups = [list(group) for group in ranks] if isinstance(ranks, list | tuple) else None
    if groups is None or not all(isinstance(one, RunningReplica) for group in groups for one in group):
        raise TypeError(f"choose_replicas must return a list of lists of its candidates, not {ranks!r}")
    return tuple(tuple(one.replica for one in group) for group in groups)
