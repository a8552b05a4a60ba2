"""`model.replace` gives what the standard function gives."""

import dataclasses
import pickle
from dataclasses import dataclass, field

import pytest
from control_pictures import deployment, replica, wanted

from meshserve.core.seen import Cluster, Health, Phase, Seen
from meshserve.model.control import Desired
from meshserve.model.options import DeploymentOptions
from meshserve.model.replace import record, replace
from meshserve.model.status import DeploymentState, DeploymentStatus, Trigger

CHANGES = [
    (Seen(), {"number": 3, "listed": True}),
    (Health(), {"strikes": 2}),
    (Cluster(), {}),
    (Desired(), {"generation": 7}),
    (DeploymentOptions(), {"user_config": {"a": 1}}),
    (replica("r1", Phase.READY, wanted()), {"phase": Phase.DRAINING, "since": 4.0}),
    (deployment(wanted()), {"since": 9.0}),
]


@pytest.mark.parametrize(("before", "changes"), CHANGES, ids=lambda value: type(value).__name__)
def test_a_copy_differs_in_what_was_changed_and_in_nothing_else(before, changes):
    untouched = dataclasses.replace(before)
    after = replace(before, **changes)
    assert after == dataclasses.replace(before, **changes)
    assert before == untouched
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(after, dataclasses.fields(after)[0].name, None)


def test_fields_that_are_not_there_are_refused():
    with pytest.raises(AttributeError, match="strike"):
        replace(Health(), strike=1)


def test_a_class_that_looks_at_its_fields_is_refused():
    @dataclass(frozen=True, slots=True)
    class Checked:
        value: int

        def __post_init__(self) -> None:
            assert self.value

    with pytest.raises(TypeError, match=r"dataclasses\.replace"):
        replace(Checked(1), value=0)


def test_a_record_is_made_as_dataclasses_are():
    made = DeploymentStatus(DeploymentState.HEALTHY, trigger=Trigger.UNSPECIFIED)
    assert (made.state, made.trigger, made.message) == (DeploymentState.HEALTHY, Trigger.UNSPECIFIED, "")
    assert made == DeploymentStatus(DeploymentState.HEALTHY, Trigger.UNSPECIFIED, "")
    assert hash(made) == hash(dataclasses.replace(made))
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(TypeError, match="state"):
        DeploymentStatus()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.message = "ill"


def test_a_record_has_no_default_factories():
    with pytest.raises(TypeError, match=r"Crowd has default factories, for \['names'\]"):

        @record
        class Crowd:
            names: list[str] = field(default_factory=list)
