"""How users say that replicas start and end together, in Python and in files."""

import pytest
from pydantic import ValidationError

from meshserve import deployment
from meshserve.api.schema_export import entry_of, full_entry_of
from meshserve.config import GangPlacementStrategy, GangRuntimeFailurePolicy, GangSchedulingConfig
from meshserve.model.options import GangOptions
from meshserve.schema import DeploymentSchema
from meshserve.wire.options import options_from_json, options_to_json

PAIRS = {"gang_size": 2}


def made(**options):
    return deployment(**options)(type("Model", (), {}))


def entry(**fields):
    return DeploymentSchema.model_validate({"name": "Model", **fields})


def test_only_the_size_has_to_be_given():
    config = GangSchedulingConfig(gang_size=4)
    assert config.gang_placement_strategy is GangPlacementStrategy.PACK
    assert config.runtime_failure_policy is GangRuntimeFailurePolicy.RESTART_GANG
    assert config.to_options() == GangOptions(4)


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"gang_size": 0}, ValueError, "gang_size must be at least 1, not 0"),
        ({"gang_size": "2"}, ValueError, "gang_size must be an integer, not '2'"),
        (
            {"gang_size": 2, "gang_placement_strategy": "STRICT"},
            ValueError,
            "must be one of PACK, SPREAD, not 'STRICT'",
        ),
        ({"gang_size": 2, "runtime_failure_policy": "RESTART_REPLICA"}, NotImplementedError, "Use RESTART_GANG"),
    ],
)
def test_a_field_that_is_wrong_says_what_is_wanted(fields, error, said):
    with pytest.raises(error, match=said):
        GangSchedulingConfig(**fields)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_replicas": 5}, r"num_replicas \(5\) must be a multiple of gang_size \(2\)"),
        ({}, r"num_replicas \(1\) must be a multiple of gang_size \(2\)"),
        ({"num_replicas": 4, "max_replicas_per_node": 1}, "max_replicas_per_node is not allowed"),
        ({"num_replicas": 4, "placement_group_strategy": "PACK"}, "gang_placement_strategy instead"),
        ({"autoscaling_config": {"min_replicas": 3, "max_replicas": 3}}, "No multiple of gang_size"),
        ({"num_replicas": 4, "gang_scheduling_config": {}}, "needs the field 'gang_size'"),
        ({"num_replicas": 4, "gang_scheduling_config": {"size": 2}}, "has no field 'size'"),
    ],
)
def test_options_that_contradict_gangs_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        made(**{"gang_scheduling_config": PAIRS, **options})


def test_what_was_decorated_and_what_is_changed_are_checked_together():
    pairs = made(num_replicas=4, gang_scheduling_config=PAIRS)
    assert pairs.options(num_replicas=6).num_replicas == 6
    assert pairs.options(num_replicas=5, gang_scheduling_config=None)._options.gang_scheduling_config is None
    with pytest.raises(ValueError, match="must be a multiple"):
        pairs.options(num_replicas=5)
    with pytest.raises(ValueError, match="must be a multiple"):
        made(num_replicas=3).options(gang_scheduling_config=PAIRS)


@pytest.mark.parametrize(
    "options",
    [
        {"num_replicas": "auto"},
        {"num_replicas": 4, "placement_group_strategy": None, "max_replicas_per_node": None},
        {"num_replicas": 4, "placement_group_bundles": [{"CPU": 1}, {"CPU": 1}]},
        {"autoscaling_config": {"min_replicas": 1, "max_replicas": 9}},
    ],
)
def test_options_that_go_with_gangs(options):
    assert made(gang_scheduling_config=PAIRS, **options).options(name="Other")._options.gang_size == 2


def test_a_file_reads_what_python_reads():
    gangs = entry(num_replicas=4, gang_scheduling_config={"gang_size": 2, "gang_placement_strategy": "SPREAD"})
    assert gangs.gang_scheduling_config == GangSchedulingConfig(gang_size=2, gang_placement_strategy="SPREAD")
    assert entry(gang_scheduling_config=None).gang_scheduling_config is None
    assert "gang_scheduling_config" not in entry().overrides()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_replicas": 5}, r"num_replicas \(5\) must be a multiple of gang_size \(2\)"),
        (
            {"num_replicas": "auto", "autoscaling_config": {"min_replicas": 3}},
            r"autoscaling_config.min_replicas \(3\) must be a multiple",
        ),
        ({"max_replicas_per_node": 2}, "Setting max_replicas_per_node is not allowed when gang_scheduling_config"),
        ({"placement_group_strategy": "SPREAD"}, "Setting placement_group_strategy is not allowed when gang"),
        ({"gang_scheduling_config": {"gang_size": -1}}, "gang_size must be at least 1"),
        ({"gang_scheduling_config": 2}, "must be a GangSchedulingConfig or a dict"),
        ({"gang_scheduling_config": {"gang_size": 2, "runtime_failure_policy": "RESTART_REPLICA"}}, "not there yet"),
    ],
)
def test_a_file_with_a_mistake_about_gangs_is_refused(fields, said):
    with pytest.raises(ValidationError, match=said):
        entry(**{"gang_scheduling_config": PAIRS, **fields})


def test_what_was_written_can_be_written_to_a_file_and_to_the_store():
    model = made(num_replicas=4, gang_scheduling_config=GangSchedulingConfig(gang_size=2))
    gangs = {"gang_size": 2, "gang_placement_strategy": "PACK", "runtime_failure_policy": "RESTART_GANG"}
    assert entry_of("Model", model) == {"name": "Model", "num_replicas": 4, "gang_scheduling_config": gangs}
    bundled = model.options(placement_group_bundles=[{"CPU": 1}])
    assert entry(**full_entry_of("Model", bundled._options)).gang_scheduling_config.gang_size == 2
    assert options_from_json(options_to_json(bundled._options)) == bundled._options
