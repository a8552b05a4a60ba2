"""Which replica a call goes to: the built-in policies, distance and models, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest
from fake_replicas import FakeMesh, FakeReplica, call
from virtual_time import in_virtual_time

from meshserve.errors import DeploymentUnavailableError
from meshserve.model.failure import FailureKind
from meshserve.routing.open_replicas import SAME_ZONE
from meshserve.routing.policies import check_policy, policy_name
from meshserve.routing.service import CallFailed


async def serve(mesh, *calls):
    await asyncio.gather(*(mesh.router.unary(one) for one in calls))


def tag_of(mesh, request_id):
    return next(tag for tag, replica in mesh.replicas.items() if request_id in replica.seen)


# -- round robin -----------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_round_robin_goes_in_strict_cycles():
    mesh = FakeMesh([FakeReplica(tag) for tag in "abcd"], policy="round_robin")
    for number in range(12):
        await serve(mesh, call(str(number)))
    order = [tag_of(mesh, str(number)) for number in range(12)]
    assert order[:4] == order[4:8] == order[8:] and len(set(order)) == 4


@in_virtual_time
async def test_round_robin_passes_over_a_full_replica():
    mesh = FakeMesh([FakeReplica("a", 60.0, limit=1), FakeReplica("b"), FakeReplica("c")], policy="round_robin")
    replies = [mesh.router.unary(call(str(number))) for number in range(9)]
    await asyncio.sleep(1.0)
    assert sum(reply.done for reply in replies) == 8
    assert {replica.served for replica in mesh.replicas.values()} == {0, 4}


@in_virtual_time
async def test_round_robin_takes_no_notice_of_distance():
    mesh = FakeMesh([FakeReplica("near", node_id="node"), FakeReplica("far", node_id="other")], policy="round_robin")
    await serve(mesh, *(call() for _ in range(10)))
    assert mesh.replicas["near"].served == mesh.replicas["far"].served == 5


# -- by key ----------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_session_stays_with_its_replica_while_others_come_and_go():
    replicas = [FakeReplica(tag) for tag in "abcdef"]
    mesh = FakeMesh(replicas, policy="by_key")
    sessions = [f"session-{number}" for number in range(200)]
    for session in sessions:
        await serve(mesh, *(call(f"{session}.{number}", session_id=session) for number in range(3)))
    homes = {session: {tag_of(mesh, f"{session}.{number}") for number in range(3)} for session in sessions}
    assert all(len(home) == 1 for home in homes.values())
    mesh.publish(*replicas[:5])
    moved = 0
    for session in sessions:
        await serve(mesh, call(f"{session}.after", session_id=session))
        home = homes[session].pop()
        after = tag_of(mesh, f"{session}.after")
        moved += after != home
        assert home == "f" or after == home
    assert 0 < moved < 80


@in_virtual_time
async def test_a_full_home_is_stood_in_for_by_the_next_ones_and_then_waited_for():
    replicas = [FakeReplica(tag, 1.0, limit=1) for tag in "abcdef"]
    mesh = FakeMesh(replicas, policy="by_key", kwargs={"num_fallback_replicas": 2})
    replies = [mesh.router.unary(call(str(number), session_id="s")) for number in range(5)]
    other = next(
        session
        for session in map(str, range(100))
        if mesh.router.unary(call(f"other-{session}", session_id=session)) and mesh.router.queued == 2
    )
    await asyncio.sleep(0.5)
    used = [replica.target.tag for replica in replicas if any(name.isdigit() for name in replica.seen)]
    assert len(used) == 3  # the home and two that stand in; the other three have room, the calls wait all the same
    assert f"other-{other}" in [name for replica in replicas for name in replica.seen]  # and do not hold up others
    await asyncio.gather(*replies)
    assert used == [replica.target.tag for replica in replicas if any(name.isdigit() for name in replica.seen)]


@in_virtual_time
async def test_without_a_session_the_request_id_is_the_key():
    mesh = FakeMesh([FakeReplica(tag) for tag in "abcd"], policy="by_key")
    await serve(mesh, *(call("same") for _ in range(10)))
    assert sorted(replica.served for replica in mesh.replicas.values()) == [0, 0, 0, 10]
    await serve(mesh, *(call(str(number)) for number in range(400)))
    assert min(replica.served for replica in mesh.replicas.values()) > 40


# -- peak EWMA -------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_peak_ewma_leaves_a_slow_replica_alone():
    replicas = [FakeReplica("slow", 0.2), *(FakeReplica(tag, 0.01) for tag in "abc")]
    mesh = FakeMesh(replicas, policy="peak_ewma")
    for _ in range(300):
        await serve(mesh, *(call() for _ in range(4)))
    assert mesh.replicas["slow"].served < 24


@in_virtual_time
async def test_peak_ewma_counts_a_refusal_as_a_slow_answer():
    full = FakeReplica("full", limit=4)
    mesh = FakeMesh([full, *(FakeReplica(tag, limit=4) for tag in "abc")], policy="peak_ewma")
    for _ in range(4):
        full.admission.admit()  # others have filled it, and nobody here knows
    for _ in range(100):
        await serve(mesh, call())
    for _ in range(4):
        full.admission.release()
    await asyncio.sleep(1.0)
    for _ in range(100):
        await serve(mesh, call())
    assert full.rejected >= 1 and full.served < 5  # it has room again, but a bad name for some seconds
    await asyncio.sleep(120.0)
    for _ in range(100):
        await serve(mesh, call())
    assert full.served > 10


# -- old news --------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_replica_that_others_had_filled_is_tried_again_though_nobody_waits():
    a, b = FakeReplica("a", limit=4), FakeReplica("b", limit=4)
    mesh = FakeMesh([a, b])
    for _ in range(3):
        a.admission.admit()
    while not a.served:
        await serve(mesh, call(), call())
    assert mesh.router.replicas[0].others == 3
    a.admission.ongoing = 0  # and nobody is told: this router was never turned away
    await asyncio.sleep(2.0)
    before = a.served
    for _ in range(40):
        await serve(mesh, call())
    assert a.served - before > 10


# -- distance --------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_near_replicas_come_first_while_they_have_room_then_those_of_the_zone_then_all():
    here = FakeReplica("here", 1.0, limit=2, node_id="node", zone="z1")
    zone = FakeReplica("zone", 1.0, limit=3, node_id="other", zone="z1")
    far = FakeReplica("far", 1.0, limit=100, node_id="else", zone="z2")
    mesh = FakeMesh([far, zone, here])
    replies = [mesh.router.unary(call(str(number))) for number in range(9)]
    await asyncio.gather(*replies)
    assert [tag_of(mesh, str(number)) for number in range(9)] == ["here"] * 2 + ["zone"] * 3 + ["far"] * 4


@in_virtual_time
async def test_a_replica_that_comes_to_this_node_is_preferred_and_tells_the_zone():
    far, zone = FakeReplica("far", node_id="x", zone="z2"), FakeReplica("zone", node_id="y", zone="z1")
    here = FakeReplica("here", limit=1, node_id="node", zone="z1")
    mesh = FakeMesh([far, zone])
    await serve(mesh, *(call() for _ in range(40)))
    assert far.served and zone.served
    mesh.publish(far, zone, here)
    replies = [mesh.router.unary(call(f"after-{number}")) for number in range(10)]
    await asyncio.gather(*replies)
    assert "after-0" in here.seen and all(f"after-{number}" in zone.seen for number in range(1, 10))


@in_virtual_time
async def test_distances_that_do_not_count_are_not_looked_at() -> None:
    async def seen(*preferred: int) -> set[str]:
        here = FakeReplica("here", limit=100, node_id="node", zone="z1")
        zone = FakeReplica("zone", limit=100, node_id="other", zone="z1")
        far = FakeReplica("far", limit=100, node_id="else", zone="z2")
        mesh = FakeMesh([far, zone, here], preferred=preferred)
        await asyncio.gather(*(mesh.router.unary(call(str(number))) for number in range(60)))
        return {tag_of(mesh, str(number)) for number in range(60)}

    assert await seen(SAME_ZONE) == {"here", "zone"}
    assert await seen() == {"here", "zone", "far"}


# -- models ----------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_calls_for_a_model_go_where_it_is_loaded():
    replicas = [FakeReplica(tag, loads_models=True) for tag in "abcd"]
    mesh = FakeMesh(replicas)
    for number in range(40):
        await serve(mesh, call(str(number), multiplexed_model_id="m"))
    assert sorted(replica.served for replica in replicas) == [0, 0, 0, 40]


@in_virtual_time
async def test_the_first_calls_for_a_model_share_one_load():
    replicas = [FakeReplica(tag, loads_models=True) for tag in "abcd"]
    mesh = FakeMesh(replicas)
    await serve(mesh, *(call(str(number), multiplexed_model_id="m") for number in range(20)))
    assert sum("m" in replica.models for replica in replicas) == 1


@in_virtual_time
async def test_callers_that_know_of_no_holder_have_a_model_loaded_at_the_same_replica():
    replicas = [FakeReplica(tag, loads_models=True) for tag in "abcd"]
    for router in FakeMesh(replicas, routers=5).routers:
        await router.unary(call(multiplexed_model_id="m"))
    assert sorted(replica.served for replica in replicas) == [0, 0, 0, 5]


@in_virtual_time
async def test_new_models_go_to_the_replicas_with_the_fewest():
    replicas = [FakeReplica(tag, loads_models=True) for tag in "abcd"]
    mesh = FakeMesh(replicas)
    for number in range(8):
        await serve(mesh, call(multiplexed_model_id=f"m{number}"))
    assert [len(replica.models) for replica in replicas] == [2, 2, 2, 2]


@in_virtual_time
async def test_a_model_whose_holder_is_full_is_loaded_elsewhere():
    replicas = [FakeReplica(tag, 1.0, limit=2, loads_models=True) for tag in "ab"]
    mesh = FakeMesh(replicas)
    await serve(mesh, call(multiplexed_model_id="m"))
    await serve(mesh, *(call(multiplexed_model_id="m") for _ in range(4)))
    assert all(replica.models == ("m",) for replica in replicas)


@in_virtual_time
async def test_a_call_waits_for_a_replica_that_suits_its_model_but_not_for_long():
    empty = FakeReplica("empty", 10.0, limit=1, loads_models=True)
    laden = FakeReplica("laden", loads_models=True)
    laden.models = ("x", "y")
    mesh = FakeMesh([empty, laden])
    loop = asyncio.get_running_loop()
    while not mesh.router.replicas[1].models:  # its first answer tells what it holds
        await serve(mesh, call())
    if not empty.seen:
        mesh.router.unary(call())
    since = loop.time()
    while empty.admission.ongoing < 1:
        mesh.router.unary(call())
        await asyncio.sleep(0.001)
    await serve(mesh, call("new", multiplexed_model_id="new"))
    assert "new" in laden.seen and 0.9 < loop.time() - since < 2.5


@in_virtual_time
async def test_calls_that_wait_for_a_model_do_not_hold_up_others():
    a, b = FakeReplica("a", 1.0, limit=1), FakeReplica("b", limit=10)
    a.target = a.target.__class__("a", "a:1", max_ongoing_requests=1)
    mesh = FakeMesh([a, b])
    b_view = mesh.router.replicas[1]
    b_view.models = frozenset({"x", "y"})
    mesh.router.chooser.models_changed(b_view)
    first = mesh.router.unary(call("first", multiplexed_model_id="m"))  # to a, which is empty
    waiting = [mesh.router.unary(call(f"w{number}", multiplexed_model_id="m")) for number in range(5)]
    assert mesh.router.queued == 5
    await serve(mesh, *(call(f"plain-{number}") for number in range(5)))
    assert not any(reply.done for reply in waiting)
    await asyncio.gather(first, *waiting)


@in_virtual_time
async def test_fifty_models_on_four_replicas_are_mostly_found_warm():
    rng = Random(7)
    replicas = [FakeReplica(tag, lambda: rng.uniform(0.002, 0.01), loads_models=True) for tag in "abcd"]
    mesh = FakeMesh(replicas)
    weights = [1 / (rank + 1) ** 1.5 for rank in range(50)]
    models = rng.choices([f"m{number}" for number in range(50)], weights, k=4000)
    for start in range(0, len(models), 4):
        await serve(mesh, *(call(multiplexed_model_id=model) for model in models[start : start + 4]))
    best = sum(sorted(weights)[-12:]) / sum(weights)  # twelve places for the twelve most wanted
    hits = sum(replica.hits for replica in replicas) / len(models)
    assert hits > 0.8 * best


# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("", "two_choices"),
        ("two_choices", "two_choices"),
        ("by_model", "by_model"),
        ("ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter", "two_choices"),
        ("ray.serve.experimental.round_robin_router:RoundRobinRouter", "round_robin"),
        ("ray.serve.experimental.round_robin_router.RoundRobinRouter", "round_robin"),
        ("ray.serve.experimental.consistent_hash_router:ConsistentHashRouter", "by_key"),
        ("meshserve.experimental.consistent_hash_router:ConsistentHashRouter", "by_key"),
        ("my.module:RoundRobinRouter", None),
    ],
)
def test_policies_have_short_names_and_the_peers_paths(given, name):
    assert policy_name(given) == name


@pytest.mark.parametrize("kwargs", [{"num_virtual_nodes": 0}, {"num_fallback_replicas": -1}])
def test_numbers_out_of_range_are_refused(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        check_policy("by_key", kwargs)


def test_arguments_that_a_policy_does_not_have_are_refused():
    with pytest.raises(TypeError, match=r"round_robin.*speed"):
        check_policy("round_robin", {"speed": 1})


@in_virtual_time
async def test_calls_fail_when_nobody_can_choose_and_are_served_again_when_somebody_can():
    mesh = FakeMesh([FakeReplica("a")], policy="no_such_policy")
    with pytest.raises(CallFailed, match=r"no_such_policy.*two_choices"):
        await mesh.router.unary(call())
    mesh.options = FakeMesh([FakeReplica("b")]).options
    mesh.publish(*mesh.replicas.values())
    await mesh.router.unary(call())


@in_virtual_time
async def test_the_policy_can_change_while_calls_wait():
    mesh = FakeMesh([FakeReplica("a", 1.0, limit=1)])
    replies = [mesh.router.unary(call(str(number))) for number in range(4)]
    mesh.options = FakeMesh([FakeReplica("b")], policy="by_key").options
    mesh.publish(mesh.replicas["a"])
    await asyncio.gather(*replies)
    assert mesh.replicas["a"].seen == ["0", "1", "2", "3"]


# -- when there is nobody --------------------------------------------------------------------------------------------


@in_virtual_time
async def test_calls_that_waited_before_the_deployment_failed_go_on_waiting_and_new_ones_fail():
    mesh = FakeMesh([FakeReplica("a")])
    mesh.publish()
    waiting = mesh.router.unary(call("early"))
    mesh.publish(unavailable="its constructor raised")
    late = mesh.router.unary(call("late"))
    assert late.failure is not None and late.failure.kind is FailureKind.UNAVAILABLE
    await asyncio.sleep(5.0)
    assert not waiting.done
    mesh.publish(FakeReplica("b"))
    await waiting


@in_virtual_time
async def test_calls_that_wait_fail_when_the_deployment_is_deleted():
    mesh = FakeMesh([FakeReplica("a")])
    mesh.publish()
    waiting = mesh.router.unary(call())
    mesh.publish(exists=False)
    assert waiting.failure is not None and waiting.failure.exception_type == DeploymentUnavailableError.__name__


@in_virtual_time
async def test_two_choices_spreads_calls_evenly():
    mesh = FakeMesh([FakeReplica(str(number)) for number in range(20)])
    for _ in range(100):
        await serve(mesh, *(call() for _ in range(20)))
    served = Counter({tag: replica.served for tag, replica in mesh.replicas.items()})
    assert min(served.values()) > 70 and max(served.values()) < 130
