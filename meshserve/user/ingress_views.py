"""FastAPI routes that are methods of the ingress class: they get the replica's instance as `self`.

FastAPI reads an endpoint's signature when the route is added, which is while the class body runs: there `self` looks
like a query parameter. When the class is decorated, each of its routes is built again from an endpoint whose
signature says that `self` is a dependency: the instance that serves the request, found in the request's scope.

Imported only when the application is one of FastAPI's.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Mount

from meshserve.errors import MeshServeException

INSTANCE_KEY = "meshserve.instance"
"""Where a request's scope holds the instance that serves it."""

_MARK = "_meshserve_view"
"""Set on an endpoint that was bound to a class, so that another class on the same application can tell."""


def bound_application(app: FastAPI | APIRouter, cls: type) -> FastAPI:
    """Turns the routes that are methods of a class into views of it; drops those of other decorated classes.

    Args:
        app: changed in place. A router alone cannot serve, so one is put into an application that adds nothing.

    Returns:
        The application.

    Raises:
        MeshServeException: a method takes no `self`.
    """
    _bind(app, cls)
    if isinstance(app, FastAPI):
        return app
    application = FastAPI(openapi_url=None)
    application.include_router(app)
    return application


@dataclass(frozen=True, slots=True)
class _Methods:
    """The methods of a class and of those it inherits from, also those that a later one of the same name has replaced:
    they are routes all the same.

    Attributes:
        owners: module and qualified name of each class.
        held: the ids of the functions that the classes hold.
        static: the ids of those of them that are static: they get no instance, so that they are no methods.
    """

    owners: frozenset[tuple[str, str]]
    held: frozenset[int]
    static: frozenset[int]

    @staticmethod
    def of(cls: type) -> _Methods:
        """Those of a class."""
        owners = [owner for owner in cls.__mro__ if owner is not object]
        values = [value for owner in owners for value in vars(owner).values()]
        static = [value for value in values if isinstance(value, staticmethod)]
        return _Methods(
            frozenset((owner.__module__, owner.__qualname__) for owner in owners),
            frozenset(id(value) for value in values if isinstance(value, FunctionType)),
            frozenset(id(function) for value in static for function in (value, value.__func__)),
        )

    def __contains__(self, endpoint: Any) -> bool:
        if id(endpoint) in self.static:
            return False
        if id(endpoint) in self.held:
            return True
        if getattr(endpoint, _MARK, False):
            return False  # of another class, perhaps one of the same name
        owner = getattr(endpoint, "__qualname__", "").rpartition(".")[0]
        return (getattr(endpoint, "__module__", ""), owner) in self.owners


def _bind(app: FastAPI | APIRouter, cls: type) -> None:
    own = _Methods.of(cls)
    for router in _routers(app.router if isinstance(app, FastAPI) else app, set()):
        router.routes[:] = [_bound(route, own, router) for route in router.routes if not _is_foreign(route, own)]
        _forget_compiled(router)


def _routers(router: APIRouter, seen: set[int]) -> Iterator[APIRouter]:
    """A router, and all that it includes or mounts."""
    if id(router) in seen:
        return
    seen.add(id(router))
    yield router
    for route in router.routes:
        included = getattr(route, "original_router", None)
        if included is None and isinstance(route, Mount) and isinstance(route.app, FastAPI):
            included = route.app.router
        if isinstance(included, APIRouter):
            yield from _routers(included, seen)


def _forget_compiled(router: APIRouter) -> None:
    """Tells a FastAPI that keeps the routes of included routers compiled that these have changed."""
    changed = getattr(router, "_mark_routes_changed", None)
    if changed is not None:
        changed()


def _is_foreign(route: BaseRoute, own: _Methods) -> bool:
    endpoint = getattr(route, "endpoint", None)
    return getattr(endpoint, _MARK, False) and endpoint not in own


def _bound(route: BaseRoute, own: _Methods, router: APIRouter) -> BaseRoute:
    """The route as a view of the class, or as it is when it is none of its methods."""
    if not isinstance(route, APIRoute | APIWebSocketRoute) or route.endpoint not in own:
        return route
    if not hasattr(route.endpoint, _MARK):
        _inject_instance(route.endpoint)
    return _rebuilt(route, router)


def _inject_instance(endpoint: Any) -> None:
    """Makes the first parameter the instance, and the others keyword-only."""
    parameters = list(inspect.signature(endpoint).parameters.values())
    if not parameters or parameters[0].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
        raise MeshServeException(
            "Methods in FastAPI class-based view must have ``self`` as their first argument; "
            f"{endpoint.__qualname__} has not."
        )
    rest = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY) if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD else p
        for p in parameters[1:]
    ]
    endpoint.__signature__ = inspect.Signature(
        [parameters[0].replace(default=Depends(_instance)), *rest],
        return_annotation=inspect.signature(endpoint).return_annotation,
    )
    setattr(endpoint, _MARK, True)


async def _instance(connection: HTTPConnection) -> Any:
    """The instance that serves this request."""
    return connection.scope[INSTANCE_KEY]


def _rebuilt(route: APIRoute | APIWebSocketRoute, router: APIRouter) -> BaseRoute:
    """Makes the route again, from its own attributes: they are named like the parameters of its class."""
    options: dict[str, Any] = {}
    for name in _parameters(type(route)):
        if hasattr(route, name):
            options[name] = getattr(route, name)
    options["dependency_overrides_provider"] = router.dependency_overrides_provider
    if getattr(route, "stream_item_type", None) is not None:
        # FastAPI derives it from the return annotation, but only when no response model is given.
        del options["response_model"]
    return type(route)(**options)


def _parameters(route_class: type) -> set[str]:
    """The parameters of a route class, with those that it hands on to FastAPI's own."""
    names: set[str] = set()
    for owner in route_class.__mro__:
        if "__init__" in vars(owner):
            parameters = inspect.signature(owner.__init__).parameters.values()  # type: ignore[misc]  # not an instance
            names.update(p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD)
            if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
                break
    return names - {"self"}
