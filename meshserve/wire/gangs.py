"""The gang of a replica <-> the wire."""

from __future__ import annotations

from meshserve.model.gang import GangContext
from meshserve.v1 import replica_control_pb2


def gang_to_proto(gang: GangContext | None) -> replica_control_pb2.Gang | None:
    """The gang of a replica; None for none."""
    if gang is None:
        return None
    return replica_control_pb2.Gang(
        gang_id=gang.gang_id, rank=gang.rank, member_tags=gang.member_replica_ids, placement_group=gang.pg_name
    )


def gang_from_proto(proto: replica_control_pb2.Gang) -> GangContext | None:
    """See `gang_to_proto`."""
    if not proto.gang_id:
        return None
    members = list(proto.member_tags)
    return GangContext(proto.gang_id, proto.rank, len(members), members, proto.placement_group)
