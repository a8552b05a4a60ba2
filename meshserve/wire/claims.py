"""Claims on values that wait elsewhere <-> payloads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshserve.model.call import Encoding, Payload
from meshserve.v1 import payload_pb2


@dataclass(frozen=True, slots=True)
class Segment:
    """Where a value is in shared memory; see payload.proto.

    Attributes:
        pid: the process that owns it.
        fd: the owner's file descriptor of it.
        capacity_bytes: its size.
        lengths: of the value's body and of each buffer, in bytes.
        offsets: where each buffer begins, of a value within another one; its body is `body` then.
        body: of such a value.
    """

    pid: int
    fd: int
    capacity_bytes: int
    lengths: Sequence[int]
    offsets: Sequence[int] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Claim:
    """A value that waits at a process of the mesh.

    Attributes:
        actor_name: the Ray actor at which it waits; empty for the process that reads the claim.
        key: its key there.
        size_bytes: its size; 0 when it is not there yet.
        segment: where processes of the same machine read it in place; None when it is not in shared memory.
    """

    actor_name: str
    key: str
    size_bytes: int = 0
    segment: Segment | None = None


def encode_claim(claim: Claim) -> Payload:
    """A payload that is a claim."""
    proto = payload_pb2.Claim(actor_name=claim.actor_name, key=claim.key, size_bytes=claim.size_bytes)
    if claim.segment is not None:
        segment = claim.segment
        proto.segment.pid, proto.segment.fd = segment.pid, segment.fd
        proto.segment.capacity_bytes = segment.capacity_bytes
        proto.segment.lengths.extend(segment.lengths)
        if segment.offsets:
            proto.segment.offsets.extend(segment.offsets)
            proto.segment.body = segment.body
    return Payload(proto.SerializeToString(), Encoding.CLAIM)


def decode_claim(payload: Payload) -> Claim:
    """The claim in a payload."""
    proto = payload_pb2.Claim.FromString(payload.body)
    segment = None
    if proto.HasField("segment"):
        found = proto.segment
        lengths, inner = tuple(found.lengths), tuple(found.offsets)
        segment = Segment(found.pid, found.fd, found.capacity_bytes, lengths, inner, found.body)
    return Claim(proto.actor_name, proto.key, proto.size_bytes, segment)
