"""Calls and results that are alike <-> columns of session messages.

Calls that one process makes to one replica at a time are alike in most of what their frames say: the method, the kind,
the application, the route. They share one frame, and what differs comes in columns, which protobuf fills and reads
without a step of Python per field: 9 us a call became 3 at either end, and 4 us a result became 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any

from meshserve.model.call import Call, CallContext, Encoding, Payload
from meshserve.model.ids import DeploymentId
from meshserve.v1 import call_pb2, replica_pb2
from meshserve.wire.calls import ENCODINGS, KINDS, context_from_proto, fill_start


def fits_batch(call: Call, payload: Payload) -> bool:
    """Whether a call has nothing that a batch has no column for."""
    context = call.context
    return not (
        len(payload.buffers) > 1
        or call.reserve
        or call.reservation
        or call.bypass_limit
        or context.traceparent
        or context.grpc is not None
    )


class StartBatches:
    """Fills in the batches of one message.

    Args:
        frames: the repeated field.
        now: the monotonic clock, to turn deadlines into time left.
    """

    __slots__ = (
        "_bodies",
        "_buffers",
        "_clients",
        "_frames",
        "_ids",
        "_key",
        "_now",
        "_requests",
        "_template",
        "_times_left",
    )

    def __init__(self, frames: Any, now: float) -> None:
        self._frames = frames
        self._now = now
        self._key: tuple[Any, ...] = ()
        self._template: tuple[Call, Payload, int] | None = None
        self._begin()

    def _begin(self) -> None:
        self._ids: list[int] = []
        self._bodies: list[bytes] = []
        self._buffers: list[bytes] = []
        self._requests: list[str] = []
        self._clients: list[str] = []
        self._times_left: list[float] = []

    def __bool__(self) -> bool:
        return self._template is not None

    def add(self, call_id: int, call: Call, payload: Payload, credits: int) -> None:
        """Adds a call that fits; the order stays."""
        context, deadline = call.context, call.deadline
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
        )
        if key != self._key:
            self.close()
            self._key, self._template = key, (call, payload, credits)
        self._ids.append(call_id)
        self._bodies.append(payload.body)
        if payload.buffers:
            self._buffers.append(bytes(payload.buffers[0]))
        self._requests.append(context.request_id)
        if context.client or self._clients:
            self._clients.extend([""] * (len(self._ids) - 1 - len(self._clients)))
            self._clients.append(context.client)
        if deadline is not None:
            self._times_left.append(max(deadline - self._now, 1e-6))

    def close(self) -> None:
        """Ends the last batch."""
        if self._template is None:
            return
        batch = self._frames.add()
        call, payload, credits = self._template
        fill_start(batch.template, 0, call, Payload(b"", payload.encoding), self._now, credits)
        batch.call_ids.extend(self._ids)
        batch.bodies.extend(self._bodies)
        batch.request_ids.extend(self._requests)
        batch.clients.extend(self._clients)
        batch.times_left_s.extend(self._times_left)
        batch.buffers.extend(self._buffers)
        self._template = None
        self._begin()


class BatchedContext(CallContext):
    """A context of a call that came in a batch: read when somebody asks, as `wire.calls.ArrivedContext`.

    Args:
        shared: what the calls of the batch have in common.
        request_id: of this one.
        client: of this one.
    """

    __slots__ = ("_client", "_shared")

    def __init__(self, shared: call_pb2.CallContext, request_id: str, client: str) -> None:
        self._shared = shared
        self._client = client
        self.request_id = request_id

    def __getattr__(self, name: str) -> Any:
        """Called for a field that is not set yet: sets all."""
        if name not in CallContext.__dataclass_fields__:
            raise AttributeError(name)
        read = context_from_proto(self._shared)
        read.request_id, read.client = self.request_id, self._client
        for field in CallContext.__dataclass_fields__:
            setattr(self, field, getattr(read, field))
        return getattr(read, name)


def calls_from_batch(batch: replica_pb2.StartBatch, deployment: DeploymentId, now: float) -> Iterator[tuple[int, Call]]:
    """The calls of a batch with their ids, in order; their deadlines are on this process's clock."""
    template = batch.template
    method, kind, encoding = template.method, KINDS[template.kind], ENCODINGS[template.encoding]
    claims, segments, shared = template.accepts_claims, template.accepts_segments, template.context
    times_left = list(batch.times_left_s)
    clients = list(batch.clients)
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
                BatchedContext(shared, request_id, clients[index] if clients else ""),
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
