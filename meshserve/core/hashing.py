"""A consistent hash ring: the same key goes to the same replica while replicas come and go.

Every replica stands on the ring at many points; a key belongs to the first point at or after its own. When a
replica goes, only its keys move, and they spread over all others; a new one takes its share from all of them.
Source: Karger et al., "Consistent hashing and random trees", 1997.

Routers in different processes must agree, so the hash is a fixed function of text (BLAKE2b with a key of ours, 64
bits) and never Python's `hash`, which differs from process to process.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

VIRTUAL_NODES = 100
"""Points of one replica on the ring: shares differ by about 10 % then."""

FALLBACKS = 2
"""Replicas to turn to, in this order, when the first one is full."""

_HASH_KEY = b"meshserve.ring"

_OWNER_BITS = 24
"""Enough for any number of members."""


@dataclass(frozen=True, slots=True)
class Ring:
    """Points in order, and whose they are. Made by `build_ring`; replaced when the replicas change."""

    points: tuple[int, ...] = ()
    owners: tuple[str, ...] = ()
    members: frozenset[str] = frozenset()


def hash_text(text: str) -> int:
    """The place of a text on the ring: 64 bits, the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8, key=_HASH_KEY).digest(), "big")


def build_ring(members: Iterable[str], virtual_nodes: int = VIRTUAL_NODES) -> Ring:
    """Places members on a ring.

    Args:
        members: unique ids of replicas; their order does not matter.
        virtual_nodes: points of each.

    Raises:
        ValueError: `virtual_nodes` is not a positive whole number.
    """
    if not _is_whole(virtual_nodes) or virtual_nodes < 1:
        raise ValueError(f"num_virtual_nodes must be a positive whole number, not {virtual_nodes!r}")
    unique = frozenset(members)
    names = sorted(unique)
    # One number for a point and its owner: these sort four times as fast as pairs, and there are many.
    placed = [
        point << _OWNER_BITS | number
        for number, member in enumerate(names)
        for point in _points_of(member, virtual_nodes)
    ]
    placed.sort()
    owner = (1 << _OWNER_BITS) - 1
    return Ring(tuple([one >> _OWNER_BITS for one in placed]), tuple([names[one & owner] for one in placed]), unique)


@lru_cache(maxsize=4096)
def _points_of(member: str, virtual_nodes: int) -> tuple[int, ...]:
    """Where a member stands. Kept, because most members are still there when the ring is built anew."""
    return tuple(sorted(hash_text(f"{member}:{i}") for i in range(virtual_nodes)))


def successors(ring: Ring, key: str, fallbacks: int = FALLBACKS) -> tuple[str, ...]:
    """The member a key belongs to, then the members that stand in for it when it is full.

    Args:
        key: of a session, or whatever is to stay together.
        fallbacks: how many stand-ins; they are different members, in the order in which they follow on the ring.

    Returns:
        At most `1 + fallbacks` members, fewer when the ring has fewer, none when it is empty.

    Raises:
        ValueError: `fallbacks` is not a whole number of at least 0.
    """
    if not _is_whole(fallbacks) or fallbacks < 0:
        raise ValueError(f"num_fallback_replicas must be a whole number of at least 0, not {fallbacks!r}")
    wanted = min(1 + fallbacks, len(ring.members))
    found: dict[str, None] = {}
    at = bisect_left(ring.points, hash_text(key))
    while len(found) < wanted:
        found[ring.owners[at % len(ring.owners)]] = None
        at += 1
    return tuple(found)


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)
