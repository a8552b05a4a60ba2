"""Small jobs on other machines of the Ray cluster: what only they can see, as their files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from meshserve.launch.ray_nodes import live_nodes

TIMEOUT_S = 10.0


class ErrandError(Exception):
    """The job could not be done there."""


def on_machine(node_ip: str, function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function on another machine and waits for what it returns. Blocks.

    Args:
        node_ip: the machine's address; empty for that of the cluster's head.
        function: one that can be imported there.
        args: of the call.

    Raises:
        ErrandError: there is no such machine, or it did not answer in time, or the function raised there.
    """
    found = [node.node_id for node in live_nodes() if node.node_ip == node_ip or (not node_ip and node.is_head)]
    if not found:
        raise ErrandError(f"the cluster has no machine {node_ip} any more")
    place = NodeAffinitySchedulingStrategy(found[0], soft=False)
    answer = ray.remote(function).options(num_cpus=0, scheduling_strategy=place, max_retries=0).remote(*args)
    try:
        return ray.get(answer, timeout=TIMEOUT_S)
    except RayError as error:
        ray.cancel(answer, force=True)
        raise ErrandError(f"{type(error).__name__}: {error}") from error
