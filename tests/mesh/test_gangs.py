"""Gangs on a real Ray cluster: their placement groups, and what becomes of them."""

import os
import signal
import time

import pytest
import ray
from ray.util.placement_group import placement_group_table

import meshserve as serve
from meshserve.config import GangSchedulingConfig
from meshserve.settings import CONTROLLER_NAME, NAMESPACE


@serve.deployment(
    num_replicas=4,
    ray_actor_options={"num_cpus": 0.5},
    gang_scheduling_config=GangSchedulingConfig(gang_size=2),
    graceful_shutdown_wait_loop_s=0.01,
)
class Member:
    def __call__(self):
        context = serve.get_replica_context()
        group = ray.util.get_current_placement_group()
        return {
            "id": context.replica_id.unique_id,
            "pid": os.getpid(),
            "gang": context.gang_context,
            "bundles": group.bundle_specs,
            "group": placement_group_table(group)["name"],
        }


def wait_until(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.05)
    return found


def gangs(app):
    """Gang -> what its members say of themselves, by rank; None unless two gangs of two answer."""
    said = app.handle.broadcast("__call__").results(timeout_s=10, return_exceptions=True)
    found = {}
    for one in said:
        if isinstance(one, dict):
            found.setdefault(one["gang"].gang_id, []).append(one)
    found = {gang: sorted(members, key=lambda one: one["gang"].rank) for gang, members in found.items()}
    return found if [len(members) for members in found.values()] == [2, 2] else None


def groups(app):
    """The placement groups of an application's gangs."""
    table = placement_group_table().values()
    ours = (one for one in table if one["name"].startswith(f"MESHSERVE_GANG::{app.name}#"))
    return {one["name"] for one in ours if one["state"] != "REMOVED"}


def test_a_gang_shares_a_placement_group_and_its_fate_and_leaves_nothing_behind(run):
    app = run(Member.bind())
    before = wait_until(lambda: gangs(app))
    for members in before.values():
        assert [one["gang"].member_replica_ids for one in members] == [[one["id"] for one in members]] * 2
        assert {one["gang"].pg_name for one in members} == {one["group"] for one in members}
        assert members[0]["bundles"] == [{"CPU": 0.5}, {"CPU": 0.5}]
    lost, kept = before
    os.kill(before[lost][1]["pid"], signal.SIGKILL)
    after = wait_until(lambda: (found := gangs(app)) and lost not in found and found)
    assert kept in after and after[kept] == before[kept]
    wait_until(lambda: groups(app) == {members[0]["group"] for members in after.values()})
    serve.delete(app.name)
    assert not groups(app)


def test_gangs_outlive_the_controller_and_miss_whom_they_lost_meanwhile(run):
    app = run(Member.bind())
    before = wait_until(lambda: gangs(app))
    lost, kept = before
    ray.kill(ray.get_actor(CONTROLLER_NAME, NAMESPACE), no_restart=False)
    os.kill(before[lost][0]["pid"], signal.SIGKILL)
    after = wait_until(lambda: (found := gangs(app)) and lost not in found and found)
    assert after[kept] == before[kept]
    wait_until(lambda: groups(app) == {members[0]["group"] for members in after.values()})
    wait_until(lambda: serve.status().applications[app.name].status == "RUNNING")


def test_a_gang_that_never_starts_is_given_up_and_says_why(run):
    failing = Member.options(num_replicas=2, max_constructor_retry_count=1, func_or_class=_Failing)
    with pytest.raises(RuntimeError, match="one of us cannot"):
        run(failing.bind(), name="never")
    status = serve.status().applications["never"].deployments["Member"]
    assert status.status == "DEPLOY_FAILED"
    assert "failed to start 1 times" in status.message


class _Failing:
    def __init__(self):
        if serve.get_replica_context().gang_context.rank == 1:
            raise ValueError("one of us cannot")
