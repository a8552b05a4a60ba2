"""The plan of a whole mesh, small enough to be read."""

from dataclasses import replace

from control_pictures import MODEL, wanted

from meshserve.core import desire, parts
from meshserve.core import events as ev
from meshserve.core.actions import (
    CheckReplica,
    ClearStore,
    Forget,
    ListProcesses,
    LookAtNodes,
    StartProxy,
    StartReplica,
)
from meshserve.core.fold import fold
from meshserve.core.plan import plan
from meshserve.core.seen import Introduction, Process, ProxyReport, Resources, Seen, SeenNode
from meshserve.model.control import ApplicationSpec, CountSource, DeploymentSpec, Desired, ProxyOptions
from meshserve.model.ids import DeploymentId
from meshserve.model.options import AutoscalingOptions, DeploymentOptions
from meshserve.model.status import ApplicationState, DeploymentState, ProxyState, Trigger

HEAD = ev.NodesSeen((SeenNode("n0", is_head=True),), Resources())
APP = ApplicationSpec("app", (wanted(number=2).spec,), "Model", "/")


def never() -> str:
    raise AssertionError("nothing is to be started")


def tag() -> str:
    tag.last = getattr(tag, "last", 0) + 1
    return f"t{tag.last}"


def running(desired: Desired):
    """The plan once everything that was asked for has gone well."""
    seen = fold(fold(Seen(), ev.Listed((), ()), 0.0), HEAD, 0.0)
    now = plan(desired, replace(seen, listing=True), 0.0, tag)
    for replica in list(now.seen.deployments[MODEL].replicas.values()):
        seen = fold(now.seen, ev.ReplicaLaunched(replica.id, Process("a:1", "n0")), 1.0)
        now = plan(desired, seen, 1.0, never, now)
        now = plan(desired, fold(now.seen, ev.ReplicaReady(replica.id, Introduction()), 2.0), 2.0, never, now)
    return now


def test_first_it_is_found_out_what_runs_and_nothing_is_published():
    now = plan(desire.set_applications(Desired(), [APP], 0.0), Seen(), 0.0, never)
    assert {type(action) for action in now.actions} == {ListProcesses, LookAtNodes}
    assert not now.targets and now.routes is None


def test_replicas_and_proxies_start_together():
    desired = desire.set_proxies(desire.set_applications(Desired(), [APP], 0.0), ProxyOptions())
    seen = fold(fold(Seen(listing=True), ev.Listed((), ()), 0.0), HEAD, 0.0)
    now = plan(desired, seen, 0.0, tag)
    assert [type(action) for action in now.actions] == [StartReplica, StartReplica, StartProxy]
    assert now.routes is not None and now.routes.applications[0].route_prefix == "/"


def test_a_deployment_is_published_when_ready_and_the_application_runs():
    desired = desire.set_applications(Desired(), [APP], 0.0)
    now = running(desired)
    published = now.seen.deployments[MODEL].published
    assert published is not None and len(published.replicas) == 2
    assert now.seen.applications["app"].state is ApplicationState.RUNNING
    assert now.seen.applications["app"].generation == desired.generation


def test_an_application_is_not_called_running_before_its_proxies_know_its_route():
    desired = desire.set_proxies(desire.set_applications(Desired(), [APP], 0.0), ProxyOptions())
    now = running(desired)
    old = ProxyReport(routes=(1, 0))
    seen = fold(now.seen, ev.ProxyLaunched("n0", Process("p:1", "n0")), 2.0)
    proxy = replace(seen.proxies["n0"], status=ProxyState.HEALTHY, report=old)
    seen = replace(seen, proxies={"n0": proxy}, routes_at=2.0, applications={})
    waiting = plan(desired, seen, 2.1, never)
    assert waiting.seen.applications["app"].state is ApplicationState.DEPLOYING
    caught_up = replace(proxy, report=ProxyReport(routes=seen.routes.version))
    after = plan(desired, replace(waiting.seen, proxies={"n0": caught_up}), 2.2, never, waiting)
    assert after.seen.applications["app"].state is ApplicationState.RUNNING


def test_health_is_checked_when_it_is_due_and_not_before():
    desired = desire.set_applications(Desired(), [APP], 0.0)
    now = running(desired)
    assert 11.0 <= now.wake_at <= 13.5 or now.wake_at == 5.0
    later = plan(desired, replace(now.seen, cluster=replace(now.seen.cluster, looking=True)), 14.0, never, now)
    assert [type(action) for action in later.actions] == [CheckReplica, CheckReplica]


def test_scaling_by_the_autoscaler_and_by_people_is_told_apart():
    desired = desire.set_applications(Desired(), [APP], 0.0)
    now = running(desired)
    for source, trigger in (
        (CountSource.AUTOSCALER, Trigger.AUTOSCALING),
        (CountSource.PEOPLE, Trigger.CONFIG_UPDATE_STARTED),
    ):
        more = desire.set_count(desired, MODEL, 3, source)
        status = plan(more, now.seen, 3.0, tag, now).parts.all[MODEL].status
        assert (status.state, status.trigger) == (DeploymentState.UPSCALING, trigger)
        assert status.message.startswith("Upscaling from 2 to 3 replicas.")


def test_callers_end_first_and_the_application_is_forgotten_last():
    caller, callee = DeploymentId("app", "Model"), DeploymentId("app", "Callee")
    spec = ApplicationSpec(
        "app",
        (
            DeploymentSpec(caller, "v1", DeploymentOptions(num_replicas=0), uses=(callee,)),
            DeploymentSpec(callee, "v1", DeploymentOptions(num_replicas=0)),
        ),
        "Model",
    )
    desired = desire.delete_applications(desire.set_applications(Desired(), [spec], 0.0), ["app"])
    seen = fold(fold(Seen(listing=True), ev.Listed((), ()), 0.0), HEAD, 0.0)
    now = plan(desired, seen, 0.0, never)
    assert Forget("app", 2) in now.actions
    assert plan(desired, now.seen, 0.0, never, now).actions == ()


def test_a_mesh_that_has_stopped_clears_its_store_once():
    desired = desire.shut_down(Desired())
    seen = fold(fold(Seen(listing=True), ev.Listed((), ()), 0.0), HEAD, 0.0)
    now = plan(desired, seen, 0.0, never)
    assert now.over and now.actions == (ClearStore(),)
    assert plan(desired, now.seen, 0.0, never, now).actions == ()


def test_a_fault_in_one_deployment_leaves_the_others_alone(monkeypatch):
    other = ApplicationSpec("other", (DeploymentSpec(DeploymentId("other", "D"), "v1"),), "D")
    desired = desire.set_applications(Desired(), [APP, other], 0.0)
    real = parts.plan_deployment

    def faulty(deployment, want, scene):
        if deployment.id == MODEL:
            raise ZeroDivisionError("a bug")
        return real(deployment, want, scene)

    monkeypatch.setattr(parts, "plan_deployment", faulty)
    seen = fold(fold(Seen(listing=True), ev.Listed((), ()), 0.0), HEAD, 0.0)
    now = plan(desired, seen, 0.0, tag)
    assert now.parts.all[MODEL].status.trigger is Trigger.INTERNAL_ERROR
    assert [action.replica.deployment.app for action in now.actions if isinstance(action, StartReplica)] == ["other"]
    assert now.wake_at <= 5.0


def test_an_autoscaled_deployment_begins_with_its_initial_count_and_keeps_its_own():
    auto = AutoscalingOptions(min_replicas=1, max_replicas=8, initial_replicas=4)
    spec = ApplicationSpec("app", (DeploymentSpec(MODEL, "v1", DeploymentOptions(autoscaling_config=auto)),), "Model")
    desired = desire.set_applications(Desired(), [spec], 0.0)
    assert desired.deployments[MODEL].count == 4
    desired = desire.set_count(desired, MODEL, 7, CountSource.AUTOSCALER)
    assert desire.set_applications(desired, [spec], 1.0).deployments[MODEL].count == 7
