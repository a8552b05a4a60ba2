"""The events of the mesh: what is different between two plans, as people read it."""

from dataclasses import replace

from control_pictures import MODEL, wanted
from test_plan import running

from meshserve.core import desire
from meshserve.core import events as ev
from meshserve.core.chronicle import Happening, happenings
from meshserve.core.fold import fold
from meshserve.core.plan import Plan, plan
from meshserve.core.seen import Seen
from meshserve.model.control import ApplicationSpec, Desired, ProxyOptions
from meshserve.model.status import DeploymentState

APP = ApplicationSpec("app", (wanted(number=2).spec,), "Model", "/")
DESIRED = desire.set_applications(Desired(), [APP], 0.0)


def texts(before: Plan, after: Plan) -> list[str]:
    return [one.text for one in happenings(before, after)]


def test_between_equal_plans_nothing_has_happened():
    now = running(DESIRED)
    assert texts(now, plan(DESIRED, now.seen, 2.0, str, now)) == []


def test_an_application_that_comes_up_is_told_with_its_deployments_and_replicas():
    now = running(DESIRED)
    found = texts(Plan(DESIRED, Seen()), now)
    tags = list(now.seen.deployments[MODEL].replicas)
    assert found == [
        *(f"Replica {tag} of 'Model' is RUNNING." for tag in tags),
        "Deployment 'Model' is HEALTHY.",
        "Application 'app' is RUNNING.",
    ]


def test_a_replica_that_dies_is_told_as_bad_and_one_that_was_told_to_stop_is_not():
    now = running(DESIRED)
    first = next(iter(now.seen.deployments[MODEL].replicas.values()))
    after = plan(DESIRED, fold(now.seen, ev.ReplicaDied(first.id), 3.0), 3.0, lambda: "new", now)
    died = next(one for one in happenings(now, after) if one.replica == first.id.tag)
    assert died.bad and died.text.startswith(f"Replica {first.id.tag} of 'Model' has failed")
    fewer = desire.set_applications(DESIRED, [replace(APP, deployments=(wanted(number=1).spec,))], 4.0)
    (stopping,) = [one for one in happenings(now, plan(fewer, now.seen, 4.0, str, now)) if one.replica]
    assert "is STOPPING" in stopping.text and not stopping.bad


def test_what_failed_is_part_of_the_sentence():
    now = running(DESIRED)
    part = now.parts.all[MODEL]
    bad = replace(part, status=replace(part.status, state=DeploymentState.UNHEALTHY, message="no memory"))
    after = replace(now, parts=replace(now.parts, all={MODEL: bad}, changed=(MODEL,)))
    assert list(happenings(now, after)) == [
        Happening("Deployment 'Model' is UNHEALTHY: no memory", True, "app", "Model")
    ]


def test_what_goes_away_is_told():
    now = running(DESIRED)
    gone = replace(now, parts=replace(now.parts, all={}, changed=()), seen=replace(now.seen, applications={}))
    assert texts(now, gone) == ["Deployment 'Model' is gone.", "Application 'app' is gone."]


def test_proxies_are_told_by_their_nodes():
    desired = desire.set_proxies(DESIRED, ProxyOptions())
    before = running(DESIRED)
    assert "The proxy of node n0 is STARTING." in texts(before, plan(desired, before.seen, 3.0, str, before))
