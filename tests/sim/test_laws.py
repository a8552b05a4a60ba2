"""Thousands of make-believe meshes, each with its own operations, faults and restarts; every law after every turn.

`MESHSERVE_SIM_SEEDS=20000 pytest tests/sim` for a long run; `MESHSERVE_SIM_SEED=4711` for one that failed.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from sim.history import live

ONE = os.environ.get("MESHSERVE_SIM_SEED")
SEEDS = int(os.environ.get("MESHSERVE_SIM_SEEDS", "2000"))


def turns_of(seed: int) -> int:
    """Lives a history with every law checked; how many turns it took. A broken law names its seed."""
    return live(seed).turns


@pytest.mark.timeout(3600)
def test_laws_hold_in_every_history():
    seeds = [int(ONE)] if ONE is not None else range(SEEDS)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as cores:
        turns = sum(cores.map(turns_of, seeds, chunksize=10))
    assert turns > len(seeds)


def test_a_history_is_decided_by_its_seed():
    one, other = live(7), live(7)
    assert (one.turns, one.now, one.log) == (other.turns, other.now, other.log)
