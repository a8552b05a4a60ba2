"""Choosing among replicas, and telling slow ones from others."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from random import Random

import pytest

from meshserve.core import pick
from meshserve.core.pace import fold_slowness, fold_usual, slowness_of


@dataclass
class Replica:
    load: int = 0
    slowness: float = 0.0
    name: str = ""


def test_two_different_ones_are_drawn_and_every_pair_comes_up() -> None:
    rng = Random(1)
    pairs = Counter(pick.draw_two("abcd", rng) for _ in range(12_000))
    assert len(pairs) == 12
    assert all(800 < count < 1200 for count in pairs.values())


def test_the_only_one_is_drawn_twice() -> None:
    assert pick.draw_two("a", Random(1)) == ("a", "a")


def test_the_less_loaded_of_two_is_taken() -> None:
    rng = Random(1)
    idle, busy = Replica(0), Replica(5)
    assert all(pick.two_choices([idle, busy], rng) is idle for _ in range(100))
    assert pick.two_choices([busy], rng) is busy


def test_two_choices_keeps_loads_close_together() -> None:
    rng = Random(1)
    replicas = [Replica() for _ in range(512)]
    for _ in range(512 * 20):
        pick.two_choices(replicas, rng).load += 1
    assert max(replica.load for replica in replicas) <= 20 + 3  # drawing one at random: about 20 + 14


def test_a_clearly_slower_one_is_taken_only_when_the_other_has_far_more_to_do() -> None:
    rng = Random(1)
    slow = Replica(0, math.log(10))
    assert Counter(pick.two_choices([Replica(50), slow], rng) is slow for _ in range(1000))[True] < 10
    assert Counter(pick.two_choices([Replica(150), slow], rng) is slow for _ in range(1000))[True] > 990


def test_a_slower_one_is_tried_now_and_then() -> None:
    rng = Random(1)
    slow = Replica(0, math.log(10))
    tried = sum(pick.two_choices([Replica(1), slow], rng) is slow for _ in range(50_000))
    assert 50 < tried < 150  # one in 512


def test_ordinary_differences_do_not_count() -> None:
    rng = Random(1)
    assert pick.two_choices([Replica(3, 0.0), Replica(2, 0.6)], rng).load == 2


@pytest.mark.parametrize(
    ("slowness", "sick"),
    [
        ([2.3, 0.0], True),
        ([2.3, 0.0, 0.0, 0.0], True),
        ([2.3, 2.3, 0.0, 0.0], True),
        ([2.3, 2.3, 2.3], False),  # everything is slow: the load is, not a replica
        ([2.3], False),
        ([0.7, 0.0, 0.0], False),
    ],
)
def test_a_replica_is_sick_when_the_others_are_not(slowness: list[float], sick: bool) -> None:
    assert pick.is_sick(slowness[0], sum(slowness), len(slowness)) is sick


def test_a_call_waits_twice_as_long_as_it_would_take_at_a_sick_replica() -> None:
    assert pick.waits_for_better_s(math.log(0.01), math.log(10)) == pytest.approx(0.2)


def test_a_cursor_goes_round_and_passes_over_the_full() -> None:
    room = {"a": True, "b": False, "c": True}
    assert pick.cursor_pick("abc", 0, room.__getitem__) == 0
    assert pick.cursor_pick("abc", 1, room.__getitem__) == 2
    assert pick.cursor_pick("abc", 3, room.__getitem__) == 0
    assert pick.cursor_pick("abc", 0, lambda _: False) == -1


# -- pace ------------------------------------------------------------------------------------------------------------


def _average(ratios: list[float]) -> float:
    average = 0.0
    for answers, ratio in enumerate(ratios):
        average = fold_slowness(average, answers, math.log(ratio))
    return math.exp(average)


def test_a_replica_ten_times_slower_is_known_after_two_answers() -> None:
    assert _average([10.0, 10.0]) > 4


def test_one_slow_first_call_does_not_condemn() -> None:
    assert _average([10.0]) < 4
    assert _average([10.0, *[1.0] * 2]) < 2


def test_a_healthy_replica_that_has_one_slow_answer_stays_healthy() -> None:
    assert _average([1.0] * 50 + [10.0]) < 1.2


def test_a_replica_that_became_slow_is_known_after_some_answers() -> None:
    assert _average([1.0] * 200 + [10.0] * 6) > 2


def test_a_recovered_replica_is_believed_soon() -> None:
    assert _average([10.0] * 50 + [1.0] * 5) < 2


def test_no_answer_counts_as_more_than_sixteen_times_slower() -> None:
    assert slowness_of(math.log(1000.0), 0.0) == math.log(16)
    assert slowness_of(math.log(0.001), 0.0) == -math.log(16)


def test_what_is_usual_follows_all_answers() -> None:
    usual = math.log(0.01)
    for answers in range(1, 1000):
        usual = fold_usual(usual, answers, math.log(0.02))
    assert math.exp(usual) == pytest.approx(0.02, rel=0.01)


def test_the_first_answer_is_usual() -> None:
    assert fold_usual(math.log(0.05), 0, math.log(0.05)) == math.log(0.05)
