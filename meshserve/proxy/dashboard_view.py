"""What the page shows, as plain values: the controller's status, and the node's figures beside it.

The form is described in docs/observability.md: `meshserve top` and programs of users read it, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from meshserve.core.brief import one_line
from meshserve.core.rates import Rates
from meshserve.model.notice import Notice
from meshserve.proxy.dashboard_figures import ReplicaKey
from meshserve.proxy.dashboard_history import History
from meshserve.v1 import controller_pb2 as pb

MAX_CHARACTERS = 600
"""Of a message. Tracebacks are for the logs: the page may be seen by people who are not meant to read code."""

_INGRESS = ""


def view(status: pb.StatusResponse, history: History) -> dict[str, Any]:
    """The mesh, and how it does on this node.

    Args:
        status: of the mesh.
        history: of this node.
    """
    return {
        "window_s": history.window_s,
        "applications": [_application(one, status, history) for one in status.applications],
        "proxies": [_proxy(one) for one in status.proxies],
        "http": _rates(history.of_http()),
        "in_flight": dict(history.latest.in_flight),
    }


def notices_view(notices: Iterable[Notice]) -> list[dict[str, Any]]:
    """Events and errors."""
    return [asdict(one) for one in notices]


def _rates(found: Rates | None) -> dict[str, float | None] | None:
    return None if found is None else {name: _rounded(value) for name, value in asdict(found).items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _application(proto: pb.ApplicationStatusInfo, status: pb.StatusResponse, history: History) -> dict[str, Any]:
    return {
        "name": proto.name,
        "status": proto.status,
        "message": one_line(proto.message, MAX_CHARACTERS),
        "route_prefix": proto.route_prefix if proto.HasField("route_prefix") else None,
        "ingress": proto.ingress_deployment,
        "deployed_at_s": proto.last_deployed_time_s,
        "http": _rates(history.of_http(proto.name)),
        "deployments": [_deployment(proto.name, one, history) for one in _ingress_first(proto)],
        "calls": _calls(proto, status, history),
    }


def _ingress_first(proto: pb.ApplicationStatusInfo) -> list[pb.DeploymentStatusInfo]:
    return sorted(proto.deployments, key=lambda one: one.name != proto.ingress_deployment)


def _deployment(app: str, proto: pb.DeploymentStatusInfo, history: History) -> dict[str, Any]:
    keys: list[ReplicaKey] = [(app, proto.name, one.replica_tag) for one in proto.replicas]
    figures = [history.latest.replicas[key] for key in keys if key in history.latest.replicas]
    return {
        "name": proto.name,
        "status": proto.status,
        "trigger": proto.status_trigger,
        "message": one_line(proto.message, MAX_CHARACTERS),
        "target_replicas": proto.target_num_replicas,
        "replica_states": dict(proto.replica_states),
        "rates": _rates(history.of_replicas(keys)),
        "course": [round(one, 3) for one in history.course(keys)],
        "ongoing": sum(one.ongoing for one in figures),
        "limit": sum(one.limit for one in figures),
        "queued": history.latest.queued.get((app, proto.name), 0.0),
        "replicas": [_replica(key, one, history) for key, one in zip(keys, proto.replicas, strict=True)],
    }


def _replica(key: ReplicaKey, proto: pb.ReplicaInfo, history: History) -> dict[str, Any]:
    figures = history.latest.replicas.get(key)
    return {
        "tag": proto.replica_tag,
        "state": proto.state,
        "node_id": proto.node_id,
        "node_ip": proto.node_ip,
        "pid": proto.pid,
        "started_at_s": proto.start_time_s,
        "log_path": proto.log_path,
        "seen": figures is not None,
        "rates": _rates(history.of_replicas([key])) if figures is not None else None,
        "ongoing": figures.ongoing if figures is not None else None,
        "limit": figures.limit if figures is not None else None,
        "memory_bytes": figures.memory_bytes if figures is not None else None,
        "cpu": _rounded(history.cpu_share(key)) if figures is not None else None,
    }


def _calls(proto: pb.ApplicationStatusInfo, status: pb.StatusResponse, history: History) -> list[dict[str, Any]]:
    """Who calls whom in an application: what is bound, and what is seen besides."""
    bound = {(_INGRESS, proto.name, proto.ingress_deployment)} if proto.ingress_deployment else set()
    tags: dict[str, str] = {}
    for deployment in proto.deployments:
        bound |= {(deployment.name, used.app, used.deployment) for used in deployment.uses}
        tags |= {replica.replica_tag: deployment.name for replica in deployment.replicas}
    known = {(one.name, each.name) for one in status.applications for each in one.deployments}
    seen: dict[tuple[str, str, str], list[tuple[str, str, str]]] = {edge: [] for edge in sorted(bound)}
    for key in sorted(history.latest.calls):
        tag, app, deployment_name = key
        caller = _INGRESS if not tag and app == proto.name else tags.get(tag)
        if caller is not None and (app, deployment_name) in known:
            seen.setdefault((caller, app, deployment_name), []).append(key)
    return [
        {
            "from": caller,
            "application": app,
            "to": to,
            "bound": (caller, app, to) in bound,
            "calls_per_s": _rounded(history.calls_per_s(keys)),
        }
        for (caller, app, to), keys in seen.items()
    ]


def _proxy(proto: pb.ProxyStatusInfo) -> dict[str, Any]:
    return {
        "node_id": proto.node_id,
        "node_ip": proto.node_ip,
        "status": proto.status,
        "message": one_line(proto.message, MAX_CHARACTERS),
        "http_address": proto.http_address,
        "grpc_address": proto.grpc_address,
        "pid": proto.pid,
        "log_path": proto.log_path,
    }
