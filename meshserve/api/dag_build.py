"""From bound calls to the graph that a replica executes: calls in order, deployments by name, inputs once each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from meshserve.api.application import Application, CallNode
from meshserve.api.code import Arguments, Bound
from meshserve.api.dag_input import InputNode, InputPart
from meshserve.model.ids import DeploymentId
from meshserve.routing.legacy_handle import open_handle
from meshserve.user.dag_graph import Argument, Around, FromCall, FromInput, Given, Graph, GraphCall, Read
from meshserve.user.dag_handle import MeshServeDAGHandle

NameOf = Callable[[Application], str]
"""The name that an application's own deployment has; adds the deployment to the application that is built."""


class GraphBuilder:
    """Builds one graph.

    Args:
        app_name: of the application it is part of.
        name_of: see `NameOf`.

    Attributes:
        uses: the names of the deployments it needs, in the order in which they were found.
    """

    def __init__(self, app_name: str, name_of: NameOf) -> None:
        self.uses: dict[str, None] = {}
        self._app_name = app_name
        self._name_of = name_of
        self._input: InputNode | None = None
        self._reads: list[Read] = []
        self._calls: list[GraphCall] = []
        self._places: dict[int, int] = {}  # by the identity of a node

    def build(self, root: Application) -> Graph:
        """The graph that ends with a call; a function that was bound without arguments is one.

        Raises:
            AssertionError: there are two inputs.
            ValueError: a call is, by way of a container, its own argument.
            TypeError: an argument cannot be pickled.
        """
        arguments: dict[int, _CallArguments] = {}
        path = [root]
        while path:
            node = path[-1]
            own = arguments.get(id(node)) or arguments.setdefault(id(node), _CallArguments(node))
            missing = [call for call in own.calls if id(call) not in self._places]
            if id(node) in self._places:
                path.pop()
            elif missing:
                if id(missing[0]) in arguments and any(missing[0] is earlier for earlier in path):
                    raise ValueError(f"The graph has a cycle: {missing[0]!r} is among its own arguments.")
                path.append(missing[0])
            else:
                self._add_call(path.pop(), own)
        entered = self._input is None or self._input._meshserve_entered
        return Graph(tuple(self._reads), tuple(self._calls), entered)

    def _add_call(self, node: Application, own: _CallArguments) -> None:
        args = tuple(self._argument(value) for value in own.args)
        kwargs = tuple((name, self._argument(value)) for name, value in own.kwargs.items())
        name = self._use(node.target if isinstance(node, CallNode) else node)
        uuid = node.get_stable_uuid() if isinstance(node, CallNode) else f"{name}.bind()"
        self._places[id(node)] = len(self._calls)
        self._calls.append(GraphCall(uuid, DeploymentId(self._app_name, name), own.method, args, kwargs))

    def _use(self, application: Application) -> str:
        name = self._name_of(application)
        self.uses[name] = None
        return name

    def _argument(self, arguments: Arguments) -> Argument:
        parts = tuple(self._part(found) for found in arguments.found)
        if not parts:
            return Given(arguments.filled(()))
        return parts[0] if arguments.is_itself else Around(arguments.template, parts)

    def _part(self, found: Bound) -> Given | FromInput | FromCall:
        if isinstance(found, InputNode | InputPart):
            return FromInput(self._read(found))
        if is_call(found):
            return FromCall(self._places[id(found)])
        return Given(open_handle(self._use(found), self._app_name, sync=False))

    def _read(self, node: InputNode | InputPart) -> int:
        whole = node if isinstance(node, InputNode) else node.whole
        if self._input not in (None, whole):
            raise AssertionError("A graph must have only one unique InputNode; this one has two.")
        self._input = whole
        if id(node) not in self._places:
            self._places[id(node)] = len(self._reads)
            uuid = node.get_stable_uuid()
            self._reads.append(Read(uuid, node.key, node.by_attribute) if isinstance(node, InputPart) else Read(uuid))
        return self._places[id(node)]


class _CallArguments:
    """The arguments of one call, looked through.

    Attributes:
        method: that is called.
        args: by position.
        kwargs: by name.
        calls: the calls among them, at any depth.
    """

    def __init__(self, node: Application) -> None:
        args: tuple[Any, ...] = ()
        kwargs: dict[str, Any] = {}
        self.method = "__call__"
        if isinstance(node, CallNode):
            self.method, args, kwargs = node.method, node.call_args, node.call_kwargs
        self.args = [_look_through(node, f"argument {index + 1}", value) for index, value in enumerate(args)]
        self.kwargs = {name: _look_through(node, f"argument {name!r}", value) for name, value in kwargs.items()}
        everything = [found for one in (*self.args, *self.kwargs.values()) for found in one.found]
        self.calls = [found for found in everything if isinstance(found, Application) and is_call(found)]


def _look_through(node: Application, which: str, value: Any) -> Arguments:
    try:
        return Arguments(value)
    except Exception as error:  # classes of users may raise anything while they are pickled
        raise TypeError(f"{node!r} cannot be sent to replicas: {which} cannot be pickled: {error}.") from error


def is_call(node: Bound) -> bool:
    """Whether a node, among the arguments of a call, is a call itself: a method's, or a function's."""
    return isinstance(node, CallNode) or (
        isinstance(node, Application) and not inspect.isclass(node._bound_deployment.func_or_class)
    )


def needs_no_input(application: Application) -> bool:
    """Whether an application that takes a graph's place in a driver is called without the input.

    A function is unless it needs an argument; an object is if its `__call__` takes none.
    """
    target = application._bound_deployment.func_or_class
    if not inspect.isclass(target):
        parameters = inspect.signature(target).parameters.values()
        return all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
    call = getattr(target, "__call__", None)  # noqa: B004 - its signature is wanted, not whether there is one
    return call is not None and len(inspect.signature(call).parameters) == 1


def stand_in(found: Bound, owner: Any, app_name: str, name_of: NameOf) -> tuple[Any, list[str]]:
    """What a constructor gets in the place of something bound, and the deployments that this calls.

    Args:
        found: among the constructor's arguments.
        owner: whose constructor it is; a driver of graphs says so by its attribute `__meshserve_takes_graphs__`.
        app_name: of the application that is built.
        name_of: see `NameOf`.

    Raises:
        TypeError: it is an input, which means nothing to a constructor.
    """
    if isinstance(found, InputNode | InputPart):
        raise TypeError(f"The graph's input was given to the constructor of {owner!r}: give it to a bound call.")
    in_driver = getattr(owner, "__meshserve_takes_graphs__", False)
    if isinstance(found, CallNode) or (in_driver and needs_no_input(found)):
        builder = GraphBuilder(app_name, name_of)
        return MeshServeDAGHandle(builder.build(_as_call(found))), list(builder.uses)
    name = name_of(found)
    return open_handle(name, app_name, sync=False), [name]


def _as_call(application: Application) -> Application:
    """An object that is called without an input, as a node; a function is one by itself."""
    if is_call(application):
        return application
    return CallNode(application, "__call__", (), {})
