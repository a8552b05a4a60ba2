"""Refusals of calls that are not to be tried elsewhere either."""

from __future__ import annotations

from meshserve.model.failure import Failure, FailureKind
from meshserve.v1 import replica_pb2
from meshserve.wire.failures import failure_to_proto

EXPIRED = Failure(FailureKind.DEADLINE, "The call's deadline had passed before it reached user code.")

NOT_RESERVED = Failure(FailureKind.UNAVAILABLE, "The slot this call was to use is not held here.")


def rejected(call_id: int, failure: Failure) -> replica_pb2.RejectedFrame:
    """The frame that says so."""
    return replica_pb2.RejectedFrame(call_id=call_id, failure=failure_to_proto(failure))
