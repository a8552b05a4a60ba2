"""What is told of each call at the gRPC ingress: counted under the ecosystem's names, logged, and traced when tracing
is on."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from typing import Any

import grpc
import grpc.aio

from meshserve.model.call import Call, CallContext, CallKind
from meshserve.rpc.servicers import Handlers
from meshserve.telemetry.access_log import ACCESS
from meshserve.telemetry.ingress import GrpcMethodMetrics, GrpcMetrics
from meshserve.telemetry.registry import PROCESS
from meshserve.telemetry.tracing import active

Context = grpc.aio.ServicerContext[Any, Any]

_record: ContextVar[GrpcRecord | None] = ContextVar("meshserve_grpc_record", default=None)
"""The record of the call that the current task serves: gRPC makes a task for each."""

_OK = "OK"

HASTE_S = 0.05
"""A client whose deadline has passed cancels, and that may arrive a little before the deadline does here."""


class GrpcRecord:
    """One call, from its begin to its end.

    Args:
        method: its full name.
        metrics: of the method.
    """

    __slots__ = ("_began", "_context", "_method", "_metrics", "_span")

    def __init__(self, method: str, metrics: GrpcMethodMetrics) -> None:
        self._began = time.monotonic()
        self._method = method
        self._metrics = metrics
        self._context: CallContext | None = None
        self._span: Any = None
        metrics.started += 1

    def called(self, call: Call) -> None:
        """The call is about to be made."""
        self._context = context = call.context
        tracing = active()
        if tracing is not None:
            service, _, name = self._method.lstrip("/").rpartition("/")
            attributes = {
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": name,
                "meshserve.application": context.app,
                "client.address": context.client,
            }
            self._span = tracing.begin(self._method.lstrip("/"), "server", context, attributes)
            tracing.follow(self._span, context)

    def ended(self, code: str) -> None:
        """The call is over."""
        now, context = time.monotonic(), self._context
        seconds = now - self._began
        self._metrics.ended(code, seconds)
        if ACCESS.enabled and context is not None:
            ACCESS.add((now, context.request_id, self._method, "GRPC", self._method, code, seconds))
        tracing = active()
        if self._span is not None and tracing is not None:
            tracing.end(self._span, "" if code == _OK else code, {"rpc.grpc.status_code": code})


def called(call: Call) -> None:
    """Says which call the current task's gRPC call has become."""
    record = _record.get()
    if record is not None:
        record.called(call)


def counted(
    handler: grpc.RpcMethodHandler[Any, Any], full_name: str, kind: CallKind
) -> grpc.RpcMethodHandler[Any, Any]:
    """The same handler, and what is told of its calls.

    Args:
        handler: one that reads its requests itself, see `rpc.one_request`.
        full_name: of the method.
        kind: what the method is to its clients.
    """
    metrics = PROCESS.recorder(GrpcMetrics).method(kind.name.lower(), full_name)
    run: Any = handler.stream_stream if handler.response_streaming else handler.stream_unary

    async def recorded(requests: object, context: Context) -> Any:
        record = GrpcRecord(full_name, metrics)
        _record.set(record)
        code = _OK
        try:
            result = await run(requests, context)
            code = _name(context.code())
            return result
        except BaseException as error:  # also a cancelled task; passed on
            code = _code_of(error, context)
            raise
        finally:
            record.ended(code)

    make: Any = (
        grpc.stream_stream_rpc_method_handler if handler.response_streaming else grpc.stream_unary_rpc_method_handler
    )
    wrapped: grpc.RpcMethodHandler[Any, Any] = make(recorded, handler.request_deserializer, handler.response_serializer)
    return wrapped


def all_counted(handlers: Handlers, declared: Handlers) -> Handlers:
    """The same handlers, and what is told of their calls.

    Args:
        handlers: those that read their requests themselves.
        declared: the same ones as they were declared, which says what they are to clients.
    """
    kinds = {
        (False, False): CallKind.UNARY,
        (False, True): CallKind.SERVER_STREAM,
        (True, False): CallKind.CLIENT_STREAM,
        (True, True): CallKind.BIDI_STREAM,
    }
    return {
        name: counted(handler, name, kinds[bool(declared[name].request_streaming), bool(handler.response_streaming)])
        for name, handler in handlers.items()
    }


def _code_of(error: BaseException, context: Context) -> str:
    """The code that gRPC ends a call with whose handler raised."""
    if isinstance(error, grpc.aio.AbortError):
        return _name(context.code())
    remaining_s = context.time_remaining()
    if remaining_s is not None and remaining_s <= HASTE_S:
        return "DeadlineExceeded"
    return "Canceled" if isinstance(error, asyncio.CancelledError) else "Unknown"


def _name(code: Any) -> str:
    """A code's name as the ecosystem's dashboards write it: `NotFound`. None is OK."""
    if code is grpc.StatusCode.CANCELLED:
        return "Canceled"
    if not isinstance(code, grpc.StatusCode) or code is grpc.StatusCode.OK:
        return _OK
    return "".join(part.title() for part in code.name.split("_"))
