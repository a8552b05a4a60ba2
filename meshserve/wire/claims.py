"""Claims on values that wait elsewhere <-> payloads."""

from __future__ import annotations

from dataclasses import dataclass

from meshserve.model.call import Encoding, Payload
from meshserve.v1 import payload_pb2


@dataclass(frozen=True, slots=True)
class Claim:
    """A value that waits at a process of the mesh.

    Attributes:
        actor_name: the Ray actor at which it waits.
        key: its key there.
        size_bytes: its size; 0 when it is not there yet.
    """

    actor_name: str
    key: str
    size_bytes: int = 0


def encode_claim(claim: Claim) -> Payload:
    """A payload that is a claim."""
    proto = payload_pb2.Claim(actor_name=claim.actor_name, key=claim.key, size_bytes=claim.size_bytes)
    return Payload(proto.SerializeToString(), Encoding.CLAIM)


def decode_claim(payload: Payload) -> Claim:
    """The claim in a payload."""
    proto = payload_pb2.Claim.FromString(payload.body)
    return Claim(proto.actor_name, proto.key, proto.size_bytes)
