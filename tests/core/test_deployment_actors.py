"""Actors that replicas share: when they are made, kept and killed, and what their failures lead to."""

from dataclasses import replace

import pytest
from control_pictures import MODEL, deployment, ready, scene, wanted

from meshserve.core import actions as ac
from meshserve.core import events as ev
from meshserve.core.deployment import plan_deployment
from meshserve.core.fold import fold
from meshserve.core.seen import Phase, Seen, SeenDeployment
from meshserve.core.seen_actors import ActorChecks, ActorPhase
from meshserve.core.status import StatusEvent, transition
from meshserve.core.weights import actors_version, build_version
from meshserve.model.actor_environment import RESERVED, actor_environment, actor_in, reserved_in
from meshserve.model.ids import ActorId, DeploymentId
from meshserve.model.options import ActorOptions, DeploymentOptions
from meshserve.model.process_names import actor_name, actor_of
from meshserve.model.status import DeploymentState, Trigger

COUNTER = ActorOptions("counter", "app:Counter")
CACHE = ActorOptions("cache", "app:Cache")


def actor_id(want, name="counter"):
    return ActorId(MODEL, actors_version(want.version, want.spec.options), name)


def planned(seen: SeenDeployment, want, now=100.0):
    """The plan, without the actions about replicas' health."""
    part = plan_deployment(seen, want, scene(now))
    return part, [action for action in part.actions if not isinstance(action, ac.CheckReplica)]


def heard(seen: SeenDeployment, event, now=100.0) -> SeenDeployment:
    return fold(Seen(deployments={MODEL: seen}), event, now).deployments[MODEL]


def with_actors(want, *names, replicas=0) -> SeenDeployment:
    """A deployment whose actors are ready, and so many replicas."""
    seen, _ = planned(deployment(None), want)
    made = seen.seen
    for name in names:
        made = heard(made, ev.ActorReady(actor_id(want, name)))
    rest = {one.id.tag: one for one in ready(want, replicas)}
    return replace(made, replicas=rest, attempts=replace(made.attempts, succeeded=bool(replicas)))


def test_replicas_start_when_all_their_actors_are_ready():
    want = wanted(number=1, deployment_actors=(COUNTER, CACHE))
    part, actions = planned(deployment(None), want)
    assert [(type(one), one.actor.name) for one in actions] == [(ac.StartActor, "counter"), (ac.StartActor, "cache")]
    assert part.status.message == "0 of 2 deployment actors are ready."
    seen = heard(part.seen, ev.ActorReady(actor_id(want, "counter")))
    part, actions = planned(seen, want)
    assert not actions
    assert part.status.message == "1 of 2 deployment actors are ready."
    _, actions = planned(heard(part.seen, ev.ActorReady(actor_id(want, "cache"))), want)
    assert [type(one) for one in actions] == [ac.StartReplica]


def test_an_actor_has_the_environment_of_the_replicas_and_the_folders_of_the_application():
    environment = {"env_vars": {"A": "1"}}
    want = wanted(deployment_actors=(COUNTER,), ray_actor_options={"runtime_env": environment})
    want = replace(want, import_paths=("/code",))
    _, [start] = planned(deployment(None), want)
    assert (start.environment, start.import_paths, start.options) == (environment, ("/code",), COUNTER)


def test_an_update_has_the_actors_of_both_versions_until_no_old_replica_is_left():
    old, new = wanted("v1", 1, deployment_actors=(COUNTER,)), wanted("v2", 1, deployment_actors=(COUNTER,))
    seen = with_actors(old, "counter", replicas=1)
    part, actions = planned(seen, new)
    assert [(type(one), one.actor) for one in actions] == [(ac.StartActor, actor_id(new))]
    assert part.seen.replicas["r0"].phase is Phase.READY, "the old replica stays until the new actor is ready"
    part, actions = planned(heard(part.seen, ev.ActorReady(actor_id(new))), new)
    assert [type(one) for one in actions] == [ac.DrainReplica]
    gone = replace(part.seen, replicas={one.id.tag: one for one in ready(new, 1, first=5)})
    part, actions = planned(gone, new)
    assert actions == [ac.KillActor(actor_id(old))]
    part, _ = planned(heard(part.seen, ev.ActorDied(actor_id(old))), new)
    assert part.status.state is DeploymentState.HEALTHY


def test_the_same_code_keeps_its_actors_when_replicas_are_replaced_for_another_reason():
    options = DeploymentOptions(deployment_actors=(COUNTER,))
    more = replace(options, ray_actor_options={"num_cpus": 2})
    other = replace(options, deployment_actors=(replace(COUNTER, init_args=(1,)),))
    elsewhere = replace(options, ray_actor_options={"runtime_env": {"pip": ["x"]}})
    repickled = replace(options, deployment_actors=(replace(COUNTER, class_pickle="another"),))

    def versions(of):
        build = build_version("v1", of)
        return build, actors_version(build, of)

    assert versions(more)[0] != versions(options)[0] and versions(more)[1] == versions(options)[1]
    assert versions(repickled) == versions(options)
    assert versions(other)[0] != versions(options)[0] and versions(other)[1] != versions(options)[1]
    assert versions(elsewhere)[1] != versions(options)[1]
    assert actors_version("v1-0", DeploymentOptions()) == ""


def test_actors_that_fail_to_start_are_tried_again_and_then_the_version_is_given_up():
    want = wanted(number=1, deployment_actors=(COUNTER,), max_constructor_retry_count=2)
    part, _ = planned(deployment(None), want)
    seen = heard(part.seen, ev.ActorFailed(actor_id(want), "ValueError: no"))
    part, actions = planned(seen, want)
    assert actions == [ac.KillActor(actor_id(want))]
    assert "Retrying 1 more time(s). Error:\nDeployment actor 'counter' failed: ValueError: no" in part.status.message
    seen = heard(part.seen, ev.ActorDied(actor_id(want)))
    part, actions = planned(seen, want)
    assert not actions, "there is a pause after a failure"
    assert part.wake_at == 100.25
    part, actions = planned(part.seen, want, now=100.25)
    assert [type(one) for one in actions] == [ac.StartActor]
    seen = heard(part.seen, ev.ActorFailed(actor_id(want), "ValueError: no"))
    part, actions = planned(seen, want, now=101.0)
    assert (part.status.state, part.status.trigger) == (
        DeploymentState.DEPLOY_FAILED,
        Trigger.DEPLOYMENT_ACTOR_FAILED,
    )
    assert part.status.message.startswith("The deployment failed to start deployment actors 2 times in a row.")
    assert [type(one) for one in actions] == [ac.RecordFailure, ac.KillActor]
    part, actions = planned(heard(part.seen, ev.ActorDied(actor_id(want))), want, now=1000.0)
    assert not actions, "nothing more is tried"


def test_a_restarted_controller_knows_that_a_version_was_given_up_for_its_actors():
    want = wanted(deployment_actors=(COUNTER,))
    why = "The deployment failed to start deployment actors 2 times in a row. Error:\nno"
    part, actions = planned(deployment(None), replace(want, failure=why))
    assert not actions
    assert (part.status.state, part.status.trigger) == (
        DeploymentState.DEPLOY_FAILED,
        Trigger.DEPLOYMENT_ACTOR_FAILED,
    )
    part, _ = planned(deployment(None), replace(want, failure="its constructor raised"))
    assert part.status.trigger is Trigger.REPLICA_STARTUP_FAILED


def test_actors_that_were_ready_once_are_tried_for_ever():
    want = wanted(number=1, deployment_actors=(COUNTER,), max_constructor_retry_count=1)
    part, _ = planned(with_actors(want, "counter", replicas=1), want)
    seen, now = heard(part.seen, ev.ActorDied(actor_id(want))), 100.0
    for _ in range(5):
        part, actions = planned(seen, want, now)
        assert actions == [ac.KillActor(actor_id(want))]
        now += 20.0
        part, actions = planned(heard(part.seen, ev.ActorDied(actor_id(want)), now), want, now)
        assert [type(one) for one in actions] == [ac.StartActor]
        assert part.status.state is DeploymentState.UNHEALTHY
        seen = heard(part.seen, ev.ActorFailed(actor_id(want), "no"), now)
    assert "Retrying. Error" in plan_deployment(seen, want, scene(now)).status.message


def test_an_actor_that_dies_makes_the_deployment_unhealthy_until_it_is_there_again():
    want = wanted(number=1, deployment_actors=(COUNTER,))
    part, _ = planned(with_actors(want, "counter", replicas=1), want)
    assert part.status.state is DeploymentState.HEALTHY
    part, actions = planned(heard(part.seen, ev.ActorDied(actor_id(want))), want)
    assert (part.status.state, part.status.trigger) == (DeploymentState.UNHEALTHY, Trigger.HEALTH_CHECK_FAILED)
    assert "A deployment actor's health check failed." in part.status.message
    assert part.targets is not None
    assert [one.tag for one in part.targets.replicas] == ["r0"], "its replicas serve on"
    part, actions = planned(heard(part.seen, ev.ActorDied(actor_id(want))), want)
    assert [type(one) for one in actions] == [ac.StartActor]
    part, _ = planned(heard(part.seen, ev.ActorReady(actor_id(want))), want)
    assert part.status.state is DeploymentState.HEALTHY


def test_three_checks_that_fail_in_a_row_end_an_actor():
    want = wanted(number=1, deployment_actors=(COUNTER,))
    seen, now = with_actors(want, "counter", replicas=1), 100.0
    for outcome in ("bad", "bad", "good", "bad", "bad", "bad"):
        now += 20.0
        part, actions = planned(seen, want, now)
        assert actions == [ac.CheckActor(actor_id(want), 30.0)]
        actor = actor_id(want)
        event = ev.ActorHealthy(actor) if outcome == "good" else ev.ActorUnhealthy(actor, "it did not answer")
        seen = heard(part.seen, event, now)
    part, actions = planned(seen, want, now)
    assert actions == [ac.KillActor(actor_id(want))]
    assert "is made anew: it did not answer" in part.status.message


def test_how_the_health_of_actors_is_checked_is_a_setting():
    want, checks = wanted(number=1, deployment_actors=(COUNTER,)), ActorChecks(period_s=1.0, timeout_s=0.5, strikes=1)
    seen = planned(deployment(None), want)[0].seen
    world = Seen(deployments={MODEL: seen}, actor_checks=checks)
    world = fold(world, ev.ActorReady(actor_id(want)), 100.0)
    part = plan_deployment(world.deployments[MODEL], want, scene(101.5, actor_checks=checks))
    assert ac.CheckActor(actor_id(want), 0.5) in part.actions
    world = fold(replace(world, deployments={MODEL: part.seen}), ev.ActorUnhealthy(actor_id(want), "no answer"), 101.5)
    assert [one.phase for one in world.deployments[MODEL].actors.all.values()] == [ActorPhase.BROKEN]


def test_actors_stay_while_replicas_of_a_deleted_deployment_end_their_calls():
    want = wanted(number=1, deployment_actors=(COUNTER,))
    part, _ = planned(with_actors(want, "counter", replicas=1), want)
    deleting = replace(want, deleting=True)
    part, actions = planned(part.seen, deleting)
    assert [type(one) for one in actions] == [ac.DrainReplica]
    part, actions = planned(replace(part.seen, replicas={}), deleting)
    assert actions == [ac.KillActor(actor_id(want))]
    assert not part.over
    part, _ = planned(heard(part.seen, ev.ActorDied(actor_id(want))), deleting)
    assert part.over


def test_a_kill_that_shows_no_effect_is_repeated():
    want = wanted(number=0, deployment_actors=(COUNTER,))
    part, _ = planned(with_actors(want, "counter"), want)
    part, _ = planned(part.seen, replace(want, deleting=True))
    again, actions = planned(part.seen, part.seen.want)
    assert not actions and again.wake_at == 110.0
    _, actions = planned(again.seen, again.seen.want, now=110.0)
    assert actions == [ac.KillActor(actor_id(want))]


def test_a_restarted_controller_takes_actors_over_and_kills_those_that_nobody_knows():
    want = wanted(number=0, deployment_actors=(COUNTER,))
    stranger = ActorId(DeploymentId("app", "Gone"), "v0", "x")
    seen = fold(Seen(), ev.Listed((), (), (actor_id(want), stranger)), 100.0).deployments
    part, actions = planned(seen[MODEL], want)
    assert actions == [ac.FindActor(actor_id(want))]
    part, actions = planned(heard(part.seen, ev.ActorReady(actor_id(want))), want)
    assert not actions and part.status.state is DeploymentState.HEALTHY
    assert plan_deployment(seen[stranger.deployment], None, scene()).actions == (ac.KillActor(stranger),)


def test_actors_stay_while_it_is_not_known_what_recovered_replicas_are():
    want = wanted(number=1, deployment_actors=(COUNTER,))
    old = ActorId(MODEL, "old", "counter")
    unknown = replace(ready(want, 1)[0], phase=Phase.LISTED)
    seen = fold(Seen(), ev.Listed((unknown.id,), (), (old,)), 100.0).deployments[MODEL]
    part, _ = planned(seen, want)
    part, actions = planned(heard(part.seen, ev.ActorReady(old)), want)
    assert ac.KillActor(old) not in actions
    assert part.seen.actors.all["old", "counter"].phase is ActorPhase.READY
    _, actions = planned(heard(part.seen, ev.ReplicaLost(unknown.id)), want)
    assert ac.KillActor(old) in actions, "nobody else has this version"


def test_an_old_actor_that_dies_is_made_anew_while_old_replicas_need_it():
    old, new = wanted("v1", 1, deployment_actors=(COUNTER,)), wanted("v2", 1, deployment_actors=(COUNTER,))
    part, _ = planned(with_actors(old, "counter", replicas=1), new)
    part, _ = planned(heard(part.seen, ev.ActorDied(actor_id(old))), new)
    assert part.status.state is DeploymentState.UPDATING, "the version that is wanted is not concerned"
    _, actions = planned(heard(part.seen, ev.ActorDied(actor_id(old))), new)
    assert [one.actor for one in actions if isinstance(one, ac.StartActor)] == [actor_id(old)]


@pytest.mark.parametrize("name", ["counter", "a::b", "a%3Ab", "", "a:"])
def test_an_actors_name_tells_which_it_is(name):
    actor = ActorId(DeploymentId("app", "Model"), "v1-0", name)
    assert actor_of(actor_name(actor)) == actor
    assert actor_of("MESHSERVE_PROXY-node") is None


def test_plain_names_are_written_as_they_are():
    actor = ActorId(DeploymentId("app", "Model"), "v1-0", "counter")
    assert actor_name(actor) == "MESHSERVE_DEPLOYMENT_ACTOR::app::Model::v1-0::counter"


def test_an_actor_learns_what_it_is_from_its_environment():
    actor = ActorId(MODEL, "v1-0", "counter")
    outer, own = {"pip": ["x"], "env_vars": {"A": "1", "B": "1"}}, {"env_vars": {"B": "2"}}
    environment = actor_environment(actor, outer, own)
    assert environment["pip"] == ["x"]
    assert (environment["env_vars"]["A"], environment["env_vars"]["B"]) == ("1", "2")
    assert actor_in(environment["env_vars"]) == actor
    assert actor_in({"A": "1"}) is None
    assert reserved_in(environment) == sorted(RESERVED)
    assert not reserved_in(outer)


def test_an_actor_imports_from_where_its_application_does():
    actor = ActorId(MODEL, "v1-0", "counter")
    assert actor_environment(actor, {}, {}, ("/a", "/b"))["env_vars"]["PYTHONPATH"] == "${PYTHONPATH}:/a:/b"
    own = {"env_vars": {"PYTHONPATH": "/mine"}}
    assert actor_environment(actor, {}, own, ("/a",))["env_vars"]["PYTHONPATH"] == "/mine:/a"
    assert "PYTHONPATH" not in actor_environment(actor, {}, {})["env_vars"]


def test_failing_actors_are_their_own_reason_for_a_failed_deploy():
    status = transition(deployment(None).status, StatusEvent.ACTORS_FAILED, "why")
    assert (status.state, status.trigger, status.message) == ("DEPLOY_FAILED", "DEPLOYMENT_ACTOR_FAILED", "why")
