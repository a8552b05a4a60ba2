"""What the planning of one deployment may look at besides the deployment itself, and the shape of its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from meshserve.core.actions import Action
from meshserve.core.seen import Resources, SeenDeployment, SeenNode
from meshserve.core.seen_actors import ActorChecks
from meshserve.model.replace import record
from meshserve.settings import SLOW_STARTUP_S


@record
class Scene:
    """The surroundings at one instant.

    Attributes:
        now: on the controller's monotonic clock.
        new_id: makes a replica's tag, unique for the life of the mesh.
        nodes: the machines, by id.
        leaves_at: when machines go away: those that do.
        resources: of the cluster, for messages.
        crowding: how many replicas of all deployments each node has; asked only when scaling down.
        slow_s: see `Seen`.
        publish_at: until then targets are withheld while replicas are being recovered.
        actor_checks: how the health of shared actors is checked.
        shutting_down: the whole mesh goes away.
        held: deployments that call this one still serve, so it must not go away yet.
    """

    now: float
    new_id: Callable[[], str]
    nodes: Mapping[str, SeenNode]
    leaves_at: Mapping[str, float]
    resources: Resources
    crowding: Callable[[], Mapping[str, int]]
    publish_at: float
    actor_checks: ActorChecks
    slow_s: float = SLOW_STARTUP_S
    shutting_down: bool = False
    held: bool = False


Step: TypeAlias = Callable[[SeenDeployment, Scene], tuple[SeenDeployment, tuple[Action, ...]]]
"""Decides one thing: what the deployment will be once the returned actions are under way.

A step that finds nothing to do returns its input, the same object."""
