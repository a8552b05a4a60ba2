"""The ingress of an application whose root is a bound call: no driver was written, so this one is put in front."""

from __future__ import annotations

import sys
from typing import Any

from meshserve.user.dag_handle import MeshServeDAGHandle


class GraphIngress:
    """Serves one graph: an HTTP request is its input, and so are the arguments of a call.

    Args:
        graph: the graph.
    """

    def __init__(self, graph: MeshServeDAGHandle) -> None:
        self._graph = graph

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Executes the graph. Several arguments, or any by name, are items of the input."""
        if len(args) == 1 and _is_request(args[0]):
            from meshserve.user.buffered_request import buffered  # noqa: PLC0415 - imports Starlette

            args = (await buffered(args[0]),)
        return await self._graph.start(*args, **kwargs)

    async def predict(self, *args: Any, **kwargs: Any) -> Any:
        """The same under the name that drivers use."""
        return await self(*args, **kwargs)


def _is_request(value: Any) -> bool:
    """Whether it is a Starlette request; there can be none where nobody has imported Starlette."""
    starlette = sys.modules.get("starlette.requests")
    return starlette is not None and isinstance(value, starlette.Request)
