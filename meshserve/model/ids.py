"""Names of applications, deployments, replicas and the actors that these share.

They are keys of every table there is, so they are tuples: those hash and compare without running Python.
"""

from __future__ import annotations

from typing import NamedTuple

DELIMITER = "#"
"""Separates the parts of a written id; not allowed in names."""

REPLICA_PREFIX = "MESHSERVE_REPLICA::"
"""Begins the names of replicas' actors."""


class DeploymentId(NamedTuple):
    """A deployment of an application."""

    app: str
    name: str

    @property
    def app_name(self) -> str:
        """The application, by the name users of this programming model know."""
        return self.app

    def __str__(self) -> str:
        return f"{self.app}{DELIMITER}{self.name}"


class ReplicaId(NamedTuple):
    """One replica of a deployment; `tag` is unique for the life of the mesh."""

    deployment: DeploymentId
    tag: str

    @property
    def unique_id(self) -> str:
        """The tag, by the name users of this programming model know."""
        return self.tag

    @property
    def deployment_id(self) -> DeploymentId:
        """The deployment, by the name users of this programming model know."""
        return self.deployment

    def to_full_id_str(self) -> str:
        """The name of its actor, by which `ray.get_actor` finds it in the mesh's namespace."""
        return f"{REPLICA_PREFIX}{self}"

    def __str__(self) -> str:
        return f"{self.deployment}{DELIMITER}{self.tag}"

    @staticmethod
    def parse(text: str) -> ReplicaId:
        """Reads `app#deployment#tag`; raises ValueError for anything else."""
        app, name, tag = text.split(DELIMITER)
        return ReplicaId(DeploymentId(app, name), tag)


class ActorId(NamedTuple):
    """An actor that the replicas of one version of a deployment share."""

    deployment: DeploymentId
    version: str
    name: str
