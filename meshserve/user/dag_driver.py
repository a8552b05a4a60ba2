"""The ready-made ingress for deployment graphs: HTTP by an adapter, Python by `predict`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from fastapi import Depends, FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from meshserve.errors import MeshServeException
from meshserve.routing.handle import DeploymentHandle
from meshserve.routing.response import DeploymentResponse
from meshserve.user.dag_adapter import load_http_adapter
from meshserve.user.dag_handle import MeshServeDAGHandle
from meshserve.user.ingress import ingress
from meshserve.user.json_body import to_json

Graph: TypeAlias = MeshServeDAGHandle | DeploymentHandle[Any]
"""What a driver serves: a graph, or a whole deployment in the place of one."""

EVERY_PATH = "/{path:path}"
"""The route of a driver with a single graph."""


class PrefixAsRoot:
    """Middleware: a request for exactly the prefix of the application is one for its path `/`, without a redirect.

    Args:
        app: what is called.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and scope["path"] == scope.get("root_path"):
            scope = {**scope, "path": scope["path"] + "/"}
        await self._app(scope, receive, send)


@ingress()
class DAGDriver:
    """Serves one graph at every path, or several at a path each, by GET and POST.

    Args:
        dags: a graph (a bound call) or an application, or a dict of them by path.
        http_adapter: makes a graph's input from a request; see `load_http_adapter`.

    Raises:
        AssertionError: a graph is something else.
        ValueError: the adapter cannot be one.
    """

    __meshserve_takes_graphs__ = True

    def __init__(self, dags: Any, http_adapter: Any = None) -> None:
        by_route = dags if isinstance(dags, dict) else {EVERY_PATH: dags}
        self._graphs: dict[str, Graph] = {route: _checked(graph) for route, graph in by_route.items()}
        self._adapter = load_http_adapter(http_adapter)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called when it is constructed."""
        app = FastAPI()
        app.add_middleware(PrefixAsRoot)
        for route in self._graphs:
            for method in ("GET", "POST"):
                app.add_api_route(route, self._endpoint(route), methods=[method])
        return app

    def _endpoint(self, route: str) -> Callable[..., Any]:
        given_by_adapter = Depends(self._adapter)

        async def predict(given: Any = given_by_adapter) -> Response:
            result = await self.predict_with_route(route, given)
            return result if isinstance(result, Response) else Response(to_json(result), media_type="application/json")

        return predict

    async def predict(self, *args: Any, _ray_cache_refs: bool = False, **kwargs: Any) -> Any:
        """Executes the one graph.

        Args:
            args: the input; several arguments, or any by name, are its items.
            _ray_cache_refs: keep the results of all nodes for `get_intermediate_object_refs`.
            kwargs: items of the input by name.

        Raises:
            KeyError: there are several graphs; see `predict_with_route`.
        """
        graph = self._graphs[EVERY_PATH]
        if _ray_cache_refs and isinstance(graph, MeshServeDAGHandle):
            return await graph.start(*args, _ray_cache_refs=True, **kwargs)
        return await _start(graph, args, kwargs)

    async def predict_with_route(self, route: str, *args: Any, **kwargs: Any) -> Any:
        """Executes the graph of a path; see `predict`.

        Raises:
            MeshServeException: there is none of that path.
        """
        if route not in self._graphs:
            raise MeshServeException(f"There is no graph at {route!r}; there are: {', '.join(sorted(self._graphs))}.")
        return await _start(self._graphs[route], args, kwargs)

    async def get_intermediate_object_refs(self) -> dict[str, Any]:
        """The results that an execution kept; see `MeshServeDAGHandle.get_intermediate_object_refs`.

        Raises:
            AssertionError: none did.
        """
        graph = self._graphs[EVERY_PATH]
        return await graph.get_intermediate_object_refs() if isinstance(graph, MeshServeDAGHandle) else {}


def _checked(graph: Any) -> Graph:
    if isinstance(graph, MeshServeDAGHandle):
        return graph
    if not isinstance(graph, DeploymentHandle):
        raise AssertionError(f"A driver serves bound calls and applications, not {graph!r}.")
    return graph.options(use_new_handle_api=True)


def _start(graph: Graph, args: tuple[Any, ...], kwargs: dict[str, Any]) -> DeploymentResponse[Any]:
    response: DeploymentResponse[Any]
    response = graph.start(*args, **kwargs) if isinstance(graph, MeshServeDAGHandle) else graph.remote(*args, **kwargs)
    return response
