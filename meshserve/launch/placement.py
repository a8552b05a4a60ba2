"""Where a process may run: a `ProcessSpec` in the words of Ray's actor options."""

from __future__ import annotations

from typing import Any

from ray import _raylet
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from meshserve.launch.launcher import ProcessSpec
from meshserve.settings import NAMESPACE

MAX_CONCURRENCY = 10_000
"""Calls on a host actor at a time. They only wait (`await_death`, deposits), so the number is a limit on leaks."""

_RESOURCE_UNITS = 10_000
"""Ray counts resources in ten-thousandths."""

_SPREAD = "meshserve-spread"
"""What spread processes ask a trace of. An actor that asks for anything is placed by its creator's node, which goes
round the nodes; one that asks for nothing goes to a random node, and each of those goes round on its own: all of four
replicas that ask for no core were on one of two nodes in 3 of 12 cases, with the trace in none."""


def actor_options(spec: ProcessSpec, group: PlacementGroup | None) -> dict[str, Any]:
    """Ray's options for the actor of a process.

    Args:
        spec: the process.
        group: the placement group it runs in, or None.
    """
    options: dict[str, Any] = {
        # Ray would reserve a core for placing an actor and give it back when it runs; here it keeps what it asked for.
        "num_cpus": 1,
        **spec.actor_options,
        "name": spec.name,
        "namespace": NAMESPACE,
        "lifetime": None if spec.owned else "detached",
        "max_concurrency": MAX_CONCURRENCY,
        "scheduling_strategy": _strategy(spec, group),
    }
    if spec.restart_for_ever:
        options |= {"max_restarts": -1, "max_task_retries": -1}
    if spec.max_per_node is not None:
        options["resources"] = {**options.get("resources", {}), **_share_of_node(spec.group, spec.max_per_node)}
    elif options["scheduling_strategy"] == "SPREAD":
        options["resources"] = {**options.get("resources", {}), **_share_of_node(_SPREAD, _RESOURCE_UNITS)}
    return options


def _strategy(spec: ProcessSpec, group: PlacementGroup | None) -> Any:
    if group is not None:
        return PlacementGroupSchedulingStrategy(
            group,
            placement_group_bundle_index=spec.placement_group_bundle,
            placement_group_capture_child_tasks=True,
        )
    if spec.node_id:
        return NodeAffinitySchedulingStrategy(spec.node_id, soft=False)
    return "SPREAD" if spec.spread else "DEFAULT"


def _share_of_node(group: str, max_per_node: int) -> dict[str, float]:
    """A resource of which every node has exactly 1 without being told, so that `max_per_node` shares fit.

    The share is rounded down: six shares of a sixth rounded up would be more than one.
    """
    prefix = _raylet.IMPLICIT_RESOURCE_PREFIX  # type: ignore[attr-defined]  # Ray's types leave it out
    return {f"{prefix}{group}": _RESOURCE_UNITS // max_per_node / _RESOURCE_UNITS}
