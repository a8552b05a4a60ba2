"""How calls fail -> what a program catches: the mesh's errors, told apart by the ErrorInfo that every failure has."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no py.typed

from meshserve.errors import (
    BackPressureError,
    CallTimeoutError,
    DeploymentUnavailableError,
    IngressError,
    InvalidCallError,
    MeshServeException,
    RemoteError,
    ReplicaDiedError,
    RequestCancelledError,
    gRPCStatusError,
)
from meshserve.rpc.status_details import DETAILS_KEY, DOMAIN


class ShedError(BackPressureError):
    """As the ingress told it: in a sentence, without the numbers.

    Args:
        message: the sentence.
        retry_after_s: seconds after which to try again; None for no advice.
    """

    def __init__(self, message: str, retry_after_s: float | None) -> None:
        super().__init__(0, 0, retry_after_s=retry_after_s)
        self._message = message

    @property
    def message(self) -> str:
        """The sentence."""
        return self._message


class UnavailableError(DeploymentUnavailableError):
    """As the ingress told it.

    Args:
        deployment: which, as `app#name`.
        message: the sentence.
    """

    def __init__(self, deployment: str, message: str) -> None:
        super().__init__(deployment)
        self._message = message

    @property
    def message(self) -> str:
        """The sentence."""
        return self._message


def error_of(error: grpc.aio.AioRpcError, request_id: str) -> MeshServeException:
    """What a program catches for a call that failed."""
    code, message = error.code(), error.details() or error.code().name
    details = _details(error)
    info: Any = _find(details, error_details_pb2.ErrorInfo)
    reason = info.reason if info is not None and info.domain == DOMAIN else ""
    match reason or code.name:
        case "USER":
            return _of_user_code(code, message)
        case "CANCELLED":
            return RequestCancelledError(request_id)
        case "DEADLINE" | "DEADLINE_EXCEEDED":
            return CallTimeoutError(message)
        case "BACKPRESSURE":
            retry: Any = _find(details, error_details_pb2.RetryInfo)
            return ShedError(message, None if retry is None else retry.retry_delay.ToTimedelta().total_seconds())
        case "UNAVAILABLE" if reason:
            return UnavailableError(f"{info.metadata['application']}#{info.metadata['deployment']}", message)
        case "REPLICA_LOST":
            return ReplicaDiedError(message)
        case "INVALID":
            return InvalidCallError(message)
        case _:
            return IngressError(message, code.name, reason, request_id)


def _of_user_code(code: grpc.StatusCode, message: str) -> MeshServeException:
    raised = RemoteError(message)
    return raised if code is grpc.StatusCode.INTERNAL else gRPCStatusError(raised, code.value[0], message)


def _details(error: grpc.aio.AioRpcError) -> list[Any]:
    packed = dict(error.trailing_metadata() or ()).get(DETAILS_KEY)
    return list(status_pb2.Status.FromString(packed).details) if packed else []


def _find(details: list[Any], kind: Any) -> Any:
    """The first detail of a kind; None when there is none."""
    for packed in details:
        if packed.Is(kind.DESCRIPTOR):
            found = kind()
            packed.Unpack(found)
            return found
    return None
