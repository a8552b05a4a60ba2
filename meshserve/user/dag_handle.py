"""The handle of a deployment graph: executes it, over the handles of the deployments it calls.

Every call is made at once, with the un-awaited responses of the calls before it as arguments. So each node runs once,
branches run side by side, a result goes from the replica that made it to those that need it, and what nobody can run
any more since something before it failed is never started.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meshserve.routing.handle import DeploymentHandle
from meshserve.routing.legacy_handle import reference_to
from meshserve.routing.response import DeploymentResponse
from meshserve.user.dag_graph import (
    Argument,
    Around,
    FromCall,
    FromInput,
    Given,
    Graph,
    GraphCall,
    Read,
    fill_template,
    input_of,
    read,
)


class MeshServeDAGHandle:
    """What a constructor gets in the place of a bound call.

    Args:
        graph: what it executes.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._handles: tuple[DeploymentHandle[Any], ...] | None = None
        self._kept: dict[str, Any] | None = None

    async def remote(self, *args: Any, _ray_cache_refs: bool = False, **kwargs: Any) -> Any:
        """Executes the graph, as in older releases: `ref = await graph.remote(x)`, then `value = await ref`.

        Args:
            args: the input; see `InputNode` for several.
            _ray_cache_refs: keep the results of all nodes for `get_intermediate_object_refs`.
            kwargs: parts of the input by name.

        Returns:
            A `ray.ObjectRef` of the result, as soon as a replica has the last call.

        Raises:
            AssertionError: the `with` block of the graph's input was never entered.
            KeyError, IndexError, AttributeError: the input has not the parts that the graph reads.
        """
        return await reference_to(self.start(*args, _ray_cache_refs=_ray_cache_refs, **kwargs))

    def start(self, *args: Any, _ray_cache_refs: bool = False, **kwargs: Any) -> DeploymentResponse[Any]:
        """Executes the graph, as a call of any other handle: `value = await graph.start(x)`.

        Arguments and errors are those of `remote`, but the errors are raised at once.

        Returns:
            The response of the last call.
        """
        graph = self._graph
        if not graph.input_entered:
            raise AssertionError("The graph's input was never entered: write `with InputNode() as inp:`.")
        given = input_of(args, kwargs)
        inputs = [read(what, given) for what in graph.reads]
        responses: list[DeploymentResponse[Any]] = []
        for call, handle in zip(graph.calls, self._callees(), strict=True):
            arguments = [_value(argument, inputs, responses) for argument in call.args]
            named = {name: _value(argument, inputs, responses) for name, argument in call.kwargs}
            responses.append(handle.remote(*arguments, **named))
        if _ray_cache_refs:
            nodes: list[Read | GraphCall] = [*graph.reads, *graph.calls]
            self._kept = {node.uuid: result for node, result in zip(nodes, [*inputs, *responses], strict=True)}
        return responses[-1]

    def _callees(self) -> tuple[DeploymentHandle[Any], ...]:
        if self._handles is None:
            self._handles = tuple(
                DeploymentHandle[Any](call.deployment.name, call.deployment.app).options(method_name=call.method)
                for call in self._graph.calls
            )
        return self._handles

    async def get_intermediate_object_refs(self) -> dict[str, Any]:
        """The results of the last execution that was to keep them, by node: ObjectRefs of calls, and read inputs.

        Raises:
            AssertionError: there was none.
        """
        if self._kept is None:
            raise AssertionError("No execution kept its results: make one with _ray_cache_refs=True first.")
        return {
            uuid: await reference_to(result) if isinstance(result, DeploymentResponse) else result
            for uuid, result in self._kept.items()
        }

    def __reduce__(self) -> tuple[type[MeshServeDAGHandle], tuple[Graph]]:
        return MeshServeDAGHandle, (self._graph,)

    def __repr__(self) -> str:
        return f"MeshServeDAGHandle({len(self._graph.calls)} calls)"


RayServeDAGHandle = MeshServeDAGHandle


def _value(argument: Argument, inputs: Sequence[Any], responses: Sequence[DeploymentResponse[Any]]) -> Any:
    match argument:
        case Given(value):
            return value
        case FromInput(index):
            return inputs[index]
        case FromCall(index):
            return responses[index]
        case Around(template, parts):
            return fill_template(template, [_value(part, inputs, responses) for part in parts])
