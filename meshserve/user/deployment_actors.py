"""The actors that replicas of a deployment share, as the replicas find them."""

from __future__ import annotations

from typing import Any

from meshserve.errors import MeshServeException
from meshserve.launch.ray_actors import actor_named
from meshserve.model.ids import ActorId
from meshserve.model.process_names import actor_name as name_of
from meshserve.user.context import current_replica


def get_deployment_actor(actor_name: str) -> Any:
    """The handle of an actor that the replicas of this deployment share (`deployment_actors`).

    The actor belongs to the version of this replica: during an update both versions have theirs. One that died is made
    anew, and a handle from before then raises `ray.exceptions.RayActorError`: ask again, here.

    Args:
        actor_name: as the deployment has it.

    Raises:
        MeshServeException: this is not a replica.
        ValueError: there is no such actor, or it has died and its successor is not there yet.
    """
    replica = current_replica()
    if replica is None:
        raise MeshServeException("get_deployment_actor() may only be called from within a replica of a deployment.")
    if not replica.actors_version:
        raise ValueError(f"Deployment {replica.deployment!r} has no deployment_actors; local testing mode makes none.")
    actor = actor_named(name_of(ActorId(replica.replica_id.deployment, replica.actors_version, actor_name)))
    if actor is None:
        raise ValueError(
            f"Deployment {replica.deployment!r} has no actor {actor_name!r} at the moment: its deployment_actors have "
            "no such name, or it has died and is being made anew."
        )
    return actor
