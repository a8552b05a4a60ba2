"""A day of traffic against the autoscaler: a fluid model of a deployment with start-up times, queues and two routers.

Calls arrive at a rate; each needs `SERVICE_S` at a replica, which takes `MAX_ONGOING` at a time; what does not fit
waits. Routers report what they have in hand on every tick.

Run `python tests/core/day.py FILE.csv` for the numbers of the day, `FILE.svg` for the picture.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from meshserve.core.autoscale import ScalingState, plan_replicas, scaling_context
from meshserve.core.capacity import scaling_bounds
from meshserve.core.windows import (
    LoadHistory,
    fold_report,
    measure_load,
)
from meshserve.model.autoscaling import AutoscalingContext
from meshserve.model.ids import DeploymentId
from meshserve.model.options import AutoscalingOptions

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
TICK_S = 2.0
SERVICE_S = 0.5
MAX_ONGOING = 8
START_S = 20.0

OPTIONS = AutoscalingOptions(
    min_replicas=0,
    max_replicas=60,
    target_ongoing_requests=4,
    upscale_delay_s=30,
    downscale_delay_s=300,
    downscale_to_zero_delay_s=600,
)


@dataclass(frozen=True, slots=True)
class Moment:
    """The deployment at one instant.

    Attributes:
        arrivals: calls arriving each second.
        needed: replicas that arrivals need at `target_ongoing_requests`.
        waiting: calls that wait for a replica.
    """

    at: float
    arrivals: float
    needed: int
    running: int
    target: int
    waiting: float


def arrivals(at: float) -> float:
    """Calls a second: a night of nothing, steps, a sine, spikes, an evening that ends, nothing again."""
    hour = at / HOUR_S
    if hour < 5 or hour >= 22:
        return 0.0
    if hour < 9:
        return (20.0, 60.0, 40.0, 100.0)[int(hour) - 5]
    if hour < 17:
        return 120.0 + 80.0 * math.sin((hour - 9) / 4 * 2 * math.pi)
    if hour < 20:
        return 200.0 if (hour % 0.5) * 60 < 3 else 30.0
    return 10.0 if hour < 21 else 1.0


def needed(rate: float) -> int:
    """Replicas that hold the calls of a rate at the target."""
    return math.ceil(round(rate * SERVICE_S / OPTIONS.target_ongoing_requests, 9))


class Simulation:
    """Virtual time, replicas that take a while to start, and calls as a fluid.

    Args:
        rate: calls a second at a time.
    """

    def __init__(self, rate: Callable[[float], float] = arrivals) -> None:
        self._rate = rate
        self._ready_at: list[float] = []
        self._target = 0
        self._waiting = 0.0
        self._history = LoadHistory()
        self._state = ScalingState()

    def run(self, duration_s: float = DAY_S) -> list[Moment]:
        """The whole day, tick by tick."""
        return [self._tick(tick * TICK_S) for tick in range(int(duration_s / TICK_S))]

    def _tick(self, now: float) -> Moment:
        rate = self._rate(now)
        running = sum(ready_at <= now for ready_at in self._ready_at)
        capacity = running * MAX_ONGOING
        self._waiting = max(0.0, self._waiting + (rate - capacity / SERVICE_S) * TICK_S)
        at_replicas = capacity if self._waiting else rate * SERVICE_S
        self._report(now, at_replicas)
        self._scale(now, running)
        return Moment(now, rate, needed(rate), running, self._target, self._waiting)

    def _report(self, now: float, at_replicas: float) -> None:
        for router in ("proxy-1", "proxy-2"):
            self._history = fold_report(
                self._history, router, self._waiting / 2, at_replicas / 2, now, OPTIONS.look_back_period_s
            )

    def _scale(self, now: float, running: int) -> None:
        load = measure_load(self._history, now, OPTIONS.look_back_period_s, OPTIONS.aggregation_function)
        seen = AutoscalingContext(DeploymentId("day", "model"), running, self._target, OPTIONS, current_time=now)
        plan = plan_replicas(scaling_context(seen, load, scaling_bounds(OPTIONS), self._state), self._state)
        self._target, self._state = plan.target, plan.state
        self._ready_at = sorted(self._ready_at)[: plan.target]
        self._ready_at += [now + START_S] * (plan.target - len(self._ready_at))


def write_plot_data(moments: Sequence[Moment], path: Path) -> None:
    """Writes the day as CSV, a row for each moment, for any plotting tool."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(Moment.__dataclass_fields__))
        writer.writeheader()
        writer.writerows(asdict(moment) for moment in moments)


def write_plot(moments: Sequence[Moment], path: Path) -> None:
    """Draws the day as SVG: replicas that run (blue) over replicas the traffic needs (grey)."""
    width, height, top = 1200, 400, max(max(m.running, m.needed) for m in moments) + 1

    def line(values: Sequence[float], colour: str) -> str:
        points = " ".join(
            f"{moment.at / DAY_S * width:.1f},{height - value / top * height:.1f}"
            for moment, value in zip(moments, values, strict=True)
        )
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'

    lines = line([moment.needed for moment in moments], "#999") + line([moment.running for moment in moments], "#06c")
    hours = "".join(f'<text x="{hour * width / 24}" y="{height + 15}">{hour} h</text>' for hour in range(0, 24, 2))
    counts = "".join(f'<text x="2" y="{height - n / top * height:.1f}">{n}</text>' for n in range(0, top, 5))
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-5 -5 {width + 10} {height + 25}" font-size="12">'
        f'<rect width="{width}" height="{height}" fill="#fafafa"/>'
        f"{lines}{hours}{counts}</svg>\n"
    )


if __name__ == "__main__":
    for name in sys.argv[1:]:
        (write_plot if name.endswith(".svg") else write_plot_data)(Simulation().run(), Path(name))
