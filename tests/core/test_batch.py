"""When a batch closes and who is in it."""

from __future__ import annotations

import math
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshserve.core.batch import BatchLimits, BatchQueue


def queue_of(max_batch_size: int = 3, batch_wait_timeout_s: float = 10.0) -> BatchQueue[str]:
    limits = BatchLimits(max_batch_size, batch_wait_timeout_s)
    return BatchQueue(lambda: limits)


def total_length(members: Collection[str]) -> int:
    return sum(len(member) for member in members)


def test_a_full_batch_is_due_at_once() -> None:
    queue = queue_of()
    for member in "ab":
        queue.add(member, 0.0)
    assert queue.take(0.0) == []
    queue.add("c", 0.0)
    assert queue.full
    assert queue.take(0.0) == ["a", "b", "c"]


def test_a_batch_is_due_when_its_first_member_has_waited() -> None:
    queue = queue_of()
    queue.add("a", 1.0)
    queue.add("b", 10.0)
    assert queue.due_at == 11.0
    assert queue.take(10.9) == []
    assert queue.take(11.0) == ["a", "b"]
    assert queue.due_at is None


def test_without_a_wait_a_batch_takes_what_is_there() -> None:
    queue = queue_of(batch_wait_timeout_s=0)
    queue.add("a", 1.0)
    queue.add("b", 1.0)
    assert queue.take(1.0) == ["a", "b"]


def test_a_batch_that_is_due_grows_until_it_is_taken() -> None:
    queue = queue_of(max_batch_size=4)
    for at, member in enumerate("abcdef"):
        queue.add(member, 100.0 * at)
    assert queue.take(1000.0) == ["a", "b", "c", "d"]
    assert queue.take(1000.0) == ["e", "f"]


def test_a_member_that_left_is_not_counted_and_not_waited_for() -> None:
    queue = queue_of(max_batch_size=3)
    for at, member in enumerate("abcde"):
        queue.add(member, float(at))
    assert queue.remove("a")
    assert queue.remove("e")
    assert not queue.remove("e")
    assert queue.take(4.0) == ["b", "c", "d"]
    queue.add("x", 5.0)
    queue.add("y", 7.0)
    queue.remove("x")
    assert queue.due_at == 17.0


def test_limits_that_change_while_a_batch_forms_are_for_the_next_one() -> None:
    limits = BatchLimits(2, 10.0)
    queue: BatchQueue[str] = BatchQueue(lambda: limits)
    queue.add("a", 0.0)
    limits = BatchLimits(4, 1.0)
    assert queue.due_at == 10.0
    queue.add("b", 0.0)
    assert queue.take(0.0) == ["a", "b"]
    for member in "cde":
        queue.add(member, 0.0)
    assert queue.due_at == 1.0
    assert not queue.full


def test_sizes_fill_a_batch_and_what_does_not_fit_is_first_in_the_next() -> None:
    limits = BatchLimits(5, 10.0)
    queue: BatchQueue[str] = BatchQueue(lambda: limits, total_length)
    for member in ("aa", "bb", "ccc", "d", "ee"):
        queue.add(member, 0.0)
    assert queue.take(0.0) == ["aa", "bb"]
    assert queue.take(0.0) == ["ccc", "d"]
    assert queue.take(9.0) == []
    assert queue.take(10.0) == ["ee"]


def test_a_member_larger_than_a_batch_goes_alone() -> None:
    limits = BatchLimits(2, 10.0)
    queue: BatchQueue[str] = BatchQueue(lambda: limits, total_length)
    queue.add("aaaa", 0.0)
    queue.add("b", 0.0)
    assert queue.take(0.0) == ["aaaa"]
    assert queue.take(10.0) == ["b"]


def test_members_that_cannot_be_measured_together_go_apart() -> None:
    limits = BatchLimits(10, 0.0)
    queue: BatchQueue[str] = BatchQueue(lambda: limits, lambda members: 1 if len(members) == 1 else math.inf)
    queue.add("a", 0.0)
    queue.add("b", 0.0)
    assert [queue.take(0.0), queue.take(0.0), queue.take(0.0)] == [["a"], ["b"], []]


events = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 4)),
        st.tuples(st.just("remove"), st.integers(0, 60)),
        st.tuples(st.just("pass"), st.integers(1, 3)),
    ),
    max_size=60,
)


@given(events, st.integers(1, 6), st.integers(0, 5), st.booleans())
def test_nobody_is_lost_overtaken_or_kept_waiting(
    happened: list[tuple[str, int]], limit: int, timeout_s: int, by_size: bool
) -> None:
    limits = BatchLimits(limit, float(timeout_s))
    sizes: dict[int, int] = {}

    def size_of(members: Collection[int]) -> int:
        return sum(sizes[member] for member in members) if by_size else len(members)

    queue: BatchQueue[int] = BatchQueue(lambda: limits, size_of)
    now, arrived, left, served = 0.0, {}, set(), []
    for what, number in happened:
        if what == "add":
            member = len(sizes)
            sizes[member], arrived[member] = number, now
            queue.add(member, now)
        elif what == "remove" and queue.remove(number):
            left.add(number)
        elif what == "pass":
            now += number
        while batch := queue.take(now):
            assert size_of(batch) <= limit or len(batch) == 1
            served += batch
        waiting = [member for member in sizes if member not in left and member not in served]
        assert all(now - arrived[member] < timeout_s or timeout_s == 0 for member in waiting)
        assert len(queue) == len(waiting)
    assert served == sorted(served)


@pytest.mark.parametrize("count", [1, 5, 1000])
def test_a_backlog_goes_in_full_batches(count: int) -> None:
    limits = BatchLimits(10, 0.0)
    queue: BatchQueue[int] = BatchQueue(lambda: limits)
    for member in range(count):
        queue.add(member, 0.0)
    sizes = []
    while batch := queue.take(0.0):
        sizes.append(len(batch))
    assert sum(sizes) == count
    assert all(size == 10 for size in sizes[:-1])
