"""Calls, contexts and ends <-> session frames. On the hot path: every function here runs once per call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshserve.model.call import Call, CallContext, CallKind, Encoding, Finish, GrpcCallInfo, Payload
from meshserve.model.failure import Failure
from meshserve.model.ids import DeploymentId
from meshserve.v1 import call_pb2, replica_pb2
from meshserve.wire.failures import failure_to_proto

# Indexing a tuple is five times as fast as calling the enum.
KINDS = (CallKind.UNARY, *CallKind)
ENCODINGS = tuple(Encoding)

HAS_BUFFERS, HAS_FAILURE, HAS_FINISH = 1, 2, 4
"""The parts of a result frame."""


def fill_context(proto: call_pb2.CallContext, context: CallContext) -> None:
    """To the wire; unset fields cost nothing."""
    proto.request_id = context.request_id
    if context.app:
        proto.app = context.app
    if context.route:
        proto.route = context.route
    if context.multiplexed_model_id:
        proto.multiplexed_model_id = context.multiplexed_model_id
    if context.session_id:
        proto.session_id = context.session_id
    if context.traceparent:
        proto.traceparent = context.traceparent
        proto.tracestate = context.tracestate
    if context.client:
        proto.client = context.client
    if context.priority:
        proto.priority = context.priority
    if context.grpc is not None:
        _fill_grpc(proto.grpc, context.grpc)


def context_from_proto(proto: call_pb2.CallContext) -> CallContext:
    """From the wire."""
    return CallContext(
        proto.request_id,
        proto.app,
        proto.route,
        proto.multiplexed_model_id,
        proto.session_id,
        proto.traceparent,
        proto.tracestate,
        proto.client,
        proto.priority,
        _grpc_from_proto(proto.grpc) if proto.HasField("grpc") else None,
    )


class ArrivedContext(CallContext):
    """A context from the wire that is read when somebody asks: most calls never do.

    Args:
        proto: as it came.
    """

    __slots__ = ("_proto",)

    def __init__(self, proto: call_pb2.CallContext) -> None:
        self._proto = proto
        self.request_id = proto.request_id  # asked for every call by the access log, which asks for nothing else

    def __getattr__(self, name: str) -> Any:
        """Called for a field that is not set yet: sets all."""
        if name not in CallContext.__dataclass_fields__:
            raise AttributeError(name)
        read = context_from_proto(self._proto)
        for field in CallContext.__dataclass_fields__:
            setattr(self, field, getattr(read, field))
        return getattr(read, name)


def metadata_to_proto(metadata: tuple[tuple[str, str | bytes], ...]) -> list[call_pb2.Metadatum]:
    """Metadata to the wire."""
    return [
        call_pb2.Metadatum(key=key, value=value.encode() if isinstance(value, str) else value)
        for key, value in metadata
    ]


def metadata_from_proto(entries: object) -> tuple[tuple[str, str | bytes], ...]:
    """Metadata from the wire: `-bin` keys carry bytes, others text."""
    return tuple(
        (entry.key, entry.value if entry.key.endswith("-bin") else entry.value.decode("utf-8", "replace"))
        for entry in entries  # type: ignore[attr-defined]  # a repeated field of Metadatum
    )


def _fill_grpc(proto: call_pb2.GrpcContext, info: GrpcCallInfo) -> None:
    proto.peer = info.peer
    proto.full_method = info.full_method
    proto.servicer_function = info.servicer_function
    add = proto.metadata.add
    for key, value in info.metadata:
        entry = add()
        entry.key = key
        entry.value = value.encode() if isinstance(value, str) else value
    if info.peer_identity_key:
        proto.peer_identity_key = info.peer_identity_key
        proto.peer_identities.extend(info.peer_identities)
    for key, value in info.auth_context:
        proto.auth_context.add(key=key, value=value)


def _grpc_from_proto(proto: call_pb2.GrpcContext) -> GrpcCallInfo:
    return GrpcCallInfo(
        proto.peer,
        proto.full_method,
        metadata_from_proto(proto.metadata),
        proto.peer_identity_key,
        tuple(proto.peer_identities),
        proto.servicer_function,
        tuple((entry.key, entry.value) for entry in proto.auth_context),
    )


def fill_start(
    frame: replica_pb2.StartFrame, call_id: int, call: Call, payload: Payload, now: float, credits: int
) -> None:
    """Fills in a call's start frame.

    Args:
        payload: the arguments, or the claim on them.
        now: the monotonic clock, to turn the deadline into time left.
        credits: the callee's first allowance; 0 for a unary call.
    """
    frame.call_id = call_id
    frame.method = call.method
    frame.kind = call.kind  # type: ignore[assignment]  # the enum's numbers are the wire's
    frame.encoding = payload.encoding  # type: ignore[assignment]  # the enum's numbers are the wire's
    frame.body = payload.body
    fill_context(frame.context, call.context)
    if payload.buffers:
        frame.buffers.extend(map(bytes, payload.buffers))  # protobuf takes no views; bytes stay what they are
        frame.has_buffers = True
    if credits:
        frame.initial_credits = credits
    if call.deadline is not None:
        frame.time_left_s = max(call.deadline - now, 1e-6)
    if call.bypass_limit:
        frame.bypass_limit = True
    if call.reservation:
        frame.reservation = call.reservation
    if call.accepts_claims:
        frame.accepts_claims = True
    if call.accepts_segments:
        frame.accepts_segments = True


def fill_reserve(frame: replica_pb2.StartFrame, call_id: int, call: Call) -> None:
    """Fills in a start frame that only reserves a slot: the arguments come with the call that uses it."""
    frame.call_id = call_id
    frame.reserve = True
    frame.context.request_id = call.context.request_id


def call_from_start(frame: replica_pb2.StartFrame, deployment: DeploymentId, now: float) -> Call:
    """The call of a start frame; its deadline is on this process's clock."""
    time_left_s = frame.time_left_s
    return Call(
        deployment,
        frame.method,
        KINDS[frame.kind],
        Payload(frame.body, ENCODINGS[frame.encoding], list(frame.buffers) if frame.has_buffers else ()),
        ArrivedContext(frame.context),
        now + time_left_s if time_left_s else None,
        frame.bypass_limit,
        frame.accepts_claims,
        frame.accepts_segments,
    )


def finish_to_proto(finish: Finish) -> call_pb2.Finish:
    """To the wire."""
    return call_pb2.Finish(
        code=finish.code,
        details=finish.details,
        trailers=metadata_to_proto(finish.trailers),
        initial_metadata=metadata_to_proto(finish.initial_metadata),
        compression=finish.compression,
    )


def finish_from_proto(proto: call_pb2.Finish) -> Finish:
    """From the wire."""
    return Finish(
        proto.code,
        proto.details,
        metadata_from_proto(proto.trailers),
        metadata_from_proto(proto.initial_metadata),
        proto.compression if proto.HasField("compression") else None,
    )


def add_items(frames: Any, call_id: int, items: Iterable[Payload], encoding: Encoding) -> None:
    """Adds items of one call to a message's `items`; neighbours of one encoding without buffers share a frame.

    Args:
        frames: the repeated field.
        encoding: of the call's arguments; items of another encoding say so.
    """
    shared: Any = None
    shared_encoding = encoding
    for item in items:
        if shared is not None and not item.buffers and item.encoding is shared_encoding:
            shared.append(item.body)
            continue
        frame = frames.add()
        frame.call_id = call_id
        frame.bodies.append(item.body)
        if item.encoding is not encoding or item.encoding is Encoding.CLAIM:  # as arguments may be at one end only
            frame.encoding = item.encoding
        if item.buffers:
            frame.buffers.extend(map(bytes, item.buffers))
            shared = None
        else:
            shared, shared_encoding = frame.bodies, item.encoding


def items_from_proto(frame: replica_pb2.ItemsFrame, encoding: Encoding) -> list[Payload]:
    """The items of a frame."""
    if frame.encoding:
        encoding = ENCODINGS[frame.encoding]
    if frame.buffers:
        return [Payload(frame.bodies[0], encoding, list(frame.buffers))]
    return [Payload(body, encoding) for body in frame.bodies]


def fill_result(
    frame: replica_pb2.ResultFrame, call_id: int, payload: Payload | None, encoding: Encoding, finish: Finish | None
) -> None:
    """Fills in a result frame without failure.

    Args:
        encoding: of the call's arguments; a result of another encoding says so.
    """
    frame.call_id = call_id
    if payload is not None:
        frame.body = payload.body
        if payload.buffers:
            frame.buffers.extend(map(bytes, payload.buffers))
            frame.parts |= HAS_BUFFERS
        if payload.encoding is not encoding or payload.encoding is Encoding.CLAIM:  # the caller may not have sent one
            frame.encoding = payload.encoding  # type: ignore[assignment]  # the enum's numbers are the wire's
    if finish is not None:
        fill_finish(frame, finish)


def fill_finish(frame: replica_pb2.ResultFrame, finish: Finish) -> None:
    """Adds status and trailers to a result frame."""
    frame.finish.CopyFrom(finish_to_proto(finish))
    frame.parts |= HAS_FINISH


def fill_failure(frame: replica_pb2.ResultFrame, call_id: int, failure: Failure, finish: Finish | None) -> None:
    """Fills in the result frame of a call that failed."""
    frame.call_id = call_id
    frame.failure.CopyFrom(failure_to_proto(failure))
    frame.parts |= HAS_FAILURE
    if finish is not None:
        fill_finish(frame, finish)


def result_payload(frame: replica_pb2.ResultFrame, parts: int, encoding: Encoding) -> Payload:
    """The payload of a result frame."""
    if frame.encoding:
        encoding = ENCODINGS[frame.encoding]
    return Payload(frame.body, encoding, list(frame.buffers) if parts & HAS_BUFFERS else ())
