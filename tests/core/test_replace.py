"""`model.replace` gives what the standard function gives."""

import dataclasses
from dataclasses import dataclass

import pytest
from control_pictures import deployment, replica, wanted

from meshserve.core.seen import Cluster, Health, Phase, Seen
from meshserve.model.control import Desired
from meshserve.model.options import DeploymentOptions
from meshserve.model.replace import replace

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
    with pytest.raises(KeyError, match="strike"):
        replace(Health(), strike=1)


def test_a_class_that_looks_at_its_fields_is_refused():
    @dataclass(frozen=True, slots=True)
    class Checked:
        value: int

        def __post_init__(self) -> None:
            assert self.value

    with pytest.raises(TypeError, match=r"dataclasses\.replace"):
        replace(Checked(1), value=0)
