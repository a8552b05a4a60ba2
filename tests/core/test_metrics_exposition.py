"""From what was counted to Prometheus text, and from many texts to one."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from meshserve.model.failure import FailureKind
from meshserve.telemetry.caller import RouterMetrics
from meshserve.telemetry.exposition import render
from meshserve.telemetry.ingress import HttpMetrics
from meshserve.telemetry.merging import Tombstones, merge
from meshserve.telemetry.registry import Registry
from meshserve.telemetry.replica import MAX_METHODS, ReplicaMetrics
from meshserve.telemetry.series import Histogram

CALLS = "meshserve_replica_calls_total"
DURATION = "meshserve_replica_call_duration_seconds"


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every series by name and labels; fails for one that is there twice, or for a family that is."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    families = list(text_string_to_metric_families(text.decode()))
    assert len({family.name for family in families}) == len(families)
    for family in families:
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def value(text: bytes, name: str, **labels: str) -> float:
    """The sum of the series that have these labels among others."""
    wanted = labels.items()
    found = [value for (series, own), value in samples(text).items() if series == name and wanted <= dict(own).items()]
    assert found, f"no {name} with {labels} in\n{text.decode()}"
    return sum(found)


def replica_text(tag: str, *seconds: float, deployment: str = "Model", failed: int = 0) -> bytes:
    """What a replica shows after these calls."""
    registry = Registry()
    metrics = registry.recorder(ReplicaMetrics, "app", deployment)
    for index, duration in enumerate(seconds):
        metrics.ended("predict", duration, FailureKind.USER if index < failed else None)
    labels = {"component": "replica", "application": "app", "deployment": deployment, "replica": tag}
    return render(registry.collect(), labels)


def test_a_value_on_a_bound_is_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for seen in (0.5, 1.0, 1.5, 2.0, 3.0):
        histogram.observe(seen)
    assert histogram.counts == [2, 2, 1] and histogram.total == 8.0 and histogram.count == 5


def test_calls_are_shown_by_outcome_though_success_is_never_counted() -> None:
    text = replica_text("r1", 0.2, 0.3, 0.004, failed=1)
    assert value(text, CALLS, method="predict", outcome="ok") == 2
    assert value(text, CALLS, method="predict", outcome="user") == 1
    assert value(text, f"{DURATION}_count", replica="r1") == 3
    assert value(text, f"{DURATION}_sum") == pytest.approx(0.504)
    assert value(text, f"{DURATION}_bucket", le="0.005") == 1
    assert value(text, f"{DURATION}_bucket", le="+Inf") == 3


def test_calls_that_found_a_replica_at_once_waited_zero_seconds() -> None:
    registry = Registry()
    metrics = registry.recorder(RouterMetrics, "app", "Model")
    metrics.at_once, metrics.lined_up, metrics.turned_away = 7, 2, 1
    metrics.waited(0.3)
    text = render(registry.collect(), {})
    assert value(text, "meshserve_router_calls_total") == 10
    assert value(text, "meshserve_router_wait_seconds_bucket", le="0.0005") == 7
    assert value(text, "meshserve_router_wait_seconds_count") == 8


def test_there_is_one_recorder_for_a_set_of_labels() -> None:
    registry = Registry()
    assert registry.recorder(RouterMetrics, "app", "a") is registry.recorder(RouterMetrics, "app", "a")
    assert registry.recorder(RouterMetrics, "app", "a") is not registry.recorder(RouterMetrics, "app", "b")


def test_a_metrics_own_labels_go_before_those_of_the_process() -> None:
    registry = Registry()
    registry.recorder(RouterMetrics, "other", "Callee").at_once = 1
    text = render(registry.collect(), {"component": "replica", "application": "app", "replica": "r1"})
    assert value(text, "meshserve_router_calls_total", application="other", deployment="Callee", replica="r1") == 1


def test_labels_with_quotes_backslashes_and_newlines_survive() -> None:
    text = render(Registry().collect(), {}) + replica_text('r"\\\n1', 0.1)
    assert value(text, f"{DURATION}_count", replica='r"\\\n1') == 1


def test_clients_cannot_make_up_labels() -> None:
    replica, http = ReplicaMetrics("app", "Model"), HttpMetrics()
    for index in range(MAX_METHODS + 50):
        replica.ended(f"made_up_{index}", 0.1, FailureKind.INVALID)
        http.ended("app", "/", f"VERB{index}", 200, 0.1)
    methods = {labels[2] for declared, labels, _ in replica.read() if declared.name == DURATION}
    assert len(methods) == MAX_METHODS + 1 and "other" in methods
    assert {labels[2] for declared, labels, _ in http.read() if declared.labels[:1] == ("application",)} == {"OTHER"}


def test_merged_texts_have_every_family_once() -> None:
    merged = merge([replica_text("r1", 0.1), b"", replica_text("r2", 0.1, 0.2), replica_text("r3", deployment="B")])
    assert value(merged, f"{DURATION}_count", replica="r1") == 1
    assert value(merged, f"{DURATION}_count", deployment="Model") == 3
    assert merged.count(b"# TYPE meshserve_replica_calls_total counter\n") == 1


def test_sums_do_not_fall_when_replicas_die() -> None:
    tombstones = Tombstones()
    alive = {tag: replica_text(tag, *[0.2] * calls, failed=1) for tag, calls in (("a", 3), ("b", 4), ("c", 5))}
    alive["other"] = replica_text("other", 0.2, deployment="Other")
    before = merge(alive.values())
    for tag in ("a", "b", "other"):
        deployment = "Other" if tag == "other" else "Model"
        tombstones.bury("app", deployment, alive.pop(tag))
        after = merge([*alive.values(), tombstones.text()])
        for outcome in ("ok", "user"):
            assert value(after, CALLS, outcome=outcome) == value(before, CALLS, outcome=outcome)
        for le in ("0.1", "0.25", "+Inf"):
            assert value(after, f"{DURATION}_bucket", le=le) == value(before, f"{DURATION}_bucket", le=le)
        assert value(after, f"{DURATION}_sum") == pytest.approx(value(before, f"{DURATION}_sum"))


def test_the_dead_keep_counters_and_lose_gauges() -> None:
    tombstones = Tombstones()
    tombstones.bury("app", "Model", replica_text("a", 0.2, 0.2))
    assert b"meshserve_replica_ongoing_calls" not in tombstones.text()


def test_the_sum_of_the_dead_is_a_new_series_after_each_death_so_that_no_rate_jumps() -> None:
    tombstones = Tombstones()
    names = []
    for tag in ("a", "b", "c"):
        tombstones.bury("app", "Model", replica_text(tag, 0.2))
        dead = {dict(labels)["replica"] for _, labels in samples(tombstones.text())}
        assert len(dead) == 1
        names += dead
    assert len(set(names)) == 3


def test_the_dead_of_two_deployments_that_called_the_same_one_are_told_apart() -> None:
    registry = Registry()
    registry.recorder(RouterMetrics, "app", "Callee").at_once = 2
    tombstones = Tombstones()
    for deployment in ("A", "B"):
        text = render(registry.collect(), {"component": "replica", "replica": f"of-{deployment}"})
        tombstones.bury("app", deployment, text)
    assert value(tombstones.text(), "meshserve_router_calls_total", deployment="Callee") == 4
