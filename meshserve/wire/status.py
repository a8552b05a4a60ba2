"""The state of the mesh, to the wire; `overview` reads it back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from meshserve.core.deployment import Part
from meshserve.core.plan import Plan
from meshserve.core.seen import SeenDeployment, SeenProxy, SeenReplica
from meshserve.model.control import DeploymentSpec, DesiredApplication
from meshserve.model.controller_health import ControllerHealth
from meshserve.model.ids import DeploymentId
from meshserve.model.process_names import replica_name
from meshserve.model.status import ApplicationState, ApplicationStatus
from meshserve.v1 import controller_pb2
from meshserve.wire.options import options_to_json
from meshserve.wire.targets import key_to_proto


@dataclass(frozen=True, slots=True)
class ControllerIdentity:
    """Who answers."""

    pid: int = 0
    node_id: str = ""
    address: str = ""
    epoch: int = 0
    log_path: str = ""
    health: ControllerHealth = field(default_factory=ControllerHealth)


def status_to_proto(
    plan: Plan, identity: ControllerIdentity, wall_offset_s: float, name: str = ""
) -> controller_pb2.StatusResponse:
    """The mesh as the last plan found it.

    Args:
        wall_offset_s: what to add to the controller's clock to get seconds since the epoch.
        name: only this application; empty for all.
    """
    applications = plan.desired.applications
    chosen = applications.values() if not name else [applications[name]] if name in applications else []
    return controller_pb2.StatusResponse(
        applications=[_application(one, plan, wall_offset_s) for one in chosen],
        proxies=[_proxy(proxy, plan) for proxy in plan.seen.proxies.values()],
        controller=controller_pb2.ControllerInfo(
            pid=identity.pid,
            node_id=identity.node_id,
            address=identity.address,
            epoch=identity.epoch,
            log_path=identity.log_path,
            health=_health(identity.health),
        ),
        target_capacity=plan.desired.capacity.target,
        generation=plan.desired.generation,
    )


def _health(health: ControllerHealth) -> controller_pb2.ControllerHealth:
    return controller_pb2.ControllerHealth(
        started_at_s=health.started_at,
        now_s=health.now,
        turns=health.turns,
        turned_at_s=health.turned_at,
        turn_durations_s=health.turn_durations_s,
        loop_lag_s=health.loop_lag_s,
        tasks=health.tasks,
    )


def _application(
    application: DesiredApplication, plan: Plan, wall_offset_s: float
) -> controller_pb2.ApplicationStatusInfo:
    spec, parts = application.spec, plan.parts.all
    recorded = ApplicationStatus(ApplicationState.DEPLOYING, "The controller is finding out what runs.")
    status = plan.seen.applications.get(spec.name, recorded)
    return controller_pb2.ApplicationStatusInfo(
        name=spec.name,
        status=status.state.value,
        message=status.message,
        route_prefix=spec.route_prefix,
        last_deployed_time_s=application.deployed_at_s,
        deployments=[_deployment(one, parts[one.id], wall_offset_s) for one in spec.deployments if one.id in parts],
        source=int(spec.source),  # type: ignore[arg-type]  # the enum's numbers are the wire's
        ingress_deployment=spec.ingress,
        docs_path=_docs_path(spec.deployments, spec.ingress, parts),
        generation=status.generation,
    )


def _docs_path(deployments: tuple[DeploymentSpec, ...], ingress: str, parts: Mapping[DeploymentId, Part]) -> str:
    for one in deployments:
        if one.id.name == ingress:
            introduced = parts[one.id].introduction.docs_path if one.id in parts else ""
            return introduced or one.docs_path
    return ""


def _deployment(spec: DeploymentSpec, part: Part, wall_offset_s: float) -> controller_pb2.DeploymentStatusInfo:
    replicas = part.seen.replicas.values()
    states = Counter(replica.phase.state.value for replica in replicas)
    epoch, version = part.seen.published.version if part.seen.published is not None else (0, 0)
    return controller_pb2.DeploymentStatusInfo(
        name=spec.id.name,
        status=part.status.state.value,
        status_trigger=part.status.trigger.value,
        message=part.status.message,
        replica_states=states,
        target_num_replicas=_target(part.seen),
        replicas=[_replica(replica, wall_offset_s) for replica in replicas],
        options_json=options_to_json(spec.options),
        uses=[key_to_proto(used) for used in spec.uses],
        published_epoch=epoch,
        published_version=version,
    )


def _target(deployment: SeenDeployment) -> int:
    want = deployment.want
    return 0 if want is None or want.deleting else want.count


def _replica(replica: SeenReplica, wall_offset_s: float) -> controller_pb2.ReplicaInfo:
    process = replica.process
    return controller_pb2.ReplicaInfo(
        replica_tag=replica.id.tag,
        state=replica.phase.state.value,
        node_id=process.node_id if process is not None else "",
        node_ip=process.node_ip if process is not None else "",
        pid=process.pid if process is not None else 0,
        start_time_s=replica.started_at + wall_offset_s,
        address=replica.address,
        log_path=process.log_path if process is not None else "",
        actor_name=replica_name(replica.id),
        rank=replica.rank.rank if replica.rank is not None else None,
    )


def _proxy(proxy: SeenProxy, plan: Plan) -> controller_pb2.ProxyStatusInfo:
    node, process = plan.seen.cluster.nodes.get(proxy.node_id), proxy.process
    return controller_pb2.ProxyStatusInfo(
        node_id=proxy.node_id,
        status=proxy.status.value,
        http_address=proxy.report.http_address,
        grpc_address=proxy.report.grpc_address,
        message=proxy.message,
        node_ip=node.node_ip if node is not None else "",
        pid=process.pid if process is not None else 0,
        log_path=process.log_path if process is not None else "",
        address=process.address if process is not None else "",
    )
