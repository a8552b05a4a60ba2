"""Names of the mesh's processes and of what they run in: how they are found again."""

from __future__ import annotations

from meshserve.model.gang import GangId
from meshserve.model.ids import DELIMITER, REPLICA_PREFIX, ActorId, DeploymentId, ReplicaId

_ACTOR = "MESHSERVE_DEPLOYMENT_ACTOR::"
_GANG = "MESHSERVE_GANG::"
_PROXY = "MESHSERVE_PROXY-"
_PROXY_WORKER = "MESHSERVE_PROXYWORKER-"


def replica_name(replica: ReplicaId) -> str:
    """The name of a replica's process."""
    return replica.to_full_id_str()


def actor_name(actor: ActorId) -> str:
    """The name of an actor that replicas share: application, deployment, version and its own name.

    Users look for their actors by it. The parts stay as they are unless they have a colon.
    """
    parts = (actor.deployment.app, actor.deployment.name, actor.version, actor.name)
    return _ACTOR + "::".join(part.replace("%", "%25").replace(":", "%3A") for part in parts)


def actor_of(name: str) -> ActorId | None:
    """The actor that has this name; None for another process."""
    parts = [part.replace("%3A", ":").replace("%25", "%") for part in name.removeprefix(_ACTOR).split("::")]
    if not name.startswith(_ACTOR) or len(parts) != 4:
        return None
    app, deployment, version, own = parts
    return ActorId(DeploymentId(app, deployment), version, own)


def gang_name(gang: GangId) -> str:
    """The name of a gang's placement group."""
    return f"{_GANG}{gang.deployment}{DELIMITER}{gang.tag}"


def gang_of(name: str) -> GangId | None:
    """The gang whose placement group has this name; None for another name."""
    parts = name.removeprefix(_GANG).split(DELIMITER)
    if not name.startswith(_GANG) or len(parts) != 3:
        return None
    app, deployment, tag = parts
    return GangId(DeploymentId(app, deployment), tag)


def proxy_name(node_id: str) -> str:
    """The name of a node's proxy."""
    return f"{_PROXY}{node_id}"


def proxy_worker_name(node_id: str, number: int) -> str:
    """The name of another process of a node's proxy."""
    return f"{_PROXY_WORKER}{number}-{node_id}"


def replica_of(name: str) -> ReplicaId | None:
    """The replica whose process has this name; None for another process."""
    if not name.startswith(REPLICA_PREFIX):
        return None
    try:
        return ReplicaId.parse(name.removeprefix(REPLICA_PREFIX))
    except ValueError:  # somebody else's process in our namespace
        return None


def proxy_node_of(name: str) -> str | None:
    """The node of the proxy that has this name; None for another process."""
    return name.removeprefix(_PROXY) if name.startswith(_PROXY) else None
