"""The ingress of a graph that was run without a driver in front of it."""

from __future__ import annotations

from meshserve.api.application import Application, CallNode
from meshserve.api.code import Arguments
from meshserve.api.deployment import deployment
from meshserve.user.dag_root import GraphIngress

_GRAPH_INGRESS = deployment(GraphIngress)


def rooted(app: Application) -> Application:
    """The application with a deployment as its root: itself, or a bound call behind an ingress that executes it.

    Raises:
        ValueError: it is a function that was bound with plain values. Such an application would be a graph without an
            input; more likely they were meant for a constructor.
    """
    if not isinstance(app, CallNode):
        return app
    if app.method == "__call__" and not Arguments((app.call_args, app.call_kwargs)).found:
        raise ValueError(
            f"Function deployment {app.target._bound_deployment.name!r} cannot be bound with arguments and run: a "
            "function has no constructor. For a graph without an input, put a DAGDriver in front."
        )
    return _GRAPH_INGRESS.bind(app)
