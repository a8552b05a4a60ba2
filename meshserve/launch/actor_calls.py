"""Calls of users' actors from the mesh's own code: Ray's errors as ours."""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from ray.exceptions import RayError

from meshserve.model.process_names import actor_of
from meshserve.settings import NAMESPACE


class ActorCallError(Exception):
    """An actor is gone, or what was called has raised; says what."""


def shared_actors(app: str, deployment: str, name: str) -> list[Any]:
    """The handles of an actor of a deployment, one for each version that has it; blocks."""
    listed = [one["name"] for one in ray.util.list_named_actors(all_namespaces=True) if one["namespace"] == NAMESPACE]
    found = []
    for full_name in listed:
        actor = actor_of(full_name)
        if actor is not None and (actor.deployment.app, actor.deployment.name, actor.name) == (app, deployment, name):
            found.append(ray.get_actor(full_name, NAMESPACE))
    return found


async def call_actor(actor: Any, method: str, *args: Any) -> Any:
    """What a method of an actor returns; being cancelled cancels it.

    Raises:
        ActorCallError: it raised, or the actor is gone.
    """
    reference = getattr(actor, method).remote(*args)
    try:
        return await reference
    except asyncio.CancelledError:
        ray.cancel(reference)
        raise
    except RayError as error:
        raise ActorCallError(str(error)) from error


def tell_actor(actor: Any, method: str, *args: Any) -> None:
    """Calls a method of an actor; what becomes of it nobody learns."""
    getattr(actor, method).remote(*args)
