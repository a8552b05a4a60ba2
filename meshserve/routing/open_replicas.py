"""The replicas of a router that have room, kept so that picking one costs the same for two as for five hundred."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from meshserve.routing.replica import Replica

SAME_NODE, SAME_ZONE, ELSEWHERE = range(3)

NEAR = (SAME_NODE, SAME_ZONE)


class OpenReplicas:
    """Lists with constant-time membership changes: each replica knows its position.

    There is one list for each distance, because near replicas are preferred while they have room.

    Args:
        node_id: of this process.
        zone: its availability zone; empty for not known, then it is learned from replicas of this node.
        preferred: which distances count; replicas at another one are taken for far ones.
    """

    __slots__ = ("_preferred", "node_id", "tiers", "zone")

    def __init__(self, node_id: str, zone: str = "", preferred: Collection[int] = NEAR) -> None:
        self._preferred = preferred
        self.node_id = node_id
        self.zone = zone
        self.tiers: tuple[list[Replica], list[Replica], list[Replica]] = ([], [], [])

    def __bool__(self) -> bool:
        return bool(self.tiers[ELSEWHERE] or self.tiers[SAME_NODE] or self.tiers[SAME_ZONE])

    def refresh(self, replica: Replica) -> None:
        """Puts a replica in or takes it out, after anything about its room has changed."""
        if replica.has_room:
            if replica.position < 0:
                replica.tier = self.distance(replica)
                members = self.tiers[replica.tier]
                replica.position = len(members)
                members.append(replica)
        elif replica.position >= 0:
            self._remove(replica)

    def _remove(self, replica: Replica) -> None:
        members = self.tiers[replica.tier]
        last = members.pop()
        if last is not replica:
            members[replica.position] = last
            last.position = replica.position
        replica.position = -1

    def learn_zone(self, replicas: Iterable[Replica]) -> None:
        """Takes this process's zone from a replica of its node, and sorts anew if that is news."""
        for replica in replicas:
            target = replica.target
            if self.node_id and target.node_id == self.node_id and target.availability_zone not in ("", self.zone):
                self.zone = target.availability_zone
                for member in self.all():
                    self._remove(member)
                    self.refresh(member)
                return

    def distance(self, replica: Replica) -> int:
        """How far away a replica is: one of the three above."""
        target = replica.target
        if target.node_id == self.node_id and SAME_NODE in self._preferred:
            return SAME_NODE
        in_zone = self.zone and target.availability_zone == self.zone
        return SAME_ZONE if in_zone and SAME_ZONE in self._preferred else ELSEWHERE

    def all(self) -> list[Replica]:
        """Every replica that has room, near ones first."""
        near, zone, far = self.tiers
        return [*near, *zone, *far]
