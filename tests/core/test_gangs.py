"""Gangs: what is decided about replicas that start and end together."""

from dataclasses import replace

import pytest
from control_pictures import MODEL, deployment, phases, replica, scene, wanted

from meshserve.core import actions as ac
from meshserve.core import events as ev
from meshserve.core.capacity import scaling_bounds
from meshserve.core.desire import set_applications, set_count
from meshserve.core.fold import fold
from meshserve.core.gangs import assemble, release, share_fate
from meshserve.core.migration import migrate
from meshserve.core.rollout import batch_size, roll, scale_down, scale_up
from meshserve.core.seen import UNHEALTHY, Attempts, Introduction, Phase, Resources, Seen, SeenNode
from meshserve.core.stopping import retire
from meshserve.core.waiting import SHORTAGE_S, waiting_text
from meshserve.model.control import ApplicationSpec, CountSource, DeploymentSpec, Desired
from meshserve.model.gang import GangContext, GangId
from meshserve.model.ids import ReplicaId
from meshserve.model.options import AutoscalingOptions, DeploymentOptions, GangOptions
from meshserve.model.status import DeploymentState, DeploymentStatus, Trigger

PAIRS = GangOptions(2)


def gangs_wanted(number=4, version="v1", **options):
    return wanted(version, number, **{"gang_scheduling_config": PAIRS, **options})


def gang(number, phase, want, **changes):
    """The two members of a gang: gang 1 has r2 and r3."""
    tags = (f"r{2 * number}", f"r{2 * number + 1}")
    return [
        replica(tag, phase, want, gang=GangContext(f"g{number}", rank, 2, tags), **changes)
        for rank, tag in enumerate(tags)
    ]


def with_gangs(want, *replicas, **changes):
    groups = {one.gang.gang_id: False for one in replicas if one.gang is not None}
    return deployment(want, *replicas, gangs=groups, **changes)


def folded(seen, event):
    return fold(Seen(deployments={MODEL: seen}), event, 100.0).deployments[MODEL]


def kinds(actions):
    return [(type(action), action.replica.tag) for action in actions]


# -- starting --------------------------------------------------------------------------------------------------------


def test_gangs_start_whole_with_ranks_and_one_placement_group_each():
    after, actions = scale_up(deployment(gangs_wanted()), scene())
    contexts = [action.gang for action in actions]
    assert [one.rank for one in contexts] == [0, 1, 0, 1]
    assert contexts[0].member_replica_ids == tuple(action.replica.tag for action in actions[:2])
    assert contexts[0].pg_name == contexts[1].pg_name == f"MESHSERVE_GANG::app#Model#{contexts[0].gang_id}"
    assert len({one.gang_id for one in contexts}) == len(after.gangs) == 2


def test_room_for_half_a_gang_starts_nothing():
    want = gangs_wanted()
    ending = replica("r9", Phase.KILLING, want)
    _, actions = scale_up(with_gangs(want, *gang(1, Phase.READY, want), ending), scene())
    assert actions == ()


def test_a_gang_serves_only_once_all_of_it_is_well():
    want = gangs_wanted()
    first, second = gang(1, Phase.INITIALIZING, want)
    seen = folded(with_gangs(want, first, second), ev.ReplicaReady(first.id, Introduction()))
    half, _ = assemble(seen, scene())
    assert phases(half) == {"r2": Phase.ASSEMBLING, "r3": Phase.INITIALIZING}
    assert not half.attempts.succeeded
    whole, _ = assemble(folded(half, ev.ReplicaReady(second.id, Introduction())), scene())
    assert phases(whole) == {"r2": Phase.READY, "r3": Phase.READY}
    assert whole.attempts.succeeded


def test_one_that_was_ready_when_the_controller_came_back_waits_for_one_that_was_not():
    want = gangs_wanted(2)
    first, second = gang(1, Phase.READY, want)
    seen, _ = assemble(with_gangs(want, first, replace(second, phase=Phase.LAUNCHED)), scene())
    assert phases(seen) == {"r2": Phase.ASSEMBLING, "r3": Phase.LAUNCHED}
    known, _ = assemble(with_gangs(want, first, second), scene())
    assert phases(known) == {"r2": Phase.READY, "r3": Phase.READY}
    assert known.attempts.succeeded


def test_one_that_became_known_first_on_a_node_that_goes_away_waits_for_the_rest_of_its_gang_too():
    want = gangs_wanted(2)
    first, second = gang(1, Phase.READY, want)
    nodes = scene(nodes={first.process.node_id: SeenNode(first.process.node_id, leaves_at=500.0)})
    unknown = replace(second, phase=Phase.DESCRIBING, gang=None)
    seen, _ = migrate(with_gangs(want, first, unknown), nodes)
    assert phases(seen) == {"r2": Phase.MIGRATING, "r3": Phase.DESCRIBING}
    half, _ = assemble(seen.having({"r3": replace(second, phase=Phase.LAUNCHED)}), nodes)
    assert phases(half) == {"r2": Phase.ASSEMBLING, "r3": Phase.LAUNCHED}
    whole, _ = assemble(half.having({"r3": replace(second, phase=Phase.ASSEMBLING)}), nodes)
    assert phases(migrate(whole, nodes)[0]) == {"r2": Phase.MIGRATING, "r3": Phase.MIGRATING}


def test_a_gang_that_became_known_one_by_one_on_a_node_that_goes_away_has_shown_that_it_can_start():
    want = gangs_wanted(2)
    first, second = gang(1, Phase.READY, want)
    seen, _ = assemble(with_gangs(want, replace(first, phase=Phase.MIGRATING), second), scene())
    assert phases(seen) == {"r2": Phase.MIGRATING, "r3": Phase.READY}
    assert seen.attempts.succeeded


@pytest.mark.parametrize("event", [ev.ReplicaFailed, lambda replica, _: ev.ReplicaDied(replica)])
def test_a_gang_that_fails_to_start_counts_once(event):
    want = gangs_wanted()
    members = gang(1, Phase.INITIALIZING, want)
    seen = with_gangs(want, *members)
    for member in members:
        seen = folded(seen, event(member.id, "it raised"))
    assert seen.attempts.failures == 1


def test_the_failure_of_another_gang_counts_too():
    want = gangs_wanted()
    seen = with_gangs(want, *gang(1, Phase.INITIALIZING, want), *gang(2, Phase.INITIALIZING, want))
    for tag in ("r2", "r4"):
        seen = folded(seen, ev.ReplicaFailed(ReplicaId(MODEL, tag), "it raised"))
    assert seen.attempts.failures == 2


# -- ending ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.LAUNCHING, Phase.INITIALIZING, Phase.ASSEMBLING, Phase.READY])
def test_a_member_that_fails_takes_its_gang_with_it_by_force(phase):
    want = gangs_wanted()
    broken, other = gang(1, phase, want)
    seen = with_gangs(want, replace(broken, phase=Phase.BROKEN), other, *gang(2, Phase.READY, want))
    after, actions = share_fate(seen, scene())
    assert kinds(actions) == [(ac.KillReplica, "r3")]
    assert phases(after)["r4"] is Phase.READY


def test_a_member_that_is_unwell_is_not_waited_for_either():
    want = gangs_wanted()
    unwell, other = gang(1, Phase.READY, want)
    _, actions = share_fate(with_gangs(want, replace(unwell, retire=UNHEALTHY), other), scene())
    assert kinds(actions) == [(ac.KillReplica, "r2"), (ac.KillReplica, "r3")]


def test_who_is_left_of_a_gang_after_a_restart_ends_its_calls_once_all_are_known():
    want = gangs_wanted()
    left, _ = gang(1, Phase.READY, want)
    unknown = replica("r9", Phase.DESCRIBING, want)
    waiting, _ = share_fate(with_gangs(want, left, unknown), scene())
    assert not waiting.replicas["r2"].retire
    known, actions = share_fate(with_gangs(want, left), scene())
    assert actions == ()
    assert kinds(retire(known, scene())[1]) == [(ac.DrainReplica, "r2")]


def test_a_gang_found_half_drained_after_a_restart_ends_in_order():
    want = gangs_wanted()
    draining, other = gang(1, Phase.READY, want)
    after, actions = share_fate(with_gangs(want, replace(draining, phase=Phase.DRAINING), other), scene())
    assert actions == ()
    assert after.replicas["r3"].retire


def test_scaling_down_lets_whole_gangs_end_their_calls():
    want = gangs_wanted(2)
    after, actions = scale_down(with_gangs(want, *gang(1, Phase.READY, want), *gang(2, Phase.READY, want)), scene())
    assert kinds(actions) == [(ac.DrainReplica, "r5"), (ac.DrainReplica, "r4")]
    assert phases(after)["r2"] is Phase.READY


def test_the_placement_group_goes_when_the_last_member_is_gone():
    want = gangs_wanted(2)
    ending, _ = gang(1, Phase.KILLING, want)
    seen = with_gangs(want, ending)
    assert release(seen, scene())[1] == ()
    gone = folded(seen, ev.ReplicaDied(ending.id))
    after, actions = release(gone, scene())
    assert actions == (ac.RemoveGang(GangId(MODEL, "g1")),)
    assert release(after, scene())[1] == ()
    assert folded(after, ev.GangRemoved(GangId(MODEL, "g1"))).is_empty


def test_a_placement_group_stays_while_somebody_unknown_may_run_in_it():
    listed = ev.Listed((ReplicaId(MODEL, "r2"),), (), gangs=(GangId(MODEL, "g1"), GangId(MODEL, "g2")))
    seen = fold(Seen(), listed, 0.0).deployments[MODEL]
    assert seen.gangs == {"g1": False, "g2": False}
    assert release(seen, scene())[1] == ()


# -- updating and moving ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "size"), [(0.2, 2), (0.5, 4), (0.6, 4), (1.0, 8)])
def test_the_share_of_a_rollout_is_rounded_up_to_whole_gangs(share, size):
    options = DeploymentOptions(gang_scheduling_config=PAIRS, rolling_update_percentage=share)
    assert batch_size(options, 8) == size


def test_a_rollout_replaces_gang_by_gang():
    before, want = gangs_wanted(), gangs_wanted(version="v2")
    old = [*gang(1, Phase.READY, before), *gang(2, Phase.READY, before)]
    _, actions = roll(with_gangs(want, *old, attempts=Attempts(rolling=True)), scene())
    assert kinds(actions) == [(ac.DrainReplica, "r2"), (ac.DrainReplica, "r3")]


def test_surge_is_rounded_up_to_whole_gangs():
    before, want = gangs_wanted(max_surge_percent=10), gangs_wanted(version="v2", max_surge_percent=10)
    old = [*gang(1, Phase.READY, before), *gang(2, Phase.READY, before)]
    _, actions = scale_up(with_gangs(want, *old, attempts=Attempts(rolling=True)), scene())
    assert len(actions) == 2


def test_larger_gangs_of_before_go_although_the_budget_is_smaller():
    before, want = gangs_wanted(), wanted("v2", 4)
    old = [*gang(1, Phase.READY, before), *gang(2, Phase.READY, before)]
    assert batch_size(want.spec.options, 4) == 1
    _, actions = roll(with_gangs(want, *old, attempts=Attempts(rolling=True)), scene())
    assert len(actions) == 2


def test_a_gang_moves_as_a_whole_when_one_of_its_nodes_goes_away():
    want = gangs_wanted(2)
    here, there = gang(1, Phase.READY, want)
    there = replace(there, process=replace(there.process, node_id="n1"))
    nodes = {"n0": SeenNode("n0"), "n1": SeenNode("n1", leaves_at=500.0)}
    after, _ = migrate(with_gangs(want, here, there), scene(nodes=nodes))
    assert phases(after) == {"r2": Phase.MIGRATING, "r3": Phase.MIGRATING}
    successors = gang(2, Phase.READY, want)
    moved, _ = migrate(after.having({one.id.tag: one for one in successors}), scene(nodes=nodes))
    assert {tag for tag, one in moved.replicas.items() if one.retire} == {"r2", "r3"}


def test_one_successor_is_not_enough_for_a_gang():
    want = gangs_wanted(4)
    leaving = gang(1, Phase.MIGRATING, want)
    leaving = [replace(one, process=replace(one.process, node_id="n1")) for one in leaving]
    nodes = {"n0": SeenNode("n0"), "n1": SeenNode("n1", leaves_at=500.0)}
    single = replica("r8", Phase.READY, want)
    after, _ = migrate(with_gangs(want, *leaving, *gang(2, Phase.READY, want), single), scene(nodes=nodes))
    assert not any(one.retire for one in after.replicas.values())


# -- counting --------------------------------------------------------------------------------------------------------


def test_counts_set_from_outside_are_rounded_up_to_whole_gangs():
    spec = DeploymentSpec(MODEL, "v1", DeploymentOptions(num_replicas=4, gang_scheduling_config=PAIRS))
    desired = set_applications(Desired(), [ApplicationSpec("app", (spec,), "Model")], 0.0)
    assert set_count(desired, MODEL, 5, CountSource.AUTOSCALER).deployments[MODEL].count == 6
    assert set_count(desired, MODEL, 3, CountSource.PEOPLE) is desired
    assert set_count(desired, MODEL, 0, CountSource.PEOPLE).deployments[MODEL].count == 0


@pytest.mark.parametrize(
    ("least", "most", "capacity", "expected"),
    [(1, 100, None, (3, 99)), (3, 9, None, (3, 9)), (3, 9, 50, (3, 3)), (0, 9, None, (0, 9)), (3, 9, 0, (0, 0))],
)
def test_bounds_of_autoscaling_are_whole_gangs(least, most, capacity, expected):
    options = AutoscalingOptions(min_replicas=least, max_replicas=most)
    bounds = scaling_bounds(options, capacity, gang_size=3)
    assert (bounds.lower, bounds.upper) == expected


# -- telling ---------------------------------------------------------------------------------------------------------


def test_the_status_says_that_a_gang_is_started_again_because_of_one():
    want = gangs_wanted(2)
    healthy = DeploymentStatus(DeploymentState.HEALTHY, Trigger.UNSPECIFIED)
    seen = with_gangs(want, *gang(1, Phase.READY, want), status=healthy)
    message = folded(seen, ev.ReplicaDied(ReplicaId(MODEL, "r2"))).status.message
    assert "Replica app#Model#r2 died. All 2 replicas of its gang are started again." in message


def test_a_gang_that_finds_no_room_says_what_it_needs():
    want = gangs_wanted(4, ray_actor_options={"num_cpus": 2})
    seen = with_gangs(want, *gang(1, Phase.READY, want), *gang(2, Phase.LAUNCHING, want, since=0.0))
    resources = Resources({"CPU": 8.0}, {"CPU": 3.0})
    text = waiting_text(seen, resources, SHORTAGE_S)
    assert "Each gang of 2 replicas needs more than is free in the cluster: CPU (needs 4, free 3 of 8)." in text
