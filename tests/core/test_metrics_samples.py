"""Prometheus text is read back as it was written."""

from meshserve.telemetry import catalogue
from meshserve.telemetry.exposition import render
from meshserve.telemetry.registry import Registry
from meshserve.telemetry.replica import ReplicaMetrics
from meshserve.telemetry.samples import samples


def test_what_was_written_is_read_whatever_is_in_the_labels():
    registry = Registry()
    nasty = 'a "quoted\\ name}\nin two lines'
    registry.recorder(ReplicaMetrics, nasty, "Model").ended("go", 0.01, None)
    text = render(registry.collect(), {"replica": "r1"})
    wanted = frozenset({catalogue.REPLICA_CALLS.name, f"{catalogue.REPLICA_DURATION.name}_bucket"})
    found = list(samples(text, wanted))
    assert (
        catalogue.REPLICA_CALLS.name,
        {"application": nasty, "deployment": "Model", "method": "go", "outcome": "ok", "replica": "r1"},
        1.0,
    ) in found
    assert {name for name, _, _ in found} == wanted
    assert [value for _, labels, value in found if labels.get("le") == "+Inf"] == [1.0]


def test_series_without_labels_are_read_too():
    assert list(samples(b"# TYPE up gauge\nup 1\nother 2\n", frozenset({"up"}))) == [("up", {}, 1.0)]
