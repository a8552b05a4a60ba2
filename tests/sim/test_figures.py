"""How long a tick takes in a large mesh. `pytest -rP` prints the figures; the limits are for slow machines."""

import time

from meshserve.core.plan import plan
from meshserve.model.status import ApplicationState
from sim.large import large_world


def best_of(times, work):
    """The shortest CPU time of a few runs, in milliseconds."""
    found = []
    for _ in range(times):
        began_at = time.process_time()
        work()
        found.append((time.process_time() - began_at) * 1000)
    return min(found)


def test_a_thousand_deployments_of_four_replicas_are_planned_in_a_tick():
    world = large_world(1000, 4)
    world.run(30.0)
    assert {status.state for status in world.seen.applications.values()} == {ApplicationState.RUNNING}
    scratch = best_of(3, lambda: plan(world.desired, world.seen, world.now, world.new_id))
    tick = best_of(3, lambda: plan(world.desired, world.seen, world.now, world.new_id, world.plan))
    print(f"1,000 deployments x 4 replicas: {scratch:.0f} ms from scratch, {tick:.1f} ms a tick")
    assert scratch < 500
    assert tick < 100


def test_ten_thousand_replicas_come_up_and_stay_up():
    world = large_world(2500, 4, nodes=200)
    began_at = time.process_time()
    world.run(12.0)
    up_s = time.process_time() - began_at
    assert {status.state for status in world.seen.applications.values()} == {ApplicationState.RUNNING}
    began_at = time.process_time()
    world.run(16.0)
    rest_s = time.process_time() - began_at
    print(f"10,000 replicas: {up_s:.1f} s of CPU to bring up, {rest_s / 4:.2f} s of CPU a second of checking them")
    assert len(world.alive()) == 10_000
