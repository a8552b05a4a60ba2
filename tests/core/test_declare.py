"""Desired state by configuration files: what is built, set, kept and deleted."""

import json

import pytest

from meshserve.core.applications import application_status
from meshserve.core.declare import declare, finish_build, to_build
from meshserve.core.declared_changes import changes, config_in_force, ignored_options
from meshserve.core.desire import delete_applications, set_applications
from meshserve.model.control import ApplicationSpec, Build, Declared, DeploymentSpec, Desired, ProxyOptions, Source
from meshserve.model.declared import ChangeKind, Declaration
from meshserve.model.ids import DeploymentId
from meshserve.model.options import DeploymentOptions
from meshserve.model.status import ApplicationState


def declaration(name="app", code="v1", **entry):
    return Declaration(name, json.dumps({"name": name, **entry}), (), code, f"/{name}")


def file(*declarations, capacity=None, **fields):
    text = json.dumps({"applications": [json.loads(one.config_json) for one in declarations], **fields})
    return Declared(text, declarations, ProxyOptions(), capacity)


def base(name="app", version="v1", source=Source.DECLARATIVE):
    model = DeploymentSpec(DeploymentId(name, "Model"), version, DeploymentOptions(num_replicas=4))
    other = DeploymentSpec(DeploymentId(name, "Other"), version, DeploymentOptions())
    return ApplicationSpec(name, (model, other), "Model", f"/{name}", source=source)


def merge(build, declared):
    if "wrong" in declared.config_json:
        raise ValueError("it does not fit")
    assert build.base is not None
    return build.base


def apply(desired, wanted):
    return declare(desired, wanted, 1.0, merge)


def built(wanted, desired=None):
    """A desired state with all of a file built."""
    after = apply(desired or Desired(), wanted)
    for name, one in to_build(after).items():
        after = finish_build(after, name, Build(one.code_key, base(name, one.code_key)), merge)
    return after


def state(desired, name="app"):
    return application_status(desired.applications[name], {}, None, False).state


def test_an_application_is_built_before_it_has_deployments():
    desired = apply(Desired(), file(declaration()))
    assert list(to_build(desired)) == ["app"]
    assert state(desired) is ApplicationState.DEPLOYING
    assert not desired.deployments
    desired = built(file(declaration()))
    assert not to_build(desired)
    assert set(desired.deployments) == {DeploymentId("app", "Model"), DeploymentId("app", "Other")}


def test_the_same_file_returns_the_same_desired_state():
    wanted = file(declaration(), declaration("second"))
    desired = built(wanted)
    assert apply(desired, wanted) is desired


def test_only_what_a_file_changes_becomes_another_object():
    desired = built(file(declaration(), declaration("second")))
    after = apply(desired, file(declaration(), declaration("second", args={"a": 1})))
    assert after.applications["app"] is desired.applications["app"]
    assert after.applications["second"] is not desired.applications["second"]
    assert all(after.deployments[one] is desired.deployments[one] for one in desired.deployments)


def test_an_outcome_that_is_no_longer_wanted_is_ignored():
    desired = apply(Desired(), file(declaration(code="v1")))
    newer = apply(desired, file(declaration(code="v2")))
    assert finish_build(newer, "app", Build("v1", base()), merge) is newer
    gone = delete_applications(desired, ["app"])
    assert not to_build(gone)
    assert finish_build(gone, "app", Build("v1", base()), merge) is gone


@pytest.mark.parametrize("build", [Build("v2", failure="it raised"), Build("v2", base(version="v2"))])
def test_what_ran_goes_on_when_its_successor_fails(build):
    desired = built(file(declaration(code="v1")))
    failed = finish_build(apply(desired, file(declaration(code="v2", args="wrong"))), "app", build, merge)
    assert state(failed) is ApplicationState.DEPLOY_FAILED
    assert failed.deployments == desired.deployments
    again = apply(failed, file(declaration(code="v1")))
    assert built(file(declaration(code="v1")), failed).deployments == desired.deployments
    assert state(again) is ApplicationState.DEPLOYING


def test_applications_of_programs_stay_and_may_be_taken_over():
    desired = set_applications(Desired(), [base("by-hand", source=Source.IMPERATIVE)], 1.0)
    after = apply(desired, file(declaration()))
    assert after.applications["by-hand"] is desired.applications["by-hand"]
    taken = apply(after, file(declaration("by-hand")))
    assert list(to_build(taken)) == ["by-hand"]
    assert taken.applications["app"].deleting
    assert taken.deployments == desired.deployments, "it serves until its successor is built"
    back = set_applications(taken, [base("by-hand", source=Source.IMPERATIVE)], 2.0)
    assert not to_build(back)
    assert not apply(back, file()).applications["by-hand"].deleting


def test_capacity_scales_what_is_declared():
    wanted = declaration()
    desired = built(file(wanted, capacity=50))
    counts = {key.name: one.count for key, one in desired.deployments.items()}
    assert counts == {"Model": 2, "Other": 1}
    full = apply(desired, file(wanted))
    assert full.deployments[DeploymentId("app", "Model")].count == 4
    assert full.deployments[DeploymentId("app", "Other")] is desired.deployments[DeploymentId("app", "Other")]


def test_changes_name_what_happens_and_where():
    model = {"name": "Model", "num_replicas": 2}
    desired = built(file(declaration(deployments=[model], args={"a": 1}), declaration("gone")))
    desired = set_applications(desired, [base("by-hand", source=Source.IMPERATIVE)], 1.0)
    after = declaration(deployments=[{"name": "Other"}, {**model, "num_replicas": 3}], args={"a": 1})
    told = changes(desired, file(after, declaration("new"), declaration("by-hand")))
    assert {one.app: one.kind for one in told} == {
        "app": ChangeKind.UPDATE,
        "new": ChangeKind.ADD,
        "by-hand": ChangeKind.REBUILD,
        "gone": ChangeKind.DELETE,
    }
    assert [(one.path, one.before, one.after) for one in told[0].fields] == [
        ("deployments[Model].num_replicas", "2", "3"),
        ("deployments[Other]", "", "{}"),
    ]


def test_the_file_in_force_has_what_lives_and_names_options_that_came_too_late():
    started = ProxyOptions("HeadOnly", '{"port": 8000}')
    wanted = Declared(
        json.dumps({"http_options": {"port": 8001}, "applications": [{"name": "app"}, {"name": "second"}]}),
        (declaration(), declaration("second")),
        ProxyOptions("EveryNode", '{"port": 8001}'),
    )
    desired = apply(Desired(proxies=started), wanted)
    assert ignored_options(desired, wanted) == ("http_options.port",), "the location was not written"
    desired = delete_applications(desired, ["app"])
    assert json.loads(config_in_force(desired))["applications"] == [{"name": "second"}]
    assert config_in_force(Desired()) == ""
