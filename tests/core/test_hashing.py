"""The consistent hash ring."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshserve.core.hashing import Ring, build_ring, hash_text, successors

members_drawn = st.sets(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=8)
keys_drawn = st.lists(st.text(max_size=8), min_size=1, max_size=40)


def test_every_process_agrees_about_places() -> None:
    script = "from meshserve.core.hashing import hash_text; print(hash_text('session-1'))"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(other.stdout) == hash_text("session-1")


def test_an_empty_ring_has_nobody() -> None:
    assert successors(Ring(), "key") == successors(build_ring([]), "key") == ()


def test_stand_ins_are_others_and_as_many_as_asked_for() -> None:
    ring = build_ring(["a", "b", "c", "d"])
    first = successors(ring, "session", fallbacks=0)
    assert len(first) == 1
    assert successors(ring, "session", fallbacks=2)[0] == first[0]
    assert len(set(successors(ring, "session", fallbacks=2))) == 3
    assert set(successors(ring, "session", fallbacks=10)) == {"a", "b", "c", "d"}


def test_keys_are_shared_out_about_evenly() -> None:
    ring = build_ring(f"replica-{i}" for i in range(8))
    shares = Counter(successors(ring, f"session-{i}", 0)[0] for i in range(8000))
    assert max(shares.values()) < 1.4 * 1000
    assert min(shares.values()) > 0.6 * 1000


@given(members_drawn, keys_drawn)
def test_the_order_of_members_does_not_matter(members: set[str], keys: list[str]) -> None:
    forwards, backwards = build_ring(sorted(members)), build_ring(sorted(members, reverse=True))
    assert [successors(forwards, key) for key in keys] == [successors(backwards, key) for key in keys]


@given(members_drawn, keys_drawn)
def test_when_a_member_goes_only_its_keys_move(members: set[str], keys: list[str]) -> None:
    gone = min(members)
    before, after = build_ring(members), build_ring(members - {gone})
    for key in keys:
        order = successors(before, key, fallbacks=len(members))
        assert successors(after, key, fallbacks=len(members)) == tuple(member for member in order if member != gone)


@pytest.mark.parametrize("virtual_nodes", [0, -1, 1.5, True, "10"])
def test_points_of_a_member_are_a_positive_whole_number(virtual_nodes: int) -> None:
    with pytest.raises(ValueError, match="num_virtual_nodes"):
        build_ring(["a"], virtual_nodes)


@pytest.mark.parametrize("fallbacks", [-1, 0.5, True])
def test_stand_ins_are_a_whole_number(fallbacks: int) -> None:
    with pytest.raises(ValueError, match="num_fallback_replicas"):
        successors(build_ring(["a"]), "key", fallbacks)
