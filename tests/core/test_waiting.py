"""What users are told a deployment waits for."""

from control_pictures import deployment, ready, replica, wanted

from meshserve.core.seen import Attempts, Phase, Resources
from meshserve.core.waiting import text_changes_at, waiting_text

CLUSTER = Resources(total={"CPU": 2.0, "GPU": 1.0}, free={"CPU": 0.5, "GPU": 1.0})


def test_nothing_is_said_when_all_is_ready():
    want = wanted(number=2)
    assert waiting_text(deployment(want, *ready(want, 2)), CLUSTER, 1.0) == ""


def test_it_is_said_what_each_replica_does():
    want = wanted(number=3)
    seen = deployment(
        want, *ready(want, 1), replica("r7", Phase.INITIALIZING, want), replica("r8", Phase.LAUNCHING, want)
    )
    text = waiting_text(seen, CLUSTER, 1.0)
    assert "1 of 3 replicas are ready" in text
    assert "1 for the constructor" in text and "1 for a process" in text


def test_the_resource_that_is_short_is_named():
    want = wanted(number=1, ray_actor_options={"num_cpus": 1, "num_gpus": 1, "resources": {"fpga": 2}})
    text = waiting_text(deployment(want, replica("r1", Phase.LAUNCHING, want)), CLUSTER, 2.0)
    assert "CPU (needs 1, free 0.5 of 2)" in text and "fpga (needs 2, free 0 of 0)" in text
    assert "GPU" not in text


def test_with_enough_resources_slowness_has_other_reasons():
    want = wanted(number=1, ray_actor_options={"num_cpus": 0})
    seen = deployment(want, replica("r1", Phase.LAUNCHING, want))
    assert "runtime environment" not in waiting_text(seen, CLUSTER, 29.0)
    assert "runtime environment" in waiting_text(seen, CLUSTER, 30.0)


def test_a_slow_constructor_is_called_slow():
    want = wanted(number=1)
    seen = deployment(want, replica("r1", Phase.INITIALIZING, want))
    assert "30s" not in waiting_text(seen, CLUSTER, 29.9)
    assert "has 1 replicas that have taken more than 30s to initialize." in waiting_text(seen, CLUSTER, 30.0)


def test_what_is_called_slow_can_be_set():
    want = wanted(number=2)
    seen = deployment(want, replica("r1", Phase.LAUNCHING, want), replica("r2", Phase.LAUNCHING, want, since=5.0))
    assert text_changes_at(seen, 0.0, slow_s=1.0) == 1.0
    told = "Deployment 'Model' in application 'app' has 1 replicas that have taken more than 1s to be scheduled."
    assert told in waiting_text(seen, CLUSTER, 1.0, slow_s=1.0)


def test_failed_starts_say_how_many_more_there_will_be():
    want = wanted(number=2)
    seen = deployment(want, attempts=Attempts(failures=2, message="ValueError: no"))
    assert "Retrying 4 more time(s). Error:\nValueError: no" in waiting_text(seen, CLUSTER, 1.0)


def test_the_text_is_looked_at_again_when_it_changes_by_itself():
    want = wanted(number=1)
    seen = deployment(want, replica("r1", Phase.LAUNCHING, want))
    assert [text_changes_at(seen, now) for now in (0.0, 2.0, 30.0, 61.0)] == [2.0, 30.0, 60.0, 90.0]
