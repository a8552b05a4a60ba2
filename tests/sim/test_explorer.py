"""Small meshes explored: everything that can happen to them with few deviations, every law after every turn.

`MESHSERVE_SIM_STATES=100000 pytest -rP tests/sim -k explorer` lives all histories with two deviations, and prints how
fast that was.
"""

import gc
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from sim.explorer import Explored, Explorer, LawBroken
from sim.identity import Identities
from sim.scopes import SCOPES, Scope, apply, begin, scale

DEVIATIONS = 2
STATES = int(os.environ.get("MESHSERVE_SIM_STATES", "4500"))


def explored(scope: int) -> tuple[Explored, float]:
    """Explores one scope: what was seen, and the seconds of CPU."""
    gc.disable()  # worlds have no cycles, and millions of objects to look through
    try:
        began_at = time.process_time()
        return Explorer(SCOPES[scope], DEVIATIONS, STATES).explore(), time.process_time() - began_at
    finally:
        gc.enable()


@pytest.mark.timeout(3600)
def test_laws_hold_wherever_a_small_mesh_can_get_to():
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as cores:
        found = list(cores.map(explored, range(len(SCOPES))))
    for one, took_s in found:
        print(
            f"{one.scope}: {one.states} states ({one.states / took_s:.0f} a second and core), {one.histories} "
            f"histories ({one.histories / took_s:.0f}), all with at most {one.complete} deviations"
        )
    assert all(one.complete == DEVIATIONS or one.states >= STATES for one, _ in found)


def test_the_shortest_history_that_breaks_a_law_is_told():
    def vanish(world):
        for replica in world.alive():
            world.change(replica, alive=False, watched=False)

    scope = Scope("rest", scale(2), apply(), menu={"all processes vanish unseen": vanish, **SCOPES[1].menu})
    with pytest.raises(LawBroken, match="0 processes, 2 wanted") as broken:
        Explorer(scope, 2, 10_000).explore()
    told = str(broken.value).splitlines()[1:]
    assert [line.split(None, 1)[1] for line in told] == ["at first", "all processes vanish unseen"]


def test_forked_worlds_have_futures_of_their_own():
    world, before = begin(SCOPES[2]), Identities()
    identity = before.of_world(world)
    fork = world.fork()
    assert before.of_world(fork) == identity
    SCOPES[2].first(fork)
    fork.take_turns()
    assert before.of_world(fork) != identity
    assert before.of_world(world) == identity


def test_an_exploration_is_the_same_every_time():
    one, other = (Explorer(SCOPES[3], DEVIATIONS, 500).explore() for _ in range(2))
    assert one == other
    assert one.histories > 50
