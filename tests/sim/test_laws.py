"""Thousands of make-believe meshes, each with its own operations, faults and restarts; every law after every turn.

`MESHSERVE_SIM_SEEDS=200000 pytest tests/sim` for a long run; `MESHSERVE_SIM_SEED=4711` for one that failed.
`pytest -rP tests/sim` prints how many histories of which size a core lives a second.
"""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from random import Random

import pytest

from sim.history import live
from sim.size import SIZES, Size, draw_size

ONE = os.environ.get("MESHSERVE_SIM_SEED")
SEEDS = int(os.environ.get("MESHSERVE_SIM_SEEDS", "12000"))


def lived(seed: int) -> tuple[Size, int, float]:
    """Lives a history with every law checked: its size, its turns, its seconds of CPU. A broken law names its seed."""
    began_at = time.process_time()
    turns = live(seed).turns
    return draw_size(Random(seed)), turns, time.process_time() - began_at


@pytest.mark.timeout(3600)
def test_laws_hold_in_every_history():
    seeds = [int(ONE)] if ONE is not None else range(SEEDS)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as cores:
        lives = list(cores.map(lived, seeds, chunksize=100))
    for size in SIZES:
        of_size = [(turns, took_s) for one, turns, took_s in lives if one == size]
        turns, took_s = (sum(column) for column in zip(*of_size, strict=True)) if of_size else (0, 1.0)
        print(f"{len(of_size)} histories, {size.name}, {turns} turns: {len(of_size) / took_s:.0f} a second and core")
    assert sum(turns for _, turns, _ in lives) > len(seeds)


def test_a_history_is_decided_by_its_seed():
    one, other = live(7), live(7)
    assert (one.turns, one.now, one.log) == (other.turns, other.now, other.log)
