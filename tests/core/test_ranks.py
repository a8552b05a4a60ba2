"""Ranks are unique, contiguous at rest, and change as little as can be."""

from hypothesis import given
from hypothesis import strategies as st

from meshserve.core.ranks import close_gaps, next_rank
from meshserve.model.control import ReplicaRank

NODES = st.sampled_from(["n0", "n1", "n2"])


def placed_one_by_one(nodes: list[str]) -> dict[str, tuple[str, ReplicaRank]]:
    placed: dict[str, tuple[str, ReplicaRank]] = {}
    for at, node in enumerate(nodes):
        placed[f"r{at}"] = (node, next_rank(placed.values(), node))
    return placed


def is_contiguous(numbers: list[int]) -> bool:
    return sorted(numbers) == list(range(len(numbers)))


@given(st.lists(NODES, max_size=12))
def test_replicas_that_come_one_by_one_are_numbered_without_gaps(nodes):
    placed = placed_one_by_one(nodes)
    assert is_contiguous([rank.rank for _, rank in placed.values()])
    assert not close_gaps(placed)


@given(st.lists(NODES, min_size=1, max_size=12), st.sets(st.integers(0, 11)))
def test_gaps_are_closed_and_nobody_else_moves(nodes, gone):
    placed = {tag: found for tag, found in placed_one_by_one(nodes).items() if int(tag[1:]) not in gone}
    changes = close_gaps(placed)
    after = {tag: (node, changes.get(tag, rank)) for tag, (node, rank) in placed.items()}
    assert is_contiguous([rank.rank for _, rank in after.values()])
    assert is_contiguous(list({node: rank.node_rank for node, rank in after.values()}.values()))
    for node in {node for node, _ in after.values()}:
        here = [rank for other, rank in after.values() if other == node]
        assert len({rank.node_rank for rank in here}) == 1
        assert is_contiguous([rank.local_rank for rank in here])
    stay = [tag for tag, (_, rank) in placed.items() if rank.rank < len(placed)]
    assert all(after[tag][1].rank == placed[tag][1].rank for tag in stay)


def test_a_new_replica_takes_the_smallest_free_numbers():
    placed = [("a", ReplicaRank(0, 0, 0)), ("b", ReplicaRank(2, 1, 0)), ("a", ReplicaRank(3, 0, 2))]
    assert next_rank(placed, "a") == ReplicaRank(1, 0, 1)
    assert next_rank(placed, "c") == ReplicaRank(1, 2, 0)


def test_twice_the_same_rank_is_put_right():
    placed = {"r0": ("a", ReplicaRank(0, 0, 0)), "r1": ("a", ReplicaRank(0, 0, 0))}
    assert close_gaps(placed) == {"r1": ReplicaRank(1, 0, 1)}
