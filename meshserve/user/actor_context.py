"""What an actor that replicas share may ask about itself."""

from __future__ import annotations

import os
from dataclasses import dataclass

from meshserve.errors import MeshServeException
from meshserve.model.actor_environment import actor_in
from meshserve.model.ids import DeploymentId


@dataclass(frozen=True, slots=True)
class DeploymentActorContext:
    """What an actor that replicas share is.

    Attributes:
        deployment_id: whose replicas share it.
        actor_name: its name among the deployment's actors.
        code_version: of the replicas that share it.
    """

    deployment_id: DeploymentId
    actor_name: str
    code_version: str | None = None

    @property
    def app_name(self) -> str:
        """The application."""
        return self.deployment_id.app

    @property
    def deployment(self) -> str:
        """The deployment."""
        return self.deployment_id.name


def get_deployment_actor_context() -> DeploymentActorContext:
    """What the actor is that this code runs in.

    Raises:
        MeshServeException: this is no actor that replicas share.
    """
    actor = actor_in(os.environ)
    if actor is None:
        raise MeshServeException(
            "get_deployment_actor_context() may only be called from within one of the deployment_actors."
        )
    return DeploymentActorContext(actor.deployment, actor.name, actor.version)
