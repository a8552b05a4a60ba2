"""Replicas follow a day of traffic; the day and its deployment are in `day`."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from day import (
    DAY_S,
    HOUR_S,
    MAX_ONGOING,
    OPTIONS,
    SERVICE_S,
    START_S,
    TICK_S,
    Moment,
    Simulation,
    write_plot,
    write_plot_data,
)

REACTION_S = OPTIONS.look_back_period_s + START_S + 2 * TICK_S
"""From a change of traffic to a change of running replicas, the delay of the direction apart."""


@pytest.fixture(scope="module")
def day() -> list[Moment]:
    return Simulation().run()


def between(day: list[Moment], start_h: float, end_h: float) -> list[Moment]:
    return [moment for moment in day if start_h * HOUR_S <= moment.at < end_h * HOUR_S]


def test_nothing_runs_at_night(day: list[Moment]) -> None:
    assert all(moment.running == moment.target == 0 for moment in between(day, 0, 5))
    assert OPTIONS.downscale_to_zero_delay_s is not None
    asleep_h = 22 + (OPTIONS.downscale_to_zero_delay_s + REACTION_S) / HOUR_S
    assert all(moment.running == 0 for moment in between(day, asleep_h, 24))


def test_the_first_call_of_the_morning_starts_a_replica_at_once(day: list[Moment]) -> None:
    woken = next(moment for moment in day if moment.running > 0)
    assert woken.at <= 5 * HOUR_S + START_S + 2 * TICK_S


@pytest.mark.parametrize("hour", [5, 6, 7, 8, 20, 21])
def test_steady_traffic_gets_exactly_what_it_needs(day: list[Moment], hour: int) -> None:
    assert {moment.running - moment.needed for moment in between(day, hour + 0.5, hour + 1)} == {0}


def test_a_sine_is_followed_without_a_waiting_call(day: list[Moment]) -> None:
    lag = math.ceil((OPTIONS.downscale_delay_s + REACTION_S) / TICK_S)
    sine = between(day, 9.25, 17)
    assert all(moment.waiting == 0 for moment in sine)
    for index in range(lag, len(sine)):
        seen = [moment.needed for moment in sine[index - lag : index + 1]]
        assert min(seen) <= sine[index].running <= max(seen)


def test_a_spike_is_served_soon_and_forgotten_later(day: list[Moment]) -> None:
    drained_s = OPTIONS.upscale_delay_s + REACTION_S
    for spike in range(6):
        start_h = 17 + spike / 2
        calm = between(day, start_h + drained_s / HOUR_S, start_h + 0.5)
        assert all(moment.waiting == 0 for moment in calm)
        assert calm[-1].running == calm[-1].needed


def test_the_target_does_not_flap(day: list[Moment]) -> None:
    changes = sum(before.target != after.target for before, after in pairwise(day))
    assert changes < 100


def test_traffic_beyond_all_replicas_stays_at_the_most_and_recovers() -> None:
    capacity = OPTIONS.max_replicas * MAX_ONGOING / SERVICE_S

    def overload(at: float) -> float:
        return 1.5 * capacity if at < 600 else 0.5 * capacity

    moments = Simulation(overload).run(HOUR_S)
    assert max(moment.target for moment in moments) == OPTIONS.max_replicas
    assert moments[-1].waiting == 0


@pytest.mark.parametrize(("write", "name"), [(write_plot_data, "day.csv"), (write_plot, "day.svg")])
def test_a_day_can_be_drawn(
    day: list[Moment], tmp_path: Path, write: Callable[[list[Moment], Path], None], name: str
) -> None:
    write(day, tmp_path / name)
    text = (tmp_path / name).read_text()
    if name.endswith(".svg"):
        assert text.count("<polyline") == 2
    else:
        rows = list(csv.DictReader(text.splitlines()))
        assert len(rows) == DAY_S / TICK_S
        assert float(rows[-1]["at"]) == DAY_S - TICK_S
