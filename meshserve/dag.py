"""Deployment graphs: calls of deployments that are bound to each other, executed as a whole at each request.

    with InputNode() as inp:
        prepared = preprocess.bind(inp)
        app = DAGDriver.bind(combine.bind(model_a.predict.bind(prepared), model_b.predict.bind(prepared)))

New programs compose deployments in code, with handles; see `meshserve/docs/graphs.md` for both.
"""

from __future__ import annotations

from meshserve.api.application import CallNode
from meshserve.api.dag_input import InputNode, InputPart
from meshserve.user.dag_graph import DAGInputData
from meshserve.user.dag_handle import MeshServeDAGHandle, RayServeDAGHandle

__all__ = ["CallNode", "DAGInputData", "InputNode", "InputPart", "MeshServeDAGHandle", "RayServeDAGHandle"]
