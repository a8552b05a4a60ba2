"""How many replicas are started, stopped, replaced and reconfigured."""

from dataclasses import replace

import pytest
from control_pictures import deployment, phases, ready, replica, scene, wanted

from meshserve.core.actions import DrainReplica, KillReplica, ReconfigureReplica, RecordFailure, StartReplica
from meshserve.core.deployment import STEPS
from meshserve.core.rollout import attempts_allowed, judge, retry_at, roll, scale_down, scale_up
from meshserve.core.seen import Attempts, Phase, Process, SeenNode
from meshserve.core.serving import is_well
from meshserve.model.options import DeploymentOptions
from meshserve.model.status import DeploymentState


def counted(actions):
    return {kind.__name__: sum(isinstance(one, kind) for one in actions) for kind in {type(one) for one in actions}}


def test_what_is_missing_is_started():
    want = wanted(number=3)
    _, actions = scale_up(deployment(want, *ready(want, 1)), scene())
    assert counted(actions) == {"StartReplica": 2}


def test_a_stopping_replica_holds_its_place():
    want = wanted(number=3)
    seen = deployment(want, *ready(want, 2), replica("r9", Phase.DRAINING, want))
    assert scale_up(seen, scene())[1] == ()


def test_failures_put_the_next_start_off_longer_and_longer():
    want = wanted(number=1)
    waits = [
        retry_at(deployment(want, attempts=Attempts(failures=failures, failed_at=100.0))) - 100.0
        for failures in (1, 2, 3, 9)
    ]
    assert waits == [0.25, 0.5, 1.0, 10.0]
    seen = deployment(want, attempts=Attempts(failures=1, failed_at=100.0))
    assert scale_up(seen, scene(now=100.2))[1] == ()
    assert counted(scale_up(seen, scene(now=100.25))[1]) == {"StartReplica": 1}


@pytest.mark.parametrize(("retries", "count", "allowed"), [(20, 1, 3), (20, 10, 20), (2, 10, 2), (20, 0, 1)])
def test_attempts_allowed(retries, count, allowed):
    assert attempts_allowed(DeploymentOptions(max_constructor_retry_count=retries), count) == allowed


def test_a_first_version_that_never_starts_is_given_up():
    want = wanted(number=1)
    seen, actions = judge(deployment(want, attempts=Attempts(failures=3, message="ValueError")), scene())
    assert seen.attempts.given_up and "ValueError" in seen.status.message
    assert seen.status.state is DeploymentState.DEPLOY_FAILED
    assert counted(actions) == {"RecordFailure": 1}
    assert isinstance(actions[0], RecordFailure)
    assert scale_up(seen, scene())[1] == ()


def test_a_version_that_started_once_is_tried_for_ever():
    want = wanted(number=1)
    seen, actions = judge(deployment(want, attempts=Attempts(failures=99, succeeded=True)), scene())
    assert not seen.attempts.given_up and actions == ()


def test_in_a_rolling_update_even_a_version_that_started_once_is_given_up():
    old, new = wanted("v1"), wanted("v2")
    seen = deployment(new, *ready(old, 2), attempts=Attempts(failures=9, succeeded=True))
    seen, _ = judge(seen, scene())
    assert seen.attempts.given_up
    assert roll(seen, scene())[1] == ()


@pytest.mark.parametrize(
    ("count", "share", "stopped"), [(1, 0.2, 1), (5, 0.2, 1), (10, 0.2, 2), (10, 0.25, 2), (10, 1.0, 10)]
)
def test_a_rollout_without_surge_takes_one_batch_at_a_time(count, share, stopped):
    old, new = wanted("v1", count), wanted("v2", count, rolling_update_percentage=share)
    seen, actions = roll(deployment(new, *ready(old, count), attempts=Attempts(rolling=True)), scene())
    assert counted(actions) == {"DrainReplica": stopped}
    assert roll(seen, scene())[1] == (), "the batch is used up"


def test_a_rollout_waits_for_what_it_started():
    old, new = wanted("v1", 5), wanted("v2", 5)
    seen = deployment(new, *ready(old, 4), replica("r9", Phase.INITIALIZING, new), attempts=Attempts(rolling=True))
    assert roll(seen, scene())[1] == ()


def test_with_surge_the_new_come_first():
    old, new = wanted("v1", 4), wanted("v2", 4, max_surge_percent=50)
    seen = deployment(new, *ready(old, 4), attempts=Attempts(rolling=True))
    assert roll(seen, scene())[1] == ()
    seen, actions = scale_up(seen, scene())
    assert counted(actions) == {"StartReplica": 2}
    ready_now = deployment(new, *ready(old, 4), *ready(new, 2, first=4), attempts=Attempts(rolling=True))
    assert counted(roll(ready_now, scene())[1]) == {"DrainReplica": 2}


def test_options_that_can_be_taken_in_place_share_the_batch():
    old, new = wanted(number=10), wanted(number=10, user_config={"a": 1})
    seen, actions = roll(deployment(new, *ready(old, 10), attempts=Attempts(rolling=True)), scene())
    assert counted(actions) == {"ReconfigureReplica": 2}
    assert isinstance(actions[0], ReconfigureReplica) and actions[0].options is new.spec.options
    assert list(phases(seen).values()).count(Phase.RECONFIGURING) == 2


def test_options_wait_until_a_rank_that_was_sent_is_taken():
    old, new = wanted(number=2), wanted(number=2, user_config={"a": 1})
    ranked, other = ready(old, 2)
    waiting = deployment(
        new, replace(ranked, ranking=True), replace(other, ranking=True), attempts=Attempts(rolling=True)
    )
    assert roll(waiting, scene())[1] == ()
    answered = deployment(new, ranked, replace(other, ranking=True), attempts=Attempts(rolling=True))
    (sent,) = roll(answered, scene())[1]
    assert isinstance(sent, ReconfigureReplica) and sent.replica == ranked.id


def test_nobody_is_well_who_waits_for_options_until_a_rank_is_taken():
    old, new = wanted(number=2), wanted(number=2, user_config={"a": 1})
    waiting = [replace(one, ranking=True) for one in ready(old, 2)]
    assert not is_well(deployment(new, *waiting))
    assert is_well(deployment(old, *waiting))


def test_scaling_down_comes_before_the_rollout():
    old, new = wanted("v1", 4), wanted("v2", 2)
    seen = deployment(new, *ready(old, 4), attempts=Attempts(rolling=True))
    after, actions = scale_down(seen, scene())
    assert counted(actions) == {"DrainReplica": 2}
    assert counted(roll(after, scene())[1]) == {"DrainReplica": 1}
    order = [step for step, _ in STEPS]
    assert order.index(scale_down) < order.index(roll)


def test_starting_replicas_go_first_and_at_once():
    want = wanted(number=2)
    starting = [replica("r7", Phase.LAUNCHING, want), replica("r8", Phase.INITIALIZING, want)]
    _, actions = scale_down(deployment(want, *ready(want, 2), *starting), scene())
    assert counted(actions) == {"KillReplica": 1, "DrainReplica": 1}
    assert [(one.timeout_s, one.wait_loop_s) for one in actions if isinstance(one, DrainReplica)] == [(0.0, 0.0)]


def test_then_the_newest_on_nodes_with_few_replicas_and_the_head_last():
    want = wanted(number=3)
    nodes = {"n0": SeenNode("n0", is_head=True), "n1": SeenNode("n1"), "n2": SeenNode("n2")}
    where = {"r0": "n0", "r1": "n1", "r2": "n1", "r3": "n2", "r4": "n0"}
    seen = deployment(
        want, *[replica(tag, Phase.READY, want, process=Process(tag, node)) for tag, node in where.items()]
    )
    crowding = {"n0": 1, "n1": 2, "n2": 1}
    _, actions = scale_down(seen, scene(nodes=nodes, crowding=lambda: crowding))
    assert [one.replica.tag for one in actions if isinstance(one, DrainReplica)] == ["r3", "r2"]


def test_starts_of_an_older_version_end_at_once():
    old, new = wanted("v1"), wanted("v2")
    starting = (replica("r1", Phase.LAUNCHED, old), replica("r2", Phase.INITIALIZING, old))
    seen, actions = judge(deployment(new, *starting), scene())
    assert [type(one) for one in actions[:2]] == [KillReplica, DrainReplica]
    assert phases(seen) == {"r1": Phase.KILLING, "r2": Phase.DRAINING}


def test_going_back_to_the_version_before_leaves_no_replica_too_many():
    back, gone = wanted("v1", 2, max_surge_percent=100), wanted("v2", 2)
    seen = deployment(back, *ready(back, 3), *ready(gone, 1, first=3), attempts=Attempts(rolling=True))
    seen, actions = scale_down(seen, scene())
    assert counted(actions) == {"DrainReplica": 1}
    assert StartReplica not in {type(one) for one in scale_up(seen, scene())[1]}
