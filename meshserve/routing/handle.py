"""Handles: how Python code calls a deployment.

A handle is a name and some options; it can be made anywhere, pickled, kept in closures, used from any thread or loop.
The first call in a process connects it. Arguments are encoded where `remote` is called, everything else happens on
the I/O thread; `remote` never blocks and never raises: whatever goes wrong is on the response.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from random import getrandbits
from types import ModuleType
from typing import Any, Generic, overload

from typing_extensions import TypeVar

from meshserve.model.call import Call, CallContext, CallKind
from meshserve.model.ids import DeploymentId
from meshserve.routing.arguments import encode_call_arguments
from meshserve.routing.broadcast import DeploymentBroadcastResponse, start_broadcast
from meshserve.routing.crossing import to_io
from meshserve.routing.directory import Directory, process_directory
from meshserve.routing.response import DeploymentResponse
from meshserve.routing.response_stream import DeploymentResponseGenerator, StreamedItems
from meshserve.routing.scope import RequestScope, request_scope
from meshserve.routing.selection import Choosing, ReplicaSelection, SlotConnection
from meshserve.routing.sending import begin, claims_lately_usable, claims_usable, send
from meshserve.routing.service import Service
from meshserve.rpc.io_thread import io_thread
from meshserve.rpc.lending import lend
from meshserve.rpc.segments import segment_pool
from meshserve.telemetry.tracing import active
from meshserve.wire.failures import failure_of
from meshserve.wire.values import all_plain, encode_plain

T = TypeVar("T", default=Any, covariant=True)
R = TypeVar("R")


class _Unknown:
    """For type checkers: a handle of `Any` is one of this, too, and of nothing else that is not."""


@dataclass(frozen=True, slots=True)
class HandleOptions:
    """What `DeploymentHandle.options` sets.

    Attributes:
        method_name: the method that `remote` calls.
        stream: whether the method yields.
        multiplexed_model_id: the model a call is for.
        session_id: the session a call belongs to.
        timeout_s: the deadline of a call from its `remote` on; None for that of the parent, if any.
        priority: higher is served earlier where calls wait.
    """

    method_name: str = "__call__"
    stream: bool = False
    multiplexed_model_id: str = ""
    session_id: str = ""
    timeout_s: float | None = None
    priority: int = 0


_OPTION_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "method_name": ((str,), "the name of a method"),
    "multiplexed_model_id": ((str,), "text"),
    "session_id": ((str,), "text"),
    "timeout_s": ((Real, type(None)), "a number of seconds, or None"),
    "priority": ((Integral,), "a whole number"),
}

_SERIALIZATIONS = frozenset({"request_serialization", "response_serialization"})
_SERIALIZERS = ("cloudpickle", "pickle", "msgpack", "orjson", "noop")

_ACCEPTED_FOR_COMPATIBILITY = _SERIALIZATIONS | {"_prefer_local_routing", "_by_reference"}
"""Options of the peer that decide between its transports; there is one transport here, so they change nothing.
Nor does a wish for replicas nearby: these are preferred by every handle."""


def _check_options(changes: Mapping[str, Any]) -> None:
    """Raises TypeError for unknown options and for values of the wrong type, ValueError for an unknown serializer."""
    for name, value in changes.items():
        if name in _SERIALIZATIONS and str(value).lower() not in _SERIALIZERS:
            raise ValueError(f"{name} must be one of {', '.join(_SERIALIZERS)}, not {value!r}.")
        if name not in HandleOptions.__dataclass_fields__ and name not in _ACCEPTED_FOR_COMPATIBILITY:
            known = ", ".join(sorted(HandleOptions.__dataclass_fields__))
            raise TypeError(f"options() got an unexpected keyword argument {name!r}; there are: {known}.")
        types, wanted = _OPTION_TYPES.get(name, ((object,), ""))
        if not isinstance(value, types):
            raise TypeError(f"options({name}=...) must be {wanted}, not {value!r}.")
        if isinstance(value, str) and value != value.encode(errors="replace").decode():
            raise ValueError(f"options({name}=...) must be text that UTF-8 can express, not {value!r}.")


class Connection:
    """A handle family's way to its deployment, shared by all handles derived from one.

    Args:
        deployment: which one.
    """

    __slots__ = ("_directory", "_service", "deployment", "initialized")

    def __init__(self, deployment: DeploymentId) -> None:
        self.deployment = deployment
        self.initialized = False
        self._directory: Directory | None = None
        self._service: Service | None = None

    def service(self) -> Service:
        """The service of the deployment in this process; on the I/O thread."""
        directory = process_directory()
        if self._service is None or self._directory is not directory:
            self._directory, self._service = directory, directory.service(self.deployment)
        return self._service


class DeploymentHandle(Generic[T]):
    """Calls one deployment.

    `handle.method.remote(...)` calls a method, `handle.remote(...)` calls `__call__` (or the function). Names of this
    class's own attributes shadow methods of the deployment; `options(method_name=...)` reaches those.

    `DeploymentHandle[Model]` tells readers and type checkers whose handle it is: `await handle.remote(x)` has the type
    that `Model.__call__` returns, and with `stream=True` the items have that of what it yields. Arguments are not
    checked, since a response may stand for each. For other methods this is not to be had: Python's typing has no way to
    turn the methods of `Model` into attributes with a `remote` of the same signature, so `handle.score.remote(text)` is
    typed `Any`. Annotate where it matters: `score: float = await handle.score.remote(text)`.

    Args:
        deployment_name: the deployment.
        app_name: its application.
    """

    def __init__(
        self,
        deployment_name: str,
        app_name: str,
        *,
        _options: HandleOptions = HandleOptions(),
        _connection: Connection | SlotConnection | None = None,
        _handle_id: str = "",
        _sync: bool = True,
    ) -> None:
        self._deployment_name = deployment_name
        self._app_name = app_name
        self._options = _options
        self._connection: Connection | SlotConnection = _connection or Connection(
            DeploymentId(app_name, deployment_name)
        )
        self._handle_id = _handle_id or f"{getrandbits(32):08x}"
        self._sync = _sync  # made for a driver; decides which legacy handle it becomes

    @property
    def deployment_name(self) -> str:
        """The deployment."""
        return self._deployment_name

    @property
    def app_name(self) -> str:
        """The application."""
        return self._app_name

    @property
    def deployment_id(self) -> DeploymentId:
        """The deployment's id."""
        return self._connection.deployment

    @property
    def handle_id(self) -> str:
        """Shared by all handles derived from one; a copy that went through pickle has its own."""
        return self._handle_id

    @property
    def handle_options(self) -> HandleOptions:
        """What `options` has set."""
        return self._options

    @property
    def _router(self) -> object:
        """What handles derived from one share; ported programs compare it."""
        return self._connection

    @property
    def is_initialized(self) -> bool:
        """Whether it, or a handle it shares its way with, was used in this process."""
        return self._connection.initialized

    def _init(self, *, _prefer_local_routing: bool = False, _run_router_in_separate_loop: bool = True) -> None:
        """For ported programs: what the peer lets one choose before the first use is one way here.

        Args:
            _prefer_local_routing: accepted; replicas on the caller's node are preferred as it is.
            _run_router_in_separate_loop: accepted; routers live on the I/O thread.

        Raises:
            RuntimeError: the handle was used before, or initialized.
        """
        if self.is_initialized:
            raise RuntimeError(f"{self!r} was initialized already: call _init() once, before options() and remote().")
        self._connection.initialized = True

    @overload
    def options(
        self, *, method_name: str, use_new_handle_api: bool | None = None, **changes: Any
    ) -> DeploymentHandle[Any]: ...
    @overload
    def options(self, *, use_new_handle_api: bool | None = None, **changes: Any) -> DeploymentHandle[T]: ...
    def options(self, *, use_new_handle_api: bool | None = None, **changes: Any) -> DeploymentHandle[Any]:
        """A handle with other options; see `HandleOptions`.

        Args:
            use_new_handle_api: False for the legacy handle with the same options, True for the way back.

        Raises:
            TypeError: there is no such option, or its value is of the wrong type.
            ValueError: there is no such serializer.
        """
        _check_options(changes)
        wanted = {name: value for name, value in changes.items() if name not in _ACCEPTED_FOR_COMPATIBILITY}
        derived = self._derive(replace(self._options, **wanted))
        return derived if use_new_handle_api is None else _legacy_handles().in_style(derived, use_new_handle_api)

    def _derive(self, options: HandleOptions, kind: type[DeploymentHandle[Any]] | None = None) -> DeploymentHandle[T]:
        self._connection.initialized = True
        return (kind or type(self))(
            self._deployment_name,
            self._app_name,
            _options=options,
            _connection=self._connection,
            _handle_id=self._handle_id,
            _sync=self._sync,
        )

    def __eq__(self, other: object) -> bool:
        """Handles are equal that call the same method with the same options."""
        if not isinstance(other, DeploymentHandle):
            return NotImplemented
        return self.deployment_id == other.deployment_id and self._options == other._options

    def __hash__(self) -> int:
        return hash((self.deployment_id, self._options))

    def __getattr__(self, name: str) -> DeploymentHandle[Any]:
        """A handle that calls the method of that name.

        Probes for Python protocols (`copy.deepcopy`, numpy, notebooks) are answered with AttributeError: a handle
        implements none of them.
        """
        options = replace(self._options, method_name=name)
        if name == "__call__":
            return self._derive(options, _CallHandle if type(self) is DeploymentHandle else None)
        if name.startswith(("__", "_repr_", "_ipython_")):
            raise AttributeError(name)
        return self._derive(options)

    @overload
    def remote(self: DeploymentHandle[_Unknown], *args: Any, **kwargs: Any) -> Any: ...
    @overload
    def remote(
        self: DeploymentHandle[Callable[..., AsyncIterator[R]]], *args: Any, **kwargs: Any
    ) -> DeploymentResponseGenerator[R]: ...
    @overload
    def remote(
        self: DeploymentHandle[Callable[..., Iterator[R]]], *args: Any, **kwargs: Any
    ) -> DeploymentResponseGenerator[R]: ...
    @overload
    def remote(
        self: DeploymentHandle[Callable[..., Awaitable[R]]], *args: Any, **kwargs: Any
    ) -> DeploymentResponse[R]: ...
    @overload
    def remote(self: DeploymentHandle[Callable[..., R]], *args: Any, **kwargs: Any) -> DeploymentResponse[R]: ...
    @overload
    def remote(self, *args: Any, **kwargs: Any) -> Any: ...
    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the deployment; returns at once.

        Returns:
            A `DeploymentResponse`, or with `stream=True` a `DeploymentResponseGenerator`. Every error is on it.
        """
        options = self._options
        self._connection.initialized = True
        scope = request_scope.get()
        context = _context(options, scope)
        tracing = active()
        if tracing is not None:
            tracing.inherit(context)
        pending: Any
        response: Any
        if not options.stream and options.timeout_s is None and not kwargs and all_plain(args):
            # The common call, without the questions that it need not be asked.
            response = DeploymentResponse(context.request_id, scope)
            deadline = scope.deadline if scope is not None else None
            connection = self._connection
            call = Call(
                connection.deployment, options.method_name, CallKind.UNARY, encode_plain(args), context, deadline
            )
            call.accepts_claims, call.accepts_segments = claims_lately_usable(), True
            to_io(send, connection.service, call, response)
            return response
        if options.stream:
            pending = StreamedItems(context.request_id, scope)
            response = DeploymentResponseGenerator(pending)
        else:
            response = pending = DeploymentResponse(context.request_id, scope)
        try:
            encoded = encode_call_arguments(args, kwargs, lend)
        except Exception as error:  # noqa: BLE001 - user classes may raise anything while they are pickled
            to_io(pending._failed, failure_of(error))
            return response
        deadline = _deadline(options, scope)
        kind = encoded.kind(options.stream)
        call = Call(self._connection.deployment, options.method_name, kind, encoded.payload, context, deadline)
        call.accepts_segments = True
        call.accepts_claims = claims_usable()
        pending._holds = encoded.holds
        begin(self._connection.service, call, pending, encoded)
        return response

    def broadcast(self, method_name: str, *args: Any, **kwargs: Any) -> DeploymentBroadcastResponse:
        """Calls a method of every replica there is now, full or not; returns at once.

        Returns:
            The outcomes of all; every error is on it.
        """
        options, scope = replace(self._options, method_name=method_name), request_scope.get()
        context = _context(options, scope)
        response = DeploymentBroadcastResponse(context.request_id, scope, self.deployment_id)
        try:
            encoded = encode_call_arguments(args, kwargs, segment_pool().store)
        except Exception as error:  # noqa: BLE001 - user classes may raise anything while they are pickled
            to_io(response._failed, failure_of(error))
            return response
        call = Call(
            self.deployment_id, method_name, CallKind.UNARY, encoded.payload, context, _deadline(options, scope)
        )
        call.bypass_limit = True
        start_broadcast(lambda: process_directory().router(call.deployment), call, response, encoded)
        return response

    def choose_replica(self, *args: Any, _reserve: bool = True, **kwargs: Any) -> Choosing:
        """Chooses a replica and holds a slot there: `async with handle.choose_replica() as selection`.

        Args:
            args: shown to a user-written request router, and to nobody else.
            _reserve: False to hold no slot; such a selection cannot be dispatched.
            kwargs: as `args`.

        Returns:
            The block in which the slot is held; entering it gives a `ReplicaSelection`, or raises what is in the way.
        """
        scope = request_scope.get()
        context = _context(self._options, scope)
        payload = encode_call_arguments(args, kwargs).payload
        deadline = _deadline(self._options, scope)
        call = Call(self.deployment_id, self._options.method_name, CallKind.UNARY, payload, context, deadline)
        call.reserve = True
        return Choosing(self._connection.service, call, self._options, _reserve, scope)

    def dispatch(self, selection: ReplicaSelection, *args: Any, **kwargs: Any) -> Any:
        """Calls the replica of a selection, in the slot held there; returns at once.

        Method, streaming and the other options are those of the handle that chose.

        Returns:
            As `remote`.

        Raises:
            ValueError: the selection is of another deployment.
        """
        if selection.deployment_id != self.deployment_id:
            raise ValueError(
                f"The selection is a replica of {selection.deployment_id}, this handle calls {self.deployment_id}."
            )
        handle = self._derive(selection.options, DeploymentHandle)
        handle._connection = selection.connection
        return handle.remote(*args, **kwargs)

    async def shutdown_async(self) -> None:
        """Nothing to release: connections belong to the process. Kept for programs that call it."""

    def shutdown(self) -> None:
        """See `shutdown_async`."""

    def running_replicas_populated(self) -> bool:
        """Whether this process has ever seen a replica of the deployment."""
        return self.is_initialized and io_thread().run(self._has_replicas())

    async def _has_replicas(self) -> bool:
        """On the I/O thread."""
        return any(True for _ in process_directory().router(self.deployment_id).replicas)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _rebuild, (self._deployment_name, self._app_name, self._options, self._sync, type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(deployment={self._deployment_name!r}, app={self._app_name!r})"


class _CallHandle(DeploymentHandle[Any]):
    """`handle.__call__`: for `.remote`, and for those who look there for a signature, as `Mock(spec=handle)` does."""

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError(f"{self!r} cannot be called itself: call its .remote(...).")

    def __repr__(self) -> str:
        return f"DeploymentHandle(deployment={self._deployment_name!r}, app={self._app_name!r})"


def _rebuild(
    deployment_name: str, app_name: str, options: HandleOptions, sync: bool, kind: type[DeploymentHandle[Any]]
) -> DeploymentHandle[Any]:
    return kind(deployment_name, app_name, _options=options, _sync=sync)


def _legacy_handles() -> ModuleType:
    """The module of the legacy handles, loaded when one is wanted: it imports this one."""
    return importlib.import_module("meshserve.routing.legacy_handle")


def _deadline(options: HandleOptions, scope: RequestScope | None) -> float | None:
    """The earlier one of the handle's own and that of the request being served; None for none."""
    deadline = scope.deadline if scope is not None else None
    if options.timeout_s is None:
        return deadline
    own = time.monotonic() + options.timeout_s
    return own if deadline is None else min(deadline, own)


def _context(options: HandleOptions, scope: RequestScope | None) -> CallContext:
    """The context of a call: inherited from the request that makes it, but for model and session."""
    if scope is None:
        return CallContext(
            f"{getrandbits(128):032x}",
            "",
            "",
            options.multiplexed_model_id,
            options.session_id,
            priority=options.priority,
        )
    parent = scope.context
    return CallContext(
        parent.request_id,
        parent.app,
        parent.route,
        options.multiplexed_model_id,
        options.session_id,
        parent.traceparent,
        parent.tracestate,
        parent.client,
        options.priority or parent.priority,
    )
