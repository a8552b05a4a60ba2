"""Exceptions <-> failures <-> the wire.

A failure travels as data. Only a Python caller inside the mesh turns it back into the exception that user code
raised: same class, same arguments, with the remote traceback as its `__cause__`.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import traceback
from typing import Any

import cloudpickle

from meshserve.errors import (
    BackPressureError,
    CallTimeoutError,
    DeploymentUnavailableError,
    InvalidCallError,
    RemoteError,
    RemoteTraceback,
    ReplicaDiedError,
    ReplicaUnavailableError,
    RequestCancelledError,
    UpstreamDiedError,
)
from meshserve.model.failure import Failure, FailureKind
from meshserve.v1 import call_pb2

_OURS = tuple(os.path.join(os.path.dirname(os.path.dirname(__file__)), part) for part in ("replica", "rpc", "wire"))
"""Where the frames between the wire and user code lie."""

_KINDS: tuple[tuple[type[BaseException], FailureKind], ...] = (
    (BackPressureError, FailureKind.BACKPRESSURE),
    (DeploymentUnavailableError, FailureKind.UNAVAILABLE),
    (ReplicaUnavailableError, FailureKind.UNAVAILABLE),
    (RequestCancelledError, FailureKind.CANCELLED),
    (asyncio.CancelledError, FailureKind.CANCELLED),
    (CallTimeoutError, FailureKind.DEADLINE),
    (ReplicaDiedError, FailureKind.REPLICA_LOST),
    (UpstreamDiedError, FailureKind.REPLICA_LOST),
    (InvalidCallError, FailureKind.INVALID),
)

_TEXT_CHARACTERS = 32_768
"""The longest text of an exception that travels beside its pickle: its arguments may be megabytes, which text shows."""

_LARGEST_EXCEPTION_BYTES = 256 << 20
"""What an exception may weigh; of a heavier one, its text arrives."""

_WITHOUT_PICKLE: dict[FailureKind, type[Exception]] = {
    FailureKind.DEADLINE: CallTimeoutError,
    FailureKind.REPLICA_LOST: ReplicaDiedError,
    FailureKind.INVALID: InvalidCallError,
}


def user_traceback(error: BaseException) -> str:
    """The traceback of an exception from the first frame of user code on: how the mesh called it helps nobody."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return _sendable("".join(traceback.format_exception(type(error), error, trace or error.__traceback__)))


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as broken:  # noqa: BLE001 - user classes may raise anything here
        return f"{type(error).__name__}, whose text cannot be had: its __str__ raised {type(broken).__name__}"
    return _sendable(text) or type(error).__name__


def _sendable(text: str) -> str:
    """Text that any protocol can carry: without lone surrogates, and with its middle left out where it is very long."""
    if len(text) > _TEXT_CHARACTERS:
        half = _TEXT_CHARACTERS // 2
        text = f"{text[:half]} ... [{len(text) - 2 * half} characters left out] ... {text[-half:]}"
    return text.encode(errors="backslashreplace").decode()


def failure_of(error: BaseException) -> Failure:
    """Describes an exception, with its pickle if it has one that can be read back."""
    kind = next((kind for cls, kind in _KINDS if isinstance(error, cls)), FailureKind.USER)
    return Failure(
        kind=kind,
        message=_message(error),
        exception=_pickled(error),
        traceback=user_traceback(error),
        exception_type=type(error).__name__,
        http_status=getattr(error, "status_code", 0) if kind is FailureKind.BACKPRESSURE else 0,
        retry_after_s=getattr(error, "retry_after_s", None) if kind is FailureKind.BACKPRESSURE else None,
    )


def _pickled(error: BaseException) -> bytes:
    """The exception's pickle, or nothing when it would not survive the way there and back.

    Nothing, too, for what would end the caller's program or generator: another process's SystemExit is not its own.
    """
    if not isinstance(error, Exception):
        return b""
    for form in (error, _ByState(error)):
        try:
            data = cloudpickle.dumps(form)
            pickle.loads(data)
        except Exception:  # noqa: BLE001 - user classes may raise anything here
            continue
        return bytes(data) if len(data) <= _LARGEST_EXCEPTION_BYTES else b""
    return b""


class _ByState:
    """Pickles as an exception whose class does not take its own `args`: `__init__(self, *, code)`, for example.

    Exceptions pickle as a call of their class with what they gave to `Exception`. This way that call is left out.

    Args:
        error: the exception.
    """

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_state, (type(self._error), self._error.args, self._error.__dict__)


def _from_state(cls: type[Exception], args: tuple[Any, ...], state: dict[str, Any]) -> Exception:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def exception_of(failure: Failure, request_id: str = "") -> BaseException:
    """The exception a Python caller sees for a failure."""
    if failure.kind is FailureKind.CANCELLED and not failure.exception:
        return RequestCancelledError(request_id or None)
    error: BaseException | None = None
    if failure.exception:
        try:
            error = pickle.loads(failure.exception)
        except Exception:  # noqa: BLE001 - the class may not be importable here
            error = None
    if error is None:
        error = _by_kind(failure)
    if failure.traceback and error.__cause__ is None:
        error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def _by_kind(failure: Failure) -> BaseException:
    if failure.kind is FailureKind.UNAVAILABLE:
        return DeploymentUnavailableError(failure.exception_type or "?", failure.message)
    cls = _WITHOUT_PICKLE.get(failure.kind)
    if cls is not None:
        return cls(failure.message)
    name = f"{failure.exception_type}: " if failure.exception_type else ""
    return RemoteError(f"{name}{failure.message}")


def failure_to_proto(failure: Failure) -> call_pb2.Failure:
    """To the wire."""
    return call_pb2.Failure(
        kind=int(failure.kind),  # type: ignore[arg-type]  # the enum's numbers are the wire's
        message=failure.message,
        exception=failure.exception,
        traceback=failure.traceback,
        exception_type=failure.exception_type,
        http_status=failure.http_status,
        retry_after_s=failure.retry_after_s,
    )


def failure_from_proto(proto: Any) -> Failure:
    """From the wire; an unknown kind is read as INTERNAL."""
    try:
        kind = FailureKind(proto.kind)
    except ValueError:
        kind = FailureKind.INTERNAL
    return Failure(
        kind,
        proto.message,
        proto.exception,
        proto.traceback,
        proto.exception_type,
        proto.http_status,
        proto.retry_after_s if proto.HasField("retry_after_s") else None,
    )
