"""The environment of actors that replicas share: that of the replicas, the actor's own, and how it knows what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meshserve.model.ids import ActorId, DeploymentId

_APP = "RAY_SERVE_INTERNAL_DEPLOYMENT_APP_NAME"
_DEPLOYMENT = "RAY_SERVE_INTERNAL_DEPLOYMENT_NAME"
_NAME = "RAY_SERVE_INTERNAL_DEPLOYMENT_ACTOR_NAME"
_VERSION = "RAY_SERVE_INTERNAL_DEPLOYMENT_CODE_VERSION"

RESERVED = (_APP, _DEPLOYMENT, _NAME, _VERSION)
"""Variables that tell an actor what it is; by the names that the peer's have."""


def actor_environment(
    actor: ActorId, outer: Mapping[str, Any], own: Mapping[str, Any], import_paths: Sequence[str] = ()
) -> dict[str, Any]:
    """The runtime environment of an actor, in Ray's terms.

    Args:
        outer: of the deployment's replicas.
        own: what is said of this actor; goes before `outer`, variable by variable.
        import_paths: folders that modules may be imported from, after all others.
    """
    tells = {_APP: actor.deployment.app, _DEPLOYMENT: actor.deployment.name, _NAME: actor.name, _VERSION: actor.version}
    variables = {**(outer.get("env_vars") or {}), **(own.get("env_vars") or {}), **tells}
    if import_paths:
        # Ray puts the variable as it is there in the place of its name.
        variables["PYTHONPATH"] = ":".join((variables.get("PYTHONPATH", "${PYTHONPATH}"), *import_paths))
    return {**outer, **own, "env_vars": variables}


def actor_in(variables: Mapping[str, str]) -> ActorId | None:
    """The actor that a process with these variables is; None for another process."""
    if any(name not in variables for name in RESERVED):
        return None
    return ActorId(DeploymentId(variables[_APP], variables[_DEPLOYMENT]), variables[_VERSION], variables[_NAME])


def reserved_in(environment: Mapping[str, Any]) -> list[str]:
    """The reserved variables that a user's runtime environment sets."""
    return sorted(set(RESERVED) & set(environment.get("env_vars") or {}))
