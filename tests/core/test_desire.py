"""What changes make of desired state, and what lies in the store of it."""

from dataclasses import replace

import pytest
from control_pictures import MODEL

from meshserve.core import desire
from meshserve.core.refusals import Refused, check_applications, check_scale
from meshserve.model.control import ApplicationSpec, CountSource, DeploymentSpec, Desired, ProxyOptions, Source
from meshserve.model.declared import FULL, Capacity, CapacityDirection
from meshserve.model.ids import DeploymentId
from meshserve.model.options import AutoscalingOptions, DeploymentOptions
from meshserve.wire.stored import application_from_record, application_record, code_keys

OTHER = DeploymentId("app", "Other")


def app(*deployments, name="app", prefix=None, **fields):
    return ApplicationSpec(name, deployments, deployments[0].id.name, prefix, **fields)


def spec(deployment=MODEL, version="v1", **options):
    return DeploymentSpec(deployment, version, DeploymentOptions(**options), version.encode(), (OTHER,))


def test_setting_one_application_leaves_the_others_as_they_are():
    second = app(spec(DeploymentId("second", "D")), name="second")
    desired = desire.set_applications(Desired(), [app(spec()), second], 1.0)
    after = desire.set_applications(desired, [second], 2.0)
    assert after.deployments[MODEL] is desired.deployments[MODEL]
    assert after.applications["app"] is desired.applications["app"]
    assert (desired.generation, after.applications["second"].generation) == (1, 2)


def test_a_deployment_that_is_left_out_goes_away_and_may_come_back():
    desired = desire.set_applications(Desired(), [app(spec(), spec(OTHER))], 1.0)
    dropped = desire.set_applications(desired, [app(spec())], 2.0)
    assert dropped.deployments[OTHER].deleting
    assert [one.id for one in dropped.applications["app"].dropped] == [OTHER]
    back = desire.set_applications(dropped, [app(spec(), spec(OTHER))], 3.0)
    assert not back.deployments[OTHER].deleting and not back.applications["app"].dropped
    gone = desire.forget(dropped, "app", 2)
    assert OTHER not in gone.deployments and MODEL in gone.deployments
    assert desire.forget(back, "app", 2) is back, "it was set again meanwhile"


def test_deleting_twice_or_the_unknown_changes_nothing():
    desired = desire.set_applications(Desired(), [app(spec())], 1.0)
    once = desire.delete_applications(desired, ["app"])
    assert once.deployments[MODEL].deleting
    assert desire.delete_applications(once, ["app", "nobody"]) is once


def test_counts_are_kept_by_the_autoscaler_within_its_bounds_and_set_by_people():
    auto = AutoscalingOptions(min_replicas=1, max_replicas=8)
    desired = desire.set_applications(Desired(), [app(spec(autoscaling_config=auto))], 1.0)
    assert desired.deployments[MODEL].count == 1
    desired = desire.set_count(desired, MODEL, 6, CountSource.AUTOSCALER)
    narrower = AutoscalingOptions(min_replicas=1, max_replicas=4)
    assert desire.set_applications(desired, [app(spec(autoscaling_config=narrower))], 2.0).deployments[MODEL].count == 4
    assert desire.set_applications(desired, [app(spec(num_replicas=2))], 2.0).deployments[MODEL].count == 2


def test_a_count_that_another_target_capacity_forbids_is_changed_by_people():
    auto = AutoscalingOptions(min_replicas=2, max_replicas=8)
    full = app(spec(autoscaling_config=auto), source=Source.DECLARATIVE)
    desired = desire.set_applications(Desired(), [full], 1.0)
    desired = desire.set_count(desired, MODEL, 8, CountSource.AUTOSCALER)
    half = replace(desired, capacity=Capacity(50.0, CapacityDirection.DOWN))
    found = desire.set_applications(half, [full], 2.0).deployments[MODEL]
    assert (found.count, found.count_source) == (4, CountSource.PEOPLE)
    again = desire.set_applications(replace(half, capacity=FULL), [full], 3.0).deployments[MODEL]
    assert (again.count, again.count_source) == (8, CountSource.AUTOSCALER)


def test_another_count_is_no_new_attempt_and_another_version_is():
    desired = desire.set_applications(Desired(), [app(spec())], 1.0)
    failed = desire.set_failure(desired, MODEL, desired.deployments[MODEL].version, "broken")
    assert desire.set_failure(desired, MODEL, "another version", "broken") is desired
    assert desire.set_applications(failed, [app(spec(num_replicas=5))], 2.0).deployments[MODEL].failure == "broken"
    assert not desire.set_applications(failed, [app(spec(version="v2"))], 2.0).deployments[MODEL].failure


def test_the_first_proxy_options_stay():
    desired = desire.set_proxies(Desired(), ProxyOptions("HeadOnly"))
    assert desire.set_proxies(desired, ProxyOptions("Disabled")) is desired


def test_what_is_stored_is_what_is_read():
    full = app(
        spec(user_config={"a": [1]}, autoscaling_config=AutoscalingOptions(max_replicas=9)),
        spec(OTHER),
        prefix="/x",
        external_scaler_enabled=True,
        import_paths=("/src",),
        grpc_servicer_functions=("a:b",),
        source=Source.DECLARATIVE,
        logging_config_json="{}",
    )
    desired = desire.set_applications(Desired(), [full], 12.5)
    desired = desire.set_count(desired, MODEL, 7, CountSource.AUTOSCALER)
    desired = desire.set_failure(desired, MODEL, desired.deployments[MODEL].version, "broken")
    desired = desire.set_applications(desired, [full], 13.0)
    desired = desire.set_count(desired, MODEL, 7, CountSource.AUTOSCALER)
    record = application_record(desired.applications["app"], desired)
    code = {key: key[1].encode() for key in code_keys(record)}
    application, deployments = application_from_record(record, code)
    assert application == desired.applications["app"]
    restored = desire.restore(desired.generation, [(application, deployments)], None, False)
    assert restored == desired
    assert restored.deployments[MODEL].spec.code == b"v1"


def test_dropped_deployments_are_stored_as_going_away_without_code():
    desired = desire.set_applications(Desired(), [app(spec(), spec(OTHER))], 1.0)
    desired = desire.set_applications(desired, [app(spec())], 2.0)
    record = application_record(desired.applications["app"], desired)
    assert code_keys(record) == (("Model", "v1"),)
    _, deployments = application_from_record(record, {})
    assert {one.spec.id: one.deleting for one in deployments} == {MODEL: False, OTHER: True}


def test_a_prefix_may_move_when_its_owner_goes_away():
    desired = desire.set_applications(Desired(), [app(spec(), prefix="/x")], 1.0)
    taker = app(spec(DeploymentId("second", "D")), name="second", prefix="/x")
    with pytest.raises(Refused, match="already used by application 'app'"):
        check_applications(desired, [taker])
    check_applications(desire.delete_applications(desired, ["app"]), [taker])
    check_applications(desired, [taker, app(spec(), prefix="/y")])


def test_a_mesh_that_shuts_down_takes_nothing_new():
    with pytest.raises(Refused, match="shutting down"):
        check_applications(desire.shut_down(Desired()), [app(spec())])


def test_scaling_from_outside_needs_leave():
    desired = desire.set_applications(Desired(), [app(spec())], 1.0)
    for wrong, why in ((MODEL, "external_scaler_enabled"), (DeploymentId("app", "Nobody"), "no deployment")):
        with pytest.raises(Refused, match=why):
            check_scale(desired, wrong)
    allowed = desire.set_applications(Desired(), [app(spec(), external_scaler_enabled=True)], 1.0)
    check_scale(allowed, MODEL)
    with pytest.raises(Refused, match="being deleted"):
        check_scale(desire.delete_applications(allowed, ["app"]), MODEL)


def test_an_application_has_one_scaler():
    both = app(spec(autoscaling_config=AutoscalingOptions()), external_scaler_enabled=True)
    with pytest.raises(Refused, match="scaled from outside"):
        check_applications(Desired(), [both])
