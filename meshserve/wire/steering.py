"""What the controller asks of replicas and proxies, and what it learns from their answers."""

from __future__ import annotations

from meshserve.core import actions as ac
from meshserve.core import events as ev
from meshserve.core.measuring import Question, Subject
from meshserve.core.seen import Introduction, Process, ProxyReport, Report
from meshserve.model.ids import ReplicaId
from meshserve.v1 import proxy_control_pb2, replica_control_pb2
from meshserve.wire.control import rank_from_proto, rank_to_proto
from meshserve.wire.gangs import gang_from_proto, gang_to_proto
from meshserve.wire.options import options_from_json, options_to_json


def initialize_request(action: ac.InitializeReplica) -> replica_control_pb2.InitializeRequest:
    """What a replica is to become."""
    want, replica = action.want, action.replica
    return replica_control_pb2.InitializeRequest(
        app=replica.deployment.app,
        deployment=replica.deployment.name,
        replica_tag=replica.tag,
        code=want.spec.code,
        code_version=want.spec.code_version,
        options_json=options_to_json(want.spec.options),
        generation=want.generation,
        rank=rank_to_proto(action.rank),
        route_prefix=want.route_prefix,
        import_paths=want.import_paths,
        ingress=want.ingress,
        gang=gang_to_proto(action.gang),
    )


def introduction_from_proto(proto: replica_control_pb2.InitializeResponse) -> Introduction:
    """What a replica says of itself when it is ready."""
    return Introduction(
        proto.metadata_json,
        proto.docs_path,
        tuple(proto.route_patterns),
        proto.records_routing_stats,
        proto.records_autoscaling_stats,
    )


def reconfigure_request(action: ac.ReconfigureReplica) -> replica_control_pb2.ReconfigureRequest:
    """Options and rank for a replica that runs."""
    return replica_control_pb2.ReconfigureRequest(
        options_json=options_to_json(action.options),
        generation=action.generation,
        rank=rank_to_proto(action.rank) if action.rank is not None else None,
        route_prefix=action.route_prefix,
    )


def report_from_proto(proto: replica_control_pb2.CheckHealthResponse) -> Report:
    """What a replica says with a good health check."""
    return Report(tuple(proto.multiplexed_model_ids), proto.ongoing)


def stats_request(question: Question) -> replica_control_pb2.RecordStatsRequest:
    """Asks for what user code measures."""
    return replica_control_pb2.RecordStatsRequest(
        routing=question.subject is Subject.ROUTING, autoscaling=question.subject is Subject.AUTOSCALING
    )


def measured_from_proto(proto: replica_control_pb2.RecordStatsResponse, question: Question) -> ev.ReplicaMeasured:
    """What user code measured."""
    if question.subject is Subject.ROUTING:
        return ev.ReplicaMeasured(question.replica, routing_json=proto.routing_stats_json)
    return ev.ReplicaMeasured(question.replica, autoscaling_json=proto.autoscaling_stats_json)


def described_from_proto(
    proto: replica_control_pb2.DescribeResponse, replica: ReplicaId, process: Process, started_at: float
) -> ev.ReplicaDescribed:
    """What a replica says it is.

    Raises:
        TypeError, ValueError: its options cannot be read.
    """
    return ev.ReplicaDescribed(
        replica=replica,
        process=process,
        ready=proto.ready,
        draining=proto.draining,
        code_version=proto.code_version,
        options=options_from_json(proto.options_json),
        route_prefix=proto.route_prefix,
        rank=rank_from_proto(proto.rank) if proto.HasField("rank") else None,
        introduction=introduction_from_proto(proto.initialized),
        started_at=started_at,
        gang=gang_from_proto(proto.gang),
    )


def proxy_report_from_proto(proto: proxy_control_pb2.CheckResponse) -> ProxyReport:
    """What a proxy says of itself."""
    return ProxyReport(
        failure=proto.failure,
        remark=proto.remark,
        http_address=proto.http_address,
        grpc_address=proto.grpc_address,
        ongoing=proto.ongoing,
        routes=(proto.routes_epoch, proto.routes_version),
    )
