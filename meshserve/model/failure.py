"""Why a call has no result, as data that can cross processes and be mapped to gRPC and HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class FailureKind(IntEnum):
    """Closed; numbers are those of the wire. `GRPC_CODE` and `HTTP_STATUS` below fix the rest."""

    USER = 1
    CANCELLED = 2
    DEADLINE = 3
    BACKPRESSURE = 4
    UNAVAILABLE = 5
    REPLICA_LOST = 6
    INVALID = 7
    INTERNAL = 8


GRPC_CODE: dict[FailureKind, int] = {
    FailureKind.USER: 13,  # INTERNAL
    FailureKind.CANCELLED: 1,  # CANCELLED
    FailureKind.DEADLINE: 4,  # DEADLINE_EXCEEDED
    FailureKind.BACKPRESSURE: 8,  # RESOURCE_EXHAUSTED
    FailureKind.UNAVAILABLE: 14,  # UNAVAILABLE
    FailureKind.REPLICA_LOST: 13,  # INTERNAL: it may have run, so UNAVAILABLE would invite a retry
    FailureKind.INVALID: 12,  # UNIMPLEMENTED
    FailureKind.INTERNAL: 13,  # INTERNAL
}

HTTP_STATUS: dict[FailureKind, int] = {
    FailureKind.USER: 500,
    FailureKind.CANCELLED: 499,
    FailureKind.DEADLINE: 408,
    FailureKind.BACKPRESSURE: 503,
    FailureKind.UNAVAILABLE: 503,
    FailureKind.REPLICA_LOST: 500,
    FailureKind.INVALID: 500,
    FailureKind.INTERNAL: 500,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure.

    Attributes:
        kind: see `FailureKind`.
        message: what was wanted, what was found, what to do.
        exception: the exception by pickle, or empty; read by Python callers inside the mesh only.
        traceback: remote traceback text; never shown to outside clients unless configured.
        exception_type: class name of the exception.
        http_status: the HTTP status the failure fixes, or 0 for that of its kind.
        retry_after_s: advice to clients, or None for none.
    """

    kind: FailureKind
    message: str
    exception: bytes = b""
    traceback: str = ""
    exception_type: str = ""
    http_status: int = 0
    retry_after_s: float | None = None

    @property
    def grpc_code(self) -> int:
        """The gRPC status code of this failure."""
        return GRPC_CODE[self.kind]

    @property
    def status(self) -> int:
        """The HTTP status of this failure."""
        return self.http_status or HTTP_STATUS[self.kind]
