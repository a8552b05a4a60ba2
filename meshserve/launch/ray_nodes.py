"""The machines of the Ray cluster."""

from __future__ import annotations

from typing import Any

import ray
from ray._private.state import available_resources_per_node, state

from meshserve.launch.launcher import Node

_HEAD = "node:__internal_head__"


def live_nodes() -> tuple[Node, ...]:
    """The machines that are alive, the head first. Blocks."""
    free = available_resources_per_node()
    draining = state.get_draining_nodes()
    nodes = [_node(record, free, draining) for record in ray.nodes() if record["Alive"]]
    return tuple(sorted(nodes, key=lambda node: (not node.is_head, node.node_id)))


def _node(record: dict[str, Any], free: dict[str, dict[str, float]], draining: dict[str, int]) -> Node:
    node_id = record["NodeID"]
    return Node(
        node_id=node_id,
        node_ip=record["NodeManagerAddress"],
        is_head=_HEAD in record["Resources"],
        draining_deadline_s=draining.get(node_id, 0) / 1000,
        total=record["Resources"],
        available=free.get(node_id, {}),
        labels=record.get("Labels") or {},
    )


def this_node_id() -> str:
    """The id of the node that this process is on; empty outside a cluster."""
    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
