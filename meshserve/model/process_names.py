"""Names of the mesh's processes: how they are found again."""

from __future__ import annotations

from meshserve.model.ids import ReplicaId

_REPLICA = "MESHSERVE_REPLICA::"
_PROXY = "MESHSERVE_PROXY-"
_PROXY_WORKER = "MESHSERVE_PROXYWORKER-"


def replica_name(replica: ReplicaId) -> str:
    """The name of a replica's process."""
    return f"{_REPLICA}{replica}"


def proxy_name(node_id: str) -> str:
    """The name of a node's proxy."""
    return f"{_PROXY}{node_id}"


def proxy_worker_name(node_id: str, number: int) -> str:
    """The name of another process of a node's proxy."""
    return f"{_PROXY_WORKER}{number}-{node_id}"


def replica_of(name: str) -> ReplicaId | None:
    """The replica whose process has this name; None for another process."""
    if not name.startswith(_REPLICA):
        return None
    try:
        return ReplicaId.parse(name.removeprefix(_REPLICA))
    except ValueError:  # somebody else's process in our namespace
        return None


def proxy_node_of(name: str) -> str | None:
    """The node of the proxy that has this name; None for another process."""
    return name.removeprefix(_PROXY) if name.startswith(_PROXY) else None
