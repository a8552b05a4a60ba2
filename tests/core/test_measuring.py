"""When replicas are asked for what they measure of themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from control_pictures import MODEL, deployment, replica, wanted

from meshserve.core import events as ev
from meshserve.core.fold import fold
from meshserve.core.measuring import AUTOSCALING_TIMEOUT_S, Subject, plan_questions
from meshserve.core.seen import Introduction, Phase, Report, Seen, Stats
from meshserve.model.ids import ReplicaId
from meshserve.model.options import AutoscalingOptions, RouterOptions

R1 = ReplicaId(MODEL, "r1")
BOTH = Introduction(records_routing_stats=True, records_autoscaling_stats=True)
SCALED = AutoscalingOptions(look_back_period_s=20, metrics_interval_s=8)


def seen_with(introduction=BOTH, phase=Phase.READY, auto=SCALED):
    want = wanted()
    router = RouterOptions(request_routing_stats_period_s=5, request_routing_stats_timeout_s=2)
    options = replace(want.spec.options, autoscaling_config=auto, request_router_config=router)
    want = replace(want, spec=replace(want.spec, options=options))
    found = replace(replica("r1", phase, want), introduction=introduction)
    return Seen(listed=True, deployments={MODEL: deployment(want, found)})


def asked(seen, due=(), now=100.0):
    questions, next_due = plan_questions(seen, dict(due), now)
    return {one.subject: one for one in questions}, next_due


def test_a_replica_that_serves_is_asked_for_what_it_has():
    questions, due = asked(seen_with())
    assert questions[Subject.ROUTING].timeout_s == 2
    assert questions[Subject.AUTOSCALING].timeout_s == AUTOSCALING_TIMEOUT_S
    assert due[R1, Subject.ROUTING] == pytest.approx(105, abs=0.5)
    assert due[R1, Subject.AUTOSCALING] == pytest.approx(104, abs=0.4)  # a fifth of the window


@pytest.mark.parametrize(
    "seen",
    [
        seen_with(Introduction()),
        seen_with(phase=Phase.INITIALIZING),
        seen_with(Introduction(records_autoscaling_stats=True), auto=None),
    ],
)
def test_a_replica_with_nothing_to_tell_is_not_asked(seen):
    assert asked(seen) == ({}, {})


def test_it_is_asked_again_when_its_period_is_over_and_not_before():
    seen = seen_with()
    _, due = asked(seen)
    assert asked(seen, due, 102.0)[0] == {}
    assert set(asked(seen, due, 104.5)[0]) == {Subject.AUTOSCALING}
    assert set(asked(seen, due, 106.0)[0]) == {Subject.ROUTING, Subject.AUTOSCALING}


def test_a_replica_that_is_gone_is_forgotten():
    _, due = asked(seen_with())
    assert asked(Seen(), due) == ({}, {})


def test_what_was_measured_stays_until_it_is_measured_again():
    seen = seen_with()
    for event in (
        ev.ReplicaMeasured(R1, routing_json='{"free": 3}'),
        ev.ReplicaMeasured(R1, autoscaling_json='{"queue": 7}'),
        ev.ReplicaHealthy(R1, Report()),
    ):
        seen = fold(seen, event, 100.0)
    assert seen.deployments[MODEL].replicas["r1"].stats == Stats('{"free": 3}', '{"queue": 7}')
    assert fold(seen, ev.ReplicaMeasured(R1, routing_json='{"free": 3}'), 101.0) is seen
