"""`meshserve.metrics`: the programming model's classes, with the process's names added and not to be overridden."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator

import pytest

from meshserve.metrics import Counter, Gauge, Histogram
from meshserve.model.call import CallContext
from meshserve.telemetry.current import ask_for_request
from meshserve.telemetry.exposition import process_text, set_process_labels


@pytest.fixture(autouse=True)
def in_a_replica() -> Iterator[None]:
    set_process_labels({"component": "replica", "application": "app", "deployment": "Model", "replica": "r1"})
    yield
    set_process_labels({})


def line(beginning: str) -> str:
    """The one line of this process's metrics that begins so."""
    (found,) = [one for one in process_text().decode().splitlines() if one.startswith(beginning)]
    return found


def test_a_counter_is_shown_with_its_tags_and_those_of_the_replica() -> None:
    counter = Counter("user_predictions", description="Predictions made.", tag_keys=("model",))
    counter.inc(tags={"model": "a"})
    counter.inc(2.5, tags={"model": "a"})
    assert line("user_predictions_total") == (
        'user_predictions_total{model="a",component="replica",application="app",deployment="Model",replica="r1"} 3.5'
    )
    assert line("# HELP user_predictions_total").endswith("Predictions made.")


def test_a_gauge_is_set_and_taken_away() -> None:
    gauge = Gauge("user_temperature")
    gauge.set(20)
    gauge.set(21.5)
    assert line("user_temperature{").endswith(" 21.5")
    gauge.set(None)
    assert "user_temperature{" not in process_text().decode()


def test_a_histogram_counts_by_its_boundaries() -> None:
    histogram = Histogram("user_sizes", boundaries=[1, 10], tag_keys=("kind",))
    for size in (0.5, 5, 50):
        histogram.observe(size, {"kind": "x"})
    assert line('user_sizes_bucket{kind="x",le="10.0"').endswith(" 2")
    assert line("user_sizes_sum").endswith(" 55.5")


def test_default_tags_stand_in_for_tags_that_are_not_given() -> None:
    counter = Counter("user_defaults", tag_keys=("a", "b"))
    counter.set_default_tags({"a": "1", "b": "2"})
    counter.inc(tags={"b": "3"})
    assert 'a="1",b="3"' in line("user_defaults_total")
    assert counter.info["default_tags"] == {"a": "1", "b": "2"}


@pytest.mark.parametrize("name", ["application", "deployment", "replica", "component"])
def test_names_of_the_process_cannot_be_tags(name: str) -> None:
    with pytest.raises(ValueError, match="set by the mesh"):
        Counter("user_reserved_key", tag_keys=(name,))
    counter = Counter("user_reserved")
    with pytest.raises(ValueError, match="set by the mesh"):
        counter.set_default_tags({name: "mine"})
    with pytest.raises(ValueError, match="set by the mesh"):
        counter.inc(tags={name: "mine"})


def test_tags_are_complete_known_and_text() -> None:
    counter = Counter("user_strict", tag_keys=("a",))
    with pytest.raises(ValueError, match=r"Missing value for tag key\(s\): a"):
        counter.inc()
    with pytest.raises(ValueError, match="Unrecognized tag key b"):
        counter.inc(tags={"a": "1", "b": "2"})
    with pytest.raises(TypeError, match="must be a str"):
        counter.inc(tags={"a": 1})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="tag_keys should be a tuple"):
        Counter("user_keys", tag_keys="a")


def test_a_counter_only_grows() -> None:
    with pytest.raises(ValueError, match="only grows"):
        Counter("user_grows").inc(0)


@pytest.mark.parametrize("boundaries", [None, [], [0, 1], [2, 1], [1, 1]])
def test_a_histogram_needs_positive_ascending_boundaries(boundaries: list[float] | None) -> None:
    with pytest.raises(ValueError, match="boundaries"):
        Histogram("user_bounds", boundaries=boundaries)


@pytest.mark.parametrize("name", ["", "with space", "1st", "meshserve_mine"])
def test_a_name_is_one_that_prometheus_takes_and_the_mesh_does_not_use(name: str) -> None:
    with pytest.raises(ValueError, match=r"name|Names"):
        Gauge(name)


def test_values_are_numbers() -> None:
    for use in (
        Counter("user_typed").inc,
        Gauge("user_typed_now").set,
        Histogram("user_typed_h", boundaries=[1]).observe,
    ):
        with pytest.raises(TypeError, match="value must be int or float, got <class 'str'>"):
            use("1")  # type: ignore[arg-type]  # wrong on purpose


def test_two_metrics_of_a_name_and_tag_keys_are_one() -> None:
    Counter("user_twice", tag_keys=("a",)).inc(tags={"a": "1"})
    Counter("user_twice", description="Told otherwise.", tag_keys=("a",)).inc(tags={"a": "1"})
    assert line("user_twice_total").endswith(" 2.0")


def test_metrics_of_a_name_with_other_tag_keys_stand_side_by_side() -> None:
    Gauge("user_beside", tag_keys=("a",)).set(1, {"a": "1"})
    Gauge("user_beside", tag_keys=("b",)).set(2, {"b": "1"})
    assert line('user_beside{a="1"').endswith(" 1.0") and line('user_beside{b="1"').endswith(" 2.0")
    assert process_text().decode().count("# TYPE user_beside gauge") == 1


def test_a_name_has_one_kind_and_one_set_of_boundaries() -> None:
    Histogram("user_kinds", boundaries=[1])
    with pytest.raises(ValueError, match="of another kind"):
        Gauge("user_kinds")
    with pytest.raises(ValueError, match="other boundaries"):
        Histogram("user_kinds", boundaries=[2])


def test_a_metric_goes_through_pickle_with_the_code_that_uses_it() -> None:
    counter = Counter("user_pickled", tag_keys=("a",))
    counter.set_default_tags({"a": "1"})
    pickle.loads(pickle.dumps(counter)).inc()
    histogram = pickle.loads(pickle.dumps(Histogram("user_pickled_sizes", boundaries=[1.0])))
    histogram.observe(0.5)
    assert line("user_pickled_total").endswith(" 1.0")
    assert line("user_pickled_sizes_count").endswith(" 1")


def test_a_tag_key_route_is_filled_in_from_the_request() -> None:
    counter = Counter("user_by_route", tag_keys=("route",))
    ask_for_request(lambda: CallContext("id", route="/shop"))
    try:
        counter.inc()
    finally:
        ask_for_request(lambda: None)
    assert 'route="/shop"' in line("user_by_route_total")


def test_threads_lose_no_counts() -> None:
    counter = Counter("user_threads")

    def count() -> None:
        for _ in range(2000):
            counter.inc()

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert line("user_threads_total").endswith(" 16000.0")
