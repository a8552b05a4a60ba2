"""Notices <-> the wire."""

from __future__ import annotations

from meshserve.model.notice import Notice
from meshserve.v1 import metrics_pb2


def notice_to_proto(notice: Notice) -> metrics_pb2.Notice:
    """To the wire."""
    return metrics_pb2.Notice(
        number=notice.number,
        source=notice.source,
        at_s=notice.at_s,
        level=notice.level,
        text=notice.text,
        request_id=notice.request_id,
        application=notice.application,
        deployment=notice.deployment,
        replica=notice.replica,
    )


def notice_from_proto(proto: metrics_pb2.Notice) -> Notice:
    """From the wire."""
    return Notice(
        proto.number,
        proto.source,
        proto.at_s,
        proto.level,
        proto.text,
        proto.request_id,
        proto.application,
        proto.deployment,
        proto.replica,
    )
