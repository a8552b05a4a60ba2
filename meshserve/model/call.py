"""One call on its way from an ingress or a handle to user code.

These are made once per call on the hot path, so they are slotted and plain rather than frozen (a frozen
dataclass costs a `object.__setattr__` per field); nobody changes one after it was handed on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from meshserve.model.ids import DeploymentId


class CallKind(IntEnum):
    """Which sides of a call are streams. Numbers are those of the wire."""

    UNARY = 1
    SERVER_STREAM = 2
    CLIENT_STREAM = 3
    BIDI_STREAM = 4

    @property
    def streams_in(self) -> bool:
        """Whether the caller sends items."""
        return self >= CallKind.CLIENT_STREAM

    @property
    def streams_out(self) -> bool:
        """Whether the callee sends items."""
        return self in (CallKind.SERVER_STREAM, CallKind.BIDI_STREAM)


class Encoding(IntEnum):
    """How a body is to be read, and so which door of the replica it goes to. Numbers are those of the wire."""

    UNSPECIFIED = 0
    PICKLE = 1
    HTTP = 2
    PROTOBUF = 3
    JSON = 4
    RAW = 5
    CLAIM = 6
    CHAIN = 7
    GRPC_HEAD = 8


@dataclass(slots=True)
class Payload:
    """An encoded value: a body, and large buffers kept apart so that they are not copied into it."""

    body: bytes
    encoding: Encoding
    buffers: Sequence[bytes | memoryview] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes on the wire."""
        if not self.buffers:
            return len(self.body)
        return len(self.body) + sum(memoryview(buffer).nbytes for buffer in self.buffers)


@dataclass(slots=True)
class BorrowedPayload(Payload):
    """An encoded value whose buffers are the memory of whoever sends it: to be copied before it goes anywhere."""


@dataclass(slots=True)
class SharedPayload(Payload):
    """An encoded value in shared memory; its body and buffers are views of it. Or one that is kept for Ray to fetch.

    Attributes:
        claim: what is sent in its place, to a process that can read this one's shared memory, or ask Ray.
        memory: all of its segment, which is not used again while this is referred to; a value without buffers has
            nothing else that says so.
    """

    claim: Payload = field(default_factory=lambda: Payload(b"", Encoding.CLAIM))
    memory: memoryview | None = None


@dataclass(slots=True)
class BroughtPayload(Payload):
    """A claim on an item that Ray brings to whoever cannot read it in shared memory; it costs what its value does.

    Attributes:
        value_bytes: the size of the value.
        nearby: the value in shared memory; None where there was no room.
        bring: brings it to the replica with this actor's name, where it waits under the key in the claim.
    """

    value_bytes: int = 0
    nearby: SharedPayload | None = None
    bring: Callable[[str], None] | None = None

    @property
    def size_bytes(self) -> int:
        """Of the value, not of the claim on it."""
        return self.value_bytes


@dataclass(slots=True)
class GrpcCallInfo:
    """The gRPC side of a call that entered by the gRPC ingress.

    Attributes:
        peer: as gRPC names it.
        full_method: `/package.Service/Method`.
        metadata: the invocation metadata in the order received.
        peer_identity_key: empty for an unauthenticated peer.
        peer_identities: of an authenticated peer.
        servicer_function: import path of the function that brought the service to the ingress.
        auth_context: what TLS knows of the peer; a key may occur more than once.
    """

    peer: str
    full_method: str
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    peer_identity_key: str = ""
    peer_identities: tuple[bytes, ...] = ()
    servicer_function: str = ""
    auth_context: tuple[tuple[str, bytes], ...] = ()


@dataclass(slots=True)
class CallContext:
    """What a call tells the code that serves it.

    Children inherit everything but `multiplexed_model_id` and `session_id`.
    """

    request_id: str
    app: str = ""
    route: str = ""
    multiplexed_model_id: str = ""
    session_id: str = ""
    traceparent: str = ""
    tracestate: str = ""
    client: str = ""
    priority: int = 0
    grpc: GrpcCallInfo | None = None

    @property
    def app_name(self) -> str:
        """The application whose ingress the request came through, by the name that ported code uses."""
        return self.app


@dataclass(slots=True)
class Call:
    """A call before it has found its replica.

    Attributes:
        deployment: whom it is for.
        method: of the user's class; a function ignores it.
        kind: which sides stream.
        payload: the arguments.
        context: see `CallContext`.
        deadline: on the monotonic clock of this process, or None.
        bypass_limit: accepted even by a full replica (broadcast).
        reserve: only holds a slot at the replica that is chosen, for a call that comes later; nothing runs.
        reservation: the slot held earlier in the same session that this call uses; 0 for none.
        accepts_claims: large results and items may be left where they are made, with claims as the answer.
        accepts_segments: large results and items may be left in shared memory that the caller can read.
        on_unshared: told the actor's name of a replica that cannot read the arguments in this process's shared memory,
            when they are sent to it.
        on_assigned: told the actor's name of each replica that the call is sent to, before it is sent.
    """

    deployment: DeploymentId
    method: str
    kind: CallKind
    payload: Payload
    context: CallContext
    deadline: float | None = None
    bypass_limit: bool = False
    accepts_claims: bool = False
    accepts_segments: bool = False
    on_unshared: Callable[[str], None] | None = None
    on_assigned: Callable[[str], None] | None = None
    reserve: bool = False
    reservation: int = 0


@dataclass(slots=True)
class Finish:
    """gRPC status and metadata set by user code, sent with the end of a call.

    Attributes:
        initial_metadata: unless it went before the first item (`Encoding.GRPC_HEAD`).
        compression: of the response, as gRPC numbers it; None to leave it to the ingress.
    """

    code: int = 0
    details: str = ""
    trailers: tuple[tuple[str, str | bytes], ...] = field(default_factory=tuple)
    initial_metadata: tuple[tuple[str, str | bytes], ...] = ()
    compression: int | None = None
