"""Tokens of the capacity queue: who gets the next call, and what is free again when."""

from random import Random

from meshserve.core.capacity_tokens import Tokens


def tokens(**limits: int) -> Tokens:
    made = Tokens()
    made.set_replicas(limits)
    return made


def test_calls_go_to_whoever_has_the_fewest():
    rng, book = Random(1), tokens(a=5, b=5, c=5)
    taken = [book.take(0.0, rng) for _ in range(6)]
    assert sorted(taken[:3]) == sorted(taken[3:]) == ["a", "b", "c"]
    book.give_back("b")
    assert book.take(0.0, rng) == "b"


def test_a_replica_takes_no_more_than_its_limit():
    book = tokens(a=1, b=2)
    assert sorted(str(book.take(0.0, Random(1))) for _ in range(3)) == ["a", "b", "b"]
    assert book.take(0.0, Random(1)) is None
    assert (book.free, book.in_flight) == (0, {"a": 1, "b": 2})


def test_replicas_that_stay_keep_what_is_taken():
    book = tokens(a=2, b=2)
    for _ in range(4):
        book.take(0.0, Random(1))
    book.set_replicas({"b": 3, "c": 2})
    assert book.in_flight == {"b": 2, "c": 0}
    assert book.free == 3
    assert not book.give_back("a"), "it is gone"
    book.set_replicas({"b": 1})
    assert book.free == 0, "a limit that has sunk is no debt"


def test_tokens_that_nobody_gives_back_expire_the_oldest_first():
    book = tokens(a=3)
    for now in (0.0, 1.0, 2.0):
        book.take(now, Random(1))
    assert book.expire(1.5) == 2
    assert book.in_flight == {"a": 1}
    assert book.expire(1.5) == 0


def test_giving_back_what_was_not_taken_changes_nothing():
    book = tokens(a=1)
    assert book.give_back("a")
    assert (book.free, book.in_flight) == (1, {"a": 0})
