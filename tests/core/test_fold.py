"""What is made of events, early ones and late ones."""

import pytest
from control_pictures import MODEL, deployment, replica, wanted

from meshserve.core import events as ev
from meshserve.core.fold import fold
from meshserve.core.seen import Attempts, Introduction, Phase, Process, Report, Resources, Seen, SeenNode
from meshserve.model.control import ReplicaRank
from meshserve.model.gang import GangContext
from meshserve.model.ids import ReplicaId
from meshserve.model.options import DeploymentOptions
from meshserve.model.status import DeploymentState, DeploymentStatus, Trigger

R1 = ReplicaId(MODEL, "r1")
HEALTHY = DeploymentStatus(DeploymentState.HEALTHY, Trigger.CONFIG_UPDATE_COMPLETED)


def seen_with(phase, want=None, **changes):
    want = want or wanted()
    return Seen(listed=True, deployments={MODEL: deployment(want, replica("r1", phase, want), **changes)})


def after(seen, event, now=50.0):
    return fold(seen, event, now).deployments[MODEL]


def test_a_replica_comes_up_step_by_step():
    seen = fold(seen_with(Phase.LAUNCHING), ev.ReplicaLaunched(R1, Process("a:1", "n1")), 50.0)
    found = seen.deployments[MODEL].replicas["r1"]
    assert (found.phase, found.address, found.since) == (Phase.LAUNCHED, "a:1", 50.0)
    ready = after(seen_with(Phase.INITIALIZING), ev.ReplicaReady(R1, Introduction(docs_path="/docs")))
    assert ready.replicas["r1"].phase is Phase.READY
    assert ready.replicas["r1"].introduction.docs_path == "/docs"
    assert ready.attempts.succeeded


def test_a_replica_tells_where_it_logs_once_it_has_its_options():
    seen = fold(seen_with(Phase.INITIALIZING), ev.ReplicaReady(R1, Introduction(), "/logs/one"), 50.0)
    assert seen.deployments[MODEL].replicas["r1"].process.log_path == "/logs/one"
    moved = after(seen, ev.ReplicaReconfigured(R1, "/logs/two"))
    assert moved.replicas["r1"].process.log_path == "/logs/two"


@pytest.mark.parametrize("phase", [Phase.LAUNCHING, Phase.LAUNCHED, Phase.INITIALIZING])
def test_a_failed_start_is_counted_and_the_process_is_to_be_killed(phase):
    found = after(seen_with(phase), ev.ReplicaFailed(R1, "ValueError"))
    assert found.replicas["r1"].phase is Phase.BROKEN
    assert (found.attempts.failures, found.attempts.failed_at, found.attempts.message) == (1, 50.0, "ValueError")


def test_a_failed_start_of_another_version_is_not_counted():
    want, old = wanted("v2"), wanted("v1")
    seen = Seen(listed=True, deployments={MODEL: deployment(want, replica("r1", Phase.LAUNCHING, old))})
    assert after(seen, ev.ReplicaFailed(R1, "ValueError")).attempts.failures == 0


@pytest.mark.parametrize(
    "event",
    [
        ev.ReplicaLaunched(R1, Process("a:1")),
        ev.ReplicaReady(R1, Introduction()),
        ev.ReplicaFailed(R1, "late"),
        ev.ReplicaReconfigured(R1),
        ev.ReplicaReconfigureFailed(R1, "late"),
        ev.ReplicaDrained(R1),
        ev.ReplicaLost(R1),
    ],
)
def test_what_comes_too_late_changes_nothing(event):
    seen = seen_with(Phase.KILLING)
    assert fold(seen, event, 50.0) is seen


def test_events_about_strangers_change_nothing():
    seen = seen_with(Phase.READY)
    assert fold(seen, ev.ReplicaDied(ReplicaId(MODEL, "nobody")), 50.0) is seen
    assert fold(seen, ev.ProxyDied("nowhere"), 50.0) is seen


def test_three_strikes_and_only_three_in_a_row():
    seen = seen_with(Phase.READY, status=HEALTHY)
    for event in (ev.ReplicaUnhealthy(R1, "x"), ev.ReplicaUnhealthy(R1, "x"), ev.ReplicaHealthy(R1, Report())):
        seen = fold(seen, event, 50.0)
    assert not seen.deployments[MODEL].replicas["r1"].retire
    for _ in range(3):
        seen = fold(seen, ev.ReplicaUnhealthy(R1, "no pulse"), 60.0)
    found = seen.deployments[MODEL]
    assert found.replicas["r1"].retire == "unhealthy"
    assert found.status.state is DeploymentState.UNHEALTHY and "no pulse" in found.status.message


def test_a_serving_replica_that_dies_makes_the_deployment_unhealthy_at_once():
    found = after(seen_with(Phase.READY, status=HEALTHY), ev.ReplicaDied(R1))
    assert found.status.state is DeploymentState.UNHEALTHY
    assert found.replicas["r1"].phase is Phase.BROKEN


def test_a_killed_replica_is_forgotten():
    assert after(seen_with(Phase.KILLING), ev.ReplicaDied(R1)).replicas == {}


def test_a_failure_while_rolling_counts_towards_giving_up():
    found = after(seen_with(Phase.READY, attempts=Attempts(rolling=True)), ev.ReplicaDied(R1))
    assert found.attempts.failures == 1


def test_what_is_listed_is_to_be_recovered_once():
    seen = fold(Seen(), ev.Listed((R1,), ("n0",)), 5.0)
    assert seen.listed
    assert seen.deployments[MODEL].replicas["r1"].phase is Phase.LISTED
    assert set(seen.proxies) == {"n0"}


def described(**changes):
    fields = {
        "replica": R1,
        "process": Process("a:1", "n1"),
        "ready": True,
        "draining": False,
        "code_version": "v1",
        "options": DeploymentOptions(num_replicas=3),
        "route_prefix": "",
        "rank": None,
        "introduction": Introduction(),
        "started_at": 1.0,
    }
    return ev.ReplicaDescribed(**(fields | changes))


def test_a_described_replica_serves_with_the_version_it_was_built_from():
    found = after(seen_with(Phase.DESCRIBING), described())
    assert found.replicas["r1"].phase is Phase.READY
    assert found.replicas["r1"].build.version == wanted().version


def test_a_recovered_replica_that_drained_goes_on_to_drain():
    assert after(seen_with(Phase.DESCRIBING), described(draining=True)).replicas["r1"].retire == "draining"


def test_a_recovered_replica_that_constructs_what_is_wanted_goes_on_with_it():
    found = after(seen_with(Phase.DESCRIBING), described(ready=False, rank=ReplicaRank(2))).replicas["r1"]
    assert (found.phase, found.rank) == (Phase.LAUNCHED, ReplicaRank(2))


@pytest.mark.parametrize("changes", [{"code_version": ""}, {"code_version": "v0"}, {"draining": True}])
def test_a_recovered_replica_that_constructs_anything_else_or_nothing_is_to_be_killed(changes):
    found = after(seen_with(Phase.DESCRIBING), described(ready=False, **changes)).replicas["r1"]
    assert found.phase is Phase.BROKEN


def test_what_a_recovered_replica_that_is_to_be_killed_was_made_of_is_known_while_it_lives():
    gang = GangContext("g1", 0, 2, ("r1", "r2"))
    found = after(seen_with(Phase.DESCRIBING), described(ready=False, code_version="v0", gang=gang))
    assert found.replicas["r1"].build.version == wanted("v0").version
    assert found.gangs == {"g1": False}


def test_the_same_machines_stay_the_same_object():
    event = ev.NodesSeen((SeenNode("n0"),), Resources(free={"CPU": 1}))
    once = fold(Seen(), event, 1.0)
    again = fold(once, ev.NodesSeen((SeenNode("n0"),), Resources(free={"CPU": 0})), 2.0)
    assert again.cluster.nodes is once.cluster.nodes
    assert again.cluster.resources.free == {"CPU": 0}
