"""Gangs: replicas that start together, run in one placement group, and end together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshserve.model.ids import DeploymentId


@dataclass(frozen=True, slots=True, order=True)
class GangId:
    """One gang of a deployment; `tag` is unique for the life of the mesh."""

    deployment: DeploymentId
    tag: str


@dataclass(frozen=True, slots=True)
class GangContext:
    """The gang of a replica.

    Attributes:
        gang_id: unique for the life of the mesh; a gang that is started again is another gang.
        rank: of this replica in the gang, from 0.
        world_size: how many replicas the gang has.
        member_replica_ids: their ids, by rank.
        pg_name: the name of the placement group they run in.
    """

    gang_id: str
    rank: int
    world_size: int
    member_replica_ids: Sequence[str]
    pg_name: str = ""
