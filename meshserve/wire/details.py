"""All that status tells of the mesh, as plain values in the shape of Ray Serve's REST API."""

from __future__ import annotations

import json
from statistics import fmean, pstdev
from typing import Any

from meshserve.model.process_names import proxy_name
from meshserve.settings import CONTROLLER_NAME
from meshserve.v1 import controller_pb2
from meshserve.wire.target_groups import target_groups

_SOURCES = {
    controller_pb2.APPLICATION_SOURCE_IMPERATIVE: "imperative",
    controller_pb2.APPLICATION_SOURCE_DECLARATIVE: "declarative",
}


def details_from_proto(proto: controller_pb2.StatusResponse) -> dict[str, Any]:
    """The whole mesh. Options of deployments are those of `wire.options`, under `options`."""
    controller = proto.controller
    return {
        "controller_info": {
            "node_id": controller.node_id,
            "actor_name": CONTROLLER_NAME,
            "log_file_path": controller.log_path,
        },
        "controller_health_metrics": _health(controller.health) if controller.HasField("health") else None,
        "proxies": {one.node_id: _proxy(one) for one in proto.proxies},
        "applications": {one.name: _application(one) for one in proto.applications},
        "target_groups": target_groups(proto.proxies),
        "target_capacity": proto.target_capacity if proto.HasField("target_capacity") else None,
    }


def _health(proto: controller_pb2.ControllerHealth) -> dict[str, Any]:
    took, up_s = list(proto.turn_durations_s), max(proto.now_s - proto.started_at_s, 0.0)
    durations = {"mean": fmean(took), "std": pstdev(took), "min": min(took), "max": max(took)} if took else None
    return {
        "timestamp": proto.now_s,
        "controller_start_time": proto.started_at_s,
        "uptime_s": up_s,
        "last_control_loop_time": proto.turned_at_s,
        "num_control_loops": proto.turns,
        "loop_duration_s": durations,
        "loops_per_second": proto.turns / up_s if up_s else 0.0,
        "event_loop_delay_s": proto.loop_lag_s,
        "num_asyncio_tasks": proto.tasks,
    }


def _proxy(proto: controller_pb2.ProxyStatusInfo) -> dict[str, Any]:
    return {
        "status": proto.status,
        "node_id": proto.node_id,
        "node_ip": proto.node_ip,
        "actor_name": proxy_name(proto.node_id),
        "log_file_path": proto.log_path,
        "message": proto.message,
    }


def _application(proto: controller_pb2.ApplicationStatusInfo) -> dict[str, Any]:
    return {
        "name": proto.name,
        "route_prefix": proto.route_prefix if proto.HasField("route_prefix") else None,
        "docs_path": proto.docs_path or None,
        "status": proto.status,
        "message": proto.message,
        "last_deployed_time_s": proto.last_deployed_time_s,
        "source": _SOURCES.get(proto.source, "unknown"),
        "deployments": {one.name: _deployment(one) for one in proto.deployments},
        "deployment_topology": _topology(proto),
    }


def _topology(proto: controller_pb2.ApplicationStatusInfo) -> dict[str, Any]:
    ingress = proto.ingress_deployment
    nodes = {
        one.name: {
            "name": one.name,
            "app_name": proto.name,
            "outbound_deployments": [{"name": used.deployment, "app_name": used.app} for used in one.uses],
            "is_ingress": one.name == ingress,
        }
        for one in proto.deployments
    }
    return {"app_name": proto.name, "nodes": nodes, "ingress_deployment": ingress or None}


def _deployment(proto: controller_pb2.DeploymentStatusInfo) -> dict[str, Any]:
    return {
        "name": proto.name,
        "status": proto.status,
        "status_trigger": proto.status_trigger,
        "message": proto.message,
        "options": json.loads(proto.options_json or "{}"),
        "target_num_replicas": proto.target_num_replicas,
        "replicas": [_replica(one) for one in proto.replicas],
    }


def _replica(proto: controller_pb2.ReplicaInfo) -> dict[str, Any]:
    return {
        "replica_id": proto.replica_tag,
        "state": proto.state,
        "pid": proto.pid or None,
        "start_time_s": proto.start_time_s,
        "node_id": proto.node_id or None,
        "node_ip": proto.node_ip or None,
        "actor_name": proto.actor_name,
        "log_file_path": proto.log_path or None,
    }
