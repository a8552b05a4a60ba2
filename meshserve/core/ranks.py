"""Ranks: small numbers by which replicas of a deployment know their place, for code that splits work among them.

A replica gets the smallest free numbers when its node is known and keeps them until its process is gone, so no two
replicas in service ever share one. Once all is well, gaps left by others are closed with few changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from meshserve.core.actions import Action, InitializeReplica, ReconfigureReplica
from meshserve.core.scene import Scene
from meshserve.core.seen import RECOVERING, Build, Phase, SeenDeployment, SeenReplica
from meshserve.model.control import ReplicaRank
from meshserve.model.replace import replace

Placed: TypeAlias = tuple[str, ReplicaRank]
"""A node's id and the rank of a replica on it."""


def smallest_free(taken: Iterable[int]) -> int:
    """The smallest number from 0 that is not taken."""
    used = set(taken)
    return next(number for number in range(len(used) + 1) if number not in used)


def next_rank(placed: Iterable[Placed], node_id: str) -> ReplicaRank:
    """The rank for a new replica on a node, beside those that are placed already."""
    others = list(placed)
    rank = smallest_free(other.rank for _, other in others)
    here = [other for node, other in others if node == node_id]
    if here:
        return ReplicaRank(rank, here[0].node_rank, smallest_free(other.local_rank for other in here))
    return ReplicaRank(rank, smallest_free(other.node_rank for _, other in others), 0)


def close_gaps(placed: Mapping[str, Placed]) -> dict[str, ReplicaRank]:
    """Ranks that make all numbers contiguous and unique.

    Args:
        placed: tag -> where it is and the rank it has.

    Returns:
        tag -> new rank, for those whose rank changes.
    """
    nodes: dict[str, int] = {}
    by_node: dict[str, dict[str, int]] = {}
    for tag, (node, rank) in placed.items():
        nodes.setdefault(node, rank.node_rank)
        by_node.setdefault(node, {})[tag] = rank.local_rank
    ranks = _contiguous({tag: rank.rank for tag, (_, rank) in placed.items()})
    node_ranks = _contiguous(nodes)
    local_ranks = {node: _contiguous(local) for node, local in by_node.items()}
    return {
        tag: ReplicaRank(ranks[tag], node_ranks[node], local_ranks[node][tag])
        for tag, (node, rank) in placed.items()
        if (rank.rank, rank.node_rank, rank.local_rank) != (ranks[tag], node_ranks[node], local_ranks[node][tag])
    }


def _contiguous(numbers: Mapping[str, int]) -> Mapping[str, int]:
    """Numbers 0..n-1 for n names; a name keeps its number if that is below n and nobody before it has it."""
    if sorted(numbers.values()) == list(range(len(numbers))):
        return numbers
    kept: dict[str, int] = {}
    used: set[int] = set()
    for name, number in numbers.items():
        if number < len(numbers) and number not in used:
            kept[name] = number
            used.add(number)
    free = iter([number for number in range(len(numbers)) if number not in used])
    return {name: kept[name] if name in kept else next(free) for name in numbers}


def initialize(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Gives replicas whose process listens their rank, and lets them construct user code.

    Not while others are being recovered: their ranks are taken, and not yet known. One that has a rank was told before,
    by an earlier controller, and is what it was told then.
    """
    want = deployment.want
    if want is None or want.deleting or any(one.phase in RECOVERING for one in deployment.replicas.values()):
        return deployment, ()
    changed: dict[str, SeenReplica] = {}
    actions: list[Action] = []
    for tag, replica in deployment.replicas.items():
        if replica.phase is Phase.LAUNCHED:
            node_id = replica.process.node_id if replica.process is not None else ""
            rank, build = replica.rank, replica.build
            if rank is None:
                rank = next_rank(_placed(deployment.having(changed)).values(), node_id)
                build = Build(want.version, want.spec.options, want.route_prefix)
            changed[tag] = replace(replica, phase=Phase.INITIALIZING, since=scene.now, rank=rank, build=build)
            actions.append(InitializeReplica(replica.id, replica.address, want, rank, replica.gang))
    return deployment.having(changed), tuple(actions)


def renumber(deployment: SeenDeployment) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Closes gaps; to be called when all replicas are well. They stay routable: nothing but a number changes."""
    want = deployment.want
    if want is None or any(replica.ranking for replica in deployment.replicas.values()):
        return deployment, ()
    last = len(deployment.replicas)  # for one that has no rank: another is found for it as for all that are too high
    placed = {
        tag: (
            replica.process.node_id if replica.process is not None else "",
            replica.rank if replica.rank is not None else ReplicaRank(last, last, last),
        )
        for tag, replica in deployment.replicas.items()
    }
    changed: dict[str, SeenReplica] = {}
    actions: list[Action] = []
    for tag, rank in close_gaps(placed).items():
        replica = deployment.replicas[tag]
        changed[tag] = replace(replica, rank=rank, ranking=True)
        build = replica.build
        actions.append(
            ReconfigureReplica(replica.id, replica.address, build.options, want.generation, rank, build.route_prefix)
        )
    return deployment.having(changed), tuple(actions)


def _placed(deployment: SeenDeployment) -> dict[str, Placed]:
    return {
        tag: (replica.process.node_id, replica.rank)
        for tag, replica in deployment.replicas.items()
        if replica.process is not None and replica.rank is not None
    }
