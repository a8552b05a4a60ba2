"""`serve.ingress`: an ASGI application, whole and unchanged, as the HTTP side of a deployment class.

The decorator gives a subclass of the user's class that is called with ASGI's scope, receive and send. Constructing it
runs the user's constructor, makes the application and runs its lifespan startup; destroying it runs the lifespan
shutdown and then the user's destructor. Neither FastAPI nor Starlette is imported here unless the user's application
is one of theirs.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from meshserve.errors import BackPressureError, DeploymentUnavailableError
from meshserve.user.ingress_freeze import frozen_copy
from meshserve.user.ingress_lifespan import AsgiApp, Lifespan
from meshserve.user.json_body import extra_encoders

BUILD_HOOK = "__serve_build_asgi_app__"
"""The method of a class that makes its application after it was constructed."""

MAX_ROUTE_PATTERNS = 256
"""Patterns beyond these are not reported; their requests are counted under the prefix."""


class AppSource(Protocol):
    """Where an ingress class gets its application from, in the replica."""

    async def app(self, instance: Any) -> AsgiApp:
        """The application for a constructed instance."""


@dataclass(frozen=True)
class GivenApp:
    """An application object, copied when the class was decorated."""

    given: AsgiApp

    async def app(self, instance: Any) -> AsgiApp:
        """See `AppSource`."""
        return self.given


@dataclass(frozen=True)
class BuiltApp:
    """A function without parameters that makes the application in the replica."""

    build: Callable[[], Any]
    owner: type

    async def app(self, instance: Any) -> AsgiApp:
        """See `AppSource`; raises TypeError when it makes none."""
        app = _checked(await _settled(self.build()), f"The builder {self.build.__qualname__!r}")
        return _bound(app, self.owner)


@dataclass(frozen=True)
class HookedApp:
    """The class makes its application itself, in a method."""

    async def app(self, instance: Any) -> AsgiApp:
        """See `AppSource`; raises TypeError when it makes none."""
        hook = getattr(instance, BUILD_HOOK)
        return _checked(await _settled(hook()), f"{type(instance).__name__}.{BUILD_HOOK}")


class AsgiIngress:
    """What every ingress class inherits in front of the user's class; a replica knows it by this.

    Attributes:
        __meshserve_source__: where the application comes from.
        __meshserve_docs_path__: where it shows its documentation, or None.
        __meshserve_route_patterns__: its routes, for labels; known once it is constructed.
        lifespan_state: what its lifespan left for requests.
    """

    __meshserve_source__: ClassVar[AppSource]
    __meshserve_docs_path__: str | None = None
    __meshserve_route_patterns__: tuple[str, ...] = ()

    _meshserve_ending: ClassVar[type[_Ending]]
    _meshserve_app: AsgiApp
    _meshserve_lifespan: Lifespan | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuses a subclass whose constructor could not wait for the application.

        Raises:
            TypeError: its `__init__`, be it its own or that of a mixin, is not a coroutine function.
        """
        super().__init_subclass__(**kwargs)
        if not inspect.iscoroutinefunction(cls.__init__):
            raise TypeError(
                f"{cls.__name__}.__init__ must be `async def`, because {cls.__name__} inherits from an ingress class, "
                "whose constructor is asynchronous: await super().__init__(...) in it."
            )

    async def __init__(  # type: ignore[misc]  # the replica awaits what it returns
        self, *args: Any, **kwargs: Any
    ) -> None:
        await _settled(super().__init__(*args, **kwargs))
        app = await self.__meshserve_source__.app(self)
        _answer_failed_calls(app)
        _encode_arrays()
        docs_path = getattr(app, "docs_url", None)
        if docs_path is not None:
            self.__meshserve_docs_path__ = docs_path
        self.__meshserve_route_patterns__ = _route_patterns(app)
        self._meshserve_app = app
        lifespan = Lifespan(app)
        await lifespan.startup()
        self._meshserve_lifespan = lifespan

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serves one request or WebSocket; an ASGI application itself."""
        scope["meshserve.instance"] = self
        await self._meshserve_app(scope, receive, send)

    @property
    def lifespan_state(self) -> dict[str, Any]:
        """What the application's lifespan left for requests."""
        return self._meshserve_lifespan.state if self._meshserve_lifespan is not None else {}

    def __del__(self) -> Awaitable[None]:
        """Ends the application and then the user's object, once awaited.

        Not a coroutine function: the interpreter calls this as well, awaits nothing, and would warn of a coroutine.
        """
        return self._meshserve_ending(self._meshserve_end)

    async def _meshserve_end(self) -> None:
        lifespan, self._meshserve_lifespan = self._meshserve_lifespan, None
        if lifespan is not None:
            await lifespan.shutdown()
        destructor = getattr(super(), "__del__", None)
        if destructor is not None:
            await _settled(destructor())


class _Ending:
    """Awaits to the end of an instance; dropped, it does nothing."""

    def __init__(self, end: Callable[[], Awaitable[None]]) -> None:
        self._end = end

    def __await__(self) -> Generator[Any, None, None]:
        return self._end().__await__()


# By way of the class, because the interpreter may call `__del__` when this module has lost its names already.
AsgiIngress._meshserve_ending = _Ending


class _NoClass:
    """The class of an ingress that was given none: keeps what it was bound with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs


def ingress(app: Any = None) -> Callable[..., Any]:
    """Makes a class serve HTTP by an ASGI application.

    Args:
        app: a FastAPI or Starlette application, an APIRouter, any ASGI application; or a function without parameters
            that makes one in the replica; or None for a class whose method `__serve_build_asgi_app__` does.

    Returns:
        A decorator for the class. Called without a class it gives a class that only serves the application.

    Raises:
        ValueError: on decorating what is not a class, or a class that defines `__call__`, or with None a class
            without the method.
        TypeError: the application is none of these, or cannot be copied to the replicas.
        MeshServeException: a route of the class does not take `self`.
    """
    if app is not None:
        _check_app(app)

    def decorate(cls: type | None = None) -> type:
        return _ingress_class(app, _NoClass if cls is None else cls)

    return decorate


def _ingress_class(app: Any, cls: type) -> type:
    _check_class(app, cls)
    if app is None:
        source: AppSource = HookedApp()
    elif inspect.isfunction(app) and not inspect.signature(app).parameters:
        source = BuiltApp(app, cls)
    else:
        source = GivenApp(frozen_copy(_bound(app, cls)))
    name = "ASGIIngressDeployment" if cls is _NoClass else cls.__name__
    return type(
        name,
        (AsgiIngress, cls),
        {
            "__module__": cls.__module__,
            "__qualname__": name if cls is _NoClass else cls.__qualname__,
            "__doc__": cls.__doc__,
            "__meshserve_source__": source,
            "__meshserve_docs_path__": getattr(app, "docs_url", None),
        },
    )


def _check_app(app: Any) -> None:
    if hasattr(app, "func_or_class"):
        raise TypeError(
            f"serve.ingress takes an ASGI application, not a deployment ({app!r}): it goes below @serve.deployment, "
            "above the class, as @serve.ingress(app)."
        )
    if not callable(app):
        raise TypeError(f"serve.ingress takes an ASGI application or a function that makes one, not {app!r}.")
    if inspect.isclass(app) and not hasattr(app, "__await__"):  # Starlette's endpoints are classes with it
        raise TypeError(
            f"serve.ingress takes an ASGI application, not the class {app.__name__!r}: write @serve.ingress(app) above "
            f"the class of the deployment, where app is an application, as FastAPI() is."
        )
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return  # made in C: it does not tell
    if inspect.isfunction(app) and not signature.parameters:
        return
    try:
        signature.bind("scope", "receive", "send")
    except TypeError as error:
        raise TypeError(
            f"serve.ingress takes an ASGI application, which is called with scope, receive and send, or a function "
            f"without parameters that makes one; {app!r} takes {signature}. A WSGI application, as of Flask, needs an "
            "adapter around it, such as a2wsgi.WSGIMiddleware."
        ) from error


def _check_class(app: Any, cls: Any) -> None:
    if not inspect.isclass(cls):
        raise ValueError(
            f"@serve.ingress must be used with a class, not {cls!r}; @serve.deployment, if any, goes above it."
        )
    if any("__call__" in vars(owner) for owner in cls.__mro__):
        raise ValueError(
            f"Classes passed to @serve.ingress may not have __call__ method. That of {cls.__name__} would never be "
            "called, because the application answers every request: make it a route of the application."
        )
    if app is None and not hasattr(cls, BUILD_HOOK):
        raise ValueError(f"@serve.ingress() without an app argument requires {cls.__name__} to define `{BUILD_HOOK}`.")


def _checked(app: Any, origin: str) -> AsgiApp:
    if app is None or not callable(app):
        raise TypeError(f"{origin} must return an ASGI application, but returned {app!r}.")
    made: AsgiApp = app
    return made


async def _settled(result: Any) -> Any:
    """What a function of either colour gives."""
    return await result if inspect.isawaitable(result) else result


def _bound(app: AsgiApp, cls: type) -> AsgiApp:
    """An application of FastAPI's with the routes that are methods of the class; any other as it is."""
    fastapi = sys.modules.get("fastapi")
    if fastapi is None or not isinstance(app, fastapi.FastAPI | fastapi.APIRouter):
        return app
    from meshserve.user.ingress_views import bound_application  # noqa: PLC0415 - imports FastAPI

    return bound_application(app, cls)


def _answer_failed_calls(app: Any) -> None:
    """Lets a Starlette application answer for child calls that found no room or no deployment, as the ingress does."""
    handlers = getattr(app, "exception_handlers", None)
    if not isinstance(handlers, dict) or not hasattr(app, "add_exception_handler"):
        return
    from meshserve.user.ingress_starlette import busy, unavailable  # noqa: PLC0415 - imports Starlette

    for error, answer in ((BackPressureError, busy), (DeploymentUnavailableError, unavailable)):
        if error not in handlers:
            app.add_exception_handler(error, answer)


def _encode_arrays() -> None:
    """Lets FastAPI's routes return arrays and frames, as plain deployments do, unless they declare what they return."""
    encoders = sys.modules.get("fastapi.encoders")
    if encoders is not None:
        encoders.ENCODERS_BY_TYPE.update(extra_encoders())


def _route_patterns(app: Any) -> tuple[str, ...]:
    patterns: list[str] = []
    for pattern in _patterns_below(getattr(app, "routes", None) or (), ""):
        if pattern not in patterns:
            patterns.append(pattern)
        if len(patterns) == MAX_ROUTE_PATTERNS:
            break
    return tuple(patterns)


def _patterns_below(routes: Any, prefix: str) -> Iterator[str]:
    """The paths of a Starlette router's routes, with those of included and mounted ones in their place.

    Routes for some methods only are named with them, as `GET,HEAD /items/{id}`.
    """
    for route in routes:
        included = getattr(route, "effective_route_contexts", None)
        if included is not None:
            yield from _patterns_below(included(), prefix)
            continue
        path = getattr(route, "path", None)
        if path is None:
            path = getattr(getattr(route, "starlette_route", None), "path", None)
        if path is None:
            continue
        below = getattr(route, "routes", None)
        if below:
            yield from _patterns_below(below, prefix + path)
        elif hasattr(route, "methods") or hasattr(route, "endpoint"):
            methods = ",".join(sorted(getattr(route, "methods", None) or ()))
            yield f"{methods} {prefix}{path}" if methods else prefix + path
        else:
            yield prefix + path + "/{path:path}"
