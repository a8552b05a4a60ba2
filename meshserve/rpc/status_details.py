"""Failures -> what a gRPC client sees: code, message, and details that programs can read.

Every error carries `google.rpc.Status` in `grpc-status-details-bin` with an ErrorInfo: the reason is the kind of
failure, the domain `meshserve.dev`, the metadata tell application, deployment and request. What may be tried again
has a RetryInfo, and what was shed a `grpc-retry-pushback-ms` besides, which gRPC clients with a retry policy obey.
What user code set itself stays.

The size is bounded. gRPC clients refuse trailers above 8 KiB (some at random between 8 and 16), and the client would
then see that refusal instead of the error. A message travels twice, percent-encoded and inside the details, so it is
cut where both fit: at 4,096 characters, for plain text already near 2,600.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from random import getrandbits
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no py.typed

from meshserve.model.call import Finish
from meshserve.model.failure import Failure, FailureKind

DOMAIN = "meshserve.dev"
"""The domain of every ErrorInfo."""

DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
REQUEST_ID_KEY = "request_id"

MAX_MESSAGE_CHARS = 4096
MAX_REQUEST_ID_CHARS = 128
CUT = "... [truncated]"

RETRY_AFTER_S = 1.0
"""The advice when a failure that may be tried again brings none."""

_TRAILER_BYTES = 6 * 1024
"""What a message may cost in the trailers; the rest of 8 KiB is for the details' frame and the user's own trailers."""

_TRACEBACK_BYTES = 2 * 1024

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class RpcStatus:
    """How a call ends without a result.

    Attributes:
        code: never OK.
        message: as short as it has to be.
        trailers: with the details.
    """

    code: grpc.StatusCode
    message: str
    trailers: Metadata


class Refused(Exception):
    """An ingress refuses a call before any replica saw it.

    Attributes:
        status: what the client is told.
    """

    def __init__(self, status: RpcStatus) -> None:
        super().__init__(status.message)
        self.status = status


async def abort(context: grpc.aio.ServicerContext[Any, Any], status: RpcStatus) -> NoReturn:
    """Ends a call with a status alone, without a message."""
    await context.abort(status.code, status.message, status.trailers)


def request_id_of(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The request id that the client sent, or a new one."""
    metadata: Any = context.invocation_metadata() or ()
    return chosen_request_id(next((value for key, value in metadata if key == REQUEST_ID_KEY), ""))


def chosen_request_id(wanted: str) -> str:
    """A client's request id, cut to a size that fits trailers and logs; a new one when it sent none."""
    return wanted[:MAX_REQUEST_ID_CHARS] or f"{getrandbits(128):032x}"


def status_code(number: int) -> grpc.StatusCode:
    """The status code of a number; UNKNOWN for one that gRPC does not have."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


def refusal(
    code: grpc.StatusCode, message: str, reason: str, request_id: str, facts: Mapping[str, str], *, field: str = ""
) -> RpcStatus:
    """A status for a request that cannot be served as it is.

    Args:
        reason: of the ErrorInfo, in capitals.
        facts: metadata of the ErrorInfo.
        field: the field of the request that is wrong, for a BadRequest.
    """
    message = fit(message)
    details: list[Message] = [_error_info(reason, request_id, facts)]
    if field:
        details.append(_bad_request(field, message))
    return RpcStatus(code, message, _trailers(code, message, details, request_id, ()))


def status_of(
    failure: Failure, finish: Finish | None, request_id: str, facts: Mapping[str, str], *, show_traceback: bool = False
) -> RpcStatus:
    """The status of a call that failed.

    Args:
        finish: what user code had set; its code, details and trailers go before those of the failure.
        facts: metadata of the ErrorInfo.
        show_traceback: whether the client may see where user code raised.
    """
    own = finish if finish is not None else Finish()
    code = status_code(own.code or failure.grpc_code)
    budget = _TRAILER_BYTES - (2 * _TRACEBACK_BYTES if show_traceback and failure.traceback else 0)
    message = fit(own.details or failure.message, budget)
    details: list[Message] = [_error_info(failure.kind.name, request_id, facts)]
    trailers = own.trailers
    if failure.kind in (FailureKind.BACKPRESSURE, FailureKind.UNAVAILABLE):
        retry_after_s = RETRY_AFTER_S if failure.retry_after_s is None else failure.retry_after_s
        details.append(_retry_info(retry_after_s))
        if failure.kind is FailureKind.BACKPRESSURE:
            trailers = (*trailers, (PUSHBACK_KEY, str(round(retry_after_s * 1000))))
    if code is grpc.StatusCode.INVALID_ARGUMENT and failure.kind is FailureKind.INVALID:
        details.append(_bad_request("", message))
    if show_traceback and failure.traceback:
        details.append(error_details_pb2.DebugInfo(detail=_tail(failure.traceback)))
    return RpcStatus(code, message, _trailers(code, message, details, request_id, trailers))


def ended_with(finish: Finish, request_id: str) -> RpcStatus:
    """The status of a call that returned normally, with a code other than OK set by user code."""
    code, message = status_code(finish.code), fit(finish.details)
    info = _error_info(FailureKind.USER.name, request_id, {})
    return RpcStatus(code, message, _trailers(code, message, [info], request_id, finish.trailers))


def with_request_id(trailers: Metadata, request_id: str) -> Metadata:
    """Trailers with the mesh's request id, which user code cannot replace."""
    return ((REQUEST_ID_KEY, request_id), *(entry for entry in trailers if entry[0] != REQUEST_ID_KEY))


def fit(message: str, budget: int = _TRAILER_BYTES) -> str:
    """Cuts a message that is too long for trailers; what was cut says so at its end."""
    message = message.encode("utf-8", "replace").decode()  # lone surrogates cannot be sent
    if len(message) <= MAX_MESSAGE_CHARS and _cost(message) <= budget:
        return message
    lengths = range(MAX_MESSAGE_CHARS - len(CUT) + 1)
    budget -= _cost(CUT)
    keep = bisect_right(lengths, budget, key=lambda length: _cost(message[:length])) - 1
    return message[: max(keep, 0)] + CUT


def _cost(message: str) -> int:
    """Bytes that a message takes: percent-encoded in `grpc-message`, base64 in the details."""
    raw = message.encode()
    plain = sum(1 for byte in raw if 0x20 <= byte <= 0x7E and byte != 0x25)
    return plain + 3 * (len(raw) - plain) + len(raw) * 4 // 3


def _tail(traceback: str) -> str:
    """The end of a traceback, where the reason stands."""
    return traceback.encode("utf-8", "replace")[-_TRACEBACK_BYTES:].decode("utf-8", "ignore")


def _trailers(
    code: grpc.StatusCode, message: str, details: list[Message], request_id: str, trailers: Metadata
) -> Metadata:
    trailers = with_request_id(trailers, request_id)
    if any(key == DETAILS_KEY for key, _ in trailers):
        return trailers  # user code speaks for itself
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return (*trailers, (DETAILS_KEY, status.SerializeToString()))


def _error_info(reason: str, request_id: str, facts: Mapping[str, str]) -> Message:
    info: Message = error_details_pb2.ErrorInfo(
        reason=reason, domain=DOMAIN, metadata={REQUEST_ID_KEY: request_id, **{k: v for k, v in facts.items() if v}}
    )
    return info


def _bad_request(field: str, description: str) -> Message:
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=description[:256])
    bad: Message = error_details_pb2.BadRequest(field_violations=[violation])
    return bad


def _retry_info(delay_s: float) -> Message:
    millis = round(delay_s * 1000)
    info: Message = error_details_pb2.RetryInfo(
        retry_delay=Duration(seconds=millis // 1000, nanos=millis % 1000 * 1_000_000)
    )
    return info
