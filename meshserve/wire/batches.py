"""Calls and results that are alike <-> columns of session messages.

Calls that one process makes to one replica at a time are alike in most of what their frames say: the method, the kind,
the application, the route. They share one frame, and what differs comes in columns, which protobuf fills and reads
without a step of Python per field: 9 us a call became 3 at either end, and 4 us a result became 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any

from meshserve.model.call import Call, CallContext, Encoding, GrpcCallInfo, Payload
from meshserve.model.ids import DeploymentId
from meshserve.model.replace import replace
from meshserve.v1 import call_pb2, replica_pb2
from meshserve.wire.calls import ENCODINGS, KINDS, context_from_proto, fill_start


def fits_batch(call: Call, payload: Payload) -> bool:
    """Whether a call has nothing that a batch has no column for."""
    context = call.context
    return not (
        len(payload.buffers) > 1 or call.reserve or call.reservation or call.bypass_limit or context.traceparent
    )


class StartBatches:
    """Fills in the batches of one message. A call that is alike to none goes alone, which costs less than a batch of
    one, as long as nothing is overtaken by that: batches are read after calls that go alone.

    Args:
        message: the message.
        now: the monotonic clock, to turn deadlines into time left.
    """

    __slots__ = (
        "_bodies",
        "_buffers",
        "_clients",
        "_ids",
        "_key",
        "_message",
        "_now",
        "_peers",
        "_requests",
        "_template",
        "_times_left",
    )

    def __init__(self, message: replica_pb2.SessionRequest, now: float) -> None:
        self._message = message
        self._now = now
        self._key: tuple[Any, ...] = ()
        self._template: tuple[Call, Payload, int] | None = None

    def _begin(self) -> None:
        self._ids: list[int] = []
        self._bodies: list[bytes] = []
        self._buffers: list[bytes] = []
        self._requests: list[str] = []
        self._clients: list[str] = []
        self._peers: list[str] = []
        self._times_left: list[float] = []

    def __bool__(self) -> bool:
        return self._template is not None

    def add(self, call_id: int, call: Call, payload: Payload, credits: int) -> None:
        """Adds a call that fits; the order stays."""
        context, deadline = call.context, call.deadline
        grpc = context.grpc
        key = (
            call.method,
            call.kind,
            payload.encoding,
            deadline is None,
            call.accepts_claims,
            call.accepts_segments,
            credits,
            context.app,
            context.route,
            context.multiplexed_model_id,
            context.session_id,
            context.priority,
            not payload.buffers,
            None if grpc is None else _alike(grpc),
        )
        if key != self._key:
            self.close()
            self._begin()
            self._key, self._template = key, (call, payload, credits)
        self._ids.append(call_id)
        self._bodies.append(payload.body)
        if payload.buffers:
            self._buffers.append(bytes(payload.buffers[0]))
        self._requests.append(context.request_id)
        if context.client or self._clients:
            self._clients.extend([""] * (len(self._ids) - 1 - len(self._clients)))
            self._clients.append(context.client)
        if grpc is not None:
            self._peers.append(grpc.peer)
        if deadline is not None:
            self._times_left.append(max(deadline - self._now, 1e-6))

    def close(self) -> None:
        """Ends the last batch."""
        if self._template is None:
            return
        call, payload, credits = self._template
        self._template = None
        if len(self._ids) == 1 and not self._message.batches:
            fill_start(self._message.starts.add(), self._ids[0], call, payload, self._now, credits)
            return
        batch = self._message.batches.add()
        fill_start(batch.template, 0, call, Payload(b"", payload.encoding), self._now, credits)
        batch.call_ids.extend(self._ids)
        batch.bodies.extend(self._bodies)
        batch.request_ids.extend(self._requests)
        batch.clients.extend(self._clients)
        batch.grpc_peers.extend(self._peers)
        batch.times_left_s.extend(self._times_left)
        batch.buffers.extend(self._buffers)


def _alike(info: GrpcCallInfo) -> tuple[Any, ...]:
    """What calls of one batch have in common: everything but their peers. Metadata are, most of the time: clients send
    the same with every call."""
    return (
        info.full_method,
        info.metadata,
        info.servicer_function,
        info.peer_identity_key,
        info.peer_identities,
        info.auth_context,
    )


class SharedContext:
    """What the contexts of a batch have in common, read once, when somebody asks.

    Args:
        proto: as it came.
    """

    __slots__ = ("_proto", "_read")

    def __init__(self, proto: call_pb2.CallContext) -> None:
        self._proto = proto
        self._read: CallContext | None = None

    def read(self) -> CallContext:
        """The context of the template."""
        if self._read is None:
            self._read = context_from_proto(self._proto)
        return self._read


class BatchedContext(CallContext):
    """A context of a call that came in a batch: read when somebody asks, as `wire.calls.ArrivedContext`.

    Args:
        shared: what the calls of the batch have in common.
        request_id: of this one.
        client: of this one.
        peer: of this one at the gRPC ingress; empty when it did not enter there.
    """

    __slots__ = ("_client", "_peer", "_shared")

    def __init__(self, shared: SharedContext, request_id: str, client: str, peer: str) -> None:
        self._shared = shared
        self._client = client
        self._peer = peer
        self.request_id = request_id

    def __getattr__(self, name: str) -> Any:
        """Called for a field that is not set yet: sets all."""
        if name not in CallContext.__dataclass_fields__:
            raise AttributeError(name)
        shared = self._shared.read()
        self.app = shared.app
        self.route = shared.route
        self.multiplexed_model_id = shared.multiplexed_model_id
        self.session_id = shared.session_id
        self.traceparent = shared.traceparent
        self.tracestate = shared.tracestate
        self.client = self._client
        self.priority = shared.priority
        self.grpc = None if shared.grpc is None else replace(shared.grpc, peer=self._peer)
        return getattr(self, name)


def calls_from_batch(batch: replica_pb2.StartBatch, deployment: DeploymentId, now: float) -> Iterator[tuple[int, Call]]:
    """The calls of a batch with their ids, in order; their deadlines are on this process's clock."""
    template = batch.template
    method, kind, encoding = template.method, KINDS[template.kind], ENCODINGS[template.encoding]
    claims, segments, shared = template.accepts_claims, template.accepts_segments, SharedContext(template.context)
    times_left = list(batch.times_left_s)
    clients = list(batch.clients)
    peers = list(batch.grpc_peers)
    buffers = list(batch.buffers)
    for index, (call_id, body, request_id) in enumerate(
        zip(batch.call_ids, batch.bodies, batch.request_ids, strict=True)
    ):
        yield (
            call_id,
            Call(
                deployment,
                method,
                kind,
                Payload(body, encoding, (buffers[index],) if buffers else ()),
                BatchedContext(shared, request_id, clients[index] if clients else "", peers[index] if peers else ""),
                now + times_left[index] if times_left else None,
                False,
                claims,
                segments,
            ),
        )


class ResultBatches:
    """Fills in the result batches of one message: those of successful calls without status.

    Args:
        frames: the repeated field.
    """

    __slots__ = ("_columns", "_frames")

    def __init__(self, frames: Any) -> None:
        self._frames = frames
        self._columns: dict[tuple[int, bool], tuple[list[int], list[bytes], list[bytes]]] = {}

    def add(self, call_id: int, payload: Payload | None, encoding: Encoding) -> None:
        """Adds a result.

        Args:
            payload: with one buffer at most; of a streaming call its last item, None when that was sent before.
            encoding: of the call's arguments; a result of another encoding says so.
        """
        named = 0 if payload is None or payload.encoding is encoding is not Encoding.CLAIM else int(payload.encoding)
        key = named, payload is not None and bool(payload.buffers)
        columns = self._columns.get(key)
        if columns is None:
            columns = self._columns[key] = ([], [], [])
        columns[0].append(call_id)
        columns[1].append(b"" if payload is None else payload.body)
        if payload is not None and payload.buffers:
            columns[2].append(bytes(payload.buffers[0]))

    def close(self) -> None:
        """Ends the batches."""
        for (named, _), (ids, bodies, buffers) in self._columns.items():
            batch = self._frames.add(call_ids=ids, bodies=bodies, buffers=buffers)
            if named:
                batch.encoding = named


def results_from_batch(batch: replica_pb2.ResultBatch) -> Iterator[tuple[int, bytes, tuple[bytes, ...]]]:
    """The call ids, bodies and buffers of a batch."""
    buffers: Iterable[tuple[bytes, ...]] = zip(batch.buffers, strict=True) if batch.buffers else repeat(())
    return zip(batch.call_ids, batch.bodies, buffers, strict=False)
